"""What a report says of one experiment: tables, figures and sentences, as blocks for `report_page`.

A contender is an architecture under one condition (from scratch or pretrained); its seeds are its replications. A task is
a category of the test suite: a level that is played greedily once is won or not, and an interquartile mean of zeros
and ones would say nothing.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmark import decision, report_plots, statistics
from benchmark.experiments import CONDITIONS, Experiment, Run, number, part
from benchmark.report_page import Bullets, Cell, Figure, Figures, Heading, Table, Text, Weights
from npp_rl.checkpoints import ARCHITECTURES
from npp_rl.evaluation import wilson
from npp_rl.levels import CATEGORIES

TIERS = ("easy", "middle", "hard")


@dataclass
class Contender:
    architecture: str
    condition: str
    name: str
    colour: int
    runs: list[Run]  # all of them
    tested: list[Run]  # those with results on the test suite
    scores: np.ndarray  # float64 [tested, tasks]
    levels: np.ndarray  # float64 [tested, levels that all runs played], maybe no column

    @property
    def success(self) -> np.ndarray:
        """Share of the levels won, [tested, 1]."""
        return np.array([[run.overall("success_rate")] for run in self.tested]).reshape(-1, 1)

    @property
    def hollow(self) -> bool:
        return self.condition == "with_pretrain"


@dataclass
class Comparison:
    experiment: Experiment
    contenders: list[Contender]
    tasks: list[str]
    levels: list[str]  # played by all
    strata: np.ndarray  # [levels], index of the task of each
    notes: list[str]

    @property
    def able(self) -> list[Contender]:
        """Contenders with at least one tested run."""
        return [c for c in self.contenders if c.tested]

    @property
    def conditions(self) -> list[str]:
        return [name for name in CONDITIONS if any(c.condition == name for c in self.contenders)]


def compare(experiment: Experiment) -> Comparison:
    """The contenders of an experiment on the tasks and levels that all tested runs have in common."""
    runs, notes = experiment.runs, []
    tested = [
        run for run in runs if run.categories() and all(map(math.isfinite, [run.overall("success_rate"), *run.categories().values()]))
    ]  # fmt: skip
    several = [len(run.categories()) for run in tested]
    tasks = [name for name in CATEGORIES if all(name in run.categories() for run in tested)] if tested else []
    others = {name for run in tested for name in run.categories()} - set(CATEGORIES)
    tasks += sorted(name for name in others if all(name in run.categories() for run in tested))
    if tested and max(several) > len(tasks):
        notes.append(f"Not all runs were tested on the same categories; compared are the {len(tasks)} common ones.")
    played = [run.levels() for run in tested]
    common = [k for k in played[0] if all(k in own for own in played) and played[0][k][0] in tasks] if played else []
    if played and any(len(own) != len(common) for own in played):
        notes.append(
            f"Not all runs were tested on the same levels ({min(map(len, played))} to {max(map(len, played))}, "
            f"{len(common)} in common): differences in success may be differences in levels."
        )
    common.sort(key=lambda k: (tasks.index(played[0][k][0]), k))
    names = sorted({run.architecture for run in runs}, key=lambda a: (_order(a), a))
    both = len({run.condition for run in runs}) > 1
    contenders = []
    for name in names:
        for condition in CONDITIONS:
            own = sorted((r for r in runs if (r.architecture, r.condition) == (name, condition)), key=lambda r: r.seed)
            if own:
                ready = [run for run in own if any(run is t for t in tested)]
                scores = np.array([[run.categories()[task] for task in tasks] for run in ready], float)
                grid = np.array([[run.levels()[k][1] for k in common] for run in ready], float)
                label = f"{name}, pretrained" if both and condition == "with_pretrain" else name
                colour = _order(name) if name in ARCHITECTURES else names.index(name)
                shape = (len(ready), -1) if ready else (0, 0)
                contenders.append(
                    Contender(name, condition, label, colour, own, ready, scores.reshape(shape), grid.reshape(shape))
                )
    strata = np.array([tasks.index(played[0][k][0]) for k in common], int)
    return Comparison(experiment, contenders, tasks, common, strata, notes)


def _order(architecture):
    return ARCHITECTURES.index(architecture) if architecture in ARCHITECTURES else len(ARCHITECTURES)


def percent(value: float, digits: int = 1) -> str:
    return "–" if not math.isfinite(value) else f"{100 * value:.{digits}f}%"


def between(low: float, high: float, digits: int = 0) -> str:
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f}" if math.isfinite(low) else "no interval"


def seeds(count: int) -> str:
    return f"{count} seed" + ("" if count == 1 else "s")


def points(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """A difference in percentage points with its interval."""
    inside = f" ({100 * low:+.1f} to {100 * high:+.1f})" if math.isfinite(low) else ""
    return f"{100 * value:+.1f} points{inside}"


def estimate(scores: np.ndarray, statistic, rng, levels=None) -> tuple[float, float, float]:
    """A statistic of shares [seeds, tasks] with its interval."""
    value = float(statistic(scores))
    low, high = statistics.interval(value, statistic(statistics.draw(scores, rng)), len(scores), (0, 1), levels=levels)
    return value, float(low), float(high)


def conclusion(comparison: Comparison, matrix: decision.Matrix | None, rng) -> list:
    """In words: which architecture to take, and how sure that is."""
    able = comparison.able
    if not able:
        return [Text("**No conclusion:** no run has results on a test suite yet.", "lead")]
    means = [float(c.success.mean()) for c in able]
    lead = int(np.argmax(means))
    leader = able[lead]
    count = len(leader.tested)
    if len(able) == 1:
        run = leader.tested[0]
        low, high = (
            number(part(run.results, "overall"), "success_low"),
            number(part(run.results, "overall"), "success_high"),
        )
        levels = int(run.overall("levels")) if math.isfinite(run.overall("levels")) else 0
        if count == 1 and not math.isfinite(low) and levels:
            low, high = wilson(means[0] * levels, levels)
        words = f"**Nothing to compare:** {leader.name} is the only one. It won {percent(means[0])} of the test levels"
        if count > 1:
            _, low, high = estimate(leader.success, statistics.mean, rng)
        over = (
            f"over {seeds(count)}" if count > 1 else "over levels, of this one network; one seed says nothing of others"
        )
        return [Text(words + (f" (95%: {between(low, high)}, {over})." if math.isfinite(low) else "."), "lead")]
    others = [k for k in range(len(able)) if k != lead]
    gaps = {
        k: statistics.difference(leader.success, able[k].success, statistics.mean, rng, comparisons=len(others))
        for k in others
    }
    few = [c for c in able if len(c.tested) < statistics.MIN_SEEDS]
    unclear = [k for k in others if not gaps[k][1] > 0]
    ranked = [] if matrix is None else list(np.argsort(-matrix.total, kind="stable"))
    blocks = []
    if few:
        names = (
            "all contenders have"
            if len(few) == len(able)
            else f"{listed([c.name for c in few])} {'has' if len(few) == 1 else 'have'}"
        )
        blocks.append(
            Text(
                f"**Too few seeds to conclude:** {names} fewer than {statistics.MIN_SEEDS} finished seeds. "
                f"{leader.name} won the most test levels, {percent(means[lead])} ({seeds(count)}); "
                "with other seeds the order may be another.",
                "lead",
            )
        )
    elif unclear:
        rivals = [lead, *unclear]
        same = listed([able[k].name for k in sorted(unclear, key=lambda k: -means[k])])
        words = (
            f"**No clear winner in success.** {leader.name} won the most test levels, {percent(means[lead])} "
            f"({seeds(count)}), but cannot be told apart from {same}."
        )
        if ranked:
            pick = next(k for k in ranked if k in rivals)
            sure = _sureness(matrix, pick)
            words += f" Among these, **take {able[pick].name}**: it has the best score in the decision matrix{sure}."
        blocks.append(Text(words, "lead"))
    else:
        nearest = max(others, key=lambda k: means[k])
        words = (
            f"**Take {leader.name}** for success: it won {percent(means[lead])} of the test levels ({seeds(count)}), and "
            f"its lead over each of the others is beyond chance; over {able[nearest].name}, the next, it is "
            f"{points(*gaps[nearest])}."
        )
        if ranked and ranked[0] != lead:
            words += f" With the weights given, **{able[ranked[0]].name}** is ahead in the decision matrix{_sureness(matrix, ranked[0])}."
        blocks.append(Text(words, "lead"))
    if ranked:
        first = ranked[0]
        weights = ", ".join(f"{c.name} {w:.0%}" for c, w in zip(matrix.criteria, matrix.weights, strict=True))
        line = (
            f"Decision matrix ({weights}): {able[first].name} is first with {matrix.total[first]:.2f}, "
            f"{able[ranked[1]].name} second with {matrix.total[ranked[1]]:.2f}. Under weights drawn at random "
            f"{able[first].name} is first in {matrix.first_by_weights[first]:.0%} of the draws"
        )
        if matrix.first_by_seeds is not None:
            line += f", with seeds drawn again in {matrix.first_by_seeds[first]:.0%}"
        blocks.append(Text(line + "."))
    blocks.append(
        Text(
            f"The {len(others)} differences to {leader.name} are judged together at 95% (Bonferroni), "
            "by bootstrap over seeds, wider the fewer they are."
            + (
                ""
                if min(len(c.tested) for c in able) > 4
                else " With five or more seeds smaller differences would show."
            )
        )
    )
    return blocks


def _sureness(matrix, k):
    if matrix.first_by_seeds is None:
        return ""
    share = matrix.first_by_seeds[k]
    word = "sure" if share >= 0.95 else "fairly sure" if share >= 0.8 else "likely" if share >= 0.5 else "open"
    return f" ({word}: first in {share:.0%} of the draws of seeds)"


def listed(names: list[str], most: int = 6) -> str:
    """a, b and c; of many the first ones."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


FACTS: dict[str, Callable[[Run], object]] = {
    "budget, minutes": lambda run: run.args.get("max_minutes"),
    "training levels": lambda run: run.args.get("train_dataset"),
    "test levels": lambda run: run.args.get("test_dataset"),
    "size": lambda run: run.args.get("size"),
    "device": lambda run: run.config.get("device"),
    "CPU cores": lambda run: run.config.get("cpus"),
    "processes": lambda run: run.config.get("world_size"),
    "revision": lambda run: _revision(run),
    "torch": lambda run: part(run.config, "versions").get("torch"),
    "frames a step": lambda run: run.args.get("frame_skip"),
    "environments": lambda run: run.args.get("num_envs"),
    "actions in the test": lambda run: _settings(run),
}


def _revision(run):
    revision = run.config.get("git_revision")
    return f"{str(revision)[:10]}{' with changes' if run.config.get('git_changed') else ''}" if revision else None


def _settings(run):
    settings = part(run.results, "settings")
    if not settings:
        return None
    return "greedy" if settings.get("deterministic") else f"sampled, {settings.get('tries')} tries a level"


def head(comparison: Comparison) -> tuple[list, list[str]]:
    """What was compared -> table of facts, warnings where runs differ in what should be equal."""
    runs, warnings = comparison.experiment.runs, list(comparison.notes)
    able = comparison.able
    numbers = sorted({run.seed for run in runs})
    rows = [
        ["architectures", listed(list(dict.fromkeys(c.architecture for c in comparison.contenders)), 12)],
        ["conditions", listed([CONDITIONS[name] for name in comparison.conditions])],
        [
            "seeds",
            f"{listed(list(map(str, numbers)), 12)} ({len(runs)} runs, {sum(len(c.tested) for c in able)} tested)",
        ],
        ["tested on", f"{len(comparison.levels)} levels that all runs played, {len(comparison.tasks)} categories"],
    ]
    for name, fact in FACTS.items():
        found = Counter(str(value) for run in runs if (value := fact(run)) is not None)
        if found:
            rows.append([name, listed([k if len(found) == 1 else f"{k} ({n} runs)" for k, n in found.most_common()])])
        if len(found) > 1 and name != "environments":
            warnings.append(f"Runs differ in {name}: {rows[-1][1]}.")
    minutes = [run.minutes for run in runs if math.isfinite(run.minutes)]
    if minutes:
        rows.append(["trained, minutes", f"{min(minutes):.1f} to {max(minutes):.1f}"])
        steps = [run.steps for run in runs if run.rows]
        rows.append(["trained, steps", f"{report_plots.short(min(steps))} to {report_plots.short(max(steps))}"])
        if max(minutes) > 1.1 * min(minutes) + 0.1:
            warnings.append(
                f"Runs trained for {min(minutes):.1f} to {max(minutes):.1f} minutes: not a comparison at equal time."
            )
    counts = {len(c.tested) for c in comparison.contenders}
    if len(counts) > 1:
        warnings.append(f"Contenders have {min(counts)} to {max(counts)} tested seeds.")
    sources = Counter(run.source for run in runs)
    if set(sources) - {"metrics.jsonl"}:
        rows.append(["metrics from", listed([f"{name} ({n} runs)" for name, n in sources.most_common()])])
    return [Table(["", ""], rows, left=2)], warnings


def success(comparison: Comparison, rng) -> list:
    """Interquartile mean and mean with intervals, as a figure and a table."""
    able = comparison.able
    rows, marks = [], {}
    for c in able:
        levels = None
        if comparison.levels and len(c.tested) > 1:
            levels = statistics.draw_levels(c.levels, comparison.strata, statistics.iqm, rng)
        middle, low, high = estimate(c.scores, statistics.iqm, rng)
        _, low_l, high_l = (
            estimate(c.scores, statistics.iqm, rng, levels) if levels is not None else (0, math.nan, math.nan)
        )
        average, low_m, high_m = estimate(c.success, statistics.mean, rng)
        marks.setdefault(c.architecture, []).append((c.colour, c.hollow, middle, low, high, f"n={len(c.tested)}"))
        steps = np.mean([run.steps for run in c.tested])
        minutes = np.mean([run.minutes for run in c.tested])
        rows.append(
            [
                c.name,
                str(len(c.tested)),
                Cell(percent(middle), between(low, high), middle),
                between(low_l, high_l),
                Cell(percent(average), between(low_m, high_m), average),
                percent(float(c.success.std(ddof=1))) if len(c.tested) > 1 else "–",
                f"{minutes:.1f}" if math.isfinite(minutes) else "–",
                report_plots.short(steps) if steps else "–",
            ]
        )
    lowest = min(min(m[2] if not math.isfinite(m[3]) else m[3] for m in own) for own in marks.values())
    axis = (max(0.0, math.floor(lowest * 10 - 0.5) / 10), 1.0)
    drawn = report_plots.dots(list(marks.items()), "interquartile mean of success, test levels", axis)
    hollow = " Filled: from scratch; hollow and dashed: pretrained." if len(comparison.conditions) > 1 else ""
    header = ["", "seeds", "IQM", "over seeds and levels", "levels won", "SD over seeds", "minutes", "steps"]
    note = (
        "IQM: mean of the middle half of the success shares of all seeds and categories (Agarwal et al. 2021, section "
        "4.3). Small: 95% intervals over seeds. Over seeds and levels: as if other levels of each category had been "
        "drawn as well. Levels won: all levels of the suite alike."
    )
    return [
        Figures(
            [
                Figure(
                    "iqm", drawn, "Interquartile mean with 95% intervals over seeds; n is the number of seeds." + hollow
                )
            ]
        ),
        Table(header, rows, note),
    ]


def learning(comparison: Comparison, rng) -> list:
    """Success over minutes and over steps: all contenders of a condition together, then each with its band."""
    blocks, found = [], {}
    runs = comparison.experiment.runs
    validation = all(len(run.series("eval", "eval/success_rate")) > 1 for run in runs if run.rows)
    kind, key = ("eval", "eval/success_rate") if validation else ("train", "charts/success_rate")
    for axis, column in (("minutes", 1), ("steps", 0)):
        for c in comparison.contenders:
            own = [np.array(s) for run in c.runs if len(s := run.series(kind, key)) > 1]
            if own:
                x, y = statistics.curves([(s[:, column], s[:, 2]) for s in own])
                mean = y.mean(0)
                drawn = y[rng.integers(len(y), size=(500, len(y)))].mean(1)
                low, high = statistics.interval(mean, drawn, len(y), (0, 1))
                found[axis, c.name] = report_plots.Curve(f"{c.name} (n={len(y)})", c.colour, x, mean, low, high)
    if not found:
        return [Text("No run has metrics from which a curve could be drawn.")]
    what = "validation levels, never trained on" if validation else "training levels, sampled actions"
    label = "levels won" if validation else "episodes won"
    labels = {"minutes": "minutes of wall-clock time", "steps": "environment steps"}
    ends = {axis: max(float(c.x[-1]) for (a, _), c in found.items() if a == axis) for axis in labels}
    overview = []
    for condition in comparison.conditions:
        for axis, words in labels.items():
            own = [
                report_plots.Curve(c.name, c.colour, *_smooth(found[axis, c.name]))
                for c in comparison.contenders
                if c.condition == condition and (axis, c.name) in found
            ]
            if own:
                drawn = report_plots.lines(
                    own, words, label, dashed=condition == "with_pretrain", x=(0, ends[axis] or 1)
                )
                both = f", {CONDITIONS[condition]}" if len(comparison.conditions) > 1 else ""
                overview.append(
                    Figure(f"learning_{axis}_{condition}", drawn, f"Success over {axis}{both}: mean over seeds.")
                )
    blocks += [
        Text(
            f"Success on {what}. Each curve ends where the first of its seeds ends; point at a name to see its curve alone."
        ),
        Figures(overview),
    ]
    for axis, words in labels.items():
        small = []
        for name in dict.fromkeys(c.architecture for c in comparison.contenders):
            mine = [c for c in comparison.contenders if c.architecture == name and (axis, c.name) in found]
            rest = [c for (a, n), c in found.items() if a == axis and n not in {c.name for c in mine}]
            if mine:
                own = [(found[axis, c.name], c.hollow) for c in mine]
                title = f"{name}, n={' and '.join(str(len(c.runs)) for c in mine)}"
                small.append(
                    Figure(f"curve_{axis}_{name}", report_plots.small_lines(own, rest, title, words, ends[axis]))
                )
        hollow = "; solid: from scratch, dashed: pretrained" if len(comparison.conditions) > 1 else ""
        blocks += [
            Heading(f"Each architecture over {axis}", 3),
            Text(f"Mean over seeds and 95% bootstrap band, others in grey{hollow}. n: seeds."),
            Figures(small, small=True),
        ]
    return blocks


def _smooth(curve):
    return curve.x, curve.y


def profiles(comparison: Comparison, rng) -> list:
    """Performance profiles and the probability of improvement, for each condition."""
    blocks, figures = [], []
    thresholds = np.linspace(0, 1, 101)
    for condition in comparison.conditions:
        own = []
        for c in comparison.able:
            if c.condition == condition:
                value = statistics.profile(c.scores, thresholds)
                drawn = statistics.profile(statistics.draw(c.scores, rng, 500), thresholds)
                low, high = statistics.interval(value, drawn, len(c.scores), (0, 1))
                name = f"{c.name} (n={len(c.tested)})"
                own.append(report_plots.Curve(name, c.colour, thresholds, value, low, high, steps=True))
        if own:
            drawn = report_plots.lines(
                own, "success in a category", "share of seeds and categories above", dashed=condition == "with_pretrain"
            )
            figures.append(
                Figure(f"profile_{condition}", drawn.replace(">100<", ">1<"), _condition(comparison, condition))
            )
    blocks.append(
        Text(
            "How large a share of all seeds and categories is above each success (Agarwal et al. 2021, section 4.2), with "
            "95% bands over seeds. A curve that lies above another everywhere belongs to the better contender."
        )
    )
    blocks.append(Figures(figures))
    blocks += [Heading("Probability of improvement", 3)]
    for condition in comparison.conditions:
        own = [c for c in comparison.able if c.condition == condition]
        if len(own) < 2:
            continue
        rows = []
        for a in own:
            row = [f"{a.name} (n={len(a.tested)})"]
            for b in own:
                if a is b:
                    row.append("")
                    continue
                value = statistics.probability_of_improvement(a.scores, b.scores)
                fewest = min(len(a.tested), len(b.tested))
                draws = statistics.draw_improvement(a.scores, b.scores, rng)
                low, high = statistics.interval(value, draws, fewest, (0, 1))
                row.append(Cell(f"{value:.2f}", f"{low:.2f}–{high:.2f}" if math.isfinite(low) else "", value))
            rows.append(row)
        note = (
            "How likely a seed of the row beats a seed of the column in a category, ties being half (section 4.3), with "
            "95% intervals over seeds."
        )
        blocks.append(Table([_condition(comparison, condition), *[c.name for c in own]], rows, note))
    return blocks if len(comparison.able) > 1 else blocks[:2]


def _condition(comparison, condition):
    return CONDITIONS[condition].capitalize() if len(comparison.conditions) > 1 else ""


def parts(comparison: Comparison, rng) -> list:
    """Success per category and per tier, mean over seeds with interval and number of seeds."""
    blocks = []
    tiers = [t for t in TIERS if any(part(run.results, "by_tier", t) for c in comparison.able for run in c.tested)]
    for title, names, of in (
        ("", comparison.tasks, lambda run, name: run.categories()[name]),
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
                "Mean over seeds; small: 95% interval over seeds, and their number n. Where n is 1 the interval is "
                "Wilson's over the levels: it speaks of that one network only."
            )
            blocks.append(Table(["", *names], rows, note))
    if not tiers:
        blocks.append(Text("Difficulty tiers: missing, no run's results have them."))
    return blocks


def _levels_of(run, tier, name):
    count = number(part(run.results, "by_tier" if tier else "by_category", name), "levels")
    return int(count) if math.isfinite(count) else 0


def share(own: np.ndarray, levels: int, rng) -> Cell:
    """A share over seeds [n, 1] with interval; of a single seed Wilson's over its levels."""
    if not len(own):
        return Cell("–")
    value, low, high = estimate(own, statistics.mean, rng)
    if len(own) == 1 and levels:
        low, high = wilson(value * levels, levels)
    return Cell(
        percent(value, 0), f"{between(low, high)}, n={len(own)}" if math.isfinite(low) else f"n={len(own)}", value
    )


def pretraining(comparison: Comparison, rng) -> list:
    """Pretrained minus from scratch, the seeds of an architecture in pairs."""
    rows, marks, pooled = [], [], []
    by = {(c.architecture, c.condition): c for c in comparison.able}
    for name in dict.fromkeys(c.architecture for c in comparison.able):
        one, other = by.get((name, "with_pretrain")), by.get((name, "no_pretrain"))
        if not one or not other:
            continue
        pairs = sorted({r.seed for r in one.tested} & {r.seed for r in other.tested})
        if not pairs:
            continue
        with_, without = (
            np.array([[run.overall("success_rate")] for run in c.tested if run.seed in pairs]) for c in (one, other)
        )
        drawn = statistics.paired_draws(with_, without, statistics.mean, rng)
        pooled.append(drawn)
        value, low, high = statistics.combination([drawn], [1])
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
    value, low, high = statistics.combination(pooled, [1 / len(pooled)] * len(pooled))
    verdict = "helps" if low > 0 else "harms" if high < 0 else "shows no effect beyond chance"
    few = min(n for _, _, n in pooled) < statistics.MIN_SEEDS
    words = "Too few seeds to say whether pretraining helps" if few else f"Over all architectures pretraining {verdict}"
    if len(rows) > 1:
        rows.append(["mean over architectures", "", "", "", points(value, low, high)])
    reach = max(0.05, *(max(abs(v) for v in m[0][2:5] if math.isfinite(v)) for _, m in marks))
    reach = math.ceil(reach * 10) / 10
    drawn = report_plots.dots(marks, "change of levels won by pretraining, in parts of all", (-reach, reach), zero=True)
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


def decide(comparison: Comparison, matrix: decision.Matrix | None, weights: dict[str, float]) -> list:
    """The decision matrix with the weights to be moved."""
    able = comparison.able
    if matrix is None or len(able) < 2:
        return [
            Text("A decision matrix needs two contenders and a criterion with a weight that is known of all of them.")
        ]
    raw = [[_raw(c, v) for c, v in zip(matrix.criteria, own, strict=True)] for own in matrix.raw]
    more = []
    for k, c in enumerate(able):
        seed = "–" if matrix.first_by_seeds is None else f"{matrix.first_by_seeds[k]:.0%}"
        more.append([f"{matrix.first_by_weights[k]:.0%}", seed, str(len(c.tested))])
    given = [weights[c.name] for c in matrix.criteria]
    blocks = [
        Text("Weights say how much it matters to go from the worst contender to the best in a criterion. Moving them renews score and rank."),
        Weights(
            [c.name for c in matrix.criteria], given, [c.name for c in able], raw, matrix.scores.tolist(), more,
            ["first, any weights", "first, seeds drawn", "seeds"],
        ),
        Text(
            "Small: the score from 0 (worst) to 1 (best). First, any weights: share of 4,000 random weights (Dirichlet, all "
            "weights equally likely) under which the contender is first. First, seeds drawn: the same over bootstrap draws of "
            f"the seeds{' (needs two seeds of each)' if matrix.first_by_seeds is None else ''}, with the weights first given."
        ),
        Bullets([f"**{c.name}**: {c.what}; {'more' if c.higher else 'less'} is better" for c in matrix.criteria]),
    ]  # fmt: skip
    return blocks + ([Text("Missing: " + "; ".join(matrix.notes) + ".", "warn")] if matrix.notes else [])


def _raw(criterion, value):
    if criterion.unit == "%":
        return percent(value)
    return f"{report_plots.short(value)} {criterion.unit}".strip()
