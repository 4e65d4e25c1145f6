"""Pictures of a study: history, importance of the parameters, slices, parallel coordinates."""

import io
import math
from pathlib import Path

from npp_rl.files import write_atomically

PRUNED, FAILED, BEST = "#999999", "#d62728", "#d95f02"
MAP = "viridis"


def label(value) -> str:
    """A parameter's value as people write it."""
    if isinstance(value, (list, tuple)):
        return "x".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower()


def axis_of(text: str):
    """How a parameter is drawn: positions of its values, ticks of (position, label), and whether they are logarithmic.

    Choices stand at 0, 1, ... in the order of the space, numbers where they are.
    """
    kind, *parts = text.split(":")
    if kind == "choice":
        choices = parts[0].split(",")
        labels = [choice.lower() for choice in choices]

        def place(value):
            exact = [k for k, choice in enumerate(labels) if choice == label(value)]
            return exact[0] if exact else [float(choice) for choice in labels].index(float(value))

        return place, list(enumerate(choices)), False
    low, high = float(parts[0]), float(parts[1])
    if kind == "log":
        middle = math.sqrt(low * high)
        return float, [(x, f"{x:.2g}") for x in (low, middle, high)], True
    whole = all(part.isdecimal() for part in parts) and high - low <= 8
    marks = range(int(low), int(high) + 1) if whole else (low, (low + high) / 2, high)
    return float, [(x, f"{x:.3g}") for x in marks], False


def draw(study: dict, importance: dict[str, float], folder: Path) -> None:
    """Write history.png, importance.png (where it is known), slices.png and parallel.png into `folder`.

    study: the content of study.json, of which at least one trial is complete. `best` may be None: then no trial stands
    out. Without importance (too few trials) that picture is left out.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    complete = [trial for trial in study["trials"] if trial["state"] == "complete"]
    best = next((trial for trial in complete if trial["number"] == study["best"]), None)
    names = sorted(study["space"], key=lambda name: -importance.get(name, 0))
    figures = {"history": draw_history(study, complete)}
    if importance:
        figures["importance"] = draw_importance(study, len(complete), names, importance)
    figures["slices"] = draw_slices(study, complete, best, names)
    figures["parallel"] = draw_parallel(study, complete, best, names)
    for name, figure in figures.items():
        picture = io.BytesIO()
        figure.savefig(picture, dpi=110, format="png", bbox_inches="tight")
        pyplot.close(figure)
        write_atomically(folder / f"{name}.png", picture.getvalue())


def draw_history(study, complete):
    """Every trial, and the best so far."""
    from matplotlib import pyplot

    trials = study["trials"]
    figure, panel = pyplot.subplots(figsize=(8, 4.2))
    whole = [(trial["number"], 100 * trial["value"]) for trial in complete]
    panel.scatter(*zip(*whole, strict=True), s=26, label="whole", zorder=3)
    pruned = [(t["number"], 100 * t["value"]) for t in trials if t["state"] == "pruned" and t["value"] is not None]
    if pruned:
        panel.scatter(*zip(*pruned, strict=True), s=22, marker="v", color=PRUNED, label="pruned, success when ended")
    failed = [trial["number"] for trial in trials if trial["state"] == "fail"]
    if failed:
        panel.scatter(failed, [0] * len(failed), marker="x", color=FAILED, label="failed", clip_on=False)
    leading = [max(value for _, value in whole[: k + 1]) for k in range(len(whole))]
    panel.step([number for number, _ in whole], leading, where="post", color=BEST, label="best so far")
    panel.set(xlabel="trial", ylabel="success on validation levels, %", title=f"{study['study']}: history")
    panel.set_ylim(0, max(leading[-1] * 1.1, 5))
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8, loc="lower right")
    return figure


def draw_importance(study, count, names, importance):
    """Shares of the difference between good and other trials."""
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(7, 0.8 + 0.36 * len(importance)))
    shown = names[::-1]
    bars = panel.barh(shown, [importance.get(name, 0) for name in shown])
    panel.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    panel.set(title=f"{study['study']}: importance (PED-ANOVA, {count} whole trials)")
    panel.set_xlim(0, 1.12 * max(*importance.values(), 1e-9))
    return figure


def draw_slices(study, complete, best, names):
    """Success over each parameter."""
    from matplotlib import pyplot

    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    size = (3.1 * columns, 2.7 * rows)
    figure, panels = pyplot.subplots(rows, columns, figsize=size, sharey=True, squeeze=False, layout="constrained")
    for panel, name in zip(panels.flat, names, strict=False):
        place, ticks, logarithmic = axis_of(study["space"][name])
        points = [(place(t["params"][name]), 100 * t["value"], t["number"]) for t in complete]
        x, y, number = zip(*points, strict=True)
        most = max(t["number"] for t in study["trials"]) or 1
        dots = panel.scatter(x, y, c=number, cmap=MAP, s=22, vmin=0, vmax=most)
        if best:
            ring = {"s": 90, "facecolors": "none", "edgecolors": BEST}
            panel.scatter([place(best["params"][name])], [100 * best["value"]], **ring)
        if logarithmic:
            panel.set_xscale("log")
            panel.minorticks_off()
        panel.set_xticks([x for x, _ in ticks], [text for _, text in ticks], fontsize=8)
        panel.set_xlabel(name)
        panel.grid(alpha=0.3)
    for panel in list(panels.flat)[len(names) :]:
        panel.set_axis_off()
    for row in panels:
        row[0].set_ylabel("success, %")
    figure.colorbar(dots, ax=panels, label="trial", shrink=0.8)
    circled = " (the best trial is circled)" if best else ""
    figure.suptitle(f"{study['study']}: success over each parameter{circled}")
    return figure


def draw_parallel(study, complete, best, names):
    """Parallel coordinates: a line for each trial, coloured by success."""
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(1.3 * len(names) + 3.5, 4.8))
    scale = pyplot.Normalize(min(t["value"] for t in complete) * 100, max(t["value"] for t in complete) * 100 + 1e-9)
    colors = pyplot.get_cmap(MAP)
    heights = {}
    for column, name in enumerate(names):
        place, ticks, logarithmic = axis_of(study["space"][name])
        turn = math.log if logarithmic else float
        low, high = turn(ticks[0][0]), turn(ticks[-1][0])

        def height(position, turn=turn, low=low, high=high):
            return (turn(position) - low) / (high - low) if high > low else 0.5

        heights[name] = lambda value, place=place, height=height: height(place(value))
        panel.axvline(column, color="black", linewidth=0.8)
        for position, text in ticks:
            box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.5}
            panel.text(column + 0.05, height(position), text, fontsize=7, va="center", bbox=box, zorder=5)
    for trial in sorted(complete, key=lambda trial: trial["value"]):
        line = [heights[name](trial["params"][name]) for name in names]
        width = 2.6 if trial is best else 1.1
        x = range(len(names))
        panel.plot(x, line, color=colors(scale(100 * trial["value"])), linewidth=width, alpha=0.85)
    panel.set_xticks(range(len(names)), names, rotation=30, ha="right")
    panel.set_yticks([])
    panel.set_title(f"{study['study']}: whole trials{' (thick: the best)' if best else ''}")
    for side in ("left", "right", "top", "bottom"):
        panel.spines[side].set_visible(False)
    figure.colorbar(pyplot.cm.ScalarMappable(scale, MAP), ax=panel, label="success on validation levels, %")
    return figure
