"""The ninja's current goal in a game, and the field of distances to it (levels/fields.py).

The goal is the exit switch, then its exit door. Where a closed locked door bars the way, that door's switch comes
first. With several exits the pair with the shortest whole way counts.

A level has two fields, for the start and for the time after the switch. They are computed when the level is loaded, and
all games on it share them. A game that departs from these (a door, a second exit, a toggled mine on the only way) gets
a field of its own, which is computed anew when one of these things changes.

The way avoids all mines, toggled or not, and the switches of trap doors if that is possible (AVOID_ALL), else deadly
mines only (AVOID_DEADLY), else nothing but walls and doors (AVOID_NONE).
"""

import math
from typing import NamedTuple

import numpy as np

from npp_rl.levels.fields import (
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
    reached_share,
)
from npp_rl.simulator import new_state, reset_game
from npp_rl.simulator.compiled import kernel, njit
from npp_rl.simulator.layout import (
    CELLS,
    EXIT_DOOR,
    EXIT_SWITCH,
    LOCKED_DOOR,
    MINE,
    REGULAR_DOOR,
    ROWS,
    TOGGLE_MINE,
    TRAP_DOOR,
)

GOAL_SWITCH, GOAL_EXIT, GOAL_DOOR, GOAL_NONE = 0, 1, 2, 3
AVOID_ALL, AVOID_DEADLY, AVOID_NONE = 0, 1, 2
MOST_DOORS = 64  # locked doors that are looked for on the way

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
        ("mines", "i1"),  # whether the signature depends on mines
        ("reached", "i1"),  # whether a way led from the ninja to the goal when it was planned
    ],
    align=True,
)

AFTER = np.array([48.0, 144.0])  # px, of `after_x` and `after_y`


class Fields(NamedTuple):
    """Pools of fields and scratch memory: rows 2l and 2l + 1 belong to level l, row `own` + i to game i."""

    dist: np.ndarray  # u2 [rows, NODES]
    ahead: np.ndarray  # u1 [rows, NODES]
    share: np.ndarray  # f8 [rows]: share of the free nodes from which the goal is reached
    stage: np.ndarray  # GOAL [2 * levels]: of the levels' own fields
    free: np.ndarray  # u1 [NODES]: scratch, as all that follows
    tiles: np.ndarray  # u1 [25, 44]
    queue: np.ndarray  # i4 [QUEUE]
    doors: np.ndarray  # f8 [MOST_DOORS, 4]
    closed: np.ndarray  # u1 [MOST_DOORS]
    slot: np.ndarray  # i4 [MOST_DOORS]
    goal: np.ndarray  # f8 [1, 2]
    ways: np.ndarray  # f4 [2, 2]
    own: int


@kernel
def signature(bank, state, i, mines):
    """A hash (FNV-1a) of what the field of game i depends on: exit switches, doors and, with `mines`, mines.

    Regular doors do not count: they open when the ninja comes near.
    """
    level = bank.level[state.ninja[i].level]
    base = level.entity_start
    code = np.uint64(14695981039346656037)
    prime = np.uint64(1099511628211)
    for k in range(level.type_start[EXIT_DOOR], level.type_start[EXIT_DOOR + 1]):
        code = (code ^ np.uint64(state.active[i, k - base])) * prime
    for slot in range(level.doors):
        if bank.entity[base + bank.door[level.door_start + slot].entity].type != REGULAR_DOOR:
            code = (code ^ np.uint64(state.closed[i, slot])) * prime
    if mines:
        for k in range(level.type_start[MINE], level.type_start[MINE + 1]):
            code = (code ^ np.uint64(state.state[i, k - base])) * prime
        for k in range(level.type_start[TOGGLE_MINE], level.type_start[TOGGLE_MINE + 1]):
            code = (code ^ np.uint64(state.state[i, k - base])) * prime
    return code


@kernel
def _block(bank, state, i, avoid, free, tiles):
    """Write the free space of game i as it is now, but with all locked doors open."""
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
def _field_to(fields, row, x, y, touch):
    fields.goal[0, 0] = x
    fields.goal[0, 1] = y
    distances(fields.free, fields.goal, touch, fields.dist[row], fields.ahead[row], fields.queue)


@kernel
def _way_from(fields, row, goal, x, y):
    """Add the way from (x, y) on the field in `row` to what remains after a goal there -> whether there is a way."""
    length = distance_at(fields.dist[row], x, y)
    if length < 0.0:
        return False
    goal.remaining += length
    path_points(fields.dist[row], fields.ahead[row], x, y, AFTER, fields.ways)
    for k in range(2):
        goal.after_x[k] = fields.ways[k, 0] - x
        goal.after_y[k] = fields.ways[k, 1] - y
    return True


@kernel
def _aim(bank, state, i, fields, row, goal, switch):
    """Plan for the exit pair whose switch is entity `switch` -> whether a way leads to the first goal."""
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
    _field_to(fields, row, door.x, door.y, TOUCH_EXIT)
    if state.active[i, switch - level.entity_start]:
        e = bank.entity[switch]
        joined = _way_from(fields, row, goal, e.x, e.y)
        goal.x = e.x
        goal.y = e.y
        goal.kind = GOAL_SWITCH
        _field_to(fields, row, e.x, e.y, TOUCH_SWITCH)
        if not joined:
            return False
    doors = 0
    for k in range(level.type_start[LOCKED_DOOR], level.type_start[LOCKED_DOOR + 1]):
        slot = bank.entity[k].slot
        if state.closed[i, slot] and doors < MOST_DOORS:
            d = bank.door[level.door_start + slot]
            fields.doors[doors, 0] = d.x1
            fields.doors[doors, 1] = d.y1
            fields.doors[doors, 2] = d.x2
            fields.doors[doors, 3] = d.y2
            fields.closed[doors] = 1
            fields.slot[doors] = k
            doors += 1
    for _ in range(doors):
        barred = first_closed_door(
            fields.dist[row], fields.ahead[row], n.x, n.y, fields.doors[:doors], fields.closed[:doors]
        )
        if barred < 0:
            break
        fields.closed[barred] = 0  # each door counts once, so that two doors cannot send the way round in a circle
        e = bank.entity[fields.slot[barred]]
        if not _way_from(fields, row, goal, e.x, e.y):
            break
        goal.x = e.x
        goal.y = e.y
        goal.kind = GOAL_DOOR
        _field_to(fields, row, e.x, e.y, TOUCH_DOOR_SWITCH)
    return distance_at(fields.dist[row], n.x, n.y) >= 0.0


@kernel
def plan(bank, state, i, fields, row, goal):
    """Choose the goal of game i as it is now, and compute the field to it into row `row` of the pools."""
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
    for avoid in (AVOID_ALL, AVOID_DEADLY, AVOID_NONE):
        goal.avoid = avoid
        _block(bank, state, i, avoid, fields.free, fields.tiles)
        best = math.inf
        chosen = -1
        for switch in range(first + 1, last, 2):
            if _aim(bank, state, i, fields, row, goal, switch):
                way = distance_at(fields.dist[row], n.x, n.y) + goal.remaining
                if way < best:
                    best = way
                    chosen = switch
        if chosen >= 0:
            if last - first > 2:
                _aim(bank, state, i, fields, row, goal, chosen)
            goal.reached = 1
            break
    if last == first:
        fields.dist[row, :] = UNREACHED
    # A game's own field depends on mines even where its way avoids all of them: when it was planned, the ninja may have
    # stood in an untoggled mine, which it then leaves on the other side.
    goal.mines = goal.avoid != AVOID_ALL or row >= fields.own
    goal.signature = signature(bank, state, i, goal.mines)


@njit
def plan_games(bank, state, fields, goals, episodes, chosen):
    """Plan anew for the games in `chosen` (bool [games]), whose signatures have changed: goal, field, reached share.

    A game in which nothing but the exit switch has changed takes its level's second field. Others get their own.
    """
    for i in range(len(chosen)):
        if not chosen[i]:
            continue
        index = state.ninja[i].level
        row = 2 * index + 1
        shared = fields.stage[row]
        if shared.reached and not shared.mines and signature(bank, state, i, shared.mines) == shared.signature:
            goals[i] = shared
        else:
            row = fields.own + i
            plan(bank, state, i, fields, row, goals[i])
            fields.share[row] = reached_share(fields.dist[row], fields.free)
        episodes[i].share = fields.share[row]


@njit
def _plan_levels(bank, state, fields):
    game = np.int64(0)  # Numba would compile the planning kernels once more for a literal
    for index in range(bank.level.shape[0]):
        level = bank.level[index]
        reset_game(bank, state, game, index)
        n = state.ninja[game]
        for stage in range(2):
            row = 2 * index + stage
            plan(bank, state, game, fields, row, fields.stage[row])
            fields.share[row] = reached_share(fields.dist[row], fields.free)
            for k in range(level.type_start[EXIT_DOOR], level.type_start[EXIT_DOOR + 1]):
                if bank.entity[k].type == EXIT_SWITCH:
                    state.active[game, k - level.entity_start] = 0
                    n.x = bank.entity[k].x
                    n.y = bank.entity[k].y


def empty_fields(levels: int, rows: int, own: int) -> Fields:
    """Pools of `rows` fields, not computed yet, and scratch memory; see `Fields`."""
    return Fields(
        dist=np.zeros((rows, NODES), np.uint16),
        ahead=np.zeros((rows, NODES), np.uint8),
        share=np.zeros(rows),
        stage=np.zeros(2 * levels, GOAL),
        free=np.zeros(NODES, np.uint8),
        tiles=np.zeros((25, 44), np.uint8),
        queue=np.zeros(QUEUE, np.int32),
        doors=np.zeros((MOST_DOORS, 4)),
        closed=np.zeros(MOST_DOORS, np.uint8),
        slot=np.zeros(MOST_DOORS, np.int32),
        goal=np.zeros((1, 2)),
        ways=np.zeros((2, 2), np.float32),
        own=own,
    )


def level_fields(bank, games: int) -> Fields:
    """Compute the fields of all levels of a bank, with room for the fields of `games` running games."""
    levels = len(bank.level)
    fields = empty_fields(levels, 2 * levels + games, 2 * levels)
    _, state = new_state(bank, 1)
    _plan_levels(bank, state, fields)
    return fields
