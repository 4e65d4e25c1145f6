"""Smoke tests: every script makes one update, every command does its smallest real work (`pytest -k smoke`).

Commands run in this process, as `python -m` runs them.
"""

import json
import math
import os
import runpy
import subprocess
import sys
import types
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from serving import serving

from npp_rl import ARCHITECTURES
from npp_rl.agents import load_agent
from npp_rl.levels.generator import generate
from npp_rl.training import checkpoints

ROOT = Path(__file__).parents[1]
TINY = ["--num-envs", 4, "--num-steps", 8, "--num-minibatches", 2, "--total-timesteps", 32, "--evaluations", 0]
TINY += ["--fresh-levels", 0, "--frame-skip", 24, "--threads", 1, "--no-cuda", "--size", "small"]

pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules after import")  # runpy of imported modules


def run(module: str, *words) -> int:
    """Run `python -m module words...` in this process -> exit status."""
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
def levels(tmp_path_factory):
    """Flags for a training: 8 levels to train on, of which few are kept for validation, and two to be tested on."""
    place = tmp_path_factory.mktemp("levels")
    words = ["--categories", "simplest", "--split", "train", "--seed", 1]
    assert run("npp_rl.make_levels", "--out", place / "train", "--count", 8, *words) == 0
    words[3] = "test"
    assert run("npp_rl.make_levels", "--out", place / "test", "--count", 2, *words) == 0
    return ["--train-dataset", place / "train", "--test-dataset", place / "test"]


@pytest.fixture(scope="module")
def run_dir(levels, tmp_path_factory):
    """A run of `ppo_mlp_baseline.py` in an experiment's folder."""
    run_dir = tmp_path_factory.mktemp("experiment") / "mlp_baseline/no_pretrain/seed_1"
    assert run("npp_rl.ppo_mlp_baseline", *TINY, *levels, "--run-dir", run_dir) == 0
    return run_dir


@pytest.fixture(scope="module")
def plans(levels, tmp_path_factory):
    """The planner's replays of all training levels."""
    plans = tmp_path_factory.mktemp("plans")
    words = ["--dataset", levels[1], "--out", plans, "--budget", "5s", "--workers", 1]
    assert run("npp_rl.planning.planner", *words) == 0
    return plans


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_script_makes_an_update(name, levels, tmp_path):
    run_dir = tmp_path / "run"
    assert run(f"npp_rl.ppo_{name}", *TINY, *levels, "--run-dir", run_dir) == 0
    *_, train, test = (json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines())
    assert (train["kind"], train["global_step"], test["kind"]) == ("train", 32, "test")
    assert all(math.isfinite(value) for key, value in train.items() if key != "kind")
    assert 0 < train["losses/entropy"] < math.log(6) and train["losses/grad_norm"] > 0
    agent, args = load_agent(run_dir / "checkpoints/best.pt")
    assert args["size"] == "small" and type(agent).__module__ == f"npp_rl.ppo_{name}"
    latest = checkpoints.load(run_dir / "checkpoints/latest.pt")
    assert all(torch.isfinite(weight).all() for weight in latest["agent"].values())
    assert {int(state["step"]) for state in latest["optimizer"]["state"].values()} == {2 * args["update_epochs"]}
    assert json.loads((run_dir / "eval_results.json").read_text())["overall"]["levels"] == 2


def test_cloning_makes_an_epoch(levels, plans, tmp_path):
    words = ["--replay-data-dir", plans, *levels, "--epochs", 1, "--validation-fraction", 0.3, "--cache-dir", ""]
    assert run("npp_rl.bc_pretrain", *words, "--threads", 1, "--no-cuda", "--run-dir", tmp_path / "run") == 0
    results = json.loads((tmp_path / "run/eval_results.json").read_text())
    assert results["overall"]["levels"] == 2 and results["demonstrations"]["counts"]["used"] >= 4
    assert load_agent(tmp_path / "run/checkpoints/best.pt")


def test_distillation_makes_an_update(run_dir, levels, tmp_path):
    words = [*TINY, *levels, "--teacher", run_dir / "checkpoints/best.pt", "--run-dir", tmp_path / "run"]
    assert run("npp_rl.distill", *words) == 0
    assert json.loads((tmp_path / "run/eval_results.json").read_text())["overall"]["levels"] == 2
    assert load_agent(tmp_path / "run/checkpoints/best.pt")


def test_evaluation(run_dir, levels, tmp_path):
    words = ["--checkpoint", run_dir / "checkpoints/best.pt", "--test-dataset", levels[3], "--output", tmp_path / "out"]
    assert run("npp_rl.evaluation", *words) == 0
    assert json.loads((tmp_path / "out/eval_results.json").read_text())["overall"]["levels"] == 2
    assert "2" in (tmp_path / "out/report.md").read_text()


def test_cost(run_dir, capsys):
    assert run("npp_rl.cost", "--checkpoint", run_dir / "checkpoints/best.pt") == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 217_607


def test_export(run_dir, tmp_path):
    assert run("npp_rl.export", run_dir, "--out", tmp_path / "agent", "--observations", 16) == 0
    assert load_agent(tmp_path / "agent")[1]["exp_name"] == "ppo_mlp_baseline"


def test_replays(plans, tmp_path):
    assert run("npp_rl.levels.replays", plans, "--json", tmp_path / "replays.json") == 0
    assert json.loads((tmp_path / "replays.json").read_text())["counts"]["won"] == 8


def test_demonstrations(plans, levels, tmp_path):
    words = ["--test-dataset", levels[3], "--convert", tmp_path / "converted", "--json", tmp_path / "report.json"]
    assert run("npp_rl.planning.demonstrations", plans, *words) == 0
    assert json.loads((tmp_path / "report.json").read_text())["counts"]["used"] == 8
    assert len(list((tmp_path / "converted").rglob("*.replay"))) == 8


def test_relabelling(run_dir, tmp_path):
    words = ["--checkpoint", run_dir / "checkpoints/best.pt", "--out", tmp_path / "more", "--workers", 1]
    assert run("npp_rl.relabel", *words, "--states", 1, "--budget", 0.05) == 0
    files = {path.relative_to(tmp_path / "more").as_posix() for path in (tmp_path / "more").rglob("*.replay")}
    assert json.loads((tmp_path / "more/relabelled.json").read_text())["steps"].keys() == files != set()


def test_certifying_tells_what_it_does(capsys):
    assert run("npp_rl.planning.certify", "--help") == 0
    assert "--budget" in capsys.readouterr().out


@pytest.mark.parametrize("watched", ["played", "agent"])
def test_playing(watched, run_dir, levels, tmp_path):
    pytest.importorskip("pygame")
    words = ["--checkpoint", run_dir / "checkpoints/best.pt"] if watched == "agent" else []
    words += ["--dataset", levels[3], "--frames", 3, "--screenshot", tmp_path / "shot.png"]
    assert run("npp_rl.play", *words) == 0
    assert (tmp_path / "shot.png").stat().st_size > 1000


def test_uploading(run_dir, capsys):
    assert run("npp_rl.training.s3", "upload", run_dir, "s3://bucket/run", "--dry-run") == 0
    assert "would upload checkpoints/best.pt" in capsys.readouterr().out


def test_an_experiment(tmp_path, capsys):
    words = ["--experiment-name", "try", "--output-dir", tmp_path, "--debug", "--dry-run"]
    assert run("benchmark.train_and_compare", *words) == 0
    assert "ppo_full_hgt.py" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_report(run_dir, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("scipy")
    assert run("benchmark.report", run_dir.parents[2], "--out", tmp_path / "report") == 0
    assert "mlp_baseline" in (tmp_path / "report/report.md").read_text()
    assert (tmp_path / "report/report.html").stat().st_size > 1000


def test_dashboard(run_dir):
    with serving([run_dir.parents[2]]) as served:
        (row,) = [row for row in served.get("/api/runs")[2]["rows"] if row["place"].endswith(run_dir.name)]
        assert row["tested"] and served.post("/api/keys", {"runs": [row["id"]]})[2]["keys"]


def test_curves(run_dir, tmp_path):
    pytest.importorskip("matplotlib")
    assert run("benchmark.curves", "keep", run_dir, "--out", tmp_path / "kept") == 0
    assert {path.name for path in (tmp_path / "kept").iterdir()} >= {"config.json", "metrics.jsonl"}


def test_tuning(levels, tmp_path, capfd):
    """One trial of one run, in a process of its own. Whether so short a run wins a level is chance."""
    pytest.importorskip("optuna")
    words = ["--arch", "mlp_baseline", "--trials", 1, "--seeds", 1, "--total-timesteps", 32, "--space"]
    words += ["learning_rate=log:1e-4:1e-3", "--output-dir", tmp_path, "--validation-fraction", 0.3, "--"]
    status = run("benchmark.tune", *words, *TINY[:6], *TINY[10:-3], *levels)
    said, (out, errors) = {0: "", 1: "nothing was learned"}[status], capfd.readouterr()
    assert "trial 0: success" in out and said in errors and (tmp_path / "study.db").is_file()
    assert (tmp_path / "best.sh").is_file() == (status == 0)


def test_throughput(tmp_path):
    with np.load(ROOT / "tests/golden/fuzz.npz") as cases:
        few = {name: cases[name][:3] if name.endswith("offsets") else cases[name] for name in cases}
    np.savez(tmp_path / "few.npz", **few)
    words = ["--only", "physics", "--cases", tmp_path / "few.npz", "--repeats", 1, "--out", tmp_path / "out.json"]
    assert run("benchmark.throughput", *words) == 0
    assert all(row["median"] > 0 for row in json.loads((tmp_path / "out.json").read_text())["rows"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of wandb_workspaces
def test_a_report_on_weights_and_biases(monkeypatch, capsys):
    """Of a run as Weights and Biases' own API would give it."""
    wandb = pytest.importorskip("wandb")
    pytest.importorskip("wandb_workspaces")
    tracked = types.SimpleNamespace(name="gat-1", config={"architecture": "gat"}, summary={"test/success_rate": 0.5})
    api = types.SimpleNamespace(default_entity="team", runs=lambda *_, **__: [tracked])
    asked = {"project": {"internalId": "7"}}
    api._service_api = types.SimpleNamespace(execute_graphql=lambda *_, **__: asked)
    monkeypatch.setattr(wandb, "Api", lambda: api)
    assert run("benchmark.wandb_report", "--dry-run") == 0
    assert json.loads(capsys.readouterr().out)["blocks"]


def test_a_process_of_its_own(tmp_path):
    """A command from another folder, as a person starts it; the others are called in this process."""
    words = [sys.executable, "-m", "npp_rl.make_levels", "--out", "levels", "--count", "1", "--categories", "simplest"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "2 levels" in done.stdout, done.stderr


def test_the_environment():
    envs = gymnasium.make_vec("npp_rl:npp_rl/Npp-v0", num_envs=2, levels=[generate("simplest", 0)])
    obs, _ = envs.reset(seed=1)
    assert set(obs) == {"game_state", "reachability", "arcs", "local_tiles"}
    assert np.isfinite(envs.step(envs.action_space.sample())[1]).all()
