"""Pictures of levels for people: tiles in their real shapes, every kind of entity, trajectories, contact sheets.

Drawn with Pillow at several times the size and averaged down, so edges are smooth at any scale. Red is what kills,
green the way to the exit (further pairs of exit and switch have other colours), a dashed line leads from a door to its
switch. What agents see is drawn elsewhere, by compiled code.
"""

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from npp_rl.levels import RECORDS_AT, SHORTEST_MAP, Level, write_atomically
from npp_rl.simulator.tiles import SOLID, TILE_COUNT, TILES

WIDTH, HEIGHT = 1056, 600  # px of the field, border ring included
CELL = 24

BACKGROUND = (216, 218, 224)
TILE = (116, 121, 141)
EDGE = (84, 89, 108)
INK = (34, 36, 46)
PAPER = (245, 246, 248)
DEADLY = (204, 44, 58)
HARMLESS = (84, 128, 150)
GOLD, GOLD_SHINE = (216, 160, 32), (250, 218, 120)
EXITS = ((20, 138, 108), (120, 84, 190), (190, 96, 30), (40, 110, 190))
REGULAR_DOOR, LOCKED_DOOR, TRAP_DOOR = (44, 104, 176), (168, 96, 28), (158, 46, 116)
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

Trajectory = tuple[np.ndarray, str]


def draw_level(
    level: Level | bytes,
    scale: int = 2,
    *,
    trajectories: Iterable[Trajectory] = (),
    ninja: tuple[float, float] | None = None,
) -> np.ndarray:
    """A level at its start: uint8 [600 * scale, 1056 * scale, 3].

    trajectories: pairs of positions (float [n, 2], px) and outcome ("won", "died" or "unfinished"), over the tiles
    in the outcome's colour; a cross marks a death, a ring a win. ninja: where the ninja stands (px), its spawn if None.
    Raises ValueError for a scale that is no positive integer, a map without a spawn, another outcome or shape.
    """
    if scale != int(scale) or scale < 1:
        raise ValueError(f"scale {scale}: expected an integer of at least 1")
    return np.asarray(_picture(level, scale, trajectories, ninja))


def save_level(path: str | Path, level: Level | bytes, scale: int = 2, **options) -> None:
    """Writes the picture of `draw_level` as a PNG file, in one piece."""
    save_picture(path, draw_level(level, scale, **options))


def save_picture(path: str | Path, picture: np.ndarray) -> None:
    """Writes uint8 [height, width, 3] as a PNG file, in one piece; OSError where that fails."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG", optimize=True)
    write_atomically(path, data.getvalue())


def contact_sheet(
    levels: Sequence[Level],
    path: str | Path,
    columns: int = 6,
    scale: float = 1 / 3,
    labels: Sequence[str] | None = None,
    trajectories: Sequence[Iterable[Trajectory]] | None = None,
) -> None:
    """Writes one PNG with all the levels, `columns` in a row, each 1056 * scale px wide and with a line of text below.

    labels: one text for each level, its id unless told. trajectories: for each level what `draw_level` takes.
    """
    if not levels:
        raise ValueError("no levels for the contact sheet")
    width, height = round(WIDTH * scale), round(HEIGHT * scale)
    gap = max(6, round(24 * scale))
    size = max(9, round(36 * scale))
    font = ImageFont.load_default(size)
    line = round(size * 1.5)
    columns = min(columns, len(levels))
    rows = -(-len(levels) // columns)
    sheet = Image.new("RGB", (gap + columns * (width + gap), gap + rows * (height + line + gap)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, level in enumerate(levels):
        x = gap + index % columns * (width + gap)
        y = gap + index // columns * (height + line + gap)
        sheet.paste(_picture(level, scale, trajectories[index] if trajectories else (), None), (x, y))
        text = labels[index] if labels else level.id
        while len(text) > 1 and draw.textlength(text, font) > width:
            text = text[:-2] + "…"
        draw.text((x + 1, y + height + line / 2), text, INK, font, anchor="lm")
    save_picture(path, np.asarray(sheet))


def _picture(level, scale: float, trajectories: Iterable[Trajectory], ninja) -> Image.Image:
    map_data = level.map_data if isinstance(level, Level) else bytes(level)
    if len(map_data) < SHORTEST_MAP:
        raise ValueError(f"map of {len(map_data)} bytes, expected at least {SHORTEST_MAP}")
    # Four samples a pixel and direction; three or two are enough where the picture itself is large.
    factor = max(1, round(scale * (4 if scale <= 2 else 3 if scale <= 4 else 2)))
    image = Image.new("RGB", (WIDTH * factor, HEIGHT * factor), BACKGROUND)
    pen = _Pen(image, factor)
    _draw_tiles(pen, map_data)
    # The lines run below what is small (switches, gold, mines), which they would hide; wins come last, on top.
    runs = sorted(_checked(trajectories), key=lambda run: list(OUTCOMES).index(run[1]), reverse=True)
    shapes = sorted(_shapes(map_data), key=lambda shape: shape[0])
    for layer, shape, arguments in shapes:
        if layer <= FURNITURE:
            shape(pen, *arguments)
    for points, outcome in runs:
        if len(points) > 1:
            pen.line(points, max(2, 1.2 / scale), (*OUTCOMES[outcome], 210))
    for layer, shape, arguments in shapes:
        if layer > FURNITURE:
            shape(pen, *arguments)
    for points, outcome in runs:
        _draw_end(pen, *points[-1], outcome)
    if ninja is None:
        ninja = (6 * map_data[RECORDS_AT + 1], 6 * map_data[RECORDS_AT + 2])
    _draw_ninja(pen, *ninja)
    size = round(WIDTH * scale), round(HEIGHT * scale)
    whole = image.width % size[0] == 0 and image.height % size[1] == 0
    return image.reduce(image.width // size[0]) if whole else image.resize(size, Image.Resampling.LANCZOS)


class _Pen:
    """Draws in px of the field on an image that is `factor` times as large."""

    def __init__(self, image: Image.Image, factor: int):
        self.draw = ImageDraw.Draw(image, "RGBA")
        self.factor = factor

    def polygon(self, points, fill):
        self.draw.polygon([(x * self.factor, y * self.factor) for x, y in points], fill)

    def disc(self, x, y, radius, fill):
        f = self.factor
        self.draw.ellipse(((x - radius) * f, (y - radius) * f, (x + radius) * f, (y + radius) * f), fill)

    def ring(self, x, y, radius, width, fill):
        """A circle line inside the radius."""
        f = self.factor
        box = ((x - radius) * f, (y - radius) * f, (x + radius) * f, (y + radius) * f)
        self.draw.ellipse(box, None, fill, max(1, round(width * f)))

    def box(self, x, y, half, fill, corner=0.0):
        """A square with rounded corners."""
        f = self.factor
        box = ((x - half) * f, (y - half) * f, (x + half) * f, (y + half) * f)
        self.draw.rounded_rectangle(box, corner * f, fill)

    def line(self, points, width, fill, round_ends=True):
        f = self.factor
        scaled = [(x * f, y * f) for x, y in points]
        self.draw.line(scaled, fill, max(1, round(width * f)), joint="curve")
        if round_ends and len(fill) == 3:
            for x, y in (points[0], points[-1]):
                self.disc(x, y, width / 2, fill)

    def dashes(self, a, b, width, fill, dash=5.0):
        length = math.dist(a, b)
        count = max(1, round(length / dash / 2))
        for k in range(count):
            ends = [(2 * k + 0.5) / (2 * count), (2 * k + 1.5) / (2 * count)]
            self.line([(a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t) for t in ends], width, fill, False)


def _draw_tiles(pen: _Pen, map_data: bytes) -> None:
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
    # The faces that stop the ninja are outlined; the outline of the field itself is none (PHYSICS.md 3.3).
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


# ------------------------------------------------------------------------------------------------------------- entities


DOORWAYS, FURNITURE, GOALS, MINES, MOVERS = range(5)  # layers of entities, the lowest drawn first


def _shapes(map_data: bytes) -> list[tuple]:
    """(layer, drawing function, its arguments) of every entity."""
    exits = map_data[1156]
    data = map_data + bytes(5 * exits + 10)  # switches beyond the end lie at (0, 0) (PHYSICS.md 8.5)
    shapes = []
    pair = 0
    for at in range(RECORDS_AT, len(map_data), 5):
        kind, x, y, orientation, _ = data[at : at + 5]
        x, y = 6 * x, 6 * y
        vector = ORIENTATIONS[orientation % 8]
        if kind == 3:
            p = at + 5 * exits
            color = EXITS[pair % len(EXITS)]
            shapes.append((GOALS, _draw_exit, (x, y, 6 * data[p + 1], 6 * data[p + 2], color, exits > 1)))
            pair += 1
        elif kind in (5, 6, 8):
            switch = (6 * data[at + 6], 6 * data[at + 7]) if kind != 5 else (x, y)
            shapes.append((DOORWAYS, _DOORS[kind], (x, y, orientation in (0, 4), *switch)))
        elif kind in _SHAPES:
            layer, shape = _SHAPES[kind]
            shapes.append((layer, shape, (x, y, vector)))
    return shapes


def _turned(x, y, vector, points):
    """Points given along and across a direction (a, b), at (x, y)."""
    a, b = vector
    return [(x + a * along - b * across, y + b * along + a * across) for along, across in points]


def _draw_exit(pen, x, y, switch_x, switch_y, color, linked):
    if linked:
        pen.dashes((x, y), (switch_x, switch_y), 1.2, (*color, 130))
    pen.box(x, y, 12, INK, 2.5)
    pen.box(x, y, 10.4, color, 1.5)
    pen.polygon([(x - 6, y - 7), (x + 6, y - 7), (x + 6, y + 10.4), (x - 6, y + 10.4)], INK)
    pen.polygon([(x - 4.6, y - 5.6), (x + 4.6, y - 5.6), (x + 4.6, y + 10.4), (x - 4.6, y + 10.4)], PAPER)
    pen.disc(x + 2.4, y + 2.8, 1.2, color)
    pen.box(switch_x, switch_y, 6.4, INK, 2)
    pen.box(switch_x, switch_y, 4.8, PAPER, 1)
    pen.box(switch_x, switch_y, 3, color, 0.6)


def _bar(x, y, vertical, half_length, half_width):
    w, h = (half_width, half_length) if vertical else (half_length, half_width)
    return [(x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h)]


def _draw_regular_door(pen, x, y, vertical, *_):
    pen.ring(x, y, 10, 0.8, (*REGULAR_DOOR, 110))  # how near it opens
    pen.polygon(_bar(x, y, vertical, 12, 3), INK)
    pen.polygon(_bar(x, y, vertical, 11, 1.8), REGULAR_DOOR)
    pen.polygon(_bar(x, y, not vertical, 3, 1), INK)


def _draw_locked_door(pen, x, y, vertical, switch_x, switch_y):
    pen.dashes((x, y), (switch_x, switch_y), 1.2, (*LOCKED_DOOR, 130))
    pen.polygon(_bar(x, y, vertical, 12, 3), INK)
    pen.polygon(_bar(x, y, vertical, 11, 1.8), LOCKED_DOOR)
    pen.box(x, y, 4.2, INK, 1)
    pen.box(x, y, 2.4, GOLD_SHINE, 0.5)
    _draw_door_switch(pen, switch_x, switch_y, LOCKED_DOOR)
    pen.disc(switch_x, switch_y - 0.9, 1.5, PAPER)
    pen.polygon([(switch_x, switch_y - 1), (switch_x + 1.4, switch_y + 2.6), (switch_x - 1.4, switch_y + 2.6)], PAPER)


def _draw_trap_door(pen, x, y, vertical, switch_x, switch_y):
    """Open at the start: only its two ends stand out, the rest is a broken line."""
    pen.dashes((x, y), (switch_x, switch_y), 1.2, (*TRAP_DOOR, 130))
    ends = [(x, y - 12), (x, y + 12)] if vertical else [(x - 12, y), (x + 12, y)]
    pen.dashes(*ends, 2.6, TRAP_DOOR, 2.4)
    for end in ends:
        pen.box(*end, 2.4, INK, 0.5)
    _draw_door_switch(pen, switch_x, switch_y, TRAP_DOOR)
    for sign in (-1, 1):
        pen.line([(switch_x - 2, switch_y - 2 * sign), (switch_x + 2, switch_y + 2 * sign)], 1.3, PAPER)


def _draw_door_switch(pen, x, y, color):
    pen.box(x, y, 5.4, INK, 1.6)
    pen.box(x, y, 4.2, color, 0.9)


_DOORS = {5: _draw_regular_door, 6: _draw_locked_door, 8: _draw_trap_door}


def _draw_mine(pen, x, y, _):
    star = []
    for k in range(16):
        radius, angle = (3.6 if k % 2 else 6), k * math.pi / 8
        star.append((x + radius * math.sin(angle), y - radius * math.cos(angle)))
    pen.polygon(star, INK)
    pen.disc(x, y, 3.6, INK)
    pen.disc(x, y, 2.7, DEADLY)


def _draw_toggle_mine(pen, x, y, _):
    pen.ring(x, y, 4.4, 1.2, INK)
    pen.disc(x, y, 3.2, PAPER)
    pen.disc(x, y, 1.9, HARMLESS)


def _draw_gold(pen, x, y, _):
    pen.box(x, y, 3.8, INK, 1)
    pen.box(x, y, 2.9, GOLD, 0.5)
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


def _draw_zap_drone(pen, x, y, vector):
    _draw_drone(pen, x, y, vector, 7.5)


def _draw_mini_drone(pen, x, y, vector):
    _draw_drone(pen, x, y, vector, 4)


def _draw_drone(pen, x, y, vector, radius):
    # Drones start right, down, left or up: half the orientation, rounded down (PHYSICS.md 5.10).
    heading = ORIENTATIONS[ORIENTATIONS.index(vector) // 2 * 2]
    nose = [(radius * 1.45, 0), (radius * 0.5, -radius * 0.85), (radius * 0.5, radius * 0.85)]
    pen.polygon(_turned(x, y, heading, nose), INK)
    pen.disc(x, y, radius, INK)
    pen.disc(x, y, radius * 0.72, BACKGROUND)
    pen.disc(x + heading[0] * radius * 0.2, y + heading[1] * radius * 0.2, radius * 0.42, DEADLY)


def _draw_floor_guard(pen, x, y, _):
    pen.disc(x, y, 6, INK)
    pen.polygon([(x - 6, y), (x + 6, y), (x + 7, y + 6), (x - 7, y + 6)], INK)
    pen.polygon([(x - 4, y - 1.6), (x + 4, y - 1.6), (x + 3, y + 1.4), (x - 3, y + 1.4)], DEADLY)


def _draw_bounce_block(pen, x, y, _):
    pen.box(x, y, 9, INK, 2)
    pen.box(x, y, 7.8, PAPER, 1.2)
    pen.box(x, y, 4.6, HARMLESS, 1)
    pen.box(x, y, 3.4, PAPER, 0.6)


def _draw_thwump(pen, x, y, vector):
    # Moves along an axis; every orientation but 0 (right), 2 (down) and 4 (left) goes up (PHYSICS.md 5.15).
    face = vector if vector in (ORIENTATIONS[0], ORIENTATIONS[2], ORIENTATIONS[4]) else ORIENTATIONS[6]
    pen.box(x, y, 9, INK, 1.5)
    pen.box(x, y, 7.6, EDGE, 0.8)
    pen.polygon(_turned(x, y, face, [(9, -9), (9, 9), (5.2, 6.4), (5.2, -6.4)]), DEADLY)
    pen.polygon(_turned(x, y, face, [(-4, -4), (-4, 4), (3, 0)]), INK)


def _draw_shove_thwump(pen, x, y, _):
    pen.box(x, y, 12, INK, 1.5)
    pen.box(x, y, 10.6, EDGE, 0.8)
    for vector in ORIENTATIONS[::2]:
        pen.polygon(_turned(x, y, vector, [(10, -5), (10, 5), (7.6, 3), (7.6, -3)]), PAPER)
    pen.disc(x, y, 6.4, INK)
    pen.disc(x, y, 4.8, DEADLY)


def _draw_boost_pad(pen, x, y, _):
    pen.ring(x, y, 6.6, 1.2, INK)
    pen.ring(x, y, 5.2, 1.6, BOOST)
    pen.disc(x, y, 2, BOOST)


def _draw_death_ball(pen, x, y, _):
    pen.disc(x, y, 8, INK)
    pen.ring(x, y, 6.6, 2.2, DEADLY)
    pen.disc(x, y, 1.6, PAPER)


# Types that are not here create nothing (PHYSICS.md 2.1).
_SHAPES = {
    1: (MINES, _draw_mine),
    2: (GOALS, _draw_gold),
    10: (FURNITURE, _draw_launch_pad),
    11: (FURNITURE, _draw_one_way),
    14: (MOVERS, _draw_zap_drone),
    16: (MOVERS, _draw_floor_guard),
    17: (FURNITURE, _draw_bounce_block),
    20: (FURNITURE, _draw_thwump),
    21: (MINES, _draw_toggle_mine),
    24: (FURNITURE, _draw_boost_pad),
    25: (MOVERS, _draw_death_ball),
    26: (MOVERS, _draw_mini_drone),
    28: (FURNITURE, _draw_shove_thwump),
}


def _draw_ninja(pen, x, y):
    """A figure within the ninja's circle (radius 10), its feet on the circle's lowest point."""
    limbs = [
        [(x - 0.5, y - 3), (x + 0.5, y + 2.5)],
        [(x + 0.5, y + 2.5), (x - 3.2, y + 5.5), (x - 4, y + 9.4)],
        [(x + 0.5, y + 2.5), (x + 3.6, y + 5.2), (x + 3.8, y + 9.4)],
        [(x - 0.4, y - 2), (x - 4.6, y - 0.6), (x - 5.4, y + 3)],
        [(x - 0.4, y - 2), (x + 3.6, y + 0.4), (x + 6.4, y - 1.6)],
    ]
    for width, color in ((4, PAPER), (2.3, INK)):
        for limb in limbs:
            pen.line(limb, width, color)
        pen.disc(x + 0.2, y - 6.2, 2.9 + width / 4, color)
    pen.line([(x + 3, y - 6.6), (x - 2.6, y - 6.6), (x - 6.6, y - 5)], 1.4, DEADLY)


# --------------------------------------------------------------------------------------------------------- trajectories


def _checked(trajectories: Iterable[Trajectory]) -> list[tuple[list, str]]:
    """(points, outcome) of every trajectory."""
    runs = []
    for positions, outcome in trajectories:
        positions = np.asarray(positions, float)
        if outcome not in OUTCOMES:
            raise ValueError(f"outcome {outcome!r}: expected one of {', '.join(OUTCOMES)}")
        if positions.ndim != 2 or positions.shape[1] != 2 or not len(positions):
            raise ValueError(f"trajectory of shape {list(positions.shape)}, expected [n, 2]")
        runs.append(([tuple(p) for p in positions.tolist()], outcome))
    return runs


def _draw_end(pen, x, y, outcome):
    color = OUTCOMES[outcome]
    if outcome == "died":
        for width, ink in ((4.6, PAPER), (2.6, color)):
            for sign in (-1, 1):
                pen.line([(x - 4.5, y - 4.5 * sign), (x + 4.5, y + 4.5 * sign)], width, ink)
        return
    pen.disc(x, y, 5.4 if outcome == "won" else 4.4, PAPER)
    if outcome == "won":
        pen.ring(x, y, 5, 2.2, color)
    else:
        pen.disc(x, y, 3, color)
