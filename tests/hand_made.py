"""Levels made by hand: open cells in solid ground, entities at places in px."""

import numpy as np

from npp_rl.levels.maps import Level, encode_map


def ground(*rectangles):
    """Tiles uint8 [23, 42]: solid but for the cells of rectangles (first column, first row, last column, last row)."""
    tiles = np.ones((23, 42), np.uint8)
    for left, top, right, bottom in rectangles:
        tiles[top - 1 : bottom, left - 1 : right] = 0
    return tiles


def middle(column, row):
    """Middle of a cell, px."""
    return 24 * column + 12, 24 * row + 12


def level(tiles, spawn, exits=(), mines=(), toggle_mines=(), locked=(), trap=(), others=(), name="hand-made"):
    """A level; all places in px.

    exits: (door, switch); locked, trap: (door, orientation, switch); others: records (type, place, orientation, mode).
    """

    def record(kind, place, orientation=0, mode=0):
        return [kind, place[0] // 6, place[1] // 6, orientation, mode]

    records = [record(0, spawn)]
    records += [record(3, door) for door, _ in exits] + [record(4, switch) for _, switch in exits]
    records += [record(1, place) for place in mines] + [record(21, place) for place in toggle_mines]
    for kind, doors in ((6, locked), (8, trap)):
        for door, orientation, switch in doors:
            records += [record(kind, door, orientation), record(kind + 1, switch)]
    records += [record(*other) for other in others]
    return Level(encode_map(tiles, records), name, "uncategorized")


# One row of cells, 24 px high: the free positions of the ninja on the lattice are the line y = 300.
ROW = 12
CORRIDOR = ground((1, ROW, 42, ROW))


def here(column):
    """Middle of a cell of the corridor, px."""
    return middle(column, ROW)


def corridor(spawn=5, switch=12, door=20, **more):
    """The corridor with spawn, exit switch and exit door in these columns."""
    return level(CORRIDOR, here(spawn), [(here(door), here(switch))], **more)
