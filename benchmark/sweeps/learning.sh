#!/usr/bin/env bash
# What ppo_mlp_baseline.py learns in the time that it is meant for, three seeds of 10 minutes and two of 40, and
# ppo_vision_free.py in 40 minutes, one run after another with all cores. Two hours and a half without a GPU.
#   bash benchmark/sweeps/learning.sh [further flags of the runner]
set -euo pipefail
cd "$(dirname "$0")/../.."
python -m benchmark.train_and_compare --experiment-name learning_10_minutes --architectures mlp_baseline \
    --seeds 1 2 3 --max-minutes 10 "$@"
python -m benchmark.train_and_compare --experiment-name learning_40_minutes --architectures mlp_baseline \
    --seeds 1 2 --max-minutes 40 "$@"
python -m benchmark.train_and_compare --experiment-name vision_free_40_minutes --architectures vision_free \
    --seeds 1 --max-minutes 40 "$@"
