"""Reads the finished runs of an experiment: their result files, or TensorBoard's or wandb's where these are missing.

An experiment is a folder in which run directories lie at any depth; a run directory has config.json with an
`architecture`. What cannot be read becomes a line in `problems`; nothing is left out silently.
"""

import json
import math
import os
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from npp_rl import ARCHITECTURES
from npp_rl.commands import UserError
from npp_rl.files import parsed
from npp_rl.levels.categories import TIER_NAMES

CONDITIONS = {"no_pretrain": "from scratch", "with_pretrain": "pretrained (+ BC)"}
SKIPPED = {"checkpoints", "tensorboard", "wandb", "videos", "report", "__pycache__", "failures", "pictures"}
BIGGEST = 200_000_000  # bytes of a file that is still read


@dataclass
class Run:
    folder: Path
    experiment: str
    architecture: str
    condition: str  # a key of CONDITIONS, or "pretraining" for the pretraining itself
    seed: int
    config: dict
    results: dict = field(default_factory=dict)  # content of eval_results.json
    rows: list[dict] = field(default_factory=list)  # of metrics.jsonl
    source: str = "metrics.jsonl"  # where the rows came from
    pretraining_minutes: float = 0.0  # of its own pretraining; the minutes of its rows include them

    @property
    def args(self) -> dict:
        return part(self.config, "args")

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
    def categories(self) -> dict[str, float]:
        """Success on the test suite per category; {} where the run has no test."""
        if found := part(self.results, "by_category"):
            return {name: number(entry, "success_rate") for name, entry in found.items()}
        other = {"success_rate", "success_low", "success_high", "steps", "frames", "efficiency", "safety", "return"}
        other |= {"near_misses", *(f"tier_{name}" for name in TIER_NAMES)}
        last = next((row for row in reversed(self.rows) if row["kind"] == "test"), {})
        names = [key for key in last if key.startswith("test/") and key.count("/") == 1]
        return {key[5:]: last[key] for key in names if key[5:] not in other and "_efficiency" not in key}

    @cached_property
    def digests(self) -> dict[str, str]:
        """Level -> digest of its map, for the test levels whose results have one."""
        entries = self.results.get("levels")
        entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        return {str(entry["id"]): str(entry["digest"]) for entry in entries if "id" in entry and "digest" in entry}

    @cached_property
    def levels(self) -> dict[str, tuple[str, float]]:
        """Level -> (category, success over its tries) on the test suite; {} where the results have no levels."""
        entries = self.results.get("levels")
        found = {}
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and isinstance(entry.get("id"), str):
                found[entry["id"]] = (str(entry.get("category")), number(entry, "success_rate"))
        return found

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


def part(content, *keys: str) -> dict:
    """The dict at content[keys[0]][keys[1]]...; {} where there is none."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}


def number(content: dict, key: str) -> float:
    """content[key] where that is a finite number, else NaN."""
    value = content.get(key) if isinstance(content, dict) else None
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if fits else math.nan


def read_experiments(folders: list[Path]) -> list[Experiment]:
    """The experiments of some folders; a folder whose runs have several test suites holds one for each.

    Raises UserError for a folder without runs.
    """
    found = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: expected a folder with the runs of an experiment")
        whole = read_experiment(folder)
        if not whole.runs:
            more = f"; {whole.problems[0]}" if whole.problems else ""
            raise UserError(f"{folder}: holds no run (no config.json with an architecture, no TensorBoard data){more}")
        suites = sorted({str(run.args.get("test_dataset", "")) for run in whole.runs})
        for suite in suites:
            name = whole.name if len(suites) == 1 else f"{whole.name} on {Path(suite).name or 'unknown levels'}"
            runs = [run for run in whole.runs if str(run.args.get("test_dataset", "")) == suite]
            found.append(Experiment(name, folder, without_doubles(runs, whole.problems), whole.pretraining))
            found[-1].problems = whole.problems
    for name, count in Counter(experiment.name for experiment in found).items():
        for n, experiment in enumerate([e for e in found if e.name == name] if count > 1 else [], 1):
            experiment.name = f"{name} ({n})"
    for experiment in found:
        for run in experiment.runs:
            run.experiment = experiment.name
    return found


def read_experiment(folder: Path) -> Experiment:
    """All runs below a folder, in the order of their paths."""
    experiment = Experiment(folder.resolve().name, folder)
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in SKIPPED and not name.startswith("."))
        here = Path(place)
        try:
            run = read_run(here, folder, files, experiment.problems)
        except (OSError, ValueError) as error:
            experiment.problems.append(f"left out: {_relative(str(error), folder)}")
            continue
        if run:
            (experiment.pretraining if run.condition == "pretraining" else experiment.runs).append(run)
    for first in experiment.pretraining:
        for run in experiment.runs:
            if first.rows and first.folder == run.folder / "bc":
                run.pretraining_minutes = first.minutes
                run.rows = [{**row, "minutes": row["minutes"] + first.minutes} for row in run.rows]
    for text in planned_but_missing(folder, experiment):
        experiment.problems.append(text)
    return experiment


def read_run(here: Path, top: Path, files: list[str], problems: list[str]) -> Run | None:
    """The run whose directory this is, None where it is none; ValueError or OSError for a damaged one."""
    inside = here.relative_to(top).parts
    events = sorted(here.glob("events.out.tfevents*")) or sorted((here / "tensorboard").rglob("events.out.tfevents*"))
    if "config.json" in files:
        config = parsed(_text(here / "config.json"), str(here / "config.json"))
        if not isinstance(config.get("architecture"), str):
            return None  # the experiment's own
    elif events and (known := [name for name in reversed(inside) if name in ARCHITECTURES]):
        config = {"architecture": known[0]}
    else:
        if events:
            problems.append(f"left out: {_name(here, top)}: TensorBoard data without a config.json")
        return None
    args = part(config, "args")
    named = [name for name in inside if name.startswith("seed_") and name[5:].isdecimal()]
    seed = args.get("seed", int(named[-1][5:]) if named else 0)
    if not isinstance(seed, int):
        raise ValueError(f"{here / 'config.json'}: the seed is no integer")
    condition = next((name for name in inside if name in CONDITIONS), None)
    if condition == "with_pretrain" and inside[-1] != "bc" and not args.get("pretrained_checkpoint", True):
        problems.append(f"left out: {_name(here, top)}: planned with pretraining, but trained without")
        return None
    if condition is None:
        condition = "with_pretrain" if args.get("pretrained_checkpoint") else "no_pretrain"
    if (inside and inside[-1] == "bc") or str(args.get("exp_name", "")).startswith("bc_"):
        condition = "pretraining"
    run = Run(here, top.name, config["architecture"], condition, seed, config)
    if (here / "eval_results.json").is_file():
        try:
            run.results = parsed(_text(here / "eval_results.json"), str(here / "eval_results.json"))
        except ValueError as error:
            problems.append(_relative(str(error), top))
    elif condition != "pretraining":
        problems.append(f"{_name(here, top)}: no eval_results.json, the run has not ended")
    run.rows, run.source = read_rows(here, top, events, problems)
    return run


def read_rows(here: Path, top: Path, events: list[Path], problems: list[str]) -> tuple[list[dict], str]:
    """Rows of metrics.jsonl and where they came from: that file, TensorBoard's event files or wandb's history."""
    readers = [
        ("metrics.jsonl", [here / "metrics.jsonl"], lambda files: jsonl_rows(files[0], top, problems)),
        ("TensorBoard", events, tensorboard_rows),
        ("wandb", [here / "wandb-history.jsonl"], lambda files: wandb_rows(files[0], top, problems)),
        ("wandb", sorted(here.glob("wandb/*run-*/*.wandb")), wandb_offline_rows),
    ]
    for source, files, reader in readers:
        if files and files[0].is_file():
            try:
                if rows := reader(files):
                    return rows, source
            except (OSError, ValueError, ImportError) as error:
                problems.append(f"{_name(here, top)}: {source}: {_relative(str(error), top)}")
    problems.append(f"{_name(here, top)}: no metrics (no metrics.jsonl, TensorBoard or wandb data)")
    return [], "nothing"


def jsonl_rows(path: Path, top: Path, problems: list[str]) -> list[dict]:
    """Rows of a metrics.jsonl; a damaged line, such as a last one that was cut off, is left out and noted."""
    rows, bad = [], []
    for n, line in enumerate(_text(path).splitlines(), 1):
        try:
            row = parsed(line, "")
        except ValueError:
            row = {}
        clean = {key: float(value) for key, value in row.items() if math.isfinite(number(row, key))}
        if isinstance(row.get("kind"), str) and "minutes" in clean and "global_step" in clean:
            rows.append({**clean, "kind": row["kind"]})
        else:
            bad.append(n)
    if bad:
        lines = ", ".join(map(str, bad[:5])) + (" ..." if len(bad) > 5 else "")
        problems.append(f"{_name(path, top)}: {len(bad)} damaged lines left out ({lines})")
    return sorted(rows, key=lambda row: row["global_step"])


def tensorboard_rows(files: list[Path]) -> list[dict]:
    """Rows from event files: minutes are those since the first event."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    points = []
    for folder in sorted({file.parent for file in files}):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        points += [(event.step, event.wall_time, tag, event.value) for tag in events.Tags()["scalars"]
                   for event in events.Scalars(tag)]  # fmt: skip
        for tag in events.Tags()["tensors"]:  # where newer writers store scalars
            for event in events.Tensors(tag):
                if len(event.tensor_proto.float_val) == 1:
                    points.append((event.step, event.wall_time, tag, event.tensor_proto.float_val[0]))
    return _rows(points)


def wandb_rows(path: Path, top: Path, problems: list[str]) -> list[dict]:
    """Rows from a run's history as wandb exports it: one JSON object a line with _step, _timestamp or _runtime."""
    points = []
    for n, line in enumerate(_text(path).splitlines(), 1):
        try:
            points += _history(parsed(line, ""))
        except ValueError:
            problems.append(f"{_name(path, top)}: line {n} is damaged and left out")
    return _rows(points)


def wandb_offline_rows(files: list[Path]) -> list[dict]:
    """Rows from the files that wandb writes offline: records in LevelDB's log format, each a protobuf message."""
    from wandb.proto import wandb_internal_pb2

    points = []
    for file in files:
        for data in _log_records(file):
            record = wandb_internal_pb2.Record()
            try:
                record.ParseFromString(data)
            except Exception:  # protobuf's own error, wherever the installed version keeps it
                raise ValueError(f"{file}: holds a record that wandb's messages do not fit") from None
            if record.WhichOneof("record_type") == "history":
                row = {"_step": record.history.step.num}
                for item in record.history.item:
                    found = {kind.name: value for kind, value in item.ListFields()}
                    value = found.get("number", found.get("integer"))
                    if "value_json" in found:
                        value = json.loads(found["value_json"])
                    row[item.key or "/".join(item.nested_key)] = value
                points += _history(row)
    return _rows(points)


def _log_records(file):
    """Whole records of a .wandb file: a header of 7 bytes, then blocks of 32 KiB of pieces (checksum, length, type)."""
    data = file.read_bytes()[:BIGGEST]
    if data[:4] != b":W&B":
        raise ValueError(f"{file}: is no file of wandb")
    place, record = 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # too little is left of the block for a piece
            place += 32768 - place % 32768
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        piece = data[place + 7 : place + 7 + length]
        if kind not in (1, 2, 3, 4) or len(piece) < length:
            return  # a run that was cut off ends like this
        place += 7 + length
        record = piece if kind in (1, 2) else record + piece
        if kind in (1, 4):
            yield record


def _history(row):
    time = number(row, "_runtime")
    time = number(row, "_timestamp") if math.isnan(time) else time
    step = number(row, "_step")
    if math.isnan(time) or math.isnan(step):
        raise ValueError("no _step and _runtime")
    return [(step, time, key, number(row, key)) for key in row if not key.startswith("_")]


def _rows(points):
    """Rows as in metrics.jsonl from (step, seconds, tag, value), told apart by the tags' first parts."""
    rows, began = {}, min((seconds for _, seconds, _, _ in points), default=0)
    for step, seconds, tag, value in points:
        if math.isfinite(value):
            kind = tag.split("/")[0] if tag.startswith(("eval/", "test/")) else "train"
            row = rows.setdefault((step, kind), {"kind": kind, "global_step": float(step), "minutes": 0.0})
            row["minutes"] = max(row["minutes"], (seconds - began) / 60)
            row[tag] = float(value)
    return [rows[key] for key in sorted(rows)]


def without_doubles(runs: list[Run], problems: list[str]) -> list[Run]:
    """One run of each architecture, condition and seed, the one that came furthest. A repetition is no second seed."""
    kept = {}
    for run in runs:
        key = (run.architecture, run.condition, run.seed)
        if key in kept:
            worse, better = sorted((kept[key], run), key=lambda r: (bool(r.results), r.steps))
            problems.append(f"left out: {worse.folder.name}: same architecture and seed as {better.folder.name}")
            kept[key] = better
        else:
            kept[key] = run
    return list(kept.values())


def planned_but_missing(folder: Path, experiment: Experiment) -> list[str]:
    """A line for each run in the runner's all_results.json that is not done."""
    try:
        listed = parsed(_text(folder / "all_results.json"), str(folder / "all_results.json")).get("runs")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        return [_relative(str(error), folder)]
    entries = listed.items() if isinstance(listed, dict) else enumerate(listed if isinstance(listed, list) else [])
    lines = []
    for key, entry in entries:
        status = entry.get("status") if isinstance(entry, dict) else None
        if isinstance(status, str) and status not in ("done", "finished", "completed", "succeeded", "ok"):
            name = entry.get("name") or entry.get("run_dir") or entry.get("folder") or key
            if isinstance(key, int) and name == key:
                name = " ".join(str(entry[k]) for k in ("architecture", "condition", "seed") if k in entry)
            reason = entry.get("reason") or entry.get("error")
            reason = f" ({reason})" if isinstance(reason, str) else ""
            lines.append(f"{_relative(str(name), folder)}: {status}{reason}")
    return lines


def _text(path):
    if path.stat().st_size > BIGGEST:
        raise ValueError(f"{path}: larger than {BIGGEST // 1_000_000} MB")
    return path.read_text(errors="replace")


def _name(path, top):
    return str(path.relative_to(top)) if path != top else path.resolve().name


def _relative(text, top):
    return text.replace(f"{top}/", "").replace(f"{top.resolve()}/", "")
