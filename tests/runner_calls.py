"""Calls of the runner and a look at what they leave, for its tests."""

import json
import shutil
import time
from pathlib import Path

from benchmark import train_and_compare
from benchmark.runner import arguments, plan

ROOT = Path(__file__).parents[1]
ARCHITECTURES = ("mlp_baseline", "gcn")


def words(tmp_path, *more, name="exp", architectures=ARCHITECTURES, seeds=(1, 2)):
    line = ["--experiment-name", name, "--output-dir", str(tmp_path), "--architectures", *architectures]
    return [*line, "--seeds", *map(str, seeds), "--num-gpus", "0", "--no-report", "--total-timesteps", "20", *more]


def carry_out(argv):
    """The runner in this process; its exit status."""
    return train_and_compare.main(*arguments.read(argv))


def stand_ins(folder, architectures, monkeypatch):
    """Scripts of these architectures in `folder`, which the runner starts from here on, are stand_in.py."""
    folder.mkdir()
    for name in ("bc_pretrain", *(f"ppo_{name}" for name in architectures)):
        shutil.copy(Path(__file__).with_name("stand_in.py"), folder / f"{name}.py")
    monkeypatch.setattr(plan, "SCRIPTS", folder)
    return folder


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
