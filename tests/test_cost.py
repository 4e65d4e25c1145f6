"""What agents cost: operations counted by hand, times in order, memory of a process of its own."""

import json

import pytest
import torch

from npp_rl import ppo_full_hgt, ppo_gat, ppo_gcn, ppo_mlp_baseline
from npp_rl.commands import ArgumentError
from npp_rl.environment.graph import GRAPH_SLOTS
from npp_rl.evaluation import cost, summary
from npp_rl.levels.categories import CATEGORIES
from npp_rl.training import checkpoints

SHAPES = cost.observation_shapes(ppo_mlp_baseline.Agent.observations)
SIZES = {"hidden": 24, "tiles_hidden": 16, "features": 40}


@pytest.fixture(scope="module")
def agent():
    return ppo_mlp_baseline.Agent(SHAPES, ppo_mlp_baseline.Args(**SIZES))


def test_operations_of_an_mlp_are_those_of_its_matrices(agent):
    products = sum(module.in_features * module.out_features for module in agent.modules() if has_weights(module))
    unused = agent.critic.in_features * agent.critic.out_features
    assert cost.count_flops(agent, SHAPES) in (2 * products, 2 * (products - unused))


def has_weights(module):
    return isinstance(module, torch.nn.Linear)


def test_operations_of_one_layer_by_hand():
    class One(torch.nn.Module):
        """A convolution 1 -> 3 channels of 5 x 5 over 84 x 84 pictures of two frames, then a matrix product."""

        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(2, 3, 5, stride=4)
            self.linear = torch.nn.Linear(3, 6)

        def get_logits(self, x):
            return self.linear(self.conv(x["player_frames"].float()).mean((2, 3)))

    shapes = cost.observation_shapes(("player_frames",), 2)
    assert shapes == {"player_frames": (2, 84, 84)}
    assert cost.count_flops(One(), shapes) == 2 * (20 * 20 * 3 * 2 * 5 * 5) + 2 * 3 * 6


@pytest.mark.parametrize("script", [ppo_gcn, ppo_gat, ppo_full_hgt])
def test_operations_of_graph_layers_are_counted(script):
    """Those of attention and sums too, which the compiled kernels would hide: each layer more costs the same."""
    shapes = cost.observation_shapes(script.Agent.observations)
    counts = []
    for layers in (0, 1, 2):
        sizes = dict(script.SIZES["small"]) | {"graph_layers": layers}
        counts.append(cost.count_flops(script.Agent(shapes, script.Args(**sizes)), shapes))
    nodes, width = sum(count for _, _, count in GRAPH_SLOTS), script.SIZES["small"]["graph_hidden"]
    assert counts[2] - counts[1] == counts[1] - counts[0] > 2 * nodes * width * width


def test_cost(agent, monkeypatch):
    monkeypatch.setattr(cost, "CALLS", (20, 20))
    agent.train()
    measured = cost.cost(agent, SHAPES, torch.device("cpu"))
    assert agent.training
    assert measured["parameters"] == sum(p.numel() for p in agent.parameters())
    assert measured["flops"] == cost.count_flops(agent, SHAPES)
    assert list(measured["latency_ms"]) == ["1", "256"]
    for times in measured["latency_ms"].values():
        assert 0 < times["p50"] <= times["p99"] and times["calls"] == 20
    assert measured["peak_memory_mb"] > 50
    assert (measured["device"], measured["threads"]) == ("cpu", torch.get_num_threads())
    json.dumps(measured, allow_nan=False)


@pytest.mark.slow
def test_cost_in_a_process_of_its_own(agent, tmp_path, monkeypatch):
    args = {"exp_name": "ppo_mlp_baseline", **SIZES}
    shapes = {name: list(shape) for name, shape in SHAPES.items()}
    checkpoint = {"architecture": "mlp_baseline", "args": args, "observation_shapes": shapes}
    checkpoints.save(tmp_path / "best.pt", {**checkpoint, "agent": agent.state_dict()})
    ballast = torch.ones(2**27)  # half a GiB that is not the agent's
    own = cost.cost_apart([str(tmp_path / "best.pt")] * 2, "cpu")
    assert own["threads"] == 1 and own["peak_memory_mb"] < cost._peak_memory() - 200
    assert own["parameters"] == 2 * sum(p.numel() for p in agent.parameters())
    assert own["flops"] == 2 * cost.count_flops(agent, SHAPES)
    del ballast
    with pytest.raises(ArgumentError, match=r"--cost: measuring .*missing\.pt failed: error: .*no such"):
        cost.cost_apart([str(tmp_path / "missing.pt")], "cpu")


def test_report_and_comparison_show_cost_and_gap():
    part = {"levels": 9, "success_rate": 0.5, "success_low": 0.2, "success_high": 0.8, "frames": None, "steps": None}
    part |= {"efficiency": None, "par_efficiency": None, "death_rate": 0.5, "timeout_rate": 0.0, "near_misses": 0.25}
    part |= {"never_solved": 0, "solvable": {"levels": 9}, "failures": {}, "deaths": {}, "episodes": 9}
    plain = {
        "overall": part,
        "by_category": dict.fromkeys(CATEGORIES, part),
        "by_tier": {"easy": part},
        "by_group": {"static": part},
        "levels": [],
        "settings": {"deterministic": True},
    }
    times = {"1": {"p50": 0.5, "p99": 1.25}, "256": {"p50": 8.0, "p99": 9.0}}
    full = plain | {
        "generalisation": {"train": part | {"success_rate": 0.625}, "gap": 0.125, "gap_low": -0.2, "gap_high": 0.4},
        "cost": {"parameters": 1234, "flops": 2_500_000, "latency_ms": times, "peak_memory_mb": 400.0}
        | {"device": "cpu", "threads": 2},
    }
    text = summary.report(full, "title", {"a": "b"})
    assert "a gap of 12.5 points (95% interval -20.0 to 40.0)" in text
    assert "1,234 parameters, 2.50 million operations" in text and "256 at once 8 ms (99th percentile 9)" in text
    assert "Cost" not in summary.report(plain, "title", {}) and "gap" not in summary.report(plain, "title", {})
    lines = summary.comparison({"one": full, "two": plain}).splitlines()
    assert lines[0].endswith("| gap | parameters | Mflop | ms (1) | ms (256) |")
    assert "| 12.5% | 1,234 | 2.50 | 0.5 | 8 |" in lines[2]
    assert len({line.count("|") for line in lines}) == 1
    assert summary.report is summary.report
