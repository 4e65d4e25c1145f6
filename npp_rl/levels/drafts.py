"""Drafts of procedural levels: what a draft holds, draws that are the same on every machine, common parts of rooms.

Positions in rooms are cells (column 0..41, row 0..22) of the stored tiles; entities lie in map units of 6 px.
"""

import numpy as np

from npp_rl.levels.maps import COLUMNS, ROWS

MINE, GOLD, LOCKED_DOOR, DOOR_SWITCH, TRAP_DOOR, TRAP_SWITCH = 1, 2, 6, 7, 8, 9  # record types (PHYSICS.md 2.1)
LAUNCH_PAD, ONE_WAY, TOGGLE_MINE = 10, 11, 21
UP = 6  # orientation of a one-way platform to stand on, and of a launch pad that throws upwards


class Dice:
    """Random integers, the same on every machine and with every NumPy: raw 64-bit output of PCG64, scaled by hand."""

    def __init__(self, *entropy: int):
        self._bits = np.random.PCG64(np.random.SeedSequence(entropy))
        self._pool = []

    def below(self, n: int) -> int:
        """0..n - 1."""
        if not self._pool:
            self._pool = self._bits.random_raw(128).tolist()
        return self._pool.pop() * n >> 64

    def between(self, low: int, high: int) -> int:
        """low..high, both included; low if high is less."""
        return low + self.below(max(high - low, 0) + 1)

    def chance(self, percent: int) -> bool:
        return self.below(100) < percent

    def pick(self, options):
        return options[self.below(len(options))]

    def sample(self, options, count: int) -> list:
        """Up to `count` different options, in random order."""
        options = list(options)
        count = min(count, len(options))
        for i in range(count):
            j = i + self.below(len(options) - i)
            options[i], options[j] = options[j], options[i]
        return options[:count]

    def array(self, count: int, n: int) -> np.ndarray:
        """int64 [count] of 0..n - 1."""
        return ((self._bits.random_raw(count) >> np.uint64(32)) % np.uint64(n)).astype(np.int64)


class Draft:
    """A level that is being drawn: tiles uint8 [23, 42], all rock at first, and entities in map units."""

    def __init__(self, dice: Dice):
        self.dice = dice
        self.tiles = np.ones((ROWS, COLUMNS), np.uint8)
        self.ninja = self.switch = self.exit = None
        self.mines = []  # (type, x, y)
        self.extras = []  # whole records (type, x, y, orientation, mode), locked doors followed by their switch
        self.softened = None  # percent of corners that become slopes and curves; drawn at random unless set

    def open(self, left: int, top: int, right: int, bottom: int) -> None:
        """Carve the cells of a rectangle, borders included."""
        self.tiles[top : bottom + 1, left : right + 1] = 0

    def fill(self, left: int, top: int, right: int, bottom: int) -> None:
        self.tiles[top : bottom + 1, left : right + 1] = 1

    def mine(self, column: int, row: int, dx: int = 2, dy: int = 2) -> None:
        """Put a mine into a cell, dx and dy quarters of a tile from its corner; most are deadly from the start."""
        self.mines.append((MINE if self.dice.chance(65) else TOGGLE_MINE, 4 * column + 4 + dx, 4 * row + 4 + dy))

    def place(self, ninja, switch, exit) -> None:
        """Put the three into the middle of these cells (column, row)."""
        self.ninja, self.switch, self.exit = ((4 * c + 6, 4 * r + 6) for c, r in (ninja, switch, exit))

    def place_any(self, spots) -> None:
        """Put ninja, switch and exit into three of the spots, mostly along the way from the first to the last."""
        a, b, c = spots[0], spots[len(spots) // 2], spots[-1]
        order = self.dice.below(10)
        if order < 5:
            self.place(a, b, c)
        elif order < 8:
            self.place(a, c, b)
        else:
            self.place(b, *self.dice.pick(((a, c), (c, a))))


def carve_room(d: Draft, width, height) -> tuple[int, int, int, int]:
    """Carve a rectangular room of a size within the ranges -> (left, top, right, floor), cells."""
    dice = d.dice
    w, h = dice.between(*width), dice.between(*height)
    left, top = dice.between(0, COLUMNS - w), dice.between(0, ROWS - h)
    d.open(left, top, left + w - 1, top + h - 1)
    return left, top, left + w - 1, top + h - 1


def floor_mines(d: Draft, left: int, right: int, floor: int, count: int) -> None:
    """Put single mines on free floor, away from ninja, switch, exit and from each other."""
    taken = [(x - 6) // 4 for x, _ in (d.ninja, d.switch, d.exit)]
    for column in d.dice.sample(range(left + 1, right + 1), right - left):
        if count <= 0:
            break
        on_floor = not d.tiles[floor, column - 1 : column + 1].any()
        on_floor &= d.tiles[min(floor + 1, ROWS) :, column - 1 : column + 1][:1].all()
        if on_floor and all(column - c not in (-1, 0, 1, 2) for c in taken):
            d.mine(column, floor, 0, 4)
            taken += [column - 1, column + 1]
            count -= 1
