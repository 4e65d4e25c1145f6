"""Near-copies: the distance of levels, and that no built-in test level and no fresh level is one."""

import numpy as np
import pytest
from hand_made import CORRIDOR, here, level

from npp_rl.levels import builtin, datasets
from npp_rl.levels.copies import NEAR, distance_to_nearest, near_copies, playable_part
from npp_rl.levels.maps import MIRRORED, encode_map, mirrored


def with_tiles(tiles, **more):
    return level(tiles, here(5), [(here(20), here(12))], **more)


def changed(count, row=12):
    """Tiles of the corridor, but `count` of them in a row (counted from 0; the floor is row 12) are other ones."""
    tiles = CORRIDOR.copy()
    tiles[row, :count] = 2
    return tiles


def test_distance_by_hand():
    corridor = with_tiles(CORRIDOR)
    assert playable_part(corridor).sum() == 3 * 42  # the corridor, its floor and its ceiling
    floor = with_tiles(changed(7))
    far = with_tiles(changed(20, row=2))  # beyond the ceiling
    moved = level(CORRIDOR, here(30), [(here(2), here(40))], mines=[here(9)])
    assert distance_to_nearest([corridor, floor, far, moved], [corridor]).tolist() == [0, 7, 0, 0]
    assert distance_to_nearest([floor], [far, corridor]).tolist() == [7]
    assert distance_to_nearest([mirrored(floor)], [floor]).tolist() == [0]
    assert distance_to_nearest([mirrored(floor)], [corridor], 5).tolist() == [5]  # 7, but no more than asked for
    assert distance_to_nearest([floor], []).tolist() == [966] and not len(distance_to_nearest([], [floor]))
    made = [with_tiles(changed(count)) for count in (0, 1, NEAR, NEAR + 1, 42)]
    assert near_copies(made, [corridor]) == made[:3]
    assert near_copies(made, []) == near_copies([], made) == []


def test_all_tiles_count_where_the_ninja_starts_in_rock_or_outside():
    tiles = changed(3, row=2)
    inside, other = level(CORRIDOR, (600, 60)), level(tiles, (600, 60))
    outside = level(tiles, (1500, 1500))
    assert distance_to_nearest([inside, outside], [other]).tolist() == [3, 0]
    assert distance_to_nearest([inside], [outside]).tolist() == [3]


def plain_distance(one, other):
    here = playable_part(one) | playable_part(other)
    turned = playable_part(one) | playable_part(other)[:, ::-1]
    return min(
        ((one.tiles != other.tiles) & here).sum(),
        ((one.tiles != MIRRORED[other.tiles[:, ::-1]]) & turned).sum(),
    )


def test_distance_counts_tiles():
    test, train = builtin.builtin("test")[::9], builtin.builtin("train")[::60]
    expected = [min(plain_distance(one, other) for other in train) for one in test]
    assert distance_to_nearest(test, train).tolist() == expected
    assert len(set(expected)) > 15


def test_no_built_in_test_level_is_a_near_copy_of_a_training_level():
    """Validation levels are some of the training levels."""
    train, test = builtin.builtin("train"), builtin.builtin("test")
    nearest = distance_to_nearest(test, train)
    assert [level.id for level, distance in zip(test, nearest, strict=True) if distance <= NEAR] == []
    tiles = np.stack([level.tiles for level in train]).reshape(len(train), -1)
    for level_ in test:  # the same in all 966 tiles
        for shown in (level_, mirrored(level_)):
            assert (tiles != shown.tiles.reshape(-1)).sum(1).min() > NEAR, level_.id


def variant(original, count):
    """A level with `count` other tiles in its walls, in the mirror."""
    tiles = original.tiles.copy()
    spots = np.argwhere(playable_part(original) & (tiles == 1))[:count]
    tiles[tuple(spots.T)] = 33
    return mirrored(type(original)(encode_map(tiles, original.entities), f"variant {count}", original.category))


def test_fresh_levels_are_no_near_copies_of_held_out_ones():
    train, _, _ = datasets.load_split("builtin", "builtin", 0.2, 0.05)
    free = datasets.training_levels(train[:9], [], False, 90, 0.0, seed=5)
    fresh = free[9:]
    large = [level for level in fresh if len(np.argwhere(playable_part(level) & (level.tiles == 1))) > 20]
    near, far = large[3], large[10]
    held_out = [variant(near, 4), variant(far, 16)]
    assert distance_to_nearest([near, far], held_out).tolist() == [4, 16]
    made = datasets.training_levels(train[:9], held_out, False, 90, 0.0, seed=5)
    assert made[:9] == train[:9]
    refused = [level for level in free if level not in made]
    assert near in refused and far not in refused and len(refused) <= 3
    assert all(level in near_copies(fresh, held_out) for level in refused)


@pytest.mark.parametrize("count", [3, 20])
def test_near_copies_in_data_sets_are_named(tmp_path, capsys, count):
    for name, tiles in (("train/a", CORRIDOR), ("test/b", changed(count)), ("test/c", changed(42))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(with_tiles(tiles).map_data)
    train, _, test = datasets.load_split(str(tmp_path / "train"), str(tmp_path / "test"), 0.2, 0.0)
    assert (len(train), len(test)) == (1, 2)
    said = capsys.readouterr().err
    assert ("1 of 2 test levels are near-copies of training levels" in said and ": b" in said) == (count == 3)
    assert said.count("\n") == (count == 3)
