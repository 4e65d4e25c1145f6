"""Checkpoints: whole or refused, never executed, never half-written; arguments of a command in one line."""

import dataclasses
import json
import math
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb_file import read_run

from npp_rl.agents import load_agent
from npp_rl.commands import ArgumentError, CheckpointError, UserError
from npp_rl.environment.games import OBSERVATIONS
from npp_rl.files import open_file, take_lock, write_json
from npp_rl.levels.generator import generate
from npp_rl.levels.maps import mirrored
from npp_rl.ppo_mlp_baseline import SIZES, Agent, Args
from npp_rl.ppo_mlp_cnn import Args as FrameArgs
from npp_rl.training import checkpoints, run_folder
from npp_rl.training.arguments import check_args, parse_args, plain_args
from npp_rl.training.checkpoints import Counters
from npp_rl.training.run_log import RunLog

SIZES_OF_LOGS = {"metrics.jsonl": 0, "log.jsonl": 0}
SHAPES = {name: OBSERVATIONS[name][0] for name in Agent.observations}


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
    agent, run = load_agent(saved)
    expected = checkpoint_of(Args(hidden=4, tiles_hidden=4, features=4))
    assert run.pop("trained_on") is None
    assert run == dataclasses.asdict(Args(hidden=4, tiles_hidden=4, features=4))
    assert expected["args"] | {"wandb_tags": (), "freeze": ()} == run
    assert all(torch.equal(agent.state_dict()[key], value) for key, value in expected["agent"].items())
    assert [path.name for path in saved.parent.iterdir()] == ["best.pt"]


def test_a_checkpoint_says_which_levels_its_agent_was_trained_on(saved):
    """A level and its mirror image are one, and so are levels that differ in entities only."""
    levels = [generate("simplest", seed) for seed in range(3)]
    keys = {level.tiles_key for level in levels}
    assert len(keys) == 3 and keys == {mirrored(level).tiles_key for level in levels}
    assert keys <= {one.tiles_digest for level in levels for one in (level, mirrored(level))}
    more = {"ab" * 32, "cd" * 32, levels[0].tiles_key}
    for known, expected in (((), keys), (more, keys | more), (None, None)):
        entry = checkpoints.keys_of([*levels, mirrored(levels[1])], known)
        checkpoints.save(saved, {**checkpoints.load(saved), "trained_on": entry})
        assert load_agent(saved)[1]["trained_on"] == expected
    assert checkpoints.trained_on({"trained_on": checkpoints.keys_of([])}) == frozenset()
    for damaged in ("all", torch.zeros(3, 31, dtype=torch.uint8), torch.zeros(3, 32), [1]):
        checkpoints.save(saved, {**checkpoints.load(saved), "trained_on": damaged})
        with pytest.raises(CheckpointError, match=r"best\.pt: does not fit .*trained_on holds no digests"):
            load_agent(saved)


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


@pytest.mark.parametrize("dtype", ["i4,,", "f4, f4", "O", "", "<f4\n", "int", None, 3, "<i99999999999"])
def test_damaged_arrays_are_refused(dtype):
    packed = checkpoints.pack({"rows": np.arange(12.0)})
    packed["rows"]["dtype"] = dtype
    with pytest.raises((TypeError, ValueError)):
        checkpoints.unpack(packed)


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
    with pytest.raises(
        CheckpointError, match=r"no exported agent \(expected a folder with .*, or a checkpoint file\)$"
    ):
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
    with pytest.raises(CheckpointError, match="not a whole checkpoint of plain") as caught:
        checkpoints.load(path)
    assert "weights_only" not in str(caught.value)  # torch advises to run what is in the file
    if writer == "torch":
        assert f"{os.mkdir.__module__}.mkdir" in str(caught.value)
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(str(target))))  # it would have run
    assert target.exists()


def test_other_architectures(tmp_path):
    path = tmp_path / "best.pt"
    content = checkpoint_of(Args(hidden=4, tiles_hidden=4, features=4))
    for name in ("os", "../mlp_baseline", None, 3):
        checkpoints.save(path, {**content, "architecture": name})
        with pytest.raises(CheckpointError, match="unknown architecture"):
            load_agent(path)
    checkpoints.save(path, {**content, "args": {**content["args"], "features": 8}})
    with pytest.raises(CheckpointError, match="does not fit the architecture mlp_baseline") as caught:
        load_agent(path)
    assert "\n" not in str(caught.value)
    for change in ({"features": "8"}, {"gamma": 2.0}, {"threads": "many"}, {"frame_skip": 4.5}):
        checkpoints.save(path, {**content, "args": {**content["args"], **change}})
        with pytest.raises(CheckpointError, match=next(iter(change)).replace("_", ".")):
            load_agent(path)
    checkpoints.save(path, {**content, "observation_shapes": {**content["observation_shapes"], "game_state": [5]}})
    with pytest.raises(CheckpointError, match=r"game_state had the shape \[5\]"):
        load_agent(path)
    del content["observation_shapes"]
    checkpoints.save(path, content)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_agent(path)


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
    write_json(tmp_path / "a.json", {"a": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--learning-speed", "1"], "--learning-speed"),
        (["--num-envs", "many"], "--num-envs"),
        (["--size", "9"], "--size"),
        (["--num-env", "9"], "unrecognized option --num-env, did you mean --num-envs?"),
        (["--lr", "9"], "unrecognized option --lr, did you mean --learning-rate?"),
        (["--no-anneal_l"], "unrecognized option --no-anneal-l, did you mean --anneal-lr?"),
        (["--anneal-lr", "False"], "--anneal-lr False: expected --anneal-lr or --no-anneal-lr, without a value"),
        (["--no-cuda=1"], "--cuda 1: expected --cuda or --no-cuda, without a value"),
    ],
)
def test_bad_argument_is_one_line(argv, named, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_args(Args, argv)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and named in error
    assert "help" not in error  # neither the box's title nor its foot


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("seed", [-1]),
        ("threads", [-1, 10**5]),
        ("learning_rate", [-1.0, 0.0, float("nan"), float("inf")]),
        ("gamma", [0.0, 1.5, float("nan")]),
        ("gae_lambda", [-7.0, 1.1]),
        ("clip_coef", [-1.0, float("nan")]),
        ("max_grad_norm", [0.0, -1.0]),
        ("target_kl", [-1.0, 0.0]),
        ("max_minutes", [0.0, -1.0, float("nan")]),
        ("validation_fraction", [-1.0, 1.0, float("nan")]),
        ("num_envs", [0, 99_999_999_999]),
        ("num_steps", [0, 99_999_999_999]),
        ("frame_skip", [0, 10**12]),
        ("eval_freq", [-5]),
        ("save_freq", [-5]),
        ("total_timesteps", [0, 10**30]),
        ("hidden", [0, -5, 99_999_999]),
    ],
)
def test_values_out_of_bounds(name, values):
    sizes = tuple(SIZES["small"])
    check_args(Args(**SIZES["small"]), sizes)
    for value in values:
        with pytest.raises(ArgumentError, match=rf"^--{name.replace('_', '-')} {value}: expected ") as caught:
            check_args(Args(**SIZES["small"] | {name: value}), sizes)
        assert "\n" not in str(caught.value)


def test_only_one_process_works_in_a_run(tmp_path):
    lock = run_folder.claim(tmp_path / "run", False)
    with pytest.raises(CheckpointError, match="another process works in this run"):
        run_folder.claim(tmp_path / "run", False)
    lock.close()
    run_folder.claim(tmp_path / "run", False).close()
    (tmp_path / "run/levels.txt").touch()
    with pytest.raises(CheckpointError, match="is not empty"):
        run_folder.claim(tmp_path / "run", False)
    (tmp_path / "run/config.json").touch()
    with pytest.raises(CheckpointError, match="holds a run already"):
        run_folder.claim(tmp_path / "run", False)
    run_folder.claim(tmp_path / "run", True).close()
    with pytest.raises(CheckpointError, match="is a file"):
        run_folder.claim(tmp_path / "run/levels.txt", False)


def test_what_a_killed_process_left_is_removed_under_the_lock(tmp_path):
    with subprocess.Popen(["true"]) as ended, subprocess.Popen(["sleep", "60"]) as working:
        ended.wait()
        run_dir = tmp_path / "run"
        (run_dir / "checkpoints").mkdir(parents=True)
        left = [f".config.json.{ended.pid}.tmp", f"checkpoints/.best.pt.{ended.pid}.tmp"]
        kept = [f".report.md.{working.pid}.tmp", ".a.tmp", f"best.pt.{ended.pid}.tmp", f".best.pt.{ended.pid}.tmp.log"]
        kept += [f"checkpoints/.best.pt.{ended.pid}.tmp~", "checkpoints/.best.pt.x7.tmp", f".{'9' * 40}.tmp"]
        folder = f"checkpoints/.latest.pt.{ended.pid}.tmp"
        (run_dir / folder).mkdir()
        for name in left + kept:
            (run_dir / name).touch()
        lock = run_folder.claim(run_dir, True)
        lock.close()
        there = {path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*")}
        assert there == {"log.jsonl", "checkpoints", folder, *kept}
        (run_dir / left[1]).touch()
        with open_file(run_dir / "log.jsonl", "a") as other:
            assert take_lock(other)
            with pytest.raises(CheckpointError, match="another process"):
                run_folder.claim(run_dir, True)
        assert (run_dir / left[1]).exists()
        working.kill()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / left[0]).touch()  # killed while it wrote its config.json: a start like any other
    run_folder.claim(tmp_path / "new", False).close()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["log.jsonl"]


def test_a_lost_checkpoint_is_named_and_a_run_that_never_trained_begins_again(tmp_path):
    args = Args(hidden=4, tiles_hidden=4, features=4, resume=str(tmp_path))
    (tmp_path / "checkpoints").mkdir()

    def begins_again():
        try:
            assert checkpoints.load_latest(tmp_path, args, "abc", 1) == (None, Counters())
        except CheckpointError as error:
            assert str(error).startswith(f"{tmp_path}/checkpoints/latest.pt: is missing, and the run has trained (")
            return False
        return True

    (tmp_path / "metrics.jsonl").write_text('{"kind": "eval", "global_step": 0}\n')
    checkpoints.save(tmp_path / "checkpoints/best.pt", {**checkpoint_of(args), "global_step": 0})
    assert begins_again()
    checkpoints.save(tmp_path / "checkpoints/best.pt", {**checkpoint_of(args), "global_step": 512})
    assert not begins_again()
    (tmp_path / "checkpoints/best.pt").unlink()
    assert begins_again()
    (tmp_path / "eval_results.json").touch()
    assert not begins_again()
    (tmp_path / "eval_results.json").unlink()
    (tmp_path / "metrics.jsonl").write_text('{"kind": "eval", "global_step": 0}\n{"kind": "train", "global_step": 9}\n')
    assert not begins_again()
    (tmp_path / "checkpoints/best.pt").write_text("damaged")
    with pytest.raises(CheckpointError, match=r"best\.pt: not a whole checkpoint"):
        checkpoints.load_latest(tmp_path, args, "abc", 1)
    for damaged in ({}, {"global_step": "many"}):
        checkpoints.save(tmp_path / "checkpoints/best.pt", damaged)
        with pytest.raises(CheckpointError, match=r"best\.pt: does not fit this run \((Key|Type)Error: "):
            checkpoints.load_latest(tmp_path, args, "abc", 1)
    with pytest.raises(CheckpointError, match=r"best\.pt: does not fit this run \(KeyError: 'agent'\)"):
        checkpoints.load_best(tmp_path, torch.nn.Linear(1, 1), torch.device("cpu"))


PLACES = ("config.json", "log.jsonl", "metrics.jsonl", "checkpoints/latest.pt", "checkpoints/best.pt")


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", PLACES)
def test_a_run_with_what_is_not_a_file_is_refused_at_once(tmp_path, name, kind):
    saved = Args(hidden=4, tiles_hidden=4, features=4)
    (tmp_path / "checkpoints").mkdir()
    write_json(tmp_path / "config.json", {"args": dataclasses.asdict(saved)})
    checkpoints.save(tmp_path / "checkpoints/best.pt", {**checkpoint_of(saved), "global_step": 0})
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name) if kind == "pipe" else (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / name}: expected a regular file")):
        args = parse_args(Args, ["--resume", str(tmp_path)])
        with run_folder.claim(tmp_path, True):
            checkpoints.load_latest(tmp_path, args, "abc", 1)
        RunLog(tmp_path, {"args": {}})
    for refused in (checkpoints.load, load_agent):
        with pytest.raises(CheckpointError):
            refused(tmp_path / name)


@pytest.mark.parametrize(("wrote", "left"), [("", False), ("a line", True)])
def test_a_start_that_failed_leaves_no_folder(tmp_path, wrote, left):
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from npp_rl.commands import fail\nfrom npp_rl.training import run_folder\n"
        "run_dir = Path(sys.argv[1])\nlock = run_folder.claim(run_dir, False)\n"
        "assert (run_dir / 'log.jsonl').exists()\nlock.write(sys.argv[2])\nlock.flush()\n"
        "fail('no levels')"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "run", wrote], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: no levels\n")
    assert (tmp_path / "run").exists() == left


def test_a_resumed_runs_checkpoint_is_of_its_arguments(tmp_path):
    path = tmp_path / "checkpoints/latest.pt"
    path.parent.mkdir()
    args = Args(hidden=4, tiles_hidden=4, features=4, resume=str(tmp_path))
    assert checkpoints.load_latest(tmp_path, args, "abc", 2) == (None, Counters())
    checkpoints.save(path, checkpoint_of(args))
    with pytest.raises(CheckpointError, match=r"latest\.pt: does not fit this run \(KeyError: 'levels_digest'\)"):
        checkpoints.load_latest(tmp_path, args, "abc", 2)
    counters = dataclasses.asdict(Counters(global_step=512, most_won=[1.0, 0.0]))
    whole = {
        **checkpoint_of(args),
        "levels_digest": "abc",
        "ranks": [1, 2],
        "counters": counters,
        "log_bytes": SIZES_OF_LOGS,
    }
    checkpoints.save(path, whole)
    other = dataclasses.replace(args, track=True, run_dir="b")
    assert checkpoints.load_latest(tmp_path, other, "abc", 2)[1] == Counters(global_step=512, most_won=[1.0, 0.0])
    assert checkpoints.load_latest(tmp_path, dataclasses.replace(args, resume=None), "abc", 2)[0] is None
    with pytest.raises(CheckpointError, match=r"configuration: seed was 1, now 2; gamma was 0\.99, now 0\.9$"):
        checkpoints.load_latest(tmp_path, dataclasses.replace(args, seed=2, gamma=0.9), "abc", 2)
    with pytest.raises(CheckpointError, match=r"digest was 'abc', now 'abd'; the number of processes was 2, now 1$"):
        checkpoints.load_latest(tmp_path, args, "abd", 1)
    strange = {"minutes": ["ten", math.nan], "most_won": [3, ["a"], [math.nan]], "global_step": [[1], 2.5, True]}
    strange |= {"evaluated_share": [True, "no", math.nan]}
    for name, numbers in {
        "global_step": (10**19, 10**400),
        "minutes": (math.inf, 1e308),
        "most_won": ([1e308],),
    }.items():
        strange[name] = [*strange[name], *numbers]
    wrongs = [counters | {name: value} for name, values in strange.items() for value in values]
    for wrong in ({}, *wrongs):
        checkpoints.save(path, whole | {"counters": wrong})
        with pytest.raises(CheckpointError, match=r"latest\.pt: does not fit this run"):
            checkpoints.load_latest(tmp_path, args, "abc", 2)
    for sizes in (3, {}, {"metrics.jsonl": 1}, {"metrics.jsonl": 1.5, "log.jsonl": 2}):
        checkpoints.save(path, whole | {"log_bytes": sizes})
        with pytest.raises(CheckpointError, match=r"latest\.pt: does not fit this run"):
            checkpoints.load_latest(tmp_path, args, "abc", 2)


def test_logs_are_cut_to_what_the_checkpoint_knew_and_never_lengthened(tmp_path):
    config = {"args": {}}
    log = RunLog(tmp_path, config)
    log.metrics("train", 1, 0.1, {"a": 1.0})
    sizes = log.sizes()
    log.metrics("train", 2, 0.2, {"a": 2.0})
    log.message("late")
    log.close()
    RunLog(tmp_path, config, sizes, 1).close()
    assert [json.loads(line)["global_step"] for line in (tmp_path / "metrics.jsonl").open()] == [1]
    assert (tmp_path / "log.jsonl").read_text() == ""
    before = (tmp_path / "metrics.jsonl").read_bytes()
    for wrong in ({**sizes, "metrics.jsonl": len(before) + 1}, {**sizes, "metrics.jsonl": -1}):
        with pytest.raises(CheckpointError, match=r"metrics\.jsonl: has .* bytes, .* when the run was saved"):
            RunLog(tmp_path, config, wrong, 1)
        assert (tmp_path / "metrics.jsonl").read_bytes() == before


def scalars(folder):
    """All points of a folder of TensorBoard: {name: [(step, value)]}."""
    accumulator = EventAccumulator(str(folder)).Reload()
    return {
        name: [(event.step, event.value) for event in accumulator.Scalars(name)]
        for name in accumulator.Tags()["scalars"]
    }


def test_tensorboard_is_divided_by_use(tmp_path):
    log = RunLog(tmp_path, {"args": {}})
    log.metrics("eval", 0, 0.1, {"eval/success_rate": 0.25, "time/evaluation": 2.0})
    log.metrics("train", 512, 0.2, {"charts/SPS": 1000.0, "losses/policy_loss": -0.5, "time/env": 0.5, "bad": np.nan})
    sizes = log.sizes()
    log.metrics("train", 1024, 0.3, {"losses/policy_loss": -0.75})
    log.close()
    log = RunLog(tmp_path, {"args": {}}, sizes, 512)
    log.metrics("train", 1024, 0.3, {"losses/policy_loss": -1.0})
    log.metrics("test", 1024, 0.4, {"test/success_rate": 0.5})
    log.close()
    assert scalars(tmp_path / "tensorboard/train") == {"losses/policy_loss": [(512, -0.5), (1024, -1.0)]}
    assert scalars(tmp_path / "tensorboard/eval") == {
        "eval/success_rate": [(0, 0.25)],
        "test/success_rate": [(1024, 0.5)],
    }
    system = scalars(tmp_path / "tensorboard/system")
    assert system.pop("charts/SPS") == [(512, 1000.0)] and system.pop("time/env") == [(512, 0.5)]
    assert system.pop("time/evaluation") == [(0, 2.0)]
    assert {"system/processors_busy", "system/load"} <= set(system)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [(line["kind"], line["global_step"]) for line in lines] == [
        ("eval", 0),
        ("train", 512),
        ("train", 1024),
        ("test", 1024),
    ]
    if sys.platform == "linux":
        resident = int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
        assert lines[1]["system/memory_mib"] == pytest.approx(resident, rel=0.2)
    assert 0 < lines[1]["system/processors_busy"] < 1.5 * os.cpu_count() and "bad" not in lines[1]


TRACKED = """
import dataclasses, sys
from pathlib import Path
from npp_rl.ppo_mlp_baseline import Args
from npp_rl.training.run_log import RunLog

folder, content = Path(sys.argv[1]), sys.argv[2:]
config = {"architecture": "mlp_baseline", "args": dataclasses.asdict(Args(exp_name="mazes"))}
log = RunLog(folder, config)
log.track()
log.metrics("train", 512, 0.1, {"charts/SPS": 7.0})
for name in content:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(f"content of {name}")
log.close()
"""


def test_videos_and_results_go_to_wandb(tmp_path):
    pytest.importorskip("wandb")
    videos = ("videos/simple_1__won.mp4", "videos/simple_2__died_mine.mp4", "videos/simple_3__won.mp4")
    words = [sys.executable, "-c", TRACKED, str(tmp_path / "seed_1"), "eval_results.json", "report.md", *videos]
    places = {f"WANDB_{name}_DIR": str(tmp_path / name) for name in ("DATA", "CACHE", "CONFIG")}
    environment = os.environ | places | {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "seed_1/log.jsonl").read_text() == ""
    run = read_run(tmp_path)
    assert run["name"] == "mazes__1__seed_1" and run["id"].startswith("mazes-1-")
    (row,) = run["history"]
    assert row["videos/won/captions"] == ["simple_1: won", "simple_3: won"]
    assert row["videos/lost/captions"] == ["simple_2: died_mine"] and row["_step"] == 512
    (path,) = tmp_path.glob("seed_1/wandb/offline-*/files/" + row["videos/lost/videos"][0]["path"])
    assert path.read_text() == "content of videos/simple_2__died_mine.mp4"
    (files,) = run["artifacts"].values()
    assert set(files) == {"config.json", "eval_results.json", "report.md"}


@pytest.mark.parametrize("missing", ["login", "wandb"])
def test_tracking_that_cannot_start_is_said_and_the_run_goes_on(tmp_path, monkeypatch, capfd, missing):
    for name, value in {"BASE_URL": "http://127.0.0.1:9", "CONFIG_DIR": str(tmp_path), "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    if missing == "wandb":
        monkeypatch.setitem(sys.modules, "wandb", None)
    else:
        pytest.importorskip("wandb")
    log = RunLog(tmp_path / "run", {"architecture": "gat", "args": dataclasses.asdict(Args())})
    log.track()
    log.metrics("train", 512, 0.1, {"charts/SPS": 7.0})
    log.close()
    (said,) = (json.loads(line)["message"] for line in (tmp_path / "run/log.jsonl").open())
    expected = {"login": "wandb: No API key configured", "wandb": "wandb is not installed; "}[missing]
    assert said.startswith(expected) and said.endswith("--track has no effect, all metrics are in metrics.jsonl")
    assert capfd.readouterr().out == f"{said}\n"
    assert json.loads((tmp_path / "run/metrics.jsonl").read_text())["charts/SPS"] == 7.0


def test_a_run_says_that_it_has_no_gpu(tmp_path, capsys):
    config = {"args": {"cuda": True, "size": "small"}, "device": "cpu", "threads": 2}
    RunLog(tmp_path / "a", config).close()
    assert capsys.readouterr().out == "no GPU that torch can use: training on the CPU, 2 threads, size small\n"
    RunLog(tmp_path / "c", config | {"world_size": 2, "threads": 1}).close()
    said = "no GPU that torch can use: training on the CPU, 2 processes with 1 thread each, size small\n"
    assert capsys.readouterr().out == said
    RunLog(tmp_path / "b", {**config, "args": {"cuda": False, "size": "small"}}).close()
    assert capsys.readouterr().out == ""


def test_a_console_that_is_gone_does_not_end_a_run():
    code = "from npp_rl.commands import say\nfor k in range(9): say('x' * 99999)\nopen(3, 'w').write('went on')"
    read, write = os.pipe()
    words = [sys.executable, "-c", f"import os; os.dup2({write}, 3)\n{code}"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(write,))
    process.stdout.close()
    assert process.wait(timeout=100) == 0, process.stderr.read()
    os.close(write)
    assert os.read(read, 100) == b"went on"


def test_resume_of_no_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"--resume .*: no run directory"):
        parse_args(Args, ["--resume", str(tmp_path / "none")])
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="expected a JSON object, a run's configuration"):
        parse_args(Args, ["--resume", str(tmp_path)])
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="expected a JSON object, a run's configuration"):
        parse_args(Args, ["--resume", str(tmp_path)])
    for wrong in ("", [], [["seed", 1]], None):
        (tmp_path / "config.json").write_text(json.dumps({"args": wrong}))
        with pytest.raises(CheckpointError, match="not a run's configuration"):
            parse_args(Args, ["--resume", str(tmp_path)])
    saved = dataclasses.asdict(Args(exp_name="ppo_other"))
    for wrong in ({"num_envs": "x"}, {"num_envs": None}, {"learning_rate": "fast"}, {"size": "weird"}, {"cuda": 1}):
        (tmp_path / "config.json").write_text(json.dumps({"args": {**saved, **wrong}}))
        with pytest.raises(CheckpointError, match=f"{next(iter(wrong))} is .*, not of its type"):
            parse_args(Args, ["--resume", str(tmp_path)])
    for wrong in ([1], [1, 2, 3, 4], [1, 2, 2.5], {"a": 1}):
        (tmp_path / "config.json").write_text(json.dumps({"args": {"cnn_channels": wrong}}))
        with pytest.raises(CheckpointError, match=r"cnn_channels is .*, not of its type"):
            parse_args(FrameArgs, ["--resume", str(tmp_path)])
    (tmp_path / "config.json").write_text(json.dumps({"args": {**saved, "attention_heads": 4}}))
    with pytest.raises(CheckpointError, match="attention_heads is in only one"):
        parse_args(Args, ["--resume", str(tmp_path)])
    (tmp_path / "config.json").write_text(json.dumps({"args": saved}))
    assert parse_args(Args, ["--resume", str(tmp_path), "--track"]).exp_name == "ppo_other"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 10**19) for name in ("total_timesteps", "num_envs", "hidden", "gamma", "max_minutes", "seed")),
        *(("gamma", value) for value in (math.nan, math.inf, -math.inf, -0.0, 1e308, 10**400)),
        *(("max_minutes", value) for value in (math.nan, math.inf, -1.0, 1e308, 10**400)),
        ("hidden", 10**400),
        ("hidden", -(10**19)),
        ("train_dataset", ""),
        ("test_dataset", "a,,b"),
        ("train_dataset", "a\0b"),
        ("pretrained_checkpoint", ""),
        ("label", "../a"),
    ],
)
def test_a_configuration_out_of_range_is_named(tmp_path, name, value):
    saved = dataclasses.asdict(Args(hidden=4, tiles_hidden=4, features=4)) | {name: value}
    (tmp_path / "config.json").write_text(json.dumps({"args": saved}))
    flag = name.replace("_", "-")
    with pytest.raises(CheckpointError, match=rf"config\.json: {flag}.*: expected ") as caught:
        parse_args(Args, ["--resume", str(tmp_path)])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("flag", ["--train-dataset", "--run-dir", "--resume", "--pretrained-checkpoint"])
def test_an_empty_name_is_refused(flag):
    with pytest.raises(ArgumentError, match=f"^{flag} '': expected the name of a file or folder$"):
        parse_args(Args, [flag, ""])


def test_a_run_can_be_resumed_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    words = ["--train-dataset", "../levels", "--test-dataset", "builtin,../a,b", "--pretrained-checkpoint", "bc.pt"]
    args = parse_args(Args, words)
    assert (
        args.train_dataset == str(tmp_path / "levels")
        and args.test_dataset == f"builtin,{tmp_path}/a,{tmp_path}/here/b"
    )
    assert args.pretrained_checkpoint == str(tmp_path / "here/bc.pt")
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    write_json(run / "config.json", {"args": dataclasses.asdict(args)})
    monkeypatch.chdir("/")
    again = parse_args(Args, ["--resume", str(run)])
    assert dataclasses.replace(again, resume=None) == args
    moved = parse_args(Args, ["--resume", str(run), "--train-dataset", str(tmp_path)])  # the digest decides
    counters = dataclasses.asdict(Counters(global_step=512))
    whole = {"args": plain_args(args), "levels_digest": "abc", "ranks": [1], "counters": counters}
    checkpoints.save(run / "checkpoints/latest.pt", {**whole, "log_bytes": SIZES_OF_LOGS})
    assert checkpoints.load_latest(run, moved, "abc", 1)[1].global_step == 512
    with pytest.raises(CheckpointError, match=r"train_dataset was .*levels', now .*; the levels' digest was"):
        checkpoints.load_latest(run, moved, "abd", 1)


def test_commands_end_with_status_2(tmp_path):
    """The whole command: one line on stderr, no traceback."""
    for module, argv in (("evaluation", ["--checkpoint", "none.pt"]), ("ppo_mlp_baseline", ["--resume", "none"])):
        command = [sys.executable, "-m", f"npp_rl.{module}", *argv]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
