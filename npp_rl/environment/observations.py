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
| 34..65 | the eight nearest mines within 160 px: offset / 80 px (2), 1 - distance / 160 px, 1 deadly or 0.5 not yet |
| 66, 67 | steps since the ninja last came nearer to the exit than ever before / 8 and / 64, at most 1 |
| 68..127 | the four nearest deadly things that move, 15 numbers each, zeros for none: |
| +0, 1 | offset / 80 px |
| +2 | 1 - least distance to where the ninja is now, over the next 24 frames / 250 px |
| +3 | distance at which it kills / 24 px |
| +4..7 | where it will be in 8 and in 24 frames, if the ninja stays, from where it is now / 24 px, clipped to -2..2 |
| +8..11 | drone, floor guard, death ball, thwump |
| +12..14 | awake; from here to where it would go if the ninja woke it / 100 px, clipped to -3..3 |

Movers are ordered by that least distance, and have slots of their own: what comes counts before what leaves, and mines,
of which there may be hundreds, do not crowd them out.

`local_tiles` uint8 [3, 15, 15], points 12 px apart (rows y, columns x), centred on the lattice node nearest to the
ninja. The three layers are:

- distance to solid ground, thwumps and bounce blocks: 255 stands for 24 px or more, 0 also for closed doors;
- hazards: 96 for an untoggled mine, 160 for a toggling one, 255 for what is deadly, at all places where the ninja would
  touch it, falling to 0 over the next 12 px; 208, 176, 144, 112 where a mover will be in 4, 8, 16, 24 frames if the
  ninja stays; 64 where a floor guard or a thwump would go if the ninja woke it. Of a thwump it is the face;
- the way to the goal less the ninja's own: 128 is equal, 1 stands for 1.5 px, lower is nearer, 255 where no way leads.
"""

import math

import numpy as np

from npp_rl.environment.goals import GOAL_NONE
from npp_rl.environment.lattice import FAR
from npp_rl.environment.movers import MOVER_FEATURES, SOON, describe_mover
from npp_rl.levels import fields as free_space
from npp_rl.levels.fields import COLS, NODES, UNIT, UNREACHED, path_points
from npp_rl.simulator.compiled import kernel, njit
from npp_rl.simulator.layout import (
    BOUNCE_BLOCK,
    EXIT_DOOR,
    EXIT_SWITCH,
    JUMPING,
    MINE,
    REGULAR_DOOR,
    SHOVE_THWUMP,
    THWUMP,
    TOGGLE_MINE,
)
from npp_rl.simulator.layout import ROWS as CELL_ROWS

HAZARDS = 8  # the nearest mines in `reachability`
MOVERS_AT, NEAREST_MOVERS, PER_MOVER = 36 + 4 * HAZARDS, 4, 4 + MOVER_FEATURES
GAME_STATE, REACHABILITY = 34, MOVERS_AT + NEAREST_MOVERS * PER_MOVER
MOVER_RANGE = 250.0  # px
PATCH = 15  # points along each side of local_tiles
LOOK_AHEAD = np.array([24.0, 48.0, 96.0, 144.0, 240.0, 400.0])  # px along the way
HAZARD_RANGE = 160.0  # px
FADING = (208, 176, 144, 112)  # of a mover in SOON
LANE = 64  # where a mover would go
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
    """Insert a mine at (x, y) px from the ninja among the nearest in row[34:]; nearest f8 [HAZARDS]: their px."""
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
    """Write `reachability` of game i into row, float32 [REACHABILITY], without movers.

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


@kernel
def write_movers(n, around, row):
    """Write the nearest movers that `note_movers` found into row[MOVERS_AT:], f4 [REACHABILITY], which is all 0."""
    taken = np.uint64(0)
    for place in range(NEAREST_MOVERS):
        best = -1
        least = MOVER_RANGE
        for k in range(around.count):
            near = around.movers[k].near
            if near < least and not (taken >> np.uint64(k)) & np.uint64(1):
                least = near
                best = k
        if best < 0:
            break
        taken |= np.uint64(1) << np.uint64(best)
        o = around.movers[best]
        at = MOVERS_AT + PER_MOVER * place
        row[at] = (o.x - n.x) / 80.0
        row[at + 1] = (o.y - n.y) / 80.0
        row[at + 2] = 1.0 - least / MOVER_RANGE
        row[at + 3] = o.radius / 24.0
        describe_mover(o, row, at + 4)


@kernel(forceinline=True)
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
    """Write `local_tiles` of game i into patch, uint8 [3, PATCH, PATCH], without what moves.

    here: px from the ninja to the goal.
    """
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


@kernel
def _stamp_disc(patch, x, y, radius, value):
    """`_stamp`, as a call: it is inlined where mines are stamped only."""
    _stamp(patch, x, y, radius, value)


@kernel
def _stamp_face(patch, o, x, y, value):
    """`_stamp` the face of a thwump whose centre is at (x, y): two discs at its ends, 14 px apart."""
    for end in (-7.0, 7.0):
        if o.horizontal:
            _stamp_disc(patch, x + 11.0 * o.sense, y + end, o.radius + 2.0, value)
        else:
            _stamp_disc(patch, x + end, y + 11.0 * o.sense, o.radius + 2.0, value)


@kernel
def _stamp_mover(patch, o, x0, y0):
    """`_stamp` a mover where it is and will be, and where it would go; (x0, y0): px of the patch's first point."""
    reach = 12.0 * (PATCH - 1) + 40.0
    face = o.kind == THWUMP
    if not o.awake:
        length = math.sqrt(o.go_x * o.go_x + o.go_y * o.go_y)
        for k in range(int(length / 12.0) + 1):
            part = min(12.0 * k / max(length, 1.0), 1.0)
            x = o.x + part * o.go_x - x0
            y = o.y + part * o.go_y - y0
            if -40.0 < x < reach and -40.0 < y < reach:
                if face:
                    _stamp_face(patch, o, x, y, LANE)
                else:
                    _stamp_disc(patch, x, y, o.radius + 2.0, LANE)
    for k in range(len(SOON) + 1):
        t = 0 if k == len(SOON) else SOON[k]
        x = o.path[t, 0] - x0
        y = o.path[t, 1] - y0
        if -40.0 < x < reach and -40.0 < y < reach and t <= o.until:
            value = 255 if k == len(SOON) else FADING[k]
            if face:
                _stamp_face(patch, o, x, y, value)
            else:
                _stamp_disc(patch, x, y, o.radius + 2.0, value)


@kernel
def _stamp_block(patch, x, y, half):
    """Lower the points of patch u1 [PATCH, PATCH] to their distance to a square around (x, y), px from the first."""
    reach = half + FAR
    for r in range(max(math.ceil((y - reach) / 12.0), 0), min(math.floor((y + reach) / 12.0), PATCH - 1) + 1):
        for c in range(max(math.ceil((x - reach) / 12.0), 0), min(math.floor((x + reach) / 12.0), PATCH - 1) + 1):
            dx = max(abs(12.0 * c - x) - half, 0.0)
            dy = max(abs(12.0 * r - y) - half, 0.0)
            value = math.sqrt(dx * dx + dy * dy) * (255.0 / FAR)
            if value < patch[r, c]:
                patch[r, c] = int(value)


@kernel(forceinline=True)
def any_blocks(level):
    """Whether a level has bounce blocks or thwumps."""
    start = level.type_start
    blocks = start[BOUNCE_BLOCK + 1] - start[BOUNCE_BLOCK] + start[THWUMP + 1] - start[THWUMP]
    return blocks + start[SHOVE_THWUMP + 1] - start[SHOVE_THWUMP] > 0


@kernel
def stamp_movers(bank, state, i, around, patch):
    """Add what moves to `local_tiles` of game i: the movers that `note_movers` found, and blocks as ground."""
    n = state.ninja[i]
    level = bank.level[n.level]
    x0 = 6.0 * (math.floor(n.x / 6.0 + 0.5) - (PATCH - 1))
    y0 = 6.0 * (math.floor(n.y / 6.0 + 0.5) - (PATCH - 1))
    reach = 12.0 * (PATCH - 1) + 40.0
    for k in range(around.count):
        _stamp_mover(patch[1], around.movers[k], x0, y0)
    for kind in (BOUNCE_BLOCK, THWUMP, SHOVE_THWUMP):
        for k in range(level.type_start[kind], level.type_start[kind + 1]):
            x = state.mover[i, bank.entity[k].slot].x - x0
            y = state.mover[i, bank.entity[k].slot].y - y0
            flies = kind == SHOVE_THWUMP and state.state[i, k - level.entity_start] > 1
            if not flies and -40.0 < x < reach and -40.0 < y < reach:
                _stamp_block(patch[0], x, y, 12.0 if kind == SHOVE_THWUMP else 9.0)
