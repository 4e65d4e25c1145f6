"""Procedural levels in nine categories of rising difficulty, and the built-in data set that is made of them.

    python -m npp_rl.level_generator --out DIR --split test --preview sheet.png
    python -m npp_rl.level_generator --certify --out REPLAYS

A level follows from its category and a whole number: every draw comes from PCG64's raw output and is an integer, so the
levels are the same on every machine. A draft (level_rooms.py, level_courses.py; level_kinds.py lists which) is taken
when the ninja's circle can get to the switch and on to the exit around all mines and through all doors whose switches
it can reach before.

The built-in levels are certified: builtin_levels.csv has each one's seed, the SHA-256 of its map bytes and a run by
which the planner (planner.py) has won it. They are made from these seeds, and must be what was certified.
"""

import argparse
import csv
import functools
import hashlib
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from npp_rl import fields
from npp_rl.level_kinds import BESET, KINDS, LEAST_MINES, MORE_KINDS
from npp_rl.level_rooms import COLUMNS, GOLD, LOCKED_DOOR, ROWS, Dice, Draft
from npp_rl.levels import CATEGORIES, MIRRORED, Level, LevelError, encode_map, write_atomically
from npp_rl.simulator.compiled import njit

BUILTIN_COUNTS = {"train": 100, "test": 30}  # levels per category
MOST_LEVELS = 100_000  # per category and split, for the command
GENERATOR, METADATA = "npp_rl.level_generator", "levels_metadata.json"
TABLE = Path(__file__).with_name("builtin_levels.csv")  # of the built-in levels, with a run of the planner for each
TABLE_COLUMNS = ("category", "split", "seed", "sha256", "par", "actions")  # par in frames; an action is a digit
TABLE_FRAME_SKIP = 4  # frames that the table's actions are held
PLANNER_INDEX = "planner.json"  # in an output folder of the planner
ATTEMPTS = 2000  # drafts for one level; a category's worst share of usable drafts is far above 1 / 20

_MIDDLE = 2 * (COLUMNS + 2)  # x of the field's middle in map units

# Tiles that may stand in a corner (line, curve, low and steep line), by place: hollow corners of rooms with rock at the
# lower left, lower right, upper left, upper right; edges of rock, open at the same places.
_HOLLOW = ((9, 17, 21, 29), (8, 16, 20, 28), (6, 14, 18, 26), (7, 15, 19, 27))
_EDGE = ((8, 12, 24, 32), (9, 13, 25, 33), (7, 11, 23, 31), (6, 10, 22, 30))


@njit
def _flood(free, stack, node):
    """Marks with 2 all nodes reached from `node` through free ones. free: uint8 [NODES]; stack: int32 [NODES]."""
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
    """Takes the nodes nearer than radius to the vertical line from y - half to y + half (a point with half 0) away."""
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
    """Whether the ninja gets to the switch and to the exit: around all mines, also those that are not deadly at first,
    and through locked doors whose switches it reaches before.

    tiles: uint8 [25, 44]; mines: float64 [m, 2] px; doors: float64 [k, 4]: x, y of vertical doors, x, y of their
    switches, px; ninja, switch, goal: float64 [2] px; close: mines may be passed at 14 px, which does not touch, where
    the ninja runs below them. Scratch: ground, free uint8 [NODES], stack int32 [NODES].
    """
    fields.level_free(tiles, ground)
    for k in range(mines.shape[0]):
        dx, dy = mines[k, 0] - ninja[0], mines[k, 1] - ninja[1]
        if dx * dx + dy * dy < (20.0 * 20.0 if close else 30.0 * 30.0):
            return False
        if close:
            fields.block_circle(ground, mines[k, 0], mines[k, 1], fields.BLOCK_MINE)
        else:  # farther than a touched toggle mine reaches, 14.5 px (PHYSICS.md 5.3)
            _block(ground, mines[k, 0], mines[k, 1], 15.0, 0.0)
    for node in range(fields.NODES):
        ground[node] = ground[node] != 0
    start = int(ninja[1] / 6.0) * fields.COLS + int(ninja[0] / 6.0)
    if not ground[start]:
        return False
    shut = doors.shape[0]
    closed = np.ones(shut, np.uint8)
    while True:
        free[:] = ground
        for k in range(doors.shape[0]):
            if closed[k]:
                _block(free, doors[k, 0], doors[k, 1], 10.0, 12.0)
        _flood(free, stack, start)
        before = shut
        for k in range(doors.shape[0]):
            if closed[k] and _touched(free, doors[k, 2], doors[k, 3], fields.TOUCH_DOOR_SWITCH):
                closed[k] = 0
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
    """Slopes and curves in some corners of rooms and on some edges of rock."""
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
    """Mines beside the goals, two to six quarters of a tile away, and near the start, if that can be played."""
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
    """Tiles of any shape in some or all places of the floors, walls and ceilings, if the level can still be played."""
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
    """The mask [25, 44] as seen from the inner cells' neighbours at (dx, dy)."""
    return mask[1 + dy : ROWS + 1 + dy, 1 + dx : COLUMNS + 1 + dx]


def _fill_outside(draft: Draft) -> None:
    """What lies beyond the walls: rock, rubble of all tiles, or empty space; unreachable mines in some levels."""
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
    """One of a category's kinds of level by weight: the function that draws it, and its arguments."""
    kinds = KINDS[category] + (MORE_KINDS.get(category, ()) if more else ())
    ticket = dice.below(sum(weight for weight, _, _ in kinds))
    at = 0
    while ticket >= kinds[at][0]:
        ticket -= kinds[at][0]
        at += 1
    return kinds[at][1:]


def _draft(category: str, function, arguments: dict, dice: Dice, more: bool) -> Draft | None:
    """One attempt at a level of a kind, None where it came out wrong. more: mines may be close, ground may be rough."""
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
    """The split that a level's tiles belong to, so that no seed can make a train level with a test level's tiles."""
    digest = hashlib.sha256(b"npp_rl built-in" + map_data[184:1150]).digest()
    return "test" if digest[0] < 64 else "train"


def generate(category: str, seed: int, split: str = "all", *, name: str | None = None, more: bool = False) -> Level:
    """The level of a category and a seed (0 to 2**64 - 1), the same on every machine.

    split: "train" or "test" makes a level whose tiles belong to that split; "all" makes either. name: the level's id.
    more: MORE_KINDS too, which makes other levels of the same seeds.
    Raises ValueError on an unknown category or split, or a seed out of range.
    """
    if category not in KINDS:
        raise ValueError(f"unknown category {category!r}: expected one of {', '.join(CATEGORIES)}")
    if split not in ("train", "test", "all"):
        raise ValueError(f"split {split!r}: expected train, test or all")
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed {seed}: expected 0 to 2**64 - 1")
    entropy = (seed & 0xFFFFFFFF, seed >> 32, CATEGORIES.index(category))
    function, arguments = _kind(category, Dice(*entropy, 0), more)
    for attempt in range(1, ATTEMPTS):
        draft = _draft(category, function, arguments, Dice(*entropy, attempt), more)
        if draft is None:
            continue
        map_data = _finish(draft)
        if split in ("all", _side(map_data)):
            return Level(map_data, name or f"{category}_{seed}", category, draft.name)
    raise RuntimeError(f"no playable level of {category} in {ATTEMPTS} drafts of seed {seed}")


def data_set(
    split: str, categories=CATEGORIES, count: int | None = None, seed: int = 0, more: bool = False
) -> list[Level]:
    """`count` levels (as many as in the built-in set unless given) of each category, no two of one with the same tiles.

    seed: 0 (the built-in set) to 2**32 - 1. The first levels of a larger count are those of a smaller one. more:
    MORE_KINDS among them, with another seed than 0.
    """
    levels = []
    for part in ("train", "test") if split == "all" else (split,):
        for category in categories:
            wanted = BUILTIN_COUNTS[part] if count is None else count
            drawn = _drawn(category, part, seed, seed == 0, more and seed != 0)
            levels += [level for _, (_, level) in zip(range(wanted), drawn, strict=False)]
    return levels


def _drawn(category: str, part: str, seed: int, from_table: bool, more: bool = False) -> Iterator[tuple[int, Level]]:
    """(seed of its own, level) of a category and split without end: the table's, if told, then those drawn from `seed`.

    Raises LevelError where the generator makes another level of a table's seed than the one that was certified.
    """
    rows = [row for row in _table() if from_table and (row["category"], row["split"]) == (category, part)]
    seen = set()
    for row in rows:
        level = generate(category, row["seed"], part, name=f"{category}/{part}_{len(seen):04d}")
        if level.digest != row["sha256"]:
            raise LevelError(
                f"{TABLE.name}: built-in level {level.id} has the SHA-256 {level.digest}, expected {row['sha256']}: "
                "this generator makes other levels than those certified"
            )
        seen.add(level.tiles_digest)
        yield row["seed"], level
    for index in itertools.count():
        entropy = np.random.SeedSequence((seed, CATEGORIES.index(category), part == "test", index))
        low, high = entropy.generate_state(2).tolist()
        level = generate(category, high << 32 | low, part, name=f"{category}/{part}_{len(seen):04d}", more=more)
        if level.tiles_digest not in seen:
            seen.add(level.tiles_digest)
            yield high << 32 | low, level


@functools.cache
def _builtin(split: str) -> tuple[Level, ...]:
    return tuple(data_set(split))


def builtin(split: str) -> list[Level]:
    """The built-in data set: 100 levels a category in "train", 30 in "test", both in "all"; made once per process."""
    if split == "all":
        return [*_builtin("train"), *_builtin("test")]
    if split not in BUILTIN_COUNTS:
        raise ValueError(f"split {split!r}: expected train, test or all")
    return list(_builtin(split))


@functools.cache
def _table() -> tuple[dict, ...]:
    """Rows of the table of built-in levels: category, split, seed, sha256, par, actions; none where it is missing."""
    try:
        text = TABLE.read_text(encoding="ascii")
    except FileNotFoundError:
        return ()
    return tuple(row | {"seed": int(row["seed"]), "par": int(row["par"])} for row in csv.DictReader(text.splitlines()))


def pars() -> dict[str, int]:
    """Par times of the built-in levels: SHA-256 of the map bytes (`Level.digest`) -> frames of the planner's run."""
    return {row["sha256"]: row["par"] for row in _table()}


def solutions() -> dict[str, np.ndarray]:
    """The planner's runs of the built-in levels: SHA-256 of the map bytes -> actions uint8 [steps], as in games.py.

    Each is held for TABLE_FRAME_SKIP frames; the run is won in frame `pars()[digest]`, which lies in the last step.
    """
    return {row["sha256"]: np.frombuffer(row["actions"].encode(), np.uint8) - ord("0") for row in _table()}


def certify(folder: Path, budget: float) -> Iterator[str]:
    """Solve the built-in levels by the planner and write the table; yields what is to be said of it.

    folder: for the planner's replays; what is there already is not solved again. budget: seconds for a level. A level
    that the planner does not solve is replaced by the next one drawn for its category and split.
    """
    from npp_rl import planner  # it knows the environment, which knows the levels
    from npp_rl.games import ACTION_BYTES
    from npp_rl.replays import read_replays

    action_of = {int(byte): str(action) for action, byte in enumerate(ACTION_BYTES)}
    draws = {(c, part): _drawn(c, part, 0, False) for part in BUILTIN_COUNTS for c in CATEGORIES}
    rows, missing = {}, [(*kind, k) for kind in draws for k in range(BUILTIN_COUNTS[kind[1]])]
    while missing:
        drawn = [next(draws[place[:2]]) for place in missing]
        levels = [
            replace(level, id=f"{category}/{part}_{k:04d}")
            for (category, part, k), (_, level) in zip(missing, drawn, strict=True)
        ]
        entries = {}
        for entry in planner.plan_levels(levels, folder, budget, TABLE_FRAME_SKIP):
            entries[entry["digest"]] = entry
            if len(entries) % 50 == 0:
                yield f"{len(entries)} of {len(levels)} levels tried"
        lost = []
        for place, (seed, level) in zip(missing, drawn, strict=True):
            entry = entries[level.digest]
            if not entry["solved"]:
                yield f"{entry['id']} of seed {seed} is replaced: {entry['reason']}"
                lost.append(place)
                continue
            inputs = read_replays(folder / entry["file"])[0].inputs
            actions = "".join(action_of[byte] for byte in inputs[::TABLE_FRAME_SKIP])
            rows[place] = (*place[:2], seed, level.digest, len(inputs), actions)
        missing = lost
    lines = [",".join(TABLE_COLUMNS)]
    for part in BUILTIN_COUNTS:
        for category in CATEGORIES:
            lines += [",".join(map(str, rows[category, part, k])) for k in range(BUILTIN_COUNTS[part])]
    write_atomically(TABLE, ("\n".join(lines) + "\n").encode())
    yield f"{TABLE}: {len(rows)} levels"


def par_of(levels: Iterable[Level], pars_folder: str | Path | None = None) -> list[int | None]:
    """Each level's par: the frames (1/60 s) of the shortest run that the planner has found, None where there is none.

    Levels are known by their map bytes, not their names. Built-in levels have their par from the table; pars_folder is
    an output folder of `python -m npp_rl.planner` (or its planner.json), the one source for other data sets, whose
    runs count for built-in levels too where they are faster. A level that nobody has won has None, also where the
    planner has tried. Raises LevelError (one line) if the folder's planner.json is missing or not the planner's.
    """
    known = pars()
    if pars_folder is not None:
        place = Path(pars_folder)
        place = place / PLANNER_INDEX if place.is_dir() else place
        try:
            entries = json.loads(place.read_bytes())["levels"]
            won = [(entry["digest"], entry["frames"]) for entry in entries if entry["solved"]]
            if not all(isinstance(digest, str) and type(frames) is int and frames > 0 for digest, frames in won):
                raise TypeError
        except OSError as error:
            raise LevelError(f"{place}: cannot be read ({error.strerror}), expected the planner's index") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise LevelError(f"{place}: not an index of the planner, expected levels with digest and frames") from None
        for digest, frames in won:
            known[digest] = min(frames, known.get(digest, frames))
    return [known.get(level.digest) for level in levels]


def write_data_set(folder: Path, levels: list[Level], about: dict) -> None:
    """Writes the levels as raw map files FOLDER/<level id> and METADATA; the folder appears as a whole or not at all.

    A folder that is empty, or that holds nothing but a data set of this command, is replaced; raises ValueError (one
    line) for another one, OSError where it cannot be written.
    """
    _check_replaceable(folder)
    folder = folder.resolve()
    by_category = {}
    for level in levels:
        by_category.setdefault(level.category, []).append(level.id)
    about = about | {"categories": {c: {"count": len(ids), "level_ids": ids} for c, ids in by_category.items()}}
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        new = beside / "new"
        for category in by_category:
            (new / category).mkdir(parents=True)
        for level in levels:
            (new / level.id).write_bytes(level.map_data)
        (new / METADATA).write_text(json.dumps(about, indent=1) + "\n")
        if folder.is_dir():
            folder.rename(beside / "old")
        try:
            new.rename(folder)
        except OSError:
            if (beside / "old").is_dir():
                (beside / "old").rename(folder)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _check_replaceable(folder: Path) -> None:
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or folder.is_symlink():
        raise ValueError(f"--out {folder}: not a folder, expected a new or empty one")
    held = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
    if not held:
        return
    try:
        about = json.loads((folder / METADATA).read_bytes())
        own = {METADATA, *(name for part in about["categories"].values() for name in part["level_ids"])}
        own = own if about["generator"] == GENERATOR else set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        own = set()
    if not held <= own:
        other = min(held - own)
        raise ValueError(f"--out {folder}: holds other files ({other}), expected an empty folder or a data set of mine")


def _category_list(text: str) -> list[str]:
    names = [name for name in text.replace(",", " ").split() if name]
    for name in names:
        if name not in KINDS:
            raise ValueError(f"--categories: unknown category {name!r}, expected some of {', '.join(CATEGORIES)}")
    if not names:
        raise ValueError(f"--categories: expected some of {', '.join(CATEGORIES)}")
    return [category for category in CATEGORIES if category in names]


def _certify(options) -> int:
    from npp_rl.planner import parse_budget

    budget = parse_budget(options.budget)
    with tempfile.TemporaryDirectory() as beside:
        for line in certify(options.out or Path(beside), budget):
            print(line, flush=True)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when all was written, else 2 after one line on stderr."""

    def fail(message: str):
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2)

    parser = argparse.ArgumentParser(prog="python -m npp_rl.level_generator", description="Write a data set of levels.")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the levels, as raw N++ map files by category"
    )
    parser.add_argument("--split", choices=("train", "test", "all"), default="all")
    parser.add_argument("--categories", nargs="+", metavar="NAME", help="some of the nine (all unless told)")
    parser.add_argument("--count", type=int, metavar="N", help="levels per category and split (100 train, 30 test)")
    parser.add_argument("--seed", type=int, default=0, help="0 makes the built-in levels")
    parser.add_argument("--preview", type=Path, metavar="PNG", help="a sheet of pictures of all the levels")
    parser.add_argument(
        "--certify", action="store_true", help="solve the built-in levels, write the table; --out keeps the replays"
    )
    parser.add_argument("--budget", default="10s", metavar="TIME", help="for a level, with --certify (10s)")
    parser.error = fail
    options = parser.parse_args(arguments)
    try:
        categories = _category_list(" ".join(options.categories)) if options.categories else list(CATEGORIES)
        if options.certify:
            return _certify(options)
        if not options.out and not options.preview:
            raise ValueError("nothing to write: expected --out DIR or --preview PNG")
        if options.count is not None and not 1 <= options.count <= MOST_LEVELS:
            raise ValueError(f"--count {options.count}: expected 1 to {MOST_LEVELS}")
        if not 0 <= options.seed < 1 << 32:
            raise ValueError(f"--seed {options.seed}: expected 0 to {(1 << 32) - 1}")
        target = options.out
        if options.out:
            _check_replaceable(options.out)
        levels = data_set(options.split, categories, options.count, options.seed)
        about = {"generator": GENERATOR, "split": options.split, "seed": options.seed, "total_levels": len(levels)}
        if options.out:
            write_data_set(options.out, levels, about)
            target = "standard output"
            print(f"{options.out}: {len(levels)} levels, {len(categories)} categories, seed {options.seed}")
        if options.preview:
            from npp_rl import render  # needs Pillow, which training does not

            target = options.preview
            labels = [f"{level.id}  {level.title}" for level in levels]
            render.contact_sheet(levels, options.preview, labels=labels)
            print(f"{options.preview}: {len(levels)} pictures")
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except ValueError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{target}: cannot be written ({error.strerror})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
