"""Procedural levels in nine categories of rising difficulty, and in the categories of drawn levels (drawn.py).

A category and a seed determine a level: every draw is an integer that comes from PCG64's raw output, so the levels are
the same on every machine. kinds.py lists the kinds of level of each category, and rooms.py and courses.py draw drafts
of them. A draft is taken if the ninja's circle can get to the switch and on to the exit, around all mines, and through
all doors whose switches it can reach before.
"""

import hashlib
from dataclasses import replace

import numpy as np

from npp_rl.levels import drawn, fields
from npp_rl.levels.categories import CATEGORIES, DRAWN_CATEGORIES
from npp_rl.levels.drafts import COLUMNS, GOLD, LOCKED_DOOR, ROWS, Dice, Draft
from npp_rl.levels.kinds import BESET, KINDS, LEAST_MINES, MORE_KINDS
from npp_rl.levels.maps import MIRRORED, Level, encode_map, mirrored
from npp_rl.simulator.compiled import njit

ATTEMPTS = 2000  # most drafts for one level; in every category far more than one in 20 is usable

_MIDDLE = 2 * (COLUMNS + 2)  # x of the field's middle in map units

# Tiles for a corner: line, curve, low line, steep line. _HOLLOW is for corners of rooms with rock at the lower left,
# lower right, upper left, upper right; _EDGE is for edges of rock that are open at these places.
_HOLLOW = ((9, 17, 21, 29), (8, 16, 20, 28), (6, 14, 18, 26), (7, 15, 19, 27))
_EDGE = ((8, 12, 24, 32), (9, 13, 25, 33), (7, 11, 23, 31), (6, 10, 22, 30))


@njit
def _flood(free, stack, node):
    """Mark with 2 all nodes reached from `node` through free ones. free: uint8 [NODES]; stack: int32 [NODES]."""
    size = 1
    stack[0] = node
    free[node] = 2
    while size:
        size -= 1
        node = stack[size]
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                m = node + dy * fields.COLS + dx
                if free[m] == 1:
                    free[m] = 2
                    stack[size] = m
                    size += 1


@njit
def _block(free, x, y, radius, half):
    """Take the nodes nearer than radius to the vertical line from (x, y - half) to (x, y + half) out of `free`."""
    i, j = int(x / 6.0), int(y / 6.0)
    for row in range(max(j - 5, 0), min(j + 6, fields.ROWS)):
        for column in range(max(i - 3, 0), min(i + 4, fields.COLS)):
            dx, dy = 6.0 * column - x, max(abs(6.0 * row - y) - half, 0.0)
            if dx * dx + dy * dy < radius * radius:
                free[row * fields.COLS + column] = 0


@njit
def _touched(free, x, y, radius):
    """Whether a reached node lies within radius px of (x, y)."""
    i, j = int(x / 6.0), int(y / 6.0)
    for row in range(max(j - 4, 0), min(j + 5, fields.ROWS)):
        for column in range(max(i - 4, 0), min(i + 5, fields.COLS)):
            dx, dy = 6.0 * column - x, 6.0 * row - y
            if free[row * fields.COLS + column] == 2 and dx * dx + dy * dy < radius * radius:
                return True
    return False


@njit
def _playable(tiles, mines, doors, ninja, switch, goal, close, ground, free, stack):
    """Whether the ninja can get to the switch and to the exit.

    It has to go around all mines, also those that are not deadly at first, and through locked doors whose switches it
    reaches before.

    tiles: uint8 [25, 44]. mines: float64 [m, 2] px. doors: float64 [k, 4], x, y of vertical doors and x, y of their
    switches, px. ninja, switch, goal: float64 [2] px. close: whether the ninja may run below a mine at 14 px, which
    does not touch. Scratch: ground, free uint8 [NODES], stack int32 [NODES].
    """
    fields.level_free(tiles, ground)
    for k in range(mines.shape[0]):
        dx, dy = mines[k, 0] - ninja[0], mines[k, 1] - ninja[1]
        if dx * dx + dy * dy < (20.0 * 20.0 if close else 30.0 * 30.0):
            return False
        if close:
            fields.block_circle(ground, mines[k, 0], mines[k, 1], fields.BLOCK_MINE)
        else:  # more than the reach of a touched toggle mine, 14.5 px (PHYSICS.md 5.3)
            _block(ground, mines[k, 0], mines[k, 1], 15.0, 0.0)
    for node in range(fields.NODES):
        ground[node] = ground[node] != 0
    start = int(ninja[1] / 6.0) * fields.COLS + int(ninja[0] / 6.0)
    if not ground[start]:
        return False
    shut = doors.shape[0]
    opened = np.zeros(shut, np.uint8)
    while True:
        for node in range(fields.NODES):  # `free[:] = ground` would take three seconds to compile
            free[node] = ground[node]
        for k in range(doors.shape[0]):
            if not opened[k]:
                _block(free, doors[k, 0], doors[k, 1], 10.0, 12.0)
        _flood(free, stack, start)
        before = shut
        for k in range(doors.shape[0]):
            if not opened[k] and _touched(free, doors[k, 2], doors[k, 3], fields.TOUCH_DOOR_SWITCH):
                opened[k] = 1
                shut -= 1
        if shut == before:
            break
    return (
        shut == 0
        and _touched(free, switch[0], switch[1], fields.TOUCH_SWITCH)
        and _touched(free, goal[0], goal[1], fields.TOUCH_EXIT)
    )


_ground, _free = np.empty(fields.NODES, np.uint8), np.empty(fields.NODES, np.uint8)
_stack = np.empty(fields.NODES, np.int32)


def _is_playable(draft: Draft, close: bool = False) -> bool:
    tiles = np.ones((ROWS + 2, COLUMNS + 2), np.uint8)
    tiles[1:-1, 1:-1] = draft.tiles
    mines = np.array([(6.0 * x, 6.0 * y) for _, x, y in draft.mines]).reshape(-1, 2)
    pairs = [(door, key) for door, key in zip(draft.extras, draft.extras[1:], strict=False) if door[0] == LOCKED_DOOR]
    doors = np.array([(6.0 * a[1], 6.0 * a[2], 6.0 * b[1], 6.0 * b[2]) for a, b in pairs]).reshape(-1, 4)
    three = (6.0 * np.array(spot) for spot in (draft.ninja, draft.switch, draft.exit))
    return _playable(tiles, mines, doors, *three, close, _ground, _free, _stack)


def _soften(draft: Draft) -> None:
    """Put slopes and curves into some corners of rooms and on some edges of rock."""
    dice, tiles = draft.dice, draft.tiles
    share = draft.softened or dice.pick((0, 0, 0, 0, 15, 15, 40, 40, 80))
    if not share:
        return
    style = dice.pick((0, 0, 1, None)) if draft.softened is None else dice.below(2)
    padded = np.ones((ROWS + 2, COLUMNS + 2), np.uint8)
    padded[1:-1, 1:-1] = tiles
    empty, full = padded == 0, padded == 1
    held = {(x // 4 - 1, y // 4 - 1) for x, y in (draft.ninja, draft.switch, draft.exit)}
    held |= {(x // 4 - 1 + i, y // 4 - 1 + j) for _, x, y in draft.mines for i in (-1, 0) for j in (-1, 0)}
    held |= {(x // 4 - 1 + i, y // 4 - 1) for _, x, y, _, _ in draft.extras for i in (-1, 0, 1)}
    for kind, (vertical, horizontal) in enumerate(((1, -1), (1, 1), (-1, -1), (-1, 1))):
        # A hollow corner: rock beside and below (or above) it, open on all other sides.
        inner = empty[1:-1, 1:-1] & _at(full, 0, horizontal) & _at(full, vertical, 0)
        inner &= _at(empty, 0, -horizontal) & _at(empty, -vertical, 0) & _at(empty, -vertical, -horizontal)
        # An edge: the opposite way round, with rock behind it.
        outer = full[1:-1, 1:-1] & _at(empty, 0, horizontal) & _at(empty, -vertical, 0)
        outer &= _at(empty, -vertical, horizontal) & _at(full, 0, -horizontal) & _at(full, vertical, 0)
        for where, choice in ((inner, _HOLLOW[kind]), (outer, _EDGE[kind])):
            for place in np.flatnonzero(where).tolist():
                row, column = divmod(place, COLUMNS)
                if where is outer and kind >= 2 and not tiles[row + 2 : row + 4, column].any() and row + 3 < ROWS:
                    continue  # a jump has to reach the upright wall above the edge
                if dice.chance(share) and (column, row) not in held:
                    tiles[row, column] = choice[dice.below(4) if style is None else style]


def _beset(draft: Draft) -> None:
    """Put mines beside the goals, two to six quarters of a tile away, and near the start, if that can be played."""
    dice = draft.dice
    for (x, y), nearest in ((draft.switch, 2), (draft.exit, 2), (draft.ninja, 4)):
        for _ in range(dice.pick((0, 1, 1, 2))):
            dx, dy = dice.between(-6, 6), dice.pick((2, 2, -2, -2, -6, -4, 0, 6))
            before = list(draft.mines)
            if max(abs(dx), abs(dy)) >= nearest:
                draft.mine(0, 0, x + dx - 4, y + dy - 4)
                if not _is_playable(draft, True):
                    draft.mines = before
    _is_playable(draft, True)  # marks where the ninja gets, for gold


def _roughen(draft: Draft) -> None:
    """Put tiles of any shape into some or all places of floors, walls and ceilings, if that can be played."""
    dice, whole = draft.dice, draft.tiles.copy()
    padded = np.ones((ROWS + 2, COLUMNS + 2), np.uint8)
    padded[1:-1, 1:-1] = whole
    beside = np.zeros(whole.shape, bool)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            beside |= _at(padded == 0, dy, dx)
    share = dice.pick((25, 50, 100))
    for place in np.flatnonzero((whole == 1) & beside).tolist():
        if dice.chance(share):
            draft.tiles[divmod(place, COLUMNS)] = 1 + dice.below(33)
    if not _is_playable(draft, True):
        draft.tiles = whole
        _is_playable(draft, True)  # marks again where the ninja gets, for gold


def _at(mask: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """The mask [25, 44] at the inner cells' neighbours (dx, dy): bool [23, 42]."""
    return mask[1 + dy : ROWS + 1 + dy, 1 + dx : COLUMNS + 1 + dx]


def _fill_outside(draft: Draft) -> None:
    """Fill what lies beyond the walls with rock, rubble of all tiles, or empty space, and sometimes with mines."""
    dice, tiles = draft.dice, draft.tiles
    style = dice.below(10)
    near = np.zeros((ROWS + 2, COLUMNS + 2), bool)
    near[1:-1, 1:-1] = tiles != 1
    near = near[:-2] | near[1:-1] | near[2:]
    near = near[:, :-2] | near[:, 1:-1] | near[:, 2:]
    outside = ~near
    if style >= 4:
        noise = (1 + dice.array(ROWS * COLUMNS, 33)).astype(np.uint8).reshape(ROWS, COLUMNS)
        if style >= 8:
            noise[:] = 0
        tiles[outside] = noise[outside]
        if style == 7:  # rough walls and ceilings; floors stay whole
            rough = (tiles == 1) & near
            rough[1:] &= tiles[:-1] == 1
            tiles[rough] = noise[rough]
    if dice.chance(30):
        spots = np.flatnonzero(outside).tolist()
        for spot in dice.sample(spots, dice.between(5, 60)):
            row, column = divmod(spot, COLUMNS)
            draft.mine(column, row, 2, 2)


def _mirror(draft: Draft) -> None:
    draft.tiles = MIRRORED[draft.tiles[:, ::-1]]
    draft.ninja, draft.switch, draft.exit = ((2 * _MIDDLE - x, y) for x, y in (draft.ninja, draft.switch, draft.exit))
    draft.mines = [(t, 2 * _MIDDLE - x, y) for t, x, y in draft.mines]
    draft.extras = [(t, 2 * _MIDDLE - x, y, o, m) for t, x, y, o, m in draft.extras]


def _kind(category: str, dice: Dice, more: bool) -> tuple:
    """Choose one of a category's kinds of level by weight -> (the function that draws it, its arguments)."""
    kinds = KINDS[category] + (MORE_KINDS.get(category, ()) if more else ())
    ticket = dice.below(sum(weight for weight, _, _ in kinds))
    at = 0
    while ticket >= kinds[at][0]:
        ticket -= kinds[at][0]
        at += 1
    return kinds[at][1:]


def _draft(category: str, function, arguments: dict, dice: Dice, more: bool) -> Draft | None:
    """Try to draw a level of a kind, None where the draft is no use. more: mines may be close, ground may be rough."""
    draft = Draft(dice)
    if not function(draft, **arguments) or len({draft.ninja, draft.switch, draft.exit}) < 3:
        return None
    if len(draft.mines) < LEAST_MINES.get(category, 0):
        return None
    draft.name = function.__name__.replace("_", " ")
    _soften(draft)
    if not _is_playable(draft, more):
        return None
    if more:
        if dice.chance(BESET.get(category, 0)):
            _beset(draft)
        if dice.chance(40):
            _roughen(draft)
    if CATEGORIES.index(category) >= CATEGORIES.index("simple") and dice.chance(25):
        reached = np.flatnonzero(_free == 2)
        for at in dice.sample(range(len(reached)), dice.between(1, 8)):
            y, x = divmod(int(reached[at]), fields.COLS)
            draft.extras.append((GOLD, x, y, 0, 0))
    return draft


def _finish(draft: Draft) -> bytes:
    dice = draft.dice
    _fill_outside(draft)
    if dice.chance(50):
        _mirror(draft)
    records = [(0, *draft.ninja, 0, 0), (3, *draft.exit, 0, 0), (4, *draft.switch, 0, 0)]
    records += [(t, x, y, 0, 0) for t, x, y in draft.mines]
    return encode_map(draft.tiles, np.array(records + draft.extras, np.uint8), draft.name)


def _side(map_data: bytes) -> str:
    """The split that a level's tiles belong to. So no seed can make a train level with a test level's tiles."""
    digest = hashlib.sha256(b"npp_rl built-in" + map_data[184:1150]).digest()
    return "test" if digest[0] < 64 else "train"


def generate(category: str, seed: int, split: str = "all", *, name: str | None = None, more: bool = False) -> Level:
    """The level of a category and a seed (0 to 2**64 - 1), the same on every machine.

    split: "train" or "test" makes a level whose tiles belong to that split; "all" makes either. name: the level's id.
    more: MORE_KINDS are drawn too, by which a seed makes another level.

    Raises ValueError on an unknown category or split, or a seed out of range.
    """
    categories = (*CATEGORIES, *DRAWN_CATEGORIES)
    if category not in categories:
        raise ValueError(f"unknown category {category!r}: expected one of {', '.join(categories)}")
    if split not in ("train", "test", "all"):
        raise ValueError(f"split {split!r}: expected train, test or all")
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed {seed}: expected 0 to 2**64 - 1")
    entropy = (seed & 0xFFFFFFFF, seed >> 32, categories.index(category))
    name = name or f"{category}_{seed}"
    if category in DRAWN_CATEGORIES:
        return _drawn(category, entropy, split, name)
    function, arguments = _kind(category, Dice(*entropy, 0), more)
    for attempt in range(1, ATTEMPTS):
        draft = _draft(category, function, arguments, Dice(*entropy, attempt), more)
        if draft is None:
            continue
        map_data = _finish(draft)
        if split in ("all", _side(map_data)):
            return Level(map_data, name, category, draft.name)
    raise RuntimeError(f"no playable level of {category} in {ATTEMPTS} drafts of seed {seed}")


def _drawn(category: str, entropy, split: str, name: str) -> Level:
    for attempt in range(1, ATTEMPTS):
        dice = Dice(*entropy, attempt)
        turned, made = dice.chance(50), drawn.draw(category, dice)
        if made is None:
            continue
        level = Level(made[0], name, category, made[1])
        level = replace(level, map_data=mirrored(level).map_data) if turned else level
        if split in ("all", _side(level.map_data)):
            return level
    raise RuntimeError(f"no playable level of {category} in {ATTEMPTS} drafts of {name}")
