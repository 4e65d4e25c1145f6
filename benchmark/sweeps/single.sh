#!/usr/bin/env bash
# One architecture, three seeds of ten minutes.
#   bash benchmark/sweeps/single.sh vision_free [further flags of the runner]
set -euo pipefail
architecture=${1:?"the name of an architecture is missing, such as vision_free"}
shift
cd "$(dirname "$0")/../.."
exec python -m benchmark.train_and_compare --experiment-name "single_$architecture" --seeds 1 2 3 --max-minutes 10 \
    --architectures "$architecture" "$@"
