"""Runs that start a process per core themselves: what they compute, and what becomes of them when one is killed."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from npp_rl import make_levels, ppo_mlp_baseline
from npp_rl.levels.generator import generate
from npp_rl.training import checkpoints, processes, ranks
from npp_rl.training.episodes import DIVIDED, EPISODE_MEANS, begin_envs, episode_metrics, rules_of

SCRIPT = Path(__file__).parents[1] / "npp_rl/ppo_mlp_baseline.py"
SMALL = ["--num-envs", "16", "--num-steps", "32", "--num-minibatches", "4", "--evaluations", "1", "--threads", "2"]
SMALL += ["--total-timesteps", "8192", "--save-freq", "512", "--validation-fraction", "0.2", "--fresh-levels", "0"]


@pytest.fixture(scope="module")
def levels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels") / "set"
    make_levels.main(make_levels.Args(out=folder, categories=("simplest",), split="train", count=12))
    return ["--train-dataset", str(folder), "--test-dataset", str(folder)]


def begin(*words, tmp_path, **popen):
    (tmp_path / "temporary").mkdir(exist_ok=True)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
    return subprocess.Popen([sys.executable, *map(str, words)], env=environment, **streams | popen)


def weights(run_dir):
    return checkpoints.load(run_dir / "checkpoints/latest.pt")["agent"]


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())


def other_rank(pid):
    """The process that a run has forked for rank 1, in a session of its own; waits until it is there."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if os.getsid(int(child)) == int(child):
                    return int(child)
        time.sleep(0.02)
    raise AssertionError("no second process")


def trained(run_dir):
    """Wait until a run has saved a state in which it has trained."""
    latest, deadline = run_dir / "checkpoints/latest.pt", time.monotonic() + 300
    while time.monotonic() < deadline:
        if latest.exists() and checkpoints.load(latest)["counters"]["global_step"]:
            return
        time.sleep(0.02)
    raise AssertionError("the run did not train")


def gone(pid, seconds=20):
    """Whether a process ends within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module")
def whole(levels, tmp_path_factory):
    """A run of two processes that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    process = begin(SCRIPT, *SMALL, *levels, "--run-dir", folder / "run", tmp_path=folder)
    said, errors = process.communicate(timeout=400)
    assert process.returncode == 0 and not errors, errors
    assert "2 processes with 1 thread each" in said
    assert not list((folder / "temporary").glob("npp_rl_*"))
    return folder / "run"


def test_a_run_on_two_cores_is_the_run_of_torchrun(levels, whole, tmp_path):
    """Two processes of ours and two of torchrun, whose gradients gloo adds, have the same weights, bit for bit."""
    config = json.loads((whole / "config.json").read_text())
    assert (config["world_size"], config["threads"]) == (2, 1)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    words = [*map(str, levels), "--run-dir", str(tmp_path / "run"), "--threads", "1"]
    process = begin(*torchrun, SCRIPT, *SMALL, *words, tmp_path=tmp_path)
    assert process.communicate(timeout=400) and process.returncode == 0
    assert equal(weights(whole), weights(tmp_path / "run"))
    one, two = (json.loads((run / "eval_results.json").read_text()) for run in (whole, tmp_path / "run"))
    assert one["levels"] == two["levels"]


def test_when_rank_0_is_killed_the_others_end(levels, whole, tmp_path):
    """And the run is continued by two processes to the weights that it would have had."""
    process = begin(SCRIPT, *SMALL, *levels, "--run-dir", tmp_path / "run", tmp_path=tmp_path)
    other = other_rank(process.pid)
    trained(tmp_path / "run")
    process.kill()
    process.communicate()
    assert gone(other)
    assert not list((tmp_path / "temporary").glob("npp_rl_*"))
    assert 0 < checkpoints.load(tmp_path / "run/checkpoints/latest.pt")["counters"]["global_step"] < 8192
    process = begin(SCRIPT, "--resume", tmp_path / "run", "--threads", "1", tmp_path=tmp_path)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert equal(weights(whole), weights(tmp_path / "run"))


def test_when_another_rank_is_killed_the_run_ends_with_one_line(levels, tmp_path):
    process = begin(SCRIPT, *SMALL, *levels, "--run-dir", tmp_path / "run", tmp_path=tmp_path)
    other = other_rank(process.pid)
    trained(tmp_path / "run")
    os.kill(other, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith("error: process 1 of this training ended by SIGKILL")
    assert not list((tmp_path / "temporary").glob("npp_rl_*"))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_ends_while_it_waits_is_lost(rank):
    """Its socket can still be read, but not written to. An OSError would be taken for a pipe that the user closed."""
    pairs = [socket.socketpair() for _ in range(1 if rank else 2)]
    team = ranks.Team(rank, 3, [own for own, _ in pairs], -1, "")
    for _, other in pairs:
        other.send(b"\0")
    pairs[0][1].close()
    with pytest.raises(RuntimeError, match=ranks.LOST):
        team.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_rank_0_stops_all_and_saves(levels, tmp_path, number):
    process = begin(SCRIPT, *SMALL, *levels, "--run-dir", tmp_path / "run", tmp_path=tmp_path)
    other = other_rank(process.pid)
    trained(tmp_path / "run")
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and not errors, errors
    assert f"stopped by {number.name}" in said
    assert gone(other)


def test_an_error_that_all_ranks_have_is_said_once(tmp_path):
    process = begin(SCRIPT, "--threads", "2", "--train-dataset", tmp_path / "missing", tmp_path=tmp_path)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert errors.startswith(f"error: {tmp_path}/missing") and len(errors.splitlines()) == 1
    assert not list((tmp_path / "temporary").glob("npp_rl_*"))


def test_a_damaged_number_of_processes_is_named(whole, tmp_path):
    for wrong in (0, "2", 10**9, None, True):
        config = json.loads((whole / "config.json").read_text()) | {"world_size": wrong}
        (tmp_path / "config.json").write_text(json.dumps(config))
        args = ppo_mlp_baseline.Args(resume=str(tmp_path))
        with pytest.raises(checkpoints.CheckpointError, match=r"config.json: world_size is .*, expected"):
            processes.number_of_ranks(args)


@pytest.mark.parametrize(
    ("threads", "num_envs", "num_steps", "num_minibatches", "expected"),
    [
        (2, 512, 64, 64, 2),
        (16, 512, 64, 64, 16),
        (64, 512, 64, 64, 16),  # a rank's minibatch has at least 32 of the 512 rows
        (16, 64, 64, 32, 4),
        (3, 512, 64, 64, 2),  # three do not divide 512
        (2, 1, 64, 1, 1),
        (2, 511, 64, 1, 1),
        (1, 512, 64, 64, 1),
    ],
)
def test_as_many_processes_as_divide_the_work(threads, num_envs, num_steps, num_minibatches, expected):
    sizes = {"num_envs": num_envs, "num_steps": num_steps, "num_minibatches": num_minibatches}
    args = ppo_mlp_baseline.Args(threads=threads, **sizes)
    assert processes.number_of_ranks(args) == expected


def test_a_call_of_main_stays_one_process(monkeypatch):
    """Also by a program that has Args of its own, and by runpy, which leaves the caller's program in its place."""
    assert not ranks.is_program(ppo_mlp_baseline.Args())
    monkeypatch.setattr(sys.modules["__main__"], "Args", ppo_mlp_baseline.Args, raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(SCRIPT), raising=False)
    assert ranks.is_program(ppo_mlp_baseline.Args())
    assert not ranks.is_program(make_levels.Args(out=SCRIPT))


@pytest.mark.parametrize("count", [199, 200])
def test_ranks_divide_many_levels_and_the_fresh_ones(count):
    own, args = [generate("simplest", seed) for seed in range(count)], ppo_mlp_baseline.Args(num_envs=4, mirror=False)
    args.fresh_levels, shown, fresh = 64, [], []
    for rank in range(2):
        seeds = dict(
            zip(("weights_seed", "env_seed", "torch_seed", "levels_seed"), processes.seeds(1, rank, 2), strict=True)
        )
        about = {"rank": rank, "world_size": 2, "device": torch.device("cpu"), "threads": 1}
        process = types.SimpleNamespace(**about, **seeds)
        envs, _ = begin_envs(args, process, rules_of(args, ("game_state",)), own, [], 1)
        digests = {level.digest for level in own}
        shown.append([level.digest for level in envs.levels if level.digest in digests])
        fresh.append({level.digest for level in envs.levels} - digests)
        envs.close()
    if count < 2 * DIVIDED:
        assert shown[0] == shown[1] == [level.digest for level in own]
    else:
        assert shown[0] == [level.digest for level in own[::2]] and shown[1] == [level.digest for level in own[1::2]]
    assert all(20 < len(part) <= 48 for part in fresh) and not fresh[0] & fresh[1]


def test_metrics_of_ranks_have_the_same_form(monkeypatch):
    """Though a category may be among the levels of one rank only."""
    one, two = [generate("simplest", 0)], [generate("medium", 0)]
    sums = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: sums.append(values.clone()))
    for levels in (one, two):
        episode = {key: np.array([1]) for key in ("success", "cause", *EPISODE_MEANS.values())}
        metrics = episode_metrics([episode | {"level": np.array([0])}], levels, one + two, torch.device("cpu"))
        (name,) = {name for name in metrics if name.startswith("success/")}
        assert name == f"success/{levels[0].category}" and metrics[name] == 1
    assert sums[0].shape == sums[1].shape and not torch.equal(*sums)


# Ranks that average gradients many times, at different speeds, and say the last ones and the sum of all.
AVERAGING = """
import datetime, json, os, sys, time, types
import torch
from npp_rl.training import ranks
from npp_rl.training.weights import Weights

size, out, ranks.FORKS = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "True"
team = ranks.joined() or ranks.start(size)
team.join(datetime.timedelta(seconds=60))
torch.manual_seed(team.rank)
agent = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))
agent[0].bias.requires_grad_(False)
weights = Weights(agent, types.SimpleNamespace(world_size=size, team=team))
said = {"weights": [p.tolist() for p in agent.parameters()], "rounds": []}
generator = torch.Generator().manual_seed(100 + team.rank)
for k in range(60):
    for index, p in enumerate(agent.parameters()):
        none = index == 1 or (index == 2 and k < 30)  # what does not learn, and what does not yet
        p.grad = None if none else torch.randn(p.shape, generator=generator)
    time.sleep(0.004 * float(torch.rand(1)))
    weights.gather_gradients()
    (flat,) = weights.flat
    said["rounds"].append(flat.grad.tolist())
open(f"{out}/{team.rank}.json", "w").write(json.dumps(said))
team.wait()
"""


@pytest.mark.parametrize(("size", "forks"), [(2, True), (3, True), (3, False)])
def test_gradients_are_means_over_the_ranks(size, forks, tmp_path):
    (tmp_path / "averaging.py").write_text(AVERAGING)
    process = begin(tmp_path / "averaging.py", size, tmp_path, forks, tmp_path=tmp_path)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    first, *others = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(size))
    assert all(other == first for other in others)
    torch.manual_seed(0)
    agent = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))
    assert first["weights"] == [p.tolist() for p in agent.parameters()]  # those of rank 0
    shapes = [tuple(p.shape) for p in agent.parameters()]
    generators = [torch.Generator().manual_seed(100 + rank) for rank in range(size)]
    for k, found in enumerate(first["rounds"]):
        expected = []  # each parameter fills whole cache lines of 16 numbers
        for index, shape in enumerate(shapes):
            if index == 1:
                continue
            drawn = [torch.zeros(shape)]
            if index != 2 or k >= 30:
                drawn = [torch.randn(shape, generator=generator) for generator in generators]
            mean = torch.stack(drawn).double().mean(0).flatten()
            expected += [*mean.tolist(), *[0.0] * (-len(mean) % 16)]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


# Forked ranks: what they have of the parent, what they do on a signal, and what the parent says of it.
FORKED = """
import json, os, signal, sys, time
import npp_rl.commands as commands
from npp_rl.training import ranks

commands.ENDING.append(commands.EndOnSignals())  # as in a script
commands.at_end(os.write, 1, b"rank 0 has ended,")
loaded = object()
print("begun", end=" ")  # is in the buffer of the output when the process forks
team = ranks.start(2)
if team.rank:
    print("not to be seen", flush=True)
    numbers = [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")]
    session = os.getsid(0) == os.getpid() and os.getsid(0) != os.getsid(os.getppid())
    open("said.json", "w").write(json.dumps([numbers, session, sys.stdin.read(), "loaded" in globals()]))
    team.wait()
    if sys.argv[1] == "end":
        sys.exit(0)
    if sys.argv[1] == "signal":
        os.kill(os.getpid(), signal.SIGTERM)
    if sys.argv[1] == "error":
        commands.fail("a reason", 3)
    time.sleep(60)
team.wait()
if sys.argv[1] == "parent":
    os.kill(os.getpid(), signal.SIGTERM)
if sys.argv[1] == "end":
    while not team.children[0].ended:
        time.sleep(0.01)
    team.children[0].kill()  # which does nothing now
    sys.exit(0)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["end", "signal", "error", "parent"])
def test_a_forked_rank_is_a_process_of_its_own(how, tmp_path):
    (tmp_path / "forked.py").write_text(FORKED)
    process = begin(tmp_path / "forked.py", how, tmp_path=tmp_path, cwd=tmp_path, stdin=subprocess.PIPE)
    said, errors = process.communicate(timeout=60)
    assert json.loads((tmp_path / "said.json").read_text()) == [["1", "2", "1", "2"], True, "", True]
    status, line = {
        "end": (0, ""),
        "signal": (143, "error: stopped by SIGTERM\n"),  # what the process said itself
        "error": (3, "error: a reason\n"),
        "parent": (143, "error: stopped by SIGTERM\n"),
    }[how]
    assert (process.returncode, errors) == (status, line)
    assert said.count("rank 0 has ended") == 1 and said.count("begun") <= 1 and "not to be seen" not in said
    assert not list((tmp_path / "temporary").glob("npp_rl_*"))
