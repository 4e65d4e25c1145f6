"""Reads the finished runs of an experiment: their result files, or TensorBoard's or wandb's where these are missing.

An experiment is a folder in which run directories lie at any depth; a run directory has config.json with an
`architecture`. What cannot be read, or does not fit its schema, becomes a line in `problems`; nothing is left out
silently. Experiments that were tested on the same levels become one.
"""

import hashlib
import math
import os
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from benchmark.reporting.metrics import name_of, number, read_rows, relative
from benchmark.reporting.schemas import Config, Planned, Results, check
from npp_rl import ARCHITECTURES
from npp_rl.commands import ArgumentError, UserError
from npp_rl.files import read_bytes, read_json
from npp_rl.levels.categories import TIER_NAMES

CONDITIONS = {"no_pretrain": "from scratch", "with_pretrain": "pretrained (+ BC)"}
SKIPPED = {"checkpoints", "tensorboard", "wandb", "videos", "report", "__pycache__", "failures", "pictures", "source"}


@dataclass
class Run:
    folder: Path
    place: str  # its folder's path in the experiment's, for people
    experiment: str
    architecture: str
    condition: str  # a key of CONDITIONS, or "pretraining" for the pretraining itself
    label: str  # names a configuration among others of the same script; "" for none
    seed: int
    config: dict  # fits schemas.Config
    results: dict = field(default_factory=dict)  # content of eval_results.json, fits schemas.Results
    rows: list[dict] = field(default_factory=list)  # of metrics.jsonl
    source: str = "metrics.jsonl"  # where the rows came from
    pretraining_minutes: float = 0.0  # of its own pretraining; the minutes of its rows include them
    script: str | None = None  # text of the script that it was trained by, where the run has kept it
    changes: str = ""  # what its checkout had changed against the revision, as kept; "" for nothing
    shared: frozenset[str] | None = None  # levels that success is restricted to; None for all of its test

    @property
    def args(self) -> dict:
        return part(self.config, "args")

    @property
    def changes_digest(self) -> str:
        return hashlib.sha256(self.changes.encode(errors="replace")).hexdigest()[:6]

    @property
    def budget(self) -> float | None:
        """Minutes that it was given, its pretraining included; None where steps were given."""
        given = number(self.args, "max_minutes")
        return round(given + self.pretraining_minutes, 2) if math.isfinite(given) else None

    @property
    def minutes(self) -> float:
        return max((row["minutes"] for row in self.rows), default=math.nan)

    @property
    def steps(self) -> int:
        return int(max((row["global_step"] for row in self.rows), default=0))

    def series(self, kind: str, key: str) -> list[tuple[float, float, float]]:
        """(steps, minutes, value) of the rows of a kind that have the key."""
        return [(r["global_step"], r["minutes"], r[key]) for r in self.rows if r["kind"] == kind and key in r]

    @cached_property
    def entries(self) -> list[dict]:
        """Results of the test levels that count: not seen in training, and simulated as a whole."""
        entries = self.results.get("levels") or []
        return [entry for entry in entries if not entry.get("trained_on") and entry.get("group") != "not simulated"]

    @property
    def trained_on(self) -> int:
        """Number of test levels that the agent saw in training. They count in nothing."""
        return sum(bool(entry.get("trained_on")) for entry in self.results.get("levels") or [])

    @property
    def not_simulated(self) -> int:
        """Number of other test levels with entities that are not simulated. They count in nothing."""
        return len(self.results.get("levels") or []) - len(self.entries) - self.trained_on

    @cached_property
    def digests(self) -> dict[str, str]:
        """Level -> digest of its map, for the test levels whose results have one."""
        return {entry["id"]: entry["digest"] for entry in self.entries if "digest" in entry}

    @cached_property
    def levels(self) -> dict[str, tuple[str, float]]:
        """Level -> (category, success over its tries) on the test suite; {} where the results have no levels."""
        return {entry["id"]: (entry.get("category", "unknown"), entry["success_rate"]) for entry in self.entries}

    @property
    def counted(self) -> dict[str, tuple[str, float]] | None:
        """The levels that success is the mean of; None where it is the figure in the results."""
        if self.shared is not None:
            return {name: entry for name, entry in self.levels.items() if name in self.shared}
        return self.levels if self.trained_on + self.not_simulated else None

    @property
    def success(self) -> float:
        """Share of the test levels won, NaN where it is not known."""
        if (counted := self.counted) is None:
            return self.overall("success_rate")
        return sum(won for _, won in counted.values()) / len(counted) if counted else math.nan

    @property
    def categories(self) -> dict[str, float]:
        """Success on the test suite per category; {} where the run has no test."""
        if (counted := self.counted) is not None:
            names = dict.fromkeys(category for category, _ in counted.values())
            own = {name: [won for category, won in counted.values() if category == name] for name in names}
            return {name: sum(won) / len(won) for name, won in own.items()}
        if found := part(self.results, "by_category"):
            return {name: number(entry, "success_rate") for name, entry in found.items()}
        other = {"success_rate", "success_low", "success_high", "steps", "frames", "efficiency", "safety", "return"}
        other |= {"near_misses", *(f"tier_{name}" for name in TIER_NAMES)}
        last = next((row for row in reversed(self.rows) if row["kind"] == "test"), {})
        names = [key for key in last if key.startswith("test/") and key.count("/") == 1]
        return {key[5:]: last[key] for key in names if key[5:] not in other and "_efficiency" not in key}

    def overall(self, key: str) -> float:
        """A figure of the test suite as a whole, NaN where it is missing."""
        if math.isfinite(value := number(part(self.results, "overall"), key)):
            return value
        return next((row[f"test/{key}"] for row in reversed(self.rows) if f"test/{key}" in row), math.nan)


@dataclass
class Experiment:
    name: str
    folder: Path
    runs: list[Run] = field(default_factory=list)
    pretraining: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    several: bool = False  # it is put together from several


SOURCES, SOURCE_BYTES = 10, 10_000_000  # most files of a script, and bytes of each and of a checkout's changes


def part(content, *keys: str) -> dict:
    """The dict at content[keys[0]][keys[1]]...; {} where there is none."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}


def readable(text: str, most: int = 60) -> str:
    """A name from a file on one line of at most `most` characters; those that cannot be printed become a mark."""
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: most + 1])
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def suite_of(run: Run) -> str:
    """Name of the data set that a run was tested on."""
    return Path(run.args.get("test_dataset") or "").name or "unknown levels"


def read_experiments(folders: list[Path]) -> list[Experiment]:
    """The experiments of some folders, those that were tested on the same levels as one.

    A folder whose runs have several test suites holds an experiment for each. Raises UserError for a folder without
    runs, and for one that is given twice or lies in another.
    """
    found = []
    for k, folder in enumerate(folders):
        if not folder.is_dir():
            raise UserError(f"{folder}: expected a folder with the runs of an experiment")
        for other in folders[:k]:
            if folder.resolve().is_relative_to(other.resolve()) or other.resolve().is_relative_to(folder.resolve()):
                raise ArgumentError(f"{folder}: shares its runs with {other} (expected different experiments)")
        whole = read_experiment(folder)
        if not whole.runs:
            more = f"; {whole.problems[0]}" if whole.problems else ""
            raise UserError(f"{folder}: holds no run (no config.json with an architecture, no TensorBoard data){more}")
        suites = sorted({str(run.args.get("test_dataset")) for run in whole.runs})
        for suite in suites:
            runs = [run for run in whole.runs if str(run.args.get("test_dataset")) == suite]
            name = whole.name if len(suites) == 1 else f"{whole.name} on {readable(suite_of(runs[0]))}"
            runs = without_doubles(runs, whole.problems)
            found.append(Experiment(name, folder, runs, whole.pretraining, whole.problems))
    for name, count in Counter(experiment.name for experiment in found).items():
        for n, experiment in enumerate([e for e in found if e.name == name] if count > 1 else [], 1):
            experiment.name = f"{name} ({n})"
    for experiment in found:
        for run in experiment.runs:
            run.experiment = experiment.name
    return together(found)


def together(experiments: list[Experiment]) -> list[Experiment]:
    """Experiments on the same test suite, by its name and levels, become one."""
    groups: list[list[Experiment]] = []
    for experiment in experiments:
        for group in groups:
            runs = [run for own in [*group, experiment] for run in own.runs]
            named = all(run.levels for run in runs if run.results)
            if len({suite_of(run) for run in runs}) == 1 and (common_levels(runs) or not named):
                group.append(experiment)
                break
        else:
            groups.append([experiment])
    merged = []
    for group in groups:
        if len(group) == 1:
            merged += group
            continue
        whole = Experiment(" and ".join(own.name for own in group), group[0].folder, several=True)
        known = []  # a folder's runs with different suites share their problems
        for own in group:
            for run in own.runs:
                run.place = f"{own.name}/{run.place}"
            whole.runs += own.runs
            whole.pretraining += [run for run in own.pretraining if run not in whole.pretraining]
            if not any(own.problems is other for other in known):
                known.append(own.problems)
                whole.problems += [f"{own.name}: {text}" for text in own.problems]
        merged.append(whole)
    return merged


def common_levels(runs: list[Run]) -> list[str]:
    """The levels that all tested runs played, as far as is known from their names and digests."""
    tested = [run for run in runs if run.results or run.categories]
    names = [k for k in tested[0].levels if all(k in run.levels for run in tested)] if tested else []
    digests: dict[str, set[str]] = {}
    for run in tested:
        for name, digest in run.digests.items():
            digests.setdefault(name, set()).add(digest)
    return [name for name in names if len(digests.get(name, ())) < 2]


def read_experiment(folder: Path) -> Experiment:
    """All runs below a folder, in the order of their paths."""
    experiment = Experiment(readable(folder.resolve().name), folder)
    for place, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in SKIPPED and not name.startswith("."))
        here = Path(place)
        try:
            run = read_run(here, folder, experiment.problems)
        except (OSError, ValueError) as error:
            experiment.problems.append(f"left out: {relative(str(error), folder)}")
            continue
        if run:
            (experiment.pretraining if run.condition == "pretraining" else experiment.runs).append(run)
    for first in experiment.pretraining:
        for run in experiment.runs:
            if first.rows and first.folder == run.folder / "bc":
                run.pretraining_minutes = first.minutes
                run.rows = [{**row, "minutes": row["minutes"] + first.minutes} for row in run.rows]
    for part_of_it in (folder, *sorted(folder.glob("label_*"))):
        experiment.problems += planned_but_missing(part_of_it, folder)
    return experiment


def read_run(here: Path, top: Path, problems: list[str]) -> Run | None:
    """The run whose directory this is, None where it is none; ValueError or OSError for a damaged one."""
    inside = here.relative_to(top).parts
    events = sorted(here.glob("events.out.tfevents*")) or sorted((here / "tensorboard").rglob("events.out.tfevents*"))
    if (here / "config.json").exists():
        config = read_json(here / "config.json")
        if "architecture" not in config:
            return None  # the experiment's own
        check(config, Config, str(here / "config.json"))
    elif events and (known := [name for name in reversed(inside) if name in ARCHITECTURES]):
        config = {"architecture": known[0]}
    else:
        if events:
            problems.append(f"left out: {name_of(here, top)}: TensorBoard data without a config.json")
        return None
    run = described(here, top, config)
    if run.condition == "with_pretrain" and not run.args.get("pretrained_checkpoint", True):
        problems.append(f"left out: {name_of(here, top)}: planned with pretraining, but trained without")
        return None
    if (here / "eval_results.json").exists():
        try:
            run.results = check(read_json(here / "eval_results.json"), Results, str(here / "eval_results.json"))
        except (OSError, ValueError) as error:
            problems.append(f"left out: {relative(str(error), top)}")
    elif run.condition != "pretraining":
        problems.append(f"{name_of(here, top)}: no eval_results.json, the run has not ended")
    run.rows, run.source = read_rows(here, top, events, problems)
    run.script, run.changes = read_source(run, problems)
    return run


def described(here: Path, top: Path, config: dict) -> Run:
    """The run whose directory this is, by its place and its configuration, without results."""
    inside, args = here.relative_to(top).parts, part(config, "args")
    named = [name for name in inside if name.startswith("seed_") and name[5:].isdecimal()]
    seed = args.get("seed", int(named[-1][5:]) if named else 0)
    condition = next((name for name in inside if name in CONDITIONS), None)
    if condition is None:
        condition = "with_pretrain" if args.get("pretrained_checkpoint") else "no_pretrain"
    if (inside and inside[-1] == "bc") or (args.get("exp_name") or "").startswith("bc_"):
        condition = "pretraining"
    name, label = readable(config["architecture"]), readable(args.get("label") or "", 40).strip()
    return Run(here, name_of(here, top), top.name, name, condition, label, seed, config)


def read_source(run: Run, problems: list[str]) -> tuple[str | None, str]:
    """A run's own copy of its script, and the changes of its checkout, from its folder `source`."""
    folder = run.folder / "source"
    texts = {}
    for path in (*sorted(folder.glob("*.py"))[:SOURCES], folder / "changes.diff"):
        if path.exists():
            try:
                if not path.resolve().is_relative_to(run.folder.resolve()):
                    raise UserError(f"{path}: expected a file inside the run directory")
                texts[path.name] = read_bytes(path, SOURCE_BYTES).decode(errors="replace")
            except (OSError, ValueError) as error:
                problems.append(f"left out: {run.place}/source/{path.name}: {relative(str(error), run.folder)}")
    changes = texts.pop("changes.diff", "")
    return "\n".join(f"# {name}\n{text}" for name, text in texts.items()) or None, changes


def without_doubles(runs: list[Run], problems: list[str]) -> list[Run]:
    """One run of each contender and seed, the one that came furthest. A repetition is no second seed."""
    kept = {}
    for run in runs:
        key = (run.architecture, run.condition, run.label, run.seed)
        if key in kept:
            worse, better = sorted((kept[key], run), key=lambda r: (bool(r.results), r.steps))
            problems.append(f"left out: {worse.place}: same architecture and seed as {better.place}")
            kept[key] = better
        else:
            kept[key] = run
    return list(kept.values())


def planned_but_missing(folder: Path, top: Path) -> list[str]:
    """A line for each run in the runner's all_results.json that is not done."""
    place = folder / "all_results.json"
    try:
        listed = check(read_json(place), Planned, str(place)).get("runs", [])
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        return [f"left out: {relative(str(error), top)}"]
    lines = []
    for key, entry in listed.items() if isinstance(listed, dict) else enumerate(listed):
        status = entry.get("status")
        if status and status not in ("done", "finished", "completed", "succeeded", "ok"):
            name = entry.get("name") or entry.get("run_dir") or entry.get("folder") or key
            if isinstance(key, int) and name == key:
                name = " ".join(str(entry[k]) for k in ("architecture", "condition", "seed") if k in entry)
            reason = entry.get("reason") or entry.get("error")
            reason = f" ({reason})" if isinstance(reason, str) else ""
            part_of_it = "" if folder == top else f"{folder.name}/"
            lines.append(readable(f"{part_of_it}{relative(str(name), top)}: {status}{reason}", 300))
    return lines
