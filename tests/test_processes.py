"""Whole runs as processes of their own: killed and resumed, mirrored to wandb offline, two ranks under torchrun."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from wandb_file import read_run

from npp_rl import make_levels
from npp_rl.agents import load_agent
from npp_rl.training import checkpoints, processes

SCRIPT = Path(__file__).parents[1] / "npp_rl/ppo_mlp_baseline.py"
SMALL = ["--num-envs", "16", "--num-steps", "32", "--num-minibatches", "4", "--evaluations", "0"]
SMALL += ["--total-timesteps", "8192", "--save-freq", "512", "--validation-fraction", "0", "--fresh-levels", "0"]


@pytest.fixture(scope="module")
def levels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels") / "set"
    make_levels.main(make_levels.Args(out=folder, categories=("simplest",), split="train", count=12))
    return ["--train-dataset", str(folder), "--test-dataset", str(folder)]


def command(levels, run_dir, *more):
    return [sys.executable, str(SCRIPT), *SMALL, *levels, "--run-dir", str(run_dir), *more]


def finish(words, **environment):
    done = subprocess.run(words, env=os.environ | environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done


def weights(run_dir):
    return checkpoints.load(run_dir / "checkpoints/latest.pt")["agent"]


@pytest.fixture(scope="module")
def tracked(levels, tmp_path_factory):
    """A folder with a whole run, `run`, that was mirrored to wandb offline."""
    pytest.importorskip("wandb")
    folder = tmp_path_factory.mktemp("tracked")
    places = {name: str(folder / name.lower()) for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")}
    tags = ("--wandb-tags", "night", "two", "--wandb-project-name", "mazes")
    finish(command(levels, folder / "run", "--track", *tags), WANDB_MODE="offline", WANDB_SILENT="true", **places)
    return folder


def test_a_killed_run_resumes_to_the_same_weights(levels, tracked, tmp_path):
    process = subprocess.Popen(command(levels, tmp_path / "killed"), stdout=subprocess.DEVNULL)
    latest = tmp_path / "killed/checkpoints/latest.pt"
    deadline = time.monotonic() + 300
    while not latest.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert checkpoints.load(latest)["counters"]["global_step"] < 8192
    finish([sys.executable, str(SCRIPT), "--resume", str(tmp_path / "killed")])
    whole, resumed = weights(tracked / "run"), weights(tmp_path / "killed")
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)
    for name in ("metrics.jsonl", "report.md"):
        assert (tmp_path / "killed" / name).stat().st_size > 0


def test_wandb_offline_holds_the_run(tracked):
    run, kept = read_run(tracked), json.loads((tracked / "run/config.json").read_text())
    assert (run["project"], run["group"], run["tags"]) == ("mazes", "mlp_baseline", ["night", "two"])
    assert run["name"] == "ppo_mlp_baseline__1__run"
    config = {key: value for key, value in run["config"].items() if key != "_wandb"}
    assert config == kept and config["args"]["learning_rate"] == 1e-3

    lines = [json.loads(line) for line in (tracked / "run/metrics.jsonl").open()]
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
        assert Path(path).read_bytes() == (tracked / "run" / sources.get(file, file)).read_bytes()


TWO_RANKS = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

# A rank that keeps the batch of its first update, and the weights before it.
KEEPING_RANK = """
import os, sys, torch
from npp_rl import commands, ppo_mlp_baseline
randperm = torch.randperm

def keep(n, **where):
    if n > 1:
        frame = sys._getframe(1)
        while "b_obs" not in frame.f_locals:  # through the generators of minibatches
            frame = frame.f_back
        loop = frame.f_locals
        kept = {name: loop[name] for name in ("b_obs", "b_actions", "b_logprobs", "b_advantages", "b_returns")}
        weights = {name: value.clone() for name, value in loop["agent"].state_dict().items()}
        torch.save({**kept, "weights": weights}, f"{loop['run_dir']}/../rank{os.environ['RANK']}.pt")
    return randperm(n, **where)

torch.randperm = keep
commands.command(ppo_mlp_baseline.main, ppo_mlp_baseline.Args)
"""


def test_an_update_of_two_ranks_is_that_of_one_process_on_both_batches(levels, tmp_path):
    """The loss of the joined batch is written out here once more, in its plain form."""
    (tmp_path / "rank.py").write_text(KEEPING_RANK)
    one_update = ["--total-timesteps", "512", "--num-minibatches", "1", "--update-epochs", "1", "--threads", "1"]
    arguments = [*command(levels, tmp_path / "run", "--no-cuda", "--save-freq", "0")[2:], *one_update]
    finish([*TWO_RANKS, str(tmp_path / "rank.py"), *arguments])
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert all(torch.equal(value, ranks[1]["weights"][name]) for name, value in ranks[0]["weights"].items())
    assert not torch.equal(ranks[0]["b_actions"], ranks[1]["b_actions"])
    x = {key: torch.cat([rank["b_obs"][key] for rank in ranks]) for key in ranks[0]["b_obs"]}
    actions, old_logprobs, advantages, returns = (
        torch.cat([rank[name] for rank in ranks]) for name in ("b_actions", "b_logprobs", "b_advantages", "b_returns")
    )
    agent, args = load_agent(tmp_path / "run/checkpoints/latest.pt")
    after = {name: value.clone() for name, value in agent.state_dict().items()}
    agent.load_state_dict(ranks[0]["weights"])
    optimizer = torch.optim.Adam(agent.parameters(), lr=args["learning_rate"], eps=1e-5)
    logits, value = agent.heads(x)
    policy = torch.distributions.Categorical(logits=logits)
    advantages = (advantages - advantages.mean()) / advantages.std()
    ratio = (policy.log_prob(actions) - old_logprobs).exp()
    gain = torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
    loss = -gain - args["ent_coef"] * policy.entropy().mean() + 0.5 * args["vf_coef"] * (value - returns).pow(2).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(agent.parameters(), args["max_grad_norm"])
    optimizer.step()
    for name, expected in agent.state_dict().items():
        step = (expected - ranks[0]["weights"][name]).abs().max()
        assert step > 0 and (after[name] - expected).abs().max() < 1e-3 * step, name


# Two ranks that see different clocks, get a signal, and evaluate together.
TOGETHER = """
import atexit, glob, json, os, sys, types
import numpy as np
import torch
from npp_rl.evaluation import suite
from npp_rl.levels.generator import generate
from npp_rl.ppo_mlp_baseline import SIZES, Args
from npp_rl.training import processes

said = {}

@atexit.register
def write():  # after all that is registered later
    said["threads"] = [open(path).read().strip() for path in glob.glob("/proc/self/task/*/comm")]
    open(f"{sys.argv[1]}/said{process.rank}.json", "w").write(json.dumps(said))

process = processes.begin(Args(threads=1, cuda=False), SIZES)
if process.world_size > 1:
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))  # keeps the group alive past leave()
stop = types.SimpleNamespace(number=0)
said |= {"progress": processes.agree((0.25, 0.75)[process.rank], stop, process), "signal": stop.number}
all_reduce = torch.distributed.all_reduce

def signalled(*words):  # a signal arrives at rank 1 while it waits
    stop.number = 10 if process.rank == 1 else stop.number
    all_reduce(*words)

torch.distributed.all_reduce = signalled
said["least"] = processes.agree((0.5, 0.25)[process.rank], stop, process)
torch.distributed.all_reduce = all_reduce
said["next"] = processes.agree(0.5, stop, process)
stop.number = 0
calls = []

def policy(observations):
    x = observations["game_state"]
    calls.append(len(x))
    return np.stack([x[:, 0], x[:, 1], x[:, 2], np.abs(x).sum(1) % 1, x[:, 3], x[:, 4]], 1).astype(np.float32)

levels = [generate("simplest", seed) for seed in range(45)]
rules = {"observations": ("game_state",), "deterministic": False, "tries": 2, "seed": 3}
said["results"] = suite.evaluate(policy, levels, **rules)
said["rows"], said["per_row"] = sum(calls), suite.levels_per_row(levels)
stop.number = 15 if process.rank == 1 else 0
said["stopped"] = suite.evaluate(policy, levels[:32], **rules, stop=stop)
said["signal"] = stop.number
processes.leave()
model = None  # must not wait for the group's threads
"""


def test_ranks_decide_and_evaluate_together(tmp_path):
    """Rank 0's clock counts, any rank's signal does. Each rank plays its share; all get what one process gets."""
    (tmp_path / "together.py").write_text(TOGETHER)
    finish([sys.executable, str(tmp_path / "together.py"), str(tmp_path)])
    alone = json.loads((tmp_path / "said0.json").read_text())
    finish([*TWO_RANKS, str(tmp_path / "together.py"), str(tmp_path)])
    one, two = (json.loads((tmp_path / f"said{rank}.json").read_text()) for rank in (0, 1))
    assert one["progress"] == two["progress"] == [0.25, False] and one["least"] == two["least"] == [0.5, False]
    assert one["next"] == two["next"] == [0.5, True]
    assert one["signal"] == two["signal"] == 15
    assert one["results"] == two["results"] == alone["results"]
    assert len(alone["results"]["levels"]) == 45
    assert one["rows"] < alone["rows"] and two["rows"] < alone["rows"]
    assert (alone["per_row"], one["per_row"]) == (3, 2)
    assert one["stopped"] is two["stopped"] is None and alone["stopped"] is not None
    assert not [name for name in one["threads"] + two["threads"] if "gloo" in name]


def test_a_killed_rank_ends_the_job_which_can_be_resumed(levels, tmp_path):
    """And both ranks of the resumed job play games of their own to the end."""
    words = command(levels, tmp_path / "run", "--threads", "1", "--total-timesteps", "16384")[1:]
    job = subprocess.Popen([*TWO_RANKS, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    latest = tmp_path / "run/checkpoints/latest.pt"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if latest.exists() and checkpoints.load(latest)["counters"]["global_step"]:
            break
        time.sleep(0.05)
    ranks = [int(pid) for pid in Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()]
    victim = next(pid for pid in ranks if b"\0RANK=1\0" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes())
    os.kill(victim, signal.SIGKILL)
    _, errors = job.communicate(timeout=120)
    assert job.returncode != 0 and "SIGKILL" in errors
    step = checkpoints.load(latest)["counters"]["global_step"]
    assert 0 < step < 16384
    resumed = [str(SCRIPT), "--resume", str(tmp_path / "run")]
    finish([*TWO_RANKS, *resumed])
    checkpoint = checkpoints.load(latest)
    assert len(checkpoint["ranks"]) == 2 and checkpoint["counters"]["global_step"] == 16384
    one, two = (rank["arrays"] for rank in checkpoint["ranks"])
    assert checkpoints.unpack(one)["rows"].shape[0] == 8  # 16 environments are divided
    assert (checkpoints.unpack(one)["rows"] != checkpoints.unpack(two)["rows"]).any()
    assert (tmp_path / "run/report.md").is_file()


def test_large_arrays_are_locked_until_they_are_freed(monkeypatch):
    """What happens on a GPU, with a library that only notes its calls."""
    locked, calls = {}, []

    class Library:
        def cudaHostRegister(self, address, size, flags):
            assert address not in locked and flags == 0
            locked[address] = size
            return 0

        def cudaHostUnregister(self, address):
            calls.append(locked.pop(address))

    monkeypatch.setattr(torch.cuda, "cudart", Library)
    monkeypatch.setattr(torch.cuda, "check_error", lambda status: None)
    arrays = {"large": np.zeros(2**18, np.uint8), "small": np.zeros(2**10, np.uint8)}
    processes.pin(arrays, torch.device("cpu"))
    assert not locked
    processes.pin(arrays, torch.device("cuda"))
    assert list(locked.values()) == [2**18] and not calls
    del arrays
    gc.collect()
    assert calls == [2**18] and not locked
