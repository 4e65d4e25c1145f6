"""The text files of the game: one level a line, `$title#digits#`.

The hexadecimal digits of each byte stand in reverse order, the low half first. The bytes are four zeros, the 966 tiles
as in a map file, and for each type of TYPES a count (two bytes, the high one first) with its records, then four zeros.
A record is x, y, then orientation and mode where the type has them. An exit's record has its switch's x and y behind
it, those of locked and trap doors have them behind the orientation.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from npp_rl.files import open_file, shown_name
from npp_rl.levels.maps import (
    COUNTS_AT,
    DOOR_SWITCHES,
    EXIT_DOOR,
    EXIT_SWITCH,
    RECORDS_AT,
    TILES_AT,
    TITLE_LENGTH,
    Level,
    encode_map,
    map_title,
)
from npp_rl.simulator import check_map

# Record types in the order of a line, each with the number of bytes of its record.
TYPES = {0: 2, 1: 2, 2: 2, 3: 4, 5: 3, 6: 5, 8: 5, 10: 3, 11: 3, 12: 4, 13: 4, 14: 4, 15: 4, 16: 2, 17: 2, 18: 2, 19: 2}
TYPES |= {20: 3, 21: 2, 22: 2, 23: 4, 24: 2, 25: 2, 26: 4, 27: 2, 28: 2}
MARGIN = bytes(4)  # at both ends
TILES = COUNTS_AT - TILES_AT
MOST_RECORDS = 20_000  # of a level; people's largest level has 10,032
LONGEST_LINE = 1 << 18  # bytes
LARGEST_FILE = 1 << 28  # bytes
BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_SWAPPED = bytes((byte & 15) << 4 | byte >> 4 for byte in range(256))


def is_text_file(path: Path) -> bool:
    """Whether a file looks like one of the game's: `.txt`, and the first line that is not empty begins with `$`.

    A file of another encoding counts too, so that its lines are named and not passed over. Raises OSError, UserError.
    """
    if path.suffix.lower() != ".txt":
        return False
    with open_file(path) as stream:
        start = stream.read(4096).lstrip(b"\r\n")
    return start.startswith((b"$", *BYTE_ORDER_MARKS))


def read_lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """(line number from 1, line without its end) of the lines that are not empty; None for one that is too long.

    Raises ValueError for a file of over LARGEST_FILE bytes; OSError, UserError.
    """
    with open_file(path) as stream:
        number = size = 0
        while line := stream.readline(LONGEST_LINE):
            number += 1
            whole = len(line) < LONGEST_LINE or line.endswith(b"\n")
            size += len(line)
            while not line.endswith(b"\n") and (rest := stream.readline(LONGEST_LINE)):
                size += len(rest)
                line = rest
                if size > LARGEST_FILE:
                    break
            if size > LARGEST_FILE:
                raise ValueError(f"larger than {LARGEST_FILE:,} bytes")
            if number == 1:
                line = line.removeprefix(BYTE_ORDER_MARKS[0])
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            if line or not whole:
                yield number, line if whole else None


def map_from_line(line: bytes) -> bytes:
    """Map bytes of one line. Raises ValueError with one line that says what is wrong with it."""
    if not line.startswith(b"$") or not line.endswith(b"#") or line.count(b"#") < 2:
        raise ValueError("expected $title#hexadecimal digits#")
    if b"\r" in line:
        raise ValueError("a carriage return inside the line, expected lines that end in LF or CR LF")
    title, digits = line[1:-1].rsplit(b"#", 1)
    if len(title) > TITLE_LENGTH:
        raise ValueError(f"a title of {len(title)} bytes, expected at most {TITLE_LENGTH}")
    if b"\0" in title:
        raise ValueError("a zero byte in the title")
    try:
        data = bytes.fromhex(digits.decode("ascii")).translate(_SWAPPED)
        if 2 * len(data) != len(digits):  # fromhex admits spaces
            raise ValueError
    except ValueError:
        raise ValueError("expected an even number of hexadecimal digits between # and #") from None
    at = len(MARGIN) + TILES
    if len(data) < at or not data.startswith(MARGIN):
        raise ValueError(f"{len(data)} bytes, expected 4 zeros, {TILES} tiles, and the entities")
    tiles = np.frombuffer(data, np.uint8, TILES, len(MARGIN)).reshape(23, 42)
    parts = []
    for kind, size in TYPES.items():
        count = int.from_bytes(data[at : at + 2], "big")
        at += 2
        if at + count * size > len(data):
            raise ValueError(f"{count} records of type {kind} lead past the end of {len(data)} bytes")
        parts.append(_records(kind, np.frombuffer(data, np.uint8, count * size, at).reshape(count, size)))
        at += count * size
    if data[at:] != MARGIN:
        raise ValueError(f"{len(data)} bytes, expected {at + len(MARGIN)}, the last four of them zeros")
    if not len(parts[0]):
        raise ValueError("no ninja")
    entities = np.concatenate(parts)
    if len(entities) > MOST_RECORDS:
        raise ValueError(f"{len(entities)} records, expected at most {MOST_RECORDS}")
    data = encode_map(tiles, entities, title.decode("latin-1"))
    check_map(data)
    return data


def _records(kind, fields):
    """Records uint8 [n, 5] of a map file from the fields of a type's records, uint8 [n, TYPES[kind]]."""
    records = np.zeros((len(fields), 5), np.uint8)
    records[:, 0] = kind
    if kind != EXIT_DOOR and kind not in DOOR_SWITCHES:
        records[:, 1 : 1 + fields.shape[1]] = fields
        return records
    switches = np.zeros_like(records)
    switches[:, 1:3] = fields[:, -2:]
    records[:, 1 : fields.shape[1] - 1] = fields[:, :-2]
    if kind == EXIT_DOOR:
        switches[:, 0] = EXIT_SWITCH
        return np.concatenate([records, switches])
    switches[:, 0] = DOOR_SWITCHES[kind]
    return np.stack([records, switches], 1).reshape(-1, 5)


def line_from_map(map_data: bytes) -> bytes:
    """The line of a map. `map_from_line` makes the same tiles, records and title of it.

    Raises ValueError where a line cannot hold the map: for records in another order than that of TYPES, for types,
    orientations or modes that a line has no place for, and for titles with a line end.
    """
    title = map_title(map_data).encode("latin-1")
    if b"\n" in title or title.endswith(b"\r"):
        raise ValueError("a line end in the title")
    data = np.frombuffer(map_data, np.uint8)
    records = data[RECORDS_AT:]
    records = np.concatenate([records, np.zeros(-len(records) % 5, np.uint8)]).reshape(-1, 5)
    line = bytearray(MARGIN + map_data[TILES_AT:COUNTS_AT])
    for kind, size in TYPES.items():
        at = np.flatnonzero(records[:, 0] == kind)
        line += len(at).to_bytes(2, "big")
        if kind == EXIT_DOOR or kind in DOOR_SWITCHES:
            # A switch that does not exist: the comparison below finds it.
            switches = records[np.minimum(at + (len(at) if kind == EXIT_DOOR else 1), len(records) - 1)]
            line += np.concatenate([records[at, 1 : size - 1], switches[:, 1:3]], 1).tobytes()
        else:
            line += records[at, 1 : 1 + size].tobytes()
    line += MARGIN
    whole = b"$" + title + b"#" + bytes(line).translate(_SWAPPED).hex().encode() + b"#"
    again = map_from_line(whole)
    if again[TILES_AT:COUNTS_AT] != map_data[TILES_AT:COUNTS_AT] or again[RECORDS_AT:] != records.tobytes():
        raise ValueError("its records are not in the order of the text format, or hold what that has no place for")
    return whole


def read_levels(path: Path, category: str) -> tuple[list[Level], list[tuple[int, str]]]:
    """The levels of a text file, and (line number, reason) of the lines that hold none. Raises OSError, UserError.

    A level's id is the file's stem and its place in the file, counted from 0, `SI/045`.
    """
    levels, bad, place = [], [], -1
    try:
        for number, line in read_lines(path):
            place += 1
            try:
                if line is None:
                    raise ValueError(f"longer than {LONGEST_LINE:,} bytes")
                data = map_from_line(line)
            except ValueError as error:
                bad.append((number, str(error)))
                continue
            levels.append(Level(data, f"{shown_name(path.stem)}/{place:03d}", category, map_title(data)))
    except ValueError as error:
        return [], [(0, str(error))]
    return levels, bad


def in_order(map_data: bytes) -> bytes:
    """A map with its records in the order of TYPES, and without what a line cannot hold.

    Records of one type stay in their order. Collisions of one frame are handled in the order of records, so a run can
    end otherwise on the level that comes out.
    """
    data = np.frombuffer(map_data, np.uint8)
    records = data[RECORDS_AT:]
    records = np.concatenate([records, np.zeros(-len(records) % 5, np.uint8)]).reshape(-1, 5).copy()
    records[0, 0] = 0
    parts = []
    for kind, size in TYPES.items():
        at = np.flatnonzero(records[:, 0] == kind)
        if kind == EXIT_DOOR or kind in DOOR_SWITCHES:
            switches = np.minimum(at + (len(at) if kind == EXIT_DOOR else 1), len(records) - 1)
            fields = np.concatenate([records[at, 1 : size - 1], records[switches, 1:3]], 1)
        else:
            fields = records[at, 1 : 1 + size]
        parts.append(_records(kind, fields))
    tiles = data[TILES_AT:COUNTS_AT].reshape(23, 42)
    return encode_map(tiles, np.concatenate(parts), map_title(map_data))
