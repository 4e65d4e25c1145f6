"""What only a GPU can show: the same numbers as on a CPU, training, compiled networks in CUDA graphs, resumed runs."""

import copy
import functools
import gc
import importlib
import json
import math
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from npp_rl import ARCHITECTURES, bc_pretrain, make_levels
from npp_rl.agents import load_agent
from npp_rl.environment.env import NppVectorEnv
from npp_rl.evaluation import __main__ as evaluation_command
from npp_rl.evaluation import cost
from npp_rl.levels import datasets
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.generator import generate
from npp_rl.planning import planner
from npp_rl.training import checkpoints, processes
from npp_rl.training.arguments import parse_args
from npp_rl.training.cuda_graph import WARM_UP, Graphed
from npp_rl.training.weights import Weights

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
all_eight = pytest.mark.parametrize("name", ARCHITECTURES)
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def settings_as_before():
    precision, deterministic = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = True
    torch.use_deterministic_algorithms(deterministic, warn_only=True)


def script_of(name):
    return importlib.import_module(f"npp_rl.ppo_{name}")


def agent_and_observations(name, size, rows=16):
    """An agent with random weights, larger than at the start in its heads, and observations of levels of all kinds."""
    script = script_of(name)
    args = script.Args(**script.SIZES[size])
    stack = {"frame_stack": args.frame_stack} if hasattr(args, "frame_stack") else {}
    levels = [generate(category, 0) for category in CATEGORIES]
    envs = NppVectorEnv(rows, levels, script.Agent.observations, seed=0, **stack)
    x, _ = envs.reset(seed=0)
    for actions in np.random.default_rng(0).integers(0, 6, (8, rows)):
        x = envs.step(actions)[0]
    torch.manual_seed(0)
    agent = script.Agent({key: value.shape[1:] for key, value in x.items()}, args)
    with torch.no_grad():
        agent.actor.weight.mul_(100)
    return agent, {key: torch.from_numpy(value) for key, value in x.items()}


def gradients(agent, x):
    """Logits and values of a loss, and its gradients by parameter."""
    agent.zero_grad()
    logits, value = agent.heads(x)
    (torch.log_softmax(logits, 1)[:, 0].mean() + value.square().mean()).backward()
    return logits, value, {name: parameter.grad for name, parameter in agent.named_parameters()}


@all_eight
@pytest.mark.parametrize("size", ["small", "full"])
def test_gpu_and_cpu_agree(name, size):
    """In float32 throughout (no TF32), forward and backward, though graphs take other ways there."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    agent, x = agent_and_observations(name, size)
    *outputs, expected = gradients(agent, x)
    expected = {key: value.clone() for key, value in expected.items()}
    *on_gpu, grads = gradients(agent.to(CUDA), {key: value.to(CUDA) for key, value in x.items()})
    for ours, theirs in zip(on_gpu, outputs, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-3, atol=1e-4)
    for key, gradient in grads.items():
        scale = expected[key].abs().max().item()
        assert (gradient.cpu() - expected[key]).abs().max().item() <= 2e-3 * scale + 1e-6, key


@pytest.fixture
def few_levels(monkeypatch):
    levels = [generate("simplest", seed) for seed in range(10)]
    monkeypatch.setattr(datasets, "load_split", lambda *_: (levels[:6], levels[6:8], levels[8:]))


def trained(name, run_dir, **changes):
    """Run a script, or go on with what is there -> its folder and its lines of training."""
    settings = {"num_envs": 32, "num_steps": 32, "num_minibatches": 4, "total_timesteps": 4096, "fresh_levels": 0}
    settings |= {
        "evaluations": 2,
        "save_freq": 1024,
        "threads": 2,
        "resume" if run_dir.exists() else "run_dir": str(run_dir),
    }
    run_dir = script_of(name).main(script_of(name).Args(**(settings | changes)))
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return run_dir, [line for line in lines if line["kind"] == "train"]


@all_eight
@pytest.mark.parametrize("mixed", [False, True])
def test_trains_at_full_size(name, mixed, tmp_path, few_levels):
    run_dir, lines = trained(name, tmp_path / "run", mixed_precision=mixed)
    assert [line["global_step"] for line in lines] == [1024, 2048, 3072, 4096]
    assert all(math.isfinite(line["losses/policy_loss"]) for line in lines)
    assert lines[-1]["losses/entropy"] < math.log(6) and lines[-1]["system/gpu_memory_mib"] > 0
    config = json.loads((run_dir / "config.json").read_text())
    assert config["args"]["size"] == "full" and config["device"] == torch.cuda.get_device_name()
    agent, args = load_agent(run_dir / "checkpoints/best.pt")  # on the CPU
    assert args["size"] == "full" and all(p.device.type == "cpu" for p in agent.parameters())


@all_eight
@pytest.mark.parametrize("compiled", [False, True])
def test_cuda_graphs_give_the_same(name, compiled):
    """A graph of forward pass, backward pass and optimizer does what the calls do, on other observations each time."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    agent, x = agent_and_observations(name, "small")
    agents = [agent.to(CUDA), copy.deepcopy(agent).to(CUDA)]
    x = {key: value.to(CUDA) for key, value in x.items()}
    steps = []
    for one in agents:
        weights = Weights(one, types.SimpleNamespace(world_size=1, team=None))
        rate = torch.tensor(1e-3, device=CUDA)
        optimizer = torch.optim.Adam(weights.flat, lr=rate, eps=1e-5, fused=True, capturable=True)
        if compiled and one is agents[1]:
            one.heads = torch.compile(one.heads)

        def step(rows, scale, one=one, weights=weights, optimizer=optimizer):
            logits, value = one.heads(rows)
            (torch.log_softmax(logits, 1)[:, 0].mean() + scale * value.square().mean()).backward()
            weights.gather_gradients()
            optimizer.step()
            return logits.detach(), value.detach()

        steps.append(step)
    graphed = Graphed(steps[1])
    for k in range(3 * WARM_UP):
        rows, scale = {key: value.roll(k, 0) for key, value in x.items()}, torch.tensor(0.1 * k, device=CUDA)
        for ours, theirs in zip(graphed(rows, scale), steps[0](rows, scale), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    for key, value in agents[0].state_dict().items():
        torch.testing.assert_close(agents[1].state_dict()[key], value, rtol=1e-2, atol=1e-3, msg=key)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ["mlp_baseline", "full_hgt"])
def test_trains_with_cuda_graphs(name, compiled, tmp_path, few_levels):
    """Also from where it was interrupted, with a learning rate that falls."""
    changes = {"mixed_precision": True, "compile": compiled, "cudagraphs": True}
    _, lines = trained(name, tmp_path / "run", **changes)
    assert lines[-1]["global_step"] == 4096 and lines[-1]["losses/entropy"] < math.log(6)
    assert all(math.isfinite(line["losses/policy_loss"]) for line in lines)
    rates = [line["charts/learning_rate"] for line in lines]
    assert rates == sorted(rates, reverse=True) and rates[-1] < rates[0]
    _, lines = trained(name, tmp_path / "run", **changes, total_timesteps=6144)
    assert lines[-1]["global_step"] == 6144 and math.isfinite(lines[-1]["losses/policy_loss"])


@pytest.mark.parametrize("name", ["mlp_baseline", "full_hgt", "gat"])
def test_resumed_run_equals_uninterrupted_run(name, tmp_path, few_levels, monkeypatch):
    """Bit for bit, in mixed precision, interrupted right after a checkpoint and once more later."""
    straight, _ = trained(name, tmp_path / "straight", mixed_precision=True)
    save = checkpoints.save
    for at in (1024, 3072):

        def interrupted_save(path, checkpoint, at=at):
            save(path, checkpoint)
            if path.name == "latest.pt" and checkpoint["counters"]["global_step"] == at:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(checkpoints, "save", interrupted_save)
            trained(name, tmp_path / "broken", mixed_precision=True)
    broken, _ = trained(name, tmp_path / "broken", mixed_precision=True)
    ends = [checkpoints.load(folder / "checkpoints/latest.pt") for folder in (straight, broken)]
    assert ends[0]["counters"]["global_step"] == ends[1]["counters"]["global_step"] == 4096
    for key, weight in ends[0]["agent"].items():
        assert torch.equal(weight, ends[1]["agent"][key]), key


def test_float16_has_its_loss_scaled(tmp_path, few_levels, monkeypatch):
    """As on GPUs without bfloat16: updates with too large a scale are left out, and the scale is halved."""
    begin = processes.begin
    monkeypatch.setattr(processes, "begin", lambda *words: begin(*words)._replace(amp_dtype=torch.float16))
    monkeypatch.setattr(torch.amp, "GradScaler", functools.partial(torch.amp.GradScaler, init_scale=2.0**40))
    run_dir, lines = trained("full_hgt", tmp_path / "run", mixed_precision=True, num_minibatches=16)
    latest = checkpoints.load(run_dir / "checkpoints/latest.pt")
    assert 1.0 < latest["scaler"]["scale"] < 2.0**40
    assert all(weight.isfinite().all() for weight in latest["agent"].values())
    assert lines[-1]["losses/entropy"] < math.log(6)


def test_evaluation_and_cost_on_the_gpu(tmp_path, few_levels, capsys):
    run_dir, _ = trained("simplified_hgt", tmp_path / "run")
    checkpoint = str(run_dir / "checkpoints/best.pt")
    suite = tmp_path / "suite"
    make_levels.main(make_levels.Args(out=suite, split="test", count=1))
    words = ["--checkpoint", checkpoint, "--test-dataset", str(suite), "--output", str(tmp_path / "results")]
    evaluation_command.main(parse_args(evaluation_command.Args, [*words, "--device", "cuda"]))
    results = json.loads((tmp_path / "results/eval_results.json").read_text())
    assert results["overall"]["levels"] == 9
    agent, args = load_agent(checkpoint, CUDA)
    shapes = cost.observation_shapes(agent.observations, args["frame_stack"])
    measured = cost.cost(agent, shapes, CUDA)
    assert measured["device"] == torch.cuda.get_device_name() and measured["peak_gpu_memory_mb"] > 0
    assert 0 < measured["latency_ms"]["256"]["p50"] < 1000


def test_cloning_on_the_gpu(tmp_path, few_levels):
    """The planner's recorded wins of built-in levels are what there always is to imitate."""
    replays = tmp_path / "replays"
    suite = tmp_path / "levels"
    make_levels.main(make_levels.Args(out=suite, split="train", count=1))
    planner.main(planner.Args(str(suite), replays, budget="5s"))
    settings = {"arch": "full_hgt", "epochs": 2, "batch_size": 64, "cache_dir": "", "mixed_precision": True}
    settings |= {"replay_data_dir": (str(replays),), "run_dir": str(tmp_path / "bc")}
    run_dir = Path(bc_pretrain.main(bc_pretrain.Args(**settings)))
    pretrained = str(run_dir / "checkpoints/best.pt")
    changes = {"pretrained_checkpoint": pretrained, "kl_coef": 0.5}
    _, lines = trained("full_hgt", tmp_path / "run", **changes, mixed_precision=True)
    assert math.isfinite(lines[-1]["losses/pretrained_kl"])


def test_arrays_are_locked_until_they_are_freed():
    for _ in range(3):  # at the same address, as like as not
        arrays = {"large": np.zeros(2**20, np.float32), "small": np.zeros(8, np.float32)}
        processes.pin(arrays, CUDA)
        assert torch.from_numpy(arrays["large"]).is_pinned()
        del arrays
        gc.collect()
