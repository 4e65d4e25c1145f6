import math

import numpy as np
import pytest
from PIL import Image

from npp_rl import render, shapes
from npp_rl.levels import Level, encode_map
from npp_rl.render import contact_sheet, draw_level, save_level

NINJA = (0, 160, 90, 0, 0)
KINDS = (1, 2, 5, 6, 8, 10, 11, 14, 16, 17, 20, 21, 24, 25, 26, 28)
NOTHING = (0, 4, 7, 9, 12, 13, 15, 18, 19, 22, 23, 27, 29, 200)


def open_map(*records):
    """An empty field with these records, whether or not they make a well-formed level."""
    data = encode_map(np.zeros((23, 42), np.uint8), [NINJA])
    return data + bytes(v for record in records for v in record)


def patch(picture, x, y, half=18, scale=2):
    """What is drawn around a position in px."""
    return picture[(y - half) * scale : (y + half) * scale, (x - half) * scale : (x + half) * scale]


def share_of_background(pixels):
    return float((pixels == shapes.BACKGROUND).all(-1).mean())


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_size_and_type(scale):
    picture = draw_level(open_map(), scale)
    assert picture.shape == (600 * scale, 1056 * scale, 3) and picture.dtype == np.uint8
    assert tuple(picture[5 * scale, 5 * scale]) == shapes.TILE, "the border ring is solid"
    assert tuple(picture[300 * scale, 300 * scale]) == shapes.BACKGROUND
    assert np.array_equal(picture, draw_level(Level(open_map(), "a", "simple"), scale))


QUARTER = math.pi / 4
# Solid share of the cell (PHYSICS.md 3.2) and, in px from its upper left corner, a solid and a free point.
SHAPES = {
    1: (1, (12, 12), None),
    2: (1 / 2, (12, 6), (12, 18)),
    3: (1 / 2, (18, 12), (6, 12)),
    4: (1 / 2, (12, 18), (12, 6)),
    5: (1 / 2, (6, 12), (18, 12)),
    6: (1 / 2, (7, 7), (17, 17)),
    7: (1 / 2, (17, 7), (7, 17)),
    8: (1 / 2, (17, 17), (7, 7)),
    9: (1 / 2, (7, 17), (17, 7)),
    10: (QUARTER, (14, 14), (21, 21)),
    11: (QUARTER, (10, 14), (3, 21)),
    12: (QUARTER, (10, 10), (3, 3)),
    13: (QUARTER, (14, 10), (21, 3)),
    14: (1 - QUARTER, (3, 3), (10, 10)),
    15: (1 - QUARTER, (21, 3), (14, 10)),
    16: (1 - QUARTER, (21, 21), (14, 14)),
    17: (1 - QUARTER, (3, 21), (10, 14)),
    18: (1 / 4, (4, 4), (20, 8)),
    19: (1 / 4, (20, 4), (4, 8)),
    20: (1 / 4, (20, 20), (4, 16)),
    21: (1 / 4, (4, 20), (20, 16)),
    22: (3 / 4, (12, 12), (20, 20)),
    23: (3 / 4, (12, 12), (4, 20)),
    24: (3 / 4, (12, 12), (4, 4)),
    25: (3 / 4, (12, 12), (20, 4)),
    26: (1 / 4, (4, 4), (8, 20)),
    27: (1 / 4, (20, 4), (16, 20)),
    28: (1 / 4, (20, 20), (16, 4)),
    29: (1 / 4, (4, 20), (8, 4)),
    30: (3 / 4, (12, 12), (20, 20)),
    31: (3 / 4, (12, 12), (4, 20)),
    32: (3 / 4, (12, 12), (4, 4)),
    33: (3 / 4, (12, 12), (20, 4)),
}


def test_tiles_have_their_shapes():
    tiles = np.zeros((23, 42), np.uint8)
    cells = {}
    for tile in range(1, 41):
        row, column = 1 + 2 * (tile // 10), 2 + 3 * (tile % 10)
        tiles[row, column] = tile
        cells[tile] = (24 * (column + 1), 24 * (row + 1))
    picture = draw_level(encode_map(tiles, [NINJA]), 4)

    def pixel(tile, point):
        return tuple(picture[4 * (cells[tile][1] + point[1]), 4 * (cells[tile][0] + point[0])])

    for tile, (share, solid, free) in SHAPES.items():
        assert pixel(tile, solid) == shapes.TILE, tile
        assert free is None or pixel(tile, free) == shapes.BACKGROUND, tile
        x, y = cells[tile]
        drawn = 1 - share_of_background(picture[4 * y : 4 * (y + 24), 4 * x : 4 * (x + 24)])
        # The outline, 0.75 px to either side, makes the shape a little larger.
        assert share - 0.01 < drawn < share + 0.1, tile
    middles = {34: (12, 0), 35: (24, 12), 36: (12, 24), 37: (0, 12)}
    for tile, line in middles.items():
        assert pixel(tile, line) == shapes.EDGE and pixel(tile, (12, 12)) == shapes.BACKGROUND
        for other in set(middles.values()) - {line}:
            assert pixel(tile, other) == shapes.BACKGROUND
    for tile in (38, 39, 40):
        x, y = cells[tile]
        assert share_of_background(picture[4 * (y - 4) : 4 * (y + 28), 4 * (x - 4) : 4 * (x + 28)]) == 1


def test_lines_that_cancel_are_holes():
    tiles = np.zeros((23, 42), np.uint8)
    tiles[4, 3:9] = 1
    tiles[3, 5] = 36  # a line along the bottom over a full tile's top (PHYSICS.md 3.3)
    picture = draw_level(encode_map(tiles, [NINJA]), 2)
    assert tuple(picture[2 * 120, 2 * (24 * 5 + 12)]) == shapes.EDGE
    assert tuple(picture[2 * 120 + 1, 2 * (24 * 6 + 12)]) == shapes.TILE


def test_every_kind_is_drawn_and_looks_different():
    empty = draw_level(open_map())
    seen = {}
    for kind in KINDS:
        # The doors' switch record lies elsewhere.
        picture = draw_level(open_map((kind, 50, 50, 0, 0), (7, 100, 50, 0, 0)))
        assert not np.array_equal(patch(picture, 300, 300), patch(empty, 300, 300)), kind
        seen[kind] = patch(picture, 300, 300, half=14).tobytes()
    assert len(set(seen.values())) == len(KINDS)


@pytest.mark.parametrize("kind", NOTHING)
def test_types_that_create_nothing_are_not_drawn(kind):
    assert np.array_equal(draw_level(open_map((kind, 50, 50, 0, 0)), 1), draw_level(open_map(), 1))


@pytest.mark.parametrize(
    ("kind", "looks"), [(10, 8), (11, 8), (14, 4), (26, 4), (20, 4), (5, 2), (6, 2), (8, 2), (17, 1)]
)
def test_orientations(kind, looks):
    pictures = {
        patch(draw_level(open_map((kind, 50, 50, o, 0), (7, 50, 50, 0, 0)), 1), 300, 300, scale=1).tobytes()
        for o in range(8)
    }
    assert len(pictures) == looks


def test_launch_pad_points_along_its_orientation():
    for orientation, (dx, dy) in {0: (1, 0), 2: (0, 1), 4: (-1, 0), 6: (0, -1)}.items():
        picture = draw_level(open_map((10, 50, 50, orientation, 0)))
        ahead, behind = (tuple(picture[600 + 12 * s * dy, 600 + 12 * s * dx]) for s in (1, -1))
        assert ahead == shapes.LAUNCH and behind == shapes.BACKGROUND


@pytest.mark.parametrize("kind", [6, 8])
def test_door_and_its_switch_have_places_of_their_own(kind):
    picture = draw_level(open_map((kind, 50, 50, 0, 0), (7, 80, 60, 0, 0)))
    for x, y in ((300, 300), (480, 360)):
        assert share_of_background(patch(picture, x, y, half=4)) < 0.9
    assert share_of_background(patch(picture, 480, 300)) == 1


def test_exits_and_their_switches_share_a_colour():
    records = [(3, 20, 50, 0, 0), (3, 40, 50, 0, 0), (4, 60, 50, 0, 0), (4, 80, 50, 0, 0)]
    data = encode_map(np.zeros((23, 42), np.uint8), [NINJA, *records])
    picture = draw_level(data)
    first, second = shapes.EXITS[:2]
    # Left of the door's opening; the middle of the switch.
    assert tuple(picture[600, 2 * (120 - 8)]) == tuple(picture[600, 2 * 360]) == first
    assert tuple(picture[600, 2 * (240 - 8)]) == tuple(picture[600, 2 * 480]) == second
    one = draw_level(encode_map(np.zeros((23, 42), np.uint8), [NINJA, records[0], records[2]]))
    assert tuple(one[600, 2 * (120 - 8)]) == tuple(one[600, 2 * 360]) == first


def test_ninja_stands_at_its_spawn_or_where_told():
    at_spawn = draw_level(open_map())
    assert share_of_background(patch(at_spawn, 960, 540, half=11)) < 0.9
    elsewhere = draw_level(open_map(), ninja=(300, 300))
    assert share_of_background(patch(elsewhere, 960, 540, half=11)) == 1
    assert np.array_equal(patch(elsewhere, 300, 300, half=11), patch(at_spawn, 960, 540, half=11))


@pytest.mark.parametrize("outcome", ["won", "died", "unfinished"])
def test_trajectory_has_its_outcome_s_colour(outcome):
    path = np.array([[100.0, 200.0], [300.0, 200.0], [300.0, 400.0]])
    picture = draw_level(open_map(), trajectories=[(path, outcome)])
    color = np.array(shapes.OUTCOMES[outcome])
    for x, y in ((200, 200), (300, 300)):
        seen = picture[2 * y, 2 * x].astype(int)
        nearest = min(shapes.OUTCOMES, key=lambda name: np.abs(seen - shapes.OUTCOMES[name]).sum())
        assert nearest == outcome and np.abs(seen - color).max() < 60
    assert tuple(picture[2 * 300, 2 * 200]) == shapes.BACKGROUND
    # A cross is solid in its middle, a win's ring is not.
    assert (tuple(picture[800, 600]) == shapes.PAPER) == (outcome == "won")
    alone = draw_level(open_map(), trajectories=[(path[:1], outcome)])
    assert share_of_background(patch(alone, 100, 200, half=4)) < 0.9


def test_bad_arguments():
    with pytest.raises(ValueError, match="outcome 'lost'"):
        draw_level(open_map(), 1, trajectories=[(np.zeros((3, 2)), "lost")])
    with pytest.raises(ValueError, match=r"shape \[3, 4\]"):
        draw_level(open_map(), 1, trajectories=[(np.zeros((3, 4)), "won")])
    with pytest.raises(ValueError, match="scale 0"):
        draw_level(open_map(), 0)
    with pytest.raises(ValueError, match="map of 1000 bytes"):
        draw_level(bytes(1000), 1)
    with pytest.raises(ValueError, match="no levels"):
        contact_sheet([], "never.png")


def test_any_map_can_be_drawn():
    rng = np.random.default_rng(0)
    for _ in range(5):
        data = bytearray(rng.integers(0, 256, 1233 + rng.integers(0, 400), np.uint8).tobytes())
        data[1230::5] = bytes(rng.integers(0, 30, len(data[1230::5]), np.uint8))
        assert draw_level(bytes(data), 1).shape == (600, 1056, 3)


def test_contact_sheet_and_single_pictures(tmp_path):
    levels = [Level(open_map((1, 50, 50, 0, 0)), f"level {k} " + "x" * 200, "simple") for k in range(5)]
    contact_sheet(levels, tmp_path / "sheet.png", columns=2, scale=0.25, labels=None)
    save_level(tmp_path / "one.png", levels[0], 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.png", "sheet.png"]
    with Image.open(tmp_path / "one.png") as image:
        assert np.array_equal(np.asarray(image), draw_level(levels[0], 1))
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width > 2 * 264 and 3 * 150 < image.height < 3 * 200
        sheet = np.asarray(image.convert("RGB"))
    # The sixth place is empty, the fifth is not.
    third = sheet[-170:, :]
    assert len(np.unique(third[:, sheet.shape[1] // 2 + 10 :].reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(third[:, : sheet.shape[1] // 2].reshape(-1, 3), axis=0)) > 10


def test_unwritable_place_leaves_nothing(tmp_path):
    with pytest.raises(OSError):
        save_level(tmp_path / "missing" / "one.png", open_map(), 1)
    assert list(tmp_path.iterdir()) == []
