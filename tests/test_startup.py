"""All commands of `benchmark` refuse in one line; those that need no network load no torch, and start in a moment."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import make

ROOT = Path(__file__).parents[1]
SLOW = ("torch", "numba", "scipy", "matplotlib", "boto3", "tensorboard", "wandb", "optuna", "submitit")

# Runs a module as `python -m` does, then says which slow packages it has loaded.
PROBE = """
import json, runpy, sys
name, slow, sys.argv = sys.argv[1], json.loads(sys.argv[2]), sys.argv[1:2] + sys.argv[3:]
try:
    runpy.run_module(name, run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
finally:
    print("\\nloaded", json.dumps([one for one in slow if one in sys.modules]))
"""


def loaded(module, *words):
    """Which of SLOW a command has loaded when it has ended."""
    line = [sys.executable, "-c", PROBE, module, json.dumps(SLOW), *map(str, words)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.rpartition("\nloaded ")[2]))


COMMANDS = ("curves", "report", "scaling", "throughput", "train_and_compare", "tune", "wandb_report")


def test_there_is_no_other_command():
    assert {path.stem for path in (ROOT / "benchmark").glob("[a-z]*.py")} == set(COMMANDS)


@pytest.mark.parametrize("name", (*COMMANDS, "dashboard"))
def test_an_unknown_flag_is_refused_in_one_line(name):
    line = [sys.executable, "-m", f"benchmark.{name}", "--colour", "blue"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "--colour" in done.stderr


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made"), ("gat", "gcn"), [1, 2], ["no_pretrain"], levels=3, full=False)


@pytest.mark.parametrize(
    "words",
    [
        ("benchmark.report", "--help"),
        ("benchmark.curves", "--help"),
        ("benchmark.tune", "--help"),
        ("benchmark.train_and_compare", "--help"),
        ("benchmark.wandb_report", "--help"),
        ("benchmark.dashboard", "--help"),
        ("benchmark.dashboard.server",),
    ],
    ids=lambda words: words[0],  # the server is imported, no more
)
def test_help_needs_nothing_slow(words):
    assert loaded(*words) == set()


def test_a_dry_run_needs_nothing_slow(tmp_path):
    words = ("--experiment-name", "try", "--output-dir", tmp_path, "--num-gpus", "0", "--no-checks", "--dry-run")
    assert loaded("benchmark.train_and_compare", *words) == set()


def test_a_report_needs_no_network(experiment, tmp_path):
    assert loaded("benchmark.report", experiment, "--out", tmp_path) == {"scipy", "numba"}  # it plays games again


def test_results_are_kept_and_drawn_without_a_network(experiment, tmp_path):
    run = experiment / "gat/no_pretrain/seed_1"
    assert loaded("benchmark.curves", "keep", run, "--out", tmp_path / "kept") == set()
    assert loaded("benchmark.curves", "plot", tmp_path / "kept", "--out", tmp_path / "curves.png") <= {"matplotlib"}
