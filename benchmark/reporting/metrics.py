"""Reads a run's metrics: from metrics.jsonl, or from TensorBoard's or wandb's files where that is missing."""

import json
import math
import os
from pathlib import Path

from benchmark.reporting.schemas import row_of
from npp_rl.commands import UserError
from npp_rl.files import open_file, parsed, read_bytes

BIGGEST = 200_000_000  # bytes of a file that is still read


def name_of(path: Path, top: Path) -> str:
    """The path below `top`; of `top` itself, its name."""
    return str(path.relative_to(top)) if path != top else path.resolve().name


def relative(text: str, top: Path) -> str:
    """An error's text without the path of `top`."""
    return text.replace(f"{top}/", "").replace(f"{top.resolve()}/", "")


def number(content: dict, key: str) -> float:
    """content[key] where that is a finite number, else NaN."""
    value = content.get(key) if isinstance(content, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:  # an integer of more than 308 digits
        return math.nan


def read_rows(here: Path, top: Path, events: list[Path], problems: list[str]) -> tuple[list[dict], str]:
    """Rows of metrics.jsonl and where they came from: that file, TensorBoard's event files or wandb's history."""
    readers = [
        ("metrics.jsonl", [here / "metrics.jsonl"], lambda files: jsonl_rows(files[0], top, problems)),
        ("TensorBoard", events, tensorboard_rows),
        ("wandb", [here / "wandb-history.jsonl"], lambda files: wandb_rows(files[0], top, problems)),
        ("wandb", sorted(here.glob("wandb/*run-*/*.wandb")), wandb_offline_rows),
    ]
    for source, files, reader in readers:
        if files and files[0].exists():
            try:
                if rows := _fitting(reader(files)):
                    return rows, source
            except (OSError, ValueError, ImportError, RecursionError) as error:
                problems.append(f"{name_of(here, top)}: {source}: {relative(str(error), top)}")
    problems.append(f"{name_of(here, top)}: no metrics (no metrics.jsonl, TensorBoard or wandb data)")
    return [], "nothing"


def _fitting(rows: list[dict]) -> list[dict]:
    """The rows whose numbers lie within bounds, by steps."""
    return sorted(filter(None, map(row_of, rows)), key=lambda row: row["global_step"])


def _lines(path: Path) -> list[str]:
    return read_bytes(path, BIGGEST).decode(errors="replace").removesuffix("\n").split("\n")


def jsonl_rows(path: Path, top: Path, problems: list[str]) -> list[dict]:
    """Rows of a metrics.jsonl; a damaged line, such as a last one that was cut off, is left out and noted."""
    rows, bad = [], []
    for n, line in enumerate(_lines(path), 1):
        try:
            row = row_of(parsed(line, ""))
        except UserError:
            row = None
        if row is None:
            bad.append(n)
        else:
            rows.append(row)
    if bad:
        lines = ", ".join(map(str, bad[:5])) + (" ..." if len(bad) > 5 else "")
        problems.append(f"{name_of(path, top)}: {len(bad)} damaged lines left out ({lines})")
    return rows


def tensorboard_rows(files: list[Path]) -> list[dict]:
    """Rows from event files: minutes are those since the first event."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    points = []
    for file in files:
        with open_file(file) as stream:  # TensorBoard would wait for ever at a pipe
            if os.fstat(stream.fileno()).st_size > BIGGEST:
                raise UserError(f"{file}: expected at most {BIGGEST:,} bytes")
        events = EventAccumulator(str(file), size_guidance={"scalars": 0, "tensors": 0})
        try:
            events.Reload()
        except Exception:  # protobuf's own error, wherever the installed version keeps it
            raise UserError(f"{file}: holds events that TensorBoard cannot read") from None
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
    for n, line in enumerate(_lines(path), 1):
        try:
            points += _history(parsed(line, ""))
        except ValueError:
            problems.append(f"{name_of(path, top)}: line {n} is damaged and left out")
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
    data = read_bytes(file, BIGGEST)
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
