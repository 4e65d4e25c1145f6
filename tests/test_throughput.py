"""The throughput table: runs on the carried cases, and beside a stand-in for the reference simulator."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

STAND_IN = """
class SimConfig:
    pass

class Simulator:
    def __init__(self, config):
        assert isinstance(config, SimConfig)
    def load(self, numbers):
        assert len(numbers) >= 1230 and all(0 <= n < 256 for n in numbers)
    def tick(self, horizontal, jump):
        assert horizontal in (-1, 0, 1) and jump in (0, 1)
"""


def throughput(*words):
    command = [sys.executable, "-m", "benchmark.throughput", "--cases", "tests/golden/fuzz.npz", "--repeats", "1"]
    return subprocess.run([*command, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_physics_beside_another_simulator(tmp_path):
    (tmp_path / "nclone").mkdir()
    (tmp_path / "nclone/nsim.py").write_text(STAND_IN)
    done = throughput("--only", "physics", "--nclone", tmp_path, "--out", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    rows = {row["what"]: row for row in json.loads((tmp_path / "out.json").read_text())["rows"]}
    ours, theirs = rows["physics, fuzz, one core"]["median"], rows["nclone, fuzz, one core"]["median"]
    assert rows["ours / nclone"]["median"] == ours / theirs
    assert all(row["median"] > 0 for row in rows.values()) and "ours / nclone" in done.stdout


def test_bad_checkouts(tmp_path):
    assert "expected a checkout of nclone" in throughput("--nclone", tmp_path).stderr
    (tmp_path / "nsim.py").write_text("class Simulator:\n    pass\n")
    done = throughput("--only", "physics", "--nclone", tmp_path)
    assert done.returncode == 2 and "not usable (AttributeError" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_training(tmp_path):
    words = ["--only", "training", "--scripts", "mlp_baseline", "--out", tmp_path / "out.json"]
    done = throughput(*words, "--training-minutes", 0.6, "--beside", 1)
    assert done.returncode == 0, done.stderr
    rows = {
        row["what"].removeprefix("training, mlp_baseline"): row
        for row in json.loads((tmp_path / "out.json").read_text())["rows"]
    }
    assert rows[""]["median"] > 0 and rows[", parameters"]["median"] > 100_000 and rows[", peak memory"]["median"] > 50
    shares = [rows[f", time in {part}"]["median"] for part in ("env", "inference", "update", "rest")]
    assert 90 < sum(shares) < 110
    if ", 2 threads / one" in rows:
        assert rows[", 2 threads / one"]["median"] == rows[""]["median"] / rows[", one thread"]["median"]
    beside = rows[", beside 1 busy process"]["median"]
    assert rows[", beside 1 busy process / alone"]["median"] == 100 * beside / rows[""]["median"]
    done = throughput("--only", "training", "--training-minutes", 0)
    assert done.returncode == 2 and "--training-minutes 0" in done.stderr
