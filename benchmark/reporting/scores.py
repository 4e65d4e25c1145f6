"""Scores in a report: interquartile means, profiles, categories and tiers, effect of pretraining."""

import math

import numpy as np

from benchmark.reporting import learning, plots, significance
from benchmark.reporting.experiments import CONDITIONS, number, part
from benchmark.reporting.page import Cell, Figure, Figures, Heading, Table, Text
from benchmark.reporting.plots import Curve
from benchmark.reporting.sections import Comparison, Contender, estimate, percent, points, seeds
from benchmark.reporting.sections import between as ends
from npp_rl.evaluation.intervals import wilson
from npp_rl.levels.categories import GROUPS

TIERS = ("easy", "middle", "hard")
NOT_WHOLE = GROUPS[2]  # levels with entities that are not simulated
THRESHOLDS = np.linspace(0, 1, 101)


def success(comparison: Comparison, rng) -> list:
    """Interquartile mean, mean and distance to the best with intervals, as figures and a table."""
    able = comparison.able
    best, gaps = significance.behind_best([c.success[:, 0] for c in able])
    rows, marks, behind = [], {}, {}
    for k, c in enumerate(able):
        middle, low, high = estimate(c.scores, significance.iqm, rng)
        wider = (math.nan, math.nan)
        if comparison.levels and len(c.tested) > 1:
            drawn = significance.draw_levels(c.levels, comparison.strata, significance.iqm, rng)
            wider = estimate(c.scores, significance.iqm, rng, drawn)[1:]
        average, *inside = estimate(c.success, significance.mean, rng)
        note = f"n={len(c.tested)}"
        marks.setdefault(c.title, []).append((c.colour, c.hollow, middle, low, high, note))
        if k != best:
            gap, gap_low, gap_high = gaps[k]
            behind.setdefault(c.title, []).append((c.colour, c.hollow, -gap, -gap_high, -gap_low, note))
        steps, minutes = (np.mean([getattr(run, name) for run in c.tested]) for name in ("steps", "minutes"))
        rows.append(
            [
                c.name,
                str(len(c.tested)),
                Cell(percent(middle), ends(low, high), middle),
                ends(*wider),
                Cell(percent(average), ends(*inside), average),
                "" if k == best else points(*(-v for v in (gaps[k][0], gaps[k][2], gaps[k][1]))),
                percent(float(c.success.std(ddof=1))) if len(c.tested) > 1 else "-",
                f"{minutes:.1f}" if math.isfinite(minutes) else "-",
                plots.short(steps) if steps else "-",
            ]
        )
    lowest = min(v for own in marks.values() for m in own for v in m[2:4] if math.isfinite(v))
    limits = (max(0.0, math.floor(lowest * 10 - 0.5) / 10), 1.0)
    hollow = " Filled: from scratch; hollow and dashed: pretrained." if len(comparison.conditions) > 1 else ""
    drawn = plots.dots(list(marks.items()), "interquartile mean of success on test levels", limits)
    words = "Interquartile mean with 95% intervals over seeds; n: seeds." + hollow
    figures = [Figure("iqm", drawn, words)]
    if behind:
        reach = plots.reach(m for own in behind.values() for m in own)
        drawn = plots.dots(list(behind.items()), f"levels won, less those of {able[best].name}", reach, zero=True)
        tied = sum(math.isclose(c.success.mean(), able[best].success.mean(), abs_tol=1e-9) for c in able) > 1
        words = f"Difference to {able[best].name}, {'one of those that' if tied else 'which'} won most; 95% intervals "
        words += "that hold together for all."
        figures.append(Figure("behind", drawn, words))
    header = [
        "",
        "seeds",
        "IQM",
        "IQM over seeds and levels",
        "levels won",
        "less the best",
        "SD over seeds",
        "minutes",
        "steps",
    ]
    note = (
        "IQM: mean of the middle half of the success shares of all seeds and categories (Agarwal et al. 2021, section "
        "4.3). Small: 95% intervals over seeds. Over seeds and levels: as if other levels of each category had been "
        "drawn as well. Levels won: all levels of the suite alike."
    )
    rows = [rows[k] for k in np.argsort([-c.success.mean() for c in able], kind="stable")]
    return [Figures(figures), Table(header, rows, note)]


def profiles(comparison: Comparison, rng) -> list:
    """Performance profiles and the probability of improvement, for each condition."""
    curves = {}
    for c in comparison.able:
        value = significance.profile(c.scores, THRESHOLDS)
        drawn = significance.profile(significance.draw(c.scores, rng, 500), THRESHOLDS)
        curves[c.name] = Curve(
            c.name, c.colour, THRESHOLDS, value, *learning.band(value, drawn, len(c.scores)), steps=True
        )
    words = (
        "The share of all seeds and categories whose success is above a value (Agarwal et al. 2021, section 4.2). A "
        "curve that is above another everywhere belongs to the better contender."
    )
    share, x = "share above", (0.0, 1.0)
    blocks = [
        Text(words),
        Figures(
            learning.together(
                comparison, curves, "profile", "success in a category", share, "Profiles", x, xpercent=True
            )
        ),
        *learning.apart(
            comparison, curves, "profile", "success in a category", "Each contender's profile", x, xpercent=True
        ),
    ]
    tables = []
    for condition in comparison.conditions:
        own = [c for c in comparison.able if c.condition == condition]
        if len(own) > 1:
            name = CONDITIONS[condition] if len(comparison.conditions) > 1 else ""
            tables.append(Table([name, *[c.title for c in own]], [_improvement(a, own, rng) for a in own]))
    if tables:
        words = (
            "How likely a seed of the row beats a seed of the column in a category, ties being half (section 4.3); "
            "small: 95% intervals over seeds, n: seeds."
        )
        blocks += [Heading("Probability of improvement", 3), Text(words), *tables]
    return blocks


def _improvement(a, others, rng):
    row = [f"{a.title} (n={len(a.tested)})"]
    for b in others:
        if a is b:
            row.append("")
            continue
        value = significance.probability_of_improvement(a.scores, b.scores)
        draws = significance.draw_improvement(a.scores, b.scores, rng)
        low, high = significance.interval(value, draws, min(len(a.tested), len(b.tested)), (0, 1))
        row.append(Cell(f"{value:.2f}", f"{low:.2f} to {high:.2f}" if math.isfinite(low) else "", value))
    return row


def parts(comparison: Comparison, rng) -> list:
    """Success per category and per tier, mean over seeds with interval and number of seeds."""
    blocks = []
    tested = [run for c in comparison.able for run in c.tested]
    restricted = any(run.counted is not None for run in tested)
    tiers = [] if restricted else [t for t in TIERS if any(part(run.results, "by_tier", t) for run in tested)]
    for title, names, of in (
        ("", comparison.tasks, lambda run, name: run.categories[name]),
        ("Difficulty tiers", tiers, lambda run, name: number(part(run.results, "by_tier", name), "success_rate")),
    ):
        rows = []
        for c in comparison.able:
            row = [c.name]
            for name in names:
                own = np.array([[of(run, name)] for run in c.tested])
                row.append(share(own[np.isfinite(own).ravel()], _levels_of(c.tested[0], title, name), rng))
            rows.append(row)
        if names:
            blocks += [Heading(title, 3)] if title else []
            note = (
                "Mean over seeds; small: 95% interval over seeds, and their number n. Where n is 1, or where all "
                "seeds agree, the interval is Wilson's over the levels of one network."
            )
            rows = [rows[k] for k in np.argsort([-c.success.mean() for c in comparison.able], kind="stable")]
            blocks.append(Table(["", *names], rows, note))
    if not tiers:
        why = "they are not of the levels compared here" if restricted else "missing from all runs' results"
        blocks.append(Text(f"Difficulty tiers: {why}."))
    return blocks


def holdings(comparison: Comparison, ceiling: dict[str, int | None], rng) -> list:
    """Success by category and by what the levels hold (`Level.group`); [] where all levels are of one group.

    ceiling: frames in which the planner has won levels, None where it has not, by digest (`builtin.planned`). A level
    that it has not tried is in no share of the planner's row.
    """
    runs = [run for c in comparison.able for run in c.tested]
    played = [{e["id"]: e for e in run.results.get("levels") or [] if not e.get("trained_on")} for run in runs]
    common = [k for k in played[0] if all(k in own and own[k]["success_rate"] is not None for own in played)]
    kinds = {k: (played[0][k].get("category", "unknown"), played[0][k].get("group")) for k in common}
    present = [name for name in GROUPS if any(group == name for _, group in kinds.values())]
    if len(present) < 2:
        return []
    categories = sorted({category for category, _ in kinds.values()})
    columns = {}  # name: levels
    for name in present:
        for category in categories if len(categories) > 1 and name != NOT_WHOLE else []:
            columns[f"{category}, {name}"] = [k for k in common if kinds[k] == (category, name)]
        columns[name] = [k for k in common if kinds[k][1] == name]
    columns = {name: levels for name, levels in columns.items() if levels}
    rows = []
    for c in comparison.able:
        own = [played[k] for k, run in enumerate(runs) if any(run is t for t in c.tested)]
        row = [c.name]
        for levels in columns.values():
            won = np.array([[np.mean([seed[k]["success_rate"] for k in levels])] for seed in own])
            row.append(share(won, len(levels), rng))
        rows.append(row)
    rows = [rows[k] for k in np.argsort([-c.success.mean() for c in comparison.able], kind="stable")]
    if ceiling:
        row = ["planner"]
        for levels in columns.values():
            tried = [d for d in (played[0][k].get("digest") for k in levels) if d in ceiling]
            won = sum(ceiling[digest] is not None for digest in tried)
            inside = f"{ends(*wilson(won, len(tried)))}, of {len(tried)}"
            row.append(Cell(percent(won / len(tried), 0), inside, won / len(tried)) if tried else Cell("-"))
        rows.append(row)
    header = ["", *(f"{name} ({len(levels)})" for name, levels in columns.items())]
    note = "Levels with entities that are not simulated are easier than in the game, and count in nothing else. "
    note += "Mean over seeds; small: 95% interval over seeds, of one seed over levels."
    return [Heading("What the levels hold", 3), Table(header, rows, note)]


def _levels_of(run, tier, name):
    if not tier and run.counted is not None:
        return sum(category == name for category, _ in run.counted.values())
    count = number(part(run.results, "by_tier" if tier else "by_category", name), "levels")
    return int(count) if math.isfinite(count) else 0


def share(own: np.ndarray, levels: int, rng) -> Cell:
    """A share over seeds [n, 1] with its interval.

    Of a single seed, or of seeds that agree, the interval is Wilson's over the levels of one of them.
    """
    if not len(own):
        return Cell("-")
    value, low, high = estimate(own, significance.mean, rng)
    if levels and (len(own) == 1 or low == high):
        low, high = wilson(value * levels, levels)
    return Cell(percent(value, 0), f"{ends(low, high)}, n={len(own)}" if math.isfinite(low) else f"n={len(own)}", value)


def pretraining(comparison: Comparison, rng) -> list:
    """Pretrained minus from scratch, the seeds of a contender in pairs."""
    rows, marks, pooled = [], [], []
    by = {(c.title, c.condition): c for c in comparison.able}
    for name in dict.fromkeys(c.title for c in comparison.able):
        one, other = by.get((name, "with_pretrain")), by.get((name, "no_pretrain"))
        if not one or not other:
            continue
        pairs = sorted({r.seed for r in one.tested} & {r.seed for r in other.tested})
        if not pairs:
            continue
        with_, without = (np.array([[run.success] for run in c.tested if run.seed in pairs]) for c in (one, other))
        drawn = significance.paired_draws(with_, without, significance.mean, rng)
        pooled.append(drawn)
        value, low, high = significance.combination([drawn], [1])
        marks.append((name, [(one.colour, False, value, low, high, f"n={len(pairs)}")]))
        rows.append(
            [
                name,
                str(len(pairs)),
                percent(float(without.mean())),
                percent(float(with_.mean())),
                points(value, low, high),
            ]
        )
    if not rows:
        return [Text("No architecture was trained both ways with the same seed.")]
    value, low, high = significance.combination(pooled, [1 / len(pooled)] * len(pooled))
    verdict = "helps" if low > 0 else "harms" if high < 0 else "shows no effect beyond chance"
    few = min(n for _, _, n in pooled) < significance.MIN_SEEDS
    words = "Too few seeds to say whether pretraining helps" if few else f"Over all architectures pretraining {verdict}"
    if len(rows) > 1:
        rows.append(["mean over architectures", "", "", "", points(value, low, high)])
    reach = plots.reach(m for _, own in marks for m in own)
    drawn = plots.dots(marks, "change in levels won by pretraining", reach, zero=True)
    return [
        Text(f"{words}: {points(value, low, high)}."),
        Figures(
            [
                Figure(
                    "pretraining",
                    drawn,
                    "Pretrained minus from scratch in pairs of equal seeds; 95% intervals, n pairs.",
                )
            ]
        ),
        Table(["", "pairs", "from scratch", "pretrained", "difference (95%)"], rows),
    ]


def between(comparison: Comparison, rng) -> list:
    """The contenders that are in several experiments, and their differences to the first that has them."""
    places = list(dict.fromkeys(run.experiment for run in comparison.experiment.runs))
    found: dict[tuple[str, str, str], dict[str, Contender]] = {}
    for c in comparison.able:
        run = c.tested[0]
        found.setdefault((run.architecture, run.label, run.condition), {})[run.experiment] = c
    found = {key: own for key, own in found.items() if len(own) > 1}
    if not found:
        return [Text("No contender was tested in several of the experiments.")]
    rows, marks = [], []
    for (architecture, label, condition), own in found.items():
        name = architecture + f" ({label})" * bool(label) + " + BC" * (condition == "with_pretrain")
        first, row = None, [name]
        for place in places:
            if (c := own.get(place)) is None:
                row += ["-", "-"]
                continue
            value, low, high = estimate(c.success, significance.mean, rng)
            inside = f"{ends(low, high)}, " if math.isfinite(low) else ""
            row.append(Cell(percent(value), f"{inside}n={len(c.tested)}", value))
            if first is None:
                first = c.success
                row.append("")
                continue
            gap = significance.difference(c.success, first, significance.mean, rng)
            row.append(points(*gap))
            title = name if len(places) == 2 else f"{name}: {place}"
            marks.append((title, [(c.colour, c.hollow, *gap, f"n={len(c.tested)}")]))
        rows.append(row[:2] + row[3:])
    header = ["", places[0], *[word for place in places[1:] for word in (place, "difference")]]
    reach = plots.reach(m for _, lane in marks for m in lane)
    drawn = plots.dots(marks, "difference in levels won", reach, zero=True)
    few = min(len(c.tested) for own in found.values() for c in own.values())
    note = "Means with 95% intervals over seeds; differences to the first experiment that has it (95%, each alone)."
    if few < significance.MIN_SEEDS:
        note += f" Some have only {seeds(few)}: differences there conclude nothing."
    caption = "Differences to the first experiment, with 95% intervals."
    return [Figures([Figure("experiments", drawn, caption)]), Table(header, rows, note)]
