"""Whole runs as processes of their own: killed and resumed, mirrored to wandb offline, two ranks under torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from wandb_file import read_run

from npp_rl import checkpoints
from npp_rl.level_generator import main as write_levels

SCRIPT = Path(__file__).parents[1] / "npp_rl/ppo_mlp_baseline.py"
SMALL = ["--num-envs", "16", "--num-steps", "32", "--num-minibatches", "4", "--eval-freq", "0"]
SMALL += ["--total-timesteps", "8192", "--save-freq", "512", "--validation-fraction", "0"]


@pytest.fixture(scope="module")
def levels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels") / "set"
    write_levels(["--out", str(folder), "--categories", "simplest", "--split", "train", "--count", "12"])
    return ["--train-dataset", str(folder), "--test-dataset", str(folder)]


def command(levels, run_dir, *more):
    return [sys.executable, str(SCRIPT), *SMALL, *levels, "--run-dir", str(run_dir), *more]


def finish(words, **environment):
    done = subprocess.run(words, env=os.environ | environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done


def weights(run_dir):
    return checkpoints.load(run_dir / "checkpoints/latest.pt")["agent"]


def test_a_killed_run_resumes_to_the_same_weights(levels, tmp_path):
    finish(command(levels, tmp_path / "whole"))
    process = subprocess.Popen(command(levels, tmp_path / "killed"), stdout=subprocess.DEVNULL)
    latest = tmp_path / "killed/checkpoints/latest.pt"
    deadline = time.monotonic() + 300
    while not latest.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert checkpoints.load(latest)["counters"]["global_step"] < 8192
    finish([sys.executable, str(SCRIPT), "--resume", str(tmp_path / "killed")])
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)
    for name in ("metrics.jsonl", "report.md"):
        assert (tmp_path / "killed" / name).stat().st_size > 0


def test_wandb_offline_holds_the_run(levels, tmp_path):
    pytest.importorskip("wandb")
    places = {name: str(tmp_path / name.lower()) for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")}
    tags = ("--wandb-tags", "night", "two", "--wandb-project-name", "mazes")
    finish(command(levels, tmp_path / "run", "--track", *tags), WANDB_MODE="offline", WANDB_SILENT="true", **places)
    run, kept = read_run(tmp_path), json.loads((tmp_path / "run/config.json").read_text())
    assert (run["project"], run["group"], run["tags"]) == ("mazes", "mlp_baseline", ["night", "two"])
    assert run["name"] == "ppo_mlp_baseline__1__run"
    config = {key: value for key, value in run["config"].items() if key != "_wandb"}
    assert config == kept and config["args"]["learning_rate"] == 1e-3

    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    rows = {row["_step"]: row for row in run["history"]}  # lines of one step are one row
    assert len(lines) == 17 and list(rows) == [512 * k for k in range(1, 17)]
    for line in lines:
        del line["kind"], line["minutes"]
        row = rows[line["global_step"]]
        assert {key: row[key] for key in line} == pytest.approx(line)
    assert "test/success_rate" in rows[8192]

    ((name, files),) = run["artifacts"].items()
    assert name == f"{run['id']}-results"
    sources = {"best.pt": "checkpoints/best.pt"}
    assert set(files) == {"best.pt", "eval_results.json", "report.md", "config.json"}
    for file, path in files.items():
        assert Path(path).read_bytes() == (tmp_path / "run" / sources.get(file, file)).read_bytes()


def test_two_ranks_train_one_agent(levels, tmp_path):
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    finish([*words, *command(levels, tmp_path / "run", "--threads", "1")[1:]])
    checkpoint = checkpoints.load(tmp_path / "run/checkpoints/latest.pt")
    assert len(checkpoint["ranks"]) == 2 and checkpoint["counters"]["global_step"] == 8192
    one, two = (rank["envs"] for rank in checkpoint["ranks"])
    assert checkpoints.unpack(one)["rows"].shape[0] == 8  # 16 environments are divided
    assert (checkpoints.unpack(one)["rows"] != checkpoints.unpack(two)["rows"]).any()
    assert (tmp_path / "run/report.md").is_file()
