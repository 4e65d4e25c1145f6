"""The environment: Gymnasium's contract, the simulator inside, rewards, episodes, saved states, bad input."""

import functools
import inspect
import os
import re
import subprocess
import sys
import tomllib
import warnings
from collections import defaultdict
from pathlib import Path

import gymnasium as gym
import numba
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from hand_made import corridor, ground, here, level, middle

from npp_rl.commands import LevelError
from npp_rl.environment import env
from npp_rl.environment import games as games_module
from npp_rl.environment.env import NppEnv, NppVectorEnv
from npp_rl.environment.games import ACTION_BYTES, CAUSES, EPISODE, EPISODE_KEYS, OBSERVATIONS, REWARD_KEYS
from npp_rl.environment.graph import GRAPH_OBSERVATIONS
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.generator import generate
from npp_rl.levels.maps import Level
from npp_rl.simulator import simulate
from npp_rl.simulator.layout import CAUSE_NAMES
from npp_rl.training.episodes import EPISODE_MEANS

ROOT = Path(__file__).parents[1]
NONE, LEFT, RIGHT, JUMP, JUMP_LEFT, JUMP_RIGHT = range(6)
BASIC = ("game_state", "reachability", "arcs", "local_tiles")

LOCKED = corridor(spawn=10, switch=14, door=24, locked=[((504, 300), 0, here(6))])
SHAFT = level(ground((5, 2, 9, 22)), middle(7, 3), [(middle(9, 22), middle(5, 2))])


@pytest.fixture(scope="module")
def levels():
    """One level of each category, and those where a door, a mine or a fall counts."""
    made = [generate(category, 1_000 + k) for k, category in enumerate(CATEGORIES)]
    return [*made, LOCKED, SHAFT, corridor(mines=[here(8)])]


def actions_of(seed, steps, games):
    """Random actions that are kept for a while, so that games get somewhere: int [steps, games]."""
    random = np.random.default_rng(seed)
    held = random.integers(0, 6, (steps // 5 + 1, games))
    return np.repeat(held, 5, axis=0)[:steps]


def play(envs, actions):
    """The run's arrays, one list entry a step: observations, rewards, ends, episode figures."""
    log = []
    for action in actions:
        obs, reward, terminated, truncated, infos = envs.step(action)
        log.append({**obs, "reward": reward, "terminated": terminated, "truncated": truncated})
        if "outcome" in infos:
            done = infos["_outcome"]
            log[-1] |= {f"episode {name}": values[done] for name, values in infos["outcome"].items()}
            log[-1] |= {f"final {name}": values[done] for name, values in infos.get("final_obs", {}).items()}
    return log


def assert_equal(a, b):
    assert len(a) == len(b)
    for step, (one, other) in enumerate(zip(a, b, strict=True)):
        assert one.keys() == other.keys(), step
        for name in one:
            assert np.array_equal(one[name], other[name]), (step, name)


def test_gymnasium_finds_the_environment_in_a_plain_process():
    code = (
        "import sys, gymnasium\n"
        "import npp_rl\n"
        "assert not {'torch', 'numba'} & set(sys.modules)\n"
        "print(gymnasium.spec('npp_rl/Npp-v0').vector_entry_point)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "npp_rl.environment.env:NppVectorEnv\n"), done.stderr
    code = (
        "import sys, gymnasium\n"
        "env = gymnasium.make('npp_rl:npp_rl/Npp-v0')\n"
        "obs, info = env.reset(seed=1)\n"
        "assert env.observation_space.contains(obs) and env.step(0)\n"
        "print(list(obs), env.action_space, len(env.unwrapped.levels), 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd="/", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{list(BASIC)} Discrete(6) 900 False\n"), done.stderr


def test_the_entry_point_registers_the_environment_once():
    (value,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][
        "gymnasium.envs"
    ].values()
    code = (
        "import sys\n"
        "from gymnasium.envs import registration\n"  # the state in which Gymnasium loaded entry points
        "from importlib.metadata import EntryPoint\n"
        f"EntryPoint('__root__', {value!r}, 'gymnasium.envs').load()()\n"
        "print('npp_rl/Npp-v0' in registration.registry, {'torch', 'numba'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True set()\n"), done.stderr


@pytest.mark.parametrize("observations", [BASIC, tuple(OBSERVATIONS)])
def test_gymnasiums_checker(levels, observations):
    env = gym.make("npp_rl/Npp-v0", levels=levels, observations=observations)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    # It would like every number bounded, which velocities and distances are not.
    remarks = [str(w.message) for w in caught if "infinity" not in str(w.message)]
    assert remarks == []


def test_make_vec_gives_the_native_vector_environment(levels):
    envs = gym.make_vec("npp_rl/Npp-v0", num_envs=5, levels=levels, gamma=0.9)
    assert type(envs.unwrapped) is NppVectorEnv and envs.num_envs == 5
    assert envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert envs.action_space == gym.spaces.MultiDiscrete([6] * 5)
    obs, infos = envs.reset(seed=3)
    assert infos == {} and list(obs) == list(BASIC) and set(envs.single_observation_space) == set(BASIC)
    for _ in range(20):
        assert envs.observation_space.contains(obs)
        for name, space in envs.single_observation_space.items():
            assert all(space.contains(row) for row in obs[name])
        obs, reward, terminated, truncated, _ = envs.step(envs.action_space.sample())
        assert reward.dtype == np.float64 and terminated.dtype == truncated.dtype == np.bool_
        assert reward.shape == terminated.shape == truncated.shape == (5,)
    envs.close()


def test_observations_are_copies_unless_told(levels):
    for copy in (True, False):
        envs = NppVectorEnv(2, levels, copy=copy)
        first, _ = envs.reset(seed=0)
        kept = {name: array.copy() for name, array in first.items()}
        second = envs.step([RIGHT, RIGHT])[0]
        assert not np.array_equal(second["game_state"], kept["game_state"])
        assert np.array_equal(first["game_state"], kept["game_state"]) == copy
        assert np.shares_memory(first["game_state"], second["game_state"]) != copy


def test_vector_and_single_environment_are_the_same(levels):
    games = len(levels)
    envs = NppVectorEnv(games, levels, OBSERVATIONS, gamma=0.97, max_frames=200)
    singles = [NppEnv(levels=levels, observations=OBSERVATIONS, gamma=0.97, max_frames=200) for _ in range(games)]
    obs, _ = envs.reset(seed=0, options={"levels": np.arange(games)})
    rows = [single.reset(options={"level": k})[0] for k, single in enumerate(singles)]
    ends = np.zeros(2, int)
    for actions in actions_of(1, 120, games):
        for k, row in enumerate(rows):
            for name in OBSERVATIONS:
                assert np.array_equal(obs[name][k], row[name]), (k, name)
        obs, reward, terminated, truncated, infos = envs.step(actions)
        for k, single in enumerate(singles):
            rows[k], *rest, info = single.step(actions[k])
            assert rest == [reward[k], terminated[k], truncated[k]]
            assert ("outcome" in info) == (terminated[k] or truncated[k])
            if "outcome" in info:
                out_of_time = info["outcome"]["frames"] >= 200
                ends += not out_of_time, out_of_time
                assert info["outcome"] == {name: values[k] for name, values in infos["outcome"].items()}
                assert all(np.array_equal(infos["final_obs"][name][k], rows[k][name]) for name in OBSERVATIONS)
                rows[k] = single.reset(options={"level": envs._state.ninja["level"][k]})[0]
    assert (ends > 5).all()


def test_copies_of_a_level_are_the_same_whatever_the_number_of_threads(levels):
    """Scratch memory is by thread, so that an environment made for one thread has to do with more."""
    most = numba.config.NUMBA_NUM_THREADS
    logs = []
    for made, run in ((most, most), (most, 1), (1, most)):
        numba.set_num_threads(made)
        envs = NppVectorEnv(64, levels, seed=5)
        numba.set_num_threads(run)
        envs.reset(options={"levels": np.repeat(np.arange(8), 8)})
        actions = np.repeat(actions_of(2, 120, 8), 8, axis=1)
        logs.append(play(envs, actions))
        numba.set_num_threads(most)
    assert_equal(logs[0], logs[1])
    assert_equal(logs[0], logs[2])
    first = logs[0][:12]  # nobody has died yet: from then on levels are drawn
    assert not any(step["terminated"].any() for step in first)
    for step in first:
        for name in BASIC:
            by_level = step[name].reshape(8, 8, -1)
            assert np.array_equal(by_level, np.repeat(by_level[:, :1], 8, axis=1))


def test_same_seed_same_run(levels):
    def run(seed):
        envs = NppVectorEnv(8, levels, max_frames=200)
        obs, _ = envs.reset(seed=seed)
        return [obs, *play(envs, actions_of(3, 150, 8))]

    one = run(7)
    assert_equal(one, run(7))
    assert not np.array_equal(one[0]["local_tiles"], run(8)[0]["local_tiles"])
    # The seed of the constructor counts as well; another start draws other levels.
    a, b = (NppVectorEnv(8, levels, seed=7) for _ in range(2))
    for _ in range(3):
        assert np.array_equal(a.reset()[0]["local_tiles"], b.reset()[0]["local_tiles"])
        assert np.array_equal(a._state.ninja["level"], b._state.ninja["level"])
    starts = np.concatenate([(a.reset(), a._state.ninja["level"].copy())[1] for _ in range(50)])
    assert set(starts) == set(range(len(levels)))


def test_next_levels_can_be_said(levels):
    """They count for the games that end before they are drawn again; what is no level is refused."""
    envs = NppVectorEnv(num_envs=3, levels=levels, observations=("game_state",), seed=0, max_frames=8)
    envs.reset(options={"levels": np.array([0, 1, 2])})
    for following in ([5, 4, 3], [7, 7, 0]):
        envs.step(np.zeros(3, int))
        before = envs._state.ninja["level"].tolist()
        envs.set_next_levels(np.array(following))
        infos = envs.step(np.zeros(3, int))[-1]
        assert infos["_outcome"].all() and infos["outcome"]["level"].tolist() == before
        assert envs._state.ninja["level"].tolist() == following
    for bad in ([0, 1], [0, 1, len(levels)], [0.0, 1.0, 2.0]):
        with pytest.raises(ValueError, match="next levels: expected 3 indices below 12"):
            envs.set_next_levels(np.array(bad))


def test_paused_games_stand_still_and_the_others_go_on(levels):
    """Also where a game ended or was to be planned anew in the step before the pause."""
    rules = {"observations": tuple(OBSERVATIONS), "frame_skip": 8, "max_frames": 80, "autoreset": False}
    envs, plain = NppVectorEnv(len(levels), levels, **rules), NppVectorEnv(len(levels), levels, **rules)
    start = envs.reset(seed=1)[0]
    plain.reset(seed=1)
    random, paused = np.random.default_rng(0), np.zeros(len(levels), bool)
    for _ in range(9):
        actions = random.integers(0, 6, len(levels))
        before = {name: array.copy() for name, array in envs._obs.items()}
        seen, reward, terminated, truncated, infos = envs.step(actions)
        others = plain.step(actions)
        for name in seen:
            np.testing.assert_array_equal(seen[name][~paused], others[0][name][~paused])
            np.testing.assert_array_equal(seen[name][paused], before[name][paused])
        for one, other in zip((reward, terminated, truncated), others[1:4], strict=True):
            np.testing.assert_array_equal(one[~paused], other[~paused])
            assert not one[paused].any()
        assert not infos.get("_outcome", np.zeros(1))[paused if infos else 0].any()
        paused = paused | terminated | (random.random(len(levels)) < 0.2)
        envs.pause(paused)
    assert not paused.all() and envs.step(actions)[4].keys() == {"outcome", "_outcome"}  # the others' time ends
    again = envs.reset(seed=1)[0]
    for name in start:
        np.testing.assert_array_equal(again[name], start[name])
    assert not envs.step(actions)[3].any()
    saved = plain.get_state()
    envs.pause(np.ones(len(levels), bool))
    envs.set_state(saved)
    np.testing.assert_array_equal(envs.step(actions)[0]["game_state"], plain.step(actions)[0]["game_state"])


def test_levels_are_drawn_by_their_probabilities(levels):
    envs = NppVectorEnv(500, levels, ("game_state",), seed=1)
    envs.reset()
    p = np.zeros(len(levels))
    p[[2, 5]] = 3.0, 1.0
    envs.set_level_probabilities(p)
    envs.reset()  # these levels had been drawn before
    envs.reset()
    drawn = np.bincount(envs._state.ninja["level"], minlength=len(levels))
    assert drawn.sum() == drawn[[2, 5]].sum() == 500
    assert 330 < drawn[2] < 420  # 375 +- 4.6 standard deviations
    envs.reset(options={"levels": np.full(500, 3)})
    assert (envs._state.ninja["level"] == 3).all()


def test_a_step_is_the_simulators_frames_with_the_action_held(levels):
    for skip in (1, 4):
        envs = NppVectorEnv(len(levels), levels, (), frame_skip=skip, autoreset=False)
        envs.reset(options={"levels": np.arange(len(levels))})
        actions = actions_of(4, 240 // skip, len(levels))
        alive = np.ones(len(levels), bool)
        runs = []
        for k, made in enumerate(levels):
            trajectory, states = simulate(made.map_data, bytes(np.repeat(ACTION_BYTES[actions[:, k]], skip)))
            runs.append((trajectory, states))
        for t, action in enumerate(actions):
            terminated, truncated = envs.step(action)[2:4]
            n = envs._state.ninja
            for k in np.flatnonzero(alive):
                trajectory, states = runs[k]
                last = min(skip * (t + 1), len(states)) - 1
                assert (n["x"][k], n["y"][k], n["u"][k], n["v"][k]) == tuple(trajectory[last])
                assert n["state"][k] == states[last] and n["frame"][k] == last + 1
                assert terminated[k] == (states[last] in (6, 8)) and not truncated[k]
            alive &= ~terminated
        assert alive.any() and not alive.all()


def test_human_replays_end_in_the_environment_as_they_were_played(shared):
    golden = np.load(shared / "golden" / "human.npz")
    maps = np.split(golden["maps"], golden["map_offsets"][1:-1])
    inputs = np.split(golden["inputs"], golden["input_offsets"][1:-1])
    trajectories = np.split(golden["trajectory"], golden["trajectory_offsets"][1:-1])
    action_of = np.zeros(256, int)
    action_of[[0, 4, 2, 1, 5, 3, 6, 7]] = [0, 1, 2, 3, 4, 5, 1, 4]  # left before right (PHYSICS.md 7)
    made = [Level(m.tobytes(), str(k), "human") for k, m in enumerate(maps)]
    envs = NppVectorEnv(len(made), made, ("reachability",), frame_skip=1, max_frames=10_000, autoreset=False)
    envs.reset(options={"levels": np.arange(len(made))})
    lengths = np.array([len(t) for t in trajectories])
    expected, actions = np.zeros((lengths.max(), len(made), 4)), np.zeros((lengths.max(), len(made)), int)
    for k, length in enumerate(lengths):
        expected[:length, k] = trajectories[k]
        actions[:length, k] = action_of[inputs[k][:length]]
    successes = 0
    for t, action in enumerate(actions):
        obs, _, terminated, _, infos = envs.step(action)
        assert np.isfinite(obs["reachability"]).all()
        n = envs._state.ninja
        running = lengths > t
        now = np.stack([n["x"], n["y"], n["u"], n["v"]], 1)
        assert np.array_equal(now[running], expected[t][running]), t
        assert not terminated[lengths > t + 1].any()
        ended = terminated & (lengths == t + 1)
        if ended.any():
            assert (infos["outcome"]["frames"][ended] == t + 1).all()
            successes += infos["outcome"]["success"][ended].sum()
    assert successes == 85


def game(made, actions, **arguments):
    """One episode: rewards, observations from the first to the last, the last step's flags, the episode's figures."""
    env = NppEnv(levels=[made], **arguments)
    observations, rewards = [env.reset()[0]], []
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action)
        observations.append(obs)
        rewards.append(reward)
        if terminated or truncated:
            return np.array(rewards), observations, terminated, truncated, info["outcome"]
        assert info == {}
    raise AssertionError("the episode did not end")


def walk_back_for_the_door():
    return [LEFT] * 22 + [RIGHT] * 200


EPISODES = {
    "won": (corridor(5, 12, 20), [RIGHT] * 100, {}),
    "won with gold": (corridor(5, 12, 20, others=[(2, here(9))]), [RIGHT] * 100, {}),
    "won through a door": (LOCKED, walk_back_for_the_door(), {}),
    "mine": (corridor(5, 12, 20, mines=[here(15)]), [RIGHT] * 100, {}),
    "toggle mine": (corridor(5, 9, 3, toggle_mines=[here(7)]), [RIGHT] * 30 + [LEFT] * 60, {}),
    "floor impact": (SHAFT, [NONE] * 100, {}),
    "out of time": (corridor(5, 12, 20), [RIGHT] * 100, {"max_frames": 42}),
    "out of time after the switch": (corridor(5, 12, 30), [RIGHT] * 100, {"max_frames": 130}),
    # Without `game_state` nobody sees the time left.
    "truncated": (corridor(5, 12, 20), [RIGHT] * 100, {"max_frames": 42, "observations": ("reachability",)}),
    "truncated after the switch": (
        corridor(5, 12, 30),
        [RIGHT] * 100,
        {"max_frames": 130, "observations": ("reachability",)},
    ),
}
ENDS = {  # success, cause, truncated, exit switches hit, gold
    "won": (True, "none", False, 1, 0),
    "won with gold": (True, "none", False, 1, 1),
    "won through a door": (True, "none", False, 1, 0),
    "mine": (False, "mine", False, 1, 0),
    "toggle mine": (False, "mine", False, 1, 0),
    "floor impact": (False, "floor_impact", False, 0, 0),
    "out of time": (False, "none", False, 0, 0),
    "out of time after the switch": (False, "none", False, 1, 0),
    "truncated": (False, "none", True, 0, 0),
    "truncated after the switch": (False, "none", True, 1, 0),
}


def hall(kind, x, y, orientation=0):
    """Five cells high, the ninja on its floor at the left; an entity at (x, y) px from the ninja."""
    at = middle(5, 12)
    exits = [(middle(30, 12), middle(20, 12))]
    return level(ground((1, 8, 42, 12)), at, exits, others=[(kind, (at[0] + x, at[1] + y), orientation, 0)])


DEATHS = {
    "mine": (hall(1, 48, 6), RIGHT),
    "zap_drone": (corridor(5, 12, 20, others=[(14, here(6), 4)]), NONE),
    "chaser_drone": (hall(15, 48, 0, 4), NONE),
    "floor_guard": (hall(16, 48, 0), NONE),
    "thwump": (hall(20, 48, 0, 4), NONE),
    "laser": (hall(23, 0, -48, 2), NONE),
    "death_ball": (hall(25, 48, 0), NONE),
    "mini_drone": (corridor(5, 12, 20, others=[(26, here(6), 4)]), NONE),
    "shove_thwump": (hall(28, 0, 0, 6), RIGHT),
    "floor_impact": (SHAFT, NONE),
    "ceiling_impact": (hall(10, 0, 0, 6), NONE),  # a launch pad
    "crush": (hall(20, 36, -36, 2), RIGHT),  # between the side of a thwump and the floor
}


def test_every_cause_of_death_has_its_name():
    assert set(CAUSES) == set(CAUSE_NAMES.values()) == {"none", *DEATHS}
    named = {}
    for cause, (made, action) in DEATHS.items():
        figures = game(made, [action] * 200, unfinished=True, max_frames=800)[-1]
        named[cause] = CAUSES[figures["cause"]]
        assert not figures["success"]
    assert named == {cause: cause for cause in DEATHS}


@pytest.mark.parametrize("name", EPISODES)
@pytest.mark.parametrize(("gamma", "weight"), [(0.99, 0.0), (0.9, 0.0), (0.99, 1.0), (0.9, 0.5)])
def test_rewards_add_up_and_the_shaping_telescopes(name, gamma, weight):
    made, actions, arguments = EPISODES[name]
    success, cause, cut, hit, gold = ENDS[name]
    arguments = {"gamma": gamma, "distance": weight, **arguments}
    rewards, observations, terminated, truncated, figures = game(made, actions, **arguments)
    assert (terminated, truncated) == (not cut, cut)
    assert (figures["success"], CAUSES[figures["cause"]], figures["gold"]) == (success, cause, gold)
    steps = len(rewards)
    assert figures["l"] == steps and figures["level"] == 0
    assert 4 * (steps - 1) < figures["frames"] <= 4 * steps
    died = cause != "none"
    if not success and not died:
        assert figures["frames"] == arguments["max_frames"]

    assert figures["r"] == pytest.approx(rewards.sum(), abs=1e-12)
    assert sum(figures[f"r_{part}"] for part in REWARD_KEYS) == pytest.approx(figures["r"], abs=1e-12)
    assert figures["r_completion"] == (5.0 if success else 0.0)
    assert figures["r_death"] == (-2.0 if died else 0.0)
    assert figures["r_switch"] == hit
    assert figures["r_time"] == pytest.approx(-0.002 * steps)

    # phi from what the agent sees: the way to the goal and on to the exit.
    phi = np.array([-5.0 * (obs["reachability"][3] + obs["reachability"][5]) for obs in observations], float)
    if terminated:
        phi[-1] = 0.0
    shaping = gamma * phi[1:] - phi[:-1]
    assert figures["r_shaping"] == pytest.approx(shaping.sum(), abs=1e-4)
    # The cost of distance; to die, or to run out of time that is seen, costs the whole way that was left.
    distance = weight * (1 - gamma) * phi[1:]
    if terminated and not success:
        distance[-1] = weight * phi[-2]
    assert figures["r_distance"] == pytest.approx(distance.sum(), abs=1e-4)
    if weight == 1.0:  # plain progress, and nothing on death
        progress = np.diff(phi)
        progress[-1] *= success or cut
        assert shaping + distance == pytest.approx(progress, abs=1e-9)
    other = rewards - shaping - distance
    at_switch = np.flatnonzero(other[:-1] > 0.5)
    if "game_state" in observations[0]:
        assert np.array_equal(at_switch, np.flatnonzero(np.diff([obs["game_state"][30] for obs in observations]) > 0))
    assert len(at_switch) == hit
    expected = np.full(steps, -0.002)
    expected[at_switch] += 1.0
    idle = np.array([64 * obs["reachability"][67] for obs in observations[1:]]) > 8.5
    idle[-1] &= not (success or died)
    expected[idle] -= 0.03
    assert figures["r_idle"] == pytest.approx(-0.03 * idle.sum())
    expected[-1] += figures["r_completion"] + figures["r_death"]
    assert other == pytest.approx(expected, abs=1e-4)
    if weight == 0.0:
        discounted = (gamma ** np.arange(steps) * (rewards - expected)).sum()
        assert discounted == pytest.approx(gamma**steps * phi[-1] - phi[0], abs=1e-4)


def test_to_stand_costs_from_the_ninth_step_on():
    rewards, *_, figures = game(corridor(5, 12, 20), [NONE] * 14 + [RIGHT] * 100, idle=-0.5, distance=0.0, gamma=1.0)
    ran = np.flatnonzero(rewards[14:] > -0.25)[0]  # it needs some steps for 2 px
    assert np.flatnonzero(rewards < -0.25).tolist() == list(range(8, 14 + ran))
    assert figures["r_idle"] == pytest.approx(-0.5 * (6 + ran)) and figures["success"]


def test_the_first_potential_by_hand():
    made = corridor(5, 12, 20)
    rewards, observations, *_, figures = game(made, [RIGHT] * 100, gamma=0.9, distance=0.0)
    # Touching begins 16 px before the switch and 22 px before the exit, 15.6 and 21.6 in units of the field.
    way = (7 * 24 - 15.6) + (8 * 24 - 21.6)
    assert figures["shortest"] == pytest.approx(way)
    reach = observations[1]["reachability"]
    assert rewards[0] == pytest.approx(-0.002 + 0.9 * -5.0 * (reach[3] + reach[5]) + way / 100, abs=1e-5)
    # It ran along the floor from the spawn until it touched the exit, and fell 2 px at the start.
    assert way < figures["travelled"] < way + 50


def test_rewards_are_the_constructors():
    arguments = {"completion": 7.0, "death": -3.0, "switch": 0.5, "time": -0.25, "shaping_distance": 0}
    # Without a potential there is no cost of distance either.
    rewards, *_, figures = game(*EPISODES["won"][:2], **arguments)
    steps = len(rewards)
    assert figures["r_shaping"] == figures["r_distance"] == 0.0
    assert sorted(rewards) == [-0.25] * (steps - 2) + [0.25, 6.75]
    rewards, *_, figures = game(*EPISODES["mine"][:2], **arguments)
    assert sorted(rewards) == [-3.25] + [-0.25] * (len(rewards) - 2) + [0.25]
    *_, half = game(*EPISODES["won"][:2], shaping_distance=200.0)
    *_, whole = game(*EPISODES["won"][:2])
    for part in ("r_shaping", "r_distance"):
        assert whole[part] == pytest.approx(2 * half[part]) and whole[part] != 0.0


def test_the_end_of_the_time_and_the_reset_in_the_same_step(levels):
    ways = [corridor(5, 12, 20), corridor(30, 35, 20), LOCKED]
    arguments = {"levels": ways, "max_frames": 42, "observations": OBSERVATIONS}
    envs, plain = NppVectorEnv(3, **arguments, seed=0), NppVectorEnv(3, **arguments, autoreset=False)
    envs.reset(options={"levels": [0, 1, 2]})
    plain.reset(options={"levels": [0, 1, 2]})
    for step in range(11):
        obs, reward, terminated, truncated, infos = envs.step([RIGHT, LEFT, NONE])
        last, same, *flags, plain_infos = plain.step([RIGHT, LEFT, NONE])
        assert np.array_equal(reward, same) and not truncated.any()
        assert np.array_equal(flags, [terminated, truncated])
        assert terminated.all() == (step == 10) == terminated.any() == ("final_obs" in infos)
    assert infos["_final_obs"].all() and "final_obs" not in plain_infos
    for name in OBSERVATIONS:
        assert np.array_equal(infos["final_obs"][name], last[name])
    assert last["game_state"][:, 29].tolist() == [0, 0, 0]  # no time left
    # The observation is the first of the next episodes.
    other = NppVectorEnv(3, **arguments)
    first, _ = other.reset(options={"levels": envs._state.ninja["level"]})
    for name in OBSERVATIONS:
        assert np.array_equal(obs[name], first[name])
    assert obs["game_state"][:, 29].tolist() == [1, 1, 1]
    assert infos["outcome"]["level"].tolist() == [0, 1, 2]
    assert infos["outcome"]["frames"].tolist() == [42] * 3 and infos["outcome"]["l"].tolist() == [11] * 3
    assert infos["outcome"]["cause"].tolist() == [0] * 3


def test_limit_by_the_levels_size():
    way = (7 * 24 - 15.6) + (8 * 24 - 21.6)
    *_, terminated, truncated, figures = game(corridor(5, 12, 20), [NONE] * 400)
    assert terminated and not truncated and figures["frames"] == 600 + int(1.5 * way)


@pytest.mark.parametrize("seen", [("game_state",), ("reachability",)])
def test_an_episode_that_runs_out_of_time_is_truncated_unless_the_time_is_seen(seen):
    """Winning in the last frame is winning; a frame less is not enough."""
    made, actions, _ = EPISODES["won"]
    *_, figures = game(made, actions)
    for spare in (0, -1):
        end = game(made, actions, max_frames=figures["frames"] + spare, observations=seen)
        *_, terminated, truncated, again = end
        assert terminated == (spare == 0 or "game_state" in seen) and truncated == (not terminated)
        assert again["success"] == (spare == 0)


def test_a_saved_state_continues_bit_for_bit(levels):
    arguments = {"levels": levels, "observations": OBSERVATIONS, "max_frames": 400}
    envs = NppVectorEnv(24, **arguments, seed=3)
    envs.set_level_probabilities(np.arange(1, len(levels) + 1))
    envs.reset()
    actions = actions_of(5, 260, 24)
    actions[:40, 0] = LEFT  # through the door's switch
    envs.reset(options={"levels": [levels.index(LOCKED), *range(11), *range(12)]})
    play(envs, actions[:60])
    assert (envs._goals["field"] >= 2 * len(levels)).any()  # some game has a field of its own
    saved = envs.get_state()
    kept = {name: array.copy() for name, array in saved.items()}
    assert all(type(array) is np.ndarray and array.dtype.kind in "uif" for array in saved.values())
    log = play(envs, actions[60:])
    assert sum(step["terminated"].sum() + step["truncated"].sum() for step in log) > 24
    other = NppVectorEnv(24, **arguments, seed=4)
    other.reset()
    play(other, actions[:20])
    for name in saved:
        assert np.array_equal(saved[name], kept[name]), name
    obs = other.set_state(saved)
    again = other.get_state()
    assert all(np.array_equal(again[name], saved[name]) for name in saved)
    assert_equal(log, play(other, actions[60:]))
    envs.set_state(saved)
    assert_equal(log, play(envs, actions[60:]))
    assert set(obs) == set(OBSERVATIONS)


def test_a_state_that_does_not_fit_is_refused(levels):
    envs = NppVectorEnv(4, levels, ("game_state",))
    envs.reset(options={"levels": [levels.index(LOCKED)] * 4})
    play(envs, np.full((30, 4), LEFT))
    saved = envs.get_state()
    assert len(saved["own_dist"]) == 4
    before = play(envs, np.full((3, 4), RIGHT))
    far = saved["goals"].copy()
    far[:] = 127
    cases = [
        {"rows": saved["rows"][:3]},
        {"rows": saved["rows"][:, :-8]},
        {"rows": np.full_like(saved["rows"], 127)},
        {"episodes": saved["episodes"][:-1]},
        {"goals": saved["goals"][:-1]},
        {"goals": far},
        {"own_dist": saved["own_dist"][:3]},
        {"own_ahead": saved["own_ahead"][:, :5]},
        {"starts": saved["starts"] + 100},
        {"probabilities": saved["probabilities"][:2]},
        {"random": saved["random"][:5]},
    ]
    now = envs.get_state()
    for case in cases:
        with pytest.raises(ValueError, match=f"^saved environment state: {next(iter(case))} .*$"):
            envs.set_state(saved | case)
    for name in saved:
        with pytest.raises(ValueError, match=f"^saved environment state: {name} .*$"):
            envs.set_state({key: array for key, array in saved.items() if key != name})
    assert all(np.array_equal(array, now[name]) for name, array in envs.get_state().items())  # nothing half-done
    other = NppVectorEnv(4, [*levels[:-1], corridor(mines=[here(9)])], ("game_state",))
    with pytest.raises(ValueError, match="levels"):
        other.set_state(saved)
    envs.set_state(saved)
    assert_equal(before, play(envs, np.full((3, 4), RIGHT)))


def test_memory_of_256_environments():
    """Beyond the interpreter and libraries: numpy, gymnasium, numba and its compiler's first use."""
    code = (
        "import resource, numba, numpy as np\n"
        "from numba import njit, prange\n"
        "import npp_rl.environment.env\n"
        "@njit(parallel=True)\n"
        "def warm(a):\n"
        "    for i in prange(len(a)):\n"
        "        a[i] = i\n"
        "warm(np.zeros(9))\n"
        "def now():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize() / 2**20\n"
        "before = now()\n"
        "envs = npp_rl.environment.env.NppVectorEnv(256, 'builtin')\n"
        "obs, _ = envs.reset(seed=0)\n"
        "for _ in range(30):\n"
        "    envs.step(envs.action_space.sample())\n"
        "print(len(envs.levels), now() - before)\n"
    )
    if not Path("/proc/self/statm").exists():
        pytest.skip("reads the resident memory from /proc")
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert run.returncode == 0, run.stderr
    levels, mebibytes = run.stdout.split()
    assert int(levels) == 900
    assert 100 < float(mebibytes) < 1024


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs is 0: expected"),
        ({"num_envs": -3}, "num_envs is -3: expected"),
        ({"num_envs": 2.5}, "num_envs is 2.5: expected"),
        ({"frame_skip": 0}, "frame_skip is 0: expected"),
        ({"frame_skip": 1.5}, "frame_skip is 1.5: expected"),
        ({"frame_stack": 0}, "frame_stack is 0: expected"),
        ({"frame_stack": 2.5}, "frame_stack is 2.5: expected"),
        ({"max_frames": 0}, "max_frames is 0: expected"),
        ({"max_frames": -1}, "max_frames is -1: expected"),
        ({"gamma": 0.0}, "gamma is 0.0: expected"),
        ({"gamma": 1.01}, "gamma is 1.01: expected"),
        ({"gamma": float("nan")}, "gamma is nan: expected"),
        ({"time": float("inf")}, "time is inf: expected"),
        ({"completion": "much"}, "completion is much: expected"),
        ({"shaping_distance": -100.0}, "shaping_distance is -100.0: expected"),
        ({"shaping_distance": float("nan")}, "shaping_distance is nan: expected"),
        ({"observations": ("game_state", "pixels")}, "observation 'pixels': expected some of game_state, reachability"),
        ({"observations": "game_state"}, "observation 'g': expected some of game_state"),
        ({"levels": []}, "levels: expected at least one"),
        ({"levels": "nowhere/to/be/found"}, "nowhere/to/be/found: no such folder"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError) as error:
        NppVectorEnv(**{"num_envs": 2, "levels": [LOCKED]} | arguments)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    if "levels" in arguments:
        assert isinstance(error.value, LevelError)


@pytest.mark.parametrize(
    "actions",
    [[0, 6], [-1, 0], [0], [0, 0, 0], 3, [[0, 1]], [0.0, 1.0], [float("nan")] * 2, ["left", "right"], [None, None]],
)
def test_bad_actions(actions):
    envs = NppVectorEnv(2, [LOCKED], ("game_state",))
    envs.reset()
    with pytest.raises(ValueError, match=r"^actions: expected 2 integers from 0 to 5$"):
        envs.step(actions)


@pytest.mark.parametrize(
    ("given", "expected"), [({}, "100000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")]
)
def test_waiting_threads_leave_the_cores_to_others(given, expected):
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "import os, npp_rl; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run([sys.executable, "-c", code], env=clean | given, capture_output=True, text=True)
    assert done.stdout.strip() == expected


@pytest.mark.parametrize("name", ["rows", "goals", "episodes", "starts", "own_dist"])
def test_a_changed_state_is_refused(levels, name):
    """The games hold indices that compiled code follows: whatever was changed is not taken."""
    envs = NppVectorEnv(num_envs=8, levels=levels)
    envs.reset(seed=0)
    saved = envs.get_state()
    if not saved[name].size:
        saved[name] = np.ones((1, *saved[name].shape[1:]), saved[name].dtype)
    saved[name].reshape(-1).view(np.uint8)[0] ^= 1
    with pytest.raises(ValueError, match=r"state: (digest|own_dist) does not fit"):
        envs.set_state(saved)
    for other in (None, {}, {**saved, "rows": [1]}):
        with pytest.raises(ValueError, match="saved environment state: "):
            envs.set_state(other)
    envs.step(np.zeros(8, np.int64))
    envs.close()
    with pytest.raises(gym.error.ClosedEnvironmentError, match="step after close"):
        envs.step(np.zeros(8, np.int64))


def test_step_before_reset(levels):
    envs = NppVectorEnv(num_envs=2, levels=levels)
    with pytest.raises(gym.error.ResetNeeded, match="step before reset"):
        envs.step(np.zeros(2, np.int64))


@pytest.mark.parametrize("levels", [[0, 1], [-1, 0], [0], 0, [0.5, 0.0], [float("nan"), 0], ["a", "b"]])
def test_bad_levels_to_reset_to(levels):
    envs = NppVectorEnv(2, [LOCKED], ("game_state",))
    with pytest.raises(ValueError, match=r'^options\["levels"\]: expected 2 indices below 1$'):
        envs.reset(options={"levels": levels})


@pytest.mark.parametrize("p", [[1.0], [1, 1, 1], [0, 0], [-1, 2], [float("nan"), 1], [float("inf"), 1], 1.0, "ab"])
def test_bad_probabilities(p):
    envs = NppVectorEnv(2, [LOCKED, SHAFT], ("game_state",))
    with pytest.raises(ValueError, match=r"^level probabilities: expected 2 numbers, none negative, not all zero$"):
        envs.set_level_probabilities(p)


def test_numbers_of_other_types_are_the_same_numbers():
    """They must not make Numba compile everything again for other argument types."""
    envs = NppVectorEnv(
        np.int64(2), [LOCKED], ("game_state",), np.int32(4), gamma=1, completion=np.float32(5), death=-2, switch=1,
        time=0, distance=1, shaping_distance=100, max_frames=np.int64(40),
    )  # fmt: skip
    kinds = {name: type(value) for name, value in envs._rules._asdict().items()}
    assert set(kinds.values()) == {int, float, bool}
    assert [name for name, kind in kinds.items() if kind is not float] == ["frame_skip", "max_frames", "time_ends"]
    envs.reset()
    envs.step(np.array([0, 5], np.uint8))


def test_a_single_game_takes_the_code_compiled_for_a_batch(monkeypatch):
    """Numba compiles a function once more for arguments of other types, and array layouts are part of them."""
    types = defaultdict(set)

    def noted(name, kernel, *arguments):
        types[name].add(tuple(map(numba.typeof, arguments)))
        kernel(*arguments)

    for name in ("advance_all", "graph_all", "draw_all", "plan_games"):
        monkeypatch.setattr(env, name, functools.partial(noted, name, getattr(env, name)))
    for games in (1, 3):
        envs = NppVectorEnv(games, [LOCKED], tuple(OBSERVATIONS))
        envs.reset()
        envs.step(np.zeros(games, np.int64))
    assert {name: len(found) for name, found in types.items()} == dict.fromkeys(types, 1) and len(types) == 4


def test_an_observation_and_a_reward_have_two_places():
    """benchmark/examples/README.md lists them. All else follows from OBSERVATIONS, REWARD_KEYS and Rules."""
    apart = {*GRAPH_OBSERVATIONS, "player_frames", "global_view"}
    assert {*games_module.Observed._fields} == OBSERVATIONS.keys() - apart
    weights = {*REWARD_KEYS} - {"shaping"}
    assert weights <= {*games_module.Rules._fields} and weights <= inspect.signature(NppVectorEnv).parameters.keys()
    assert [EPISODE_MEANS[f"reward/{name}"] for name in REWARD_KEYS] == [f"r_{name}" for name in REWARD_KEYS]
    assert EPISODE["parts"].shape == (len(REWARD_KEYS),) and EPISODE_KEYS[games_module.PARTS_AT :] == tuple(
        f"r_{name}" for name in REWARD_KEYS
    )
    package = Path(games_module.__file__).parents[1]
    named = re.compile(rf"""["']r_({"|".join(REWARD_KEYS)})["']|\bRules\([^*)\n]""")
    others = {path.name for path in package.rglob("*.py") if named.search(path.read_text())}
    assert others <= {"games.py", "env.py"}
