"""The built-in levels: 100 a category to train on, 30 to test on, the same on every machine.

They are certified: builtin.csv has each one's seed, the SHA-256 of its map bytes and a run by which the planner has won
it (planning/certify.py writes it). The levels are made from these seeds, and must be what was certified.
"""

import csv
import functools
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from npp_rl.commands import LevelError
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.generator import generate
from npp_rl.levels.maps import Level

BUILTIN_COUNTS = {"train": 100, "test": 30}  # levels per category
TABLE = Path(__file__).with_name("builtin.csv")  # of the built-in levels, with a run of the planner for each
TABLE_COLUMNS = ("category", "split", "seed", "sha256", "par", "actions")  # par in frames; an action is a digit
TABLE_FRAME_SKIP = 4  # frames that the table's actions are held
PLANNER_INDEX = "planner.json"  # in an output folder of the planner


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


def par_of(levels: Iterable[Level], pars_folder: str | Path | None = None) -> list[int | None]:
    """Each level's par: the frames (1/60 s) of the shortest run that the planner has found, None where there is none.

    Levels are known by their map bytes, not their names. Built-in levels have their par from the table; pars_folder is
    an output folder of the planner (or its planner.json), the one source for other data sets, whose runs count
    for built-in levels too where they are faster. A level that nobody has won has None, also where the
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
