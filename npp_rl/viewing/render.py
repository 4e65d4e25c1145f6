"""Pictures of levels for people: levels with trajectories over them, contact sheets, and running games (`Scene`).

They are drawn with Pillow at several times their size and averaged down, so edges are smooth at any scale. shapes.py
has the shapes. The pictures that agents see are others, drawn by compiled code (environment/pictures.py).
"""

import functools
import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from npp_rl.files import write_atomically
from npp_rl.levels import fields
from npp_rl.levels.maps import RECORDS_AT, SHORTEST_MAP, Level
from npp_rl.simulator import Bank, build_bank
from npp_rl.simulator.layout import CAUSE_NAMES, DEAD, DYING, EXIT_DOOR, LASER, WON
from npp_rl.simulator.unfinished import beam_length
from npp_rl.viewing.figure import draw_ninja, look_of_ninja
from npp_rl.viewing.shapes import (
    BACKGROUND,
    FURNITURE,
    HEIGHT,
    INK,
    MOVING,
    OUTCOMES,
    PAPER,
    REACH,
    TILE,
    WIDTH,
    Now,
    Pen,
    Thing,
    at_start,
    draw_tiles,
    look,
    things,
)

Trajectory = tuple[np.ndarray, str] | tuple[np.ndarray, str, str]

SEEN = 30  # px of ground around reachable space that pictures show undimmed, a multiple of fields.SPACING
CLOSE = (352, 160)  # px, least width and height of a close-up
SECOND = 60  # positions of a trajectory from one time mark to the next
NUMBERED, MOST_NUMBERED = 5, 3  # each fifth mark has its number in pictures of up to three trajectories


def draw_level(
    level: Level | bytes,
    scale: int = 2,
    *,
    trajectories: Iterable[Trajectory] = (),
    ninja: tuple[float, float] | None = None,
    unfinished: bool = False,
) -> np.ndarray:
    """A level at its start: uint8 [600 * scale, 1056 * scale, 3].

    What the ninja cannot reach is dimmed. trajectories: tuples of positions (float [n, 2], px, one a frame), outcome
    ("won", "died" or "unfinished") and optionally the cause of a death (a name of `layout.CAUSE_NAMES`). They are drawn
    over the tiles in the colour of the outcome, with a mark for each second. A ring marks a win, a cross a death. A
    death with a cause has the cause's mark instead, and a legend counts the causes. ninja: where the ninja stands (px),
    by default at its spawn. unfinished: with chaser drones and lasers.

    Raises ValueError for a scale that is no positive integer, a map without a spawn, another outcome, cause or shape.
    """
    _check_scale(scale)
    return np.asarray(_picture(level, scale, trajectories, ninja, unfinished, dim=True))


def reachable(map_data: bytes) -> np.ndarray:
    """Where the ninja's centre can get from its start if all doors are open: bool [fields.ROWS, fields.COLS].

    Everywhere, if the start is in solid ground.
    """
    tiles = np.ones((25, 44), np.uint8)
    tiles[1:24, 1:43] = np.frombuffer(map_data, np.uint8, 23 * 42, 184).reshape(23, 42)
    free, dist = np.zeros(fields.NODES, np.uint8), np.zeros(fields.NODES, np.uint16)
    fields.level_free(tiles, free)
    spawn = np.array([_spawn(map_data)], float)
    scratch = np.zeros(fields.NODES, np.uint8), np.zeros(fields.QUEUE, np.int32)
    if not fields.distances(free, spawn, fields.RADIUS, dist, *scratch):
        return np.ones((fields.ROWS, fields.COLS), bool)
    return (dist != fields.UNREACHED).reshape(fields.ROWS, fields.COLS)


def reachable_box(map_data: bytes) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (px) of what the ninja can reach and SEEN px around it."""
    rows, columns = np.nonzero(reachable(map_data))
    left, top = (max(0, int(fields.SPACING * at.min()) - SEEN) for at in (columns, rows))
    right, bottom = (int(fields.SPACING * at.max()) + SEEN for at in (columns, rows))
    return left, top, min(right, WIDTH), min(bottom, HEIGHT)


def _spawn(map_data):
    return 6 * map_data[RECORDS_AT + 1], 6 * map_data[RECORDS_AT + 2]


def close_up(level: Level | bytes, words: Sequence[str], trajectories: Iterable[Trajectory] = ()) -> np.ndarray:
    """What the ninja can reach of a level, with lines of text above: uint8 [height, width, 3], at most 1056 px wide.

    Small parts are drawn twice as large. trajectories: as for `draw_level`, without a legend.
    """
    map_data = level.map_data if isinstance(level, Level) else level
    left, top, right, bottom = reachable_box(map_data)
    # At least CLOSE px wide and high, within the field.
    left, right = _widened(left, right, CLOSE[0], WIDTH)
    top, bottom = _widened(top, bottom, CLOSE[1], HEIGHT)
    scale = 2 if right - left <= WIDTH // 2 else 1
    whole = _picture(level, scale, trajectories, None, dim=True, legend=False)
    part = whole.crop((scale * left, scale * top, scale * right, scale * bottom))
    band = 22 * len(words) + 8
    picture = Image.new("RGB", (part.width, part.height + band), INK)
    picture.paste(part, (0, band))
    for row, line in enumerate(words):
        ImageDraw.Draw(picture).text((8, 15 + 22 * row), line, PAPER, text_font(14), anchor="lm")
    return np.asarray(picture)


def _widened(low, high, least, end):
    more = max(0, least - (high - low))
    low = min(max(0, low - more // 2), max(0, end - least))
    return low, max(high, min(low + least, end))


def save_level(path: str | Path, level: Level | bytes, scale: int = 2, **options) -> None:
    """Write the picture of `draw_level` as a PNG file, atomically."""
    save_picture(path, draw_level(level, scale, **options))


def save_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write uint8 [height, width, 3] as a PNG file, atomically; OSError where that fails."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG", optimize=True)
    write_atomically(path, data.getvalue())


def thumbnail(level: Level | bytes, width: int) -> np.ndarray:
    """A small picture of a level at its start, uint8 [height, width, 3], in the proportions of the field.

    Entities are drawn up to twice as large as they are, so that they are seen.
    """
    return np.asarray(_picture(level, width / WIDTH, (), None))


def contact_sheet(
    levels: Sequence[Level],
    path: str | Path,
    columns: int = 6,
    scale: float = 1 / 3,
    labels: Sequence[str] | None = None,
    trajectories: Sequence[Iterable[Trajectory]] | None = None,
) -> None:
    """Write one PNG with all the levels, `columns` in a row, each 1056 * scale px wide and with a line of text below.

    What the ninja cannot reach is dimmed. Entities are drawn up to twice as large as they are, so that they are seen.
    labels: one text for each level (default: its id). trajectories: those of each level, as for `draw_level`.
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
        sheet.paste(_picture(level, scale, trajectories[index] if trajectories else (), None, dim=True), (x, y))
        text = labels[index] if labels else level.id
        while len(text) > 1 and draw.textlength(text, font) > width:
            text = text[:-2] + "…"
        draw.text((x + 1, y + height + line / 2), text, INK, font, anchor="lm")
    save_picture(path, np.asarray(sheet))


def _check_scale(scale) -> None:
    if scale != int(scale) or scale < 1:
        raise ValueError(f"scale {scale}: expected an integer of at least 1")


def _samples(scale: float) -> int:
    """Samples along each side of a pixel: four, fewer if the picture itself is large."""
    return 4 if scale <= 2 else 3 if scale <= 4 else 2


def _picture(
    level, scale: float, trajectories: Iterable[Trajectory], ninja, unfinished=False, dim=False, legend=True
) -> Image.Image:
    map_data = level.map_data if isinstance(level, Level) else bytes(level)
    if len(map_data) < SHORTEST_MAP:
        raise ValueError(f"map of {len(map_data)} bytes, expected at least {SHORTEST_MAP}")
    factor = max(1, round(scale * _samples(scale)))
    image = Image.new("RGB", (WIDTH * factor, HEIGHT * factor), BACKGROUND)
    pen = Pen(image, factor)
    draw_tiles(pen, map_data)
    # Lines are drawn below small things (switches, gold, mines), which they would hide. Wins come last, on top.
    runs = sorted(_checked(trajectories), key=lambda run: list(OUTCOMES).index(run[1]), reverse=True)
    pieces = [piece for thing in things(map_data, unfinished) for piece in look(thing, at_start(thing))]
    pieces.sort(key=lambda piece: piece[0])
    for layer, shape, x, y, *arguments in pieces:
        if layer <= FURNITURE:
            shape(_larger(pen, x, y, scale) if layer == FURNITURE else pen, x, y, *arguments)
    for points, outcome, _ in runs:
        if len(points) > 1:
            pen.line(points, max(2, 1.2 / scale), (*OUTCOMES[outcome], 210))
    for layer, shape, x, y, *arguments in pieces:
        if layer > FURNITURE:
            shape(_larger(pen, x, y, scale), x, y, *arguments)
    if dim and not (seen := reachable(map_data)).all():
        image = _dimmed(image, seen)
        pen = Pen(image, factor)
    for points, outcome, _ in runs:
        _draw_seconds(pen, points, OUTCOMES[outcome], scale, len(runs) <= MOST_NUMBERED)
    for points, outcome, cause in runs:
        draw_end(pen, *points[-1], outcome, cause)
    if legend and any(cause for _, _, cause in runs):
        _draw_legend(pen, Counter((outcome, cause) for _, outcome, cause in runs))
    if ninja is None:
        ninja = _spawn(map_data)
    draw_ninja(_larger(pen, *ninja, scale), *ninja)
    size = round(WIDTH * scale), round(HEIGHT * scale)
    whole = image.width % size[0] == 0 and image.height % size[1] == 0
    return image.reduce(image.width // size[0]) if whole else image.resize(size, Image.Resampling.LANCZOS)


def _larger(pen, x, y, scale):
    """A pen that draws up to twice as large around (x, y) where the picture is small."""
    more = min(max(0.66 / scale, 1.0), 2.0)
    return Pen(pen.image, pen.factor * more, (x - x / more, y - y / more)) if more > 1 else pen


def near_reach(seen: np.ndarray) -> np.ndarray:
    """What lies within SEEN px of `seen` (see `reachable`), of the same shape; pictures fade the rest."""
    reach = int(SEEN / fields.SPACING)
    padded = np.pad(seen, reach)
    near = np.zeros_like(seen)
    for j in range(2 * reach + 1):
        for i in range(2 * reach + 1):
            if math.hypot(i - reach, j - reach) <= reach:
                near |= padded[j : j + seen.shape[0], i : i + seen.shape[1]]
    return near


def _dimmed(image, seen):
    """The picture with all that lies farther than SEEN px from `seen` (see `reachable`) faded into the ground."""
    near = near_reach(seen)
    # Node (i, j) lies at (6i, 6j) px: the nodes are the corners of the picture's cells.
    mask = Image.fromarray(np.where(near, 0, 190).astype(np.uint8))
    size = fields.COLS - 1, fields.ROWS - 1
    mask = mask.transform(image.size, Image.Transform.EXTENT, (0.5, 0.5, size[0] + 0.5, size[1] + 0.5),
                          Image.Resampling.BILINEAR)  # fmt: skip
    return Image.composite(Image.new("RGB", image.size, TILE), image, mask)


def _draw_seconds(pen, points, color, scale, numbered):
    """A mark for each full second along a trajectory, larger with its number at each fifth."""
    more = max(1.0, 0.7 / scale)
    for k in range(SECOND, len(points) - 1, SECOND):
        fifth = k % (NUMBERED * SECOND) == 0
        radius = more * (3.4 if fifth else 2.4)
        pen.disc(*points[k], radius, color)
        pen.disc(*points[k], radius - 1.1 * more, PAPER)
        if fifth and numbered and scale >= 0.5:
            x, y = points[k]
            words, font = f"{k // SECOND} s", text_font(round(11 * pen.factor))
            width = pen.draw.textlength(words, font) / pen.factor
            pen.polygon([(x + 4, y - 15), (x + 8 + width, y - 15), (x + 8 + width, y - 3), (x + 4, y - 3)], PAPER)
            pen.draw.text(pen.at(x + 6, y - 9), words, INK, font, anchor="lm")


def numbered_things(map_data: bytes, bank: Bank, unfinished: bool = False) -> list[tuple[Thing, int, int]]:
    """(entity, its index among the entities of the bank's first level, its slot) of each of `shapes.things`.

    bank: of this map alone. An exit has the index of its switch, which has its state.
    """
    found = things(map_data, unfinished)
    # Entities are numbered by type, then in the order of the records. An exit is two entities, door and switch.
    order = sorted(range(len(found)), key=lambda k: found[k].kind)
    index = np.zeros(len(found), np.int64)
    index[order] = np.arange(len(found))
    index += np.searchsorted(np.flatnonzero([found[k].kind == EXIT_DOOR for k in order]), index, side="right")
    return list(zip(found, index.tolist(), bank.entity["slot"][index].tolist(), strict=True))


def look_of_mover(bank: Bank, state, i: int, thing: Thing, index: int, slot: int) -> list[tuple]:
    """Pieces of an entity that moves, in game i of a `State`; thing, index, slot: one of `numbered_things`."""
    x, y, a, b, _, _, direction, _ = state.mover[i, slot].item()
    status = int(state.state[i, index])
    reach = beam_length(bank, 0, state.mover, i, slot) if thing.kind == LASER and status == 1 else 0.0
    if thing.kind == LASER and status == 0:
        a = at_start(thing).a  # set by its first thought
    return look(thing, Now(x, y, 1, status, 1, direction, a, b, reach))


class Scene:
    """A level drawn at any moment of a game.

    Tiles are drawn once. Things that stand still are blended over them, again whenever one changes its state (a door
    opens, gold is taken). Things that move are blended over both in every picture.

    Raises ValueError for a scale that is no positive integer, and for maps that `simulator.check_map` refuses.
    """

    def __init__(self, map_data: bytes, scale: int = 1, unfinished: bool = False):
        _check_scale(scale)
        self.scale = scale = int(scale)
        self.bank = build_bank([map_data], unfinished)
        factor = scale * _samples(scale)
        image = Image.new("RGB", (WIDTH * factor, HEIGHT * factor), BACKGROUND)
        draw_tiles(Pen(image, factor), map_data)
        self.ground = np.asarray(image.reduce(_samples(scale)))
        numbered = numbered_things(map_data, self.bank, unfinished)
        self.moving = [entry for entry in numbered if entry[0].kind in MOVING]
        self.still = [entry for entry in numbered if entry[0].kind not in MOVING]
        self.still_index = np.array([k for _, k, _ in self.still], np.int64)
        self.backdrop, self.shown = self.ground, None

    def picture(self, state, i: int) -> np.ndarray:
        """Game i of a `State`, which must be on this level: uint8 [600 * scale, 1056 * scale, 3], a new array."""
        seen = self._states_of_what_stands(state, i)
        if seen != self.shown:
            self.backdrop, self.shown = self.ground.copy(), seen
            active, states, closed = seen
            pieces = []
            for at, (thing, _, slot) in enumerate(self.still):
                shut = closed[slot] if 0 <= slot < len(closed) else 0
                pieces += look(thing, Now(thing.x, thing.y, active[at], states[at], shut))
            self._blend(self.backdrop, pieces)
        picture = self.backdrop.copy()
        self._blend(picture, [piece for entry in self.moving for piece in look_of_mover(self.bank, state, i, *entry)])
        self._blend(picture, [look_of_ninja(state.ninja[i])])
        return picture

    def _states_of_what_stands(self, state, i):
        doors = int(self.bank.level["doors"][0])
        active = state.active[i, self.still_index].tobytes()
        return active, state.state[i, self.still_index].tobytes(), state.closed[i, :doors].tobytes()

    def _blend(self, picture, pieces):
        """Draw pieces over a picture, the lowest layer first."""
        samples = _samples(self.scale)
        height, width, _ = picture.shape
        for _, shape, x, y, *arguments in sorted(pieces, key=lambda piece: piece[0]):
            px, phase_x = divmod(round(x * self.scale * samples), samples)
            py, phase_y = divmod(round(y * self.scale * samples), samples)
            left, top, color, clear = _sprite(shape, tuple(arguments), self.scale, phase_x, phase_y)
            x0, y0 = px + left, py + top
            x1, y1 = x0 + color.shape[1], y0 + color.shape[0]
            if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
                inside = (slice(max(0, -y0), max(0, height - y0)), slice(max(0, -x0), max(0, width - x0)))
                color, clear = color[inside], clear[inside]
                x0, y0 = max(x0, 0), max(y0, 0)
                x1, y1 = x0 + color.shape[1], y0 + color.shape[0]
            under = picture[y0:y1, x0:x1]
            mixed = under * clear
            mixed += 128
            mixed >>= 8
            mixed += color
            under[:] = mixed


@functools.lru_cache(4096)
def _sprite(shape, arguments, scale, phase_x, phase_y):
    """A shape at a place that lies `phase` samples beyond a corner of pixels.

    Returns left, top (int, px of the picture from that corner), colour times opacity (uint8 [h, w, 3]) and 256 times
    transparency (uint16 [h, w, 3]). Both come from two drawings, on black and on white, which gives every mix of
    translucent and opaque parts its right opacity.
    """
    samples = _samples(scale)
    factor = scale * samples
    reach = REACH * scale  # px of the picture
    origin = (-REACH - phase_x / factor, -REACH - phase_y / factor)
    drawn = []
    for ground in (0, 255):
        image = Image.new("RGB", ((2 * reach + 1) * samples,) * 2, (ground, ground, ground))
        shape(Pen(image, factor, origin), 0.0, 0.0, *arguments)
        drawn.append(np.asarray(image.reduce(samples)))
    color, white = drawn
    clear = np.maximum(white, color) - color
    touched = np.argwhere((clear < 255).any(2))
    (top, left), (bottom, right) = touched.min(0), touched.max(0) + 1
    color, clear = color[top:bottom, left:right].copy(), clear[top:bottom, left:right].astype(np.uint32)
    # 255 * transparency + colour is at most 255, so the rounded mix with any pixel is at most 255 too.
    return int(left) - reach, int(top) - reach, color, ((clear * 256 + 127) // 255).astype(np.uint16)


def add_caption(picture: np.ndarray, text: str) -> None:
    """Write a line of text over the upper border of a picture of the field, in place."""
    scale = picture.shape[1] // WIDTH
    height = 24 * scale
    strip = Image.fromarray(picture[:height])
    draw = ImageDraw.Draw(strip)
    draw.text((8 * scale, height / 2), text, PAPER, text_font(14 * scale), anchor="lm")
    picture[:height] = np.asarray(strip)


def outcome_text(ninja) -> str:
    """How a game ended, from its NINJA record: "won", "died: " and the cause, or "" while it goes on."""
    if ninja["state"] == WON:
        return "won"
    if ninja["state"] in (DEAD, DYING):
        return f"died: {CAUSE_NAMES[int(ninja['cause'])].replace('_', ' ')}"
    return ""


@functools.cache
def text_font(size: int) -> ImageFont.FreeTypeFont:
    """Font of all writing, `size` pixels high."""
    return ImageFont.load_default(size)


def write_text(draw: ImageDraw.ImageDraw, scale: int, x, y, words, size=14, color=PAPER, anchor="lm") -> None:
    """Write at (x, y) on a picture with `scale` pixels to a px; x, y and size are in px."""
    draw.text((x * scale, y * scale), words, color, text_font(size * scale), anchor=anchor)


# Mark of each cause of death: outline in units of the mark's radius, clockwise from the top, and colour.
_SQUARE = [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
_STAR = [
    ((0.55 if k % 2 else 1.2) * math.sin(k * math.pi / 8), (-0.55 if k % 2 else -1.2) * math.cos(k * math.pi / 8))
    for k in range(16)
]
_DISC = [(0.95 * math.sin(k * math.pi / 8), -0.95 * math.cos(k * math.pi / 8)) for k in range(16)]
_PLUS = [(-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35)]
_PLUS += [(0.35, 1), (-0.35, 1), (-0.35, 0.35), (-1, 0.35), (-1, -0.35), (-0.35, -0.35)]
MARKS = {
    "mine": (_STAR, (206, 40, 56)),
    "zap_drone": ([(0, -1.15), (1.15, 0), (0, 1.15), (-1.15, 0)], (136, 46, 168)),
    "mini_drone": ([(0, -0.75), (0.75, 0), (0, 0.75), (-0.75, 0)], (136, 46, 168)),
    "chaser_drone": ([(-0.9, -1), (0.2, -1), (1.1, 0), (0.2, 1), (-0.9, 1), (0, 0)], (136, 46, 168)),
    "floor_guard": ([(-1, 0.7), (-1, 0), (-0.5, -0.8), (0.5, -0.8), (1, 0), (1, 0.7)], (196, 96, 12)),
    "thwump": (_SQUARE, (110, 62, 34)),
    "shove_thwump": (_PLUS, (110, 62, 34)),
    "death_ball": (_DISC, (20, 100, 120)),
    "laser": ([(-0.3, -1.2), (0.3, -1.2), (0.3, 1.2), (-0.3, 1.2)], (222, 40, 150)),
    "floor_impact": ([(-1, -0.8), (1, -0.8), (0, 1)], (30, 62, 150)),
    "ceiling_impact": ([(0, -1), (1, 0.8), (-1, 0.8)], (30, 62, 150)),
    "crush": ([(-0.9, -1), (0.9, -1), (0.15, 0), (0.9, 1), (-0.9, 1), (-0.15, 0)], (24, 26, 34)),
}


def _checked(trajectories: Iterable[Trajectory]) -> list[tuple[list, str, str]]:
    """(points, outcome, cause) of every trajectory; the cause is "" if none is given."""
    runs = []
    for positions, outcome, *cause in trajectories:
        positions = np.asarray(positions, float)
        if outcome not in OUTCOMES:
            raise ValueError(f"outcome {outcome!r}: expected one of {', '.join(OUTCOMES)}")
        if positions.ndim != 2 or positions.shape[1] != 2 or not len(positions):
            raise ValueError(f"trajectory of shape {list(positions.shape)}, expected [n, 2]")
        cause = cause[0] if cause and cause[0] not in (None, "none") else ""
        if cause and cause not in MARKS:
            raise ValueError(f"cause of death {cause!r}: expected one of {', '.join(MARKS)}")
        runs.append(([tuple(p) for p in positions.tolist()], outcome, cause if outcome == "died" else ""))
    return runs


def draw_end(pen, x, y, outcome, cause):
    color = OUTCOMES[outcome]
    if cause:
        points, color = MARKS[cause]
        outline = [(x + 5 * a, y + 5 * b) for a, b in points]
        pen.line([*outline, outline[0]], 2.6, PAPER)
        pen.polygon(outline, color)
        return
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


def _draw_legend(pen, counts):
    """Draw what the marks mean and how often each occurs, on the lower border."""
    font = text_font(13 * pen.factor)
    x, y = 12.0, HEIGHT - 12.0
    rank = list(OUTCOMES)
    for (outcome, cause), count in sorted(counts.items(), key=lambda item: (rank.index(item[0][0]), -item[1])):
        text = f"{(cause or outcome).replace('_', ' ')} {count}"
        width = pen.draw.textlength(text, font) / pen.factor
        if x + width + 22 > WIDTH:  # a second line above the first
            x, y = 12.0, y - 22
        pen.polygon([(x - 4, y - 9), (x + 22 + width, y - 9), (x + 22 + width, y + 9), (x - 4, y + 9)], PAPER)
        draw_end(pen, x + 6, y, outcome, cause)
        pen.draw.text(pen.at(x + 17, y), text, INK, font, anchor="lm")
        x += width + 34
