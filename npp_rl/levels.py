"""Levels: the N++ map format (PHYSICS.md 2) and data sets of levels.

A level is a byte string: 184 bytes of header, 42 x 23 tiles, 40 entity counts, then records of 5 bytes. The bytes are
the level; all else here is read from them. Data sets are folders of raw map files, or category folders with `.pkl`
levels as nclone writes them, or the built-in set that level_generator.py makes from seeds.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import pickle
import struct
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from npp_rl.simulator import check_map
from npp_rl.simulator.layout import ENTITY_TYPES

CATEGORIES = (
    "simplest",
    "simplest_few_mines",
    "simplest_with_mines",
    "simpler",
    "simple",
    "medium",
    "complex",
    "mine_heavy",
    "exploration",
)
UNCATEGORIZED = "uncategorized"

ROWS, COLUMNS = 23, 42
TILES_AT, COUNTS_AT, RECORDS_AT = 184, 1150, 1230
TITLE_AT, TITLE_LENGTH = 38, 128
MAP_UNIT = 6  # px per map coordinate
SHORTEST_MAP = 1233  # up to the ninja's spawn (PHYSICS.md 8.5)
LARGEST_FILE = 1 << 20  # bytes; the largest known level has 2 kB, its pickle 20 kB

EXIT_DOOR, EXIT_SWITCH = 3, 4
DOOR_SWITCHES = {6: 7, 8: 9}  # locked and trap doors: the switch is the next record

# Every tile's mirror image, left to right (of those that stand for a shape); a test holds it against their polygons.
MIRRORED = np.arange(256, dtype=np.uint8)
MIRRORED[[3, 5]] = 5, 3
for _tile in range(6, 34, 2):
    MIRRORED[_tile : _tile + 2] = _tile + 1, _tile
_MIRRORED_X = 1056 // MAP_UNIT - np.arange(256)  # what lies to the right of the field comes to lie in its left border
_MIRRORED_ORIENTATION = np.arange(256, dtype=np.uint8)
_MIRRORED_ORIENTATION[:8] = (4 - np.arange(8)) % 8
_TURNING = (14, 15, 23, 26)  # drones and lasers: bit 0 of the mode says which way round

# What may lie beside levels. Any other file of a folder is taken for a raw map file, which has no suffix of its own.
# fmt: off
OTHER_SUFFIXES = frozenset((
    ".csv", ".gif", ".gz", ".html", ".ini", ".jpeg", ".jpg", ".json", ".jsonl", ".lock", ".log", ".md", ".mp4", ".npy",
    ".npz", ".pdf", ".png", ".pt", ".pth", ".py", ".replay", ".rst", ".sh", ".svg", ".tar", ".tmp", ".toml", ".tsv",
    ".txt", ".webp", ".yaml", ".yml", ".zip",
))
# fmt: on
OTHER_NAMES = frozenset(("LICENSE", "LICENCE", "README", "COPYING", "Makefile"))


class LevelError(ValueError):
    """A level or a data set that cannot be used; the message is one line."""


@dataclass(frozen=True)
class Level:
    """One level: its map bytes and what people call it."""

    map_data: bytes
    id: str
    category: str
    title: str = ""

    @cached_property
    def tiles(self) -> np.ndarray:
        """uint8 [23, 42], top row first, without the border ring; read-only."""
        return np.frombuffer(self.map_data, np.uint8, ROWS * COLUMNS, TILES_AT).reshape(ROWS, COLUMNS)

    @cached_property
    def entities(self) -> np.ndarray:
        """uint8 [k, 5], read-only: type, x, y (units of 6 px), orientation, mode of every record, the ninja's first."""
        records = self.map_data[RECORDS_AT:]
        return np.frombuffer(records + bytes(-len(records) % 5), np.uint8).reshape(-1, 5)

    @property
    def spawn(self) -> tuple[int, int]:
        """x, y of the ninja's start, px."""
        return MAP_UNIT * self.map_data[RECORDS_AT + 1], MAP_UNIT * self.map_data[RECORDS_AT + 2]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the map bytes, hexadecimal."""
        return hashlib.sha256(self.map_data).hexdigest()

    @cached_property
    def tiles_digest(self) -> str:
        """SHA-256 of the 966 tile bytes, hexadecimal: equal for levels that differ in entities only."""
        return hashlib.sha256(self.map_data[TILES_AT:COUNTS_AT]).hexdigest()


def encode_map(tiles: np.ndarray, entities: np.ndarray | list, title: str = "") -> bytes:
    """Map bytes of a level (PHYSICS.md 2), with the header of a stand-alone map file and the counts of all types.

    tiles: integers [23, 42]. entities: integers [k, 5] (type, x, y, orientation, mode; x and y in units of 6 px), the
    ninja's record first, exit doors together and followed by as many exit switches, each locked or trap door followed
    by its switch. Raises ValueError where that is not so, or a number does not fit a byte.
    """
    tiles = _byte_table(tiles, "tiles")
    if tiles.shape != (ROWS, COLUMNS):
        raise ValueError(f"tiles have the shape {list(tiles.shape)}, expected [{ROWS}, {COLUMNS}]")
    entities = _byte_table(entities, "entities")
    if entities.ndim != 2 or entities.shape[1] != 5 or not len(entities) or entities[0, 0] != 0:
        raise ValueError("entities must be [k, 5] and start with the ninja's record (type 0)")
    types = entities[:, 0].tolist()
    exits = types.count(EXIT_DOOR)
    if exits > 255:
        raise ValueError(f"{exits} exit doors, expected at most 255")
    for index, kind in enumerate(types):
        switch_at = index + exits if kind == EXIT_DOOR else index + 1
        wanted = EXIT_SWITCH if kind == EXIT_DOOR else DOOR_SWITCHES.get(kind)
        if wanted is not None and (switch_at >= len(types) or types[switch_at] != wanted):
            raise ValueError(
                f"record {index} is a door of type {kind}: expected its switch, type {wanted}, in record {switch_at}"
            )

    header = bytearray(TILES_AT)
    struct.pack_into("<IIIIII", header, 0, 0, RECORDS_AT + 5 * len(types), 0xFFFFFFFF, 0, 37, 0xFFFFFFFF)
    name = title.encode("latin-1", "replace")[:TITLE_LENGTH]
    header[TITLE_AT : TITLE_AT + len(name)] = name
    counts = np.bincount(entities[:, 0], minlength=40)[:40].astype("<u2")
    return bytes(header) + tiles.tobytes() + counts.tobytes() + entities.tobytes()


def _byte_table(values, name: str) -> np.ndarray:
    table = np.asarray(values)
    if table.dtype.kind not in "iu" or (table.size and (table.min() < 0 or table.max() > 255)):
        raise ValueError(f"{name} must be integers in 0..255")
    return np.ascontiguousarray(table, np.uint8)


def map_title(map_data: bytes) -> str:
    """The title in the header, "" where there is none."""
    return map_data[TITLE_AT : TITLE_AT + TITLE_LENGTH].split(b"\0")[0].decode("latin-1")


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a file beside its place and rename it, so that nobody finds half of it; OSError where that fails."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError):
            error.filename = str(path)  # a full disk does not say where
        raise


def mirrored(level: Level) -> Level:
    """The level as a mirror shows it, left to right: what wins one wins the other with left and right exchanged.

    Numbers are rounded otherwise on the other side, so trajectories are mirror images nearly, not to the last bit.
    """
    data = np.frombuffer(level.map_data, np.uint8).copy()
    data[TILES_AT:COUNTS_AT] = MIRRORED[level.tiles[:, ::-1]].reshape(-1)
    records = np.concatenate([data[RECORDS_AT:], np.zeros(-(len(data) - RECORDS_AT) % 5, np.uint8)]).reshape(-1, 5)
    named = np.isin(records[:, 0], (0, EXIT_SWITCH, *DOOR_SWITCHES.values(), 15, 23, *ENTITY_TYPES))
    records[named, 1] = np.maximum(_MIRRORED_X[records[named, 1]], 0)
    records[named, 3] = _MIRRORED_ORIENTATION[records[named, 3]]
    records[np.isin(records[:, 0], _TURNING), 4] ^= 1
    data[RECORDS_AT:] = records.reshape(-1)[: len(data) - RECORDS_AT]
    return Level(data.tobytes(), f"{level.id} mirrored", level.category, level.title)


def complete_locked_door(map_data: bytes) -> bytes | None:
    """The map with one zero byte after the ninth byte of its first locked door, None if there is no such record.

    Some writers give a locked door 9 bytes where the format has two records of 5 (PHYSICS.md 9.1), which shifts all
    that follows; such a map is one byte short of whole records.
    """
    for at in range(RECORDS_AT, len(map_data) - 8, 5):
        if map_data[at] == 6:
            return map_data[: at + 9] + b"\0" + map_data[at + 9 :]
    return None


def load_levels(source: str | Path, split: str = "all", holdout: float = 0.2) -> list[Level]:
    """Levels of a data set, in the order of CATEGORIES (others after them), then by name.

    source: "builtin"; a folder of raw map files (their category is the sub-folder's name, or "uncategorized"); a folder
    of category folders with `.pkl` levels; or one such file. split: "train", "test" or "all". In folders a hash of the
    tiles decides, and about the share `holdout` is "test"; the built-in set has splits of its own.

    Levels that cannot be used are named on stderr and left out, repairs are counted there. Raises LevelError (one line)
    where nothing usable is left.
    """
    if split not in ("train", "test", "all"):
        raise LevelError(f"split {split!r}: expected train, test or all")
    if source == "builtin":
        from npp_rl import level_generator  # it builds on this module

        return level_generator.builtin(split)
    levels = _load_folder(Path(source))
    if split != "all":
        levels = split_by_tiles(levels, holdout)[split == "test"]
        if not levels:
            raise LevelError(f"{source}: no level falls into the split {split!r} with a holdout of {holdout}")
    return levels


def split_by_tiles(levels: Iterable[Level], holdout: float) -> tuple[list[Level], list[Level]]:
    """(train, rest): levels with equal tiles go together, about the share `holdout` (0..1) of them into the rest."""
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
    else:
        raise LevelError(f"{path}: no such folder or file, expected a data set of levels or 'builtin'")

    levels, bad = [], []
    repairs = {"rounded": 0, "limited": 0, "completed": 0}
    for file, category, name in files:
        try:
            level, done = _read_level(file, category, name)
        except ValueError as error:
            bad.append((file, str(error)))
            continue
        levels.append(level)
        for repair in done:
            repairs[repair] += 1
    if not levels:
        why = f"; {bad[0][0].name}: {bad[0][1]}" if bad else ""
        raise LevelError(
            f"{path}: no usable level among {len(files)} files, expected N++ map files or .pkl levels{why}"
        )
    for file, reason in bad[:20]:
        print(f"{file}: left out: {reason}", file=sys.stderr)
    if bad:
        print(f"{path}: {len(bad)} of {len(files)} levels left out", file=sys.stderr)
    if any(repairs.values()):
        print(
            f"{path}: repaired {repairs['rounded']} levels with fractional numbers (rounded), {repairs['limited']} with"
            f" numbers outside 0..255 (limited), {repairs['completed']} with a 9-byte locked door (zero byte added)",
            file=sys.stderr,
        )
    unknown = sum((unknown_records(level.map_data) for level in levels), Counter())
    if unknown:
        types = ", ".join(f"{n} of type {kind}" for kind, n in sorted(unknown.items()))
        print(f"{path}: records that create nothing here were ignored: {types}", file=sys.stderr)
    missing = _listed_levels(path) - {level.id for level in levels} - {name for _, _, name in files}
    if missing:
        names = ", ".join(sorted(missing)[:5]) + (", ..." if len(missing) > 5 else "")
        print(f"{path}: {len(missing)} levels that the metadata list are not there: {names}", file=sys.stderr)
    return levels


def unknown_records(map_data: bytes) -> Counter:
    """How many records of each type that creates nothing (PHYSICS.md 2.1) a map has, chaser drones and lasers too."""
    types = map_data[RECORDS_AT::5]
    partners = (0, 4, 7, 9)  # the spawn, and switches, which are read with their doors
    return Counter(kind for kind in types if kind not in ENTITY_TYPES and kind not in partners)


def _listed_levels(folder: Path) -> set[str]:
    """Level names in the data set's *_metadata.json; the levels are usable without it, so damage is only reported."""
    listed = set()
    for file in sorted(folder.glob("*_metadata.json")) if folder.is_dir() else ():
        try:
            for category in json.loads(file.read_bytes())["categories"].values():
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
            if file.is_file() and not other:
                name = file.stem if file.suffix == ".pkl" else file.relative_to(folder).as_posix()
                files.append((file, category, name))
    return files


def _read_level(file: Path, category: str, name: str) -> tuple[Level, list[str]]:
    """(level, repairs done); ValueError with one line, without the file's name, if the file holds no usable level."""
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
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
    # A stand-alone map file states its length; this number is what a cut file still has.
    _, length, _, _, mark = struct.unpack_from("<5I", data)
    if mark == 37 and length not in (0, len(data)):
        raise ValueError(f"map of {len(data)} bytes whose header says {length}: cut or damaged")
    if (len(data) - RECORDS_AT) % 5:
        raise ValueError(f"map of {len(data)} bytes, expected {RECORDS_AT} + 5 per entity: the last record is cut")
    check_map(data)
    return Level(data, name, category, map_title(data)), repairs


class _PlainUnpickler(pickle.Unpickler):
    """Admits containers, numbers and strings; whatever needs an import (and could so run code) is refused."""

    def find_class(self, module, name):
        raise ValueError(f"refused: the pickle asks for {f'{module}.{name}'!r}, expected plain containers and numbers")


def _load_pickle(data: bytes):
    try:
        return _PlainUnpickler(io.BytesIO(data)).load()
    except Exception as error:  # a damaged pickle raises nearly anything
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
    """Whether the parts that a replay's header names (PHYSICS.md 9) add up to the file."""
    if len(data) < 13:
        return False
    a, b, c = struct.unpack_from("<3I", data)
    return len(data) == 8 + a + b or (a <= 100 and len(data) == 13 + b + c)
