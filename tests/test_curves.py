"""Kept results are small, whole and free of machine paths; curves and tries are pictures; errors are one line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark import curves
from benchmark.reporting import games
from npp_rl import make_levels, ppo_mlp_baseline
from npp_rl.environment.games import OBSERVATIONS
from npp_rl.levels.datasets import load_levels
from npp_rl.training import checkpoints

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(tmp_path):
    """A finished run's files with 300 training rows and 3 evaluations."""
    folder = tmp_path / "run"
    folder.mkdir()
    rows = []
    for k in range(300):
        success = {"success/simplest": k / 299, "success/simple": 0.123456789}
        rows.append({"kind": "train", "global_step": 100 * (k + 1), "minutes": k / 60, **success})
        if k % 100 == 99:
            rows.append({"kind": "eval", "global_step": 100 * (k + 1), "minutes": k / 60, "eval/success_rate": 0.5})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "eval_results.json").write_text(json.dumps({"overall": {"success_rate": 0.5}}))
    config = {"args": {"train_dataset": "/somewhere/levels/train", "run_dir": str(folder), "seed": 1}}
    config["args"] |= {"replay_data_dir": ["/somewhere/plans", "plans"], "pretrained_checkpoint": str(folder / "a.pt")}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_keep_thins_the_rows_of_long_runs_and_nothing_else(run, tmp_path):
    out = tmp_path / "kept"
    curves.keep(run, out)
    rows = curves.read_metrics(out)
    training = [row for row in rows if row["kind"] == "train"]
    assert len(training) == 50  # every sixth of 300, from the last one back
    assert training[-1]["global_step"] == 30_000 and training[0]["global_step"] == 600
    assert [row["global_step"] for row in rows if row["kind"] == "eval"] == [10_000, 20_000, 30_000]  # under 20
    assert training[-1]["success/simple"] == 0.1235
    with (run / "metrics.jsonl").open("a") as file:
        for step in range(40):
            file.write(json.dumps({"kind": "eval", "global_step": 40_000 + step, "minutes": 40.0}) + "\n")
    curves.keep(run, out)
    steps = [row["global_step"] for row in curves.read_metrics(out) if row["kind"] == "eval"]
    assert steps == [10_000, *range(40_000, 40_040, 3)]  # every third of 43, from the last one back
    args = json.loads((out / "config.json").read_text())["args"]
    rest = {"replay_data_dir": ["plans", "plans"], "pretrained_checkpoint": "a.pt"}
    assert args == {"train_dataset": "train", "run_dir": "run", "seed": 1} | rest
    assert json.loads((out / "eval_results.json").read_text()) == {"overall": {"success_rate": 0.5}}
    played = {"id": "a", "tries": [{"actions": "012", "frames": 12}]}
    (run / "eval_results.json").write_text(json.dumps({"levels": [played, {"id": "b", "success_rate": 1.0}]}))
    curves.keep(run, out)
    kept = json.loads((out / "eval_results.json").read_text())["levels"]
    assert kept == [{"id": "a", "tries": [{"frames": 12}]}, {"id": "b", "success_rate": 1.0}]


def test_curves_are_drawn(run, tmp_path):
    curves.plot([run, run], tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 1000 and len(np.unique(np.asarray(picture))) > 20


def test_titles_say_what_trained_on_what(run):
    """Folders' names may promise other seeds and cores than there were."""

    def title(**about):
        (run / "config.json").write_text(json.dumps({"args": {"seed": 3, "label": "wide"}, **about}))
        return curves.title_of(run)

    cpu = {"architecture": "gcn", "device": "cpu", "threads": 1, "cpus": 2, "world_size": 1}
    assert title(**cpu) == "gcn, wide, seed 3\n1 thread on 2 cores"
    assert title(**cpu | {"world_size": 2, "cpus": 1}) == "gcn, wide, seed 3\n2 threads on 1 core"
    assert title(**cpu | {"device": "NVIDIA H200"}) == "gcn, wide, seed 3\nNVIDIA H200"
    assert title(args=3, architecture="gcn") == "gcn, seed ?"


def test_tries_are_drawn(tmp_path):
    args = ppo_mlp_baseline.Args(size="small", **ppo_mlp_baseline.SIZES["small"])
    shapes = {name: OBSERVATIONS[name][0] for name in ppo_mlp_baseline.Agent.observations}
    torch.manual_seed(0)
    content = {
        "architecture": "mlp_baseline",
        "args": {"size": "small", "frame_skip": 4, "gamma": 0.99, **ppo_mlp_baseline.SIZES["small"]},
        "observation_shapes": {name: list(shape) for name, shape in shapes.items()},
        "agent": ppo_mlp_baseline.Agent(shapes, args).state_dict(),
    }
    checkpoints.save(tmp_path / "best.pt", content)
    games.draw_tries(tmp_path / "best.pt", "simplest/test_0000", tmp_path / "tries.png", count=2)
    with Image.open(tmp_path / "tries.png") as picture:
        assert picture.size == (1056, 600)
    with pytest.raises(ValueError, match="simplest/none: not a built-in test level"):
        games.draw_tries(tmp_path / "best.pt", "simplest/none", tmp_path / "other.png")


def test_a_strip_shows_a_recorded_game(tmp_path):
    """Six moments of a run that stands still, then goes to the right, then has no more time."""
    make_levels.main(make_levels.Args(out=tmp_path / "set", categories=("simplest",), split="train", count=1))
    (level,) = load_levels(str(tmp_path / "set"))
    game = {"actions": "0" * 20 + "2" * 20, "frames": 160, "success": False}
    entry = {"id": level.id, "digest": level.digest, "tries": [game]}
    results = {"levels": [entry], "settings": {"frame_skip": 4}}
    (tmp_path / "eval_results.json").write_text(json.dumps(results))
    games.draw_strip(tmp_path, level.id, str(tmp_path / "set"), tmp_path / "strip.png")
    with Image.open(tmp_path / "strip.png") as picture:
        pixels = np.asarray(picture)
        assert picture.size == (3 * 424 - 4, 2 * 304 - 4)
    still, same, last = pixels[40:300, 424:844], pixels[40:300, 848:], pixels[344:604, 848:]
    assert (still == same).mean() > 0.99 and (still != last).mean() > 0.02
    with pytest.raises(ValueError, match=r"--level none: .* has no actions of a game on it"):
        games.draw_strip(tmp_path, "none", "builtin", tmp_path / "other.png")
    with pytest.raises(ValueError, match="--dataset builtin: has not the level"):
        games.draw_strip(tmp_path, level.id, "builtin", tmp_path / "other.png")
    for bad in ({}, {"levels": [{**entry, "tries": []}]}, {"levels": [{**entry, "tries": [{**game, "actions": "9"}]}]}):
        (tmp_path / "eval_results.json").write_text(json.dumps({"settings": {"frame_skip": 4}, **bad}))
        with pytest.raises(ValueError, match="has no actions of a game on it"):
            games.draw_strip(tmp_path, level.id, str(tmp_path / "set"), tmp_path / "other.png")
    assert not (tmp_path / "other.png").exists()


@pytest.mark.parametrize("command", [["keep", "nowhere", "--out", "x"], ["plot", "nowhere", "--out", "x.png"]])
def test_a_missing_run_is_one_line(command, tmp_path):
    words = [sys.executable, "-m", "benchmark.curves", *command[:1], str(tmp_path / command[1]), "--out", "x.png"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "nowhere" in done.stderr
    assert not (ROOT / "x.png").exists()
