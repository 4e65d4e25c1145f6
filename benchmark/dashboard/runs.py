"""Run folders as they are now: which there are, their states, and their files, of which only what is new is read.

Nothing is written and no lock is taken: a run that works holds the lock of its log.jsonl, and the kernel tells who
holds which lock. What lies outside the given folders is not read, by whatever link.
"""

import contextlib
import json
import math
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from starlette.exceptions import HTTPException

from benchmark.reporting.experiments import CONDITIONS, SKIPPED, described, part, readable
from benchmark.reporting.metrics import number
from benchmark.reporting.schemas import Amount, Config, Planned, check
from npp_rl import ARCHITECTURES
from npp_rl.commands import UserError
from npp_rl.files import open_file, read_bytes, read_json, shown_name

DEPTH, MOST = 10, 5000  # folders below each other, and run directories, that are looked for
TAIL = 32768  # bytes of a log's end that are read at first
WALK_SECONDS, LOOK_SECONDS = 5.0, 1.0  # between searches for new runs, and between looks at the known ones
GROWING = 60.0  # seconds for which a run that has grown counts as running where no lock can be seen
NETWORK_GROWING = (
    900.0  # the same for file systems of several machines, whose locks are not seen: an evaluation is long
)
NETWORK = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "fuse", "9p", "virtiofs", "afs")
FAILED = ("failed", "error", "crashed")  # states of the runner's that end a run


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


class Runs:
    """The runs below some folders. A run's id is its given folder's name and its path below it.

    All methods may be called by any thread.
    """

    def __init__(self, folders: list[Path]):
        names: dict[str, int] = {}
        self.folders: dict[str, Path] = {}  # name -> folder
        for folder in folders:
            if any(folder == other or folder.is_relative_to(other) for other in self.folders.values()):
                continue  # its runs are known already
            name = readable(folder.name or "root", 60)
            names[name] = names.get(name, 0) + 1
            self.folders[name if names[name] == 1 else f"{name} ({names[name]})"] = folder
        self.runs: dict[str, Run] = {}
        self.planned: dict[str, dict] = {}  # id -> row of a run that has no folder yet
        self.plans: dict[Path, tuple] = {}  # all_results.json -> (stamp, entries by folder)
        self.version = 0
        self.gone: list[tuple[int, str]] = []  # (version, id)
        self.problems: list[str] = []
        self.lock = threading.Lock()
        self.walked = self.looked = -math.inf

    def run(self, name: str) -> Run:
        """The run with an id. Raises HTTPException (404) for any other text."""
        if name not in self.runs and self.looked == -math.inf:
            self.refresh()
        if name not in self.runs:
            raise HTTPException(404, "there is no such run (any more)")
        return self.runs[name]

    def some(self, names: list[str], most: int = 1000) -> list[Run]:
        """The runs with these ids, each once; those that are gone are left out."""
        if self.looked == -math.inf:
            self.refresh()
        return [self.runs[name] for name in dict.fromkeys(names[:most]) if name in self.runs]

    def rows(self, since: int = 0) -> dict:
        """Rows of the table that are newer than a version, ids that are gone since, and the version now."""
        with self.lock:
            rows = [run.row for run in self.runs.values() if run.version > since]
            rows += [row for row in self.planned.values() if row["version"] > since]
            gone = [name for version, name in self.gone if version > since]
            return {"version": self.version, "rows": rows, "gone": gone, "problems": self.problems}

    def refresh(self) -> None:
        """Look at all runs, if the last look is not from just now."""
        with self.lock:
            now = time.monotonic()
            if now - self.looked < LOOK_SECONDS:
                return
            if now - self.walked > WALK_SECONDS:
                self._walk()
                self.walked = time.monotonic()
            held = locks()
            for run in self.runs.values():
                try:
                    changed = self._look(run, held, now)
                except Exception as error:  # whatever is wrong with one run, the others are shown
                    row = empty_row(run.id) | {"experiment": placed(run)[0], "place": placed(run)[1], "state": "dead"}
                    row["error"] = f"cannot be read: {type(error).__name__}"
                    changed, run.row = (
                        {**row, "version": 0} != {**run.row, "version": 0},
                        row | {"version": run.version},
                    )
                if changed:
                    self.version += 1
                    run.version = run.row["version"] = self.version
            self.looked = time.monotonic()

    def _walk(self) -> None:
        """Find run directories and the runner's plans."""
        found: dict[str, tuple[Path, Path]] = {}
        plans: list[tuple[Path, Path, str]] = []
        problems: list[str] = []
        for name, top in self.folders.items():
            stack = [(top, 0)]
            while stack:
                here, depth = stack.pop()
                try:
                    with os.scandir(here) as entries:
                        entries = list(entries)
                except OSError as error:
                    problems.append(f"{readable(here.name)}: {error.strerror}")
                    continue
                files = {entry.name for entry in entries}
                inner = here.relative_to(top).as_posix()
                key = shown_name(name if inner == "." else f"{name}/{inner}")
                if {"config.json", "log.jsonl"} & files:  # a run that starts has only the latter
                    found[key] = (here, top)
                if "all_results.json" in files:
                    plans.append((here, top, key))
                for entry in entries:
                    plain = entry.name not in SKIPPED and not entry.name.startswith(".")
                    with contextlib.suppress(OSError):
                        if plain and entry.is_dir(follow_symlinks=False) and depth < DEPTH:
                            stack.append((Path(entry.path), depth + 1))
                if len(found) >= MOST:
                    problems.append(f"{name}: holds over {MOST} run directories, the others are not shown")
                    break
        self.problems = problems
        for key, (here, top) in sorted(found.items()):
            run = self.runs.get(key)
            if run is None or (run.folder, run.top) != (here, top):
                run = Run(key, here, top)
                if _configured(run, stat_of(here / "config.json")):
                    self.runs[key] = run
        for key in [key for key in self.runs if key not in found]:
            del self.runs[key]
            self.version += 1
            self.gone = [*self.gone[-500:], (self.version, key)]
        self._plan(plans)

    def _plan(self, places) -> None:
        """What the runner says of its runs: reasons of failures, and runs that have no folder yet."""
        self.plans = {place[0]: self.plans.get(place[0], ((), {})) for place in places}
        planned = {}
        for here, top, key in places:
            state = stat_of(here / "all_results.json")
            stamp = state and (state.st_mtime_ns, state.st_size)
            if stamp != self.plans[here][0]:
                entries = {}
                with contextlib.suppress(OSError, ValueError):
                    content = check(read_json(inside(here / "all_results.json", top)), Planned, "")
                    listed = content.get("runs", [])
                    for entry in listed.values() if isinstance(listed, dict) else listed:
                        words = [entry.get("architecture"), entry.get("condition"), f"seed_{entry.get('seed')}"]
                        if all(isinstance(word, str) and "/" not in word for word in words):
                            entries["/".join(words)] = entry
                self.plans[here] = (stamp, entries)
            for inner, entry in self.plans[here][1].items():
                name = f"{key}/{inner}"
                reason = entry.get("reason") or entry.get("error")
                reason = readable(reason, 300) if isinstance(reason, str) else ""
                if name in self.runs:
                    self.runs[name].facts["planned"] = (entry.get("status"), reason)
                    continue
                done = entry.get("status") in FAILED
                row = empty_row(name) | {
                    "experiment": key,
                    "place": inner,
                    "architecture": readable(entry["architecture"]),
                    "condition": entry["condition"] if entry["condition"] in CONDITIONS else "no_pretrain",
                    "seed": entry["seed"] if isinstance(entry.get("seed"), int) else 0,
                    "state": "dead" if done else "running" if entry.get("status") == "running" else "queued",
                    "error": reason,
                    "notes": ["starting"] if entry.get("status") == "running" else [],
                }
                before = self.planned.get(name)
                if before is None or {**before, "version": 0} != row:
                    self.version += 1
                    row["version"] = self.version
                else:
                    row = before
                planned[name] = row
        for name in self.planned.keys() - planned.keys() - self.runs.keys():
            self.version += 1
            self.gone = [*self.gone[-500:], (self.version, name)]
        self.planned = planned

    def _look(self, run: Run, held: set, now: float) -> bool:
        """Bring a run's row up to date -> whether it has changed."""
        states = {name: stat_of(run.folder / name) for name in ("config.json", "metrics.jsonl", "eval_results.json",
                                                              "log.jsonl", "console.log", "bc/log.jsonl")}  # fmt: skip
        _configured(run, states["config.json"])
        metrics = states["metrics.jsonl"]
        if metrics is None:
            run.notes["metrics.jsonl"] = "no metrics.jsonl"
        else:
            before = run.log.size
            try:
                lines, again = run.log.lines(metrics)
                run.notes.pop("metrics.jsonl", None)
                if again:
                    run.latest = {}
                _take(run, lines)
            except (OSError, ValueError) as error:
                run.notes["metrics.jsonl"] = said(error, run)
            if before and run.log.size > before:
                run.grown = now
        _results(run, states["eval_results.json"])
        locked = [name for name in ("log.jsonl", "bc/log.jsonl") if _held(states[name], held)]
        run.lock_seen = run.lock_seen or bool(locked)
        row = self._row(run, states, locked, now)
        changed = {**row, "version": 0} != {**run.row, "version": 0}
        row["version"] = run.version
        run.row = row
        return changed

    def _row(self, run: Run, states: dict, locked: list[str], now: float) -> dict:
        state = "dead"
        changed = max((s.st_mtime for s in states.values() if s), default=0.0)
        growing = GROWING if not on_network(run.folder) else NETWORK_GROWING
        if locked:
            state = "running"
        elif run.results is not None and not _resumed(run, states):
            state = "finished"
        elif not run.lock_seen and (
            now - run.grown < growing or (growing > GROWING and time.time() - changed < growing)
        ):
            state = "running"
        if state == "dead":
            _ending(run, states)
            if "stopped" in run.error and not run.error.startswith("error:"):
                state = "stopped"
        status, reason = run.facts.get("planned", (None, ""))
        if state in ("dead", "stopped") and status == "stopped":
            state = "stopped"
        error = "" if state in ("running", "finished") else reason or run.error
        latest, args = run.latest, part(run.config, "args")
        minutes, steps = latest.get("minutes"), latest.get("global_step")
        share = left = None
        most_minutes, most_steps = number(args, "max_minutes"), number(args, "total_timesteps")
        if state == "finished":
            share = 1.0
        elif minutes is not None:
            share = minutes / most_minutes if most_minutes > 0 else steps / most_steps if most_steps > 0 else None
            share = None if share is None else min(1.0, share)
        if state == "running" and share and minutes:
            left = minutes * (1 - share) / share
        test = latest.get("test")
        if run.results is not None:
            own = number({"v": run.results.overall.success_rate}, "v")
            test = own if math.isfinite(own) else test
        notes = list(run.notes.values())
        if run.log.half and state != "running":
            notes.append("the last line of metrics.jsonl is cut off")
        if locked == ["bc/log.jsonl"]:
            notes.append("pretraining")
        return empty_row(run.id) | {
            **{name: value for name, value in run.facts.items() if name != "planned"},
            "state": state,
            "progress": rounded(share),
            "steps": steps,
            "minutes": rounded(minutes),
            "left": rounded(left),
            "sps": rounded(latest.get("sps")),
            "train": rounded(latest.get("train")),
            "validation": rounded(latest.get("validation")),
            "test": rounded(test),
            "error": error,
            "notes": notes,
            "size": run.log.size,
            "tested": run.results is not None,
        }


def empty_row(name: str) -> dict:
    """The keys of a row. Numbers are None where they are not known."""
    return {
        "id": name, "version": 0, "experiment": "", "place": "", "architecture": "", "label": "",
        "condition": "no_pretrain", "seed": 0, "state": "queued", "progress": None, "steps": None, "minutes": None,
        "left": None, "sps": None, "train": None, "validation": None, "test": None, "error": "", "notes": [],
        "parameters": None, "suite": "", "size": 0, "tested": False,
    }  # fmt: skip


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


def _held(state: os.stat_result | None, held: set) -> bool:
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


def stat_of(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _configured(run: Run, state: os.stat_result | None) -> bool:
    """Read a run's configuration if it is new -> whether it is a run's, or cannot be read (yet)."""
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
        run.notes["config.json"] = f"config.json cannot be read (yet): {said(error, run)}"
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


def _take(run: Run, lines: list[bytes]) -> None:
    """The last values of some lines of metrics.jsonl."""
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


def _results(run: Run, state: os.stat_result | None) -> None:
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
        run.notes["eval_results.json"] = f"eval_results.json {words}"


def _resumed(run: Run, states: dict) -> bool:
    """Whether a run that had its results has been resumed and has trained on since."""
    metrics, results = states["metrics.jsonl"], states["eval_results.json"]
    if run.latest.get("kind") not in ("train", "eval") or run.facts.get("condition") == "pretraining":
        return False
    return metrics is not None and metrics.st_mtime > results.st_mtime + 1


def _ending(run: Run, states: dict) -> None:
    """What a run that does not work any more has said last: an error in console.log, else its log's last message."""
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
