"""The decision matrix: criteria, a user's weights, scores, ranks, and how far the ranking can be trusted.

A contender is an architecture under one condition, a list of runs, one a seed. A criterion's score is 1 for the best
contender and falls linearly to 0 for the worst ("swing weights": a weight says how much it matters to go from the worst
contender to the best). Where the contenders lie closer together than the criterion's `span`, the span is taken instead,
so that a difference that nobody would notice is not blown up to the whole scale.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.reporting import significance
from benchmark.reporting.experiments import Run, number, part
from npp_rl.commands import ArgumentError


@dataclass(frozen=True)
class Criterion:
    name: str
    what: str
    unit: str  # "%" for shares, else what stands behind the number
    higher: bool
    span: float  # differences below it are not noticed; where `log`, differences of logarithms to base 2
    log: bool = False
    weight: float = 1.0


CRITERIA = (
    Criterion("success", "share of the test levels won", "%", True, 0.05, weight=3.0),
    Criterion("generalisation", "success on training levels minus success on test levels", "%", False, 0.05, weight=2),
    Criterion("efficiency", "shortest way or par time over the agent's own, on levels won", "%", True, 0.05),
    Criterion("safety", "share of episodes without a death", "%", True, 0.05),
    Criterion("speed", "milliseconds for one decision, or training steps per second", "", False, 1.0, log=True),
    Criterion("size", "trained parameters", "", False, 1.0, log=True),
    Criterion("stability", "standard deviation of success over the seeds", "%", False, 0.05),
)
NAMES = tuple(criterion.name for criterion in CRITERIA)


def parse_weights(words: str | None) -> dict[str, float]:
    """Weights from `success=3,size=0.5`; criteria that are not named keep theirs. ArgumentError for anything else."""
    weights = {criterion.name: float(criterion.weight) for criterion in CRITERIA}
    for word in filter(None, (words or "").split(",")):
        name, _, value = (piece.strip() for piece in word.partition("="))
        try:
            weight = float(value)
        except ValueError:
            weight = math.nan
        if name not in NAMES or not 0 <= weight <= 1e6:
            raise ArgumentError(f"--weights {word}: expected NAME=NUMBER, 0 to a million, with {', '.join(NAMES)}")
        weights[name] = weight
    if sum(weights.values()) < 1e-6:
        raise ArgumentError("--weights: at least one has to be above 0")
    return weights


def gap(run: Run) -> float:
    """Success on training levels minus success on test levels, NaN where it was not measured."""
    return number(part(run.results, "generalisation"), "gap")


def latency(run: Run) -> float:
    """Milliseconds of one decision, median at batch 1; NaN where it was not measured."""
    return number(part(run.results, "cost", "latency_ms", "1"), "p50")


def training_speed(run: Run) -> float:
    """Median of the training steps per second; NaN without metrics."""
    values = [value for _, _, value in run.series("train", "charts/SPS")]
    return float(np.median(values)) if values else math.nan


def parameters(run: Run) -> float:
    """Trained parameters of the network."""
    own = number(run.config, "parameters")
    return own if math.isfinite(own) else number(part(run.results, "cost"), "parameters")


def values(contenders: Sequence[list[Run]]) -> tuple[list[Criterion], list[list[np.ndarray]], list[str]]:
    """What is known of all contenders -> criteria, their figures, notes on what is missing.

    The figures of a criterion are one array [seeds] for each contender.
    """
    efficiency = "par_efficiency" if _known(contenders, lambda run: run.overall("par_efficiency")) else "efficiency"
    decision = _known(contenders, latency)
    measures = {
        "success": lambda run: run.success,
        "generalisation": gap,
        "efficiency": lambda run: run.overall(efficiency),
        "safety": lambda run: run.overall("safety"),
        "speed": latency if decision else training_speed,
        "size": parameters,
        "stability": lambda run: run.success,
    }
    criteria, columns, notes = [], [], []
    for criterion in CRITERIA:
        column = [np.array([measures[criterion.name](run) for run in runs]) for runs in contenders]
        column = [own[np.isfinite(own)] for own in column]
        least = 2 if criterion.name == "stability" else 1
        if lacking := sum(len(own) < least for own in column):
            why = "at least two seeds each" if least == 2 else "the figure of each"
            notes.append(f"{criterion.name} is left out: it needs {why}, {lacking} of {len(column)} lack it")
            continue
        if criterion.log and min(own.min() for own in column) <= 0:
            notes.append(f"{criterion.name} is left out: a figure is not positive")
            continue
        if criterion.name == "speed":
            what = "milliseconds for one decision (median)" if decision else "training steps per second"
            criterion = Criterion("speed", what, "ms" if decision else "steps/s", not decision, 1.0, log=True)
        if criterion.name == "efficiency":
            what = "par time" if efficiency == "par_efficiency" else "shortest way"
            criterion = Criterion("efficiency", f"{what} over the agent's own, on levels won", "%", True, 0.05)
        criteria.append(criterion)
        columns.append(column)
    return criteria, columns, notes


def _known(contenders, measure):
    return all(any(math.isfinite(measure(run)) for run in runs) for runs in contenders)


def aggregate(criterion: Criterion, own: np.ndarray) -> np.ndarray:
    """A contender's figure of seeds [..., n] -> [...]: mean, or the standard deviation for stability."""
    return own.std(-1, ddof=1) if criterion.name == "stability" else own.mean(-1)


def normalised(criterion: Criterion, raw: np.ndarray) -> np.ndarray:
    """Scores 0 ... 1 of raw figures [..., contenders], 1 for the best."""
    values = np.log2(np.maximum(raw, 1e-12)) if criterion.log else raw
    values = values if criterion.higher else -values
    best, worst = values.max(-1, keepdims=True), values.min(-1, keepdims=True)
    return 1 - (best - values) / np.maximum(best - worst, criterion.span)


@dataclass
class Matrix:
    criteria: list[Criterion]
    raw: np.ndarray  # [contenders, criteria]
    scores: np.ndarray  # [contenders, criteria], 0 ... 1
    weights: np.ndarray  # [criteria], sum 1
    total: np.ndarray  # [contenders]
    first_by_weights: np.ndarray  # share of random weights under which each contender is first
    first_by_seeds: np.ndarray | None  # share of bootstrap draws; None where a contender has a single seed
    notes: list[str]

    @property
    def ranks(self) -> np.ndarray:
        """1 for the highest score; equal scores share a rank."""
        return 1 + (self.total[:, None] < self.total[None] - 1e-12).sum(1)


def matrix(
    contenders: Sequence[list[Run]], weights: dict[str, float], rng: np.random.Generator, draws: int = 4000
) -> Matrix | None:
    """The decision matrix; None where no criterion with a weight above 0 is known of all contenders.

    Random weights are uniform over all weights that sum to 1 (Dirichlet with all parameters 1).
    """
    criteria, columns, notes = values(contenders)
    given = np.array([weights[criterion.name] for criterion in criteria])
    if not criteria or given.sum() == 0:
        return None
    raw = np.array([[aggregate(c, own) for own in column] for c, column in zip(criteria, columns, strict=True)])
    scores = np.stack([normalised(c, r) for c, r in zip(criteria, raw, strict=True)], -1)
    weight = given / given.sum()
    random = rng.dirichlet(np.ones(len(criteria)), size=draws)
    by_weights = _first(random @ scores.T)
    by_seeds = None
    if min(len(runs) for runs in contenders) > 1:
        drawn = np.zeros((draws, len(contenders)))
        for k, runs in enumerate(contenders):  # all criteria of a contender take the same draw of its seeds
            contenders_rows = rng.integers(len(runs), size=(draws, len(runs)))
            for c, criterion in enumerate(criteria):
                own = columns[c][k]
                rows = contenders_rows if len(own) == len(runs) else rng.integers(len(own), size=(draws, len(own)))
                estimate = raw[c, k]
                wide = aggregate(criterion, own[rows])
                # A stretched figure could become negative and have no logarithm. One seed has no draws to stretch.
                if not criterion.log and len(own) > 1:
                    wide = significance.stretched(wide, estimate, len(own))
                columns[c][k] = wide if criterion.name != "stability" else np.maximum(wide, 0)
        for c, criterion in enumerate(criteria):
            drawn += weight[c] * normalised(criterion, np.stack(columns[c], -1))
        by_seeds = _first(drawn)
    return Matrix(criteria, raw.T, scores, weight, scores @ weight, by_weights, by_seeds, notes)


def _first(totals):
    """Share of rows [draws, contenders] in which each is highest; a tie is shared."""
    highest = totals >= totals.max(-1, keepdims=True) - 1e-12
    return (highest / highest.sum(-1, keepdims=True)).mean(0)


def pareto(cost: Sequence[float], value: Sequence[float]) -> list[int]:
    """Indices of the points that no other beats: none costs at most as much and is worth at least as much."""
    points = list(zip(cost, value, strict=True))
    return [
        k for k, (c, v) in enumerate(points)
        if not any(oc <= c and ov >= v and (oc < c or ov > v) for oc, ov in points)
    ]  # fmt: skip
