"""Shapes of tiles and entities as data, so that the page draws what the project's pictures show.

A symbol is a list of operations relative to a place, in px:

- ["p", colour, points]: a polygon; points are x, y, x, y ...;
- ["d", colour, x, y, radius]: a disc; ["r", colour, x, y, radius of the line's middle, width]: a circle line;
- ["b", colour, x, y, half side, corner]: a square with rounded corners;
- ["l", colour, width, round ends, points]: a line.

A piece is [layer, symbol, x, y]. Symbols have names, which stay the same as long as the shape does.
"""

import base64
import hashlib

import numpy as np

from npp_rl.levels.maps import NOT_SIMULATED, RECORDS_AT, Level
from npp_rl.simulator.layout import (
    BOOST_PAD,
    BOUNCE_BLOCK,
    DEATH_BALL,
    EXIT_DOOR,
    FLOOR_GUARD,
    GOLD,
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
from npp_rl.viewing.figure import draw_ninja
from npp_rl.viewing.render import MARKS, near_reach, reachable
from npp_rl.viewing.shapes import BACKGROUND, CELL, EDGE, EXITS, MOVERS, OUTCOMES, TILE, Thing, at_start, look, things

# What the editor places: type, name, orientations that differ, modes that differ.
EIGHT, FOUR, TWO = tuple(range(8)), (0, 2, 4, 6), (0, 2)
PATHS = {
    0: "follows walls clockwise",
    1: "follows walls the other way",
    2: "wanders clockwise",
    3: "wanders the other way",
}
PLACED = (
    (0, "ninja", (0,), {}),
    (EXIT_DOOR, "exit with its switch", (0,), {}),
    (GOLD, "gold", (0,), {}),
    (MINE, "mine", (0,), {}),
    (TOGGLE_MINE, "toggle mine", (0,), {}),
    (REGULAR_DOOR, "door", TWO, {}),
    (LOCKED_DOOR, "locked door with its switch", TWO, {}),
    (TRAP_DOOR, "trap door with its switch", TWO, {}),
    (LAUNCH_PAD, "launch pad", EIGHT, {}),
    (ONE_WAY, "one-way platform", EIGHT, {}),
    (BOUNCE_BLOCK, "bounce block", (0,), {}),
    (BOOST_PAD, "boost pad", (0,), {}),
    (THWUMP, "thwump", FOUR, {}),
    (SHOVE_THWUMP, "shove thwump", (0,), {}),
    (FLOOR_GUARD, "floor guard", (0,), {}),
    (ZAP_DRONE, "zap drone", FOUR, PATHS),
    (MINI_DRONE, "mini drone", FOUR, PATHS),
    (DEATH_BALL, "death ball", (0,), {}),
)
FAMILIES = (  # of tiles, each in the order of the four turns
    ("empty and full", (0, 1)),
    ("half", (2, 3, 4, 5)),
    ("slope 45°", (6, 7, 8, 9)),
    ("quarter circle", (10, 11, 12, 13)),
    ("hollow quarter circle", (14, 15, 16, 17)),
    ("low slope, thin", (18, 19, 20, 21)),
    ("low slope, thick", (22, 23, 24, 25)),
    ("steep slope, thin", (26, 27, 28, 29)),
    ("steep slope, thick", (30, 31, 32, 33)),
)


class CanvasPen:
    """Takes the calls of `viewing.shapes.Pen` and keeps them as operations."""

    def __init__(self):
        self.operations = []

    def polygon(self, points, fill):
        self.operations.append(["p", _colour(fill), _flat(points)])

    def disc(self, x, y, radius, fill):
        self.operations.append(["d", _colour(fill), _round(x), _round(y), _round(radius)])

    def ring(self, x, y, radius, width, fill):
        self.operations.append(["r", _colour(fill), _round(x), _round(y), _round(radius - width / 2), width])

    def box(self, x, y, half, fill, corner=0.0):
        self.operations.append(["b", _colour(fill), _round(x), _round(y), _round(half), corner])

    def line(self, points, width, fill, round_ends=True):
        self.operations.append(["l", _colour(fill), width, int(round_ends and len(fill) == 3), _flat(points)])


def _round(value):
    return round(float(value), 3)


def _flat(points):
    return [_round(value) for point in points for value in point]


def _colour(fill) -> str:
    return "#" + "".join(f"{value:02x}" for value in fill)


class Symbols:
    """The symbols of an answer, by name."""

    def __init__(self):
        self.names: dict[tuple, str] = {}
        self.operations: dict[str, list] = {}

    def name(self, shape, arguments: tuple) -> str:
        """The name of a shape with its arguments (see `shapes.look`)."""
        key = (shape, arguments)
        if key not in self.names:
            pen = CanvasPen()
            shape(pen, 0.0, 0.0, *arguments)
            name = hashlib.sha256(repr(pen.operations).encode()).hexdigest()[:10]
            self.names[key], self.operations[name] = name, pen.operations
        return self.names[key]

    def pieces(self, pieces: list[tuple]) -> list[list]:
        """Pieces of `shapes.look` as data, the lowest layer first."""
        ordered = sorted(pieces, key=lambda piece: piece[0])
        return [[layer, self.name(shape, tuple(more)), _round(x), _round(y)] for layer, shape, x, y, *more in ordered]


def still_picture(level: Level, symbols: Symbols) -> dict:
    """A level at its start: `t` and `n` as in `ground`, and `e`, its pieces, the ninja's last."""
    pieces = symbols.pieces([piece for thing in things(level.map_data) for piece in look(thing, at_start(thing))])
    x, y = 6 * level.map_data[RECORDS_AT + 1], 6 * level.map_data[RECORDS_AT + 2]
    return {**ground(level), "e": [*pieces, [MOVERS, symbols.name(draw_ninja, ()), x, y]]}


def ground(level: Level) -> dict:
    """`t`: tiles in hexadecimal, two digits each. `n`: what is near to where the ninja can get (`render.near_reach`).

    `n` is base64 of bits [101, 177], at the corners of squares of 6 px; "" where that is everything.
    """
    seen = reachable(level.map_data)
    near = "" if seen.all() else base64.b64encode(np.packbits(near_reach(seen)).tobytes()).decode()
    return {"t": level.tiles.tobytes().hex(), "n": near}


def tables() -> dict:
    """What the page needs to draw and to edit any level: tiles, entities, colours."""
    symbols = Symbols()
    tiles = []
    for number in range(TILE_COUNT):
        _, _, horizontal, vertical, slant, arc = TILES[number]
        solid = _flat(SOLID[number]) if number < len(SOLID) else []
        slanted = list(slant) if slant else _flat(SOLID[number][1:]) if arc else []
        tiles.append([solid, _signs(horizontal), np.transpose(_signs(vertical)).tolist(), slanted])
    entities = []
    for kind, name, orientations, modes in PLACED:
        looks = {}
        for orientation in orientations:
            if kind == 0:
                looks[orientation] = [[MOVERS, symbols.name(draw_ninja, ()), 0, 0]]
                continue
            thing = Thing(kind, 0.0, 0.0, orientation, (0.0, 0.0), EXITS[0], False)
            looks[orientation] = symbols.pieces(look(thing, at_start(thing)))
        entry = {"kind": kind, "name": name, "looks": looks, "modes": modes}
        if kind in (EXIT_DOOR, LOCKED_DOOR, TRAP_DOOR):
            # The switch has a place of its own: a door looks like itself beside it.
            pieces = [_door_and_switch(kind, orientation, symbols) for orientation in orientations]
            entry["looks"] = dict(zip(orientations, [door for door, _ in pieces], strict=True))
            entry["switch"] = pieces[0][1]
            entry["exits"] = [_exit(color, symbols) for color in EXITS] if kind == EXIT_DOOR else None
        entities.append(entry)
    return {
        "tiles": tiles,
        "families": FAMILIES,
        "mirrors": mirrors(),
        "entities": entities,
        "other": {str(kind): name for kind, name in NOT_SIMULATED.items()},
        "colours": {"background": _colour(BACKGROUND), "tile": _colour(TILE), "edge": _colour(EDGE)},
        "outcomes": {name: _colour(color) for name, color in OUTCOMES.items()},
        "marks": {name: [_flat(points), _colour(color)] for name, (points, color) in MARKS.items()},
        "symbols": symbols.operations,
    }


def mirrors() -> dict[str, list[int]]:
    """The mirror image of each tile with a shape: `h`, left to right, and `v`, top to bottom."""
    shapes = {frozenset((round(x, 6), round(y, 6)) for x, y in SOLID[tile]): tile for tile in range(len(SOLID))}
    found = {"h": [], "v": []}
    for tile in range(TILE_COUNT):
        points = SOLID[tile] if tile < len(SOLID) else ()
        for name, turn in (("h", lambda x, y: (CELL - x, y)), ("v", lambda x, y: (x, CELL - y))):
            turned = frozenset((round(a, 6), round(b, 6)) for a, b in (turn(x, y) for x, y in points))
            found[name].append(shapes[turned] if points else tile)
    return found


def _door_and_switch(kind, orientation, symbols):
    """Pieces of a door and of its switch, each at its own place."""
    thing = Thing(kind, 0.0, 0.0, orientation, (500.0, 0.0), EXITS[0], False)
    now = at_start(thing)
    pieces = [piece for piece in look(thing, now) if piece[2] in (0.0, 500.0) and "dash" not in piece[1].__name__]
    door = symbols.pieces([piece for piece in pieces if piece[2] == 0.0])
    switch = symbols.pieces([(layer, shape, 0.0, 0.0, *more) for layer, shape, x, _, *more in pieces if x == 500.0])
    return door, switch


def _exit(color, symbols):
    """Pieces of an exit door and of its switch in one of the colours of exits."""
    thing = Thing(EXIT_DOOR, 0.0, 0.0, 0, (500.0, 0.0), color, False)
    pieces = look(thing, at_start(thing))
    return [
        symbols.pieces([piece for piece in pieces if piece[2] == 0.0]),
        symbols.pieces([(layer, shape, 0.0, 0.0, *more) for layer, shape, x, _, *more in pieces if x == 500.0]),
    ]


def _signs(text: str) -> list[list[int]]:
    """Rows of segment signs, from a column of tiles.TILES."""
    return [[{"+": 1, "-": -1, "0": 0}[c] for c in pair] for pair in text.split()]
