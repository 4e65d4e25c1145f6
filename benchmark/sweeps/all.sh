#!/usr/bin/env bash
# All eight architectures, three seeds, the same wall-clock time for each: 12 hours on one machine without a GPU.
# Whatever ends it, `python -m benchmark.train_and_compare --resume-from experiments/all` goes on.
#   bash benchmark/sweeps/all.sh [further flags of the runner]
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python -m benchmark.train_and_compare --experiment-name all --seeds 1 2 3 --max-minutes 30 "$@"
