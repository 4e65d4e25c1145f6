import hashlib
import itertools
from collections import Counter

import numpy as np
import pytest
from free_space import door_segment, level_free_space, way_length

from npp_rl.levels import builtin, climbing, datasets, drawn, fields, generator
from npp_rl.levels.canvas import HEIGHT, TILE, WIDTH, Canvas
from npp_rl.levels.categories import CATEGORIES, DRAWN_CATEGORIES
from npp_rl.levels.maps import MIRRORED, MOVING
from npp_rl.planning import planner, search
from npp_rl.simulator import check_map


@pytest.fixture(scope="module")
def levels():
    return [generator.generate(category, seed) for category in DRAWN_CATEGORIES for seed in range(12)]


# The canvas.


def test_a_box_on_whole_tiles_becomes_whole_tiles():
    canvas = Canvas()
    canvas.carve(canvas.box(2 * TILE, 3 * TILE, 7 * TILE, 5 * TILE))
    canvas.fill(canvas.box(4 * TILE, 4 * TILE + TILE // 2, 5 * TILE, 5 * TILE, 1))
    wanted = np.ones((23, 42), np.uint8)
    wanted[3:5, 2:7] = 0
    wanted[4, 4] = 4  # the lower half
    np.testing.assert_array_equal(canvas.tiles(), wanted)


def test_slopes_of_all_kinds_run_without_a_step():
    canvas = Canvas()
    canvas.carve(canvas.box(0, 0, WIDTH, HEIGHT))
    canvas.fill(canvas.below([HEIGHT - TILE, HEIGHT - TILE, HEIGHT - 3 * TILE, HEIGHT - 4 * TILE], 0, 2 * TILE))
    tiles = canvas.tiles()
    assert tiles[20:, :8].tolist() == [
        [0, 0, 0, 8, 1, 1, 1, 1],
        [0, 0, 8, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1],
    ]
    assert tiles[19, 4:8].tolist() == [20, 24, 1, 1]
    steep = Canvas()
    steep.carve(steep.box(0, 0, WIDTH, HEIGHT))
    steep.fill(steep.triangle(10 * TILE, HEIGHT - 4 * TILE, 2 * TILE, 4 * TILE, True))
    assert steep.tiles()[19:, 8:12].tolist() == [[0, 28, 29, 0], [0, 32, 33, 0], [28, 1, 1, 29], [32, 1, 1, 33]]


def test_a_line_at_45_degrees_beside_the_corners_has_no_teeth():
    for offset in (0, 6, 18, 24, 30, 42):
        canvas = Canvas()
        canvas.carve(canvas.x + canvas.y < 20 * TILE + offset)
        sloped = canvas.tiles()[:, :20]
        assert set(np.unique(sloped)) in ({0, 1, 8}, {0, 1, 12}), offset  # no tile of another slope between them
        assert ((sloped >= 8).sum(0)[:18] == 1).all()


def test_round_figures_have_curves():
    canvas = Canvas()
    canvas.carve(canvas.disc(10 * TILE, 10 * TILE, TILE))
    assert canvas.tiles()[9:11, 9:11].tolist() == [[14, 15], [17, 16]]
    canvas = Canvas()
    canvas.carve(canvas.box(0, 0, WIDTH, HEIGHT))
    canvas.fill(canvas.disc(10 * TILE, 10 * TILE, TILE))
    assert canvas.tiles()[9:11, 9:11].tolist() == [[12, 13], [11, 10]]


def test_a_fold_makes_mirror_images():
    canvas = Canvas()
    canvas.fold("mirrored")
    canvas.carve(canvas.stroke(100, 200, 900, 700, 60))
    canvas.carve(canvas.disc(300, 600, 210))
    tiles = canvas.tiles()
    assert len(np.unique(tiles)) > 10
    odd = tiles != MIRRORED[tiles[:, ::-1]]
    assert odd.mean() < 0.01  # of two tiles that are as similar to a figure, the first is taken


# The estimate of where a ninja gets to.


def gets_to(tiles, start, goal) -> bool:
    """Whether the estimate leads from the cell (column, row) to the middle of another."""
    ground = level_free_space(tiles)
    ground.reshape(fields.ROWS, fields.COLS)[:, [*range(12), *range(-12, 0)]] = 0  # no wall to climb at the sides
    lift, first = np.empty(fields.NODES, np.uint8), np.empty(fields.NODES, np.int32)
    climbing.supports(level_free_space(tiles), lift)
    entries = np.empty((climbing.MOST_ENTRIES, 4), np.int32)
    node, end = (fields.COLS * (4 * row + 6) + 4 * column + 6 for column, row in (start, goal))
    count = climbing.spread(ground, lift, node, np.empty(fields.NODES, np.int16), first, entries)
    assert 0 < count < climbing.MOST_ENTRIES
    return bool(first[end] >= 0)


def hall(*blocks):
    """A field without ground but for a floor at the bottom and these blocks (left, top, right, bottom)."""
    tiles = np.zeros((23, 42), np.uint8)
    tiles[22] = 1
    for left, top, right, bottom in blocks:
        tiles[top : bottom + 1, left : right + 1] = 1
    return tiles


@pytest.mark.parametrize(
    ("blocks", "start", "goal", "wanted"),
    [
        ([(20, 19, 24, 19)], (17, 21), (22, 18), True),  # a ledge three tiles high
        ([(20, 16, 24, 16)], (17, 21), (22, 15), False),  # six
        ([(20, 12, 20, 21)], (17, 21), (20, 11), True),  # a wall of any height
        ([(8, 14, 12, 14), (20, 14, 24, 14)], (12, 13), (20, 13), True),  # a jump over seven tiles
        ([(8, 14, 12, 14), (29, 14, 33, 14)], (12, 13), (30, 13), False),  # over sixteen
        ([(20, 13, 24, 13)], (24, 12), (27, 21), True),  # a fall of nine tiles
        ([(20, 8, 24, 8)], (24, 7), (27, 21), False),  # of fourteen
    ],
)
def test_the_estimate_jumps_climbs_and_falls_about_as_far_as_a_ninja(blocks, start, goal, wanted):
    assert gets_to(hall(*blocks), start, goal) is wanted


# Drawn levels.


def test_drawn_levels_are_the_same_on_every_machine(levels):
    assert [level.category for level in levels[::12]] == list(DRAWN_CATEGORIES)
    digest = hashlib.sha256(b"".join(level.map_data for level in levels))
    assert digest.hexdigest()[:16] == "e31ec8fde4267016"


def parts_of(level):
    """spawn, switch, exit (x, y) px; mines [m, 2] px; records int [k, 5]."""
    records = level.entities.astype(int)
    at = 6.0 * records[:, 1:3]
    kind = records[:, 0]
    return at[0], at[kind == 4][0], at[kind == 3][0], at[np.isin(kind, (1, 21))], records


def test_every_drawn_level_has_a_way_around_all_mines_and_through_the_doors(levels):
    barred = 0
    for level in levels:
        check_map(level.map_data)
        spawn, switch, exit, mines, records = parts_of(level)
        assert not len(mines) or np.hypot(*(mines - spawn).T).min() >= 30, level.id
        tiles = level.tiles
        doors = [(door_segment(*6.0 * a[1:3], a[3]), 6.0 * b[1:3]) for a, b in itertools.pairwise(records) if a[0] == 6]
        while True:  # doors open one after the other
            closed = [segment for segment, _ in doors]
            opened = [door for door in doors if np.isfinite(way_length(tiles, mines, closed, spawn, door[1], 15.0))]
            if not opened:
                break
            needed = not np.isfinite(way_length(tiles, mines, closed, spawn, exit, fields.TOUCH_EXIT))
            barred += needed or not np.isfinite(way_length(tiles, mines, closed, spawn, switch))
            doors = [door for door in doors if door not in opened]
        closed = [segment for segment, _ in doors]
        assert np.isfinite(way_length(tiles, mines, closed, spawn, switch)), level.id
        assert np.isfinite(way_length(tiles, mines, closed, switch, exit, fields.TOUCH_EXIT)), level.id
    assert barred >= 8


def test_drawn_levels_hold_what_the_built_in_ones_do_not(levels):
    more = [generator.generate(category, seed) for category in ("contraptions", "moving") for seed in range(12, 50)]
    held = {level.id: set(level.entities[:, 0].tolist()) for level in levels + more}
    assert set.union(*held.values()) == {*range(12), 14, 16, 17, 20, 21, 24, 25, 26, 28}
    for level in levels + more:
        assert (level.category == "moving") == bool(held[level.id] & MOVING)
        assert level.group in ("static", "moving")
    assert len({level.title for level in levels}) >= 9
    assert set(np.unique([level.tiles for level in levels])) == set(range(34))


def test_the_planner_wins_drawn_levels(levels, monkeypatch):
    def first_way(bank, pools, actions, steps, frame_skip, seed, deadline):
        search.replay(bank, pools, actions[:steps], frame_skip)
        return steps

    monkeypatch.setattr(planner, "_shorten", first_way)
    tried = [level for level in levels if level.category in ("tubes", "climbs", "landscapes")][::4]
    won = sum(planner.plan_level(level, budget=10)[0] is not None for level in tried)
    assert won >= 2 * len(tried) // 3


def test_half_of_the_fresh_levels_are_drawn_unless_the_data_set_says_otherwise():
    made = datasets.training_levels([], [], False, 180, 0.0, 3)
    counts = Counter(level.category for level in made)
    assert counts == dict.fromkeys(CATEGORIES, 10) | dict.fromkeys(DRAWN_CATEGORIES, 13)
    plain = datasets.training_levels([], [], False, 180, 0.0, 3, 0.0)
    assert Counter(level.category for level in plain) == dict.fromkeys(CATEGORIES, 20)
    assert [level for level in plain if level.id.endswith("_0003")][:9] == [
        level for level in made if level.id.endswith("_0003") and level.category in CATEGORIES
    ]


def test_drawn_levels_belong_to_a_split_by_their_tiles():
    for split in ("train", "test"):
        made = builtin.data_set(split, ("tubes",), 4, seed=3)
        assert {generator._side(level.map_data) for level in made} == {split}


def test_what_a_figure_leaves_no_room_for_is_drawn_again(monkeypatch):
    monkeypatch.setitem(drawn.DRAWN, "tubes", ((1, lambda canvas, dice: None),))
    monkeypatch.setattr(generator, "ATTEMPTS", 3)
    with pytest.raises(RuntimeError, match="no playable level of tubes"):
        generator.generate("tubes", 1)
