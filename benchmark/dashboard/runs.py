"""The runs below some folders as they are now: which there are, their states, and their rows of the table."""

import contextlib
import math
import os
import threading
import time
from pathlib import Path

from starlette.exceptions import HTTPException

from benchmark.dashboard.run_files import (
    Run,
    inside,
    is_held,
    locks,
    on_network,
    placed,
    read_config,
    read_ending,
    read_results,
    rounded,
    said,
    stat_of,
    take_lines,
)
from benchmark.reporting.experiments import CONDITIONS, SKIPPED, part, readable
from benchmark.reporting.metrics import number
from benchmark.reporting.schemas import Planned, check
from npp_rl.files import read_json, shown_name

DEPTH, MOST = 10, 5000  # folders below each other, and run directories, that are looked for
WALK_SECONDS, LOOK_SECONDS = 5.0, 1.0  # between searches for new runs, and between looks at the known ones
GROWING = 60.0  # seconds for which a run that has grown counts as running where no lock can be seen
# The same for file systems of several machines, whose locks are not seen: an evaluation is long.
NETWORK_GROWING = 900.0
FAILED = ("failed", "error", "crashed")  # states of the runner's that end a run


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
                if read_config(run, stat_of(here / "config.json")):
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
        read_config(run, states["config.json"])
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
                take_lines(run, lines)
            except (OSError, ValueError) as error:
                run.notes["metrics.jsonl"] = said(error, run)
            if before and run.log.size > before:
                run.grown = now
        read_results(run, states["eval_results.json"])
        locked = [name for name in ("log.jsonl", "bc/log.jsonl") if is_held(states[name], held)]
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
            read_ending(run, states)
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


def _resumed(run: Run, states: dict) -> bool:
    """Whether a run that had its results has been resumed and has trained on since."""
    metrics, results = states["metrics.jsonl"], states["eval_results.json"]
    if run.latest.get("kind") not in ("train", "eval") or run.facts.get("condition") == "pretraining":
        return False
    return metrics is not None and metrics.st_mtime > results.st_mtime + 1
