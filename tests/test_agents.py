"""The eight agents at both sizes: shapes, gradients, initial policy, padding, autocast; slow ones: that each learns."""

import copy
import functools
import importlib
import json
import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from npp_rl import ARCHITECTURES
from npp_rl.agents import load_agent
from npp_rl.commands import ArgumentError
from npp_rl.environment.graph import GRAPH_OBSERVATIONS, GRAPH_SLOTS
from npp_rl.environment.observations import REACHABILITY
from npp_rl.evaluation import players, suite
from npp_rl.levels import datasets
from npp_rl.levels.generator import generate
from npp_rl.ppo_full_hgt import CNN, CrossModalAttention
from npp_rl.training import checkpoints, processes
from npp_rl.training.graph_tables import pack_graphs

GRAPH = [name for name in ARCHITECTURES if name not in ("mlp_cnn", "mlp_baseline")]
both_sizes = pytest.mark.parametrize("size", ["small", "full"])
all_eight = pytest.mark.parametrize("name", ARCHITECTURES)

PARAMETERS = {  # in thousands, at small and full size
    "full_hgt": (963, 13_978),
    "simplified_hgt": (228, 3_130),
    "gat": (680, 9_537),
    "gcn": (519, 6_975),
    "vision_free": (471, 5_723),
    "local_frames_only": (774, 10_968),
    "mlp_cnn": (441, 5_828),
    "mlp_baseline": (218, 436),
}


def script_of(name):
    return importlib.import_module(f"npp_rl.ppo_{name}")


def sized_args(name, size, **changes):
    """The script's arguments with every size that is not in `changes` as `--size` sets it."""
    script = script_of(name)
    args = script.Args(size=size, **changes)
    for field, value in script.SIZES[size].items():
        if getattr(args, field) is None:
            setattr(args, field, value)
    return args


def observations(rows=8, frame_stack=4, seed=0):
    """Random observations of all kinds, with missing nodes and nodes without edges."""
    rng = np.random.default_rng(seed)
    shapes = {"player_frames": (frame_stack, 84, 84), "global_view": (1, 100, 176), "local_tiles": (3, 15, 15)}
    x = {key: rng.integers(0, 256, (rows, *shape), dtype=np.uint8) for key, shape in shapes.items()}
    for key, shape in {
        "game_state": (34,),
        "reachability": (REACHABILITY,),
        "arcs": (9, 9),
        "graph_nodes": GRAPH_OBSERVATIONS["graph_nodes"][0],
    }.items():
        x[key] = rng.normal(size=(rows, *shape)).astype(np.float32)
    mask = rng.random((rows, len(x["graph_nodes"][0]))) < 0.8
    mask[:, GRAPH_SLOTS[1][1]] = True  # the ninja
    mask[:, GRAPH_SLOTS[2][1] + 4 : GRAPH_SLOTS[3][1]] = False  # mines are few
    x["graph_node_mask"] = mask.astype(np.uint8)
    for key in ("graph_adjacent", "graph_reachable"):
        x[key] = np.full((rows, *GRAPH_OBSERVATIONS[key][0]), -1, np.int16)
        for b, t in zip(*mask.nonzero(), strict=True):
            sources = rng.permutation(mask[b].nonzero()[0])[: rng.integers(5)]
            x[key][b, t, : len(sources)] = sources
    return {key: torch.from_numpy(array) for key, array in x.items()}


def agent_without_weights(name, size, **changes):
    """Agent on the `meta` device: shapes only."""
    args = sized_args(name, size, **changes)
    shapes = {key: tuple(value.shape[1:]) for key, value in observations(1, getattr(args, "frame_stack", 1)).items()}
    with torch.device("meta"):
        return script_of(name).Agent(shapes, args)


@functools.cache
def initial_agent(name, size):
    """Orthogonal weights of large layers take seconds: once for all tests, which get copies."""
    args = sized_args(name, size)
    x = observations(frame_stack=getattr(args, "frame_stack", 1))
    torch.manual_seed(0)
    agent = script_of(name).Agent({key: tuple(value.shape[1:]) for key, value in x.items()}, args)
    return agent, {key: x[key] for key in agent.observations}


def agent_and_observations(name, size="small"):
    agent, x = initial_agent(name, size)
    return copy.deepcopy(agent), x


def backward(agent, outputs):
    logits, value = outputs
    logprobs = torch.log_softmax(logits, 1)
    (logprobs[:, 0].sum() - (logprobs.exp() * logprobs).sum() + value.square().sum()).backward()
    return {key: parameter.grad for key, parameter in agent.named_parameters()}


@both_sizes
@all_eight
def test_forward_and_backward(name, size):
    agent, x = agent_and_observations(name, size)
    outputs = agent.heads(x)
    assert [tuple(t.shape) for t in outputs] == [(8, 6), (8,)]
    assert [t.dtype for t in outputs] == [torch.float32] * 2
    sampled = agent.get_action_and_value(x)
    assert [(tuple(t.shape), t.dtype) for t in sampled] == [((8,), torch.int64), *[((8,), torch.float32)] * 2]
    assert agent.encode(x).shape == (8, sized_args(name, size).features)
    with torch.no_grad():
        agent.actor.weight.mul_(100)  # at its initial gain hardly any gradient passes
    for key, gradient in backward(agent, agent.heads(x)).items():
        assert gradient is not None and gradient.isfinite().all(), key
        assert gradient.abs().max() > 1e-6, f"{key} has no part in the output"


@both_sizes
@all_eight
def test_initial_policy_and_heads(name, size):
    agent, x = agent_and_observations(name, size)
    with torch.no_grad():
        probabilities = torch.softmax(agent.get_logits(x), 1)
    assert (probabilities - 1 / 6).abs().max() < 0.02
    torch.testing.assert_close(agent.actor.weight @ agent.actor.weight.T, 1e-4 * torch.eye(6))  # gain 0.01
    torch.testing.assert_close(agent.critic.weight.norm(), torch.tensor(1.0))
    assert not agent.actor.bias.any() and not agent.critic.bias.any()


@both_sizes
@all_eight
def test_number_of_parameters(name, size):
    count = sum(parameter.numel() for parameter in agent_without_weights(name, size).parameters())
    assert round(count / 1000) == PARAMETERS[name][size == "full"]


@all_eight
def test_the_policy_reads_all_its_observations(name):
    """Other rows give other features, and so does each observation alone."""
    agent, x = agent_and_observations(name)
    features = agent.encode(x)
    assert (features.std(0) > 0).float().mean() > 0.5
    for key in agent.observations:
        if not key.startswith("graph_") or key == "graph_nodes":
            changed = agent.encode(x | {key: x[key].flip(0)})
            assert (changed != features).any(1).all(), key


@all_eight
def test_a_row_does_not_depend_on_its_batch(name):
    agent, x = agent_and_observations(name)
    alone = torch.cat([agent.get_logits({key: value[b : b + 1] for key, value in x.items()}) for b in range(8)])
    torch.testing.assert_close(agent.get_logits(x), alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", GRAPH)
def test_padding_does_not_leak(name, padded, monkeypatch):
    """Neither what missing nodes hold, nor what empty places of the edge lists hold, changes a bit of the output."""
    monkeypatch.setattr(script_of(name), "pack_graphs", functools.partial(pack_graphs, padded=padded))
    agent, x = agent_and_observations(name)
    missing = x["graph_node_mask"] == 0
    assert missing.any() and (x["graph_adjacent"] == -1).any()
    other = {key: value.clone() for key, value in x.items()}
    other["graph_nodes"][missing] = 1e4
    for key in ("graph_adjacent", "graph_reachable"):
        other[key][other[key] == -1] = -5
        other[key][missing] = 3
    features = agent.encode(x)
    assert torch.equal(features, agent.encode(other))
    other["graph_nodes"][0, GRAPH_SLOTS[1][1]] += 1
    assert not torch.equal(features[0], agent.encode(other)[0])
    assert torch.equal(features[1:], agent.encode(other)[1:])


@pytest.mark.parametrize("name", GRAPH)
def test_padded_graphs_give_the_same(name, monkeypatch):
    """What runs on GPUs, rows for all slots and gathered edges, gives what the compiled operations give."""
    agent, x = agent_and_observations(name)
    compiled = agent.encode_graph(x)
    monkeypatch.setattr(script_of(name), "pack_graphs", functools.partial(pack_graphs, padded=True))
    torch.testing.assert_close(agent.encode_graph(x), compiled, rtol=1e-4, atol=1e-5)


@both_sizes
@all_eight
def test_autocast(name, size):
    agent, x = agent_and_observations(name, size)
    expected = agent.get_value(x)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = agent.heads(x)
    assert [t.dtype for t in outputs] == [torch.float32] * 2
    torch.testing.assert_close(outputs[1], expected, rtol=0.1, atol=0.1)
    for key, gradient in backward(agent, outputs).items():
        assert gradient is not None and gradient.dtype == torch.float32 and gradient.isfinite().all(), key


@all_eight
def test_every_size_is_an_argument(name):
    """Sizes given beside `--size` win over it; all of them have an effect on the weights."""
    script = script_of(name)

    def weights(**changes):
        return [parameter.shape for parameter in agent_without_weights(name, "small", **changes).parameters()]

    for field, value in script.SIZES["small"].items():
        double = tuple(2 * n for n in value) if isinstance(value, tuple) else 2 * value
        assert weights(**{field: double}) != weights(), field
    assert script.SIZES["small"].keys() == script.SIZES["full"].keys()


def test_every_pixel_is_seen():
    """With positive weights no pixel of any frame is without effect, whatever strides and paddings leave over."""
    for shape in ((4, 84, 84), (12, 84, 84), (1, 100, 176)):
        cnn = CNN(shape, (2, 2, 2), 3)
        for parameter in cnn.parameters():
            nn.init.ones_(parameter)
        pictures = torch.ones(1, *shape, requires_grad=True)
        cnn(pictures * 1).sum().backward()
        assert (pictures.grad > 0).all()


def test_frame_stacks():
    for k in (1, 2, 4, 8, 12, 16):
        assert CNN((k, 84, 84), (8, 16, 32), 10)(torch.zeros(3, k, 84, 84, dtype=torch.uint8)).shape == (3, 10)
    for k in (3, 6, 7):
        with pytest.raises(ArgumentError, match=f"--frame-stack {k}: expected 1, 2 or a multiple of 4"):
            CNN((k, 84, 84), (8, 16, 32), 10)


def test_cross_modal_attention_equals_multihead_attention():
    """A layer norm, torch's MultiheadAttention with the same weights, and the residual."""
    torch.manual_seed(0)
    layer, tokens = CrossModalAttention(24, 4), torch.randn(6, 5, 24)
    reference = nn.MultiheadAttention(24, 4, batch_first=True)
    with torch.no_grad():
        layer.norm.weight.uniform_(0.5, 2)
        reference.in_proj_weight.copy_(layer.qkv.weight)
        reference.in_proj_bias.zero_()
        reference.out_proj.weight.copy_(layer.out.weight)
        reference.out_proj.bias.copy_(layer.out.bias.normal_())
    normed = nn.functional.layer_norm(tokens, (24,), layer.norm.weight)
    torch.testing.assert_close(layer(tokens), tokens + reference(normed, normed, normed)[0])
    with pytest.raises(ArgumentError, match="--fusion-heads 5: expected a divisor of --features 24"):
        CrossModalAttention(24, 5)


@all_eight
def test_heads_must_divide_the_width(name):
    fields = {"graph_heads": "--graph-hidden", "fusion_heads": "--features"}
    for field, width in fields.items():
        if hasattr(script_of(name).Args, field):
            flag = f"--{field.replace('_', '-')} 7: expected a divisor of {width} "
            with pytest.raises(ArgumentError, match=re.escape(flag)):
                agent_without_weights(name, "small", **{field: 7})


def run(name, tmp_path, monkeypatch, size_of_suite=20, **changes):
    """Train on `simplest` levels, with suites of so many -> the lines of metrics.jsonl."""
    levels = [generate("simplest", seed) for seed in range(60 + 2 * size_of_suite)]
    split = levels[:60], levels[60 : 60 + size_of_suite], levels[60 + size_of_suite :]
    monkeypatch.setattr(datasets, "load_split", lambda *_: split)
    monkeypatch.setattr(suite, "BATCH", size_of_suite)  # an untrained agent plays long, and every call has all rows
    settings = {"cuda": False, "size": "small", "num_envs": 32, "num_steps": 32, "num_minibatches": 32}
    settings |= {"evaluations": 0, "fresh_levels": 0}
    run_dir = script_of(name).main(script_of(name).Args(run_dir=str(tmp_path / name), **(settings | changes)))
    return run_dir, [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_float16_has_its_loss_scaled(tmp_path, monkeypatch):
    """What GPUs without bfloat16 do: a scale too large for the gradients is halved, and those updates are left out."""
    begin = processes.begin
    monkeypatch.setattr(processes, "begin", lambda *words: begin(*words)._replace(amp_dtype=torch.float16))
    changes = {"mixed_precision": True, "max_grad_norm": 1e9}
    scaler = functools.partial(torch.amp.GradScaler, init_scale=2.0**40)
    monkeypatch.setattr(torch.amp, "GradScaler", scaler)
    run_dir, lines = run("mlp_baseline", tmp_path, monkeypatch, size_of_suite=2, total_timesteps=2048, **changes)
    latest = checkpoints.load(run_dir / "checkpoints/latest.pt")
    assert 1.0 < latest["scaler"]["scale"] < 2.0**40
    assert all(weight.isfinite().all() for weight in latest["agent"].values())
    assert [line["losses/entropy"] for line in lines if line["kind"] == "train"][-1] < math.log(6)


def tries_won(policy, levels, **kwargs):
    """Shares of four tries a level with sampled actions that were won at all, and within 60 steps."""
    results = suite.evaluate(policy, levels, deterministic=False, tries=4, examined=False, **kwargs)
    tries = [outcome for level in results["levels"] for outcome in level["tries"]]
    return [np.mean([t["success"] and t["steps"] <= steps for t in tries]) for steps in (10_000, 60)]


@pytest.mark.slow
@all_eight
def test_learns_within_20000_steps(name, tmp_path, monkeypatch):
    """Sampled play of 50 unseen levels of the simplest kind against uniformly random play: 200 tries each.

    Random play wins half of these levels some time, so that it is also asked how many are won soon. The margin is seven
    standard errors. Greedy play says little after so few steps: it gets stuck where two actions are worth the same.
    """
    settings = {"update_epochs": 3, "ent_coef": 0.003}  # the defaults are for longer runs
    run_dir, _ = run(name, tmp_path, monkeypatch, size_of_suite=50, total_timesteps=20_480, **settings)
    levels = [generate("simplest", seed) for seed in range(110, 160)]
    agent, args = load_agent(run_dir / "checkpoints/latest.pt")
    stack = {"frame_stack": args["frame_stack"]} if "frame_stack" in args else {}
    policy = players.agent_policy(agent, torch.device("cpu"))
    won, soon = tries_won(policy, levels, observations=agent.observations, **stack)
    random_won, random_soon = tries_won(
        lambda _: np.zeros((len(levels), 6), np.float32), levels, observations=("game_state",)
    )
    print(f"{name}: won {won:.1%}, within 60 steps {soon:.1%}; random play {random_won:.1%}, {random_soon:.1%}")
    assert won > random_won + 0.3 and soon > random_soon + 0.3


@pytest.mark.slow
def test_mixed_precision_learns_as_well(tmp_path, monkeypatch):
    """Success and length of the sampled episodes of the last ten of 80 iterations, some hundreds.

    Not the success of the greedy policy on unseen levels: after so few steps it stands at 50 to 80%, and two seeds
    differ by 20% in float32 too.
    """
    settings = {"update_epochs": 3, "ent_coef": 0.003, "total_timesteps": 81_920}
    success, length = [], []
    for mixed in (False, True):
        _, lines = run("mlp_baseline", tmp_path / str(mixed), monkeypatch, mixed_precision=mixed, **settings)
        last = [line for line in lines if line["kind"] == "train"][-10:]
        success.append(np.mean([line["charts/success_rate"] for line in last]))
        length.append(np.mean([line["charts/episodic_length"] for line in last]))
        assert success[-1] > 0.9 and length[-1] < 65, (mixed, success, length)
    assert abs(success[0] - success[1]) <= 0.05


@pytest.mark.slow
@all_eight
def test_compiled_networks_give_the_same(name):
    agent, x = agent_and_observations(name)
    expected = agent.heads(x)
    agent.heads = torch.compile(agent.heads)
    outputs = agent.heads(x)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    assert all(gradient.isfinite().all() for gradient in backward(agent, outputs).values())
