"""Grey pictures of the level for networks, antialiased by area: compiled kernels that write into batch arrays.

`player_frames` uint8 [k, 84, 84], 4 px of the field a pixel: the pictures after the last k steps, the newest last;
after a reset all k are the first one. The level's raster is cropped at whole pixels, so that the ninja's centre is at
most half a pixel from the middle, and moving things are drawn at eighths of a pixel. Outside of the field is solid.

`global_view` uint8 [1, 100, 176], 6 px a pixel: the whole field.

Open space is light grey (EMPTY), solid ground dark grey (SOLID), and every kind of entity and every state that matters
to play has a look of its own (`_KINDS`), up to 24 px wide:

- mines: a black disc; a small dark one before they are toggled, a larger dark one while they are toggling;
- gold: a small white diamond; exit doors: a dark square with a light middle, white when open; exit switches: a white
  square in a black frame, then a grey frame;
- doors: a bar when closed, dark with a knob (regular), black and white (locked) or white (trap); its ends when open, or
  one end and the knob; their switches: a white square with a black quarter, or the reverse, then three grey quarters;
- launch pads and one-way platforms: a white side towards where they throw or stop the ninja; boost pads: a white ring;
- drones: black with a white eye where they are heading, mini drones with a long nose, chasers diamonds; floor guards: a
  dome with an eye; death balls: a large black disc; thwumps: light with a black face;
- the ninja: a white disc with a black band, the reverse when dead, half black and half white when it has won.

What can never change is drawn once a level: tiles, mines that are deadly from the start, launch pads, one-way
platforms, boost pads. A picture copies rows of that and blends the rest. Every look is drawn beforehand at all 64
places within a pixel, as a stamp: how much of each pixel it covers, in 256ths, and its grey times that.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from numba import prange

from npp_rl.simulator.compiled import kernel, njit
from npp_rl.simulator.contacts import thwump_axis
from npp_rl.simulator.layout import (
    BOOST_PAD,
    BOUNCE_BLOCK,
    CHASER_DRONE,
    COLUMNS,
    DEAD,
    DEATH_BALL,
    DYING,
    EXIT_DOOR,
    EXIT_SWITCH,
    FLOOR_GUARD,
    GOLD,
    HEIGHT,
    LASER,
    LAUNCH_PAD,
    LOCKED_DOOR,
    MINE,
    MINI_DRONE,
    ONE_WAY,
    ORIENTATION_X,
    ORIENTATION_Y,
    REGULAR_DOOR,
    ROWS,
    SHOVE_THWUMP,
    THWUMP,
    TOGGLE_MINE,
    TRAP_DOOR,
    WIDTH,
    WON,
    ZAP_DRONE,
)
from npp_rl.simulator.tiles import SOLID as SOLID_PARTS
from npp_rl.simulator.tiles import TILE_COUNT
from npp_rl.simulator.unfinished import ray_length

PLAYER_SIDE = 84  # pixels
PLAYER_PIXEL, GLOBAL_PIXEL = 4, 6  # px of the field along a pixel's side
GLOBAL_ROWS, GLOBAL_COLUMNS = HEIGHT // GLOBAL_PIXEL, WIDTH // GLOBAL_PIXEL
EMPTY, SOLID = 176, 88
BLACK, DARK, GREY, LIGHT, WHITE = 0, 44, 132, 216, 255


_LINES = {34: (0, 0, 24, 3), 35: (21, 0, 24, 24), 36: (0, 21, 24, 24), 37: (0, 0, 3, 24)}  # drawn 3 px wide


def _clipped(points, axis, bound, sign):
    """The part of a polygon where sign * (coordinate - bound) <= 0 (Sutherland, Hodgman 1974)."""
    kept = []
    for k, b in enumerate(points):
        a = points[k - 1]
        u, v = sign * (a[axis] - bound), sign * (b[axis] - bound)
        if u * v < 0.0:
            t = u / (u - v)
            kept.append((a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t))
        if v <= 0.0:
            kept.append(b)
    return kept


def _covered(points, left, top, size):
    """Share of a square of `size` px that a polygon covers, exactly."""
    for axis, low in ((0, left), (1, top)):
        points = _clipped(_clipped(points, axis, low + size, 1), axis, low, -1)
    twice = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, [*points[1:], *points[:1]], strict=True))
    return abs(twice) / 2 / size**2


def _tile_stamps(size):
    """Grey of the pixels of every tile type, uint8 [TILE_COUNT, 24 / size, 24 / size]."""
    side = 24 // size
    grey = np.full((TILE_COUNT, side, side), EMPTY, np.uint8)
    for tile in range(1, TILE_COUNT):
        if tile < len(SOLID_PARTS):
            points = SOLID_PARTS[tile]
        else:
            a, b, c, d = _LINES[tile]
            points = ((a, b), (c, b), (c, d), (a, d))
        for row in range(side):
            for column in range(side):
                share = _covered(points, size * column, size * row, size)
                grey[tile, row, column] = round(EMPTY + (SOLID - EMPTY) * share)
    return grey


# Shapes are lists of (mask, grey) from the bottom to the top. Masks bool [128, 128] tell which points, 1/4 px apart and
# within 16 px of the entity's place, belong; u and v are the points' coordinates along and across its direction.
_SAMPLE = 0.25
_V, _U = np.meshgrid(*2 * [_SAMPLE * (np.arange(128) - 63.5)], indexing="ij")
_U, _V = _U + 2e-4, _V + 1e-4  # off the lattice by a hair: of two opposite slanted edges on it, one counts


def _turned(direction):
    """Coordinates (u, v) for an orientation 0..7 (PHYSICS.md 2.1)."""
    a, b = ORIENTATION_X[direction], ORIENTATION_Y[direction]
    return a * _U + b * _V, a * _V - b * _U


def _disc(u, v, x, y, radius):
    return (u - x) ** 2 + (v - y) ** 2 <= radius * radius


def _box(u, v, u_low, u_high, v_low, v_high):
    return (u >= u_low) & (u <= u_high) & (v >= v_low) & (v <= v_high)


def _square(half):
    return _box(_U, _V, -half, half, -half, half)


def _diamond(half):
    return np.abs(_U) + np.abs(_V) <= half


def _circle(radius):
    return _disc(_U, _V, 0, 0, radius)


def _nose(u, v, base, tip, half):
    """A triangle from a base line across at u = base, of which `half` is half the length, to its tip."""
    return (u >= base) & (np.abs(v) * (tip - base) <= half * (tip - u))


def _ninja(state):
    """Alive, dead or won."""
    if state == 2:
        return [(_circle(10), WHITE), (_circle(10) & (_U < 0), BLACK)]
    head, band = (WHITE, BLACK) if state == 0 else (BLACK, WHITE)
    return [(_circle(10), head), (_circle(10) & _box(_U, _V, -10, 10, -6, -1), band)]


def _toggle_mine(state):
    """Deadly, untoggled, toggling (PHYSICS.md 5.3)."""
    radius, shade = ((6, BLACK), (5, DARK), (6, DARK))[state]
    return [(_circle(radius), shade)]


def _mine(sprung):
    """Deadly, which is part of a level's raster; or gone off, which has to hide that."""
    return [(_square(6.5), GREY), (_square(6.5) & (_U > 0), BLACK)] if sprung else _toggle_mine(0)


def _gold(_):
    return [(_diamond(6.5), WHITE)]


def _exit_door(opened):
    return [(_square(12), DARK), (_square(11), WHITE)] if opened else [(_square(12), DARK), (_square(4), LIGHT)]


def _exit_switch(hit):
    return [(_square(9) & ~_square(4), GREY)] if hit else [(_square(9), BLACK), (_square(6), WHITE)]


def _regular_door(look):
    """Looks of doors: closed vertical, closed horizontal, open vertical, open horizontal. A knob is its own switch."""
    u, v = _turned(0 if look % 2 else 2)
    bar = _box(u, v, -12, 12, -3, 3)
    if look < 2:
        return [(bar | _circle(4.5), DARK)]
    return [(bar & (u < -5) | _circle(4), DARK)]


def _locked_door(look):
    u, v = _turned(0 if look % 2 else 2)
    bar = _box(u, v, -12, 12, -4, 4)
    if look < 2:
        return [(bar, BLACK), (_box(u, v, -6, 6, -2.5, 2.5), WHITE)]
    return [(bar & (np.abs(u) >= 9), BLACK)]


def _trap_door(look):
    u, v = _turned(0 if look % 2 else 2)
    bar = _box(u, v, -12, 12, -3, 3)
    return [(bar if look < 2 else bar & (np.abs(u) >= 8), WHITE)]


def _locked_switch(used):
    quarter = _square(8) & (_U > 0) & (_V > 0)
    return [(_square(8) & ~quarter, GREY)] if used else [(_square(8), WHITE), (quarter, BLACK)]


def _trap_switch(used):
    quarter = _square(8) & (_U < 0) & (_V < 0)
    return [(_square(8) & ~quarter, GREY)] if used else [(_square(8), BLACK), (quarter, WHITE)]


def _launch_pad(orientation):
    u, v = _turned(orientation)
    return [(_box(u, v, -5, 0, -8, 8), DARK), (_nose(u, v, 0, 10, 8), WHITE)]


def _one_way(orientation):
    u, v = _turned(orientation)
    return [(_box(u, v, -4, 0, -12, 12), DARK), (_box(u, v, 0, 2, -12, 12), WHITE)]


def _boost_pad(_):
    return [(_circle(9) & ~_circle(5), WHITE)]


def _zap_drone(heading):
    u, v = _turned(2 * heading)
    return [(_circle(7.5) | _nose(u, v, 3, 11.5, 6.5), BLACK), (_disc(u, v, 3.5, 0, 3), WHITE)]


def _mini_drone(heading):
    u, v = _turned(2 * heading)
    return [(_circle(4.5) | _nose(u, v, 2, 11, 4.5), BLACK)]


def _chaser_drone(look):
    """By heading; from 4 on chasing."""
    u, v = _turned(2 * (look % 4))
    return [(_diamond(11.5), GREY if look < 4 else BLACK), (_disc(u, v, 4, 0, 3.5), WHITE)]


def _floor_guard(state):
    """Chasing to the left, still, chasing to the right."""
    eye = 4 * (state - 1)
    return [(_circle(6.5) | _box(_U, _V, -8, 8, 0, 6), BLACK), (_box(_U, _V, eye - 2.5, eye + 2.5, -1.5, 3), WHITE)]


def _bounce_block(_):
    return [(_square(9), DARK), (_square(6.5), GREY)]


def _thwump(look):
    """3 * face (right, down, left, up) + 1, less 1 when going back, and one more when going forward."""
    u, v = _turned(2 * (look // 3))
    eye = (GREY, LIGHT, BLACK)[look % 3]
    return [(_square(9), LIGHT), (_box(u, v, 4, 9, -9, 9), BLACK), (_disc(u, v, -3.5, 0, 4), eye)]


def _shove_thwump(state):
    """Still, activated, launching, retreating (PHYSICS.md 5.16); solid in the first two only."""
    shade = (GREY, WHITE, WHITE, GREY)[state]
    if state < 2:
        return [(_square(12), shade), (_circle(7.5), BLACK)]
    return [(_circle(12), shade), (_circle(7.5), BLACK), (_circle(3.5), WHITE)]


def _laser(state):
    """Not known yet, a spinner, a surface laser (unfinished.py)."""
    one, other = ((LIGHT, DARK), (WHITE, BLACK), (GREY, BLACK))[state]
    return [(_circle(7), one), (_circle(7) & (_U * _V > 0), other)]


def _death_ball(_):
    return [(_circle(8), BLACK)]


# Shapes by record type (PHYSICS.md 2.1), and how many looks each has. Type 0 is the ninja, 7 and 9 are door switches.
_NINJA = 0
_KINDS = {
    _NINJA: (_ninja, 3),
    MINE: (_mine, 2),
    GOLD: (_gold, 1),
    EXIT_DOOR: (_exit_door, 2),
    EXIT_SWITCH: (_exit_switch, 2),
    REGULAR_DOOR: (_regular_door, 4),
    LOCKED_DOOR: (_locked_door, 4),
    LOCKED_DOOR + 1: (_locked_switch, 2),
    TRAP_DOOR: (_trap_door, 4),
    TRAP_DOOR + 1: (_trap_switch, 2),
    LAUNCH_PAD: (_launch_pad, 8),
    ONE_WAY: (_one_way, 8),
    ZAP_DRONE: (_zap_drone, 4),
    CHASER_DRONE: (_chaser_drone, 8),
    FLOOR_GUARD: (_floor_guard, 3),
    BOUNCE_BLOCK: (_bounce_block, 1),
    THWUMP: (_thwump, 12),
    TOGGLE_MINE: (_toggle_mine, 3),
    LASER: (_laser, 3),
    BOOST_PAD: (_boost_pad, 1),
    DEATH_BALL: (_death_ball, 1),
    MINI_DRONE: (_mini_drone, 4),
    SHOVE_THWUMP: (_shove_thwump, 4),
}
_FIRST = np.zeros(32, np.int64)  # number of each kind's first stamp
_FIRST[list(_KINDS)] = np.cumsum([0, *(looks for _, looks in _KINDS.values())])[:-1]

REACH = 4  # pixels that a stamp extends to each side
PHASES = 8  # places within a pixel along each axis


def _stamped(layers, size):
    """A shape's stamps uint16 [PHASES * PHASES, 2, 8, 8]: cover in 256ths, and grey times that; phases of y first."""
    grey, cover = np.zeros(_U.shape), np.zeros(_U.shape)
    for mask, shade in layers:
        grey[mask], cover[mask] = shade, 1
    per = round(size / _SAMPLE)
    edges = per * np.arange(-REACH, REACH + 1) - per // PHASES * np.arange(PHASES)[:, None] + len(_U) // 2
    edges = np.clip(edges, 0, len(_U))
    sums = np.zeros((2, len(_U) + 1, len(_U) + 1))
    sums[:, 1:, 1:] = np.stack([cover, grey * cover]).cumsum(1).cumsum(2)
    corner = sums[:, edges[:, None, :, None], edges[None, :, None, :]]
    pixel = np.diff(np.diff(corner, axis=3), axis=4) * (256 / per**2)
    return np.rint(pixel).astype(np.uint16).transpose(1, 2, 0, 3, 4).reshape(-1, 2, 2 * REACH, 2 * REACH)


class Pictures(NamedTuple):
    """What is needed to draw at one scale, `size` px of the field along a pixel's side; `size` is read off `tiles`."""

    tiles: np.ndarray  # u1 [TILE_COUNT, 24 / size, 24 / size]
    shapes: np.ndarray  # u2 [looks, PHASES * PHASES, 2, 8, 8]: cover in 256ths, grey times that
    bounds: np.ndarray  # u1 [looks, PHASES * PHASES, 4]: first row, last row + 1, the same of columns
    raster: np.ndarray  # u1 [levels, 600 / size, 1056 / size]


@functools.cache
def _stamps(size):
    """The arrays of `Pictures` that all levels share."""
    shapes = np.stack([_stamped(draw(look), size) for draw, looks in _KINDS.values() for look in range(looks)])
    covered = shapes[:, :, 0] > 0
    bounds = np.zeros((*shapes.shape[:2], 4), np.uint8)
    for k, axis in ((0, 3), (2, 2)):
        used = covered.any(axis)
        bounds[:, :, k] = used.argmax(2)
        bounds[:, :, k + 1] = 2 * REACH - used[:, :, ::-1].argmax(2)
    return _tile_stamps(size), np.ascontiguousarray(shapes), bounds


def level_pictures(bank, size: int, wanted: bool = True) -> Pictures:
    """Stamps and the rasters of all levels of a bank for PLAYER_PIXEL or GLOBAL_PIXEL; of none unless `wanted`."""
    levels = len(bank.level) if wanted else 0
    pictures = Pictures(*_stamps(size), np.zeros((levels, HEIGHT // size, WIDTH // size), np.uint8))
    _draw_rasters(bank, pictures)
    return pictures


@kernel
def _blend(pictures, look, x, y, left, top, picture):
    """Blend a stamp at (x, y) px of the field into u1 [rows, columns], whose corner is at pixel (left, top)."""
    if not (abs(x) < 1e5 and abs(y) < 1e5):  # a ball that killed a ninja at its own centre is nowhere (PHYSICS.md 5.19)
        return
    eighths = PHASES * pictures.tiles.shape[1] / 24.0  # of a pixel, in a px
    p = math.floor(x * eighths + 0.5)
    q = math.floor(y * eighths + 0.5)
    phase = PHASES * (q % PHASES) + p % PHASES
    left = p // PHASES - REACH - left
    top = q // PHASES - REACH - top
    look = min(max(look, 0), len(pictures.bounds) - 1)  # rows from a file may hold any state
    bounds = pictures.bounds[look, phase]
    first = max(bounds[2], -left)
    last = min(bounds[3], picture.shape[1] - left)
    for r in range(max(bounds[0], -top), min(bounds[1], picture.shape[0] - top)):
        cover = pictures.shapes[look, phase, 0, r]
        grey = pictures.shapes[look, phase, 1, r]
        row = picture[top + r]
        for c in range(first, last):
            row[left + c] = (row[left + c] * (256 - cover[c]) + grey[c] + 128) >> 8


@kernel
def _blend_beam(pixels, x, y, dx, dy, length, left, top, picture):
    """Blend a black line 2 px wide, from (x, y) px along a unit vector, into u1 [rows, columns] as _blend.

    `pixels` to a px.
    """
    flat = abs(dx) >= abs(dy)
    # Along the axis that it follows more closely (s), and across it (t), in pixels of the picture.
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
    """Tiles and what can never change, into u1 [600 / size, 1056 / size]."""
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
            look = _FIRST[kind] + (e.orientation if kind in (LAUNCH_PAD, ONE_WAY) else 0)
            _blend(pictures, look, e.x, e.y, 0, 0, raster)


@kernel
def _draw_doors(bank, state, i, level, pictures, left, top, picture):
    base = level.entity_start
    for slot in range(level.doors):
        door = bank.door[level.door_start + slot]
        e = bank.entity[base + door.entity]
        look = (0 if state.closed[i, slot] else 2) + (1 if door.y1 == door.y2 else 0)
        x = (door.x1 + door.x2) / 2.0
        y = (door.y1 + door.y2) / 2.0
        _blend(pictures, _FIRST[e.type] + look, x, y, left, top, picture)
        if e.type != REGULAR_DOOR:
            used = 0 if state.active[i, door.entity] else 1
            _blend(pictures, _FIRST[e.type + 1] + used, e.x, e.y, left, top, picture)
    # An exit switch stands behind its door in their list (PHYSICS.md 5.1).
    for k in range(level.type_start[EXIT_DOOR], level.type_start[EXIT_DOOR + 1] - 1, 2):
        door = bank.entity[k]
        switch = bank.entity[k + 1]
        hit = 0 if state.active[i, k + 1 - base] else 1
        _blend(pictures, _FIRST[EXIT_DOOR] + hit, door.x, door.y, left, top, picture)
        _blend(pictures, _FIRST[EXIT_SWITCH] + hit, switch.x, switch.y, left, top, picture)


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
        _blend(pictures, _FIRST[kind] + look, m.x, m.y, left, top, picture)


@kernel
def _draw_changing(bank, state, i, pictures, left, top, picture):
    """Everything that is not in the level's raster, into u1 [rows, columns] from pixel (left, top) of the field on."""
    n = state.ninja[i]
    level = bank.level[n.level]
    base = level.entity_start
    _draw_doors(bank, state, i, level, pictures, left, top, picture)
    for k in range(level.type_start[GOLD], level.type_start[GOLD + 1]):
        if state.active[i, k - base]:
            _blend(pictures, _FIRST[GOLD], bank.entity[k].x, bank.entity[k].y, left, top, picture)
    if n.sprung:
        for k in range(level.type_start[MINE], level.type_start[MINE + 1]):
            if state.state[i, k - base]:
                _blend(pictures, _FIRST[MINE] + 1, bank.entity[k].x, bank.entity[k].y, left, top, picture)
    for k in range(level.type_start[TOGGLE_MINE], level.type_start[TOGGLE_MINE + 1]):
        look = _FIRST[TOGGLE_MINE] + state.state[i, k - base]
        _blend(pictures, look, bank.entity[k].x, bank.entity[k].y, left, top, picture)
    _draw_movers(bank, state, i, level, pictures, left, top, picture)
    look = _FIRST[_NINJA] + (2 if n.state == WON else 1 if n.state == DEAD or n.state == DYING else 0)
    _blend(pictures, look, n.x, n.y, left, top, picture)


@njit(parallel=True)
def _draw_rasters(bank, pictures):
    for index in prange(len(pictures.raster)):
        i = np.int64(index)
        _draw_static(bank, bank.level[i], pictures, pictures.raster[i])


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
    """Draw into the last of u1 [k, 84, 84], after the others have moved up."""
    for k in range(len(frames) - 1):
        for r in range(PLAYER_SIDE):
            for c in range(PLAYER_SIDE):
                frames[k, r, c] = frames[k + 1, r, c]
    write_player_frame(bank, state, i, pictures, frames[len(frames) - 1])


@kernel
def begin_player_frames(bank, state, i, pictures, frames):
    """Draw into all of u1 [k, 84, 84]."""
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
