#!/usr/bin/env bash
# Four architectures, two seeds, 1.2 minutes each: a quarter of an hour on two cores, from nothing to a report.
# Enough to see that everything works and to read a report; too little to tell which architecture is better. The test
# suite has 45 levels, since the built-in one of 270 would take the slower networks all the time that they have.
#   bash benchmark/sweeps/quick.sh [further flags of the runner]
set -euo pipefail
cd "$(dirname "$0")/../.."
suite=experiments/quick_levels
make_levels="python -m npp_rl.make_levels --split test --count 5 --out $suite"
if [ ! -d $suite ]; then
    case " $* " in *" --dry-run "*) echo "first: $make_levels" ;; *) $make_levels ;; esac
fi
exec python -m benchmark.train_and_compare --experiment-name quick --seeds 1 2 --max-minutes 1.2 --evaluations 2 \
    --architectures mlp_baseline mlp_cnn gcn vision_free --test-dataset $suite "$@"
