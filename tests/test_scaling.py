"""The model of larger machines: its parts, and a short measurement with the scripts themselves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import scaling
from npp_rl.commands import ArgumentError

ROOT = Path(__file__).parents[1]


def test_an_iteration_by_its_lines():
    lines = [{"global_step": 100 * k, "charts/SPS": speed} for k, speed in ((2, 100), (3, 50), (4, 200))]
    for line in lines:
        line |= {"time/env": 0.25, "time/inference": 0.25, "time/update": 0.5}
    assert scaling.of_iteration(lines) == {"steps": 100, "seconds": 1.0, "env": 0.25, "inference": 0.25, "update": 0.5}


def test_the_model_adds_the_meetings(monkeypatch):
    """Two cores are as measured; four have a quarter of the work each, and three meetings more."""
    run = {"num_envs": 8, "num_steps": 64, "num_minibatches": 4, "update_epochs": 2}

    def trained(path, minutes, suite, *flags):
        envs = int(flags[flags.index("--num-envs") + 1]) if flags else 8
        seconds = envs / 8 if flags else 0.5 + 8 * 0.01
        line = {"global_step": 2 * 64 * envs, "charts/SPS": 64 * envs / seconds}
        line |= {"time/env": 0.2, "time/inference": 0.2, "time/update": 0.6}
        return [line], {"world_size": 1 if flags else 2, "args": run}

    monkeypatch.setattr(scaling, "trained", trained)
    monkeypatch.setattr(scaling, "hearing_and_waking", lambda: 0.001)
    rows = scaling.modelled("mine", Path("mine.py"), scaling.Args(cores=(1, 2, 4, 64)), Path())
    assert [row["processes"] for row in rows] == [1, 2, 4, 4]  # 128 rows a minibatch, at least 32 a process
    assert [row["measured"] for row in rows] == [512 / 1, pytest.approx(512 / 0.58), None, None]
    expected = [512 / 1, 512 / 0.58, 512 / (0.25 + 8 * (0.01 + 0.002)), 512 / (0.25 + 8 * (0.01 + 0.002))]
    assert [row["steps_per_second"] for row in rows] == pytest.approx(expected)


def test_bad_arguments(tmp_path):
    for changes, said in (
        ({"cores": (0,)}, "--cores 0"),
        ({"num_envs": ()}, "--num-envs"),
        ({"minutes": 0}, "--minutes 0"),
        ({"out": tmp_path}, "--out"),
        ({"scripts": ("nothing",)}, "--scripts"),
    ):
        with pytest.raises(ArgumentError, match=said):
            scaling.main(scaling.Args(**changes))


@pytest.mark.slow
def test_measuring(tmp_path):
    words = ["--scripts", "mlp_baseline", "--cores", "1", "2", "--num-envs", "64", "--minutes", "0.25"]
    command = [sys.executable, "-m", "benchmark.scaling", *words, "--out", str(tmp_path / "out.json")]
    subprocess.run(command, cwd=ROOT, check=True)
    found = json.loads((tmp_path / "out.json").read_text())
    assert len(found["model"]) == 2 and len(found["environments"]) == 1
    assert all(row["steps_per_second"] > 0 for row in (*found["model"], *found["environments"]))
