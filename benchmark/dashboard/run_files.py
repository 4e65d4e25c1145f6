"""A run's files: what is new in them, and what the dashboard's table needs of them.

Nothing is written and no lock is taken: a run that works holds the lock of its log.jsonl, and the kernel tells who
holds which lock. What lies outside the given folders is not read, by whatever link.
"""

import contextlib
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from benchmark.reporting.experiments import CONDITIONS, described, part, readable
from benchmark.reporting.metrics import number
from benchmark.reporting.schemas import Amount, Config, check
from npp_rl import ARCHITECTURES
from npp_rl.commands import UserError
from npp_rl.files import open_file, read_bytes, read_json

TAIL = 32768  # bytes of a log's end that are read at first
NETWORK = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "fuse", "9p", "virtiofs", "afs")


class Row(msgspec.Struct):
    """What the table needs of a line of metrics.jsonl."""

    kind: str
    global_step: Amount
    minutes: Amount
    sps: object = msgspec.field(default=None, name="charts/SPS")
    train: object = msgspec.field(default=None, name="charts/success_rate")
    validation: object = msgspec.field(default=None, name="eval/success_rate")
    test: object = msgspec.field(default=None, name="test/success_rate")


class Overall(msgspec.Struct):
    success_rate: object = None
    levels: object = None


class Results(msgspec.Struct):
    """What the table needs of eval_results.json: the rest is skipped, not read into memory."""

    overall: Overall = msgspec.field(default_factory=Overall)
    by_category: dict[str, Overall] = msgspec.field(default_factory=dict)


ROW = msgspec.json.Decoder(Row)
RESULTS = msgspec.json.Decoder(Results)


class Log:
    """A file that grows by lines. `lines` gives those that are new and whole; `half` is what follows them, bytes."""

    def __init__(self, path: Path, top: Path, tail: int | None = None):
        self.path, self.top, self.tail = path, top, tail
        self.restart()

    def restart(self) -> None:
        self.offset, self.size, self.file, self.mark, self.half = 0, 0, None, b"", 0

    def lines(self, state: os.stat_result, most: int = 64 << 20) -> tuple[list[bytes], bool]:
        """New whole lines, and whether the file is another one or was cut, so that all before is void.

        state: of the file, now. most: bytes that are read. Raises OSError, UserError.
        """
        if (state.st_ino, state.st_size) == (self.file, self.size):
            return [], False
        with open_file(inside(self.path, self.top)) as stream:
            again = self.file is not None and (state.st_ino != self.file or state.st_size < self.offset)
            if not again and self.mark:
                stream.seek(self.offset - len(self.mark))
                again = stream.read(len(self.mark)) != self.mark
            if again:
                self.restart()
            begin = self.offset
            if self.file is None and self.tail is not None:
                begin = max(0, state.st_size - self.tail)
            stream.seek(begin)
            data = stream.read(min(most, max(0, state.st_size - begin)))
        whole = data.rfind(b"\n") + 1
        lines = data[:whole].split(b"\n")[:-1]
        if begin > self.offset:
            lines = lines[1:]  # of a line in whose middle the reading began
        self.file, self.offset = state.st_ino, begin + whole
        self.size = begin + len(data)
        self.half = len(data) - whole
        if whole:
            self.mark = data[max(0, whole - 64) : whole]
        return lines, again


def inside(path: Path, top: Path) -> Path:
    """The path, if it leads into a folder. Raises UserError where a link leads out of it."""
    if not path.resolve().is_relative_to(top):
        raise UserError(f"{path.name}: is a link out of the folder, and is not read")
    return path


@dataclass
class Run:
    """A run directory as it was last looked at. `row` is its line of the table."""

    id: str
    folder: Path  # absolute
    top: Path  # the given folder that holds it
    row: dict = field(default_factory=dict)
    version: int = 0  # of the row
    stamps: dict = field(default_factory=dict)  # file -> (time of change, size) when it was read
    config: dict = field(default_factory=dict)  # fits schemas.Config
    facts: dict = field(default_factory=dict)  # of the row, from the configuration
    notes: dict = field(default_factory=dict)  # file -> what is wrong with it
    latest: dict = field(default_factory=dict)  # name in Row -> last value
    results: Results | None = None
    error: str = ""  # how it ended, by its own log
    lock_seen: bool = False
    grown: float = -math.inf  # when it last grew while it was looked at, monotonic
    log: Log | None = None

    def __post_init__(self):
        self.log = Log(self.folder / "metrics.jsonl", self.top, TAIL)


def stat_of(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def rounded(value) -> float | None:
    """A finite number to six digits; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(f"{value:.6g}")


def said(error: Exception, run: Run) -> str:
    """An error's line without the machine's paths."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return readable(text.replace(f"{run.folder}/", ""), 300)


def locks(table: Path = Path("/proc/locks")) -> set[tuple[int, int]]:
    """(device, inode) of all files that some process has locked, as far as the kernel tells."""
    found = set()
    with contextlib.suppress(OSError):
        for line in table.read_text().splitlines():
            words = line.split()
            if len(words) > 5 and "->" not in words and words[1] == "FLOCK":
                major, minor, inode = words[5].split(":")
                found.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
    return found


def is_held(state: os.stat_result | None, held: set) -> bool:
    """Whether a file is among those that `locks` found."""
    return state is not None and (state.st_dev, state.st_ino) in held


_network: dict[int, bool] = {}  # device -> whether other machines write to it too


def on_network(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Whether a folder lies on a file system of several machines, whose locks are not seen here."""
    try:
        device = folder.stat().st_dev
        if device not in _network:
            kinds = {}
            for line in mounts.read_text(errors="replace").splitlines():
                _, place, kind = line.split()[:3]
                if folder.is_relative_to(place):
                    kinds[len(place)] = kind
            _network[device] = kinds[max(kinds)].startswith(NETWORK) if kinds else False
        return _network[device]
    except (OSError, ValueError):
        return False


def read_config(run: Run, state: os.stat_result | None) -> bool:
    """Read config.json if it changed -> False if it is an experiment's and not a run's."""
    stamp = state and (state.st_mtime_ns, state.st_size)
    if run.stamps.get("config.json", ()) == stamp:
        return True
    run.stamps["config.json"] = stamp
    experiment, place = placed(run)
    words = {word.removeprefix("ppo_") for part in place.split("/") for word in (part, part.partition("__")[0])}
    guess = next((name for name in ARCHITECTURES if name in words), "unknown")
    run.facts = {"experiment": experiment, "place": place, "architecture": guess}
    if state is None:
        run.config = {}
        run.notes["config.json"] = "starting, or never begun: no config.json"
        return True
    try:
        config = read_json(inside(run.folder / "config.json", run.top), 16 << 20)
        if "architecture" not in config:
            return False  # an experiment's own
        check(config, Config, "config.json")
        found = described(run.folder, run.top, config)
    except (OSError, ValueError) as error:
        run.notes["config.json"] = f"config.json cannot be read (yet): {said(error, run).removeprefix('config.json: ')}"
        return True
    run.notes.pop("config.json", None)
    run.config = config
    args = part(config, "args")
    parameters = number(config, "parameters")
    run.facts |= {
        "architecture": found.architecture,
        "label": found.label,
        "condition": found.condition,
        "seed": found.seed,
        "parameters": int(parameters) if math.isfinite(parameters) else None,
        "suite": readable(args.get("test_dataset") or ""),
    }
    return True


def placed(run: Run) -> tuple[str, str]:
    """The experiment that a run belongs to, and the run's place in it: ids of both are joined by a slash.

    The runner makes EXPERIMENT/[label_L/]ARCHITECTURE/CONDITION/seed_K, and in it bc. The experiment of other runs is
    the folder around them.
    """
    words = run.id.split("/")
    end = len(words) - (words[-1] == "bc") - 1
    if end > 1 and words[end].startswith("seed_") and words[end - 1] in CONDITIONS:
        end -= 2
        if end > 1 and words[end - 1].startswith("label_"):
            end -= 1
    end = max(1, end)
    return "/".join(words[:end]), "/".join(words[end:]) or words[-1]


def take_lines(run: Run, lines: list[bytes]) -> None:
    """Note the last values of some lines of metrics.jsonl."""
    bad = 0
    for line in lines:
        try:
            row = ROW.decode(line)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            bad += 1
            continue
        for name in ("sps", "train", "validation", "test"):
            if (value := rounded(getattr(row, name))) is not None:
                run.latest[name] = value
        run.latest |= {"kind": row.kind, "global_step": int(row.global_step), "minutes": row.minutes}
    if bad:
        run.notes["lines"] = f"{bad} damaged lines in metrics.jsonl"


def read_results(run: Run, state: os.stat_result | None) -> None:
    """Read success from a run's results if they are new."""
    stamp = state and (state.st_mtime_ns, state.st_size)
    if run.stamps.get("eval_results.json") == stamp:
        return
    run.stamps["eval_results.json"] = stamp
    run.results = None
    run.notes.pop("eval_results.json", None)
    if state is None:
        return
    try:
        run.results = RESULTS.decode(read_bytes(inside(run.folder / "eval_results.json", run.top)))
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        words = "is not whole (yet)" if isinstance(error, msgspec.MsgspecError) else said(error, run)
        run.notes["eval_results.json"] = f"eval_results.json {words.removeprefix('eval_results.json: ')}"


def read_ending(run: Run, states: dict) -> None:
    """Read what a run that does not work any more has said last: an error in console.log, else its log's message."""
    stamp = tuple(s and (s.st_mtime_ns, s.st_size) for s in (states["console.log"], states["log.jsonl"]))
    if run.stamps.get("ending") == stamp:
        return
    run.stamps["ending"] = stamp
    run.error = ""
    for name in ("console.log", "log.jsonl"):
        if states[name] is None:
            continue
        with contextlib.suppress(OSError, ValueError, RecursionError):
            with open_file(inside(run.folder / name, run.top)) as stream:
                stream.seek(max(0, states[name].st_size - TAIL))
                lines = stream.read(TAIL).decode(errors="replace").splitlines()
            if name == "console.log":
                lines = [line for line in lines if line.startswith("error: ")]
                run.error = readable(lines[-1], 300) if lines else ""
            elif lines:
                message = json.loads(lines[-1])["message"]
                run.error = readable(message, 200) if isinstance(message, str) and "\n" not in message else ""
        if run.error:
            return
