#!/usr/bin/env bash
# How well ppo_mlp_baseline.py plays levels that it has never seen: text files of the game, or any folder or file of
# levels. One agent trains on the built-in levels only, the other on these and on a folder of people's levels. The
# planner says which of the levels can be won. The report has all of them by file and by what the levels hold.
# Two hours without a GPU: three seeds of 10 minutes of each agent, one run after another with all cores, then the
# planner with up to 10 s for each level.
#   bash benchmark/sweeps/campaign.sh LEVELS PEOPLE [further flags of the runner, before any -- for the scripts]
# LEVELS: what is played, such as SI.txt,S.txt. PEOPLE: what the second agent trains on.
set -euo pipefail
levels=${1:?"the levels to play are missing: a folder, a file, or several with commas between"}
people=${2:?"the levels of people to train on are missing: a folder, a file, or several with commas between"}
shift 2
absolute() { # each part of a data set
    local IFS=, parts=() part
    for part in $1; do parts+=("$([ "$part" = builtin ] && echo builtin || realpath "$part")"); done
    echo "${parts[*]}"
}
levels=$(absolute "$levels")
people=$(absolute "$people")
cd "$(dirname "$0")/../.."
plans=experiments/campaign_plans
experiments=()
for trained in builtin people; do
    dataset=builtin
    [ $trained = people ] && dataset=builtin,$people
    experiments+=("experiments/campaign_$trained")
    python -m benchmark.train_and_compare --experiment-name "campaign_$trained" --architectures mlp_baseline \
        --seeds 1 2 3 --max-minutes 10 --label "$trained" --train-dataset "$dataset" --test-dataset "$levels" "$@"
done
plan=(python -m npp_rl.planning.planner --dataset "$levels" --groups static moving --budget 10s --out "$plans")
report=(python -m benchmark.report "${experiments[@]}" --pars "$plans" --out reports/campaign)
case " $* " in
    *" --dry-run "*) echo "then: ${plan[*]}" && echo "and: ${report[*]}" ;;
    *) "${plan[@]}" && "${report[@]}" ;;
esac
