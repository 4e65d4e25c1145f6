"""Levels and the N++ map format (PHYSICS.md 2).

A level is a byte string: 184 bytes of header, 42 x 23 tiles, 40 entity counts, then records of 5 bytes. Everything else
about a level is read from these bytes.
"""

import hashlib
import struct
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npp_rl.levels.categories import GROUPS
from npp_rl.simulator.layout import ENTITY_TYPES

ROWS, COLUMNS = 23, 42
TILES_AT, COUNTS_AT, RECORDS_AT = 184, 1150, 1230
TITLE_AT, TITLE_LENGTH = 38, 128
MAP_UNIT = 6  # px per map coordinate
SHORTEST_MAP = 1233  # up to the ninja's spawn (PHYSICS.md 8.5)

MOVING = frozenset((14, 16, 20, 25, 26, 28))  # zap and mini drones, guards, thwumps, shove thwumps and death balls
NOT_SIMULATED = {  # what the simulator leaves out: record type -> name
    12: "chaingun drones",
    13: "laser drones",
    15: "chaser drones",
    18: "rockets",
    19: "gauss turrets",
    22: "evil ninjas",
    23: "lasers",
    27: "minis",
}

EXIT_DOOR, EXIT_SWITCH = 3, 4
DOOR_SWITCHES = {6: 7, 8: 9}  # locked and trap doors: the switch is the next record

# Mirror image of each tile, left to right; a test compares it with the tiles' polygons.
MIRRORED = np.arange(256, dtype=np.uint8)
MIRRORED[[3, 5]] = 5, 3
for _tile in range(6, 34, 2):
    MIRRORED[_tile : _tile + 2] = _tile + 1, _tile
_MIRRORED_X = 1056 // MAP_UNIT - np.arange(256)  # negative for what lies to the right of the field
_MIRRORED_ORIENTATION = np.arange(256, dtype=np.uint8)
_MIRRORED_ORIENTATION[:8] = (4 - np.arange(8)) % 8
_TURNING = (14, 15, 23, 26)  # drones and lasers: bit 0 of the mode is the direction in which they turn


@dataclass(frozen=True)
class Level:
    """A level: its map bytes, and names for people."""

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
    def group(self) -> str:
        """What the level holds, one of GROUPS. A level with something that is not simulated is easier here."""
        kinds = frozenset(self.entities[:, 0].tolist())
        return GROUPS[2 if kinds & NOT_SIMULATED.keys() else 1 if kinds & MOVING else 0]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the map bytes, hexadecimal."""
        return hashlib.sha256(self.map_data).hexdigest()

    @cached_property
    def tiles_digest(self) -> str:
        """SHA-256 of the 966 tile bytes, hexadecimal: equal for levels that differ in entities only."""
        return hashlib.sha256(self.map_data[TILES_AT:COUNTS_AT]).hexdigest()

    @cached_property
    def tiles_key(self) -> str:
        """The lesser `tiles_digest` of the level and its mirror image, which is equal for both."""
        turned = MIRRORED[self.tiles[:, ::-1]]
        return min(self.tiles_digest, hashlib.sha256(turned.tobytes()).hexdigest())


def encode_map(tiles: np.ndarray, entities: np.ndarray | list, title: str = "") -> bytes:
    """Map bytes of a level (PHYSICS.md 2), with the header of a stand-alone map file and the counts of all types.

    tiles: integers [23, 42]. entities: integers [k, 5] (type, x, y, orientation, mode; x and y in units of 6 px), with
    the ninja's record first, the exit doors together and followed by as many exit switches, and each locked or trap
    door followed by its switch. Raises ValueError for another order, and for numbers that do not fit a byte.
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
    """The title in the header, "" if there is none."""
    return map_data[TITLE_AT : TITLE_AT + TITLE_LENGTH].split(b"\0")[0].decode("latin-1")


def mirrored(level: Level) -> Level:
    """The mirror image of a level, left to right: what wins one wins the other with left and right exchanged.

    Trajectories are mirror images except for rounding, which differs on the other side.
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
    """The map with a zero byte added after the ninth byte of its first locked door, None if it has no such record.

    Some writers give a locked door 9 bytes where the format has two records of 5 (PHYSICS.md 9.1). Such a map is one
    byte short of whole records, and everything after the door is shifted.
    """
    for at in range(RECORDS_AT, len(map_data) - 8, 5):
        if map_data[at] == 6:
            return map_data[: at + 9] + b"\0" + map_data[at + 9 :]
    return None


def unknown_records(map_data: bytes) -> Counter:
    """Number of records of each type that creates nothing (PHYSICS.md 2.1), among them chaser drones and lasers."""
    types = map_data[RECORDS_AT::5]
    partners = (0, 4, 7, 9)  # the spawn, and switches, which are read with their doors
    return Counter(kind for kind in types if kind not in ENTITY_TYPES and kind not in partners)
