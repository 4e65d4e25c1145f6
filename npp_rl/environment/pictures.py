"""Grey pictures of the level for networks, antialiased by area: compiled kernels that write into batch arrays.

`player_frames` uint8 [k, 84, 84], 4 px of the field to a pixel: the surroundings of the ninja after the last k steps,
the newest last. After a reset all k are the first one. The level's raster is cropped at whole pixels, so the ninja's
centre is at most half a pixel from the middle; moving things are drawn at eighths of a pixel. Outside of the field is
solid ground.

`global_view` uint8 [1, 100, 176], 6 px to a pixel: the whole field.

Open space is light grey (EMPTY) and solid ground dark grey (SOLID). Every kind of entity, in every state that matters
to play, has a look of its own, up to 24 px wide:

- mines: a black disc; a small dark one before they are toggled, a larger dark one while they are toggling;
- gold: a small white diamond;
- exit doors: a dark square with a light middle, white when open;
- exit switches: a white square in a black frame, a grey frame once hit;
- doors: a bar when closed, dark with a knob (regular), black and white (locked) or white (trap); only their ends, or
  one end and the knob, when open;
- switches of doors: a white square with a black quarter, or the reverse, and three grey quarters once used;
- launch pads and one-way platforms: a white side towards where they throw or stop the ninja;
- boost pads: a white ring;
- drones: black with a white eye where they are heading; mini drones with a long nose; chasers are diamonds;
- floor guards: a dome with an eye; death balls: a large black disc; thwumps: light with a black face;
- the ninja: a white disc with a black band, the reverse when dead, half black and half white when it has won.

looks.py has these looks. What can never change is drawn once for each level: tiles, mines that are deadly from the
start, launch pads, one-way platforms, boost pads. A picture copies rows of that and blends everything else over it.
"""

import math

import numpy as np
from numba import prange

from npp_rl.environment.looks import FIRST_LOOK, NINJA_LOOKS, SOLID, Pictures, blend, stamps
from npp_rl.simulator.compiled import kernel, njit
from npp_rl.simulator.contacts import thwump_axis
from npp_rl.simulator.layout import (
    BOOST_PAD,
    CHASER_DRONE,
    COLUMNS,
    DEAD,
    DYING,
    EXIT_DOOR,
    EXIT_SWITCH,
    FLOOR_GUARD,
    GOLD,
    HEIGHT,
    LASER,
    LAUNCH_PAD,
    MINE,
    MINI_DRONE,
    ONE_WAY,
    REGULAR_DOOR,
    ROWS,
    SHOVE_THWUMP,
    THWUMP,
    TOGGLE_MINE,
    WIDTH,
    WON,
    ZAP_DRONE,
)
from npp_rl.simulator.tiles import TILE_COUNT
from npp_rl.simulator.unfinished import ray_length

PLAYER_SIDE = 84  # pixels
PLAYER_PIXEL, GLOBAL_PIXEL = 4, 6  # px of the field along a pixel's side
GLOBAL_ROWS, GLOBAL_COLUMNS = HEIGHT // GLOBAL_PIXEL, WIDTH // GLOBAL_PIXEL


def level_pictures(bank, size: int, wanted: bool = True, serial: bool = False) -> Pictures:
    """Stamps, and rasters of a bank's levels, for PLAYER_PIXEL or GLOBAL_PIXEL; no rasters unless `wanted`.

    serial: without threads.
    """
    levels = len(bank.level) if wanted else 0
    pictures = Pictures(*stamps(size), np.zeros((levels, HEIGHT // size, WIDTH // size), np.uint8))
    _draw_rasters(bank, pictures, serial)
    return pictures


@kernel
def _blend_beam(pixels, x, y, dx, dy, length, left, top, picture):
    """Blend a black line 2 px wide, from (x, y) px along a unit vector, into u1 [rows, columns], as `blend` does.

    pixels: of the picture to a px of the field.
    """
    flat = abs(dx) >= abs(dy)
    # s runs along the axis that the line follows more closely, t across it, both in pixels of the picture.
    s0 = x * pixels - left if flat else y * pixels - top
    t0 = y * pixels - top if flat else x * pixels - left
    slope = dy / dx if flat else dx / dy
    s1 = s0 + (dx if flat else dy) * length * pixels
    half = pixels * math.sqrt(1.0 + slope * slope)
    low = min(s0, s1)
    high = max(s0, s1)
    steps = picture.shape[1] if flat else picture.shape[0]
    across = picture.shape[0] if flat else picture.shape[1]
    for s in range(max(math.floor(low), 0), min(math.floor(high) + 1, steps)):
        begin = max(low, float(s))
        end = min(high, s + 1.0)
        t = t0 + slope * ((begin + end) / 2.0 - s0)
        for k in range(max(math.floor(t - half), 0), min(math.floor(t + half) + 1, across)):
            cover = (end - begin) * max(min(t + half, k + 1.0) - max(t - half, float(k)), 0.0)
            r = k if flat else s
            c = s if flat else k
            picture[r, c] = int(picture[r, c] * (1.0 - cover) + 0.5)


@kernel
def _draw_static(bank, level, pictures, raster):
    """Draw tiles and what can never change into u1 [600 / size, 1056 / size]."""
    side = pictures.tiles.shape[1]
    for column in range(COLUMNS):
        for row in range(ROWS):
            tile = level.tiles[column * ROWS + row]
            stamp = pictures.tiles[tile if tile < TILE_COUNT else 0]  # higher numbers do nothing (PHYSICS.md 3.2)
            for r in range(side):
                for c in range(side):
                    raster[side * row + r, side * column + c] = stamp[r, c]
    for kind in (BOOST_PAD, LAUNCH_PAD, ONE_WAY, MINE):
        for k in range(level.type_start[kind], level.type_start[kind + 1]):
            e = bank.entity[k]
            look = FIRST_LOOK[kind] + (e.orientation if kind in (LAUNCH_PAD, ONE_WAY) else 0)
            blend(pictures, look, e.x, e.y, 0, 0, raster)


@kernel
def _draw_doors(bank, state, i, level, pictures, left, top, picture):
    base = level.entity_start
    for slot in range(level.doors):
        door = bank.door[level.door_start + slot]
        e = bank.entity[base + door.entity]
        look = (0 if state.closed[i, slot] else 2) + (1 if door.y1 == door.y2 else 0)
        x = (door.x1 + door.x2) / 2.0
        y = (door.y1 + door.y2) / 2.0
        blend(pictures, FIRST_LOOK[e.type] + look, x, y, left, top, picture)
        if e.type != REGULAR_DOOR:
            used = 0 if state.active[i, door.entity] else 1
            blend(pictures, FIRST_LOOK[e.type + 1] + used, e.x, e.y, left, top, picture)
    # An exit switch follows its door in the list of entities (PHYSICS.md 5.1).
    for k in range(level.type_start[EXIT_DOOR], level.type_start[EXIT_DOOR + 1] - 1, 2):
        door = bank.entity[k]
        switch = bank.entity[k + 1]
        hit = 0 if state.active[i, k + 1 - base] else 1
        blend(pictures, FIRST_LOOK[EXIT_DOOR] + hit, door.x, door.y, left, top, picture)
        blend(pictures, FIRST_LOOK[EXIT_SWITCH] + hit, switch.x, switch.y, left, top, picture)


@kernel
def _draw_movers(bank, state, i, level, pictures, left, top, picture):
    for slot in range(level.movers):
        k = bank.mover[level.mover_start + slot]
        e = bank.entity[k]
        kind = e.type
        if kind == EXIT_DOOR:
            continue
        m = state.mover[i, slot]
        status = state.state[i, k - level.entity_start]
        look = 0
        if kind in (ZAP_DRONE, MINI_DRONE):
            look = m.dir
        elif kind == CHASER_DRONE:
            look = m.dir + (4 if status else 0)
        elif kind == FLOOR_GUARD:
            look = status + 1
        elif kind == THWUMP:
            horizontal, sense = thwump_axis(e)
            look = 3 * ((1 - sense) if horizontal else (2 - sense)) + status + 1
        elif kind in (SHOVE_THWUMP, LASER):
            look = status
        if kind == LASER and status == 1:
            dx = math.cos(m.a)
            dy = math.sin(m.a)
            length = ray_length(level, bank.segment, m.x, m.y, dx, dy)
            _blend_beam(pictures.tiles.shape[1] / 24.0, m.x, m.y, dx, dy, length, left, top, picture)
        blend(pictures, FIRST_LOOK[kind] + look, m.x, m.y, left, top, picture)


@kernel
def _draw_changing(bank, state, i, pictures, left, top, picture):
    """Draw what is not in the level's raster into u1 [rows, columns], whose corner is at pixel (left, top)."""
    n = state.ninja[i]
    level = bank.level[n.level]
    base = level.entity_start
    _draw_doors(bank, state, i, level, pictures, left, top, picture)
    for k in range(level.type_start[GOLD], level.type_start[GOLD + 1]):
        if state.active[i, k - base]:
            blend(pictures, FIRST_LOOK[GOLD], bank.entity[k].x, bank.entity[k].y, left, top, picture)
    if n.sprung:
        for k in range(level.type_start[MINE], level.type_start[MINE + 1]):
            if state.state[i, k - base]:
                blend(pictures, FIRST_LOOK[MINE] + 1, bank.entity[k].x, bank.entity[k].y, left, top, picture)
    for k in range(level.type_start[TOGGLE_MINE], level.type_start[TOGGLE_MINE + 1]):
        look = FIRST_LOOK[TOGGLE_MINE] + state.state[i, k - base]
        blend(pictures, look, bank.entity[k].x, bank.entity[k].y, left, top, picture)
    _draw_movers(bank, state, i, level, pictures, left, top, picture)
    look = FIRST_LOOK[NINJA_LOOKS] + (2 if n.state == WON else 1 if n.state == DEAD or n.state == DYING else 0)
    blend(pictures, look, n.x, n.y, left, top, picture)


@kernel
def _draw_raster(bank, i, pictures):
    _draw_static(bank, bank.level[i], pictures, pictures.raster[i])


@njit(parallel=True, _nrt=False)
def _draw_rasters(bank, pictures, serial):
    levels = len(pictures.raster)  # Numba takes the length of an attribute inside `prange` for 0
    if serial:
        for i in range(levels):
            _draw_raster(bank, i, pictures)
    else:
        for index in prange(levels):
            _draw_raster(bank, np.int64(index), pictures)


@kernel
def write_player_frame(bank, state, i, pictures, picture):
    """Draw the surroundings of game i's ninja into u1 [84, 84]."""
    n = state.ninja[i]
    raster = pictures.raster[n.level]
    left = math.floor(n.x / PLAYER_PIXEL + 0.5) - PLAYER_SIDE // 2
    top = math.floor(n.y / PLAYER_PIXEL + 0.5) - PLAYER_SIDE // 2
    first = min(max(-left, 0), PLAYER_SIDE)
    last = max(min(raster.shape[1] - left, PLAYER_SIDE), first)
    for r in range(PLAYER_SIDE):
        if top + r < 0 or top + r >= raster.shape[0]:
            picture[r] = SOLID
            continue
        picture[r, :first] = SOLID
        picture[r, last:] = SOLID
        row = picture[r, first:last]
        source = raster[top + r, left + first : left + last]
        for c in range(last - first):
            row[c] = source[c]
    _draw_changing(bank, state, i, pictures, left, top, picture)


@kernel
def push_player_frame(bank, state, i, pictures, frames):
    """Move the pictures u1 [k, 84, 84] up by one, and draw the last."""
    for k in range(len(frames) - 1):
        for r in range(PLAYER_SIDE):
            for c in range(PLAYER_SIDE):
                frames[k, r, c] = frames[k + 1, r, c]
    write_player_frame(bank, state, i, pictures, frames[len(frames) - 1])


@kernel
def begin_player_frames(bank, state, i, pictures, frames):
    """Draw the same picture into all of u1 [k, 84, 84]."""
    write_player_frame(bank, state, i, pictures, frames[0])
    for k in range(1, len(frames)):
        for r in range(PLAYER_SIDE):
            for c in range(PLAYER_SIDE):
                frames[k, r, c] = frames[0, r, c]


@kernel
def write_global_view(bank, state, i, pictures, picture):
    """Draw the whole field of game i into u1 [100, 176]."""
    raster = pictures.raster[state.ninja[i].level]
    for r in range(raster.shape[0]):
        for c in range(raster.shape[1]):
            picture[r, c] = raster[r, c]
    _draw_changing(bank, state, i, pictures, 0, 0, picture)
