"""What tiles, entities and the ninja look like in the grey pictures of pictures.py, and how a look is blended in.

Every look is drawn with NumPy, once for a process and scale, at all 64 places within a pixel. The result is a stamp for
each place: how much of each pixel the look covers, in 256ths, and its grey times that.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from npp_rl.simulator.compiled import kernel
from npp_rl.simulator.layout import (
    BOOST_PAD,
    BOUNCE_BLOCK,
    CHASER_DRONE,
    DEATH_BALL,
    EXIT_DOOR,
    EXIT_SWITCH,
    FLOOR_GUARD,
    GOLD,
    LASER,
    LAUNCH_PAD,
    LOCKED_DOOR,
    MINE,
    MINI_DRONE,
    ONE_WAY,
    ORIENTATION_X,
    ORIENTATION_Y,
    REGULAR_DOOR,
    SHOVE_THWUMP,
    THWUMP,
    TOGGLE_MINE,
    TRAP_DOOR,
    ZAP_DRONE,
)
from npp_rl.simulator.tiles import SOLID as SOLID_PARTS
from npp_rl.simulator.tiles import TILE_COUNT

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
    """Exact share of a square of `size` px that a polygon covers."""
    for axis, low in ((0, left), (1, top)):
        points = _clipped(_clipped(points, axis, low + size, 1), axis, low, -1)
    twice = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, [*points[1:], *points[:1]], strict=True))
    return abs(twice) / 2 / size**2


def _tile_stamps(size):
    """Pixels of every tile type, uint8 [TILE_COUNT, 24 / size, 24 / size]."""
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


# A shape is a list of (mask, grey) from the bottom to the top. A mask, bool [128, 128], marks the points that belong to
# it, 1/4 px apart and within 16 px of the entity's place. u and v are coordinates along and across its direction.
_SAMPLE = 0.25
_V, _U = np.meshgrid(*2 * [_SAMPLE * (np.arange(128) - 63.5)], indexing="ij")
_U, _V = _U + 2e-4, _V + 1e-4  # slightly off the lattice, so that of two opposite slanted edges one counts


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
    """A triangle with its base across at u = base, 2 * half long, and its tip at u = tip."""
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
    """Deadly, which the level's raster shows; or gone off, which has to hide the raster's."""
    return [(_square(6.5), GREY), (_square(6.5) & (_U > 0), BLACK)] if sprung else _toggle_mine(0)


def _gold(_):
    return [(_diamond(6.5), WHITE)]


def _exit_door(opened):
    return [(_square(12), DARK), (_square(11), WHITE)] if opened else [(_square(12), DARK), (_square(4), LIGHT)]


def _exit_switch(hit):
    return [(_square(9) & ~_square(4), GREY)] if hit else [(_square(9), BLACK), (_square(6), WHITE)]


def _regular_door(look):
    """Looks of doors: closed vertical, closed horizontal, open vertical, open horizontal. The knob is the switch."""
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
    """By heading; chasing from 4 on."""
    u, v = _turned(2 * (look % 4))
    return [(_diamond(11.5), GREY if look < 4 else BLACK), (_disc(u, v, 4, 0, 3.5), WHITE)]


def _floor_guard(state):
    """Chasing to the left, still, chasing to the right."""
    eye = 4 * (state - 1)
    return [(_circle(6.5) | _box(_U, _V, -8, 8, 0, 6), BLACK), (_box(_U, _V, eye - 2.5, eye + 2.5, -1.5, 3), WHITE)]


def _bounce_block(_):
    return [(_square(9), DARK), (_square(6.5), GREY)]


def _thwump(look):
    """By 3 * face (right, down, left, up) + 1, less 1 when going back, plus 1 when going forward."""
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


# Shape of each record type (PHYSICS.md 2.1), and its number of looks. Type 0 is the ninja, 7 and 9 are door switches.
NINJA_LOOKS = 0
_KINDS = {
    NINJA_LOOKS: (_ninja, 3),
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
FIRST_LOOK = np.zeros(32, np.int64)  # number of each kind's first stamp
FIRST_LOOK[list(_KINDS)] = np.cumsum([0, *(looks for _, looks in _KINDS.values())])[:-1]

REACH = 4  # pixels that a stamp extends to each side
PHASES = 8  # places within a pixel along each axis


def _stamped(layers, size):
    """Stamps of a shape, uint16 [PHASES * PHASES, 2, 8, 8]: cover in 256ths, and grey times that; phases of y first."""
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
    """Everything to draw at one scale, with `size` px of the field to a pixel; kernels read `size` off `tiles`."""

    tiles: np.ndarray  # u1 [TILE_COUNT, 24 / size, 24 / size]
    shapes: np.ndarray  # u2 [looks, PHASES * PHASES, 2, 8, 8]: cover in 256ths, grey times that
    bounds: np.ndarray  # u1 [looks, PHASES * PHASES, 4]: first row, last row + 1, first column, last column + 1
    raster: np.ndarray  # u1 [levels, 600 / size, 1056 / size]


@functools.cache
def stamps(size: int):
    """(tiles, shapes, bounds) of `Pictures` at `size` px to a pixel: the arrays that all levels share."""
    shapes = np.stack([_stamped(draw(look), size) for draw, looks in _KINDS.values() for look in range(looks)])
    covered = shapes[:, :, 0] > 0
    bounds = np.zeros((*shapes.shape[:2], 4), np.uint8)
    for k, axis in ((0, 3), (2, 2)):
        used = covered.any(axis)
        bounds[:, :, k] = used.argmax(2)
        bounds[:, :, k + 1] = 2 * REACH - used[:, :, ::-1].argmax(2)
    return _tile_stamps(size), np.ascontiguousarray(shapes), bounds


@kernel
def blend(pictures, look, x, y, left, top, picture):
    """Blend a stamp at (x, y) px of the field into u1 [rows, columns], whose corner is at pixel (left, top)."""
    if not (abs(x) < 1e5 and abs(y) < 1e5):  # a ball that killed a ninja at its own centre is nowhere (PHYSICS.md 5.19)
        return
    eighths = PHASES * pictures.tiles.shape[1] / 24.0  # of a pixel, in a px
    p = math.floor(x * eighths + 0.5)
    q = math.floor(y * eighths + 0.5)
    phase = PHASES * (q % PHASES) + p % PHASES
    left = p // PHASES - REACH - left
    top = q // PHASES - REACH - top
    look = min(max(look, 0), len(pictures.bounds) - 1)  # a game read from a file may hold any state
    bounds = pictures.bounds[look, phase]
    first = max(bounds[2], -left)
    last = min(bounds[3], picture.shape[1] - left)
    for r in range(max(bounds[0], -top), min(bounds[1], picture.shape[0] - top)):
        cover = pictures.shapes[look, phase, 0, r]
        grey = pictures.shapes[look, phase, 1, r]
        row = picture[top + r]
        for c in range(first, last):
            row[left + c] = (row[left + c] * (256 - cover[c]) + grey[c] + 128) >> 8
