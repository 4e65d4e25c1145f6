"""Smoke tests: every script makes one update, every command does its smallest real work (`pytest -k smoke`)."""

import importlib
import json
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from npp_rl import ARCHITECTURES
from npp_rl.levels import datasets
from npp_rl.levels.generator import generate

pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules after import")  # runpy of imported modules

ROOT = Path(__file__).parents[1]
TINY = {"num_envs": 4, "num_steps": 8, "num_minibatches": 2, "total_timesteps": 32, "fresh_levels": 0, "frame_skip": 24}
TINY |= {"threads": 1, "cuda": False, "size": "small", "eval_freq": 0, "save_freq": 0}


def run(module: str, *words) -> int:
    """Run `python -m module words...` in this process; its exit status."""
    before = sys.argv
    sys.argv = [module, *map(str, words)]
    try:
        runpy.run_module(module, run_name="__main__")
    except SystemExit as stop:
        return stop.code or 0
    finally:
        sys.argv = before
    return 0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with levels, the planner's replays of six of them, and a run of `ppo_mlp_baseline.py`."""
    place = tmp_path_factory.mktemp("smoke")
    words = ["--split", "train", "--categories", "simplest", "--seed", 1]
    assert run("npp_rl.make_levels", "--out", place / "levels", "--count", 12, *words) == 0
    assert run("npp_rl.make_levels", "--out", place / "two", "--count", 6, *words) == 0
    budget = ["--budget", "2s", "--workers", 1]
    assert run("npp_rl.planning.planner", "--dataset", place / "two", "--out", place / "plans", *budget) == 0
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items() if name != "cuda"]
    flags += ["--no-cuda", "--train-dataset", place / "levels", "--test-dataset", place / "levels"]
    flags += ["--validation-fraction", 0, "--run-dir", place / "exp/mlp_baseline/no_pretrain/seed_1"]
    assert run("npp_rl.ppo_mlp_baseline", *flags) == 0
    return place


@pytest.fixture
def run_dir(place):
    return place / "exp/mlp_baseline/no_pretrain/seed_1"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_script_makes_an_update(name, tmp_path, monkeypatch):
    levels = [generate("simplest", seed) for seed in range(3)]
    monkeypatch.setattr(datasets, "load_split", lambda *_: (levels[:2], [], levels[2:]))
    script = importlib.import_module(f"npp_rl.ppo_{name}")
    run_dir = script.main(script.Args(run_dir=str(tmp_path / "run"), **TINY))
    train, test = (json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines())
    assert train["global_step"] == 32 and train["losses/grad_norm"] > 0
    assert all(math.isfinite(value) for key, value in train.items() if key != "kind")
    assert test["kind"] == "test" and (run_dir / "report.md").is_file()


def test_cloning_makes_an_epoch(place, tmp_path):
    words = ["--replay-data-dir", place / "plans", "--train-dataset", place / "levels", "--test-dataset"]
    words += [
        place / "levels",
        "--holdout-fraction",
        0.1,
        "--validation-fraction",
        0,
        "--epochs",
        1,
        "--eval-freq",
        0,
        "--cache-dir",
        "",
    ]
    assert run("npp_rl.bc_pretrain", *words, "--threads", 1, "--run-dir", tmp_path / "run") == 0
    results = json.loads((tmp_path / "run/eval_results.json").read_text())
    assert results["demonstrations"]["counts"]["used"] >= 1


def test_evaluation_and_cost(run_dir, place, tmp_path, capsys):
    best = run_dir / "checkpoints/best.pt"
    words = ["--checkpoint", best, "--test-dataset", place / "two", "--output", tmp_path / "out"]
    assert run("npp_rl.evaluation", *words) == 0
    assert json.loads((tmp_path / "out/eval_results.json").read_text())["overall"]["levels"] == 6
    capsys.readouterr()
    assert run("npp_rl.cost", "--checkpoint", best) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 156_999


def test_replays_and_demonstrations(place, tmp_path, capsys):
    assert run("npp_rl.levels.replays", place / "plans", "--json", tmp_path / "replays.json") == 0
    assert "won" in (tmp_path / "replays.json").read_text()
    assert run("npp_rl.planning.demonstrations", place / "plans", "--convert", tmp_path / "converted") == 0
    assert len(list((tmp_path / "converted").rglob("*.replay"))) == 6
    assert "6 runs" in capsys.readouterr().out


def test_relabelling(run_dir, tmp_path, capsys):
    checkpoint = ["--checkpoint", run_dir / "checkpoints/best.pt"]
    more = ["--out", tmp_path / "more", "--states", 1, "--budget", 0.05, "--workers", 1]
    assert run("npp_rl.relabel", *checkpoint, *more) == 0
    assert (tmp_path / "more/relabelled.json").is_file() and "states relabelled" in capsys.readouterr().out


def test_playing(place, tmp_path):
    pytest.importorskip("pygame")
    words = ["--dataset", place / "two", "--frames", 3, "--screenshot", tmp_path / "shot.png"]
    assert run("npp_rl.play", *words) == 0
    assert (tmp_path / "shot.png").stat().st_size > 1000


def test_certifying_and_uploading_tell_what_they_do(run_dir, capsys):
    assert run("npp_rl.planning.certify", "--help") == 0
    assert run("npp_rl.training.s3", "upload", run_dir, "s3://bucket/run", "--dry-run") == 0
    assert "would upload checkpoints/best.pt" in capsys.readouterr().out


def test_report_and_curves(run_dir, place, tmp_path):
    pytest.importorskip("scipy")
    assert run("benchmark.report", place / "exp", "--out", tmp_path / "report") == 0
    assert "mlp_baseline" in (tmp_path / "report/report.md").read_text()
    assert run("benchmark.curves", "keep", run_dir, "--out", tmp_path / "kept") == 0
    assert {path.name for path in (tmp_path / "kept").iterdir()} >= {"config.json", "metrics.jsonl"}


def test_the_runner_the_tuner_and_wandb_say_what_they_would_do(tmp_path, capsys):
    words = ["--experiment-name", "try", "--output-dir", tmp_path, "--debug", "--dry-run", "--seeds", 1]
    assert run("benchmark.train_and_compare", *words) == 0
    assert "ppo_full_hgt.py" in capsys.readouterr().out and not list(tmp_path.iterdir())
    for module in ("benchmark.tune", "benchmark.wandb_report", "benchmark.throughput"):
        assert run(module, "--help") == 0


def test_an_installed_command_starts(tmp_path):
    """One command in a process of its own, from another folder, as a person starts it."""
    words = [sys.executable, "-m", "npp_rl.make_levels", "--out", "levels", "--count", "1", "--categories", "simplest"]
    done = subprocess.run(
        words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0 and "2 levels" in done.stdout, done.stderr


def test_the_environment_steps():
    envs = gymnasium.make_vec("npp_rl:npp_rl/Npp-v0", num_envs=2, levels=[generate("simplest", 0)])
    obs, _ = envs.reset(seed=1)
    assert set(obs) == {"game_state", "reachability", "local_tiles"}
    assert np.isfinite(envs.step(envs.action_space.sample())[1]).all()
