"""What people see of a level: colours, and shapes of tiles, entities and the ninja, drawn with Pillow.

`things` reads the entities of a map. `look` says which shapes an entity has at a given moment, and where. render.py
makes all pictures of these pieces. Red kills, green leads to the exit (further pairs of exit and switch have other
colours), and a dashed line leads from a closed door to its switch.
"""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from npp_rl.levels.maps import RECORDS_AT
from npp_rl.simulator.layout import (
    BOOST_PAD,
    BOUNCE_BLOCK,
    CHASER_DRONE,
    DEATH_BALL,
    ENTITY_TYPES,
    EXIT_DOOR,
    FLOOR_GUARD,
    GOLD,
    LASER,
    LAUNCH_PAD,
    LOCKED_DOOR,
    MINE,
    MINI_DRONE,
    ONE_WAY,
    REGULAR_DOOR,
    SHOVE_THWUMP,
    THWUMP,
    TOGGLE_MINE,
    TRAP_DOOR,
    ZAP_DRONE,
)
from npp_rl.simulator.tiles import SOLID, TILE_COUNT, TILES

WIDTH, HEIGHT = 1056, 600  # px of the field, border ring included
CELL = 24
REACH = 18  # px that a shape may reach from its place

BACKGROUND = (216, 218, 224)
TILE = (116, 121, 141)
EDGE = (84, 89, 108)
INK = (34, 36, 46)
PAPER = (245, 246, 248)
DEADLY = (204, 44, 58)
HARMLESS = (84, 128, 150)
GOLD_COLOR, GOLD_SHINE = (216, 160, 32), (250, 218, 120)
EXITS = ((20, 138, 108), (120, 84, 190), (190, 96, 30), (40, 110, 190))
REGULAR_DOOR_COLOR, LOCKED_DOOR_COLOR, TRAP_DOOR_COLOR = (44, 104, 176), (168, 96, 28), (158, 46, 116)
LIGHT = (214, 255, 226)  # behind an open exit
LAUNCH, BOOST, PLATFORM = (226, 112, 40), (44, 150, 190), (60, 70, 104)
OUTCOMES = {"won": (16, 142, 74), "died": (206, 40, 56), "unfinished": (48, 96, 206)}

DIAGONAL = math.sqrt(0.5)
ORIENTATIONS = (
    (1, 0),
    (DIAGONAL, DIAGONAL),
    (0, 1),
    (-DIAGONAL, DIAGONAL),
    (-1, 0),
    (-DIAGONAL, -DIAGONAL),
    (0, -1),
    (DIAGONAL, -DIAGONAL),
)


class Pen:
    """Draws in px of the field on an image that is `factor` times as large, with its corner at `origin`."""

    def __init__(self, image: Image.Image, factor: float, origin: tuple[float, float] = (0.0, 0.0)):
        self.image, self.draw = image, ImageDraw.Draw(image, "RGBA")
        self.factor = factor
        self.origin = origin

    def at(self, x, y):
        return (x - self.origin[0]) * self.factor, (y - self.origin[1]) * self.factor

    def polygon(self, points, fill):
        self.draw.polygon([self.at(x, y) for x, y in points], fill)

    def disc(self, x, y, radius, fill):
        self.draw.ellipse((self.at(x - radius, y - radius), self.at(x + radius, y + radius)), fill)

    def ring(self, x, y, radius, width, fill):
        """A circle line inside the radius."""
        box = (self.at(x - radius, y - radius), self.at(x + radius, y + radius))
        self.draw.ellipse(box, None, fill, max(1, round(width * self.factor)))

    def box(self, x, y, half, fill, corner=0.0):
        """A square with rounded corners."""
        box = (self.at(x - half, y - half), self.at(x + half, y + half))
        self.draw.rounded_rectangle(box, corner * self.factor, fill)

    def line(self, points, width, fill, round_ends=True):
        scaled = [self.at(x, y) for x, y in points]
        self.draw.line(scaled, fill, max(1, round(width * self.factor)), joint="curve")
        if round_ends and len(fill) == 3:
            for x, y in (points[0], points[-1]):
                self.disc(x, y, width / 2, fill)


def draw_tiles(pen: Pen, map_data: bytes) -> None:
    """Draw tiles in their real shapes, and an outline where a face stops the ninja."""
    grid = np.ones((25, 44), np.uint8)
    grid[1:24, 1:43] = np.frombuffer(map_data, np.uint8, 23 * 42, 184).reshape(23, 42)
    horizontal = np.zeros((51, 88), np.int8)  # sums of segment signs (PHYSICS.md 3.3), rows first
    vertical = np.zeros((50, 89), np.int8)
    slanted = []
    for row in range(25):
        for column in range(44):
            tile = int(grid[row, column])
            if not 0 < tile < TILE_COUNT:
                continue
            x, y = CELL * column, CELL * row
            if tile < len(SOLID):
                pen.polygon([(x + a, y + b) for a, b in SOLID[tile]], TILE)
            _, _, h, v, slant, arc = TILES[tile]
            horizontal[2 * row : 2 * row + 3, 2 * column : 2 * column + 2] += _signs(h)
            vertical[2 * row : 2 * row + 2, 2 * column : 2 * column + 3] += _signs(v).T
            if slant:
                slanted.append([(x + slant[0], y + slant[1]), (x + slant[2], y + slant[3])])
            elif arc:
                # The arc's 17 points follow the corner of the solid part's polygon.
                slanted.append([(x + a, y + b) for a, b in SOLID[tile][1:]])
    # Faces that stop the ninja are outlined; the outline of the field is not one of them (PHYSICS.md 3.3).
    horizontal[[0, 50]] = 0
    vertical[:, [0, 88]] = 0
    for j, i in np.argwhere(horizontal):
        pen.polygon(_bar(12 * i + 6, 12 * j, False, 6.75, 0.75), EDGE)
    for j, i in np.argwhere(vertical):
        pen.polygon(_bar(12 * i, 12 * j + 6, True, 6.75, 0.75), EDGE)
    for points in slanted:
        pen.line(points, 1.5, EDGE)


def _signs(text: str) -> np.ndarray:
    """int8 [3, 2] from a column of tiles.TILES."""
    return np.array([[{"+": 1, "-": -1, "0": 0}[c] for c in pair] for pair in text.split()], np.int8)


DOORWAYS, FURNITURE, GOALS, MINES, MOVERS = range(5)  # layers of entities, the lowest drawn first
MOVING = frozenset(
    (ZAP_DRONE, CHASER_DRONE, FLOOR_GUARD, BOUNCE_BLOCK, THWUMP, LASER, DEATH_BALL, MINI_DRONE, SHOVE_THWUMP)
)  # drawn anew in every live picture


class Thing(NamedTuple):
    """An entity, from its record."""

    kind: int
    x: float  # px
    y: float
    orientation: int
    switch: tuple[float, float] = (0.0, 0.0)  # of exit doors, locked doors and trap doors
    color: tuple[int, int, int] = INK  # of exits
    linked: bool = True  # whether a line leads to the switch


class Now(NamedTuple):
    """An entity at a moment of a game; the numbers are those of `State` and `MOVER` in simulator/layout.py."""

    x: float  # px
    y: float
    active: int = 1  # of an exit: of its switch
    state: int = 0
    closed: int = 1
    direction: int = 0
    a: float = 0.0
    b: float = 0.0
    reach: float = 0.0  # px of a laser's beam


def things(map_data: bytes, unfinished: bool = False) -> list[Thing]:
    """The entities that a map's records make (PHYSICS.md 2), in the order of the records.

    unfinished: with chaser drones and lasers, as in `simulator.build_bank`.
    """
    exits = map_data[1156]
    data = map_data + bytes(5 * exits + 10)  # switches beyond the end lie at (0, 0) (PHYSICS.md 8.5)
    known = (*ENTITY_TYPES, CHASER_DRONE, LASER) if unfinished else ENTITY_TYPES
    found, pairs = [], 0
    for at in range(RECORDS_AT, len(map_data), 5):
        kind, x, y, orientation, _ = data[at : at + 5]
        if kind not in known:
            continue
        thing = Thing(kind, 6 * x, 6 * y, orientation % 8)
        if kind == EXIT_DOOR:
            switch = (6 * data[at + 5 * exits + 1], 6 * data[at + 5 * exits + 2])
            thing = thing._replace(switch=switch, color=EXITS[pairs % len(EXITS)], linked=exits > 1)
            pairs += 1
        elif kind in (LOCKED_DOOR, TRAP_DOOR):
            thing = thing._replace(switch=(6 * data[at + 6], 6 * data[at + 7]))
        found.append(thing)
    return found


def at_start(thing: Thing) -> Now:
    """The entity at the start of a game."""
    state = 1 if thing.kind == TOGGLE_MINE else 0
    a, b = ORIENTATIONS[thing.orientation]
    angle = math.atan2(b, a) if thing.kind == LASER else 0.0
    return Now(thing.x, thing.y, 1, state, int(thing.kind != TRAP_DOOR), thing.orientation // 2, angle)


def look(thing: Thing, now: Now) -> list[tuple]:
    """Pieces (layer, shape, x, y, *arguments) of an entity now; shape(pen, x, y, *arguments) draws one.

    The arguments are hashable. No shape reaches farther than REACH px from its place.
    """
    kind, x, y = thing.kind, now.x, now.y
    vector = ORIENTATIONS[thing.orientation]
    heading = ORIENTATIONS[2 * now.direction % 8]
    if kind == EXIT_DOOR:
        open_now = not now.active
        links = _links((x, y), thing.switch, thing.color) if thing.linked and not open_now else []
        door = (GOALS, _draw_exit, x, y, thing.color, open_now)
        return [*links, door, (GOALS, _draw_exit_switch, *thing.switch, thing.color, open_now)]
    if kind in _DOORS:
        door, switch, color = _DOORS[kind]
        # The place is that of the door; orientations 0 and 4 are vertical (PHYSICS.md 5.7).
        pieces = [(DOORWAYS, door, x, y, thing.orientation in (0, 4), bool(now.closed))]
        if switch is None:
            return pieces
        links = _links((x, y), thing.switch, color) if now.active else []
        return [*links, *pieces, (DOORWAYS, switch, *thing.switch, not now.active)]
    if kind == GOLD:
        return [(GOALS, _draw_gold, x, y)] if now.active else []
    if kind in (MINE, TOGGLE_MINE):
        return [(MINES, (_draw_mine, _draw_safe_mine, _draw_toggling_mine)[now.state], x, y)]
    if kind == LAUNCH_PAD:
        return [(FURNITURE, _draw_launch_pad, x, y, vector)]
    if kind == ONE_WAY:
        return [(FURNITURE, _draw_one_way, x, y, vector)]
    if kind == BOOST_PAD:
        return [(FURNITURE, _draw_boost_pad, x, y, now.state == 1)]
    if kind == BOUNCE_BLOCK:
        return [(FURNITURE, _draw_bounce_block, x, y)]
    if kind == THWUMP:
        # Moves along an axis; every orientation but 0 (right), 2 (down) and 4 (left) goes up (PHYSICS.md 5.15).
        face = vector if thing.orientation in (0, 2, 4) else ORIENTATIONS[6]
        return [(FURNITURE, _draw_thwump, x, y, face, now.state)]
    if kind == SHOVE_THWUMP:
        return [(FURNITURE, _draw_shove_thwump, x, y, now.state, (-round(now.a), -round(now.b)))]
    if kind in (ZAP_DRONE, MINI_DRONE):
        return [(MOVERS, _draw_drone, x, y, heading, 7.5 if kind == ZAP_DRONE else 4.0)]
    if kind == CHASER_DRONE:
        return [(MOVERS, _draw_chaser_drone, x, y, heading, now.state == 1)]
    if kind == FLOOR_GUARD:
        return [(MOVERS, _draw_floor_guard, x, y, now.state)]
    if kind == DEATH_BALL:
        return [(MOVERS, _draw_death_ball, x, y)]
    if kind == LASER:
        # The beam is made of dots, so that one sprite fits all angles. A stub shows the angle before the first thought.
        reach = 0.0 if now.state == 2 else now.reach or 14.0
        dx, dy = math.cos(now.a), math.sin(now.a)
        beam = [(MOVERS, _draw_spark, x + r * dx, y + r * dy) for r in np.arange(6.0, reach, 2.0).tolist()]
        return [*beam, (MOVERS, _draw_laser, x, y, now.state == 2)]
    raise ValueError(f"entity type {kind}")


def _links(a, b, color) -> list[tuple]:
    """A dashed line from a door to its switch."""
    length = math.dist(a, b)
    count = max(1, round(length / 10))
    dx, dy = b[0] - a[0], b[1] - a[1]
    half = (round(dx / (4 * count), 3), round(dy / (4 * count), 3))
    places = [(2 * k + 1) / (2 * count) for k in range(count)]
    return [(DOORWAYS, _draw_dash, a[0] + dx * t, a[1] + dy * t, half, color) for t in places]


def _draw_dash(pen, x, y, half, color):
    pen.line([(x - half[0], y - half[1]), (x + half[0], y + half[1])], 1.2, (*color, 130), False)


def _turned(x, y, vector, points):
    """Points given along and across a direction (a, b), at (x, y)."""
    a, b = vector
    return [(x + a * along - b * across, y + b * along + a * across) for along, across in points]


def _draw_exit(pen, x, y, color, open_now):
    pen.box(x, y, 12, INK, 2.5)
    pen.box(x, y, 10.4, color, 1.5)
    pen.polygon([(x - 6, y - 7), (x + 6, y - 7), (x + 6, y + 10.4), (x - 6, y + 10.4)], INK)
    if open_now:
        pen.polygon([(x - 4.6, y - 5.6), (x + 4.6, y - 5.6), (x + 4.6, y + 10.4), (x - 4.6, y + 10.4)], LIGHT)
        pen.polygon([(x - 4.6, y - 5.6), (x - 2.2, y - 4), (x - 2.2, y + 9), (x - 4.6, y + 10.4)], color)
    else:
        pen.polygon([(x - 4.6, y - 5.6), (x + 4.6, y - 5.6), (x + 4.6, y + 10.4), (x - 4.6, y + 10.4)], PAPER)
        pen.disc(x + 2.4, y + 2.8, 1.2, color)


def _draw_exit_switch(pen, x, y, color, hit):
    if hit:
        _draw_spent(pen, x, y, 6.4, color)
        return
    pen.box(x, y, 6.4, INK, 2)
    pen.box(x, y, 4.8, PAPER, 1)
    pen.box(x, y, 3, color, 0.6)


def _draw_spent(pen, x, y, half, color):
    """A switch that has been hit."""
    pen.box(x, y, half, (*INK, 110), 2)
    pen.box(x, y, half - 1.3, BACKGROUND, 1)
    pen.box(x, y, half - 3.6, (*color, 110), 0.5)


def _bar(x, y, vertical, half_length, half_width):
    w, h = (half_width, half_length) if vertical else (half_length, half_width)
    return [(x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h)]


def _draw_regular_door(pen, x, y, vertical, closed):
    pen.ring(x, y, 10, 0.8, (*REGULAR_DOOR_COLOR, 110))  # how near it opens
    if not closed:
        _draw_stubs(pen, x, y, vertical, REGULAR_DOOR_COLOR)
        return
    pen.polygon(_bar(x, y, vertical, 12, 3), INK)
    pen.polygon(_bar(x, y, vertical, 11, 1.8), REGULAR_DOOR_COLOR)
    pen.polygon(_bar(x, y, not vertical, 3, 1), INK)


def _draw_locked_door(pen, x, y, vertical, closed):
    if not closed:
        _draw_stubs(pen, x, y, vertical, LOCKED_DOOR_COLOR)
        return
    pen.polygon(_bar(x, y, vertical, 12, 3), INK)
    pen.polygon(_bar(x, y, vertical, 11, 1.8), LOCKED_DOOR_COLOR)
    pen.box(x, y, 4.2, INK, 1)
    pen.box(x, y, 2.4, GOLD_SHINE, 0.5)


def _draw_stubs(pen, x, y, vertical, color):
    """The two ends of an open door."""
    for end in (-10, 10):
        at = (x, y + end) if vertical else (x + end, y)
        pen.polygon(_bar(*at, vertical, 2.2, 3), INK)
        pen.polygon(_bar(*at, vertical, 1.2, 1.8), color)


def _draw_trap_door(pen, x, y, vertical, closed):
    """A bar; when open, two ends with a broken line between them."""
    ends = [(x, y - 12), (x, y + 12)] if vertical else [(x - 12, y), (x + 12, y)]
    if closed:
        pen.polygon(_bar(x, y, vertical, 12, 3), INK)
        pen.polygon(_bar(x, y, vertical, 11, 1.8), TRAP_DOOR_COLOR)
    else:
        for k in range(5):
            t = 4.8 * k - 9.6
            pen.polygon(_bar(*((x, y + t) if vertical else (x + t, y)), vertical, 1.2, 1.3), TRAP_DOOR_COLOR)
    for end in ends:
        pen.box(*end, 2.4, INK, 0.5)


def _draw_locked_door_switch(pen, x, y, hit):
    if hit:
        _draw_spent(pen, x, y, 5.4, LOCKED_DOOR_COLOR)
        return
    _draw_door_switch(pen, x, y, LOCKED_DOOR_COLOR)
    pen.disc(x, y - 0.9, 1.5, PAPER)
    pen.polygon([(x, y - 1), (x + 1.4, y + 2.6), (x - 1.4, y + 2.6)], PAPER)


def _draw_trap_door_switch(pen, x, y, hit):
    if hit:
        _draw_spent(pen, x, y, 5.4, TRAP_DOOR_COLOR)
        return
    _draw_door_switch(pen, x, y, TRAP_DOOR_COLOR)
    for sign in (-1, 1):
        pen.line([(x - 2, y - 2 * sign), (x + 2, y + 2 * sign)], 1.3, PAPER)


def _draw_door_switch(pen, x, y, color):
    pen.box(x, y, 5.4, INK, 1.6)
    pen.box(x, y, 4.2, color, 0.9)


# Shapes of the door and of its switch, and the colour of the line between.
_DOORS = {
    REGULAR_DOOR: (_draw_regular_door, None, REGULAR_DOOR_COLOR),
    LOCKED_DOOR: (_draw_locked_door, _draw_locked_door_switch, LOCKED_DOOR_COLOR),
    TRAP_DOOR: (_draw_trap_door, _draw_trap_door_switch, TRAP_DOOR_COLOR),
}


def _draw_mine(pen, x, y):
    star = []
    for k in range(16):
        radius, angle = (3.6 if k % 2 else 6), k * math.pi / 8
        star.append((x + radius * math.sin(angle), y - radius * math.cos(angle)))
    pen.polygon(star, INK)
    pen.disc(x, y, 3.6, INK)
    pen.disc(x, y, 2.7, DEADLY)


def _draw_safe_mine(pen, x, y):
    """A toggle mine that nobody has touched."""
    pen.ring(x, y, 4.4, 1.2, INK)
    pen.disc(x, y, 3.2, PAPER)
    pen.disc(x, y, 1.9, HARMLESS)


def _draw_toggling_mine(pen, x, y):
    """A toggle mine that is deadly as soon as the ninja leaves it."""
    pen.disc(x, y, 5, INK)
    pen.disc(x, y, 3.8, LAUNCH)
    pen.disc(x, y, 1.9, PAPER)


def _draw_gold(pen, x, y):
    pen.box(x, y, 3.8, INK, 1)
    pen.box(x, y, 2.9, GOLD_COLOR, 0.5)
    pen.polygon([(x - 2.9, y - 2.9), (x + 2.9, y - 2.9), (x - 2.9, y + 2.9)], GOLD_SHINE)


def _draw_launch_pad(pen, x, y, vector):
    pen.polygon(_turned(x, y, vector, [(-2.5, -8), (1, -8), (2.5, -6), (2.5, 6), (1, 8), (-2.5, 8)]), INK)
    pen.polygon(_turned(x, y, vector, [(0.2, -6.4), (1.4, -5.2), (1.4, 5.2), (0.2, 6.4)]), LAUNCH)
    pen.polygon(_turned(x, y, vector, [(4, -4), (8.5, 0), (4, 4), (5.2, 0)]), LAUNCH)


def _draw_one_way(pen, x, y, vector):
    """The bright face stops the ninja; the teeth behind it point the way through."""
    pen.polygon(_turned(x, y, vector, [(0, -12), (0, 12), (-2.6, 12), (-2.6, -12)]), INK)
    for across in (-8, 0, 8):
        pen.polygon(_turned(x, y, vector, [(-6.6, across - 3), (-6.6, across + 3), (-2.6, across)]), (*PLATFORM, 170))
    pen.polygon(_turned(x, y, vector, [(0, -12), (0, 12), (-1.1, 12), (-1.1, -12)]), GOLD_SHINE)


def _draw_drone(pen, x, y, heading, radius):
    nose = [(radius * 1.45, 0), (radius * 0.5, -radius * 0.85), (radius * 0.5, radius * 0.85)]
    pen.polygon(_turned(x, y, heading, nose), INK)
    pen.disc(x, y, radius, INK)
    pen.disc(x, y, radius * 0.72, BACKGROUND)
    pen.disc(x + heading[0] * radius * 0.2, y + heading[1] * radius * 0.2, radius * 0.42, DEADLY)


def _draw_chaser_drone(pen, x, y, heading, chasing):
    """Two horns; the eye fills the whole drone in a chase."""
    for side in (-1, 1):
        pen.polygon(_turned(x, y, heading, [(10.5, 5.5 * side), (5, 1.5 * side), (1, 7.2 * side)]), INK)
    pen.disc(x, y, 7.5, INK)
    pen.disc(x, y, 5.4, DEADLY if chasing else LAUNCH)
    pen.disc(x + heading[0] * 1.8, y + heading[1] * 1.8, 3.4 if chasing else 2.4, PAPER)
    pen.disc(x + heading[0] * 2.6, y + heading[1] * 2.6, 1.4, INK)


def _draw_floor_guard(pen, x, y, direction):
    pen.disc(x, y, 6, INK)
    pen.polygon([(x - 6, y), (x + 6, y), (x + 7, y + 6), (x - 7, y + 6)], INK)
    left, right = x + 1.6 * direction - 4, x + 1.6 * direction + 4
    pen.polygon([(left, y - 1.6), (right, y - 1.6), (right - 1, y + 1.4), (left + 1, y + 1.4)], DEADLY)
    if direction:
        pen.disc(x + 3.4 * direction, y - 0.2, 1.3, PAPER)


def _draw_bounce_block(pen, x, y):
    pen.box(x, y, 9, INK, 2)
    pen.box(x, y, 7.8, PAPER, 1.2)
    pen.box(x, y, 4.6, HARMLESS, 1)
    pen.box(x, y, 3.4, PAPER, 0.6)


def _draw_thwump(pen, x, y, face, state):
    """The arrow is dark at rest, red in an attack, and points back on the way back."""
    pen.box(x, y, 9, INK, 1.5)
    pen.box(x, y, 7.6, EDGE, 0.8)
    pen.polygon(_turned(x, y, face, [(9, -9), (9, 9), (5.2, 6.4), (5.2, -6.4)]), DEADLY)
    arrow = [(4, -4), (4, 4), (-3, 0)] if state == -1 else [(-4, -4), (-4, 4), (3, 0)]
    pen.polygon(_turned(x, y, face, arrow), {0: INK, 1: DEADLY, -1: PAPER}[state])


def _draw_shove_thwump(pen, x, y, state, away):
    """States of PHYSICS.md 5.16: waiting, held, fleeing in the direction `away`, returning."""
    pen.box(x, y, 12, INK, 1.5)
    pen.box(x, y, 10.6, EDGE, 0.8)
    for vector in ORIENTATIONS[::2]:
        color = LAUNCH if state in (1, 2) and vector == away else PAPER
        pen.polygon(_turned(x, y, vector, [(10, -5), (10, 5), (7.6, 3), (7.6, -3)]), color)
    pen.disc(x, y, 6.4, INK)
    pen.disc(x, y, 4.8, DEADLY)
    if state:
        pen.disc(x, y, 2.6, {1: LAUNCH, 2: PAPER, 3: HARMLESS}[state])


def _draw_boost_pad(pen, x, y, touched):
    pen.disc(x, y, 6.6, INK)
    pen.disc(x, y, 5.4, PAPER)
    pen.ring(x, y, 5.4, 1.8, BOOST)
    pen.disc(x, y, 4 if touched else 2, GOLD_SHINE if touched else BOOST)


def _draw_death_ball(pen, x, y):
    pen.disc(x, y, 8, INK)
    pen.ring(x, y, 6.6, 2.2, DEADLY)
    pen.disc(x, y, 1.6, PAPER)


def _draw_laser(pen, x, y, harmless):
    pen.box(x, y, 6, INK, 1.5)
    pen.disc(x, y, 4.2, EDGE if harmless else DEADLY)
    pen.disc(x, y, 1.8, INK if harmless else PAPER)


def _draw_spark(pen, x, y):
    pen.disc(x, y, 1.2, DEADLY)
