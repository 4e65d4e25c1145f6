"""Everything that a run needs is compiled before its clock starts, by two processes where the cache is cold.

And nothing is imported by then that takes long and is not needed.
"""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hand_made import corridor

from npp_rl import ppo_mlp_baseline
from npp_rl.environment import ahead
from npp_rl.environment.env import NppVectorEnv
from npp_rl.evaluation import analysis
from npp_rl.simulator import compiled, simulate
from npp_rl.training import processes

ROOT = Path(__file__).parents[1]

# Trains for a moment with all that happens in a run, and prints which functions took a form after its clock began.
TRAIN = """
import importlib, json, sys
from pathlib import Path
from npp_rl import make_levels
from npp_rl.simulator import compiled
from npp_rl.training import clock
from npp_rl.training.arguments import parse_args

def forms():
    return {f"{k} {f.py_func.__qualname__}": len(f.overloads) for k, f in enumerate(compiled._functions)}

begin, began = clock.Clock.begin, []
SLOW = "torch._dynamo", "torch._inductor", "sympy", "tensorboard", "boto3", "wandb", "matplotlib", "optuna"
def noted(self, *arguments):
    began.append((forms(), [name for name in SLOW if name in sys.modules]))
    return begin(self, *arguments)
clock.Clock.begin = noted

name, *words = sys.argv[1:]
for split, count in (("train", 8), ("test", 1)):
    make_levels.main(make_levels.Args(out=Path(split), count=count, categories=("simplest",), split=split))
script = importlib.import_module(f"npp_rl.ppo_{name}")
script.main(parse_args(script.Args, words))
((before, slow),), after = began, forms()
dynamo = [name for name in SLOW[:2] if name in sys.modules]
print("\\nnew", json.dumps([name for name in after if after[name] != before.get(name, 0)] + slow + dynamo))
"""
TINY = "--num-envs 4 --num-steps 8 --num-minibatches 2 --total-timesteps 96 --renew-freq 32 --fresh-levels 3 --no-cuda"
TINY += " --frame-skip 24 --threads 2 --size small --validation-fraction 0.3 --train-dataset train --test-dataset test"


@pytest.mark.parametrize("name", ["mlp_baseline", "vision_free"])
def test_no_function_is_compiled_after_the_clock_began_and_nothing_slow_is_imported_before(name, tmp_path):
    command = [sys.executable, "-c", TRAIN, name, *TINY.split(), "--run-dir", "run"]
    command += ["--capture-video"] if name == "mlp_baseline" else []
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.rpartition("\nnew ")[2]) == []
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert {"train", "eval", "test"} <= set(kinds)


def test_what_comes_after_it_leaves_the_threads_of_torch_alone():
    """Numba's first parallel call sets torch's number of threads, and that number can change how products round."""
    code = (
        "import torch; from npp_rl.evaluation import analysis; from npp_rl.environment.env import NppVectorEnv\n"
        "torch.set_num_threads(3)\n"
        "analysis.compile_ahead()\n"
        "assert torch.get_num_threads() == 3\n"
        "NppVectorEnv(2, 'builtin', ('game_state',)).reset()\n"
        "assert torch.get_num_threads() == 3\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_functions_are_compiled_without_being_called():
    """`chosen` ones get the form of their arguments, all others are skipped, and afterwards all are as before."""

    @compiled.njit
    def raised(x):
        x[0] += 1
        return x[0]

    @compiled.njit
    def left(x):
        return x + 1

    number = np.zeros(1)
    with compiled.only_compiling(lambda name: name == "raised"):
        assert raised(number) is None and left(2) is None
    assert number[0] == 0 and len(raised.overloads) == 1 and not left.overloads
    assert raised(number) == 1 and len(raised.overloads) == 1
    assert left(2) == 3


def test_an_environment_is_compiled_for_without_playing():
    called = []
    with compiled.only_compiling(lambda name: called.append(name)):  # none
        envs = NppVectorEnv(2, [corridor()], ("game_state",))
        envs.reset(seed=0)
    assert {"_plan_levels", "plan_games", "advance_all"} <= set(called)
    assert not envs._obs["game_state"].any()
    assert len(simulate(corridor().map_data, bytes(3))[0]) == 3


class Second:
    """Stands for the second process."""

    def __init__(self, command, **options):
        Second.started.append(command)
        self.stdin = types.SimpleNamespace(close=lambda: None)

    def wait(self):
        Second.waited = True

    def kill(self):
        pass


@pytest.fixture
def cold(monkeypatch, tmp_path):
    """A cache in which nothing is compiled yet."""
    Second.started, Second.waited = [], False
    monkeypatch.setattr(ahead.subprocess, "Popen", Second)
    monkeypatch.setattr(ahead, "_record", lambda: tmp_path / "ahead.json")
    monkeypatch.setattr(ahead.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    return tmp_path / "ahead.json"


def test_a_cold_cache_takes_two_processes_and_is_remembered(cold):
    assert "about a minute" in ahead.begin() and len(Second.started) == 1
    assert ahead.begin() == "" and len(Second.started) == 1, "it has begun"
    ahead.finish(("game_state",), [])
    assert Second.waited and json.loads(cold.read_text())["seconds"] > 0
    assert ahead.begin() == "" and len(Second.started) == 1, "all is compiled"
    noted = json.loads(cold.read_text())
    cold.write_text(json.dumps(noted | {"stamp": "of other sources", "step": "of others", "seconds": 41.7}))
    assert "(42 s last time)" in ahead.begin() and len(Second.started) == 2
    ahead.finish((), [])
    assert json.loads(cold.read_text())["step"] == noted["step"]


def test_what_plays_recorded_games_is_compiled_meanwhile(cold, monkeypatch):
    """And not after the second process, while one core has nothing to do."""
    calls = []
    monkeypatch.setattr(ahead, "simulate", lambda *arguments: calls.append((Second.waited, compiled._chosen("play"))))
    ahead.begin()
    ahead.finish(("game_state",), [])
    assert calls[0] == (False, True) and calls[-1][0]


@pytest.mark.parametrize("cold_cache", [True, False])
def test_other_ranks_leave_the_cores_to_those_that_compile(cold_cache, monkeypatch):
    """They wait before they read or make levels. Each of them waits once, as rank 0 lets them pass once."""
    waits = []
    monkeypatch.setattr(analysis.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(analysis.dist, "barrier", lambda: waits.append(1))
    monkeypatch.setattr(ahead, "is_cold", lambda: cold_cache)
    monkeypatch.setattr(ahead, "finish", lambda *arguments: None)
    monkeypatch.setattr(processes, "join", lambda *arguments: torch.device("cpu"))
    monkeypatch.setattr(processes, "set_threads", lambda *arguments: 1)
    monkeypatch.setattr(processes, "end_on_signals", lambda text: None)
    for name, value in (("RANK", "1"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    processes.begin(ppo_mlp_baseline.Args(cuda=False), ppo_mlp_baseline.SIZES)
    assert len(waits) == cold_cache
    analysis.compile_ahead.__wrapped__(("game_state",))
    assert len(waits) == 1
    analysis.compile_ahead.__wrapped__(("game_state", "arcs"))
    assert len(waits) == 2


def test_an_edit_beside_the_step_needs_no_second_process(cold):
    ahead.begin()
    ahead.finish(("game_state",), [])
    noted = json.loads(cold.read_text()) | {"stamp": "of other sources", "seconds": 41.7}
    cold.write_text(json.dumps(noted))
    assert ahead.begin() == "compiling what has changed in the simulator" and len(Second.started) == 1
    ahead.finish((), [])
    after = json.loads(cold.read_text())
    assert after["seconds"] == 41.7 and after["stamp"] != noted["stamp"] and after["step"] == noted["step"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"seconds": "x"}', "\0", '{"seconds": NaN}'])
def test_a_broken_note_is_none(cold, content):
    cold.write_text(content)
    assert "about a minute" in ahead.begin()
    ahead.finish((), [])


def test_one_core_or_no_cache_is_one_process(cold, monkeypatch):
    monkeypatch.setattr(ahead.os, "sched_getaffinity", lambda process: {0}, raising=False)
    assert ahead.begin() and not Second.started
    ahead.finish((), [])
    monkeypatch.setattr(ahead.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr(ahead, "_record", lambda: None)
    assert ahead.begin() and not Second.started
    ahead.finish((), [])


def test_the_second_process_compiles_the_step_and_ends_with_its_parent():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from npp_rl.environment import ahead, games; ahead.second()"
    code += "; print(len(games.advance_all.overloads))"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.read() == b"1\n"
        process.stdin.close()
    with subprocess.Popen(
        [sys.executable, "-c", code + "; import time; time.sleep(60)"], stdin=subprocess.PIPE
    ) as left:
        left.stdin.close()
        assert left.wait(50) == 1
