"""Pretrained agents of other sizes and architectures: what is loaded, what is said, what can be frozen."""

import dataclasses
import importlib

import pytest
import torch
from made_agents import made_run

from npp_rl import export
from npp_rl.agents import load_agent
from npp_rl.commands import ArgumentError, CheckpointError
from npp_rl.environment.games import OBSERVATIONS
from npp_rl.training import checkpoints
from npp_rl.training.pretraining import Pretraining

TINY = {"hidden": 8, "tiles_hidden": 8, "features": 8}


def new_agent(name="mlp_baseline", seed=1, **changes):
    """A new agent with its script's arguments, sizes of `--size small` where `changes` has none."""
    script = importlib.import_module(f"npp_rl.ppo_{name}")
    own = {field.name for field in dataclasses.fields(script.Args)}
    sizes = {**script.SIZES["small"], **{key: value for key, value in changes.items() if key in own}}
    args = script.Args(**sizes)
    shapes = {key: list(OBSERVATIONS[key][0]) for key in script.Agent.observations}
    torch.manual_seed(seed)
    return script.Agent(shapes, args), args


def begun(path, name="mlp_baseline", **changes):
    agent, args = new_agent(name, pretrained_checkpoint=str(path), **changes)
    before = {key: value.clone() for key, value in agent.state_dict().items()}
    return agent, before, Pretraining(args, name, agent, None)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("runs") / "tiny", **TINY)


def test_all_weights_of_an_equal_agent(tiny, capsys):
    agent, _, _ = begun(tiny, **TINY)
    saved = checkpoints.load(tiny)["agent"]
    assert all(torch.equal(weight, saved[name]) for name, weight in agent.state_dict().items())
    assert capsys.readouterr().out == ""


def test_what_fits_of_another_size(tiny, capsys):
    agent, before, pretraining = begun(tiny, **{**TINY, "tiles_hidden": 12})
    saved = checkpoints.load(tiny)["agent"]
    other = {"tiles.0.weight", "tiles.0.bias", "tiles.2.weight", "tiles.2.bias", "fuse.weight"}
    for name, weight in agent.state_dict().items():
        assert torch.equal(weight, before[name] if name in other else saved[name]), name
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{tiny}: 13 weights of mlp_baseline are loaded; these keep their initial values:"
    assert "  tiles.2.weight: [8, 8] there, [12, 12] here" in said and len(said) == 6
    assert set(pretraining.others) == other


def test_what_fits_of_another_architecture(tmp_path, capsys):
    """A graph network's encoder of the graph goes over to one that also sees pictures."""
    agent, before, _ = begun(made_run(tmp_path / "run", "vision_free"), "full_hgt")
    saved, own = checkpoints.load(tmp_path / "run/checkpoints/best.pt")["agent"], agent.state_dict()
    loaded = {name for name in own if name in saved and own[name].shape == saved[name].shape}
    assert {"embed.0.weight", "layers.0.qkv", "layers.2.mu", "state.0.weight", "actor.weight"} <= loaded
    for name, weight in own.items():
        assert torch.equal(weight, saved[name] if name in loaded else before[name]), name
    said = capsys.readouterr().out
    assert "  frames.convs.0.weight: not there\n" in said and "embed" not in said


def test_an_exported_agent_and_one_of_the_zoo(tiny, tmp_path, monkeypatch):
    export.main(export.Args(str(tiny), str(tmp_path / "zoo/mine"), onnx=False))
    monkeypatch.setenv("NPP_ZOO", str(tmp_path / "zoo"))
    saved = checkpoints.load(tiny)["agent"]
    for path in (tmp_path / "zoo/mine", "zoo:mine"):
        agent, _, pretraining = begun(path, **TINY)
        assert all(torch.equal(weight, saved[name]) for name, weight in agent.state_dict().items())
        assert pretraining.earlier == load_agent(path)[1]["trained_on"]


def test_an_agent_of_which_nothing_fits(tiny, tmp_path):
    checkpoint = checkpoints.load(tiny)
    for weights, message in (
        ({"other": torch.zeros(3)}, "and no weight in it has the name and the shape of one of this agent"),
        ({"actor.weight": 5}, "does not fit an agent"),
        (5, "does not fit an agent"),
    ):
        checkpoints.save(tmp_path / "best.pt", {**checkpoint, "architecture": "gat", "agent": weights})
        with pytest.raises(CheckpointError, match=message) as said:
            begun(tmp_path / "best.pt", **TINY)
        assert "\n" not in str(said.value)


def test_frozen_parts_are_whole_parts(tiny):
    agent, _, _ = begun(tiny, **TINY, freeze=("ahead.2",))
    frozen = {name for name, parameter in agent.named_parameters() if not parameter.requires_grad}
    assert frozen == {"ahead.2.weight", "ahead.2.bias"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": ("a",)}, "--freeze 'a': no such part of the agent .expected some of state, ahead, tiles, fuse"),
        ({"freeze": ("state", "")}, "--freeze '': no such part"),
        ({"freeze": ("tiles",), "tiles_hidden": 12}, "--freeze tiles: tiles.0.weight is not pretrained, so it has to"),
        (
            {"freeze": ("state", "ahead", "tiles", "fuse", "actor", "critic")},
            "--freeze state .* critic: nothing is left that could learn$",
        ),
        (
            {"freeze": ("critic",), "value_warmup_steps": 9},
            "nothing is left that could learn in the first --value",
        ),
        ({"kl_coef": 0.5, "hidden": 12}, "--kl-coef 0.5: .*best.pt does not fit whole, so there is no policy of it"),
    ],
)
def test_what_cannot_be_kept(tiny, changes, message):
    with pytest.raises(ArgumentError, match=message):
        begun(tiny, **{**TINY, **changes})


def test_while_the_critic_warms_up_a_part_with_a_longer_name_does_not_learn(tiny):
    agent, _, pretraining = begun(tiny, **TINY, value_warmup_steps=9)
    agent.critic_encoder = torch.nn.Linear(2, 2)
    for parameter in agent.parameters():
        parameter.grad = torch.ones_like(parameter)
    pretraining.warming = True
    pretraining.drop_gradients(agent)
    left = {name for name, parameter in agent.named_parameters() if parameter.grad is not None}
    assert left == {"critic.weight", "critic.bias"}


def test_freezing_needs_something_pretrained():
    agent, args = new_agent(**TINY, freeze=("state",))
    with pytest.raises(ArgumentError, match="--freeze state: needs --pretrained-checkpoint"):
        Pretraining(args, "mlp_baseline", agent, None)
