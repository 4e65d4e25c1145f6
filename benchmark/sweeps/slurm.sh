#!/usr/bin/env bash
# All architectures at full size as an array of jobs on a Slurm cluster, each on two machines with four GPUs.
# Needs `pip install -e ".[slurm]"` and a file system that all machines share. Run it on a login node.
#   bash benchmark/sweeps/slurm.sh --slurm-partition NAME [further flags of the runner]
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python -m benchmark.train_and_compare --experiment-name slurm --seeds 1 2 3 4 5 --total-timesteps 200000000 \
    --num-envs 4096 --mixed-precision --launcher slurm --nodes-per-run 2 --gpus-per-run 4 \
    --slurm-cpus 32 --slurm-mem-gb 200 --slurm-minutes 240 --slurm-parallel 8 "$@" -- --size full
