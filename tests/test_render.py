import functools
import math
import time

import numpy as np
import pytest
from hand_made import CORRIDOR, corridor, here, level
from PIL import Image

from npp_rl.levels.maps import Level, encode_map
from npp_rl.simulator import DEAD, WON, new_state, play, reset_game
from npp_rl.simulator.layout import (
    CAUSE_NAMES,
    DYING,
    EXIT_DOOR,
    EXIT_SWITCH,
    FALLING,
    RUNNING,
    STANDING,
    WALL_SLIDING,
)
from npp_rl.viewing import render, shapes
from npp_rl.viewing.render import Scene, contact_sheet, draw_level, save_level

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


@functools.cache
def ended(*ends):
    """A picture of one path for each end, an outcome and its cause."""
    path = np.array([[100.0, 200.0], [300.0, 200.0]])
    return draw_level(open_map(), trajectories=[(path, *end) for end in ends])


@pytest.mark.parametrize("cause", sorted({name for name in CAUSE_NAMES.values() if name != "none"}))
def test_a_death_has_its_causes_mark_and_a_legend(cause):
    plain, marked = ended(("died",)), ended(("died", cause))
    assert np.array_equal(plain, ended(("died", "none")))
    assert not np.array_equal(patch(marked, 300, 200, half=8), patch(plain, 300, 200, half=8))
    others = [ended(("died", name)) for name in render.MARKS if name != cause]
    assert all(not np.array_equal(patch(marked, 300, 200, half=8), patch(o, 300, 200, half=8)) for o in others)
    color = np.array(render.MARKS[cause][1])
    for x, y in ((300, 200), (18, 588)):  # at the place of death, and in the legend
        assert (patch(marked, x, y, half=6) == color).all(-1).any(), (x, y)
    assert np.array_equal(plain[2 * 400 : 2 * 570], marked[2 * 400 : 2 * 570])
    two = ended(("died", cause), ("won",))
    assert not np.array_equal(two[-48:], marked[-48:]), "the legend counts outcomes too"


def test_bad_arguments():
    with pytest.raises(ValueError, match="cause of death 'boredom'"):
        draw_level(open_map(), 1, trajectories=[(np.zeros((3, 2)), "died", "boredom")])
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


UNFINISHED = (15, 23)


def running(map_data, scale=1, unfinished=False):
    """A scene and a game at its start."""
    scene = Scene(map_data, scale, unfinished)
    _, state = new_state(scene.bank, 1)
    reset_game(scene.bank, state, 0, 0)
    return scene, state


def step(scene, state, inputs):
    """Play input bytes until the game ends -> frames played."""
    return play(scene.bank, state, 0, np.frombuffer(inputs, np.uint8), np.zeros((99, 4)), np.zeros(99, np.uint8))


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_game_at_its_start_looks_like_the_level(scale):
    """The same shapes, drawn once on the level and once as sprites."""
    records = [(kind, 10 + 20 * (k % 8), 20 + 20 * (k // 8), 2, 0) for k, kind in enumerate(KINDS + UNFINISHED)]
    records = [record for record in records if record[0] not in (6, 8)]  # dashes do not lie on whole samples
    scene, state = running(open_map(*records), scale, unfinished=True)
    live = scene.picture(state, 0).astype(int)
    static = draw_level(open_map(*records), scale, unfinished=True)
    assert live.shape == static.shape and scene.picture(state, 0).dtype == np.uint8
    # The dots of a laser's beam lie on no whole samples either.
    different = np.abs(live - static).max(-1) > 2
    assert different.sum() < 40 * scale * scale
    empty, nothing = running(open_map(), scale)
    assert np.abs(empty.picture(nothing, 0).astype(int) - draw_level(open_map(), scale)).max() <= 2


def set_active(active):
    return lambda state, index, slot: state.active[0].__setitem__(index, active)


def set_state(number):
    return lambda state, index, slot: state.state[0].__setitem__(index, number)


def set_door(closed):
    return lambda state, index, slot: state.closed[0].__setitem__(slot, closed)


def set_mover(field, number):
    return lambda state, index, slot: state.mover[field][0].__setitem__(slot, number)


def both(*changes):
    return lambda *place: [change(*place) for change in changes]


TURNS = [set_mover("dir", 1), set_mover("dir", 2), set_mover("dir", 3)]
MOVES = [set_mover("x", 300.25), set_mover("x", 301.0), set_mover("y", 290.0)]
HELD = set_mover("a", 1.0)
# What may become of an entity of each type; no two of these look alike, and none looks like the start.
CHANGES = {
    1: [set_state(1), set_state(2)],
    2: [set_active(0)],
    3: [set_active(0)],
    5: [set_door(0)],
    6: [set_door(0), set_active(0), both(set_door(0), set_active(0))],
    8: [set_door(1), set_active(0), both(set_door(1), set_active(0))],
    14: TURNS + MOVES,
    15: [*TURNS, *MOVES, set_state(1)],
    16: [set_state(1), set_state(-1), *MOVES],
    17: MOVES,
    20: [set_state(1), set_state(-1), *MOVES],
    21: [set_state(0), set_state(2)],
    23: [set_state(2), both(set_state(1), set_mover("a", 0.0)), both(set_state(1), set_mover("a", 0.4))],
    24: [set_state(1)],
    25: MOVES,
    26: TURNS + MOVES,
    28: [*MOVES, *(both(set_state(s), HELD) for s in (1, 2, 3)), both(set_state(2), set_mover("b", 1.0))],
}


@pytest.mark.parametrize("kind", sorted(CHANGES))
@pytest.mark.parametrize("scale", [1, 2])
def test_every_kind_and_state_looks_different_in_a_game(kind, scale):
    others = [(2, 10, 10, 0, 0), (1, 20, 10, 0, 0), (14, 30, 10, 0, 0)]
    data = encode_map(np.zeros((23, 42), np.uint8), [NINJA, *others])
    data = data[:1156] + bytes([kind == EXIT_DOOR]) + data[1157:] + bytes([kind, 50, 50, 0, 0, 7, 80, 60, 0, 0])
    scene, state = running(data, scale, unfinished=True)
    (entry,) = [entry for entry in scene.still + scene.moving if (entry[0].kind, entry[0].x) == (kind, 300)]
    _, index, slot = entry
    assert scene.bank.entity["type"][index] == (EXIT_SWITCH if kind == EXIT_DOOR else kind)
    seen = [scene.picture(state, 0)]
    for change in CHANGES[kind]:
        reset_game(scene.bank, state, 0, 0)
        change(state, index, slot)
        seen.append(scene.picture(state, 0))
        elsewhere = seen[-1][: 250 * scale] != seen[0][: 250 * scale]
        assert not elsewhere.any(), "nothing else changes"
    assert len({picture.tobytes() for picture in seen}) == len(seen)
    reset_game(scene.bank, state, 0, 0)
    assert np.array_equal(scene.picture(state, 0), seen[0]), "a picture depends on the present state only"


def test_the_ninja_shows_its_state_and_the_way_it_goes():
    scene, state = running(open_map())
    ninja = state.ninja[0]
    seen = set()
    for number, air, u, h, x in (
        (STANDING, 0, 0.0, 0, 300.0),
        (STANDING, 0, -0.1, 0, 300.0),
        (RUNNING, 0, 2.0, 0, 280.0),
        (RUNNING, 0, 2.0, 0, 300.0),
        (RUNNING, 0, 2.0, -1, 300.0),
        (FALLING, 1, 0.0, 0, 300.0),
        (WALL_SLIDING, 1, 0.0, 0, 300.0),
        (DYING, 1, 0.0, 0, 300.0),
        (WON, 0, 0.0, 0, 300.0),
    ):
        ninja["state"], ninja["air"], ninja["u"], ninja["h"], ninja["x"], ninja["y"] = number, air, u, h, x, 300.0
        ninja["wn"] = 1.0
        seen.add(patch(scene.picture(state, 0), int(x), 300, scale=1).tobytes())
    assert len(seen) == 9
    ninja["state"] = DEAD
    assert patch(scene.picture(state, 0), 300, 300, scale=1).tobytes() in seen


def test_a_played_game_is_drawn_as_it_goes():
    """Running to the right along a corridor: gold, the switch, a locked door, the exit."""
    made = corridor(spawn=5, switch=12, door=20, others=[(2, here(8))], locked=[((24 * 17, 300), 0, here(14))])
    scene, state = running(made.map_data)
    start = scene.picture(state, 0)

    def changed(x):
        now = scene.picture(state, 0)
        return not np.array_equal(patch(now, x, 300, 8, 1), patch(start, x, 300, 8, 1))

    order = []
    for _ in range(300):
        over = step(scene, state, b"\2") and state.ninja["state"][0] in (DEAD, WON)
        for name, x in (("gold", 204), ("key", 348), ("door", 408), ("switch", 300), ("exit", 492)):
            # Not while the ninja itself is in the picture of that place.
            if name not in order and abs(state.ninja["x"][0] - x) > 26 and changed(x):
                order.append(name)
        if over:
            break
    assert state.ninja["state"][0] == WON
    assert order == ["gold", "exit", "switch", "door", "key"]


def test_index_of_entities_with_several_exits_and_lists():
    records = [(3, 20, 50, 0, 0), (3, 40, 50, 0, 0), (4, 60, 50, 0, 0), (4, 80, 50, 0, 0), (14, 90, 50, 0, 0)]
    records += [(2, 10, 20, 0, 0), (28, 30, 30, 0, 0), (2, 12, 20, 0, 0), (1, 14, 20, 0, 0), (5, 30, 20, 0, 0)]
    scene, _ = running(encode_map(np.zeros((23, 42), np.uint8), [NINJA, *records]))
    entity = scene.bank.entity
    for thing, index, slot in scene.still + scene.moving:
        exit_door = thing.kind == EXIT_DOOR
        assert entity["type"][index] == (EXIT_SWITCH if exit_door else thing.kind)
        place = thing.switch if exit_door else (thing.x, thing.y)
        assert (entity["x"][index], entity["y"][index], entity["slot"][index]) == (*place, slot)
    assert len({index for _, index, _ in scene.still + scene.moving}) == 8


def test_what_lies_at_the_edge_or_outside_is_cut_off():
    records = [(kind, x, y, 0, 0) for kind in KINDS for x, y in ((0, 0), (176, 100), (255, 255), (0, 100), (176, 50))]
    scene, state = running(open_map(*records), 1)
    state.ninja["x"], state.ninja["y"] = -1e5, 1e6
    assert scene.picture(state, 0).shape == (600, 1056, 3)


def test_pictures_are_fast_enough_for_60_a_second():
    movers = [(kind, (150 + 40 * k, 300), 0) for k, kind in enumerate([14, 25, 26, 16, 17] * 4)] * 5
    mines = [(24 * 3 + 6 * k, 300) for k in range(160)]
    made = level(CORRIDOR, here(2), others=movers, mines=mines)
    scene, state = running(made.map_data, 2)
    scene.picture(state, 0)
    taken = []
    for _ in range(30):
        step(scene, state, b"\0")
        began = time.perf_counter()
        scene.picture(state, 0)
        taken.append(time.perf_counter() - began)
    assert np.median(taken) < 1 / 60


def test_bad_scenes():
    with pytest.raises(ValueError, match="scale 0"):
        Scene(open_map(), 0)
    with pytest.raises(ValueError, match="orientation 9"):
        Scene(open_map((10, 50, 50, 9, 0)))
