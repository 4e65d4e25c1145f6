"""Curves in a report: success over minutes and steps, as evaluated and in training, and the health of the training."""

import math

import numpy as np

from benchmark.reporting import plots, significance
from benchmark.reporting.experiments import CONDITIONS
from benchmark.reporting.page import Figure, Figures, Text
from benchmark.reporting.plots import Curve
from benchmark.reporting.sections import Comparison, listed

POINTS = 120  # of a drawn curve, at most
# Column of metrics.jsonl -> what it is called.
HEALTH = {
    "losses/policy_loss": "policy loss",
    "losses/value_loss": "value loss",
    "losses/entropy": "entropy, nats",
    "losses/approx_kl": "approximate KL, nats",
    "losses/clipfrac": "clipped share",
    "losses/explained_variance": "explained variance",
    "losses/grad_norm": "gradient norm",
    "charts/episodic_return": "episodic return",
    "charts/SPS": "steps/s",
    "system/memory_mib": "memory, MiB",
    "system/gpu_memory_mib": "GPU memory, MiB",
}


def learning(comparison: Comparison, rng) -> list:
    """Success over minutes and over steps: all contenders of a condition together, then each with its band."""
    labels = {"minutes": "minutes of wall-clock time", "steps": "environment steps"}
    kinds = {
        "learning": ("eval", "eval/success_rate", "levels won", "Validation"),
        "training": ("train", "charts/success_rate", "episodes won", "Training episodes"),
    }
    overview, blocks = [], []
    for axis, column in (("minutes", 1), ("steps", 0)):
        drawn = {name: success_curves(comparison, kind, key, column, rng) for name, (kind, key, _, _) in kinds.items()}
        known = [curve for curves in drawn.values() for curve in curves.values()]
        if not known:
            continue
        x, log = plots.span(known)
        label = labels[axis] + (", logarithmic, 0 at the left edge" if log else "")
        for name, (_, _, ylabel, title) in kinds.items():
            overview += together(
                comparison, drawn[name], f"{name}_{axis}", label, ylabel, f"{title}, over {axis}", x, log
            )
        blocks += apart(
            comparison, drawn["learning"], f"curve_{axis}", label, f"Each contender over {axis}", x, log,
            beside=drawn["training"],
        )  # fmt: skip
    if not overview:
        return [Text("No run has metrics from which a curve could be drawn.")]
    words = (
        "Validation: levels that no run trained on, greedy actions; a marker stands where a seed was evaluated, and "
        "the line between markers is faint where nothing was measured for long. Training episodes: training levels, "
        "sampled actions. Means over seeds; a curve ends where the first of its seeds ends."
    )
    return [Text(words), Figures(overview), *blocks]


def success_curves(comparison: Comparison, kind: str, key: str, column: int, rng) -> dict[str, Curve]:
    """Contender's name -> mean over its seeds with a 95% band, over steps (column 0) or minutes (column 1)."""
    curves = {}
    for c in comparison.contenders:
        own = [np.array(s) for run in c.runs if len(s := run.series(kind, key)) > 1]
        if own:
            x, y = significance.curves([(s[:, column], s[:, 2]) for s in own], POINTS)
            drawn = y[rng.integers(len(y), size=(500, len(y)))].mean(1)
            curve = Curve(c.name, c.colour, x, y.mean(0), *band(y.mean(0), drawn, len(y)))
            if kind == "eval":
                at = np.unique(np.concatenate([s[:, column] for s in own]))
                curve.measured = at[(at >= x[0]) & (at <= x[-1])]
            else:
                curve.thin = True
            curves[c.name] = curve
    return curves


def band(estimate, draws, count):
    """Low and high ends of the 95% intervals of a curve."""
    return significance.interval(estimate, draws, count, (0, 1))


def together(comparison, curves, name, xlabel, ylabel, caption, x, log=False, xpercent=False) -> list[Figure]:
    """A figure for each condition with all its curves, without bands."""
    figures = []
    for condition in comparison.conditions:
        contenders = [c for c in comparison.contenders if c.condition == condition and c.name in curves]
        counts = {c.name: len(c.tested) or len(c.runs) for c in contenders}
        same = len(set(counts.values())) == 1
        own = []
        for c in contenders:
            e = curves[c.name]
            label = c.title + ("" if same else f" (n={counts[c.name]})")
            own.append(Curve(label, e.colour, e.x, e.y, steps=e.steps, measured=e.measured, thin=e.thin))
        if own:
            drawn = plots.lines(own, xlabel, ylabel, x, log, condition == "with_pretrain", xpercent)
            both = f", {CONDITIONS[condition]}" if len(comparison.conditions) > 1 else ""
            words = f"{caption}{both}" + (f"; n={counts[contenders[0].name]}" if same else "")
            figures.append(Figure(f"{name}_{condition}", drawn, f"{words}. Point at a name to see its curve alone."))
    return figures


def apart(comparison, curves, name, xlabel, title, x, log=False, xpercent=False, beside=None) -> list[Figures]:
    """A small figure for each contender with its curves and bands, the others in grey; beside: thin curves with it."""
    figures, beside = [], beside or {}
    for contender in dict.fromkeys(c.title for c in comparison.contenders):
        mine = [c for c in comparison.contenders if c.title == contender and c.name in {**curves, **beside}]
        rest = [curve for other, curve in curves.items() if other not in {c.name for c in mine}]
        if mine:
            own = [(kind[c.name], c.hollow) for kind in (beside, curves) for c in mine if c.name in kind]
            own = [(Curve(e.name + " in training", e.colour, e.x, e.y, thin=True) if e.thin else e, h) for e, h in own]
            count = " and ".join(str(len(c.tested) or len(c.runs)) for c in mine)
            drawn = plots.small_lines(own, rest, f"{contender}, n={count}", xlabel, x, log, xpercent)
            figures.append(Figure(f"{name}_{contender}", drawn))
    hollow = "; solid: from scratch, dashed and hollow: pretrained" if len(comparison.conditions) > 1 else ""
    thin = ", thin: training episodes" if beside else ""
    words = f"{title}: 95% bands over seeds{thin}, the others in grey{hollow}; n: seeds"
    return [Figures(figures, small=True, folded=words, open=name == "curve_minutes")]


def health(comparison: Comparison) -> list:
    """Losses, entropy, KL, explained variance, speed and memory of every seed, folded for each contender."""
    blocks, missing = [], set(HEALTH)
    for c in comparison.contenders:
        figures = []
        for key, title in HEALTH.items():
            own = []
            for run in c.runs:
                if len(found := np.array(run.series("train", key)).reshape(-1, 3)) > 1:
                    some = found[np.unique(np.linspace(0, len(found) - 1, POINTS).astype(int))]
                    own.append((f"seed {run.seed}", some[:, 1], some[:, 2]))
            if own:
                missing.discard(key)
                figures.append(Figure("", plots.series(own, c.colour, title, "minutes")))
        if figures:
            blocks.append(Figures(figures, small=True, folded=c.name, page_only=True))
    if not blocks:
        return []
    words = "A line for each seed, as logged in training: look here where a run learned nothing."
    gone = [HEALTH[key].split(",")[0] for key in HEALTH if key in missing and "gpu" not in key]
    if gone:
        words += f" Not logged by any run: {listed(gone, math.inf)}."
    return [Text(words), *blocks]
