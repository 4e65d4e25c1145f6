"""Data sets of levels and their splits.

A data set is "builtin"; a folder or a file with raw map files, `.pkl` levels, or text files of the game (texts.py); or
several of these with commas between them.
"""

import io
import math
import pickle
import struct
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from npp_rl.commands import LevelError, Progress, UserError
from npp_rl.files import open_file, read_json, shown_name
from npp_rl.levels import builtin, texts
from npp_rl.levels.categories import CATEGORIES, DRAWN_CATEGORIES, UNCATEGORIZED
from npp_rl.levels.copies import NEAR, near_copies
from npp_rl.levels.maps import (
    NOT_SIMULATED,
    RECORDS_AT,
    SHORTEST_MAP,
    Level,
    complete_locked_door,
    map_title,
    mirrored,
    unknown_records,
)
from npp_rl.levels.sources import absolute, parts_of
from npp_rl.simulator import check_map

MOST_AT_ONCE = 10_000  # of a data set's levels that are trained on between two renewals; a level takes 130 kB
MOST_COMPARED = 50_000_000  # pairs of levels among which near-copies are looked for, a few seconds
LARGEST_FILE = 1 << 20  # bytes; the largest known level has 2 kB, its pickle 20 kB

# Files that may lie beside levels. Any other file in a folder is read as a raw map file, which has no suffix.
# fmt: off
OTHER_SUFFIXES = frozenset((
    ".csv", ".gif", ".gz", ".html", ".ini", ".jpeg", ".jpg", ".json", ".jsonl", ".lock", ".log", ".md", ".mp4", ".npy",
    ".npz", ".pdf", ".png", ".pt", ".pth", ".py", ".replay", ".rst", ".sh", ".svg", ".tar", ".tmp", ".toml", ".tsv",
    ".txt", ".webp", ".yaml", ".yml", ".zip",
))
# fmt: on
OTHER_NAMES = frozenset(("LICENSE", "LICENCE", "README", "COPYING", "Makefile"))


def load_levels(source: str | Path, split: str = "all", holdout: float = 0.2) -> list[Level]:
    """Levels of a data set, in the order of CATEGORIES, then other categories; within a category by name.

    source: "builtin"; a folder of raw map files, whose category is the sub-folder's name or "uncategorized"; a folder
    of category folders with `.pkl` levels; a text file of the game or a folder of them, whose category is the file's
    stem; one file of any kind; or several of these, "builtin,levels/SI.txt". split: "train", "test" or "all". In
    folders a hash of the tiles decides, and about the share `holdout` of the levels is "test". The built-in set has
    splits of its own.

    Ids and categories have escapes for characters that cannot be shown; of equal ids, the second and later ones get a
    number. Levels that cannot be used are left out and named on stderr, where repairs are counted too. Raises
    LevelError (one line) if no usable level is left.
    """
    if split not in ("train", "test", "all"):
        raise LevelError(f"split {split!r}: expected train, test or all")
    return _load([(part, split) for part in parts_of(source)], source, holdout)


def _load(parts, source, holdout):
    """Levels of the parts [(part, split)] of a data set, which errors call `source`."""
    levels = []
    for part, split in parts:
        if part == "builtin":
            levels += builtin.builtin(split)
        else:
            own = _load_folder(Path(part))
            levels += own if split == "all" else split_by_tiles(own, holdout)[split == "test"]
    if not levels:
        raise LevelError(f"{source}: no level falls into the split {parts[0][1]!r} with a holdout of {holdout}")
    return _numbered(_in_order(levels) if len(parts) > 1 else levels)


def _in_order(levels):
    rank = {name: index for index, name in enumerate(CATEGORIES)}
    return sorted(levels, key=lambda level: (rank.get(level.category, len(rank)), level.category))


def _numbered(levels):
    """Levels with ids of their own. Files of one name in two data sets, and .pkl files in two folders, share an id."""
    seen = Counter()
    named = []
    for level in levels:
        seen[level.id] += 1
        named.append(level if seen[level.id] == 1 else replace(level, id=f"{level.id} ({seen[level.id]})"))
    return named


def split_by_tiles(levels: Iterable[Level], holdout: float) -> tuple[list[Level], list[Level]]:
    """(train, rest), with about the share `holdout` (0..1) of the levels in the rest; equal tiles stay together."""
    if not 0 <= holdout <= 1:
        raise LevelError(f"holdout {holdout}: expected a share from 0 to 1")
    train, rest = [], []
    for level in levels:
        share = int(level.tiles_digest[:16], 16) / 2**64
        (rest if share < holdout else train).append(level)
    return train, rest


def _load_folder(path: Path) -> list[Level]:
    if path.is_file():
        files = [(path, UNCATEGORIZED, path.stem if path.suffix == ".pkl" else path.name)]
    elif path.is_dir():
        files = _level_files(path)
    elif path.exists():
        raise LevelError(f"{path}: expected a regular file or a folder")
    else:
        raise LevelError(f"{path}: no such folder or file, expected a data set of levels or 'builtin'")

    levels, bad = [], []  # bad: (place, reason)
    repairs = {"rounded": 0, "limited": 0, "completed": 0}
    progress = Progress(f"{path}: reading", len(files))
    for count, (file, category, name) in enumerate(files):
        progress.note(count)
        place = shown_name(str(file))
        try:
            if file.suffix.lower() == ".txt":
                found, lines = texts.read_levels(file, shown_name(file.stem))
                levels += found
                bad += [(f"{place} line {number}" if number else place, reason) for number, reason in lines]
                continue
            level, done = _read_level(file, category, name)
        except OSError as error:
            bad.append((place, f"cannot be read ({error.strerror})"))
            continue
        except ValueError as error:
            bad.append((place, str(error)))
            continue
        levels.append(level)
        for repair in done:
            repairs[repair] += 1
    if not levels:
        inner = [] if files else [place.name for place in sorted(path.iterdir()) if _has_folders(place)]
        if inner:
            names = shown_name(", ".join(inner[:3]))
            raise LevelError(f"{path}: no level, but folders with sub-folders ({names}): expected one of them")
        why = f"; {bad[0][0].removeprefix(f'{path}/')}: {bad[0][1]}" if bad else ""
        raise LevelError(
            f"{path}: no usable level among {len(files)} files, expected N++ map files, .pkl levels or text files of "
            f"the game{why}"
        )
    for place, reason in bad[:20]:
        print(f"{place}: left out: {reason}", file=sys.stderr)
    if bad:
        print(f"{path}: {len(bad)} of {len(levels) + len(bad)} levels left out", file=sys.stderr)
    if any(repairs.values()):
        print(
            f"{path}: repaired {repairs['rounded']} levels with fractional numbers (rounded), {repairs['limited']} with"
            f" numbers outside 0..255 (limited), {repairs['completed']} with a 9-byte locked door (zero byte added)",
            file=sys.stderr,
        )
    unknown = sum((unknown_records(level.map_data) for level in levels), Counter())
    if unknown:
        types = ", ".join(f"{n} {NOT_SIMULATED.get(kind, f'of type {kind}')}" for kind, n in sorted(unknown.items()))
        print(f"{path}: records that create nothing here were ignored: {types}", file=sys.stderr)
    missing = _listed_levels(path) - {level.id for level in levels} - {name for _, _, name in files}
    if missing:
        names = shown_name(", ".join(sorted(missing)[:5])) + (", ..." if len(missing) > 5 else "")
        print(f"{path}: {len(missing)} levels that the metadata list are not there: {names}", file=sys.stderr)
    return levels


def _has_folders(place: Path) -> bool:
    try:
        return place.is_dir() and any(entry.is_dir() for entry in place.iterdir())
    except OSError:
        return False


def _listed_levels(folder: Path) -> set[str]:
    """Level names in the data set's *_metadata.json. The levels do not need it, so damage is only reported."""
    listed = set()
    for file in sorted(folder.glob("*_metadata.json")) if folder.is_dir() else ():
        try:
            for category in read_json(file)["categories"].values():
                listed.update(str(name) for name in category["level_ids"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            print(f"{file}: ignored, not the metadata of a data set ({type(error).__name__})", file=sys.stderr)
    return listed


def _level_files(folder: Path) -> list[tuple[Path, str, str]]:
    """(file, category, id) of every file that may be a level, in the folder and its sub-folders."""
    rank = {name: index for index, name in enumerate(CATEGORIES)}
    folders = [d for d in folder.iterdir() if d.is_dir() and not d.name.startswith((".", "_"))]
    files = []
    for place in [folder, *sorted(folders, key=lambda d: (rank.get(d.name, len(rank)), d.name))]:
        category = UNCATEGORIZED if place == folder else place.name
        for file in sorted(place.iterdir()):
            other = file.suffix.lower() in OTHER_SUFFIXES or file.name in OTHER_NAMES or file.name.startswith(".")
            if file.is_file() and (not other or _is_text_file(file)):
                name = file.stem if file.suffix == ".pkl" else file.relative_to(folder).as_posix()
                files.append((file, category, name))
    return files


def _is_text_file(file):
    try:
        return texts.is_text_file(file)
    except (OSError, UserError):
        return True  # to be named as unreadable


def _read_level(file: Path, category: str, name: str) -> tuple[Level, list[str]]:
    """(level, repairs). Raises ValueError, one line without the file's name, if the file holds no usable level."""
    try:
        with open_file(file) as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    except UserError:
        raise ValueError("not a regular file") from None
    if not data:
        raise ValueError("empty file")
    if len(data) > LARGEST_FILE:
        raise ValueError(f"larger than {LARGEST_FILE} bytes, not a level")

    repairs = []
    if file.suffix == ".pkl":
        content = _load_pickle(data)
        if not isinstance(content, dict) or "map_data" not in content:
            raise ValueError("expected a dictionary with the entry map_data")
        data, repairs = _bytes_of(content["map_data"])
        if category == UNCATEGORIZED and isinstance(content.get("category"), str):
            category = content["category"]
        if (len(data) - RECORDS_AT) % 5 == 4 and (completed := complete_locked_door(data)):
            data = completed
            repairs.append("completed")
    elif _is_replay(data):
        raise ValueError("a replay, expected a map file")
    if len(data) < SHORTEST_MAP:
        raise ValueError(f"map of {len(data)} bytes, expected at least {SHORTEST_MAP}")
    # A stand-alone map file states its length, which shows that a file was cut.
    _, length, _, _, mark = struct.unpack_from("<5I", data)
    if mark == 37 and length not in (0, len(data)):
        raise ValueError(f"map of {len(data)} bytes whose header says {length}: cut or damaged")
    if (len(data) - RECORDS_AT) % 5:
        raise ValueError(f"map of {len(data)} bytes, expected {RECORDS_AT} + 5 per entity: the last record is cut")
    check_map(data)
    return Level(data, shown_name(name), shown_name(category), map_title(data)), repairs


class _PlainUnpickler(pickle.Unpickler):
    """Admits containers, numbers and strings, and refuses whatever needs an import, which could run code."""

    def find_class(self, module, name):
        raise ValueError(f"refused: the pickle asks for {f'{module}.{name}'!r}, expected plain containers and numbers")


def _load_pickle(data: bytes):
    try:
        return _PlainUnpickler(io.BytesIO(data)).load()
    except Exception as error:  # a damaged pickle may raise anything
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(message if message.startswith("refused") else f"damaged pickle ({message})") from None


def _bytes_of(numbers) -> tuple[bytes, list[str]]:
    """(map bytes, repairs): numbers rounded to the nearest integer (halves to even) and limited to 0..255."""
    if isinstance(numbers, (bytes, bytearray)):
        return bytes(numbers), []
    if not isinstance(numbers, (list, tuple)):
        raise ValueError(f"map_data is a {type(numbers).__name__}, expected a list of numbers")
    rounded = limited = False
    result = bytearray(len(numbers))
    for index, number in enumerate(numbers):
        if not isinstance(number, int) and not (isinstance(number, float) and math.isfinite(number)):
            raise ValueError(f"map_data[{index}] is {repr(number)[:40]}, expected a number")
        whole = round(number)
        rounded |= whole != number
        limited |= not 0 <= whole <= 255
        result[index] = min(max(whole, 0), 255)
    return bytes(result), [name for name, done in (("rounded", rounded), ("limited", limited)) if done]


def _is_replay(data: bytes) -> bool:
    """Whether the lengths in a replay's header (PHYSICS.md 9) add up to the file's."""
    if len(data) < 13:
        return False
    a, b, c = struct.unpack_from("<3I", data)
    return len(data) == 8 + a + b or (a <= 100 and len(data) == 13 + b + c)


def load_split(
    train_dataset: str, test_dataset: str, holdout_fraction: float, validation_fraction: float
) -> tuple[list[Level], list[Level], list[Level]]:
    """Training, validation and test levels of a run; none shares its tiles with a level of another part.

    A level and its mirror image count as the same tiles: scripts mirror training levels. One data set for both is
    divided by the hash of the tiles (the built-in one has its own division), and so is each part that both have.
    Validation levels are taken from the training levels, by other bits of the same hash. Test levels that are
    near-copies of training levels (copies.py) are kept and named on stderr. Raises LevelError.
    """
    test = load_suite(test_dataset, train_dataset, holdout_fraction)
    own = _without(_load_parts(train_dataset, test_dataset, "train", holdout_fraction), test)
    validation = [level for level in own if held_share(level.tiles_digest) < validation_fraction]
    train = _without(own, validation)
    if not train:
        raise LevelError(f"{train_dataset}: no training level is left beside the test and validation levels")
    if len(train) > MOST_AT_ONCE:
        print(
            f"{train_dataset}: {len(train)} training levels, of which {MOST_AT_ONCE} are drawn at each renewal",
            file=sys.stderr,
        )
    if len(train) * len(test) <= MOST_COMPARED and (near := near_copies(test, train)):
        names = ", ".join(level.id for level in near[:5]) + (", ..." if len(near) > 5 else "")
        print(
            f"{test_dataset}: {len(near)} of {len(test)} test levels are near-copies of training levels (at most {NEAR}"
            f" tiles of what can be played differ): {names}",
            file=sys.stderr,
        )
    return train, validation, test


def tiles_and_mirrored_tiles(levels: Iterable[Level]) -> set[str]:
    """Digests of the tiles of levels and of their mirror images (`Level.tiles_digest`)."""
    return {one.tiles_digest for level in levels for one in (level, mirrored(level))}


def _without(levels: Iterable[Level], held_out: Iterable[Level]) -> list[Level]:
    """Those of the levels whose tiles no held-out level has, nor the mirror image of one."""
    refused = {level.tiles_key for level in held_out}
    return [level for level in levels if level.tiles_key not in refused]


def held_share(tiles_digest: str) -> float:
    """A number from 0 to 1, by the tiles' hash; levels below the validation fraction are validation levels."""
    return int(tiles_digest[-8:], 16) / 2**32


def training_levels(
    own: list[Level],
    held_out: list[Level],
    mirror: bool,
    generated: int,
    validation_fraction: float,
    seed: int,
    drawn_share: float = 0.5,
) -> list[Level]:
    """A training set for some time: the data set's own levels, half of them mirrored with `mirror`, and fresh ones.

    Of more than MOST_AT_ONCE own levels, as many are taken at random. About `generated` fresh levels are made from
    `seed`, the share `drawn_share` of DRAWN_CATEGORIES, the rest of CATEGORIES, as many of each. No level has the tiles
    of a held-out level (validation or test) or of its mirror image, and no fresh level is a near-copy of one
    (copies.py). Fresh levels whose hash would make them validation levels are left out too (see `load_split`).
    """
    random = np.random.default_rng(seed)
    if len(own) > MOST_AT_ONCE:
        own = [own[k] for k in np.sort(random.choice(len(own), MOST_AT_ONCE, replace=False))]
    turned = random.random(len(own)) < 0.5
    levels = [mirrored(level) if mirror and turn else level for level, turn in zip(own, turned, strict=True)]
    fresh = []
    for categories, share in ((CATEGORIES, 1 - drawn_share), (DRAWN_CATEGORIES, drawn_share)):
        each = math.ceil(generated * share / len(categories))
        fresh += builtin.data_set("train", categories, each, seed, more=True) if each else []
    fresh = [level for level in fresh if held_share(level.tiles_digest) >= validation_fraction]
    refused = {level.digest for level in near_copies(fresh, held_out)}
    return _without(levels, held_out) + [level for level in fresh if level.digest not in refused]


def load_suite(test_dataset: str, train_dataset: str, holdout_fraction: float) -> list[Level]:
    """Levels of a test suite: the held-out part if training uses the same data set, else all. Raises LevelError."""
    return _load_parts(test_dataset, train_dataset, "test", holdout_fraction)


def _load_parts(dataset, other, split, holdout):
    """The levels of a data set: of parts that the other one has too, and of the built-in one, a split, else all."""
    shared = {absolute(part) for part in parts_of(other)} | {"builtin"}
    parts = [(part, split if absolute(part) in shared else "all") for part in parts_of(dataset)]
    return _load(parts, dataset, holdout)
