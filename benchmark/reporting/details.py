"""More of a report on one experiment: cost, failures with pictures, every level, the runs."""

import io
import math
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.reporting import decision, plots
from benchmark.reporting.experiments import CONDITIONS, Experiment, Run, number, part
from benchmark.reporting.page import Bullets, Cell, Figure, Figures, Gallery, Heading, Picture, Table, Text
from benchmark.reporting.sections import Comparison, Contender, listed, percent
from npp_rl.files import plain_name, read_bytes

PICTURES, PICTURE_WIDTH, PICTURE_BYTES = 12, 640, 200_000  # of the gallery: how many, px, bytes each
MOST_FILES = 200  # pictures in a run's folder that are looked at
MODES = 7  # ways to fail that are told apart


def mean_of(runs: list[Run], measure: Callable[[Run], float]) -> float:
    """Mean over the runs that have the figure, NaN where none has."""
    known = [value for run in runs if math.isfinite(value := measure(run))]
    return float(np.mean(known)) if known else math.nan


def ranked(comparison: Comparison) -> list[Contender]:
    """The tested contenders, the most successful first."""
    return sorted(comparison.able, key=lambda c: -c.success.mean())


COSTS: tuple[tuple[str, str, str, Callable[[Run], float]], ...] = (
    ("parameters", "parameters", "trained parameters", decision.parameters),
    ("latency", "one decision, ms", "milliseconds for one decision (median)", decision.latency),
    ("p99", "p99, ms", "", lambda run: number(part(run.results, "cost", "latency_ms", "1"), "p99")),
    ("batch", "256 decisions, ms", "", lambda run: number(part(run.results, "cost", "latency_ms", "256"), "p50")),
    ("flops", "FLOPs", "", lambda run: number(part(run.results, "cost"), "flops")),
    ("memory", "memory, MB", "", lambda run: number(part(run.results, "cost"), "peak_memory_mb")),
    ("speed", "training steps/s", "", decision.training_speed),
    ("time", "training, minutes", "minutes of training", lambda run: run.minutes),
)


def cost(comparison: Comparison) -> list:
    """What each contender costs, and which of them no other beats in cost and success."""
    able = ranked(comparison)
    success = [float(c.success.mean()) for c in able]
    table = {name: [mean_of(c.tested, measure) for c in able] for name, _, _, measure in COSTS}
    shown = [(name, title) for name, title, _, _ in COSTS if any(map(math.isfinite, table[name]))]
    missing = [title for name, title, _, _ in COSTS if name not in dict(shown)]
    figures, fronts = [], {}
    for name, title, label, _ in COSTS:
        known = [k for k, value in enumerate(table[name]) if math.isfinite(value) and value > 0]
        if not label or len(known) < 2:
            continue
        spread = max(table[name][k] for k in known) / min(table[name][k] for k in known)
        if name == "time" and spread < 1.1:
            continue  # equal by design
        front = decision.pareto([table[name][k] for k in known], [success[k] for k in known])
        fronts[name] = {known[k] for k in front}
        dots = [(able[k].name, able[k].colour, able[k].hollow, table[name][k], success[k]) for k in known]
        drawn = plots.scatter(dots, label, "test levels won", front)
        best = listed([able[known[k]].name for k in sorted(front, key=lambda k: table[name][known[k]])])
        figures.append(Figure(f"cost_{name}", drawn, f"Success against {title.split(',')[0]}. On the front: {best}."))
    rows = []
    for k, c in enumerate(able):
        row = [c.name, str(len(c.tested)), percent(success[k])]
        row += [plots.short(table[name][k]) if math.isfinite(table[name][k]) else "-" for name, _ in shown]
        row.append(listed([title.split(",")[0] for name, title, _, _ in COSTS if k in fronts.get(name, ())]) or "-")
        rows.append(row)
    note = "Means over seeds. Front: no other is at most as costly and at least as successful (Pareto)."
    if missing:
        note += f" Missing, not in any run's results: {', '.join(missing)}."
    header = ["", "seeds", "levels won", *[title for _, title in shown], "on the front of"]
    return [Figures(figures), Table(header, rows, note)] if figures else [Table(header, rows, note)]


def modes(run: Run) -> Counter:
    """Episodes of the test by how they failed."""
    overall = part(run.results, "overall")
    if found := part(overall, "failures"):
        return Counter({str(name): int(number(found, name)) for name in found if math.isfinite(number(found, name))})
    found = part(overall, "deaths")
    counts = Counter({f"died: {n}": int(number(found, n)) for n in found if math.isfinite(number(found, n))})
    late = number(overall, "timeout_rate") * number(overall, "episodes")
    if math.isfinite(late) and round(late):
        counts["ran out of time"] = round(late)
    return counts


def failures(comparison: Comparison) -> list:
    """How episodes failed, and pictures of them."""
    able, blocks = ranked(comparison), []
    counts = [sum((modes(run) for run in c.tested), Counter()) for c in able]
    episodes = [sum(number(part(r.results, "overall"), "episodes") for r in c.tested) for c in able]
    names = [name for name, _ in sum(counts, Counter()).most_common()]
    if names and all(math.isfinite(n) and n > 0 for n in episodes):
        head, rest = names[:MODES], names[MODES:]
        shown = [name.replace("_", " ") for name in head] + (["other"] if rest else [])
        rows, bars = [], []
        for c, count, total in zip(able, counts, episodes, strict=True):
            shares = [count[name] / total for name in head] + ([sum(count[n] for n in rest) / total] if rest else [])
            bars.append((c.name, shares))
            misses = mean_of(c.tested, lambda run: number(part(run.results, "overall"), "near_misses"))
            row = [c.name, str(len(c.tested)), percent(float(sum(shares))), *[percent(value) for value in shares]]
            rows.append([*row, plots.short(misses) if math.isfinite(misses) else "-"])
        drawn = plots.bars(bars, shown, "test episodes lost")
        blocks.append(Figures([Figure("failures", drawn, "How test episodes were lost, all seeds together.")]))
        header = ["", "seeds", "lost", *shown, "near misses"]
        blocks.append(Table(header, rows, "Shares of all test episodes of all seeds; near misses: mean over seeds."))
    else:
        blocks.append(Text("No run says how its episodes failed, or none failed."))
    pictures, problems = gallery(comparison)
    if pictures:
        blocks += [Heading("Failures in pictures", 3), Gallery(pictures)]
    else:
        problems.append("No pictures of failures: no run has any.")
    return blocks + ([Bullets(problems)] if problems else [])


def gallery(comparison: Comparison) -> tuple[list[Picture], list[str]]:
    """Up to PICTURES pictures, and what could not be read.

    They come from each contender in turn. Ways to fail and levels that are not shown yet come first.
    """
    choices = []
    for k, c in enumerate(comparison.able):
        for run in c.tested:
            entries = {entry["id"]: entry for entry in run.entries}
            for level, file in pictures_of(run, entries).items():
                tries = entries.get(level, {}).get("tries") or [{}]
                how = next((t for t in tries if not t.get("success")), {})
                mode = str(how.get("failure") or how.get("cause") or "failed").replace("_", " ")
                if mode == "none":
                    mode = "ran out of time"
                choices.append((k, mode, str(level), run, file))
    taken, problems = [], []
    used, shown = Counter(), set()
    while choices and len(taken) < PICTURES:
        best = min(choices, key=lambda c: (used[c[1]] + used[c[0]], used[c[2]], c[0], c[2]))
        choices.remove(best)
        k, mode, level, run, file = best
        if (level, mode) in shown:
            continue
        try:
            png = picture(run.folder, file)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            problems.append(f"A picture of {run.experiment}, {run.architecture} is left out: {str(error)[:120]}")
            if len(problems) >= 5:
                break
            continue
        used.update([mode, k, level])
        shown.add((level, mode))
        taken.append(Picture(level, f"{comparison.able[k].name}, seed {run.seed}: {mode}", png))
    return taken, problems


def pictures_of(run: Run, entries: dict) -> dict[str, str]:
    """Level -> picture of how it was lost, as the results say; else the files of its name in the folder `failures`."""
    if found := part(run.results, "pictures"):
        return found
    files = sorted((run.folder / "failures").glob("*__*.png"))[:MOST_FILES]
    names = {plain_name(level): level for level in entries}
    places = {names[name]: file for file in files if (name := file.stem.rpartition("__")[0]) in names}
    return {level: f"failures/{file.name}" for level, file in places.items()}


def picture(folder: Path, file) -> bytes:
    """A run's picture as WebP, made small. ValueError for a path out of the run's directory; OSError for no picture."""
    try:
        path = (folder / str(file)).resolve()
    except RuntimeError:  # a loop of links
        raise ValueError(f"{file}: leads in a circle") from None
    if not isinstance(file, str) or not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{file}: expected a path inside the run directory")
    data = io.BytesIO(read_bytes(path))
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(data) as image:
                small = image.convert("RGB")
        except Image.DecompressionBombWarning as error:
            raise ValueError(f"{file}: {error}") from None
    small.thumbnail((PICTURE_WIDTH, PICTURE_WIDTH))
    for quality in (82, 60, 35):
        stream = io.BytesIO()
        small.save(stream, "WEBP", quality=quality)
        if stream.tell() <= PICTURE_BYTES:
            break
    return stream.getvalue()


def levels(comparison: Comparison) -> list:
    """Success on every level, over seeds."""
    from benchmark.reporting.level_views import level_views  # here because it loads the simulator

    able, names = ranked(comparison), comparison.levels
    if not names:
        return [Text("There are no levels that all runs were tested on: no run's results name any.")]
    shares = np.array([c.levels.mean(0) for c in able])
    groups = [(comparison.tasks[k], int((comparison.strata == k).sum())) for k in np.unique(comparison.strata)]
    rows = [f"{c.name} (n={len(c.tested)})" for c in able]
    drawn = plots.heat_map(shares, rows, groups, "success on every test level", names)
    views, problems = level_views(comparison)
    words = "Each column is a test level: blue won by all seeds, orange by none."
    words += " A click on a column opens the level with every run on it." if views else ""
    blocks = [Figure("levels", drawn, words, wide=True)]
    if views:
        paths = "Their paths have a mark for each second; a ring is a win, a cross anything else. The first try counts."
        blocks += [views, Text(f"{len(views.names)} levels can be opened in report.html. {paths}", "note")]
    if problems:
        blocks.append(Bullets(problems))
    never = [name for name, won in zip(names, shares.max(0), strict=True) if won == 0]
    always = int((shares.min(0) == 1).sum())
    blocks.append(
        Text(
            f"Of {len(names)} levels all seeds of all contenders won {always}; "
            + (f"nobody won {len(never)}: {listed(never, 12)}." if never else "each was won by somebody.")
        )
    )
    spread = shares.max(0) - shares.min(0)
    apart = [k for k in np.argsort(-spread, kind="stable") if spread[k] > 0][:10]
    if len(able) > 1 and apart:
        rows = [[names[k], *[Cell(percent(v, 0), tint=float(v)) for v in shares[:, k]]] for k in apart]
        header = ["", *[f"{c.name} (n={len(c.tested)})" for c in able]]
        blocks.append(Table(header, rows, "Share of seeds that won.", folded="Levels on which contenders differ most"))
    return blocks


def runs(experiment: Experiment) -> list:
    """Every run and how far it got, then the pretraining runs, then what could not be read."""
    rows = []
    for run in experiment.runs:
        rows.append(
            [
                f"{run.architecture} ({run.label})" if run.label else run.architecture,
                CONDITIONS[run.condition],
                run.place,
                str(run.seed),
                f"{run.minutes:.1f}" if math.isfinite(run.minutes) else "-",
                plots.short(run.steps) if run.steps else "-",
                percent(run.success),
            ]
        )
    header = ["architecture", "condition", "folder", "seed", "minutes", "steps", "levels won"]
    blocks = [Table(header, rows, left=3, folded=f"All runs ({len(rows)})")]
    if experiment.pretraining:
        rows = []
        for run in experiment.pretraining:
            last = {k: v for row in run.rows for k, v in row.items() if k not in ("kind", "global_step", "minutes")}
            figures = ", ".join(f"{k} {plots.short(v)}" for k, v in list(last.items())[:8])
            minutes = f"{run.minutes:.1f}" if math.isfinite(run.minutes) else "-"
            rows.append([run.architecture, figures or "no metrics", str(run.seed), minutes])
        blocks += [Table(["architecture", "last metrics", "seed", "minutes"], rows, left=2, folded="Pretraining runs")]
    if experiment.problems:
        blocks += [Text("What is missing or could not be read:"), Bullets(experiment.problems[:60])]
        if len(experiment.problems) > 60:
            blocks.append(Text(f"and {len(experiment.problems) - 60} more."))
    return blocks
