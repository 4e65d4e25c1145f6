"""Checkpoints: whole or refused, never executed, never half-written; arguments of a command in one line."""

import dataclasses
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from npp_rl import checkpoints
from npp_rl.checkpoints import CheckpointError
from npp_rl.ppo_mlp_baseline import Agent, Args

SHAPES = {"game_state": (5,), "reachability": (4,), "local_tiles": (1, 3, 3)}


def checkpoint_of(args):
    torch.manual_seed(0)
    agent = Agent(SHAPES, args)
    return {
        "architecture": "mlp_baseline",
        "args": {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(args).items()},
        "observation_shapes": {key: list(shape) for key, shape in SHAPES.items()},
        "agent": agent.state_dict(),
    }


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "best.pt"
    checkpoints.save(path, checkpoint_of(Args(hidden=4, tiles_hidden=4, features=4)))
    return path


def test_round_trip(saved):
    agent, run = checkpoints.load_agent(saved)
    expected = checkpoint_of(Args(hidden=4, tiles_hidden=4, features=4))
    assert run == expected["args"]
    assert all(torch.equal(agent.state_dict()[key], value) for key, value in expected["agent"].items())
    assert [path.name for path in saved.parent.iterdir()] == ["best.pt"]


def test_arrays_survive():
    arrays = {
        "rows": np.arange(12, dtype=np.uint8).reshape(3, 4),
        "words": np.array([2**64 - 1, 3], np.uint64),
        "none": np.zeros((0, 7), np.float64),
        "scalar": np.float32(1.5),
        "strided": np.arange(10.0)[::2],
    }
    restored = checkpoints.unpack(checkpoints.pack(arrays))
    for key, value in arrays.items():
        np.testing.assert_array_equal(restored[key], value)
        assert restored[key].dtype == np.asarray(value).dtype and restored[key].flags.writeable


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_cut_checkpoint(saved, share):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=r"best\.pt: not a whole checkpoint") as caught:
        checkpoints.load(saved)
    assert "\n" not in str(caught.value)


def test_garbage_and_missing(tmp_path):
    path = tmp_path / "best.pt"
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoints.load(path)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoints.load(tmp_path)
    for seed in range(20):
        path.write_bytes(np.random.default_rng(seed).bytes(500))
        with pytest.raises(CheckpointError, match="not a whole checkpoint"):
            checkpoints.load(path)
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this program"):
        checkpoints.load(path)


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_is_not_run(tmp_path, writer):
    path, target = tmp_path / "best.pt", tmp_path / "ran"
    content = {"format": checkpoints.FORMAT, "agent": Bomb(str(target))}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="not a whole checkpoint of plain"):
        checkpoints.load(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(str(target))))  # it would have run
    assert target.exists()


def test_other_architectures(tmp_path):
    path = tmp_path / "best.pt"
    content = checkpoint_of(Args(hidden=4, tiles_hidden=4, features=4))
    for name in ("os", "../mlp_baseline", None, 3):
        checkpoints.save(path, {**content, "architecture": name})
        with pytest.raises(CheckpointError, match="unknown architecture"):
            checkpoints.load_agent(path)
    checkpoints.save(path, {**content, "args": {**content["args"], "features": 8}})
    with pytest.raises(CheckpointError, match="does not fit the architecture mlp_baseline") as caught:
        checkpoints.load_agent(path)
    assert "\n" not in str(caught.value)
    del content["observation_shapes"]
    checkpoints.save(path, content)
    with pytest.raises(CheckpointError, match="does not fit"):
        checkpoints.load_agent(path)


def test_failed_write_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*best\.pt'"):
        checkpoints.save(saved, {"agent": {}})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["best.pt"]


@pytest.mark.parametrize(("options", "message"), [("size=64k", "No space left"), ("ro", "Read-only file system")])
def test_full_and_read_only_disk(tmp_path, options, message):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("may not mount a tmpfs here")
    try:
        with pytest.raises(OSError, match=rf"{message}.*: '.*best\.pt'"):
            checkpoints.save(tmp_path / "best.pt", {"agent": {"weight": torch.zeros(100_000)}})
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_json_is_json(tmp_path):
    checkpoints.write_json(tmp_path / "a.json", {"a": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        checkpoints.write_json(tmp_path / "a.json", {"a": float("nan")})


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--learning-speed", "1"], "--learning-speed"),
        (["--num-envs", "many"], "--num-envs"),
        (["--size", "9"], "--size"),
    ],
)
def test_bad_argument_is_one_line(argv, named, capsys):
    with pytest.raises(SystemExit) as stop:
        checkpoints.parse_args(Args, argv)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and named in error


def test_resume_of_no_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"--resume .*: no run directory"):
        checkpoints.parse_args(Args, ["--resume", str(tmp_path / "none")])
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not a run's configuration"):
        checkpoints.parse_args(Args, ["--resume", str(tmp_path)])
    saved = dataclasses.asdict(Args(exp_name="ppo_other"))
    (tmp_path / "config.json").write_text(json.dumps({"args": {**saved, "attention_heads": 4}}))
    with pytest.raises(CheckpointError, match="attention_heads is in only one"):
        checkpoints.parse_args(Args, ["--resume", str(tmp_path)])
    (tmp_path / "config.json").write_text(json.dumps({"args": saved}))
    assert checkpoints.parse_args(Args, ["--resume", str(tmp_path), "--track"]).exp_name == "ppo_other"


def test_commands_end_with_status_2(tmp_path):
    """The whole command: one line on stderr, no traceback."""
    for module, argv in (("evaluation", ["--checkpoint", "none.pt"]), ("ppo_mlp_baseline", ["--resume", "none"])):
        command = [sys.executable, "-m", f"npp_rl.{module}", *argv]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
