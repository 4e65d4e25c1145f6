"""Play episodes again from their actions, to find the way that was left, standing still, and near misses.

This happens frame by frame after the evaluation, so that the evaluation itself does not slow down.
"""

from collections.abc import Sequence

import numpy as np
from numba import prange

from npp_rl.environment.games import EPISODE, MOST, NOTHING, Rules, begin_game, follow_way, play_all
from npp_rl.environment.goals import GOAL, level_fields, plan_games
from npp_rl.levels.maps import Level
from npp_rl.simulator import DEAD, WON, build_bank, new_state
from npp_rl.simulator.compiled import kernel, njit, serial
from npp_rl.simulator.contacts import deadly_radius
from npp_rl.simulator.layout import MINE, SHOVE_THWUMP, THWUMP, TOGGLE_MINE, State

NEAR_PX = 3.0  # about one frame's run (3.3 px): one frame more would have been deadly
AWAY_PX = 9.0  # an approach ends at this distance, so that trembling beside a mine counts once
NEAR_IMPACT = 0.9  # share of the deadly speed; a fall a quarter longer would be deadly (speed grows with its root)
CHUNK = 128  # episodes played at once, sorted by length

RETRACED = np.dtype(
    [
        ("x", "f8"),  # px, where the episode ended
        ("y", "f8"),
        ("way_left", "f8"),  # px along free space through all goals that were left, 0 after winning
        ("closest", "f8"),  # px, least `way_left` at the end of a step
        ("gained", "f8"),  # px by which `closest` fell within the last `window` frames
        ("moved", "f8"),  # px, longer side of the box around all positions in the last `window` frames
        ("near_misses", "i4"),
        ("state", "i4"),  # the ninja's state at the end (PHYSICS.md 4.2)
        # Used during play:
        ("airborne", "i4"),  # before the frame
        ("earlier", "f8"),  # px, `closest` at the beginning of the last `window` frames
        ("left", "f8"),  # px, the box since then
        ("right", "f8"),
        ("upper", "f8"),
        ("lower", "f8"),
    ],
    align=True,
)


@kernel
def _kills(kind, x, y, orientation, status, nx, ny, more):
    """Whether an entity at (x, y) would kill the ninja at (nx, ny) if it reached `more` px farther."""
    dx = nx - x
    dy = ny - y
    if kind == THWUMP:  # its face, from 7 px on one side of the middle to 7 px on the other (PHYSICS.md 5.15)
        if abs(dx) >= 19.1 + more or abs(dy) >= 19.1 + more:
            return False
        forward, aside = (dx, dy) if orientation in (0, 4) else (dy, dx)
        forward -= 11.0 if orientation in (0, 2) else -11.0
        aside = max(abs(aside) - 7.0, 0.0)
        return forward * forward + aside * aside < (12.0 + more) * (12.0 + more)
    if kind == SHOVE_THWUMP and status < 2:  # it kills only while it flies (PHYSICS.md 5.16)
        return False
    radius = deadly_radius(kind)
    return radius > 0.0 and dx * dx + dy * dy < (radius + more) * (radius + more)


@kernel
def _approach(near, kind, x, y, orientation, status, n):
    """Update `near` of one entity (0 away, 1 near, 2 near before deadly) -> (new value, 1 if an approach begins)."""
    if not _kills(kind, x, y, orientation, status, n.x, n.y, AWAY_PX):
        return 0, 0
    if near == 0 and kind == TOGGLE_MINE and status != 0:
        return 2, 0  # it turns deadly as the ninja leaves it, which is no near miss
    if near == 0 and _kills(kind, x, y, orientation, status, n.x, n.y, NEAR_PX):
        return 1, 1
    return near, 0


@kernel
def _approaches(bank, state, i, near):
    """Update `near` (uint8 per entity) after a frame -> number of approaches that began in it."""
    n = state.ninja[i]
    level = bank.level[n.level]
    base = level.entity_start
    begun = 0
    for kind in (MINE, TOGGLE_MINE):
        for k in range(level.type_start[kind], level.type_start[kind + 1]):
            e = bank.entity[k]
            if abs(e.x - n.x) < 48.0 and abs(e.y - n.y) < 48.0:
                near[k - base], new = _approach(near[k - base], kind, e.x, e.y, 0, state.state[i, k - base], n)
                begun += new
            else:
                near[k - base] = 0
    for slot in range(level.movers):
        m = state.mover[i, slot]
        k = bank.mover[level.mover_start + slot]
        e = bank.entity[k]
        near[k - base], new = _approach(near[k - base], e.type, m.x, m.y, e.orientation, state.state[i, k - base], n)
        begun += new
    return begun


@kernel
def _hard_landing(n, airborne):
    """Whether the last frame's impact on floor or ceiling was almost deadly (PHYSICS.md 4.9)."""
    if n.floors > 0 and airborne:
        impact = -(n.nx * n.u1 + n.ny * n.v1)
        if impact > NEAR_IMPACT * (6.0 - (4.0 / 3.0) * abs(n.ny)):
            return True
    if n.ceilings > 0:
        m = np.sqrt(n.kx * n.kx + n.ky * n.ky)
        if m > 0.0:
            impact = -(n.kx * n.u1 + n.ky * n.v1) / m
            return impact > NEAR_IMPACT * (6.0 - (4.0 / 3.0) * abs(n.ky / m))
    return False


@kernel
def _open_window(n, o):
    """Start the measurements over the last `window` frames."""
    o.earlier = o.closest
    o.left = n.x
    o.right = n.x
    o.upper = n.y
    o.lower = n.y


@kernel
def _note(bank, state, i, views, goals, episodes, rules, frames, t, near, o):
    """Update the RETRACED record `o` of game i after its frame t."""
    n = state.ninja[i]
    o.left = min(o.left, n.x)
    o.right = max(o.right, n.x)
    o.upper = min(o.upper, n.y)
    o.lower = max(o.lower, n.y)
    o.near_misses += _approaches(bank, state, i, near)
    if n.state < DEAD and _hard_landing(n, o.airborne):
        o.near_misses += 1
    o.airborne = n.air
    if t % rules.frame_skip == 0 or t == frames:
        follow_way(state, i, views, goals[i], episodes[i])
        o.way_left = 0.0 if n.state == WON else episodes[i].total
        o.closest = min(o.closest, o.way_left)
    if t == frames:
        o.x = n.x
        o.y = n.y
        o.gained = o.earlier - o.closest
        o.moved = max(o.right - o.left, o.lower - o.upper)
        o.state = n.state
        if n.state == DEAD:  # an approach that ended in death is no miss
            for k in range(len(near)):
                o.near_misses -= near[k] == 1


@kernel
def _begin_or_note(i, bank, state, views, goals, episodes, rules, level, frames, window, t, near, out):
    """Begin game i (t = 0), or update its record in `out` if it has not ended before frame t."""
    o = out[i]
    if t == 0:
        begin_game(bank, state, i, views, goals, episodes, rules, level[i])
        o.airborne = state.ninja[i].air
        o.way_left = episodes[i].total
        o.closest = o.way_left
        _open_window(state.ninja[i], o)
    elif t <= frames[i]:
        _note(bank, state, i, views, goals, episodes, rules, frames[i], t, near[i], o)
    if t == frames[i] - window:
        _open_window(state.ninja[i], o)


@njit(parallel=True, _nrt=False)
def _note_all(bank, state, views, goals, episodes, rules, level, frames, window, t, near, out, serial):
    if serial:
        for i in range(len(out)):
            _begin_or_note(i, bank, state, views, goals, episodes, rules, level, frames, window, t, near, out)
    else:
        for index in prange(len(out)):
            i = np.int64(index)
            _begin_or_note(i, bank, state, views, goals, episodes, rules, level, frames, window, t, near, out)


def retrace(
    levels: Sequence[Level], episodes: Sequence[tuple[int, str, int]], frame_skip: int, window: int
) -> np.ndarray:
    """Play episodes again -> RETRACED [episodes].

    episodes: (index of the level, actions with one digit per step, frames). window: frames at the end, see RETRACED.

    A near miss is an approach to a deadly entity that did not end in death. It begins when the entity would kill if it
    reached NEAR_PX farther, and ends when it would not kill even if it reached AWAY_PX farther. An approach does not
    count if the ninja dies of any cause during it. The entities are deadly mines, drones, floor guards, death balls,
    faces of thwumps and flying shove thwumps. A toggle mine counts only when the ninja returns after toggling it. Each
    impact on floor or ceiling at more than NEAR_IMPACT of the deadly speed counts too. Being almost crushed does not.
    Positions are those at the ends of frames.
    """
    out = np.zeros(len(episodes), RETRACED)
    by_length = np.argsort([frames for _, _, frames in episodes], kind="stable")
    # Equal parts, so that no few games are left that cannot use all cores.
    for chunk in np.array_split(by_length, -(-len(episodes) // CHUNK)):
        out[chunk] = _retrace(levels, [episodes[k] for k in chunk], frame_skip, window)
    return out


def _retrace(levels, episodes, frame_skip, window):
    """`retrace` episodes that are sorted by length, with one game per episode."""
    games = len(episodes)
    used, level = np.unique([index for index, _, _ in episodes], return_inverse=True)
    frames = np.array([count for _, _, count in episodes], np.int64)
    actions = np.zeros((int(frames[-1]) // frame_skip + 1, games), np.int64)
    for column, (_, text, _) in enumerate(episodes):
        actions[: len(text), column] = np.frombuffer(text.encode("ascii"), np.uint8) - ord("0")
    bank = build_bank([levels[index].map_data for index in used])
    _, state = new_state(bank, games)
    fields = level_fields(bank, games)
    # The ways need only the fields. Arrays that only observations read stay empty.
    views = NOTHING._replace(dist=fields.dist, ahead=fields.ahead, share=fields.share, stage=fields.stage)
    values = {"gamma": 1.0, "shaping_distance": np.inf, "max_frames": MOST, "frame_skip": frame_skip}
    values["time_ends"] = False
    rules = Rules(**{name: values.get(name, 0.0) for name in Rules._fields})
    goals, records, stale = np.zeros(games, GOAL), np.zeros(games, EPISODE), np.zeros(games, np.bool_)
    near, out = np.zeros((games, state.active.shape[1]), np.uint8), np.zeros(games, RETRACED)
    _note_all(bank, state, views, goals, records, rules, level, frames, window, 0, near, out, serial(games))
    for t in range(1, int(frames[-1]) + 1):
        # Drop games that have ended, but keep two: Numba would compile once more for the layout of a single row.
        k = slice(min(int(np.searchsorted(frames, t)), max(games - 2, 0)), None)
        some = State(*(array[k] for array in state))
        # Play one frame at a time, and plan goals again only at the ends of steps, as in the environment.
        ends = (t == frames[k]) | ((t % frame_skip == 0) & (t < frames[k]))
        rules_of_frame = rules._replace(frame_skip=1)
        play_all(bank, some, goals[k], records[k], rules_of_frame, actions[(t - 1) // frame_skip, k], stale[k])
        stale[k] &= ends
        if stale[k].any():
            own = fields._replace(own=fields.own + k.start)
            plan_games(bank, some, own, goals[k], records[k], stale[k])
        alone = serial(len(out[k]))
        _note_all(
            bank, some, views, goals[k], records[k], rules, level[k], frames[k], window, t, near[k], out[k], alone
        )
    return out
