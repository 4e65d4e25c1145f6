#!/usr/bin/env bash
# Whether drawn levels help with levels of people: ppo_mlp_baseline.py with fresh levels of which half are drawn, and
# with fresh rooms only, three seeds of 10 minutes each, one run after another with all cores. Then all agents play a
# folder or file of levels that none of them has seen; the tables show static and moving levels apart. An hour and a
# quarter without a GPU.
#   bash benchmark/sweeps/drawn_levels.sh LEVELS [further flags of the runner, before any -- for the scripts]
set -euo pipefail
levels=$(realpath "${1:?"the folder or file of levels is missing"}")
shift
cd "$(dirname "$0")/../.."
for share in 0.5 0; do
    experiment=experiments/drawn_share_$share
    python -m benchmark.train_and_compare --experiment-name "drawn_share_$share" --architectures mlp_baseline \
        --seeds 1 2 3 --max-minutes 10 "$@" -- --drawn-share "$share"
    evaluate=(python -m npp_rl.evaluation --test-dataset "$levels" --output "$experiment/levels_of_people")
    case " $* " in
        *" --dry-run "*) echo "then: ${evaluate[*]} --checkpoint $experiment/mlp_baseline/*/*/checkpoints/best.pt" ;;
        *) "${evaluate[@]}" --checkpoint "$experiment"/mlp_baseline/*/*/checkpoints/best.pt ;;
    esac
done
