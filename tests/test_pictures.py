"""Pictures for networks: area, shapes and states, the middle, borders, stacks; against a plain redraw with NumPy."""

import itertools
import math

import numpy as np
import pytest
from hand_made import CORRIDOR, corridor, ground, here, level, middle

from npp_rl.environment import looks as grey_looks
from npp_rl.environment import pictures as drawn
from npp_rl.environment.env import NppEnv, NppVectorEnv
from npp_rl.environment.looks import EMPTY, SOLID
from npp_rl.environment.pictures import GLOBAL_PIXEL, PLAYER_PIXEL
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.generator import generate
from npp_rl.simulator import build_bank, frame, new_state, reset_game
from npp_rl.simulator.compiled import njit
from npp_rl.simulator.tiles import SOLID as SOLID_PARTS

NONE, LEFT, RIGHT, JUMP, JUMP_LEFT, JUMP_RIGHT = range(6)
SIZES = PLAYER_PIXEL, GLOBAL_PIXEL
BOTH = ("player_frames", "global_view")
HALL = ground((2, 2, 41, 22))
KIND = {
    "ninja": 0, "mine": 1, "gold": 2, "exit": 3, "exit switch": 4, "regular door": 5, "locked door": 6,
    "locked switch": 7, "trap door": 8, "trap switch": 9, "launch pad": 10, "one-way": 11, "zap drone": 14,
    "chaser": 15, "floor guard": 16, "bounce block": 17, "thwump": 20, "toggle mine": 21, "laser": 23, "boost pad": 24,
    "death ball": 25, "mini drone": 26, "shove thwump": 28,
}  # fmt: skip
MOVING = (0, 14, 15, 16, 17, 20, 25, 26, 28)


@njit
def _draw(bank, state, player, whole, frames, views):
    for i in range(len(frames)):
        drawn.write_player_frame(bank, state, i, player, frames[i])
        drawn.write_global_view(bank, state, i, whole, views[i])


@njit
def _play(bank, state, i, h, frames):
    for _ in range(frames):
        frame(bank, state, i, h, 0)


class Game:
    """One game on a level, whose state a test may change, and its pictures."""

    def __init__(self, made, unfinished=False):
        self.bank = build_bank([made.map_data], unfinished)
        self.state = new_state(self.bank, 1)[1]
        reset_game(self.bank, self.state, 0, 0)
        self.ninja = self.state.ninja[0]
        self.entity = self.bank.entity[: self.bank.level["entities"][0]]
        self.pictures = [drawn.level_pictures(self.bank, size) for size in SIZES]

    def first(self, kind):
        """Index of the first entity of a kind."""
        return int(np.flatnonzero(self.entity["type"] == kind)[0])

    def mover(self, kind):
        return self.state.mover[0, self.entity["slot"][self.first(kind)]]

    def draw(self):
        """uint8 [84, 84] and [100, 176]."""
        frames, views = np.full((1, 84, 84), 7, np.uint8), np.full((1, 100, 176), 7, np.uint8)
        _draw(self.bank, self.state, *self.pictures, frames, views)
        return frames[0], views[0]


def tile_pixels(tile, size):
    tiles = HALL.copy()
    tiles[9, 19] = tile
    picture = Game(level(tiles, middle(5, 5))).pictures[SIZES.index(size)].raster[0]
    side = 24 // size
    return picture[10 * side : 11 * side, 20 * side : 21 * side]


def shares(tile, size):
    return (EMPTY - tile_pixels(tile, size).astype(float)) / (EMPTY - SOLID)


def test_tiles_by_hand():
    assert (tile_pixels(0, 6) == EMPTY).all() and (tile_pixels(1, 6) == SOLID).all()
    rows, columns = np.indices((4, 4))
    for tile, solid in {2: rows < 2, 3: columns >= 2, 4: rows >= 2, 5: columns < 2}.items():
        assert np.array_equal(shares(tile, 6), solid)
    for size in SIZES:
        rows, columns = np.indices((24 // size,) * 2)
        steep = rows + columns - (24 // size - 1)
        assert np.array_equal(shares(6, size), (steep < 0) + 0.5 * (steep == 0))
        assert np.array_equal(shares(8, size), (steep > 0) + 0.5 * (steep == 0))
        assert np.array_equal(shares(9, size), (rows > columns) + 0.5 * (rows == columns))
    # Half as high as wide, from (0, 12) up to (24, 0): a pixel of the slope is a quarter or three quarters full.
    slope = np.array([[1, 1, 0.75, 0.25], [0.75, 0.25, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert shares(18, 6) == pytest.approx(slope, abs=0.01)
    assert shares(26, 6) == pytest.approx(shares(18, 6).T, abs=0.01)
    # Lines are 3 px wide.
    for tile, edge in {34: np.s_[0], 35: np.s_[:, -1], 36: np.s_[-1], 37: np.s_[:, 0]}.items():
        for size in SIZES:
            expected = np.zeros((24 // size,) * 2)
            expected[edge] = 3 / size
            assert shares(tile, size) == pytest.approx(expected, abs=0.01)


def area(points):
    a, b = np.array(points, float), np.roll(points, -1, axis=0)
    return abs((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / 2


@pytest.mark.parametrize("size", SIZES)
def test_tiles_cover_their_area(size):
    stamps = grey_looks._tile_stamps(size)
    full = (EMPTY - stamps.astype(float)).sum((1, 2)) / (EMPTY - SOLID) * size**2
    rounding = 24 / size * 2 * 0.5 / (EMPTY - SOLID) * size**2  # of the pixels on an edge
    for tile in range(1, 34):
        assert full[tile] == pytest.approx(area(SOLID_PARTS[tile]), abs=rounding), tile
    assert full[10] == pytest.approx(math.pi * 144, abs=rounding + 1)
    assert full[14] == pytest.approx(576 - math.pi * 144, abs=rounding + 1)
    assert len(np.unique(stamps.reshape(38, -1), axis=0)) == 38
    # Opposite shapes fill a cell; mirrored shapes are mirrored.
    for one, other in ((6, 8), (7, 9), (10, 16), (11, 17), (12, 14), (13, 15), (18, 24), (19, 25), (26, 32), (27, 33)):
        assert np.abs(stamps[one].astype(int) + stamps[other] - (EMPTY + SOLID)).max() <= 1
    assert np.array_equal(stamps[10], stamps[11][:, ::-1]) and np.array_equal(stamps[10], stamps[13][::-1])


def test_tiles_of_other_numbers_are_open():
    tiles = HALL.copy()
    tiles[:21].reshape(-1)[100 : 100 + 218] = np.arange(38, 256)
    tiles[:, [0, 41]] = tiles[[0, 22]] = 1
    plain = np.where(tiles < 38, tiles, 0).astype(np.uint8)
    one, other = (Game(level(grid, middle(5, 20))).draw() for grid in (tiles, plain))
    assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])


@pytest.mark.parametrize("size", SIZES)
def test_shapes_cover_their_area_at_every_place_within_a_pixel(size):
    shapes = grey_looks.stamps(size)[1]
    cover = shapes[:, :, 0].sum((2, 3)) / 256 * size**2
    known = {
        ("ninja", 0): math.pi * 100, ("ninja", 1): math.pi * 100, ("mine", 0): math.pi * 36, ("gold", 0): 2 * 6.5**2,
        ("exit", 0): 576, ("exit", 1): 576, ("exit switch", 0): 324, ("regular door", 2): 7 * 6 + math.pi * 4**2,
        ("locked door", 0): 24 * 8, ("trap door", 1): 24 * 6, ("one-way", 2): 24 * 6, ("death ball", 0): math.pi * 8**2,
        ("boost pad", 0): math.pi * (81 - 25), ("thwump", 4): 324, ("bounce block", 0): 324, ("shove thwump", 0): 576,
        ("one-way", 1): 24 * 6, ("launch pad", 0): 80 + 80, ("laser", 1): math.pi * 49,
    }  # fmt: skip
    for (name, k), expected in known.items():
        assert cover[grey_looks.FIRST_LOOK[KIND[name]] + k] == pytest.approx(expected, rel=0.02), name
    rounding = 30 * 0.5 / 256 * size**2
    assert np.abs(cover - cover[:, :1]).max() < rounding
    # The middle of what is covered moves by eighths of a pixel: a symmetric shape's is its place.
    middles = np.arange(8) - 3.5
    for name in ("ninja", "exit", "death ball"):
        share = shapes[grey_looks.FIRST_LOOK[KIND[name]], :, 0].astype(float)
        weights = share.sum((1, 2))
        for axis, expected in ((1, np.tile(np.arange(8), 8)), (2, np.repeat(np.arange(8), 8))):
            place = (share.sum(axis) * middles).sum(1) / weights
            assert place == pytest.approx(expected / 8, abs=1 / 16)  # half of an eighth
    # Nothing is cut off.
    assert (shapes[:, :, 0] <= 256).all() and cover.max() <= 24**2 + rounding
    assert len(shapes) == sum(looks for _, looks in grey_looks._KINDS.values())


def test_every_look_is_unlike_every_other():
    """At every place where it can stand: 20 greys in some pixel over open space, 10 over solid ground."""
    looks = [(kind, k) for kind, (_, count) in grey_looks._KINDS.items() for k in range(count)]
    assert set(KIND.values()) == set(grey_looks._KINDS)
    # Movers stand anywhere; the others on the map's lattice of 6 px, where doors and mines may be half a pixel off.
    for size, still in ((4, (0, 4, 32, 36)), (6, (0,))):
        for ground_grey, least in ((EMPTY, 20), (SOLID, 10)):
            pictures = {}
            for kind, k in looks:
                cover, grey = np.moveaxis(
                    grey_looks.stamps(size)[1][grey_looks.FIRST_LOOK[kind] + k].astype(float), 1, 0
                )
                pictures[kind, k] = (ground_grey * (256 - cover) + grey) / 256
                phases = np.arange(64) if kind in MOVING else list(still)
                assert (np.abs(pictures[kind, k][phases] - ground_grey).max((1, 2)) >= least).all(), (kind, k, size)
            for a, b in itertools.combinations(looks, 2):
                if {a, b} == {(1, 0), (21, 0)}:  # a deadly mine is a deadly mine
                    continue
                phases = np.arange(64) if a[0] in MOVING and b[0] in MOVING else list(still)
                apart = np.abs(pictures[a] - pictures[b])[phases].max((1, 2)).min()
                assert apart >= least, (a, b, size, ground_grey, apart)


def test_a_ball_between_pixels():
    """Black on open space: the sum of what is darkened is its area, the middle is its place."""
    game = Game(level(HALL, middle(30, 15), others=[(25, middle(27, 12), 0, 0)]))
    m = game.mover(25)
    game.ninja["x"], game.ninja["y"] = 700.0, 340.0
    random = np.random.default_rng(0)
    m["x"], m["y"] = -500.0, -500.0
    empty = game.draw()
    for x, y in random.uniform([620, 260], [660, 300], (40, 2)):
        m["x"], m["y"] = x, y
        for size, with_ball, without in zip(SIZES, game.draw(), empty, strict=True):
            share = (without.astype(float) - with_ball) / EMPTY
            assert share.sum() * size**2 == pytest.approx(math.pi * 8**2, rel=0.01)
            rows, columns = np.nonzero(share)
            left, top = (700 / 4 - 42, 340 / 4 - 42) if size == 4 else (0, 0)
            # Half of an eighth of a pixel, and greys that are whole numbers.
            place = ((columns + 0.5) * share[rows, columns]).sum() / share.sum()
            assert size * (left + place) == pytest.approx(x, abs=size / 16 + 0.1)
            place = ((rows + 0.5) * share[rows, columns]).sum() / share.sum()
            assert size * (top + place) == pytest.approx(y, abs=size / 16 + 0.1)


AT = middle(20, 11)  # where the entity is drawn
SWITCH = middle(24, 13)


def _set(kind, **values):
    """A change of a game: fields of the first entity of a kind, by name of the array that has them."""

    def change(game):
        e = game.first(kind)
        for name, value in values.items():
            if name in ("active", "state"):
                getattr(game.state, name)[0, e] = value
            elif name in ("closed",):
                game.state.closed[0, game.entity["slot"][e]] = value
            else:
                game.mover(kind)[name] = value

    return change


def _cases():
    """(name, level, change of the game or None, [(kind, look, place)], unfinished), one for each look."""
    one = {kind: lambda o, kind=kind: level(HALL, middle(15, 13), others=[(kind, AT, o, 0)]) for kind in range(1, 29)}
    for name in ("launch pad", "one-way"):
        for o in range(8):
            yield name, one[KIND[name]](o), None, [(KIND[name], o, AT)]
    for name in ("gold", "bounce block", "boost pad", "death ball"):
        yield name, one[KIND[name]](0), None, [(KIND[name], 0, AT)]
    yield "gold taken", one[2](0), _set(2, active=0), []
    yield "mine", one[1](0), None, [(1, 0, AT)]
    for state in range(3):
        yield "toggle mine", one[21](0), _set(21, state=state), [(21, state, AT)]
    for name in ("zap drone", "mini drone", "chaser"):
        for o in range(8):
            yield name, one[KIND[name]](o), None, [(KIND[name], o // 2, AT)]
        for heading in range(4):
            yield name, one[KIND[name]](0), _set(KIND[name], dir=heading), [(KIND[name], heading, AT)]
    for heading in range(4):
        yield "chasing", one[15](0), _set(15, dir=heading, state=1), [(15, 4 + heading, AT)]
    for state in (-1, 0, 1):
        yield "floor guard", one[16](0), _set(16, state=state), [(16, state + 1, AT)]
        for o, face in enumerate((0, 3, 1, 3, 2, 3, 3, 3)):
            yield "thwump", one[20](o), _set(20, state=state), [(20, 3 * face + state + 1, AT)]
    for state in range(4):
        yield "shove thwump", one[28](0), _set(28, state=state), [(28, state, AT)]
    for state in (0, 2):
        yield "laser", one[23](0), _set(23, state=state), [(23, state, AT)]
    doors = level(HALL, middle(15, 13), exits=[(AT, SWITCH)])
    yield "exit", doors, None, [(3, 0, AT), (4, 0, SWITCH)]
    yield "exit open", doors, _set(4, active=0), [(3, 1, AT), (4, 1, SWITCH)]
    for o in range(8):
        lying = o not in (0, 4)
        for kind, name in ((5, "regular door"), (6, "locked door"), (8, "trap door")):
            more = {5: {"others": [(5, AT, o, 0)]}, 6: {"locked": [(AT, o, SWITCH)]}, 8: {"trap": [(AT, o, SWITCH)]}}
            made = level(HALL, middle(15, 13), **more[kind])
            for closed in (0, 1):
                looks = [(kind, 2 * (1 - closed) + lying, AT)]
                if kind == 5:
                    yield name, made, _set(kind, closed=closed), looks
                    continue
                for active in (0, 1):
                    change = _set(kind, closed=closed, active=active)
                    yield name, made, change, [*looks, (kind + 1, 1 - active, SWITCH)]


def expected(looks, ninja, size):
    """The whole field at one scale, drawn with NumPy: a hall, and these looks on it."""
    grey = np.full((600 // size, 1056 // size), SOLID, np.uint8)
    side = 24 // size
    grey[2 * side : 23 * side, 2 * side : 42 * side] = EMPTY
    for kind, k, (x, y) in [*looks, (0, *ninja)]:
        paste(grey, grey_looks.FIRST_LOOK[kind] + k, x, y, size)
    return grey


def paste(grey, look, x, y, size, margin=0):
    """Blend a stamp at (x, y) px into a picture of the field with a margin, in pixels, around it."""
    p, q = (math.floor(8 * a / size + 0.5) + 8 * margin for a in (x, y))
    cover, weighted = grey_looks.stamps(size)[1][look, 8 * (q % 8) + p % 8].astype(int)
    for r, c in np.argwhere(cover):
        row, column = q // 8 - 4 + r, p // 8 - 4 + c
        if 0 <= row < grey.shape[0] and 0 <= column < grey.shape[1]:
            grey[row, column] = (grey[row, column] * (256 - cover[r, c]) + weighted[r, c] + 128) // 256


def around(whole, x, y, margin=0):
    """The 84 x 84 pixels of a picture at 4 px whose middle is nearest to (x, y) px; solid outside of it."""
    columns, rows = (math.floor(a / 4 + 0.5) - 42 + margin + np.arange(84) for a in (x, y))
    inside = ((rows >= 0) & (rows < whole.shape[0]))[:, None] & (columns >= 0) & (columns < whole.shape[1])
    near = whole[np.clip(rows, 0, len(whole) - 1)[:, None], np.clip(columns, 0, whole.shape[1] - 1)]
    return np.where(inside, near, SOLID).astype(np.uint8)


def test_every_kind_and_state_has_its_look_in_both_pictures():
    seen = set()
    without = [expected([], (0, middle(15, 13)), size) for size in SIZES]
    for name, made, change, looks in _cases():
        game = Game(made, unfinished=True)
        if change:
            change(game)
        frames, view = game.draw()
        near, far = (expected(looks, (0, middle(15, 13)), size) for size in SIZES)
        assert np.array_equal(view, far), (name, looks)
        assert np.array_equal(frames, around(near, *middle(15, 13))), (name, looks)
        if looks:
            assert (np.abs(near.astype(int) - without[0]) >= 20).any()
            assert (np.abs(far.astype(int) - without[1]) >= 20).any()
        seen.update((kind, k) for kind, k, _ in looks)
    missing = {(kind, k) for kind, (_, count) in grey_looks._KINDS.items() for k in range(count)} - seen
    assert missing == {(0, 0), (0, 1), (0, 2), (1, 1), (23, 1)}  # the ninja, a mine gone off, a beam: below


def test_the_ninja_alive_dead_and_won():
    game = Game(level(HALL, middle(15, 13)))
    for state, look in zip(range(9), [0] * 6 + [1, 1, 2], strict=True):
        game.ninja["state"] = state
        for size, picture in zip(SIZES, game.draw(), strict=True):
            whole = expected([], (look, middle(15, 13)), size)
            assert np.array_equal(picture, whole if size == 6 else around(whole, *middle(15, 13)))


def test_a_mine_that_goes_off():
    game = Game(level(CORRIDOR, here(5), mines=[here(8), here(20)]))
    before = game.draw()[1]
    while game.ninja["state"] != 6:
        assert not game.ninja["sprung"]
        _play(game.bank, game.state, 0, 1, 1)
    looks = [(1, 0, here(8)), (1, 0, here(20)), (1, 1, here(8))]
    bare = Game(level(CORRIDOR, here(5))).pictures[1].raster[0]
    whole = bare.copy()
    for kind, k, (x, y) in [*looks, (0, 1, (game.ninja["x"], game.ninja["y"]))]:
        paste(whole, grey_looks.FIRST_LOOK[kind] + k, x, y, 6)
    assert np.array_equal(game.draw()[1], whole)
    # Its right half, which the ninja does not reach, hides the deadly look.
    column, row = here(8)[0] // 6, here(8)[1] // 6
    assert before[row, column] < 50 and whole[row, column + 1] != before[row, column + 1]


def test_a_lasers_beam():
    """2 px wide and black, from the laser to the first segment."""
    game = Game(level(HALL, middle(15, 16), others=[(23, AT, 0, 0)]), unfinished=True)
    m = game.mover(23)
    _set(23, state=1)(game)
    body = expected([(23, 1, AT)], (0, middle(15, 16)), 6)
    p, q = AT[0] // 6, AT[1] // 6
    ways = {"right": np.s_[q - 1 : q + 1, p + 2 : 168], "left": np.s_[q - 1 : q + 1, 8 : p - 2]}
    ways |= {"down": np.s_[q + 2 : 92, p - 1 : p + 1], "up": np.s_[8 : q - 2, p - 1 : p + 1]}
    for name, angle in {"right": 0, "left": math.pi, "down": math.pi / 2, "up": 1.5 * math.pi}.items():
        m["a"] = angle
        view = game.draw()[1].astype(int)
        assert (np.abs(view[ways[name]] - EMPTY * 5 / 6) <= 1).all()  # 1 px of 6 in each of two pixels
        rest = np.abs(view - body)
        rest[ways[name]] = rest[q - 2 : q + 2, p - 2 : p + 2] = 0
        assert rest.max() <= 1, name
    # 3 down for 4 to the right, until the floor.
    m["a"] = math.atan2(3, 4)
    frames, view = game.draw()
    dark = np.where(body == EMPTY, (EMPTY - view.astype(float)) / EMPTY, 0)
    rows, columns = np.nonzero(dark > 0.02)
    off = (6 * (columns + 0.5) - AT[0]) * 0.6 - (6 * (rows + 0.5) - AT[1]) * 0.8
    assert np.abs(off).max() < 1 + 6 * 0.7 and rows.max() == 91
    away = columns >= p + 3  # the laser's own pixels end before
    by_column = np.bincount(columns[away], dark[rows[away], columns[away]])[p + 3 : columns.max() - 1]
    assert by_column == pytest.approx(2 / 0.8 / 6, abs=0.01)
    assert 6 * columns.max() == pytest.approx(AT[0] + (23 * 24 - AT[1]) * 4 / 3, abs=6)
    # The same in the other picture, whose corner lies elsewhere.
    near = around(expected([(23, 1, AT)], (0, middle(15, 16)), 4), *middle(15, 16))
    left, top = (a / 4 - 42 for a in middle(15, 16))
    rows, columns = np.nonzero((near == EMPTY) & (frames < 0.97 * EMPTY))
    off = (4 * (columns + 0.5 + left) - AT[0]) * 0.6 - (4 * (rows + 0.5 + top) - AT[1]) * 0.8
    assert len(rows) > 12 and np.abs(off).max() < 1 + 4 * 0.7
    # A beam whose laser is far outside of the picture.
    game.ninja["x"], game.ninja["y"] = 700.0, 80.0
    before = game.draw()[0]
    m["a"] = math.atan2(100 - AT[1], 680 - AT[0])
    changed = np.argwhere(game.draw()[0] != before)
    assert len(changed) > 20 and changed[:, 1].min() == 0


def redrawn(game, size, margin=0):
    """All of game 0 at one scale with plain NumPy, from the map's own tiles and entities; solid in the margin."""
    bank, state, n = game.bank, game.state, game.ninja
    at = bank.level[0]
    side = 24 // size
    stamps = grey_looks._tile_stamps(size)
    tiles = at["tiles"].reshape(44, 25).T
    grey = np.zeros((25 * side, 44 * side), np.uint8)
    for row, column in np.ndindex(25, 44):
        tile = int(tiles[row, column])
        place = np.s_[side * row : side * (row + 1), side * column : side * (column + 1)]
        grey[place] = stamps[tile if tile < 38 else 0]
    grey = np.pad(grey, margin, constant_values=SOLID)
    entities = list(enumerate(game.entity))
    layers = []
    for kind in (24, 10, 11, 1):
        still = [e for _, e in entities if e["type"] == kind]
        layers += [(kind, e["orientation"] if kind in (10, 11) else 0, e["x"], e["y"]) for e in still]
    for slot in range(at["doors"]):
        door = bank.door[slot]
        k = door["entity"]
        e = game.entity[k]
        look = 2 * (not state.closed[0, slot]) + (door["y1"] == door["y2"])
        layers.append((e["type"], look, (door["x1"] + door["x2"]) / 2, (door["y1"] + door["y2"]) / 2))
        if e["type"] != 5:
            layers.append((e["type"] + 1, 1 - state.active[0, k], e["x"], e["y"]))
    for k, e in entities:
        if e["type"] == 3:
            switch = game.entity[k + 1]
            hit = 1 - state.active[0, k + 1]
            layers += [(3, hit, e["x"], e["y"]), (4, hit, switch["x"], switch["y"])]
    layers += [(2, 0, e["x"], e["y"]) for k, e in entities if e["type"] == 2 and state.active[0, k]]
    layers += [(1, 1, e["x"], e["y"]) for k, e in entities if e["type"] == 1 and state.state[0, k]]
    layers += [(21, state.state[0, k], e["x"], e["y"]) for k, e in entities if e["type"] == 21]
    for k, e in entities:
        if e["type"] in MOVING:
            m, status = state.mover[0, e["slot"]], state.state[0, k]
            look = {14: m["dir"], 26: m["dir"], 16: status + 1, 28: status}.get(e["type"], 0)
            if e["type"] == 20:
                look = 3 * {0: 0, 2: 1, 4: 2}.get(int(e["orientation"]), 3) + status + 1
            layers.append((e["type"], look, m["x"], m["y"]))
    layers.append((0, {6: 1, 8: 2}.get(int(n["state"]), 0), n["x"], n["y"]))
    for kind, look, x, y in layers:
        paste(grey, grey_looks.FIRST_LOOK[kind] + look, x, y, size, margin)
    return grey


def crowd(seed):
    """A level with every tile and every entity, at any place, some outside of the field."""
    random = np.random.default_rng(seed)
    tiles = np.where(random.random((23, 42)) < 0.3, random.integers(0, 60, (23, 42)), 0).astype(np.uint8)
    kinds = [1, 2, 5, 10, 11, 14, 16, 17, 20, 21, 24, 25, 26, 28]
    places = 6 * random.integers([0, 0], [200, 120], (70, 2))
    others = [(kinds[k % 14], tuple(p), int(random.integers(8)), 0) for k, p in enumerate(places)]
    some = [tuple(p) for p in 6 * random.integers([0, 0], [256, 256], (12, 2))]
    return level(
        tiles, tuple(6 * random.integers([6, 6], [170, 94])), [(some[0], some[1]), (some[2], some[3])],
        locked=[(some[4], 0, some[5]), (some[6], 2, some[7])], trap=[(some[8], 4, some[9]), (some[10], 6, some[11])],
        others=others,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_levels_are_what_a_plain_redraw_shows(seed):
    made = crowd(seed) if seed < 4 else generate(CATEGORIES[seed], 77)
    game = Game(made)
    random = np.random.default_rng(seed)
    for _ in range(12):
        frames, view = game.draw()
        assert np.array_equal(view, redrawn(game, 6))
        assert np.array_equal(frames, around(redrawn(game, 4, 60), game.ninja["x"], game.ninja["y"], 60))
        _play(game.bank, game.state, 0, int(random.integers(-1, 2)), 15)


def test_the_middle_and_the_borders():
    game = Game(level(HALL, middle(5, 5)))
    nobody = [expected([], (0, (-9e3, 0)), size) for size in SIZES]
    random = np.random.default_rng(1)
    places = [(0, 0), (1056, 600), (0, 600), (-700, 50), (5000, 5000)]
    for x, y in [*places, *random.uniform([-30, -30], [1090, 630], (60, 2))]:
        game.ninja["x"], game.ninja["y"] = x, y
        frames, view = game.draw()
        assert np.array_equal(view, expected([], (0, (x, y)), 6))
        plain = around(nobody[0], x, y)
        ninja = np.argwhere(frames != plain)
        assert len(ninja) > 16 and ninja.min() >= 39 and ninja.max() <= 44
        left, top = math.floor(x / 4 + 0.5) - 42, math.floor(y / 4 + 0.5) - 42
        assert abs(x / 4 - left - 42) <= 0.5 and abs(y / 4 - top - 42) <= 0.5
        paste(plain, grey_looks.FIRST_LOOK[0], x - 4 * left, y - 4 * top, 4)
        assert np.array_equal(frames, plain)


def test_what_has_no_place_is_not_drawn():
    made = level(HALL, middle(5, 5), others=[(25, middle(9, 5), 0, 0)])
    game = Game(made)
    for bad in (math.nan, math.inf, -math.inf, 1e300):
        game.mover(25)["x"] = bad
        frames, view = game.draw()
        assert np.array_equal(view, expected([], (0, middle(5, 5)), 6))
        assert np.array_equal(frames, around(expected([], (0, middle(5, 5)), 4), *middle(5, 5)))


WAYS = [corridor(5, 12, 20), corridor(5, 12, 20, mines=[here(9)]), crowd(9), corridor(30, 25, 20)]


@pytest.mark.parametrize("stack", [1, 3, 4])
def test_stacks_over_steps_and_resets(stack):
    envs = NppVectorEnv(4, WAYS, BOTH, frame_stack=stack, max_frames=60, seed=0)
    newest = NppVectorEnv(4, WAYS, BOTH, frame_stack=1, max_frames=60, seed=0)
    assert envs.single_observation_space["player_frames"].shape == (stack, 84, 84)
    obs, one = envs.reset(seed=1)[0], newest.reset(seed=1)[0]
    assert obs["player_frames"].shape == (4, stack, 84, 84) and obs["global_view"].shape == (4, 1, 100, 176)
    pictures = np.repeat(one["player_frames"], stack, axis=1)
    ends = 0
    for action in np.random.default_rng(2).integers(0, 6, (60, 4)):
        assert np.array_equal(obs["player_frames"], pictures) and envs.observation_space.contains(obs)
        assert np.array_equal(obs["global_view"], one["global_view"])
        obs, _, terminated, truncated, infos = envs.step(action)
        one, *_, one_infos = newest.step(action)
        done = terminated | truncated
        last = one["player_frames"]
        if done.any():
            ends += done.sum()
            last = np.where(done[:, None, None, None], one_infos["final_obs"]["player_frames"], last)
            final = np.concatenate([pictures[:, 1:], last], axis=1)
            assert np.array_equal(infos["final_obs"]["player_frames"][done], final[done])
            same = infos["final_obs"]["global_view"][done] == one_infos["final_obs"]["global_view"][done]
            assert same.all()
        pictures = np.concatenate([pictures[:, 1:], last], axis=1)
        pictures[done] = one["player_frames"][done]
    assert ends >= 12


def test_the_newest_picture_shows_the_game_as_it_is():
    env = NppEnv(levels=WAYS, observations=BOTH)
    for k in (0, 2):
        obs, _ = env.reset(options={"level": k})
        for action in [RIGHT] * 6 + [JUMP_RIGHT] * 6:
            game = Game(WAYS[k])
            for name, array in zip(game.state._fields, game.state, strict=True):
                now = getattr(env._envs._state, name)
                array[:] = now if array.ndim == 1 else now[:, : array.shape[1]]
            game.ninja["level"] = 0
            frames, view = game.draw()
            assert np.array_equal(obs["player_frames"][-1], frames) and np.array_equal(obs["global_view"][0], view)
            obs = env.step(action)[0]


def test_a_saved_state_has_the_stack():
    arguments = {"levels": WAYS, "observations": BOTH, "max_frames": 100}
    envs, other = NppVectorEnv(6, **arguments, seed=1), NppVectorEnv(6, **arguments, seed=2)
    other.reset()
    actions = np.random.default_rng(3).integers(0, 6, (40, 6))
    envs.reset()
    for action in actions[:10]:
        obs = envs.step(action)[0]
    saved = envs.get_state()
    again = other.set_state(saved)
    for action in actions[10:]:
        for name in BOTH:
            assert np.array_equal(obs[name], again[name])
        obs, again = envs.step(action)[0], other.step(action)[0]
    for arguments["frame_stack"] in (3, 5):
        with pytest.raises(ValueError, match=r"^saved environment state: frames does not fit"):
            NppVectorEnv(6, **arguments).set_state(saved)


@pytest.mark.parametrize("asked", [(), ("global_view",), ("player_frames",)])
def test_what_is_not_asked_for_is_not_made(asked):
    envs = NppVectorEnv(3, WAYS, ("game_state", *asked))
    obs, _ = envs.reset()
    assert list(obs) == ["game_state", *asked]
    envs.step([RIGHT] * 3)
    assert (envs._drawings is None) == (not asked)
    assert len(envs._frames) == 3 * ("player_frames" in asked) and len(envs._view) == 3 * ("global_view" in asked)
    if asked:
        levels = [len(pictures.raster) for pictures in envs._drawings]
        assert levels == [4 * ("player_frames" in asked), 4 * ("global_view" in asked)]
