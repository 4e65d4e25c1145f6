"""The built-in levels: 100 per category to train on and 30 to test on, the same on every machine.

They are certified: builtin.csv has the seed of each level, the SHA-256 of its map bytes, and a run with which the
planner wins it (planning/certify.py writes the file). A level is made from its seed and has to match its SHA-256.

To make all of them takes a second, so they are kept beside the compiled code. What is kept counts as long as nothing
has changed that makes levels, and it has to match each SHA-256 too.
"""

import contextlib
import csv
import functools
import hashlib
import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from npp_rl.commands import LevelError, Progress
from npp_rl.files import read_bytes, read_json, write_atomically
from npp_rl.levels.categories import CATEGORIES, DRAWN_CATEGORIES
from npp_rl.levels.fields import level_free
from npp_rl.levels.generator import generate
from npp_rl.levels.maps import Level, map_title
from npp_rl.simulator.stamps import source_stamp

BUILTIN_COUNTS = {"train": 100, "test": 30}  # levels per category
TABLE = Path(__file__).with_name("builtin.csv")
# par: frames of the planner's run. actions: its actions, one digit a step (games.ACTIONS), held for TABLE_FRAME_SKIP
# frames each; the last step ends with the win.
TABLE_COLUMNS = ("category", "split", "seed", "sha256", "par", "actions")
TABLE_FRAME_SKIP = 4
PLANNER_INDEX = "planner.json"  # in an output folder of the planner


def data_set(
    split: str, categories=CATEGORIES, count: int | None = None, seed: int = 0, more: bool = False
) -> list[Level]:
    """`count` levels of each category (default: as many as are built in), no two of a category with the same tiles.

    seed: 0 (the built-in set) to 2**32 - 1. The first levels of a larger count are those of a smaller one. more: draw
    MORE_KINDS too (only with another seed than 0).
    """
    levels = []
    parts = ("train", "test") if split == "all" else (split,)
    counts = {part: BUILTIN_COUNTS[part] if count is None else count for part in parts}
    progress = Progress("levels made", len(categories) * sum(counts.values()))
    for part, wanted in counts.items():
        for category in categories:
            drawn = draw_levels(category, part, seed, seed == 0, more and seed != 0)
            for _, level in itertools.islice(drawn, wanted):
                levels.append(level)
                progress.note(len(levels))
    return levels


def draw_levels(
    category: str, part: str, seed: int, from_table: bool, more: bool = False
) -> Iterator[tuple[int, Level]]:
    """(its own seed, level) of a category and split without end: with from_table the table's, then drawn from `seed`.

    Raises LevelError where the generator makes another level of a seed in the table than the certified one.
    """
    rows = [row for row in table() if from_table and (row["category"], row["split"]) == (category, part)]
    number = (*CATEGORIES, *DRAWN_CATEGORIES).index(category)
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
        entropy = np.random.SeedSequence((seed, number, part == "test", index))
        low, high = entropy.generate_state(2).tolist()
        level = generate(category, high << 32 | low, part, name=f"{category}/{part}_{len(seen):04d}", more=more)
        if level.tiles_digest not in seen:
            seen.add(level.tiles_digest)
            yield high << 32 | low, level


@functools.cache
def _builtin(split: str) -> tuple[Level, ...]:
    levels = _kept(split)
    if levels is None:
        levels = data_set(split)
        _keep(split, levels)
    return tuple(levels)


def _place(split) -> Path | None:
    """The file that keeps the levels of a split; None where compiled code is not kept either."""
    folder = level_free._cache.cache_path
    return Path(folder) / f"builtin_{split}.npz" if folder else None


@functools.cache
def _stamp() -> str:
    """SHA-256 of all that makes built-in levels: the files of this folder, and those with compiled code."""
    digest = hashlib.sha256(source_stamp().encode())
    for path in sorted([*Path(__file__).parent.glob("*.py"), TABLE]):
        digest.update(f"{path.name} {path.stat().st_size} ".encode() + path.read_bytes())
    return digest.hexdigest()


def _kept(split) -> list[Level] | None:
    """The built-in levels of a split as they were kept; None if they were not, or are damaged or others."""
    rows = [row for row in table() if row["split"] == split]
    if _place(split) is None or len(rows) != len(CATEGORIES) * BUILTIN_COUNTS[split]:
        return None
    try:
        with np.load(io.BytesIO(read_bytes(_place(split))), allow_pickle=False) as kept:
            if kept["stamp"].item() != _stamp():
                return None
            ends, data = np.cumsum(kept["lengths"]).tolist(), kept["maps"].tobytes()
    except Exception:  # a damaged file may raise anything
        return None
    levels, numbers = [], dict.fromkeys(CATEGORIES, 0)
    for row, start, end in zip(rows, [0, *ends], ends, strict=False):
        category = row["category"]
        name = f"{category}/{split}_{numbers[category]:04d}"
        levels.append(Level(data[start:end], name, category, map_title(data[start:end])))
        numbers[category] += 1
    return levels if [level.digest for level in levels] == [row["sha256"] for row in rows] else None


def _keep(split, levels):
    if place := _place(split):
        content = io.BytesIO()
        maps = [np.frombuffer(level.map_data, np.uint8) for level in levels]
        np.savez_compressed(content, stamp=_stamp(), lengths=[len(m) for m in maps], maps=np.concatenate(maps))
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(place, content.getvalue())


def builtin(split: str) -> list[Level]:
    """The built-in levels: 100 per category in "train", 30 in "test", both in "all"; made once per process."""
    if split == "all":
        return [*_builtin("train"), *_builtin("test")]
    if split not in BUILTIN_COUNTS:
        raise ValueError(f"split {split!r}: expected train, test or all")
    return list(_builtin(split))


@functools.cache
def table() -> tuple[dict, ...]:
    """Rows of TABLE, as TABLE_COLUMNS says; none where it is missing."""
    try:
        text = TABLE.read_text(encoding="ascii")
    except FileNotFoundError:
        return ()
    return tuple(row | {"seed": int(row["seed"]), "par": int(row["par"])} for row in csv.DictReader(text.splitlines()))


def pars() -> dict[str, int]:
    """Par times of the built-in levels: SHA-256 of the map bytes (`Level.digest`) -> frames of the planner's run."""
    return {row["sha256"]: row["par"] for row in table()}


def planned(pars_folder: str | Path) -> dict[str, int | None]:
    """Frames (1/60 s) in which the planner has won each level, by the level's digest; None where it has not won.

    pars_folder: an output folder of the planner or its planner.json. Raises LevelError if that is missing or is not the
    planner's.
    """
    place = Path(pars_folder)
    place = place / PLANNER_INDEX if place.is_dir() else place
    try:
        entries = read_json(place)["levels"]
        found = {entry["digest"]: entry["frames"] if entry["solved"] else None for entry in entries}
        if not all(
            isinstance(digest, str) and (frames is None or (type(frames) is int and frames > 0))
            for digest, frames in found.items()
        ):
            raise TypeError
    except OSError as error:
        raise LevelError(f"{place}: cannot be read ({error.strerror}), expected the planner's index") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise LevelError(f"{place}: not an index of the planner, expected levels with digest and frames") from None
    return found


def par_of(levels: Iterable[Level], pars_folder: str | Path | None = None) -> list[int | None]:
    """Par of each level: frames (1/60 s) of the shortest run that the planner has found, None where there is none.

    Levels are identified by their map bytes, not their names. The table has the pars of built-in levels. pars_folder
    (see `planned`) has those of other levels, and counts for built-in ones too where it is faster. A level that the
    planner has not won has None. Raises LevelError if the folder's planner.json is missing or is not the planner's.
    """
    known = pars()
    for digest, frames in (planned(pars_folder) if pars_folder is not None else {}).items():
        if frames is not None:
            known[digest] = min(frames, known.get(digest, frames))
    return [known.get(level.digest) for level in levels]
