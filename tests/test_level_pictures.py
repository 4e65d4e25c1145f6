"""Pictures of levels dim what the ninja cannot reach, mark each second of a path, and show entities when small."""

import numpy as np
from hand_made import ground, level, middle
from PIL import Image

from npp_rl.viewing import shapes
from npp_rl.viewing.render import close_up, contact_sheet, draw_level, reachable, reachable_box

# A room of 6 x 3 cells with the ninja, and another one without a way in between.
ROOMS = ground((2, 2, 7, 4), (20, 10, 30, 15))
TWO_ROOMS = level(ROOMS, middle(2, 4), [(middle(7, 4), middle(5, 4))], mines=[middle(4, 4), middle(25, 15)])


def test_space_without_a_way_in_is_not_reachable():
    found = reachable(TWO_ROOMS.map_data)
    x, y = middle(4, 3)
    assert found[y // 6, x // 6]
    x, y = middle(25, 12)
    assert not found[y // 6, x // 6]
    left, top, right, bottom = reachable_box(TWO_ROOMS.map_data)
    assert (left, top) == (48 + 12 - 30, 48 + 12 - 30) and (right, bottom) == (192 - 12 + 30, 120 - 12 + 30)
    in_the_ground = level(ROOMS, middle(40, 20))
    assert reachable(in_the_ground.map_data).all()


def test_what_cannot_be_reached_is_dimmed():
    picture = draw_level(TWO_ROOMS, 1).astype(int)
    x, y = middle(4, 2)
    assert tuple(picture[y, x]) == shapes.BACKGROUND
    x, y = middle(25, 12)
    far = np.abs(picture[y, x] - shapes.TILE).max()
    assert 0 < far < 0.35 * np.abs(np.subtract(shapes.BACKGROUND, shapes.TILE)).max()
    mine = [picture[y - 6 : y + 6, x - 6 : x + 6].std() for x, y in (middle(4, 4), middle(25, 15))]
    assert mine[1] < 0.4 * mine[0]


def test_each_second_of_a_path_is_marked():
    path = np.column_stack([np.linspace(60, 180, 400), np.full(400, 72.0)])  # 6.65 s
    one, other = (draw_level(TWO_ROOMS, 2, trajectories=[(path[::step], "won")]).astype(int) for step in (1, 100))
    different = np.abs(one - other).sum(2) > 60
    columns = np.flatnonzero(different[2 * 72 - 6 : 2 * 72 + 7].any(0)) / 2
    seconds = path[60::60, 0]
    assert all(np.abs(columns - second).min() < 3 for second in seconds)
    between = (seconds[1:] + seconds[:-1]) / 2
    assert all(np.abs(columns - x).min() > 4 for x in between[:3])
    assert different[2 * 56 : 2 * 66].any(), "the fifth has its number above it"


def test_entities_are_seen_in_a_contact_sheet(tmp_path):
    contact_sheet([TWO_ROOMS], tmp_path / "sheet.png", columns=1)
    with Image.open(tmp_path / "sheet.png") as image:
        sheet = np.asarray(image.convert("RGB")).astype(int)
    red = (np.abs(sheet - shapes.DEADLY).max(2) < 40).sum()
    x, y = 8 + middle(4, 4)[0] / 3, 8 + middle(4, 4)[1] / 3
    dark = (sheet[round(y) - 5 : round(y) + 6, round(x) - 5 : round(x) + 6].sum(2) < 200).sum()
    assert red >= 6 and dark >= 12, (red, dark)


def test_a_close_up_shows_what_can_be_reached_and_little_else():
    path = np.column_stack([np.linspace(60, 180, 100), np.full(100, 108.0)])
    picture = close_up(TWO_ROOMS, ["a level", "died (mine) after 1.7 s"], [(path, "died", "mine")])
    assert picture.shape == (2 * 160 + 52, 2 * 352, 3), "twice as large"
    reds = np.abs(picture.astype(int) - shapes.DEADLY).max(2) < 30
    assert reds[:, : 2 * 200].any() and not reds[:, 2 * 230 :].any(), "the mine in the other room is not on it"
    assert (picture[:52] == shapes.PAPER).all(-1).any(), "text"
    everything = level(ground((1, 1, 42, 23)), middle(2, 4))
    assert close_up(everything, ["x"]).shape == (588 + 30, 1044, 3)
