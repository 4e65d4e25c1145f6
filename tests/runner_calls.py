"""Calls of the runner and a look at what they leave, for its tests."""

import json
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
ARCHITECTURES = ("mlp_baseline", "gcn")


def words(tmp_path, *more, name="exp", architectures=ARCHITECTURES, seeds=(1, 2)):
    line = ["--experiment-name", name, "--output-dir", str(tmp_path), "--architectures", *architectures]
    return [*line, "--seeds", *map(str, seeds), "--num-gpus", "0", "--no-report", "--total-timesteps", "20", *more]


def entries(folder):
    content = json.loads((folder / "all_results.json").read_text())
    return {(run["architecture"], run["condition"], run["seed"]): run for run in content["runs"]}


def steps(run_dir):
    """Steps that a stand-in has made, in their order."""
    return [int(line) for line in (run_dir / "trace.txt").read_text().split()]


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
