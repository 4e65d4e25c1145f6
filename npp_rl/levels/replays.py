"""Replays: a map and one input byte per frame, in the three formats of PHYSICS.md 9, judged by the simulator.

    python -m npp_rl.levels.replays FOLDER_OR_FILE... [--json FILE]

reports how each file ends:

- won         the ninja wins in exactly the frame of the last input byte (PHYSICS.md 7);
- died        the ninja dies, at the latest in that frame;
- unfinished  the inputs end first, for instance where the player restarted;
- broken      the file does not hold what its header says, its map is no level, or inputs are left over after the win.

For a broken file whose mistake is known, it also reports how the repaired replay ends. Files are never changed.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from npp_rl.commands import ArgumentError, UserError, command
from npp_rl.files import open_file, write_atomically, write_json
from npp_rl.levels.datasets import OTHER_NAMES, OTHER_SUFFIXES
from npp_rl.levels.maps import RECORDS_AT, complete_locked_door, map_title
from npp_rl.simulator import DEAD, WON, check_map, simulate_final

VERDICTS = ("won", "died", "unfinished", "broken")
LARGEST_FILE = 1 << 24  # bytes, also of what a compressed file may hold; 16 million frames are three days of play
DEMO_HEADER = 30  # bytes of an attract file's demo block before its inputs
EPISODE_LEVELS = 5


class ReplayError(UserError):
    """A file or folder that holds no replay; the message is one line."""


@dataclass(frozen=True)
class Replay:
    """Content of a replay file.

    map_data and inputs (one byte per frame, bits as in PHYSICS.md 7) are empty where the file cannot be parsed.
    """

    path: Path
    format: str  # "compact 0", "compact 1", "attract", "compressed", "unknown"
    map_data: bytes = b""
    inputs: bytes = b""
    part: str = ""  # number of the run in a file that holds several
    recorded_success: bool | None = None  # the file's success flag, None where the format has none
    problem: str = ""  # what is wrong with the file, "" if nothing is
    repair: str = ""  # the change that leads to `repaired`
    repaired: "Replay | None" = None

    @property
    def title(self) -> str:
        return map_title(self.map_data)


@dataclass(frozen=True)
class Verdict:
    """How a replay ends in the simulator."""

    replay: Replay
    verdict: str  # one of VERDICTS
    frames: int  # played until victory, death or the last input
    gold: int
    reason: str = ""
    repair: str = ""
    repaired: "Verdict | None" = None  # the verdict on the replay once it is repaired


def read_replays(path: str | Path) -> list[Replay]:
    """The runs in a file: five in the compressed inputs of an episode, else one. The content tells the format.

    A file that is cut or irregular gives a Replay with a `problem`. Raises ReplayError if the file cannot be read.
    """
    path = Path(path)
    return parse_replays(path, _read(path))


def parse_replays(path: Path, data: bytes) -> list[Replay]:
    """`read_replays` of a file's content. The maps of compressed inputs are read from files beside `path`."""
    # The check of zlib's header; the other formats start with a length below 65536 or a version.
    if len(data) >= 8 and data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0 and data[2:4] != b"\0\0":
        return _read_compressed(path, data)
    if len(data) < 13:
        return [Replay(path, "unknown", problem=f"{len(data)} bytes, too short for a replay")]
    return [_read_attract(path, data) if _is_attract(data) else _read_compact(path, data)]


def _read(path: Path) -> bytes:
    try:
        with open_file(path) as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ReplayError(f"{path}: cannot be read ({error.strerror}), expected a replay") from None
    except UserError:
        raise ReplayError(f"{path}: not a regular file, expected a replay") from None
    if len(data) > LARGEST_FILE:
        raise ReplayError(f"{path}: larger than {LARGEST_FILE} bytes, expected a replay")
    return data


def _is_attract(data: bytes) -> bool:
    """Whether it is an attract file: its parts add up as those of compact version 0, but the headers differ."""
    map_length, demo_length = struct.unpack_from("<2I", data)
    at = 8 + map_length
    if len(data) >= at + DEMO_HEADER and struct.unpack_from("<I", data, at + 1)[0] == demo_length:
        return True
    # A cut file still has its map block's head: level number, game mode 0, 1, zeros up to the title.
    return data[12:38] == b"\0\0\0\0\1" + bytes(21) and map_length > 100


def _read_attract(path: Path, data: bytes) -> Replay:
    map_length, demo_length = struct.unpack_from("<2I", data)
    at = 8 + map_length
    if len(data) != at + demo_length or demo_length < DEMO_HEADER:
        problem = f"{len(data)} bytes, the header says 8 + {map_length} + {demo_length}"
        return Replay(path, "attract", problem=problem)
    said, _, count = struct.unpack_from("<3I", data, at + 1)
    if said != demo_length or count != demo_length - DEMO_HEADER:
        problem = f"demo block of {demo_length} bytes says {said} bytes and {count} frames"
        return Replay(path, "attract", problem=problem)
    # The map's offsets count from the start of the file (PHYSICS.md 9.2).
    return _checked(Replay(path, "attract", data[:at], data[at + DEMO_HEADER :]))


def _read_compact(path: Path, data: bytes) -> Replay:
    first = struct.unpack_from("<I", data)[0]
    if first > 100:
        name, start, success = "compact 0", 8, None
        map_length, count = struct.unpack_from("<2I", data)
    else:
        name, start = "compact 1", 13
        version, map_length, count, flag = struct.unpack_from("<3IB", data)
        success = bool(flag)
        if version != 1:
            return Replay(path, "unknown", problem=f"starts with {version}, neither a version (1) nor a map's length")
        if flag > 1:
            return Replay(path, name, problem=f"success flag {flag}, expected 0 or 1")
    if len(data) - start == map_length + count:
        middle = start + map_length
        return _checked(Replay(path, name, data[start:middle], data[middle:], recorded_success=success))

    said = f"{len(data)} bytes, the header says {start} + {map_length} + {count}"
    if len(data) - start != map_length + count - 1 or map_length < 2:
        return Replay(path, name, recorded_success=success, problem=said)
    # Known writers lose the first byte of the map and nothing else (PHYSICS.md 9.1).
    middle = start + map_length - 1
    whole = Replay(path, name, b"\0" + data[start:middle], data[middle:], recorded_success=success)
    return Replay(
        path,
        name,
        data[start : start + map_length],
        data[start + map_length :],
        recorded_success=success,
        problem=f"{said}: one byte short, everything in the map is shifted",
        repair="one zero byte put in front of the map",
        repaired=_checked(whole),
    )


def _checked(replay: Replay) -> Replay:
    """The replay, with a problem if its map cannot be played as it is."""
    map_data = replay.map_data
    problem, repair, repaired = "", "", None
    try:
        check_map(map_data)
    except ValueError as error:
        problem = str(error)
    rest = (len(map_data) - RECORDS_AT) % 5
    if not replay.inputs:
        problem = problem or "no inputs"
    elif rest and len(map_data) > RECORDS_AT:
        whole = complete_locked_door(map_data) if rest == 4 else None
        if whole:
            problem = "a locked door of 9 bytes shifts all records behind it"
            repair = "one zero byte put after the door's ninth byte"
            repaired = _checked(_with(replay, map_data=whole))
        else:
            problem = problem or f"map of {len(map_data)} bytes, expected {RECORDS_AT} + 5 per entity"
    return _with(replay, problem=problem, repair=repair, repaired=repaired) if problem else replay


def _with(replay: Replay, **changes) -> Replay:
    return Replay(**{**replay.__dict__, **changes})


def _read_compressed(path: Path, data: bytes) -> list[Replay]:
    """The runs of one zlib stream; their maps are files beside it (PHYSICS.md 9.3)."""
    unpacker = zlib.decompressobj()
    try:
        inputs = unpacker.decompress(data, LARGEST_FILE)
    except zlib.error as error:
        return [Replay(path, "compressed", problem=f"damaged zlib stream ({error})")]
    if not unpacker.eof:
        return [Replay(path, "compressed", problem=f"zlib stream is cut, or holds more than {LARGEST_FILE} bytes")]
    if path.name != "inputs_episode":
        return [_with_map(path, path.with_name("map_data"), inputs, "")]
    runs = inputs.split(b"&")
    if len(runs) != EPISODE_LEVELS:
        problem = f"{len(runs)} runs, expected {EPISODE_LEVELS} separated by '&'"
        return [Replay(path, "compressed", problem=problem)]
    return [_with_map(path, path.with_name(f"map_data_{k}"), run, str(k)) for k, run in enumerate(runs)]


def _with_map(path: Path, map_path: Path, inputs: bytes, part: str) -> Replay:
    try:
        map_data = _read(map_path)
    except ReplayError:
        problem = f"its map, expected beside it as {map_path.name}, cannot be read"
        return Replay(path, "compressed", inputs=inputs, part=part, problem=problem)
    return _checked(Replay(path, "compressed", map_data, inputs, part))


def find_replays(paths: Iterable[str | Path]) -> list[Path]:
    """Files to read: files among the paths, and all files at any depth of folders that may be replays.

    Raises ReplayError for a path that does not exist and for a folder without such a file.
    """
    found = []
    for path in map(Path, paths):
        if path.is_file():
            found.append(path)
            continue
        if not path.is_dir():
            raise ReplayError(f"{path}: no such file or folder, expected replays")
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and _may_be_replay(file)]
        if not files:
            raise ReplayError(f"{path}: no replay in this folder")
        found += files
    return found


def _may_be_replay(file: Path) -> bool:
    if file.name.startswith((".", "map_data")) or file.name in OTHER_NAMES:
        return False
    if file.suffix in OTHER_SUFFIXES - {".replay"} or file.suffix == ".pkl":
        return False
    # The inputs of an episode replace those of single levels (PHYSICS.md 9.3).
    single = file.name.startswith("inputs_") and file.name != "inputs_episode"
    return not (single and file.with_name("inputs_episode").exists())


def validate(replay: Replay) -> Verdict:
    """Play the replay in the simulator. Nothing that a file can hold raises an error."""
    if replay.problem:
        after = validate(replay.repaired) if replay.repaired else None
        return Verdict(replay, "broken", 0, 0, replay.problem, replay.repair, after)
    _, states, gold, _ = simulate_final(replay.map_data, replay.inputs)
    frames, count = len(states), len(replay.inputs)
    end = int(states[-1])
    if end == WON and frames < count:
        trimmed = _with(replay, inputs=replay.inputs[:frames])
        reason = f"won in frame {frames} of {count}, with inputs left over"
        repair = "inputs after the win left out"
        return Verdict(replay, "broken", frames, gold, reason, repair, validate(trimmed))
    verdict = {WON: "won", DEAD: "died"}.get(end, "unfinished")
    reasons = []
    if verdict == "died" and frames < count:
        reasons.append(f"dead in frame {frames} of {count}")
    if verdict == "unfinished" and replay.inputs[-1] & 8:
        reasons.append("restarted by the player")
    if replay.recorded_success is not None and replay.recorded_success != (verdict == "won"):
        reasons.append(f"recorded as {'won' if replay.recorded_success else 'not won'}")
    return Verdict(replay, verdict, frames, gold, "; ".join(reasons))


def validate_files(paths: Iterable[str | Path]) -> list[Verdict]:
    """Verdicts on all runs in these files and folders. Raises ReplayError as `find_replays`."""
    verdicts = []
    for path in find_replays(paths):
        try:
            replays = read_replays(path)
        except ReplayError as error:
            replays = [Replay(path, "unknown", problem=str(error))]
        verdicts += map(validate, replays)
    return verdicts


def encode_replay(map_data: bytes, inputs: bytes, success: bool) -> bytes:
    """A compact replay, version 1 (PHYSICS.md 9.1)."""
    return struct.pack("<3IB", 1, len(map_data), len(inputs), success) + map_data + inputs


def write_replay(path: str | Path, map_data: bytes, inputs: bytes, success: bool) -> None:
    """Write a compact replay, version 1, atomically; OSError where that fails."""
    write_atomically(path, encode_replay(map_data, inputs, success))


def as_dict(verdict: Verdict) -> dict:
    """A verdict as plain values, for JSON."""
    replay = verdict.replay
    result = {
        "file": str(replay.path),
        "part": replay.part,
        "format": replay.format,
        "title": replay.title,
        "verdict": verdict.verdict,
        "frames": verdict.frames,
        "inputs": len(replay.inputs),
        "gold": verdict.gold,
        "recorded_success": replay.recorded_success,
        "reason": verdict.reason,
        "repair": verdict.repair,
        "repaired": None,
    }
    if verdict.repaired:
        after = as_dict(verdict.repaired)
        result["repaired"] = {key: after[key] for key in ("verdict", "frames", "inputs", "gold", "reason")}
    return result


def _line(verdict: Verdict, width: int) -> str:
    replay = verdict.replay
    name = replay.path.name + (f" [{replay.part}]" if replay.part else "")
    note = verdict.reason
    after = verdict.repaired
    if after:
        note += f"; {verdict.repair}: {after.verdict} ({after.frames} of {len(after.replay.inputs)} frames)"
    played = f"{verdict.frames} of {len(replay.inputs)}"
    return f"{name:{width}}  {replay.format:10}  {verdict.verdict:10}  {played:>14}  {note}".rstrip()


@dataclass
class Args:
    """Report how replays end in the simulator."""

    paths: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="FOLDER_OR_FILE ...", help_behavior_hint="(at least one)"),
    ]
    """replay files, or folders of them"""
    json: Path | None = None
    """JSON file that the verdicts are written to as well"""


def main(args: Args) -> None:
    """Report how replays end. Raises ArgumentError, ReplayError, OSError."""
    if not args.paths:
        raise ArgumentError("FOLDER_OR_FILE: expected replay files, or folders of them")
    verdicts = validate_files(args.paths)
    width = max(len(verdict.replay.path.name) for verdict in verdicts)
    lines = [f"{'file':{width}}  {'format':10}  {'verdict':10}  {'frames':>14}  note"]
    lines += [_line(verdict, width) for verdict in verdicts]
    counts = Counter(verdict.verdict for verdict in verdicts)
    repaired = Counter(verdict.repaired.verdict for verdict in verdicts if verdict.repaired)
    summary = ", ".join(f"{counts[name]} {name}" for name in VERDICTS)
    after = ", ".join(f"{repaired[name]} {name}" for name in VERDICTS if repaired[name])
    lines += ["", f"{len(verdicts)} replays: {summary}" + (f" (after repair: {after})" if after else "")]
    print("\n".join(lines))
    if args.json:
        report = {"counts": {name: counts[name] for name in VERDICTS}, "replays": [as_dict(v) for v in verdicts]}
        write_json(args.json, report)


if __name__ == "__main__":
    command(main, Args)
