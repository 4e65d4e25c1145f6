"""What a report says of one comparison: its contenders, its conclusion and the decision matrix, as blocks for page.py.

A contender is an architecture, from scratch or pretrained, with a label. Of several experiments, each that has it makes
a contender of its own. Its seeds are its replications. A task is a category of the test suite, not a level: a level
that is played greedily once is won or not, and an interquartile mean of zeros and ones would say nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmark.reporting import decision, experiments, plots, significance
from benchmark.reporting.experiments import CONDITIONS, Experiment, Run, part
from benchmark.reporting.metrics import number
from benchmark.reporting.page import Bullets, Text, Weights
from npp_rl import ARCHITECTURES
from npp_rl.evaluation.intervals import difference, wilson
from npp_rl.levels.categories import CATEGORIES


@dataclass
class Contender:
    architecture: str
    condition: str
    title: str  # the architecture, and what else tells it from others: label, experiment
    name: str  # the same, and whether it was pretrained
    colour: int
    runs: list[Run]  # all of them
    tested: list[Run]  # those with results on the test suite
    scores: np.ndarray  # float64 [tested, tasks]
    levels: np.ndarray  # float64 [tested, levels that all runs played], maybe no column

    @property
    def success(self) -> np.ndarray:
        """Share of the levels won, [tested, 1]."""
        return np.array([[run.success] for run in self.tested]).reshape(-1, 1)

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
        run for run in runs if run.categories and all(map(math.isfinite, [run.success, *run.categories.values()]))
    ]
    common = experiments.common_levels(tested)
    if seen := [run.trained_on for run in runs if run.trained_on]:
        notes.append(
            f"{len(seen)} runs were tested on levels that their agents saw in training ({_to(min(seen), max(seen))} of "
            "the levels). These levels count in nothing."
        )
    if easier := [run.not_simulated for run in runs if run.not_simulated]:
        notes.append(
            f"{_to(min(easier), max(easier))} of the test levels hold entities that are not simulated, so they are "
            "easier here than in the game. These levels count in nothing."
        )
    counts = [len(run.levels) for run in tested]
    if tested and set(counts) != {len(common)}:
        words = f"Not all runs were tested on the same levels ({_to(min(counts), max(counts))})"
        if common:
            notes.append(f"{words}: the {len(common)} levels that all of them played are compared.")
            for run in tested:
                run.shared = frozenset(common)
        else:
            notes.append(f"{words}, none of them in common: differences in success may be differences in levels.")
    several = [len(run.categories) for run in tested]
    tasks = [name for name in CATEGORIES if all(name in run.categories for run in tested)] if tested else []
    others = {name for run in tested for name in run.categories} - set(CATEGORIES)
    tasks += sorted(name for name in others if all(name in run.categories for run in tested))
    if tested and max(several) > len(tasks):
        notes.append(f"Not all runs were tested on the same categories; the {len(tasks)} common ones are compared.")
    played = [run.levels for run in tested]
    common = [k for k in common if all(own[k][0] == played[0][k][0] for own in played) and played[0][k][0] in tasks]
    won = {k: sum(own[k][1] for own in played) for k in common}
    common.sort(key=lambda k: (tasks.index(played[0][k][0]), -won[k], k))  # within a category the easiest first
    contenders = []
    for (name, condition, label, place), title in _titles(runs).items():
        own = [r for r in runs if (r.architecture, r.condition, r.label) == (name, condition, label)]
        own = sorted((r for r in own if place in ("", r.experiment)), key=lambda r: r.seed)
        ready = [run for run in own if any(run is t for t in tested)]
        scores = np.array([[run.categories[task] for task in tasks] for run in ready], float)
        grid = np.array([[run.levels[k][1] for k in common] for run in ready], float)
        both = condition == "with_pretrain" and len({run.condition for run in runs}) > 1
        shape = (len(ready), -1) if ready else (0, 0)
        contenders.append(
            Contender(
                name, condition, title, f"{title} + BC" if both else title, 0, own, ready,
                scores.reshape(shape), grid.reshape(shape),
            )
        )  # fmt: skip
    titles = list(dict.fromkeys(c.title for c in contenders))
    plain = all(c.title == c.architecture and c.architecture in ARCHITECTURES for c in contenders)
    for c in contenders:  # an architecture keeps its colour over reports
        c.colour = _order(c.architecture) if plain else titles.index(c.title)
    strata = np.array([tasks.index(played[0][k][0]) for k in common], int)
    return Comparison(experiment, contenders, tasks, common, strata, notes)


def _titles(runs: list[Run]) -> dict[tuple[str, str, str, str], str]:
    """(architecture, condition, label, experiment) -> name, of all contenders in order.

    The experiment is "" where the first three tell the contenders apart.
    """
    places: dict[tuple[str, str, str], set[str]] = {}
    for run in runs:
        places.setdefault((run.architecture, run.label, run.condition), set()).add(run.experiment)
    several = {key[:2] for key, found in places.items() if len(found) > 1}
    order, conditions = list(dict.fromkeys(run.experiment for run in runs)), list(CONDITIONS)
    titles = {}
    for name, label in sorted({key[:2] for key in places}, key=lambda k: (_order(k[0]), *k)):
        for place in order if (name, label) in several else [""]:
            about = ", ".join(filter(None, (label, place)))
            for condition in conditions:
                if any(place in ("", found) for found in places.get((name, label, condition), ())):
                    titles[name, condition, label, place] = f"{name} ({about})" if about else name
    return titles


def _to(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _order(architecture):
    return ARCHITECTURES.index(architecture) if architecture in ARCHITECTURES else len(ARCHITECTURES)


def percent(value: float, digits: int = 1) -> str:
    return "-" if not math.isfinite(value) else f"{100 * value:.{digits}f}%"


def between(low: float, high: float, digits: int = 0) -> str:
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f}" if math.isfinite(low) else "no interval"


def seeds(count: int) -> str:
    return f"{count} seed" + ("" if count == 1 else "s")


def points(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """A difference of shares in percentage points with its interval, whose ends cannot lie beyond 100."""
    low, high = max(low, -1.0), min(high, 1.0)  # NaN stays what it is
    inside = f" ({100 * low:+.1f} to {100 * high:+.1f})" if math.isfinite(low) else ""
    return f"{100 * value:+.1f} points{inside}"


def estimate(scores: np.ndarray, statistic, rng, levels=None) -> tuple[float, float, float]:
    """A statistic of shares [seeds, tasks] with its interval."""
    value = float(statistic(scores))
    low, high = significance.interval(
        value, statistic(significance.draw(scores, rng)), len(scores), (0, 1), levels=levels
    )
    return value, float(low), float(high)


def untrained(comparison: Comparison) -> tuple[float, int]:
    """Success on validation levels before training, mean over the runs, and the number of these levels.

    (0, 0) where it is not known. Validation levels are some of the training data set, so nothing is known of the test
    levels where these are of another one.
    """
    found = [
        (row["eval/success_rate"], number(part(run.config, "levels"), "validation"))
        for run in comparison.experiment.runs
        if run.condition == "no_pretrain" and run.args.get("test_dataset") == run.args.get("train_dataset")
        for row in run.rows
        if row["kind"] == "eval" and row["global_step"] == 0 and "eval/success_rate" in row
    ]
    found = [(success, int(levels)) for success, levels in found if levels > 0]
    return (float(np.mean([s for s, _ in found])), min(n for _, n in found)) if found else (0.0, 0)


def learned(comparison: Comparison, c: Contender) -> bool:
    """Whether a contender wins more than untrained agents do, beyond chance over levels; 0 is never more."""
    success, levels = (
        float(c.success.mean()),
        len(comparison.levels) or number(part(c.tested[0].results, "overall"), "levels"),
    )
    before, known = untrained(comparison)
    if success == 0 or not known or not levels > 0:
        return success > 0
    return difference(success * levels, int(levels), before * known, known)[0] > 0


def conclusion(
    comparison: Comparison, matrix: decision.Matrix | None, rng, reservation: Callable[[Contender], str] = lambda _: ""
) -> list:
    """In words: which contender to take, and how sure that is.

    reservation: of the contender that the verdict is about, says what else differs between the runs.
    """
    able = comparison.able
    if not able:
        return [Text("**No conclusion:** no run has results on a test suite yet.", "lead")]
    before, _ = untrained(comparison)
    idle = [c.name for c in able if not learned(comparison, c)]
    highest = max(float(c.success.mean()) for c in able)
    if len(idle) == len(able):
        who = able[0].name if len(able) == 1 else "none of the contenders"
        words = f"{who} won {'no' if len(able) == 1 else 'a'} test level."
        if highest > 0:
            words = (
                f"the {percent(highest)} of the test levels that {who if len(able) == 1 else 'the best contender'} won "
                f"cannot be told from the {percent(before)} of the validation levels that untrained agents win."
            )
        few = highest > 0 and min(len(c.tested) for c in able) < significance.MIN_SEEDS
        head = "Too few seeds to say that anything was learned" if few else "Nothing was learned"
        return [Text(f"**{head}:** {words}", "lead")]
    more = [Text(f"Cannot be told from untrained agents: {listed(idle)}.", "warn")] if idle else []
    if len(able) == 1:
        return [Text(" ".join(filter(None, (_alone(able[0], rng), reservation(able[0])))), "lead"), *more]
    means = [float(c.success.mean()) for c in able]
    lead, gaps = significance.behind_best([c.success[:, 0] for c in able])
    leader = able[lead]
    others = [k for k in range(len(able)) if k != lead]
    top = [k for k in range(len(able)) if math.isclose(means[k], means[lead], abs_tol=1e-9)]
    few = [c for c in able if len(c.tested) < significance.MIN_SEEDS]
    unclear = sorted((k for k in others if not gaps[k][1] > 0), key=lambda k: -means[k])
    ranked = [] if matrix is None else [int(k) for k in np.argsort(-matrix.total, kind="stable")]
    most = f"{leader.name} won the most test levels, {percent(means[lead])} ({seeds(len(leader.tested))})"
    if len(top) > 1:
        most = f"{listed([able[k].name for k in top])} won the most test levels, {percent(means[lead])} each"
    if np.ptp(np.concatenate([c.success for c in able])) < 1e-9:
        words = f"**Nothing can be told apart:** each contender won {percent(means[lead])} of the test levels."
    elif few:
        names = listed([c.name for c in few])
        who = "all contenders have" if len(few) == len(able) else f"{names} {'has' if len(few) == 1 else 'have'}"
        words = (
            f"**Too few seeds to conclude:** {who} fewer than {significance.MIN_SEEDS} tested seeds. {most}; with "
            "other seeds the order may be another."
        )
    elif unclear:
        behind = [able[k].name for k in others if k not in unclear]
        rest = [k for k in unclear if k not in top]
        words = f"**No clear winner in success.** {most}"
        words += f", but cannot be told apart from {listed([able[k].name for k in rest], 4)}." if rest else "."
        words += f" Behind {'them' if len(top) > 1 else 'it'} beyond chance: {listed(behind, 4)}." if behind else ""
        if ranked:
            pick = next(k for k in ranked if k == lead or k in unclear)
            share = 0.0 if matrix.first_by_seeds is None else matrix.first_by_seeds[pick]
            advice = f"take {able[pick].name}" if share >= 0.5 else f"{able[pick].name} if it has to be one now"
            words += f" Among these, by the decision matrix: **{advice}**{_sureness(matrix, pick)}."
            leader = able[pick]
    else:
        nearest = max(others, key=lambda k: means[k])
        words = (
            f"**Take {leader.name}** for success: it won {percent(means[lead])} of the test levels "
            f"({seeds(len(leader.tested))}), beyond chance more than each of the others; over {able[nearest].name}, "
            f"the next, it is ahead by {points(*gaps[nearest])}."
        )
        if ranked and ranked[0] != lead:
            words += f" By the decision matrix **{able[ranked[0]].name}** is first{_sureness(matrix, ranked[0])}."
    words = " ".join(filter(None, (words, reservation(leader))))
    blocks = [Text(words, "lead")]
    if ranked and np.ptp(matrix.total) < 1e-9:
        blocks.append(Text("Decision matrix: all contenders have the same score."))
    elif ranked:
        first, second = ranked[:2]
        given = ", ".join(f"{c.name} {w:.0%}" for c, w in zip(matrix.criteria, matrix.weights, strict=True))
        words = (
            f"Decision matrix ({given}): {able[first].name} is first with {matrix.total[first]:.2f}, "
            f"{able[second].name} second with {matrix.total[second]:.2f}. Under weights drawn at random "
            f"{able[first].name} is first in {matrix.first_by_weights[first]:.0%} of the draws"
        )
        if matrix.first_by_seeds is not None:
            words += f", with the seeds drawn again in {matrix.first_by_seeds[first]:.0%}"
        blocks.append(Text(words + "."))
    blocks.append(
        Text(
            "Beyond chance: by 95% intervals over seeds that hold together for all contenders (see Method)."
            + (
                ""
                if min(len(c.tested) for c in able) > 4
                else " With five or more seeds smaller differences would show."
            ),
            "note",
        )
    )
    return blocks + more


def _alone(c, rng):
    value, count = float(c.success.mean()), len(c.tested)
    words = f"**Nothing to compare:** {c.name} is the only contender. It won {percent(value)} of the test levels"
    if count > 1:
        _, low, high = estimate(c.success, significance.mean, rng)
        return f"{words} (95%: {between(low, high)}, over {seeds(count)})."
    levels = c.tested[0].overall("levels")
    if not math.isfinite(levels):
        return f"{words}, with one seed."
    low, high = wilson(value * levels, int(levels))
    return f"{words} (95%: {between(low, high)}, over levels). One seed says nothing of others of this architecture."


def _sureness(matrix, k):
    if matrix.first_by_seeds is None:
        return ""
    share = matrix.first_by_seeds[k]
    word = "sure" if share >= 0.95 else "fairly sure" if share >= 0.8 else "likely" if share >= 0.5 else "open"
    return f" ({word}: first in {share:.0%} of the draws of seeds)"


def listed(names: list[str], most: int = 6) -> str:
    """The names as "a, b and c"; of many, the first ones and how many more there are."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


def decide(comparison: Comparison, matrix: decision.Matrix | None, weights: dict[str, float]) -> list:
    """The decision matrix, with weights that the reader can move."""
    able = comparison.able
    if matrix is None or len(able) < 2:
        return [
            Text("A decision matrix needs two contenders and a criterion with a weight that is known of all of them.")
        ]
    raw = [[_raw(c, v) for c, v in zip(matrix.criteria, own, strict=True)] for own in matrix.raw]
    more = []
    for k, c in enumerate(able):
        seed = "-" if matrix.first_by_seeds is None else f"{matrix.first_by_seeds[k]:.0%}"
        more.append([f"{matrix.first_by_weights[k]:.0%}", seed, str(len(c.tested))])
    given = [weights[c.name] for c in matrix.criteria]
    blocks = [
        Text("A weight says how much it matters to go from the worst contender to the best in a criterion."),
        Weights(
            [c.name for c in matrix.criteria], given, [c.name for c in able], raw, matrix.scores.tolist(), more,
            ["first, any weights", "first, seeds drawn", "seeds"],
        ),
        Text(
            "Small: the score from 0 (worst) to 1 (best). First, any weights: share of 4,000 random weights "
            "(Dirichlet, all weights equally likely) under which the contender is first. First, seeds drawn: the same "
            "over bootstrap draws of the "
            f"seeds{' (needs two seeds of each)' if matrix.first_by_seeds is None else ''}, with the weights first "
            "given."
        ),
        Bullets([f"**{c.name}**: {c.what}; {'more' if c.higher else 'less'} is better" for c in matrix.criteria]),
    ]  # fmt: skip
    return blocks + ([Text("Missing: " + "; ".join(matrix.notes) + ".", "warn")] if matrix.notes else [])


def _raw(criterion, value):
    if criterion.unit == "%":
        return percent(value)
    return f"{plots.short(value)} {criterion.unit}".strip()
