"""Relabelling: wins of the planner from an agent's states, and that only the planner's steps are learned from them."""

import json

import numpy as np
import pytest
import torch
from hand_made import corridor

from npp_rl import ppo_mlp_baseline as script
from npp_rl import relabel
from npp_rl.agents import load_agent
from npp_rl.commands import ArgumentError, CheckpointError
from npp_rl.environment.games import ACTION_BYTES, OBSERVATIONS
from npp_rl.levels.datasets import load_levels
from npp_rl.levels.replays import read_replays
from npp_rl.planning import planner
from npp_rl.planning.demonstrations import load_demonstrations
from npp_rl.planning.runs import RELABELLED, DemonstrationError, find_runs
from npp_rl.simulator import WON, simulate
from npp_rl.training import checkpoints
from npp_rl.training.arguments import plain_args


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint of an untrained agent whose run trained on three corridors, and what was relabelled of it."""
    place = tmp_path_factory.mktemp("relabel")
    (place / "levels/simplest").mkdir(parents=True)
    for k, one in enumerate((corridor(), corridor(30, 5, 2), corridor(7))):
        (place / f"levels/simplest/corridor_{k}").write_bytes(one.map_data)
    args = script.Args(train_dataset=str(place / "levels"), validation_fraction=0.0, size="small")
    for name, value in script.SIZES["small"].items():
        setattr(args, name, value)
    shapes = {key: OBSERVATIONS[key][0] for key in script.Agent.observations}
    torch.manual_seed(3)
    content = {"architecture": "mlp_baseline", "args": plain_args(args)}
    content["observation_shapes"] = {key: list(shape) for key, shape in shapes.items()}
    checkpoints.save(place / "agent.pt", {**content, "agent": script.Agent(shapes, args).state_dict()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "PLAYED", 20_000)
        patch.setattr(planner, "SHORTENINGS", ((6.0, 0.5, 0.0, 2_000),))
        relabel.main(relabel.Args(str(place / "agent.pt"), str(place / "out"), sampled=True, budget=60.0, workers=2))
    return place


def test_the_planner_wins_from_where_the_agent_came_to(folders):
    index = json.loads((folders / "out" / RELABELLED).read_text())
    agent, run = load_agent(folders / "agent.pt")
    levels = load_levels(folders / "levels")
    played = dict(zip((one.map_data for one in levels), relabel.play(agent, run, levels, True, 0), strict=True))
    assert len({episode.tobytes() for episode in played.values()}) == 3 and len(index["steps"]) == 6
    for name, step in index["steps"].items():
        (replay,) = read_replays(folders / "out" / name)
        own = np.repeat(ACTION_BYTES[played[replay.map_data][:step]], 4).tobytes()
        assert replay.inputs[: 4 * step] == own and len(replay.inputs) > 4 * step
        _, states = simulate(replay.map_data, replay.inputs)
        assert len(states) == len(replay.inputs) and states[-1] == WON
    assert max(index["steps"].values()) > 0


def test_the_agents_own_steps_are_not_learned(folders):
    index = json.loads((folders / "out" / RELABELLED).read_text())
    observations = ("game_state",)
    runs, verdicts = find_runs([folders / "out"])
    begins = {run.source.removeprefix(f"{folders / 'out'}/"): run.begin for run in runs}
    assert begins.items() <= index["steps"].items() and len(begins) >= 4
    assert {v["verdict"] for v in verdicts} <= {"used", "not executable"}  # the agent had left too little time
    demos = load_demonstrations([folders / "out"], [], observations, keep_idle=True, mirror=True)
    runs, _ = find_runs([folders / "out"], mirror=True)
    own = np.concatenate([np.arange(len(run.actions)) < run.begin for run in runs])
    assert (demos.idle == own).all() and 0 < own.sum() < len(own)
    training, held = demos.split(0.0)
    assert len(held) == 0 and not own[training].any() and len(training) == (~own).sum()
    at_one = find_runs([folders / "out"], frame_skip=1)[0]  # the index counts steps of four frames
    assert {run.begin for run in at_one} == {4 * step for step in begins.values()}


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"frame_skip": 4, "steps": {"a": -1}}', '{"frame_skip": 4, "steps": {"a": "b"}}']
)
def test_a_damaged_index_is_named(folders, tmp_path, text):
    name = next((folders / "out/simplest").iterdir())
    (tmp_path / name.name).write_bytes(name.read_bytes())
    (tmp_path / RELABELLED).write_text(text)
    with pytest.raises(DemonstrationError, match=rf"{RELABELLED}: damaged"):
        find_runs([tmp_path])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"states": 0}, "--states 0: expected 1 to 10000"),
        ({"budget": 0.0}, "--budget 0.0: expected more than 0 to 86400"),
        ({"workers": -1}, "--workers -1"),
        ({"out": "out"}, "expected a folder that is new or empty"),
        ({"checkpoint": "none.pt"}, "no such"),
    ],
)
def test_bad_arguments(folders, changes, words):
    given = {"checkpoint": "agent.pt", "out": "new"} | changes
    for name in ("checkpoint", "out"):
        given[name] = str(folders / given[name])
    with pytest.raises((ArgumentError, CheckpointError), match=words):
        relabel.main(relabel.Args(**given))
    assert not (folders / "new").exists()
