"""A drawn level's ground, and the way that is laid through it: ninja, switch, exit, locked doors and their switches.

Places are nodes of fields.py: a quarter of a tile, the unit of map coordinates.
"""

import numpy as np

from npp_rl.levels import climbing, fields
from npp_rl.levels.drafts import COLUMNS, DOOR_SWITCH, LOCKED_DOOR, ROWS, Dice

COLS, NODES = fields.COLS, fields.NODES
IN_AIR = 18.0  # px more to keep from the way where it leads through the air, or up a wall by wall jumps


def weighted(dice: Dice, options):
    """One of the options [(weight, option)]."""
    ticket = dice.below(sum(weight for weight, _ in options))
    for weight, option in options:
        ticket -= weight
        if ticket < 0:
            return option
    raise AssertionError


class Scene:
    """A level that is being drawn: tiles, free space, the way, and what stands where. Places are nodes of fields.py."""

    def __init__(self, tiles: np.ndarray, dice: Dice):
        self.dice = dice
        self.tiles = tiles
        self.bordered = np.ones((ROWS + 2, COLUMNS + 2), np.uint8)
        self.bordered[1:-1, 1:-1] = tiles
        self.ground, self.lift = np.empty(NODES, np.uint8), np.empty(NODES, np.uint8)
        fields.level_free(self.bordered, self.ground)
        climbing.supports(self.ground, self.lift)
        self.free = self.ground.copy()  # without what stands in the way
        self.best, self.first = np.empty(NODES, np.int16), np.empty(NODES, np.int32)
        self.kept = np.zeros(NODES, np.uint8)  # near the way: nothing that kills
        self.legs = []  # of the way: lists of nodes
        self.ninja = self.switch = self.exit = -1  # nodes, which `start` and `lay_way` choose
        self.mines, self.records = {}, []  # node -> record type; (type, x, y, orientation, mode)
        self.taken = set()  # tiles with something that is larger than a mine

    def spread(self, start: int) -> int:
        """Find out where the ninja gets to from a node (`climbing.spread`) -> number of entries."""
        return climbing.spread(self.free, self.lift, start, self.best, self.first, ENTRIES)

    def way_to(self, node: int) -> list[int]:
        """The nodes of the way to a node, after `spread`; none if it was not reached."""
        way, entry = [], self.first[node]
        while entry >= 0:
            way.append(int(ENTRIES[entry, 0]))
            entry = ENTRIES[entry, 2]
        return way[::-1]

    def keep_way(self, node: int, radius: float) -> None:
        """Keep the way to a node, after `spread`, free of what kills, and note it."""
        entry = self.first[node]
        on_floor = (self.lift == climbing.FLOOR).astype(np.uint8)
        climbing.mark_way(ENTRIES, entry, on_floor, radius, radius + IN_AIR, self.kept)
        self.legs.append(self.way_to(node))

    def far(self, share: int, standing: int) -> int | None:
        """A node among the farthest `share` percent of those reached; standing: percent that lie on ground."""
        reached = np.flatnonzero(self.first >= 0)
        if self.dice.chance(standing):
            reached = reached[self.lift[reached] == climbing.FLOOR]
        if len(reached) < 4:
            return None
        steps = ENTRIES[self.first[reached], 3]
        order = reached[np.argsort(steps, kind="stable")]
        return int(order[len(order) - 1 - self.dice.below(max(len(order) * share // 100, 1))])


ENTRIES = np.empty((climbing.MOST_ENTRIES, 4), np.int32)


def place_of(node):
    return node % COLS, node // COLS


def start(s: Scene) -> bool:
    """Put the ninja on a floor from which it gets far."""
    lift = s.lift
    floor = np.flatnonzero(lift == climbing.FLOOR)
    floor = floor[(lift[floor - 1] == climbing.FLOOR) & (lift[floor + 1] == climbing.FLOOR)]
    if len(floor) < 8:
        return False
    for _ in range(3):
        s.ninja = int(floor[s.dice.below(len(floor))])
        s.spread(s.ninja)
        if (s.first >= 0).sum() > 120:
            return True
    return False


def doors_at(s: Scene, node: int) -> list[tuple[int, int, int]] | None:
    """Doors (x, y, orientation) that close the passage at a node, a row of at most eight; None if none do."""
    i, j = place_of(node)
    options = []
    for upright in (True, False):
        if (i if upright else j) % 4:
            continue
        step = COLS if upright else 1
        low = high = node
        while s.ground[low - step] and node - low < 32 * step:
            low -= step
        while s.ground[high + step] and high - node < 32 * step:
            high += step
        along = 1 if upright else 0
        a, b = place_of(low)[along], place_of(high)[along]
        first, last = (a - 1) // 4, (b + 1) // 4  # tiles that the passage crosses
        if last - first < 8:
            spots = [4 * tile + 2 for tile in range(first, last + 1)]
            options.append([(i, t, 0) if upright else (t, j, 2) for t in spots])
    return s.dice.pick(options) if options else None


def _shut(s: Scene, doors) -> np.ndarray:
    """`free` with these doors closed."""
    free = s.free.copy()
    for x, y, orientation in doors:
        dx, dy = (0, 2) if orientation == 0 else (2, 0)
        fields.block_segment(free, 6.0 * (x - dx), 6.0 * (y - dy), 6.0 * (x + dx), 6.0 * (y + dy))
    return free


def _lock(s: Scene, start: int, goal: int, way: list[int], radius: float):
    """Bar a way with locked doors -> the node of their switch, from which the goal can be got to; None if none fits."""
    tries = 0
    for at in s.dice.sample(range(len(way) // 6, len(way)), 40):
        doors = doors_at(s, way[at])
        if doors is None:
            continue
        tries += 1
        if tries > 4:
            return None
        whole, s.free = s.free, _shut(s, doors)
        if not all(s.free[node] for leg in s.legs for node in leg):  # they would bar what comes before
            s.free = whole
            continue
        s.spread(start)
        barred = s.first[goal] < 0
        key = s.far(70, 85) if barred else None
        if key is not None:
            s.keep_way(key, radius)
        s.free = whole
        if key is None:
            continue
        s.spread(key)
        if s.first[goal] < 0:
            s.legs.pop()
            continue
        x, y = place_of(key)
        for door in doors:
            s.records += [(LOCKED_DOOR, *door, 0), (DOOR_SWITCH, x, y, 0, 0)]
        return key
    return None


def lay_way(s: Scene, locks: int) -> bool:
    """Choose switch and exit, and bar the way with locked doors up to a number of times."""
    dice = s.dice
    radius = float(dice.pick((19, 19, 21, 21, 24, 30)))
    here = s.ninja
    for k, standing in ((0, 70), (1, 60)):
        goal = s.far(dice.pick((100, 50, 30, 15)), standing)
        if goal is None or goal in (here, s.ninja):
            return False
        way = s.way_to(goal)
        if locks and len(way) > 20:
            key = _lock(s, here, goal, way, radius)
            locks -= 1
            if key is None:
                s.spread(here)
        s.keep_way(goal, radius)
        here = goal
        if k == 0:
            s.switch = goal
            s.spread(goal)
        else:
            s.exit = goal
    i, j = place_of(s.ninja)
    rows, columns = np.divmod(np.arange(NODES), COLS)
    s.kept[(rows - j) ** 2 + (columns - i) ** 2 < dice.pick((36, 49, 100))] = 1
    return True
