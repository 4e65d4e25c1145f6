"""The search that a policy guides: games that go on from snapshots, wins that are exact, seconds and rounds."""

import time

import numpy as np
import pytest
import torch
from hand_made import corridor, ground, here, level, middle
from made_agents import made_run

from npp_rl.agents import load_agent
from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import inputs_of
from npp_rl.evaluation.players import agent_policy
from npp_rl.levels.generator import generate
from npp_rl.planning import guided, planner
from npp_rl.ppo_mlp_baseline import Agent, Args
from npp_rl.simulator import WON, simulate

SEEN = ("game_state", "reachability", "arcs", "local_tiles")
NONE, LEFT, RIGHT = range(3)
LOCKED = corridor(spawn=10, switch=14, door=24, locked=[((504, 300), 0, here(6))])


@pytest.fixture(autouse=True)
def lean(monkeypatch):
    monkeypatch.setattr(planner, "NODES", 20_000)


def wins(of, found):
    _, states = simulate(of.map_data, inputs_of(found.actions, 4))
    return states[-1] == WON and len(states) == found.frames


def holding(action):
    """A policy that is sure of one action."""

    def policy(seen):
        logits = np.full((len(seen["game_state"]), 6), -1e3, np.float32)
        logits[:, action] = 0
        return logits

    return policy


def uniform(seen):
    return np.zeros((len(seen["game_state"]), 6), np.float32)


@pytest.mark.parametrize("doors", [0, 1], ids=["the level's field", "a field of its own"])
def test_a_game_goes_on_from_a_row_bit_for_bit(doors):
    made = LOCKED if doors else generate("simplest", 3)
    seen = (*SEEN, "graph_nodes", "player_frames", "global_view")
    envs = NppVectorEnv(6, [generate("complex", 5), made], seen, seed=0, autoreset=False)
    envs.reset(options={"levels": [1, 1, 1, 0, 0, 0]})
    for _ in range(30 if doors else 15):
        obs, *_ = envs.step(np.array([LEFT, RIGHT, NONE, LEFT, RIGHT, NONE]))
    assert (envs._goals["field"][0] >= 4) == bool(doors)
    rows, limits = envs.rows.copy(), envs.limits
    before = {name: array.copy() for name, array in obs.items()}
    obs = envs.place([4, 2], rows[[0, 1]], envs._episodes["total"][[0, 1]])  # from another level, and another place
    own = envs._goals["field"][4]
    assert own == 4 + 4 if doors else own < 4
    assert np.array_equal(envs.rows[[4, 2]], rows[[0, 1]]) and np.array_equal(envs.limits[[4, 2]], limits[[0, 1]])
    for game, source in ((4, 0), (2, 1)):
        for name in ("game_state", "arcs", "local_tiles", "graph_nodes", "global_view"):
            assert np.array_equal(obs[name][game], before[name][source]), name
        assert (obs["player_frames"][game] == obs["player_frames"][game, -1]).all()
        assert np.array_equal(obs["player_frames"][game, -1], before["player_frames"][source, -1])
    for other in (0, 1, 3, 5):
        assert all(np.array_equal(obs[name][other], before[name][other]) for name in seen)
    random = np.random.default_rng(1)
    for _ in range(40):
        actions = random.integers(0, 6, 6)
        actions[[4, 2]] = actions[[0, 1]]
        _, _, terminated, _, _ = envs.step(actions)
        assert np.array_equal(envs.rows[[4, 2]], envs.rows[[0, 1]])
        assert np.array_equal(terminated[[4, 2]], terminated[[0, 1]])
        assert (envs._episodes["steps"][[4, 2]] == envs._episodes["steps"][[0, 1]]).all()
    with pytest.raises(ValueError):
        envs.rows[0] = 0


def test_rows_that_do_not_fit_are_refused():
    envs = NppVectorEnv(2, [LOCKED], ("game_state",), seed=0)
    envs.reset()
    rows, kept = envs.rows.copy(), envs.rows.copy()
    other = NppVectorEnv(1, [LOCKED] * 3, ("game_state",), seed=0)
    other.reset(options={"levels": [2]})
    for games, given in (([2], rows[:1]), ([-1], rows[:1]), ([0, 1], rows[:1]), ([0], rows[:1, :-1]), ([], rows[:0])):
        with pytest.raises(ValueError, match="expected"):
            envs.place(games, given, np.zeros(len(games)))
    with pytest.raises(ValueError, match="expected games on these 1 levels"):
        envs.place([0], other.rows, [0.0])
    with pytest.raises(ValueError, match="totals"):
        envs.place([0], rows[:1], [np.nan])
    assert np.array_equal(envs.rows, kept)


def test_a_policy_that_knows_the_way_wins_at_once():
    made = corridor(spawn=5, switch=12, door=20)
    found = guided.search_level(holding(RIGHT), made, observations=("game_state",), seconds=60.0)
    assert found.actions is not None and wins(made, found)


def test_the_policys_games_lead_the_search(monkeypatch):
    """Without expansions only the policy plays; it wins, and its actions are those from the level's start."""
    monkeypatch.setattr(guided, "EXPANSIONS", (0, 0))
    made = corridor(spawn=5, switch=12, door=20)
    found = guided.search_level(holding(RIGHT), made, observations=("game_state",), seconds=60.0)
    assert found.by_policy and wins(made, found) and set(found.actions) == {RIGHT}
    assert len(found.actions) == found.rounds


def test_the_search_wins_where_the_policy_does_not():
    found = guided.search_level(holding(NONE), LOCKED, observations=("game_state",), seconds=60.0, rounds=60)
    assert not found.by_policy and wins(LOCKED, found)


def test_games_that_have_ended_go_on_from_nodes_of_the_search(monkeypatch):
    """Running right dies in a mine. From places that the search has found behind it, the same policy wins."""
    monkeypatch.setattr(guided, "EXPANSIONS", (2, 2))
    monkeypatch.setattr(guided, "FRONT", 1)
    made = level(ground((5, 8, 30, 12)), middle(6, 12), [(middle(28, 12), middle(24, 12))], mines=[middle(12, 12)])
    dies = guided.search_level(holding(RIGHT), made, observations=("game_state",), seconds=60.0, rounds=40)
    found = guided.search_level(holding(RIGHT), made, observations=("game_state",), seconds=60.0, rounds=2000)
    assert dies.actions is None and wins(made, found) and len(set(found.actions)) > 1


def test_the_result_depends_on_rounds_and_seed_only(monkeypatch):
    monkeypatch.setattr(guided, "EXPANSIONS", (20, 20))
    monkeypatch.setattr(guided, "ROUNDS", 50)  # more games from here on
    made = generate("mine_heavy", 5)
    rules = {"observations": SEEN, "seconds": 60.0, "rounds": 150}
    one, two = (guided.search_level(uniform, made, **rules, seed=1) for _ in range(2))
    assert np.array_equal(one.actions, two.actions) and one[3:] == two[3:] and one.frames == two.frames


def test_seconds_and_rounds_are_limits():
    shut = level(ground((5, 12, 10, 12), (15, 12, 20, 12)), here(6), [(here(18), here(8))])
    began = time.process_time()
    found = guided.search_level(uniform, shut, observations=("game_state",), seconds=0.3)
    assert found.actions is None and found.frames == 0 and 0.3 <= found.seconds <= time.process_time() - began < 1.0
    found = guided.search_level(uniform, shut, observations=("game_state",), seconds=60.0, rounds=3)
    assert found.actions is None and found.rounds == 3
    none = level(ground((5, 12, 10, 12)), here(6))
    assert guided.search_level(uniform, none, observations=("game_state",), seconds=60.0)[:2] == (None, 0)


def test_a_logit_that_is_no_number_is_refused():
    def broken(seen):
        return np.full((len(seen["game_state"]), 6), np.nan, np.float32)

    with pytest.raises(FloatingPointError, match="hand-made"):
        guided.search_level(broken, LOCKED, observations=("game_state",), seconds=1.0)


def test_memory_that_runs_out_begins_the_next_search(monkeypatch):
    """The games go on, and their ways are still those from the start."""
    monkeypatch.setattr(planner, "SEARCHES", [(100, *one[1:]) for one in planner.SEARCHES])
    monkeypatch.setattr(guided, "EXPANSIONS", (5, 5))
    made = corridor(spawn=5, switch=30, door=40)
    found = guided.search_level(holding(RIGHT), made, observations=("game_state",), seconds=60.0)
    assert found.by_policy and wins(made, found)


def test_torch_policies_play():
    envs = NppVectorEnv(1, [LOCKED], Agent.observations, seed=0)
    shapes = {name: space.shape for name, space in envs.single_observation_space.spaces.items()}
    agent = Agent(shapes, Args(hidden=8, tiles_hidden=8, features=8))
    policy = agent_policy(agent, torch.device("cpu"))
    assert wins(LOCKED, guided.search_level(policy, LOCKED, observations=Agent.observations, seconds=60.0))


@pytest.mark.parametrize("name", ["mlp_cnn", "vision_free"])
def test_networks_that_see_pictures_or_graphs_guide_a_search(name, tmp_path):
    agent, run = load_agent(made_run(tmp_path / name, name, results=False))
    rules = {"observations": agent.observations, "frame_stack": run.get("frame_stack", 1), "seconds": 60.0}
    found = guided.search_level(agent_policy(agent, torch.device("cpu")), LOCKED, **rules, rounds=60)
    assert wins(LOCKED, found)


def test_slow_policies_leave_time_to_the_search(monkeypatch):
    def slow(seen):
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass
        return uniform(seen)

    guided.compile_ahead(("game_state",))
    assert guided.pace_of(uniform, ("game_state",)) == 1
    assert guided.pace_of(slow, ("game_state",)) in (4, 8, 16, 32, 64, 128)
    monkeypatch.setattr(guided, "EXPANSIONS", (10, 10))
    one, more = (
        guided.search_level(holding(NONE), LOCKED, observations=("game_state",), seconds=60.0, rounds=1000, pace=pace)
        for pace in (1, 8)
    )
    assert wins(LOCKED, one) and wins(LOCKED, more) and more.rounds < one.rounds
