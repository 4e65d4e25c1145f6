"""Compile all kernels before the clock of a run starts, with two processes where the cache has none yet.

Numba compiles on one core. The kernel of a step, `advance_all`, takes as long as all others together, so a second
process compiles it while this one compiles the others; both leave their results in the cache. `ahead.json` beside them
says what is compiled, and how many seconds that took. Other processes of a run wait meanwhile, so that the two have the
cores.
"""

import atexit
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numba.core.registry import cpu_target

from npp_rl.environment import games
from npp_rl.environment.env import NppVectorEnv
from npp_rl.files import read_json, write_json
from npp_rl.levels.generator import generate
from npp_rl.levels.maps import Level, encode_map
from npp_rl.simulator import compiled, simulate, stamps
from npp_rl.viewing.render import reachable

ROOT = Path(__file__).resolve().parents[2]
STEP = games.advance_all.py_func.__name__

_begun = 0.0  # when compiling began
_second = None  # the second process
waited = False  # whether this process has waited for the one that compiles


def _record() -> Path | None:
    """The file that notes what is compiled; None where nothing can be kept."""
    folder = games.advance_all._cache.cache_path
    return Path(folder) / "ahead.json" if folder else None


def _noted() -> dict:
    """`stamp` and `step`, what is compiled, and `seconds` that it took, the last time with `step`; {} if unknown."""
    with contextlib.suppress(OSError, ValueError, AttributeError, KeyError, TypeError):
        noted = read_json(_record())
        if 0 < noted["seconds"] < 1e6:
            return noted
    return {}


def _stamps() -> dict[str, str]:
    """`stamp` of all sources, `step` of the kernel of a step, both with the processor."""
    processor = cpu_target.target_context.codegen().magic_tuple()
    step = stamps.function_stamp(games.advance_all)
    return {"stamp": f"{stamps.source_stamp()} {processor}", "step": f"{step} {processor}"}


def is_cold() -> bool:
    """Whether something is not compiled yet."""
    return _noted().get("stamp") != _stamps()["stamp"]


def begin() -> str:
    """Start the second process where it is needed -> how long compiling will take, "" if there is nothing to do.

    `finish` does the rest. To call it early lets other work, such as reading levels, pass meanwhile.
    """
    global _begun, _second
    noted = _noted()
    if _begun or not is_cold():
        return ""
    _begun = time.monotonic()
    if noted.get("step") == _stamps()["step"]:  # an edit of something that a step does not call
        return "compiling what has changed in the simulator"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if _record() is not None and cores > 1:
        code = "import sys; sys.path.insert(0, sys.argv[1]); from npp_rl.environment import ahead; ahead.second()"
        with contextlib.suppress(OSError):
            command = [sys.executable, "-c", code, str(ROOT)]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            _second = subprocess.Popen(command, stdin=subprocess.PIPE, **quiet)
            atexit.register(_second.kill)
    last = f"{noted['seconds']:.0f} s last time" if noted else "about a minute on two free cores, two on one"
    return f"compiling the simulator, which takes a while at the first start ({last})"


def second() -> None:
    """The second process: compile the kernel of a step. It ends with its parent, whose pipe is its input."""
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(1)), daemon=True).start()
    tiles = np.ones((23, 42), np.uint8)
    tiles[11, 4:10] = 0
    level = Level(encode_map(tiles, [[0, 22, 50, 0, 0], [3, 38, 50, 0, 0], [4, 30, 50, 0, 0]]), "corridor", "simplest")
    _compile(level, lambda name: name == STEP, ("game_state",))


def _compile(level, chosen, observations):
    """Compile the `chosen` functions (by name) of an environment, without playing."""
    with compiled.only_compiling(chosen):
        envs = NppVectorEnv(num_envs=2, levels=[level], observations=observations)
        envs.reset(seed=0)
        envs.close()


def finish(observations: Sequence[str], others: Sequence[Callable[[Level], object]] = ()) -> None:
    """Compile what `begin` has left, or load it from the cache.

    observations: of the run. others: functions of rooms above this one that call theirs for a level.
    """
    global _begun, _second
    cold = bool(_begun)
    level = generate("simplest", 0)
    seen = tuple(dict.fromkeys(("game_state", "arcs", *observations)))
    _compile(level, lambda name: name != STEP, seen)
    with compiled.only_compiling(lambda name: name != STEP):
        for other in others:
            other(level)
    if _second is not None:
        with compiled.only_compiling(lambda name: name != STEP):
            simulate(level.map_data, bytes(1))  # takes as long as a third of a step, which the second process compiles
        _second.wait()
        atexit.unregister(_second.kill)
        _second.stdin.close()
    # From the cache, unless the second process failed. This is also the first parallel call, which may change torch's
    # number of threads: the caller restores it.
    envs = NppVectorEnv(num_envs=2, levels=[level], observations=("game_state",))
    envs.reset(seed=0)
    envs.close()
    simulate(level.map_data, bytes(1))  # for pictures and videos, as the next
    reachable(level.map_data)
    if cold:
        noted, now, record = _noted(), _stamps(), _record()
        seconds = max(round(time.monotonic() - _begun, 1), 0.1)
        if noted.get("step") == now["step"]:
            seconds = noted["seconds"]
        _begun, _second = 0.0, None
        if record is not None:
            with contextlib.suppress(OSError):
                write_json(record, now | {"seconds": seconds})
