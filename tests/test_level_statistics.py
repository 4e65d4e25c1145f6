import numpy as np
import pytest

from npp_rl.commands import ArgumentError
from npp_rl.levels import statistics
from npp_rl.levels.maps import Level, encode_map


def corridor(*records, tiles=()):
    """A corridor 20 tiles long and 2 high: ninja at the left, switch in the middle, exit at the right."""
    grid = np.ones((23, 42), np.uint8)
    grid[10:12, 4:24] = 0
    for row, column, tile in tiles:
        grid[row, column] = tile
    entities = [(0, 22, 50, 0, 0), (3, 98, 50, 0, 0), (4, 62, 50, 0, 0), *records]
    return Level(encode_map(grid, np.array(entities)), "corridor", "own")


def test_measures_of_a_corridor():
    mines = [(1, 40, 47, 0, 0), (21, 41, 47, 0, 0), (1, 150, 100, 0, 0)]
    level = corridor(*mines, (2, 30, 50, 0, 0), (6, 80, 50, 0, 0), (7, 30, 50, 0, 0), tiles=[(11, 15, 8)])
    row = {name: values[0] for name, values in statistics.measure([level]).items()}
    assert row["width (tiles)"] == 20 and row["height (tiles)"] == 2
    assert row["empty tiles"] == pytest.approx(39 / 88) and row["full tiles"] == pytest.approx(48 / 88)
    assert row["slopes 1:1"] == pytest.approx(1 / 88) and row["tile families"] == 1
    assert row["has a way"] == 1 and 440 < row["way (px)"] < 470  # 76 units of 6 px, less the radius of the exit
    assert row["mines"] == 3 and row["gold"] == 1 and row["entity kinds"] == 3
    assert row["mines beside the way"] == 2 and 0.05 < row["way beside mines"] < 0.2
    assert row["with locked doors"] == 1 and row["with drones"] == 0
    assert row["verticality"] < 0.2 and row["symmetry"] == pytest.approx(86 / 88)
    empty = statistics.measure([corridor()])
    assert empty["symmetry"][0] == 1 and empty["mines"][0] == 0 and empty["way beside mines"][0] == 0


def test_the_way_leads_around_mines_where_that_is_possible():
    free, _ = statistics.way(corridor())
    np.testing.assert_array_equal(free[0], (132, 300))
    assert (abs(free[:, 1] - 300) < 6).all() and (np.diff(free[:, 0]) > 0).all()
    around, length = statistics.way(corridor((1, 40, 51, 0, 0)))
    assert np.hypot(*(around - (240, 306)).T).min() >= 12 and length > 456 - 22
    shut, length = statistics.way(corridor(*[(1, 40, y, 0, 0) for y in (44, 46, 48, 50, 52)]))
    np.testing.assert_array_equal(shut, free)
    none, length = statistics.way(corridor(tiles=[(10, 12, 1), (11, 12, 1)]))
    assert len(none) == 0 and length == 0


def test_what_has_no_way_counts_in_what_it_has():
    levels = [corridor(), corridor(tiles=[(10, 12, 1), (11, 12, 1)])]
    both, one = statistics.means(levels), statistics.means(levels[:1])
    assert both["has a way"] == 0.5 and both["verticality"] == one["verticality"]


def test_the_command_prints_a_column_for_each_data_set(tmp_path, capsys):
    (tmp_path / "level").write_bytes(corridor().map_data)
    statistics.main(statistics.Args((str(tmp_path), str(tmp_path / "level")), groups=True))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"| | {tmp_path} static (1) | {tmp_path / 'level'} static (1) |"
    assert "| has a way | 1.00 | 1.00 |" in lines
    with pytest.raises(ArgumentError, match="expected a data set"):
        statistics.main(statistics.Args(()))
