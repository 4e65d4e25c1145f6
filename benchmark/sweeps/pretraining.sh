#!/usr/bin/env bash
# What pretraining on replays of people is good for: each architecture and seed without and with it.
#   bash benchmark/sweeps/pretraining.sh REPLAY_FOLDER [further flags of the runner]
set -euo pipefail
replays=$(realpath "${1:?"the folder of replays is missing"}")
shift
cd "$(dirname "$0")/../.."
exec python -m benchmark.train_and_compare --experiment-name pretraining --seeds 1 2 3 --max-minutes 20 \
    --architectures mlp_baseline vision_free mlp_cnn \
    --test-pretraining --require-pretraining --replay-data-dir "$replays" "$@"
