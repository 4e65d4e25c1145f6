"""The ninja's current goal in a game, and the field of distances to it.

The goal is the exit switch, then its exit door; where a closed locked door bars the way, that door's switch comes first;
with several exits the pair with the shortest whole way counts. A field is computed when a level is loaded (for the start, and
for the time after the switch) and is shared by all games on that level. Where a game departs from these (a door, a second exit,
a toggled mine on the only way) it gets a field of its own, renewed when one of these things changes.

The way keeps clear of all mines, toggled or not, and of trap doors' switches if it can (AVOID_ALL); else of deadly mines only
(AVOID_DEADLY); else of nothing but walls and doors (AVOID_NONE).
"""

import math
from typing import NamedTuple

import numpy as np
from numba import get_num_threads, get_thread_id, prange

from npp_rl.fields import (
    BLOCK_MINE,
    NODES,
    QUEUE,
    TOUCH_DOOR_SWITCH,
    TOUCH_EXIT,
    TOUCH_SWITCH,
    UNREACHED,
    block_circle,
    block_segment,
    distance_at,
    distances,
    first_closed_door,
    level_free,
    path_points,
)
from npp_rl.simulator import new_state, reset_game
from npp_rl.simulator.compiled import kernel, njit
from npp_rl.simulator.layout import CELLS, EXIT_DOOR, EXIT_SWITCH, LOCKED_DOOR, MINE, ROWS, TOGGLE_MINE, TRAP_DOOR

GOAL_SWITCH, GOAL_EXIT, GOAL_DOOR, GOAL_NONE = 0, 1, 2, 3
AVOID_ALL, AVOID_DEADLY, AVOID_NONE = 0, 1, 2
MOST_DOORS = 64  # locked doors that are looked at on the way

GOAL = np.dtype(
    [
        ("x", "f8"),  # px
        ("y", "f8"),
        ("remaining", "f8"),  # px from this goal to the exit
        ("after_x", "f8", (2,)),  # offsets (px) from this goal to points 48 and 144 px further on the way
        ("after_y", "f8", (2,)),
        ("signature", "u8"),  # of what the field depends on
        ("field", "i4"),  # row of the field pools
        ("kind", "i1"),
        ("avoid", "i1"),
        ("reached", "i1"),  # whether a way leads from where the ninja was to the goal
    ],
    align=True,
)

AFTER = np.array([48.0, 144.0])


class Fields(NamedTuple):
    """Pools of fields and scratch memory: rows 2l and 2l + 1 belong to level l, row `own` + i to game i."""

    dist: np.ndarray  # u2 [rows, NODES]
    ahead: np.ndarray  # u1 [rows, NODES]
    stage: np.ndarray  # GOAL [2 * levels]
    free: np.ndarray  # u1 [threads, NODES]: scratch
    tiles: np.ndarray  # u1 [threads, 25, 44]: scratch
    queue: np.ndarray  # i4 [threads, QUEUE]: scratch
    doors: np.ndarray  # f8 [threads, MOST_DOORS, 4]: scratch
    closed: np.ndarray  # u1 [threads, MOST_DOORS]: scratch
    slot: np.ndarray  # i4 [threads, MOST_DOORS]: scratch
    goal: np.ndarray  # f8 [threads, 1, 2]: scratch
    ways: np.ndarray  # f4 [threads, 2, 2]: scratch
    own: int


@kernel
def signature(bank, state, i, avoid):
    """A number that changes with what the field of game i depends on: switches, doors and, where they matter, mines."""
    level = bank.level[state.ninja[i].level]
    base = level.entity_start
    code = np.uint64(14695981039346656037)
    prime = np.uint64(1099511628211)
    for k in range(level.type_start[EXIT_DOOR], level.type_start[EXIT_DOOR + 1]):
        code = (code ^ np.uint64(state.active[i, k - base])) * prime
    for slot in range(level.doors):
        code = (code ^ np.uint64(state.closed[i, slot])) * prime
    if avoid != AVOID_ALL:
        for k in range(level.type_start[MINE], level.type_start[MINE + 1]):
            code = (code ^ np.uint64(state.state[i, k - base])) * prime
        for k in range(level.type_start[TOGGLE_MINE], level.type_start[TOGGLE_MINE + 1]):
            code = (code ^ np.uint64(state.state[i, k - base])) * prime
    return code


@kernel
def _block(bank, state, i, avoid, free, tiles):
    """Free space of game i as it is now, locked doors left open."""
    level = bank.level[state.ninja[i].level]
    base = level.entity_start
    for cell in range(CELLS):
        tiles[cell % ROWS, cell // ROWS] = level.tiles[cell]
    level_free(tiles, free)
    for kind in (MINE, TOGGLE_MINE):
        for k in range(level.type_start[kind], level.type_start[kind + 1]):
            if avoid == AVOID_ALL or (avoid == AVOID_DEADLY and state.state[i, k - base] == 0):
                block_circle(free, bank.entity[k].x, bank.entity[k].y, BLOCK_MINE)
    for k in range(level.type_start[TRAP_DOOR], level.type_start[TRAP_DOOR + 1]):
        e = bank.entity[k]
        door = bank.door[level.door_start + e.slot]
        if state.closed[i, e.slot]:
            block_segment(free, door.x1, door.y1, door.x2, door.y2)
        elif avoid == AVOID_ALL:
            block_circle(free, e.x, e.y, TOUCH_DOOR_SWITCH)


@kernel
def _field_to(fields, thread, row, x, y, touch):
    fields.goal[thread, 0, 0] = x
    fields.goal[thread, 0, 1] = y
    distances(
        fields.free[thread], fields.goal[thread], touch, fields.dist[row], fields.ahead[row], fields.queue[thread]
    )


@kernel
def _way_from(fields, thread, row, goal, x, y):
    """Adds the way from (x, y) on the field in `row` to what remains after a goal at (x, y); whether there is one."""
    length = distance_at(fields.dist[row], x, y)
    if length < 0.0:
        return False
    goal.remaining += length
    path_points(fields.dist[row], fields.ahead[row], x, y, AFTER, fields.ways[thread])
    for k in range(2):
        goal.after_x[k] = fields.ways[thread, k, 0] - x
        goal.after_y[k] = fields.ways[thread, k, 1] - y
    return True


@kernel
def _aim(bank, state, i, fields, thread, row, goal, switch):
    """Field and goal for the exit pair whose switch is entity `switch`; whether the ninja can get to its first goal."""
    n = state.ninja[i]
    level = bank.level[n.level]
    door = bank.entity[switch - 1]
    goal.x = door.x
    goal.y = door.y
    goal.kind = GOAL_EXIT
    goal.remaining = 0.0
    for k in range(2):
        goal.after_x[k] = 0.0
        goal.after_y[k] = 0.0
    _field_to(fields, thread, row, door.x, door.y, TOUCH_EXIT)
    if state.active[i, switch - level.entity_start]:
        e = bank.entity[switch]
        joined = _way_from(fields, thread, row, goal, e.x, e.y)
        goal.x = e.x
        goal.y = e.y
        goal.kind = GOAL_SWITCH
        _field_to(fields, thread, row, e.x, e.y, TOUCH_SWITCH)
        if not joined:
            return False
    doors = 0
    for k in range(level.type_start[LOCKED_DOOR], level.type_start[LOCKED_DOOR + 1]):
        slot = bank.entity[k].slot
        if state.closed[i, slot] and doors < MOST_DOORS:
            d = bank.door[level.door_start + slot]
            fields.doors[thread, doors, 0] = d.x1
            fields.doors[thread, doors, 1] = d.y1
            fields.doors[thread, doors, 2] = d.x2
            fields.doors[thread, doors, 3] = d.y2
            fields.closed[thread, doors] = 1
            fields.slot[thread, doors] = k
            doors += 1
    for _ in range(doors):
        barred = first_closed_door(
            fields.dist[row], fields.ahead[row], n.x, n.y, fields.doors[thread, :doors], fields.closed[thread, :doors]
        )
        if barred < 0:
            break
        fields.closed[thread, barred] = 0  # a second look at the same door would go round in a circle
        e = bank.entity[fields.slot[thread, barred]]
        if not _way_from(fields, thread, row, goal, e.x, e.y):
            break
        goal.x = e.x
        goal.y = e.y
        goal.kind = GOAL_DOOR
        _field_to(fields, thread, row, e.x, e.y, TOUCH_DOOR_SWITCH)
    return distance_at(fields.dist[row], n.x, n.y) >= 0.0


@kernel
def plan(bank, state, i, fields, thread, row, goal):
    """Choose the goal of game i as it stands and compute the field to it into the pools' `row`."""
    n = state.ninja[i]
    level = bank.level[n.level]
    first = level.type_start[EXIT_DOOR]
    last = level.type_start[EXIT_DOOR + 1]
    goal.field = row
    goal.reached = 0
    goal.kind = GOAL_NONE
    goal.avoid = AVOID_ALL
    goal.remaining = 0.0
    goal.x = n.x
    goal.y = n.y
    for avoid in range(3):
        goal.avoid = avoid
        _block(bank, state, i, avoid, fields.free[thread], fields.tiles[thread])
        best = math.inf
        chosen = -1
        for switch in range(first + 1, last, 2):
            if _aim(bank, state, i, fields, thread, row, goal, switch):
                way = distance_at(fields.dist[row], n.x, n.y) + goal.remaining
                if way < best:
                    best = way
                    chosen = switch
        if chosen >= 0:
            if last - first > 2:
                _aim(bank, state, i, fields, thread, row, goal, chosen)
            goal.reached = 1
            break
    if last == first:
        fields.dist[row, :] = UNREACHED
    goal.signature = signature(bank, state, i, goal.avoid)


@njit(parallel=True)
def _plan_levels(bank, state, fields):
    for index in prange(bank.level.shape[0]):
        thread = get_thread_id()
        reset_game(bank, state, index, index)
        plan(bank, state, index, fields, thread, 2 * index, fields.stage[2 * index])
        level = bank.level[index]
        n = state.ninja[index]
        for k in range(level.type_start[EXIT_DOOR], level.type_start[EXIT_DOOR + 1]):
            if bank.entity[k].type == EXIT_SWITCH:
                state.active[index, k - level.entity_start] = 0
                n.x = bank.entity[k].x
                n.y = bank.entity[k].y
        plan(bank, state, index, fields, thread, 2 * index + 1, fields.stage[2 * index + 1])


def level_fields(bank, games: int) -> Fields:
    """Fields of all levels of a bank, with room for the fields of `games` running games."""
    levels, threads = len(bank.level), get_num_threads()
    rows = 2 * levels + games
    fields = Fields(
        dist=np.zeros((rows, NODES), np.uint16),
        ahead=np.zeros((rows, NODES), np.uint8),
        stage=np.zeros(2 * levels, GOAL),
        free=np.zeros((threads, NODES), np.uint8),
        tiles=np.zeros((threads, 25, 44), np.uint8),
        queue=np.zeros((threads, QUEUE), np.int32),
        doors=np.zeros((threads, MOST_DOORS, 4)),
        closed=np.zeros((threads, MOST_DOORS), np.uint8),
        slot=np.zeros((threads, MOST_DOORS), np.int32),
        goal=np.zeros((threads, 1, 2)),
        ways=np.zeros((threads, 2, 2), np.float32),
        own=2 * levels,
    )
    _, state = new_state(bank, levels)
    _plan_levels(bank, state, fields)
    return fields


@kernel
def start_goal(fields, level_index, goal):
    """Give a game that starts on a level the level's first goal."""
    goal[0] = fields.stage[2 * level_index]


@kernel
def renew_goal(bank, state, i, fields, thread, goals):
    """Renew goal and field of game i if something that they depend on has changed; whether it had."""
    goal = goals[i]
    code = signature(bank, state, i, goal.avoid)
    if code == goal.signature:
        return False
    index = state.ninja[i].level
    shared = fields.stage[2 * index + 1]
    if shared.reached and shared.avoid == AVOID_ALL and signature(bank, state, i, AVOID_ALL) == shared.signature:
        goals[i] = shared
    else:
        plan(bank, state, i, fields, thread, fields.own + i, goals[i])
    return True
