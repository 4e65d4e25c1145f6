"""Curves of runs: columns of metrics.jsonl, read as they grow and only where somebody looks, and means over seeds."""

import functools
import math
import threading
from array import array

import msgspec
import numpy as np

from benchmark.dashboard.run_files import Log, Run, inside, stat_of
from benchmark.reporting import significance
from benchmark.reporting.schemas import Amount
from npp_rl.commands import UserError
from npp_rl.files import open_file
from npp_rl.levels.categories import CATEGORIES

CHUNK = 4 << 20  # bytes that are read at a time
SAMPLE = 1 << 16  # bytes at both ends of a log whose keys are taken for those of all of it
KEPT = 64 << 20  # bytes of columns that are kept, over all runs
MOST, LEAST, TOTAL = 1000, 120, 60_000  # points of a curve, at most and at least where there are many; of an answer
OVERLAID, GRID = 24, 240  # curves up to which each keeps its own points; points of all where there are more
GROUPS = ("architecture", "condition", "label", "experiment", "seed")  # by which runs are put together


@functools.lru_cache(maxsize=64)
def decoder(keys: tuple[str, ...]):
    """Decoder of lines of metrics.jsonl to a struct with the keys as `_0`, `_1` ...; the others are skipped."""
    fields = [("global_step", Amount), ("minutes", Amount)]
    fields += [(f"_{k}", object, msgspec.field(default=None, name=key)) for k, key in enumerate(keys)]
    return msgspec.json.Decoder(msgspec.defstruct("Row", fields))


class Metrics:
    """Columns of a run's metrics.jsonl. All have an entry for each whole line, NaN where the line lacks the key."""

    def __init__(self, run: Run):
        self.path, self.top = run.folder / "metrics.jsonl", run.top
        self.restart()

    def restart(self) -> None:
        self.log = Log(self.path, self.top)
        self.steps, self.minutes = array("d"), array("d")
        self.values: dict[str, array] = {}

    @property
    def size(self) -> int:
        return 16 * len(self.steps) + sum(4 * len(own) for own in self.values.values())

    def read(self, keys: list[str]) -> None:
        """Bring the columns of these keys up to date. Raises OSError, UserError."""
        state = stat_of(self.path)
        if state is None:
            self.restart()
            return
        while True:
            before = self.log.offset
            lines, again = self.log.lines(state, CHUNK)
            if again:
                self.restart()
                continue
            self._add(lines, list(self.values), self.steps, self.minutes)
            if self.log.offset == before or self.log.size >= state.st_size:
                break
        if missing := [key for key in keys if key not in self.values]:
            self._read_again(missing)

    def _read_again(self, keys: list[str]) -> None:
        """Read the columns of further keys from the part that has been read."""
        for key in keys:
            self.values[key] = array("f")
        with open_file(inside(self.path, self.top)) as stream:
            left, rest = self.log.offset, b""
            steps = array("d")
            while left and (data := stream.read(min(CHUNK, left))):
                left -= len(data)
                whole, _, rest = (rest + data).rpartition(b"\n")
                self._add(whole.split(b"\n") if whole else [], keys, steps, array("d"))
        if len(steps) != len(self.steps):  # the file was replaced in between
            self.restart()

    def _add(self, lines: list[bytes], keys: list[str], steps: array, minutes: array) -> None:
        decode = decoder(tuple(keys)).decode
        columns = [self.values[key] for key in keys]
        names = [f"_{k}" for k in range(len(keys))]
        for line in lines:
            try:
                row = decode(line)
            except (msgspec.MsgspecError, RecursionError, ValueError):
                continue
            steps.append(row.global_step)
            minutes.append(row.minutes)
            for column, name in zip(columns, names, strict=True):
                value = getattr(row, name)
                good = type(value) in (float, int) and -1e15 <= value <= 1e15
                column.append(value if good else np.nan)


def keys_of(run: Run) -> set[str]:
    """Names of the metrics of a run, by the first and the last lines of its log."""
    names: set[str] = set()
    with open_file(inside(run.folder / "metrics.jsonl", run.top)) as stream:
        lines = stream.read(SAMPLE).split(b"\n")[:-1]
        size = stream.seek(0, 2)
        if size > SAMPLE:
            stream.seek(max(SAMPLE, size - SAMPLE))
            lines += stream.read(SAMPLE).split(b"\n")[1:-1]
    for line in lines:
        try:
            row = msgspec.json.decode(line)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            continue
        if isinstance(row, dict):
            names |= {key for key, value in row.items() if type(value) in (float, int)}
    return names - {"global_step", "minutes"}


class Curves:
    """Columns of many runs, of which those that were not looked at for longest are dropped."""

    def __init__(self):
        self.metrics: dict[str, Metrics] = {}
        self.lock = threading.Lock()

    def columns(self, run: Run, keys: list[str]) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Steps, minutes, and values by key, each [lines]; nothing where the log cannot be read."""
        with self.lock:
            own = self.metrics.pop(run.id, None)
            if own is None or own.path != run.folder / "metrics.jsonl":
                own = Metrics(run)
            try:
                own.read(keys)
            except (OSError, ValueError):
                own.restart()
            self.metrics[run.id] = own
            while len(self.metrics) > 1 and sum(one.size for one in self.metrics.values()) > KEPT:
                del self.metrics[next(iter(self.metrics))]
            values = {key: np.array(own.values[key], np.float64) for key in keys if key in own.values}
            return np.array(own.steps), np.array(own.minutes), values


def series(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The finite points, by x."""
    good = np.isfinite(y) & np.isfinite(x)
    x, y = x[good], y[good]
    if len(x) and (np.diff(x) < 0).any():
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
    return x, y


def cut(x: np.ndarray, y: np.ndarray, limits: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The part of a line between limits of x. Where the line goes on beyond a limit, it has a point at the limit."""
    if not len(x) or limits[0] >= limits[1]:
        return x[:0], y[:0]
    edges = np.array([limit for limit in limits if x[0] < limit < x[-1] and limit not in x])
    places = np.searchsorted(x, edges)
    x, y = np.insert(x, places, edges), np.insert(y, places, np.interp(edges, x, y))
    good = (x >= limits[0]) & (x <= limits[1])
    return x[good], y[good]


def thinned(x: np.ndarray, y: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Thin to at most `most` points, means of equally many neighbours; the first and last stay."""
    if len(x) <= most:
        return x, y
    starts = np.unique(np.linspace(1, len(x) - 1, most - 1).astype(int))[:-1]
    counts = np.diff(np.append(starts, len(x) - 1))
    parts = [np.concatenate([v[:1], np.add.reduceat(v[:-1], starts) / counts, v[-1:]]) for v in (x, y)]
    return parts[0], parts[1]


def smoothed(y: np.ndarray, weight: float) -> np.ndarray:
    """Exponential moving average over points, unbiased at the start (Kingma, Ba 2015, section 3), as in TensorBoard."""
    if weight <= 0 or len(y) < 2:
        return y
    last, scale, out = 0.0, 0.0, []
    for value in y.tolist():
        last = weight * last + (1 - weight) * value
        scale = weight * scale + (1 - weight)
        out.append(last / scale)
    return np.array(out)


def is_key(key) -> bool:
    return isinstance(key, str) and key not in ("global_step", "minutes")


def is_share(key: str) -> bool:
    """Whether a metric lies within 0 and 1."""
    kind, _, name = key.partition("/")
    return kind == "success" or name == "success_rate" or (kind in ("eval", "test") and name in CATEGORIES)


def drawn(
    curves: Curves, runs: list[Run], keys: list[str], x: str, smooth: float, group: list[str], limits
) -> dict[str, list[dict]]:
    """Curves of each key: one for each run or, where they are grouped, the mean of each group with a 95% band."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        key = tuple(str(run.row.get(name, "")) for name in group) if group else (run.id,)
        groups.setdefault(key, []).append(run)
    most = max(LEAST, min(MOST, TOTAL // max(1, len(runs) * len(keys))))
    known = {}
    for run in runs:
        steps, minutes, values = curves.columns(run, keys)
        at = steps if x == "steps" else minutes
        for key in keys:
            if key in values:
                # All of the column is smoothed, so that a value is the same in whatever part of it is shown.
                every, found = series(at, values[key])
                part = cut(every, smoothed(found, smooth), limits)
                known[run.id, key] = (*thinned(*part, most), len(part[0]) > most)
    if not group and len(runs) > OVERLAID:
        known = on_one_grid(known, keys)
    answer = {}
    for key in keys:
        answer[key] = []
        for about, own in groups.items():
            parts = [known[run.id, key] for run in own if (run.id, key) in known and len(known[run.id, key][0])]
            if not parts:
                continue
            ids = [run.id for run in own if (run.id, key) in known and len(known[run.id, key][0])]
            entry = {"runs": ids, "thinned": any(part[2] for part in parts)}
            if group:
                entry["group"] = dict(zip(group, about, strict=True))
            if len(parts) == 1:
                answer[key].append(entry | {"x": numbers(parts[0][0], 10), "y": numbers(parts[0][1])})
                continue
            grid, rows = significance.curves([part[:2] for part in parts], most)
            mean, bounds = rows.mean(0), (0, 1) if is_share(key) else (-np.inf, np.inf)
            draws = np.random.default_rng(significance.SEED).integers(len(rows), size=(200, len(rows)))
            low, high = significance.interval(mean, rows[draws].mean(1), len(rows), bounds)
            band = {"low": numbers(low), "high": numbers(high)}
            answer[key].append(entry | {"x": numbers(grid, 10), "y": numbers(mean)} | band)
    return answer


def on_one_grid(known: dict, keys: list[str]) -> dict:
    """Curves of many runs at the same values of x, for one table of them: NaN where a curve has ended or not begun."""
    found = {}
    for key in keys:
        own = {entry: curve for entry, curve in known.items() if entry[1] == key and len(curve[0])}
        if own:
            low, high = min(x[0] for x, _, _ in own.values()), max(x[-1] for x, _, _ in own.values())
            grid = np.linspace(low, high, GRID) if high > low else np.array([low])
            for entry, (x, y, _) in own.items():
                found[entry] = (grid, np.interp(grid, x, y, left=np.nan, right=np.nan), True)
    return found


def numbers(values: np.ndarray, digits: int = 6) -> list[float | None]:
    """So many digits of each, None for what is not finite."""
    return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in values.tolist()]


def checked(content: dict) -> dict:
    """A request for curves, as keyword arguments of `drawn` but for the first two. Raises UserError."""
    keys, group = content.get("keys", []), content.get("group", [])
    if not (isinstance(keys, list) and 0 < len(keys) <= 40 and all(map(is_key, keys))):
        raise UserError("keys: expected 1 to 40 names of metrics")
    if not (isinstance(group, list) and all(name in GROUPS for name in group)):
        raise UserError(f"group: expected names of {', '.join(GROUPS)}")
    if content.get("x", "steps") not in ("steps", "minutes"):
        raise UserError("x: expected steps or minutes")
    smooth = content.get("smooth", 0)
    if not isinstance(smooth, (int, float)) or not 0 <= smooth < 1:
        raise UserError("smooth: expected 0 to less than 1")
    limits = []
    for name, otherwise in (("from", -np.inf), ("to", np.inf)):
        value = content.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise UserError(f"{name}: expected a number")
        limits.append(otherwise if value is None else float(value))
    keys = list(dict.fromkeys(keys))
    return {"keys": keys, "x": content.get("x", "steps"), "smooth": float(smooth), "group": group, "limits": limits}
