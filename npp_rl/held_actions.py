"""From an input byte for every frame to actions that are held for several frames, as an agent has to hold them.

A run of a person changes its inputs in any frame. `fit` looks for held actions that follow its trajectory and still win
the level: a beam search over snapshots of the simulator, in compiled code. After each step every state of the beam
tries the six actions; a child is scored by how far it is from the recorded run, in place and speed, at the frame near
its own that fits best (a few frames of slack, so that it may fall behind or get ahead), by the switches that are hit in
one of the two only, and by how long it held another action than the person. Of children that are nearly the same the
best one goes on.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from npp_rl.env import ACTION_BYTES
from npp_rl.simulator import DEAD, WON, build_bank, frame, new_state, play, reset_game
from npp_rl.simulator.compiled import njit
from npp_rl.simulator.layout import EXIT_SWITCH, LOCKED_DOOR, TRAP_DOOR

ACTION_COUNT = len(ACTION_BYTES)
# Action of each input byte & 7: left beats right (PHYSICS.md 7), bit 0 is the jump.
ACTION_OF_BYTE = np.array([0, 3, 2, 5, 1, 4, 1, 4], np.uint8)

WIDTHS = (128, 1024, 6144)  # states in the beam: the next one where the search with the last one failed
SLACK = 3  # frames by which a step may fall behind the recorded run, or get ahead of it
LONGER = 120  # frames that the held run may last longer than the recorded one
SPEED_WEIGHT = 4.0  # px to a px per frame: how far it leads within a step of four frames
SLACK_WEIGHT = 0.5  # px to a frame of slack
SWITCH_WEIGHT = 60.0  # px to a switch that is hit in one of the runs only
ACTION_WEIGHT = 1.0  # px to a step that held another action all the time


class Recorded(NamedTuple):
    """What the search follows, by frame; frame 0 is the start."""

    path: np.ndarray  # f8 [frames + 1, 4]: x, y in px, velocity in px per frame
    hit: np.ndarray  # u1 [frames + 1, switches]: activity of each switch
    actions: np.ndarray  # u1 [frames + 1]: action of each frame, the last one twice
    switches: np.ndarray  # i4 [switches]: exit, locked door's and trap door's switches, index among the entities


class Children(NamedTuple):
    """What became of each state of the beam under each action, [6 * width]; child 6 i + a is of parent i."""

    progress: np.ndarray  # i4: frame of the recorded run that it has come to
    effort: np.ndarray  # f8: steps' worth of frames in which it held another action than recorded
    score: np.ndarray  # f8: px; infinite for the dead
    won: np.ndarray  # bool


def on_grid(inputs: bytes, frame_skip: int) -> np.ndarray | None:
    """Actions u1 [steps] of inputs that are held for `frame_skip` frames each (the last ones may be fewer), or None."""
    actions = ACTION_OF_BYTE[np.frombuffer(inputs, np.uint8) & 7]
    steps = actions[::frame_skip]
    return steps.copy() if np.array_equal(np.repeat(steps, frame_skip)[: len(actions)], actions) else None


def held_inputs(actions: np.ndarray, frame_skip: int) -> bytes:
    """Input bytes, one a frame, of actions that are held."""
    return np.repeat(ACTION_BYTES[actions], frame_skip).tobytes()


@njit(_nrt=False)
def _note_switches(bank, state, inputs, switches, hit):
    """Play inputs u1 [n] in game 0, from its start, and write the switches' activity to hit u1 [n + 1, switches]."""
    reset_game(bank, state, 0, 0)
    for k in range(len(switches)):
        hit[0, k] = state.active[0, switches[k]]
    for t in range(len(inputs)):
        b = inputs[t]
        h = -1 if b & 4 else (1 if b & 2 else 0)
        frame(bank, state, 0, h, b & 1)
        for k in range(len(switches)):
            hit[t + 1, k] = state.active[0, switches[k]]


@njit(parallel=True)
def _expand(bank, rows, chosen, progress, effort, state, child_rows, recorded, frame_skip, children):
    """Play all actions from the chosen rows into child_rows, of which `state` is the view, and score the children.

    chosen i4 [n]: rows that go on; progress, effort: theirs.
    """
    frames = len(recorded.path) - 1
    for index in prange(ACTION_COUNT * len(chosen)):
        c = np.int64(index)  # indices of prange are unsigned: every kernel would be compiled for them once more
        parent = c // ACTION_COUNT
        action = c % ACTION_COUNT
        source = chosen[parent]
        for k in range(rows.shape[1]):
            child_rows[c, k] = rows[source, k]
        n = state.ninja[c]
        keys = ACTION_BYTES[action]
        h = -1 if keys & 4 else (1 if keys & 2 else 0)
        before = progress[parent]
        other = 0
        for f in range(frame_skip):
            other += recorded.actions[min(before + f, frames)] != action
            frame(bank, state, c, h, keys & 1)
            if n.state == DEAD or n.state == WON:
                break
        children.won[c] = n.state == WON
        children.effort[c] = effort[parent] + other / frame_skip
        best = np.inf
        at = before
        if n.state != DEAD:
            there = before + frame_skip
            first = min(max(there - SLACK, before), frames)
            for t in range(first, min(there + SLACK, frames) + 1):
                x = n.x - recorded.path[t, 0]
                y = n.y - recorded.path[t, 1]
                u = n.u - recorded.path[t, 2]
                v = n.v - recorded.path[t, 3]
                far = np.sqrt(x * x + y * y) + SPEED_WEIGHT * np.sqrt(u * u + v * v) + SLACK_WEIGHT * abs(t - there)
                for k in range(len(recorded.switches)):
                    if state.active[c, recorded.switches[k]] != recorded.hit[t, k]:
                        far += SWITCH_WEIGHT
                if far < best:
                    best = far
                    at = t
        children.progress[c] = at
        children.score[c] = best + ACTION_WEIGHT * children.effort[c]


@njit
def _signature(state, c, switches):
    """A number that is equal for games that are nearly the same."""
    n = state.ninja[c]
    code = np.int64(np.floor(n.x * 1.5)) * 4001 + np.int64(np.floor(n.y * 1.5))
    code = code * 97 + np.int64(np.floor(n.u * 6.0))
    code = code * 97 + np.int64(np.floor(n.v * 6.0))
    code = code * 16 + n.state
    code = code * 4 + 2 * n.jump_before + (n.jump_buffer >= 0)
    for k in range(len(switches)):
        code = code * 3 + state.active[c, switches[k]]
    return code


@njit
def _choose(state, order, children, switches, width, table, chosen):
    """Indices of the children that go on, best first, into chosen i4 -> how many.

    order: children by score. table: scratch i8 [a power of two, larger than all children].
    """
    table[:] = -1
    mask = len(table) - 1
    count = 0
    for c in order:
        if count == width or children.score[c] == np.inf:
            break
        code = _signature(state, c, switches) & 0x7FFFFFFFFFFFFFFF
        place = (code ^ (code >> 29)) & mask
        while table[place] != -1 and table[place] != code:
            place = (place + 1) & mask
        if table[place] == -1:
            table[place] = code
            chosen[count] = c
            count += 1
    return count


def record(bank, inputs: bytes) -> Recorded:
    """The run of `inputs` on the only level of a bank, as far as it goes."""
    keys = np.frombuffer(inputs, np.uint8)
    _, state = new_state(bank, 1)
    reset_game(bank, state, 0, 0)
    level = bank.level[0]
    path = np.zeros((len(keys) + 1, 4))
    path[0, :2] = level["spawn_x"], level["spawn_y"]
    frames = play(bank, state, 0, keys, path[1:], np.zeros(len(keys), np.uint8))
    kinds = bank.entity["type"][: int(level["entities"])]
    switches = np.flatnonzero(np.isin(kinds, (EXIT_SWITCH, LOCKED_DOOR, TRAP_DOOR))).astype(np.int32)
    hit = np.zeros((frames + 1, len(switches)), np.uint8)
    _note_switches(bank, state, keys[:frames], switches, hit)
    actions = ACTION_OF_BYTE[keys[:frames] & 7]
    return Recorded(path[: frames + 1], hit, np.append(actions, actions[-1:]), switches)


def fit(map_data: bytes, inputs: bytes, frame_skip: int, widths: tuple[int, ...] = WIDTHS) -> np.ndarray | None:
    """Held actions u1 [steps] that follow a run that wins and win too, None where none are found.

    inputs: one byte a frame. Inputs that are held already are taken as they are, without a search. The same input gives
    the same output, whatever the number of threads.
    """
    actions = on_grid(inputs, frame_skip)
    if actions is not None:
        return actions
    bank = build_bank([map_data])
    recorded = record(bank, inputs)
    for width in widths:
        actions = _search(bank, recorded, frame_skip, width)
        if actions is not None:
            return actions
    return None


def _search(bank, recorded, frame_skip, width):
    count = ACTION_COUNT * width
    (rows, state), (other_rows, other_state) = new_state(bank, count), new_state(bank, count)
    reset_game(bank, state, 0, 0)
    children = Children(np.zeros(count, np.int32), np.zeros(count), np.zeros(count), np.zeros(count, np.bool_))
    table = np.zeros(1 << (2 * count).bit_length(), np.int64)
    chosen, progress, effort = np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros(1)
    picked = np.zeros(width, np.int32)
    history = []  # children that went on after each step
    for _ in range((len(recorded.path) - 1 + LONGER) // frame_skip + 1):
        made = ACTION_COUNT * len(chosen)
        _expand(bank, rows, chosen, progress, effort, other_state, other_rows, recorded, frame_skip, children)
        rows, state, other_rows, other_state = other_rows, other_state, rows, state
        won = np.flatnonzero(children.won[:made])
        if len(won):
            return _way_to(won[children.effort[won].argmin()], history)
        order = np.argsort(children.score[:made], kind="stable")
        alive = _choose(state, order, children, recorded.switches, width, table, picked)
        if not alive:
            return None
        chosen = picked[:alive].copy()
        progress, effort = children.progress[chosen], children.effort[chosen]
        history.append(chosen)
    return None


def _way_to(child, history):
    """Actions u1 [steps] that lead to a child of the last step."""
    actions = []
    for chosen in [*reversed(history), None]:
        parent, action = divmod(int(child), ACTION_COUNT)
        actions.append(action)
        child = chosen[parent] if chosen is not None else 0
    return np.array(actions[::-1], np.uint8)
