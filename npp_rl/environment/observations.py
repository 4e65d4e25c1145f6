"""Observations as vectors and as a patch of the level, written by compiled kernels into rows of batch arrays.

Coordinates are relative to the ninja, x to the right, y down, scaled to about one, unless a table says otherwise.

`game_state` float32 [GAME_STATE]:

| index | what |
| --- | --- |
| 0..1 | velocity / (10/3 px per frame) |
| 2 | speed, same unit |
| 3..8 | movement state, one of standing, running, sliding, jumping, falling, wall sliding |
| 9, 10 | airborne; wall contact times the wall's normal |
| 11 | normal of the last wall touched |
| 12, 13 | normal of the last floor touched |
| 14..17 | jump, floor, wall, launch pad buffer: (value + 1) / 6, 0 is off |
| 18 | frames of the held jump / 45, 0 unless jumping |
| 19 | the reduced gravity of a jump acts |
| 20 | the drag after winning acts |
| 21, 22 | jump held in the last frame; horizontal input of the last frame |
| 23, 24 | direction of the last launch pad boost while its buffer runs |
| 25, 26 | place inside the tile / 24 |
| 27, 28 | offset from the 6 px lattice node that `local_tiles` is centred on / 6, -0.5..0.5 |
| 29 | time left, share of the episode's limit |
| 30 | share of exit switches hit |
| 31 | share of locked and trap doors that are closed |
| 32, 33 | floor and ceiling or wall contacts in the last frame |

The vector does not say where in the field the ninja is: an agent would learn levels by heart.

`reachability` float32 [REACHABILITY]:

| index | what |
| --- | --- |
| 0..2 | the goal is an exit switch, an exit door, a locked door's switch |
| 3, 4 | way to the goal / 500 px, and its square root |
| 5 | way that remains after the goal / 500 px |
| 6, 7 | straight offset to the goal in 250 px, clipped to -2..2 |
| 8..25 | for points 24, 48, 96, 144, 240, 400 px ahead on the way: unit vector (2), straight distance / way |
| 26, 27 | velocity along and across the way's direction 24 px ahead |
| 28..31 | offsets from the goal to 48 and 144 px further on the way, in units of that distance |
| 32 | share of the level from which the goal can be reached |
| 33 | a way to the goal is known |
| 34..65 | the eight nearest hazards within 160 px: offset / 80 px (2), 1 - distance / 160 px, 1 deadly or 0.5 not yet |
| 66, 67 | steps since the ninja last came nearer to the exit than ever before / 8 and / 64, at most 1 |

`local_tiles` uint8 [3, 15, 15], points 12 px apart (rows y, columns x), centred on the lattice node nearest to the
ninja. The three layers are:

- distance to solid ground: 255 stands for 24 px or more, 0 also for closed doors;
- hazards: 96 for an untoggled mine, 160 for a toggling one, 255 for what is deadly, at all places where the ninja would
  touch it, falling to 0 over the next 12 px;
- the way to the goal less the ninja's own: 128 is equal, 1 stands for 1.5 px, lower is nearer, 255 where no way leads.
"""

import math

import numpy as np

from npp_rl.environment.goals import GOAL_NONE
from npp_rl.environment.lattice import FAR
from npp_rl.levels import fields as free_space
from npp_rl.levels.fields import COLS, NODES, UNIT, UNREACHED, path_points
from npp_rl.simulator.compiled import kernel, njit
from npp_rl.simulator.contacts import deadly_radius
from npp_rl.simulator.layout import EXIT_DOOR, EXIT_SWITCH, JUMPING, MINE, REGULAR_DOOR, TOGGLE_MINE
from npp_rl.simulator.layout import ROWS as CELL_ROWS

HAZARDS = 8  # the nearest ones in `reachability`
GAME_STATE, REACHABILITY = 34, 36 + 4 * HAZARDS
PATCH = 15  # points along each side of local_tiles
LOOK_AHEAD = np.array([24.0, 48.0, 96.0, 144.0, 240.0, 400.0])  # px along the way
HAZARD_RANGE = 160.0  # px
SOFT = 12.0  # px over which a hazard in `local_tiles` fades


def _clearance_table():
    """uint8 [39, 9, 16]: 255 * distance / 24 px from a cell's 16 lattice nodes to the solid part of a tile around it.

    Entry 3 * (dy + 1) + dx + 1 is for a tile in the cell at (dx, dy) from the nodes' own cell. Row 38 is for tiles of
    higher numbers, which are empty.
    """
    table = np.full((39, 9, 16), 255, np.uint8)
    for tile in range(1, 38):
        for k in range(9):
            columns, rows = np.meshgrid(np.arange(4) - 4 * (k % 3 - 1), np.arange(4) - 4 * (k // 3 - 1))
            away = free_space.distance_to_tile(tile, 6.0 * columns, 6.0 * rows)
            table[tile, k] = np.minimum(away / FAR, 1.0).ravel() * 255
    return table


_CLEARANCE = _clearance_table()


@kernel
def level_clearance(tiles, clearance):
    """Write the distance to solid ground at all nodes, uint8 [NODES], as in `local_tiles`. tiles: uint8 [CELLS]."""
    clearance[:] = 0
    for column in range(44):
        for row in range(CELL_ROWS):
            for node in range(16):
                i = 4 * column + node % 4
                j = 4 * row + node // 4
                if i >= COLS or j * COLS + i >= NODES:
                    continue
                best = 255
                for k in range(9):
                    cx = column + k % 3 - 1
                    cy = row + k // 3 - 1
                    if 0 <= cx < 44 and 0 <= cy < CELL_ROWS:
                        best = min(best, _CLEARANCE[min(tiles[cx * CELL_ROWS + cy], 38), k, node])
                clearance[j * COLS + i] = best


@njit
def level_clearances(bank, clearance):
    """`level_clearance` of all levels of a bank, into uint8 [levels, NODES]."""
    for index in range(bank.level.shape[0]):
        level_clearance(bank.level[index].tiles, clearance[index])


@kernel
def write_game_state(bank, state, i, time_left, row):
    """Write `game_state` of game i into row, float32 [GAME_STATE]."""
    n = state.ninja[i]
    level = bank.level[n.level]
    base = level.entity_start
    row[:] = 0.0
    scale = 0.3
    row[0] = n.u * scale
    row[1] = n.v * scale
    row[2] = math.sqrt(n.u * n.u + n.v * n.v) * scale
    if n.state < 6:
        row[3 + n.state] = 1.0
    row[9] = n.air
    row[10] = n.walled * n.wn
    row[11] = n.wn
    row[12] = n.nx
    row[13] = n.ny
    row[14] = (n.jump_buffer + 1) / 6.0
    row[15] = (n.floor_buffer + 1) / 6.0
    row[16] = (n.wall_buffer + 1) / 6.0
    row[17] = (n.pad_buffer + 1) / 6.0
    if n.state == JUMPING:
        row[18] = n.jump_frames / 45.0
    row[19] = 1.0 if n.g < 0.05 else 0.0
    row[20] = 1.0 if n.d < 0.9 else 0.0
    row[21] = n.jump_before
    row[22] = n.h
    if n.pad_buffer >= 0:
        row[23] = n.pad_x
        row[24] = n.pad_y
    row[25] = n.x / 24.0 - math.floor(n.x / 24.0)
    row[26] = n.y / 24.0 - math.floor(n.y / 24.0)
    row[27] = n.x / 6.0 - math.floor(n.x / 6.0 + 0.5)
    row[28] = n.y / 6.0 - math.floor(n.y / 6.0 + 0.5)
    row[29] = time_left
    exits = level.type_start[EXIT_DOOR + 1] - level.type_start[EXIT_DOOR]
    if exits > 0:
        hit = 0
        for k in range(level.type_start[EXIT_DOOR], level.type_start[EXIT_DOOR + 1]):
            if bank.entity[k].type == EXIT_SWITCH and not state.active[i, k - base]:
                hit += 1
        row[30] = hit / (exits // 2)
    doors = 0
    closed = 0
    for slot in range(level.doors):
        if bank.entity[base + bank.door[level.door_start + slot].entity].type != REGULAR_DOOR:
            doors += 1
            closed += state.closed[i, slot]
    if doors > 0:
        row[31] = closed / doors
    row[32] = min(n.floors, 2) / 2.0
    row[33] = min(n.ceilings, 2) / 2.0


@kernel
def _note_hazard(row, x, y, deadly, nearest):
    """Insert a hazard at (x, y) px from the ninja among the nearest in row[34:]; nearest f8 [HAZARDS]: their px."""
    r = math.sqrt(x * x + y * y)
    if r >= nearest[HAZARDS - 1] or r >= HAZARD_RANGE:
        return
    at = HAZARDS - 1
    while at > 0 and r < nearest[at - 1]:
        nearest[at] = nearest[at - 1]
        for k in range(4):
            row[34 + 4 * at + k] = row[34 + 4 * (at - 1) + k]
        at -= 1
    nearest[at] = r
    row[34 + 4 * at] = x / 80.0
    row[34 + 4 * at + 1] = y / 80.0
    row[34 + 4 * at + 2] = 1.0 - r / HAZARD_RANGE
    row[34 + 4 * at + 3] = deadly


@kernel
def write_reachability(bank, state, i, goal, dist, ahead, way, share, idle, nearest, points, row):
    """Write `reachability` of game i into row, float32 [REACHABILITY].

    dist, ahead: the goal's field. way: px to the goal. share: of the level from which the goal is reached. idle: steps
    without progress. nearest f8 [HAZARDS], points f4 [6, 2]: scratch.
    """
    n = state.ninja[i]
    level = bank.level[n.level]
    row[:] = 0.0
    if goal.kind != GOAL_NONE:
        row[goal.kind] = 1.0
        row[3] = way / 500.0
        row[4] = math.sqrt(way / 500.0)
        row[5] = goal.remaining / 500.0
        row[6] = min(max((goal.x - n.x) / 250.0, -2.0), 2.0)
        row[7] = min(max((goal.y - n.y) / 250.0, -2.0), 2.0)
        if path_points(dist, ahead, n.x, n.y, LOOK_AHEAD, points):
            row[33] = 1.0
            for k in range(6):
                dx = points[k, 0] - n.x
                dy = points[k, 1] - n.y
                r = math.sqrt(dx * dx + dy * dy)
                if r > 0.0:
                    row[8 + 3 * k] = dx / r
                    row[9 + 3 * k] = dy / r
                row[10 + 3 * k] = r / LOOK_AHEAD[k]
            row[26] = (n.u * row[8] + n.v * row[9]) * 0.3
            row[27] = (n.v * row[8] - n.u * row[9]) * 0.3
        for k in range(2):
            row[28 + 2 * k] = goal.after_x[k] / (48.0 if k == 0 else 144.0)
            row[29 + 2 * k] = goal.after_y[k] / (48.0 if k == 0 else 144.0)
    row[32] = share
    row[66] = min(idle / 8.0, 1.0)
    row[67] = min(idle / 64.0, 1.0)
    nearest[:] = 1e9
    base = level.entity_start
    for kind in (MINE, TOGGLE_MINE):
        for k in range(level.type_start[kind], level.type_start[kind + 1]):
            dx = bank.entity[k].x - n.x
            dy = bank.entity[k].y - n.y
            if abs(dx) < HAZARD_RANGE and abs(dy) < HAZARD_RANGE:
                _note_hazard(row, dx, dy, 1.0 if state.state[i, k - base] == 0 else 0.5, nearest)
    for slot in range(level.movers):
        m = state.mover[i, slot]
        if deadly_radius(bank.entity[bank.mover[level.mover_start + slot]].type) > 0.0:
            _note_hazard(row, m.x - n.x, m.y - n.y, 1.0, nearest)


@kernel
def _stamp(patch, x, y, radius, value):
    """Raise the points of patch u1 [PATCH, PATCH] around (x, y), px from the first point, to `value` within radius.

    Over SOFT px more the value falls to 0, which tells the place more finely than the points lie.
    """
    reach = radius + SOFT
    for r in range(max(math.ceil((y - reach) / 12.0), 0), min(math.floor((y + reach) / 12.0), PATCH - 1) + 1):
        for c in range(max(math.ceil((x - reach) / 12.0), 0), min(math.floor((x + reach) / 12.0), PATCH - 1) + 1):
            dx = 12.0 * c - x
            dy = 12.0 * r - y
            inside = min((reach - math.sqrt(dx * dx + dy * dy)) / SOFT, 1.0)
            if patch[r, c] < value * inside:
                patch[r, c] = int(value * inside)


@kernel
def write_local_tiles(bank, state, i, clearance, dist, here, patch):
    """Write `local_tiles` of game i into patch, uint8 [3, PATCH, PATCH]. here: px from the ninja to the goal."""
    n = state.ninja[i]
    level = bank.level[n.level]
    left = math.floor(n.x / 6.0 + 0.5) - (PATCH - 1)
    top = math.floor(n.y / 6.0 + 0.5) - (PATCH - 1)
    rows = NODES // COLS
    for r in range(PATCH):
        j = top + 2 * r
        for c in range(PATCH):
            k = left + 2 * c
            if 0 <= j < rows and 0 <= k < COLS:
                node = j * COLS + k
                patch[0, r, c] = clearance[node]
                d = dist[node]
                if d == UNREACHED:
                    patch[2, r, c] = 255
                else:
                    patch[2, r, c] = min(max(int(128.0 + (UNIT * d - here) / 1.5), 0), 254)
            else:
                patch[0, r, c] = 0
                patch[2, r, c] = 255
            patch[1, r, c] = 0
    x0 = 6.0 * left
    y0 = 6.0 * top
    reach = 12.0 * (PATCH - 1) + 30.0
    base = level.entity_start
    for kind in (MINE, TOGGLE_MINE):
        for k in range(level.type_start[kind], level.type_start[kind + 1]):
            x = bank.entity[k].x - x0
            y = bank.entity[k].y - y0
            if -30.0 < x < reach and -30.0 < y < reach:
                status = state.state[i, k - base]
                _stamp(patch[1], x, y, 15.0, 255 if status == 0 else (96 if status == 1 else 160))
    for slot in range(level.movers):
        radius = deadly_radius(bank.entity[bank.mover[level.mover_start + slot]].type)
        if radius > 0.0:
            _stamp(patch[1], state.mover[i, slot].x - x0, state.mover[i, slot].y - y0, radius + 2.0, 255)
    if level.doors > 0:
        for slot in range(level.doors):
            if state.closed[i, slot]:
                door = bank.door[level.door_start + slot]
                for step in range(3):
                    x = door.x1 + (door.x2 - door.x1) * step / 2.0
                    y = door.y1 + (door.y2 - door.y1) * step / 2.0
                    c = math.floor((x - x0) / 12.0 + 0.5)
                    r = math.floor((y - y0) / 12.0 + 0.5)
                    if 0 <= r < PATCH and 0 <= c < PATCH:
                        patch[0, r, c] = 0
