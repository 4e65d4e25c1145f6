"""The level editor's tasks of worker.py: documents and maps, validity, the planner, and games that a person plays.

A document is what the page edits:

- `tiles`: 966 tiles, two hexadecimal digits each, top row first;
- `entities`: [type, x, y, orientation, mode] (x, y in units of 6 px), the ninja first; exits, locked doors and trap
  doors have their switch as a sixth entry [x, y, orientation, mode];
- `title`;
- `original`: base64 of the map bytes that it was made from, or null; `line`: the line of a text file, or null.

What is opened and not changed is saved as the very bytes that it came from.
"""

import base64
import itertools
import struct
from collections import OrderedDict

import numpy as np

from benchmark.dashboard.drawing import ground
from benchmark.dashboard.playback import NotThere, Stage, digits_of, keys_from, map_of
from npp_rl.levels import fields, texts
from npp_rl.levels.maps import (
    COUNTS_AT,
    DOOR_SWITCHES,
    EXIT_DOOR,
    EXIT_SWITCH,
    RECORDS_AT,
    SHORTEST_MAP,
    TILES_AT,
    TITLE_AT,
    TITLE_LENGTH,
    Level,
    encode_map,
    map_title,
)
from npp_rl.levels.replays import encode_replay
from npp_rl.planning.planner import plan_level
from npp_rl.simulator import WON, check_map, simulate
from npp_rl.simulator.layout import EXIT_DOOR as EXIT
from npp_rl.simulator.layout import GOLD, LOCKED_DOOR, TRAP_DOOR

LARGEST = 200_000  # bytes of a map or a line
LONGEST_BUDGET = 60.0  # seconds of the planner
MOST_GAMES = 8  # that people play at once
LONGEST_GAME = 36_000  # frames: ten minutes
TOUCH = {EXIT: fields.TOUCH_EXIT, GOLD: fields.TOUCH_SWITCH}  # px
SWITCH_TOUCH = {EXIT: fields.TOUCH_SWITCH, LOCKED_DOOR: fields.TOUCH_DOOR_SWITCH, TRAP_DOOR: fields.TOUCH_DOOR_SWITCH}


def document(data: str) -> dict:
    """The document of a file's bytes (base64): a map file, or one line of a text file. Raises ValueError."""
    content = base64.b64decode(data, validate=True)
    if len(content) > LARGEST:
        raise ValueError(f"{len(content):,} bytes, expected at most {LARGEST:,}")
    if content.startswith(b"$"):
        line = content.rstrip(b"\r\n")
        return document_of(texts.map_from_line(line), line.decode("latin-1"))
    if len(content) < SHORTEST_MAP:
        raise ValueError(f"{len(content)} bytes, expected a map of at least {SHORTEST_MAP}, or a line of a text file")
    if (len(content) - RECORDS_AT) % 5:
        raise ValueError(
            f"{len(content)} bytes, expected {RECORDS_AT} + 5 per entity: no map, or the last record is cut"
        )
    check_map(content)
    return document_of(content)


def document_of(data: bytes, line: str | None = None) -> dict:
    """The document of a good map."""
    records = Level(data, "", "").entities.tolist()
    exits, taken, entities = data[COUNTS_AT + 2 * EXIT_DOOR], set(), []  # exits: the low byte of their number
    for at, record in enumerate(records):
        if at in taken:
            continue
        kind = record[0]
        switch = at + exits if kind == EXIT_DOOR else at + 1
        wanted = EXIT_SWITCH if kind == EXIT_DOOR else DOOR_SWITCHES.get(kind)
        if at and wanted is not None and at < switch < len(records) and records[switch][0] == wanted:
            taken.add(switch)
            record = [*record, records[switch][1:]]
        entities.append(record)
    found = {"tiles": data[TILES_AT:COUNTS_AT].hex(), "entities": entities, "title": map_title(data), "line": line}
    found["original"] = base64.b64encode(data).decode()
    in_order = _records(entities) == data[RECORDS_AT:]
    found["note"] = (
        "" if in_order else "Its records are in an order of their own, which changes if the level is changed."
    )
    return found


def _records(entities) -> bytes:
    """Records of a map: exits together with their switches after them, other doors each before its switch."""
    parts, exits = [], [entity for entity in entities[1:] if entity[0] == EXIT_DOOR and len(entity) == 6]
    for at, entity in enumerate(entities):
        kind, switch = entity[0], entity[5] if len(entity) == 6 else None
        if at and kind == EXIT_DOOR and switch is not None:
            if exits:
                parts += [one[:5] for one in exits] + [[EXIT_SWITCH, *one[5]] for one in exits]
                exits = []
            continue
        parts.append(entity[:5])
        if switch is not None:
            parts.append([DOOR_SWITCHES[kind], *switch])
    return b"".join(bytes(part) for part in parts)


def map_from(document: dict) -> bytes:
    """Map bytes of a document. Raises ValueError, one line, for what is no level."""
    try:
        tiles, title, entities = bytes.fromhex(document["tiles"]), str(document["title"]), document["entities"]
        original = base64.b64decode(document["original"], validate=True) if document.get("original") else None
        good = len(tiles) == COUNTS_AT - TILES_AT and len(entities) > 0
        many = len(entities) > texts.MOST_RECORDS
        for entity in [] if many else entities:
            kind, places = entity[0], entity[1:5] + (entity[5] if len(entity) == 6 else [])
            good &= len(places) == (8 if len(entity) == 6 else 4) and len(entity) in (5, 6)
            good &= all(type(value) is int and 0 <= value <= 255 for value in [kind, *places])
            good &= len(entity) == 5 or kind == EXIT_DOOR or kind in DOOR_SWITCHES
        if not good:
            raise ValueError
        records = b"" if many else _records(entities)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise ValueError("expected a document of the editor: tiles, entities, title") from None
    if many:
        raise ValueError(f"{len(entities):,} things in the level, expected at most {texts.MOST_RECORDS:,}")
    if original is not None:
        if len(original) < SHORTEST_MAP:
            raise ValueError(f"original: expected null or a map of at least {SHORTEST_MAP} bytes")
        same = document_of(original)
        if all(same[key] == document[key] for key in ("tiles", "entities", "title")):
            return original
    data = _with_header(original, tiles, records, title)
    check_map(data)
    return data


def _with_header(original, tiles, records, title) -> bytes:
    table = np.frombuffer(records, np.uint8).reshape(-1, 5)
    if original is None:
        return encode_map(np.frombuffer(tiles, np.uint8).reshape(23, 42), table, title)
    header = bytearray(original[:TILES_AT])
    if title != map_title(original):
        name = title.encode("latin-1", "replace")[:TITLE_LENGTH]
        header[TITLE_AT : TITLE_AT + TITLE_LENGTH] = name.ljust(TITLE_LENGTH, b"\0")
    if struct.unpack_from("<I", original, 4)[0] == len(original):
        struct.pack_into("<I", header, 4, RECORDS_AT + len(records))
    counts = original[COUNTS_AT:RECORDS_AT]
    before = np.frombuffer(original[RECORDS_AT:], np.uint8)[::5]
    if not np.array_equal(before, table[:, 0]):
        if (table[:, 0] == EXIT_DOOR).sum() > 255:
            raise ValueError("expected at most 255 exits")
        counts = np.bincount(table[:, 0], minlength=40)[:40].astype("<u2").tobytes()
    return bytes(header) + tiles + counts + records


def encode(document: dict, format: str) -> dict:
    """A document as a file: `data`, base64 of a map file ("map") or a line with its end ("text"), and `note`."""
    data = map_from(document)
    if format == "map":
        return {"data": base64.b64encode(data).decode(), "note": ""}
    if format != "text":
        raise ValueError("expected map or text")
    note, line = "", (document.get("line") or "").encode("latin-1", "replace")
    if not line or texts.map_from_line(line) != data:
        try:
            line = texts.line_from_map(data)
        except ValueError:
            ordered = texts.in_order(data)
            line = texts.line_from_map(ordered)
            note = "The text format has an order of its own for records, and no place for some of what a map can hold."
    return {"data": base64.b64encode(line + b"\n").decode(), "note": note}


def check(document: dict) -> dict:
    """What can be said of a document while it is drawn.

    `problem`: why it is no level, or ""; then the rest is missing. `map`: base64. `free`: whether the ninja's start is
    in free space. `t`, `n`: as in `drawing.ground`. `far`: indices of exits and gold that the ninja cannot touch if all
    doors are open; `far_switches`: of entities whose switch it cannot. `exit`: whether there is one.
    """
    try:
        data = map_from(document)
    except ValueError as error:
        return {"problem": str(error)}
    level = Level(data, "", "")
    tiles = np.ones((25, 44), np.uint8)
    tiles[1:24, 1:43] = level.tiles
    free, dist = np.zeros(fields.NODES, np.uint8), np.zeros(fields.NODES, np.uint16)
    fields.level_free(tiles, free)
    x, y = level.spawn
    inside = x // 6 < fields.COLS and y // 6 < fields.ROWS
    stands = inside and bool(free[y // 6 * fields.COLS + x // 6])
    scratch = np.zeros(fields.NODES, np.uint8), np.zeros(fields.QUEUE, np.int32)
    fields.distances(free, np.array([[x, y]], float), fields.RADIUS, dist, *scratch)
    reached = (dist != fields.UNREACHED).reshape(fields.ROWS, fields.COLS)
    places = 6.0 * np.argwhere(reached)[:, ::-1]
    far, far_switches = [], []
    for at, entity in enumerate(document["entities"]):
        kind = entity[0]
        if at and kind in TOUCH and not _touched(places, entity[1:3], TOUCH[kind]):
            far.append(at)
        if at and kind in SWITCH_TOUCH and len(entity) == 6 and not _touched(places, entity[5][:2], SWITCH_TOUCH[kind]):
            far_switches.append(at)
    return {
        "problem": "",
        "map": base64.b64encode(data).decode(),
        "digest": level.digest,
        "free": stands,
        **ground(level),
        "far": far,
        "far_switches": far_switches,
        "exit": any(entity[0] == EXIT_DOOR and len(entity) == 6 for entity in document["entities"][1:]),
    }


def _touched(places, at, reach) -> bool:
    """Whether one of the places [n, 2] (px) is nearer than `reach` px to a map coordinate."""
    return bool(len(places)) and bool((np.hypot(*(places - 6.0 * np.array(at)).T) < reach).any())


def plan(map: str, budget: float) -> dict:
    """The planner's run on a map: `frames`, `inputs` (digits), or frames None and the `reason`."""
    if not 0 < budget <= LONGEST_BUDGET:
        raise ValueError(f"budget {budget}: expected seconds, at most {LONGEST_BUDGET:.0f}")
    found, reason = plan_level(Level(map_of(map), "level", ""), float(budget))
    if found is None:
        return {"frames": None, "inputs": "", "reason": reason}
    return {"frames": found.frames, "inputs": digits_of(found.inputs), "reason": ""}


def replay(map: str, inputs: str) -> dict:
    """A run as a replay file: `data`, base64 of the compact format, version 1."""
    data, keys = map_of(map), keys_from(inputs)
    if not keys:
        raise ValueError("expected at least one frame")
    _, states = simulate(data, keys)
    won = bool(states[-1] == WON)
    return {"data": base64.b64encode(encode_replay(data, keys[: len(states)], won)).decode(), "won": won}


_games: OrderedDict[int, Stage] = OrderedDict()
_numbers = itertools.count(1)


def begin(map: str) -> dict:
    """Begin a game that a person plays: `game`, its number, and `track`, its start (see `playback.Stage`)."""
    number = next(_numbers)
    stage = _games[number] = Stage(map_of(map))
    while len(_games) > MOST_GAMES:
        _games.popitem(last=False)
    return {"game": number, "track": stage.answer()}


def advance(game: int, frame: int, inputs: str) -> dict:
    """Play frames of a game with input digits -> what came of them. frame: frames that the page knows of.

    Raises NotThere for a game that has been put away, ValueError where the page knows of other frames.
    """
    if game not in _games:
        raise NotThere("this game has been put away: begin again")
    _games.move_to_end(game)
    stage, keys = _games[game], keys_from(inputs)
    if frame != stage.frame or len(keys) > 600:
        raise ValueError(f"frame {frame}: the game is in frame {stage.frame}")
    if stage.frame + len(keys) > LONGEST_GAME:
        raise ValueError("the game is too long: begin again")
    for key in keys:
        stage.advance(key)
    return stage.answer()
