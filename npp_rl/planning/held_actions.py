"""From one input byte for every frame to actions that are held for several frames, as an agent holds them.

A person's run may change its inputs in any frame. `fit` searches for held actions that follow the run's trajectory and
still win the level: a beam search over snapshots of the simulator. In each step every state of the beam tries the six
actions. A child's score is the sum of

- its distance from the recorded run, in place and speed, at the best fitting frame near its own (some frames of slack
  let it fall behind or get ahead);
- a penalty for each switch that is hit in only one of the two runs;
- a penalty for the time in which it held another action than the person.

Of children that are nearly the same, the best one goes on.
"""

from typing import NamedTuple

import numpy as np

from npp_rl.environment.games import ACTION_BYTES, EPISODE, Rules, play_all
from npp_rl.environment.goals import GOAL
from npp_rl.simulator import DEAD, WON, build_bank, new_state, play, reset_game
from npp_rl.simulator.layout import EXIT_SWITCH, LOCKED_DOOR, TRAP_DOOR

ACTION_COUNT = len(ACTION_BYTES)
# Action of each input byte & 7: left beats right (PHYSICS.md 7), bit 0 is the jump.
ACTION_OF_BYTE = np.array([0, 3, 2, 5, 1, 4, 1, 4], np.uint8)

WIDTHS = (128, 1024, 4096)  # states in the beam, tried in this order until a search succeeds
SLACK = 3  # frames by which a step may fall behind the recorded run, or get ahead of it
LONGER = 120  # frames that the held run may last longer than the recorded one
# Weights of a score, which is in px.
SPEED_WEIGHT = 4.0  # for a px per frame: how far it leads within a step of four frames
SLACK_WEIGHT = 0.5  # for a frame of slack
SWITCH_WEIGHT = 60.0  # for a switch that is hit in only one of the runs
ACTION_WEIGHT = 1.0  # for a step that held another action all the time
SAME = (0.7, 0.7, 0.17, 0.17)  # px, px, px per frame, px per frame: states in one such cell count as the same


class Recorded(NamedTuple):
    """The run that the search follows, by frame; frame 0 is the start."""

    path: np.ndarray  # f8 [frames + 1, 4]: x, y in px, velocity in px per frame
    hit: np.ndarray  # u1 [frames + 1, switches]: whether each switch is still active
    actions: np.ndarray  # u1 [frames]: action of each frame
    switches: np.ndarray  # int [switches]: indices of the switches of exits, locked and trap doors among the entities


def on_grid(inputs: bytes, frame_skip: int) -> np.ndarray | None:
    """Actions u1 [steps] of inputs that are held for `frame_skip` frames each (the last one may end early), or None."""
    actions = ACTION_OF_BYTE[np.frombuffer(inputs, np.uint8) & 7]
    steps = actions[::frame_skip]
    return steps.copy() if np.array_equal(np.repeat(steps, frame_skip)[: len(actions)], actions) else None


def record(bank, inputs: bytes) -> Recorded:
    """Play `inputs` on the only level of a bank, until the game ends."""
    keys = np.frombuffer(inputs, np.uint8)
    _, state = new_state(bank, 1)
    reset_game(bank, state, 0, 0)
    level = bank.level[0]
    kinds = bank.entity["type"][: int(level["entities"])]
    switches = np.flatnonzero(np.isin(kinds, (EXIT_SWITCH, LOCKED_DOOR, TRAP_DOOR)))
    path = np.zeros((len(keys) + 1, 4))
    path[0, :2] = level["spawn_x"], level["spawn_y"]
    hit = [state.active[0, switches]]
    states = np.zeros(1, np.uint8)
    for t in range(len(keys)):
        play(bank, state, 0, keys[t : t + 1], path[t + 1 : t + 2], states)
        hit.append(state.active[0, switches])
        if states[0] in (DEAD, WON):
            break
    return Recorded(path[: len(hit)], np.array(hit), ACTION_OF_BYTE[keys[: len(hit) - 1] & 7], switches)


def fit(map_data: bytes, inputs: bytes, frame_skip: int, widths: tuple[int, ...] = WIDTHS) -> np.ndarray | None:
    """Held actions u1 [steps] that win and follow a run that wins, None where none are found.

    inputs: one byte a frame. Inputs that are held already are taken as they are, without a search. The result does not
    depend on the number of threads.
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
    """Held actions u1 [steps] found with a beam of `width` states, or None."""
    rows, state = new_state(bank, ACTION_COUNT * width)
    reset_game(bank, state, 0, 0)
    beam = rows[:1].copy()
    progress, effort = np.zeros(1, np.int64), np.zeros(1)  # frame of the recorded run, steps with other actions
    # The environment's kernel needs its records; only the limit of frames matters here.
    goals, episodes = np.zeros(len(rows), GOAL), np.zeros(len(rows), EPISODE)
    episodes["limit"] = np.iinfo(np.int32).max
    values = {"frame_skip": frame_skip, "gamma": 1.0, "shaping_distance": 1.0, "max_frames": 0, "time_ends": False}
    rules = Rules(**{name: values.get(name, 0.0) for name in Rules._fields})
    frames = len(recorded.actions)
    # For each recorded frame and action: share of the step from there in which the person held another action.
    other = recorded.actions[:, None] != np.arange(ACTION_COUNT)
    window = np.minimum(np.arange(frames + 1)[:, None] + np.arange(frame_skip), frames - 1)
    other = other[window].mean(1)
    history = []
    for _ in range((frames + LONGER) // frame_skip + 1):
        count = ACTION_COUNT * len(beam)
        rows[:count] = np.repeat(beam, ACTION_COUNT, 0)
        actions = np.tile(np.arange(ACTION_COUNT), len(beam))
        play_all(bank, state, goals[:count], episodes[:count], rules, actions, np.zeros(count, np.bool_))
        ninja = state.ninja[:count]
        effort = np.repeat(effort, ACTION_COUNT) + other[progress].reshape(-1)
        won = np.flatnonzero(ninja["state"] == WON)
        if len(won):
            return _way_to(won[effort[won].argmin()], history)
        alive = np.flatnonzero(ninja["state"] != DEAD)
        ninja, effort = ninja[alive], effort[alive]
        hit = state.active[alive][:, recorded.switches]
        score, progress = _score(ninja, hit, np.repeat(progress, ACTION_COUNT)[alive], recorded, frame_skip)
        order = np.argsort(score + ACTION_WEIGHT * effort, kind="stable")
        first = np.sort(np.unique(_signatures(ninja, hit)[order], return_index=True)[1])  # best of equal ones
        chosen = order[first[:width]]
        if not len(chosen):
            return None
        progress, effort = progress[chosen], effort[chosen]
        beam = rows[alive[chosen]]
        history.append(alive[chosen])
    return None


def _score(ninja, hit, before, recorded, frame_skip):
    """(px to the recorded run, its best fitting frame); before: that frame one step ago."""
    frames = len(recorded.actions)
    here = np.stack([ninja["x"], ninja["y"], ninja["u"], ninja["v"]], 1)
    best, progress = np.full(len(here), np.inf), before.copy()
    for slack in range(-min(SLACK, frame_skip), SLACK + 1):
        at = np.minimum(before + frame_skip + slack, frames)
        x, y, u, v = (here - recorded.path[at]).T
        far = np.hypot(x, y) + SPEED_WEIGHT * np.hypot(u, v) + SLACK_WEIGHT * abs(slack)
        far += SWITCH_WEIGHT * (hit != recorded.hit[at]).sum(1)
        closer = far < best
        best, progress = np.where(closer, far, best), np.where(closer, at, progress)
    return best, progress


def _signatures(ninja, hit):
    """Integers [n], hashes that are equal for games that are nearly the same, and hardly ever for others."""
    code = ninja["state"].astype(np.int64) * 4 + 2 * ninja["jump_before"] + (ninja["jump_buffer"] >= 0)
    parts = [ninja[name] / size for name, size in zip("xyuv", SAME, strict=True)]
    for part in [*parts, *hit.T]:
        code = code * 0x9E3779B97F4A7C1 + np.floor(part).astype(np.int64)  # wraps around
    return code


def _way_to(child, history):
    """Actions u1 [steps] that lead to `child` in the last step; history: the children that went on after each step."""
    actions = []
    for chosen in [*reversed(history), None]:
        parent, action = divmod(int(child), ACTION_COUNT)
        actions.append(action)
        child = chosen[parent] if chosen is not None else 0
    return np.array(actions[::-1], np.uint8)
