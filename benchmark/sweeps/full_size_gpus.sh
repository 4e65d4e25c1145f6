#!/usr/bin/env bash
# All architectures at full size, one run on each GPU of this machine, five seeds, two hours each.
# `--gpus-per-run 2` would train each run on two of them.
#   bash benchmark/sweeps/full_size_gpus.sh [further flags of the runner, before any -- for the scripts]
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python -m benchmark.train_and_compare --experiment-name full_size --seeds 1 2 3 4 5 --max-minutes 120 \
    --num-envs 1024 --mixed-precision "$@" -- --size full
