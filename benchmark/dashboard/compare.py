"""Two sides beside each other: differences by category, levels that one wins, the decision matrix, the report's text.

All figures are the report's own (benchmark/reporting). A side is some runs under one name, its seeds.
"""

import dataclasses
import math
import threading

import numpy as np

from benchmark.dashboard.run_files import Run, rounded, stat_of
from benchmark.reporting import decision, differences, experiments, sections, significance
from benchmark.reporting.experiments import Experiment
from benchmark.reporting.page import Bullets, Text
from npp_rl.commands import UserError
from npp_rl.evaluation.intervals import difference

MOST = 64  # runs of a side
KEPT = 2  # comparisons that are kept, for sliders
USED = ("kind", "global_step", "minutes", "charts/SPS", "eval/success_rate")  # of a run's metrics


class Comparisons:
    """Comparisons of two sides; the last ones are kept until a file of their runs changes."""

    def __init__(self):
        self.kept: dict[tuple, sections.Comparison] = {}
        self.lock = threading.Lock()

    def of(self, sides: list[tuple[str, list[Run]]]) -> sections.Comparison:
        """The report's comparison of the sides (name, runs). Raises UserError where a side has no tested run."""
        with self.lock:
            key = tuple((name, run.id, stamp(run)) for name, runs in sides for run in runs)
            if key not in self.kept:
                while len(self.kept) >= KEPT:
                    del self.kept[next(iter(self.kept))]
                self.kept[key] = read(sides)
            return self.kept[key]


def stamp(run: Run) -> tuple:
    states = [stat_of(run.folder / name) for name in ("config.json", "metrics.jsonl", "eval_results.json")]
    return tuple(state and (state.st_mtime_ns, state.st_size) for state in states)


def read(sides: list[tuple[str, list[Run]]]) -> sections.Comparison:
    """The report's comparison, in which each side is one contender. Raises UserError."""
    problems, found = [], []
    for name, runs in sides:
        conditions = {run.row.get("condition") for run in runs}
        for run in runs:
            try:
                own = experiments.read_run(run.folder, run.top, problems)
            except (OSError, ValueError) as error:
                problems.append(f"left out: {run.id}: {str(error).replace(f'{run.top}/', '')}")
                continue
            if own is None:
                continue
            for entry in own.results.get("levels") or []:
                entry.pop("tries", None)  # most of what a run's results weigh
            own.rows = [
                {name: row[name] for name in row if name in USED or name.startswith("test/")} for row in own.rows
            ]
            condition = own.condition if len(conditions) == 1 else "no_pretrain"
            found.append(dataclasses.replace(own, architecture=name, label="", experiment="", condition=condition))
    names = " and ".join(name for name, _ in sides)
    comparison = sections.compare(Experiment(names, sides[0][1][0].top, found, problems=problems))
    lacking = [name for name, _ in sides if not any(c.tested for c in comparison.contenders if c.architecture == name)]
    if lacking:
        raise UserError(f"{sections.listed(lacking)}: no run has results on a test suite (yet)")
    return comparison


def compared(comparison: sections.Comparison, names: list[str], weights: dict[str, float]) -> dict:
    """What the page shows of a comparison of two sides."""
    rng = np.random.default_rng([significance.SEED, 0])
    able = sorted(comparison.able, key=lambda c: names.index(c.architecture))
    a, b = able
    matrix = decision.matrix([c.tested for c in comparison.able], weights, rng)
    found = differences.differences(comparison.contenders)
    conclusion = sections.conclusion(comparison, matrix, rng, lambda c: differences.reservation(comparison, found, c))
    facts, warnings = differences.head(comparison, found)
    if comparison.experiment.problems:
        warnings.append(f"{len(comparison.experiment.problems)} things are missing or damaged.")
    return {
        "sides": [side(c) for c in able],
        "text": [block for block in map(spoken, [*conclusion, *facts]) if block],
        "warnings": warnings,
        "problems": comparison.experiment.problems[:50],
        "categories": by_category(a, b, comparison),
        "levels": by_level(a, b, comparison),
        "matrix": None
        if matrix is None
        else weighed(matrix, weights, [names.index(c.architecture) for c in comparison.able]),
    }


def side(c: sections.Contender) -> dict:
    success = c.success
    return {
        "name": c.architecture,
        "seeds": sorted(run.seed for run in c.tested),
        "runs": len(c.runs),
        "tested": len(c.tested),
        "success": rounded(float(success.mean())),
    }


def spoken(block) -> dict | None:
    """A block of the report as {"kind", "text"}; None for what is no text."""
    if isinstance(block, Text):
        return {"kind": block.kind or "text", "text": block.text}
    return {"kind": "list", "items": list(block.items)} if isinstance(block, Bullets) else None


def by_category(a: sections.Contender, b: sections.Contender, comparison: sections.Comparison) -> list[dict]:
    """Success of both sides in all levels and in each category, and A's minus B's with its 95% interval.

    Where a side has a single seed the interval is one over levels, as if each level were played anew.
    """
    rng = np.random.default_rng([significance.SEED, 1])
    rows = [("all levels", a.success, b.success, len(comparison.levels))]
    for k, name in enumerate(comparison.tasks):
        rows.append((name, a.scores[:, [k]], b.scores[:, [k]], int((comparison.strata == k).sum())))
    found = []
    for name, own, other, levels in rows:
        gap, low, high = significance.difference(own, other, significance.mean, rng)
        over = "seeds"
        if math.isnan(low) and levels:
            low, high = difference(float(own.mean()) * levels, levels, float(other.mean()) * levels, levels)
            over = "levels"
        low, high = max(low, -1.0), min(high, 1.0)
        found.append(
            {
                "name": name, "a": rounded(float(own.mean())), "b": rounded(float(other.mean())), "gap": rounded(gap),
                "low": rounded(low), "high": rounded(high), "over": over, "levels": levels,
            }
        )  # fmt: skip
    return found


def by_level(a: sections.Contender, b: sections.Contender, comparison: sections.Comparison) -> dict:
    """The levels on which the sides differ, the widest differences first, and how many there are of each kind."""
    own, other = (c.levels.mean(0) if c.levels.size else np.zeros(0) for c in (a, b))
    order = [int(k) for k in np.argsort(-np.abs(own - other), kind="stable") if own[k] != other[k]]
    rows = [
        {
            "id": comparison.levels[k], "category": comparison.tasks[comparison.strata[k]], "a": rounded(float(own[k])),
            "b": rounded(float(other[k])),
        }
        for k in order
    ]  # fmt: skip
    return {
        "total": len(own),
        "a_more": int((own > other).sum()),
        "b_more": int((own < other).sum()),
        "both_always": int(((own == 1) & (other == 1)).sum()),
        "both_never": int(((own == 0) & (other == 0)).sum()),
        "rows": rows,
    }


def weighed(matrix: decision.Matrix, weights: dict[str, float], order: list[int]) -> dict:
    """The decision matrix for the page, whose sliders weigh the scores anew. order: the side of each row."""
    rows = [order.index(k) for k in range(len(order))]
    share = matrix.first_by_seeds
    return {
        "criteria": [
            {"name": c.name, "what": c.what, "unit": c.unit, "higher": c.higher, "weight": weights[c.name]}
            for c in matrix.criteria
        ],
        "raw": [[rounded(float(v)) for v in matrix.raw[k]] for k in rows],
        "scores": [[rounded(float(v)) for v in matrix.scores[k]] for k in rows],
        "first_by_weights": [rounded(float(matrix.first_by_weights[k])) for k in rows],
        "first_by_seeds": None if share is None else [rounded(float(share[k])) for k in rows],
        "notes": matrix.notes,
    }


def checked(content: dict) -> tuple[list[str], list[list[str]], dict[str, float]]:
    """Names of two sides, ids of their runs, and weights of a request. Raises UserError."""
    names, ids = [], []
    for key in ("a", "b"):
        given = content.get(key)
        if not isinstance(given, dict) or not isinstance(given.get("name"), str):
            raise UserError(f"{key}: expected a side with a name and runs")
        own = given.get("runs")
        if not (isinstance(own, list) and 0 < len(own) <= MOST and all(isinstance(name, str) for name in own)):
            raise UserError(f"{key}: expected 1 to {MOST} runs")
        names.append(experiments.readable(given["name"]) or key)
        ids.append(own)
    if names[0] == names[1]:
        names = [f"{names[0]} (A)", f"{names[1]} (B)"]
    weights = decision.parse_weights(None)
    asked = content.get("weights") or {}
    if not isinstance(asked, dict):
        raise UserError("weights: expected names and numbers")
    words = ",".join(f"{name}={value}" for name, value in asked.items())
    return names, ids, decision.parse_weights(words) if asked else weights
