#!/usr/bin/env bash
# How fast two scripts train on one GPU, as they are and as CUDA graphs, and whether graphs give the same: four minutes.
# Usage: bash benchmark/gpu_speed.sh [folder for the runs]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-gpu_speed}
mkdir -p "$folder"
timeout 60 python -m pytest -q tests/test_gpu.py -k "cuda_graphs and not True and (mlp_baseline or full_hgt)" || true
for script in mlp_baseline full_hgt; do
  for flags in "" "--cudagraphs"; do
    run="$folder/$script${flags#-}"
    minibatches=$([ "$script" = mlp_baseline ] && echo 64 || echo 32)
    python "npp_rl/ppo_$script.py" --run-dir "$run" --max-minutes 0.5 --num-envs 512 --num-minibatches "$minibatches" \
      --mixed-precision --evaluations 0 --save-freq 0 --renew-freq 0 --fresh-levels 0 $flags >"$run.log" 2>&1 || tail -n 1 "$run.log"
  done
done
python - "$folder" <<'END'
import json, pathlib, statistics, sys

for file in sorted(pathlib.Path(sys.argv[1]).glob("*/metrics.jsonl")):
    rows = [row for row in map(json.loads, file.open()) if row["kind"] == "train"][2:]  # the graphs are recorded before
    if rows:
        shares = ", ".join(f"{part} {statistics.median(r[f'time/{part}'] for r in rows):.0%}" for part in ("env", "inference", "update"))
        print(f"{file.parent.name}: {statistics.median(row['charts/SPS'] for row in rows):,.0f} steps/s ({shares})")
END
