"""One game opens no pool of threads, so that a process that has played one can fork; and forked processes can play.

GNU OpenMP, whose threads Numba uses where there is no TBB, ends a forked process that uses its parent's threads.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hand_made import corridor, here

from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import OBSERVATIONS
from npp_rl.evaluation.retrace import retrace
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.generator import generate
from npp_rl.simulator import compiled

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no fork")

BEGIN = """
import multiprocessing, os, sys
sys.path.insert(0, os.path.join({root!r}, "tests"))
import gymnasium as gym, numpy as np
from hand_made import corridor
from npp_rl.environment.games import OBSERVATIONS
SOME = dict(levels=[corridor(), corridor(spawn=9)], observations=tuple(OBSERVATIONS))
def make():
    return gym.make("npp_rl:npp_rl/Npp-v0", **SOME)
def threads():
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
def returns(envs):
    envs.reset(seed=0)
    return [float(envs.step(np.full(2, a))[1].sum()) for a in (2, 5, 0, 2)]
def child(queue):
    queue.put(returns(gym.make_vec("npp_rl:npp_rl/Npp-v0", num_envs=2, **SOME)))
"""
ONE_GAME = """
env = make()
before = threads()
env.reset(seed=0)
for action in (2, 2, 5):
    env.step(action)
assert threads() == before, (before, threads())
envs = gym.vector.AsyncVectorEnv([make, make], context="fork")
envs.reset(seed=0)
for _ in range(3):
    rewards = envs.step(np.array([2, 2]))[1]
envs.close()
assert rewards.shape == (2,) and np.isfinite(rewards).all()
print("played")
"""
BATCH = """
mine = returns(gym.make_vec("npp_rl:npp_rl/Npp-v0", num_envs=2, **SOME))
context = multiprocessing.get_context("fork")
queue = context.SimpleQueue()
process = context.Process(target=child, args=(queue,))
process.start()
process.join(60)
assert process.exitcode == 0, process.exitcode
assert queue.get() == mine
print("played")
"""


@pytest.mark.parametrize("code", [ONE_GAME, BATCH], ids=["one_game", "batch"])
def test_processes_forked_from_one_that_has_played(code):
    code = BEGIN.format(root=str(ROOT)) + code
    settings = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=settings, timeout=120)
    assert (done.returncode, done.stdout) == (0, "played\n"), done.stderr[-2000:]


def run(levels):
    """Observations, rewards and ends of a batch of games, one array after the other."""
    envs = NppVectorEnv(len(levels), levels, tuple(OBSERVATIONS), max_frames=120, seed=0)
    log = list(envs.reset(options={"levels": np.arange(len(levels))})[0].values())
    random = np.random.default_rng(2)
    for _ in range(40):
        obs, *rest, infos = envs.step(random.integers(0, 6, len(levels)))
        log += [*obs.values(), *rest, *infos.get("outcome", {}).values()]
    return log


def test_without_threads_games_are_the_same(monkeypatch):
    levels = [generate(category, 30 + k) for k, category in enumerate(CATEGORIES)]
    levels += [corridor(mines=[here(8)]), corridor(spawn=10, switch=14, door=24, locked=[((504, 300), 0, here(6))])]
    episodes = [(k, "2225552111" * 3, 117 + k) for k in range(len(levels))]
    assert not compiled.serial(len(levels)) and compiled.serial(1)
    with_threads, traced = run(levels), retrace(levels, episodes, 4, 60)
    monkeypatch.setattr(compiled, "_forked", True)
    assert compiled.serial(len(levels))
    without, retraced = run(levels), retrace(levels, episodes, 4, 60)
    assert len(without) == len(with_threads)
    assert all(np.array_equal(a, b) for a, b in zip(without, with_threads, strict=True))
    assert np.array_equal(traced, retraced)


def test_a_process_is_forked_only_from_one_with_threads(monkeypatch):
    for layer, forked in (("omp", True), ("tbb", False), ("workqueue", False)):
        monkeypatch.setattr(compiled.numba, "threading_layer", lambda layer=layer: layer)
        compiled._note_fork()
        assert compiled._forked is forked

    def none():
        raise ValueError("Threading layer is not initialized.")

    monkeypatch.setattr(compiled.numba, "threading_layer", none)
    compiled._note_fork()
    assert compiled._forked is False
