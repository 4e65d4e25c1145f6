"""The compiled N++ simulator: exact physics as PHYSICS.md specifies, for single runs and for batches of games.

`simulate` and `simulate_final` play one map with one input string. Kernels play batches: a `Bank` holds the levels
(`build_bank`), `new_state` makes rows of games, and `reset_game` and `frame` act on one game.
"""

import functools

import numpy as np

from npp_rl.simulator.compiled import njit
from npp_rl.simulator.layout import DEAD, WON, Bank, State
from npp_rl.simulator.loading import build_bank, check_map, new_state, reset_game, row_bytes
from npp_rl.simulator.ninja import frame

__all__ = [
    "DEAD",
    "WON",
    "Bank",
    "State",
    "build_bank",
    "check_map",
    "frame",
    "new_state",
    "play",
    "reset_game",
    "row_bytes",
    "simulate",
    "simulate_final",
]


@njit(_nrt=False)
def play(bank, state, i, inputs, trajectory, states):
    """Play input bytes u1 [n] (PHYSICS.md 7) in game i until death or victory -> frames played.

    Writes x, y, u, v (px, px per frame) to trajectory f8 [n, 4] and the ninja's state to states u1 [n].
    """
    n = state.ninja[i]
    for t in range(len(inputs)):
        b = inputs[t]
        h = -1 if b & 4 else (1 if b & 2 else 0)
        frame(bank, state, i, h, b & 1)
        trajectory[t, 0] = n.x
        trajectory[t, 1] = n.y
        trajectory[t, 2] = n.u
        trajectory[t, 3] = n.v
        states[t] = n.state
        if n.state == DEAD or n.state == WON:
            return t + 1
    return len(inputs)


def simulate_final(map_data: bytes, inputs: bytes, unfinished: bool = False):
    """Play a map from its start and report how it ended.

    Returns trajectory float64 [frames, 4] (x, y in px, velocity in px per frame, after each frame), states uint8
    [frames] (PHYSICS.md 4.2), gold (int) and entities float64 [k, 5] (type, x, y, active, state) in the order of
    PHYSICS.md 5.1. The run ends with the first frame in which the ninja is dead (6) or has won (8), or when the inputs
    are used up. unfinished: as in `build_bank`.

    Raises ValueError, one line that names the record and the value, for a map that PHYSICS.md 8.5 rejects.
    """
    map_data, inputs = _plain_bytes("map_data", map_data), _plain_bytes("inputs", inputs)
    bank = _bank(map_data, unfinished)
    _, state = new_state(bank, 1)
    reset_game(bank, state, 0, 0)
    keys = np.frombuffer(inputs, np.uint8)
    trajectory = np.zeros((len(keys), 4))
    states = np.zeros(len(keys), np.uint8)
    frames = play(bank, state, 0, keys, trajectory, states)
    count = int(bank.level["entities"][0])
    entities = np.zeros((count, 5))
    entities[:, 0] = bank.entity["type"][:count]
    entities[:, 1] = bank.entity["x"][:count]
    entities[:, 2] = bank.entity["y"][:count]
    movers = int(bank.level["movers"][0])
    at = bank.mover[:movers]
    entities[at, 1] = state.mover["x"][0, :movers]
    entities[at, 2] = state.mover["y"][0, :movers]
    entities[:, 3] = state.active[0, :count]
    entities[:, 4] = state.state[0, :count] * (entities[:, 0] != 24)
    return trajectory[:frames], states[:frames], int(state.ninja["gold"][0]), entities


@functools.lru_cache(64)  # a level is often played many times in a row, and its bank takes most of a short run's time
def _bank(map_data, unfinished):
    return build_bank([map_data], unfinished)


def _plain_bytes(what, data) -> bytes:
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(f"{what} is a {type(data).__name__}: expected bytes") from None
    if view.itemsize != 1:
        raise TypeError(f"{what} holds {view.itemsize}-byte numbers: expected bytes")
    return bytes(view)


def simulate(map_data: bytes, inputs: bytes, unfinished: bool = False):
    """The first two results of `simulate_final`: trajectory float64 [frames, 4], states uint8 [frames]."""
    return simulate_final(map_data, inputs, unfinished)[:2]
