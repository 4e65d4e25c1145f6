"""What code the runs of a comparison were trained by: differences of scripts, and changes of checkouts."""

import difflib
from collections.abc import Iterable

from benchmark.reporting.experiments import Run
from benchmark.reporting.page import Code, Text
from benchmark.reporting.sections import Comparison, listed

SHOWN = 3  # differences of an architecture's scripts, and checkouts with changes
LINES, WIDTH = 400, 200  # of a difference that is shown
COMPARED = 2000  # lines of a script that are compared


def groups(comparison: Comparison, text_of) -> list[tuple[str, list[str], list[Run]]]:
    """Runs with the same text -> (text, names of the runs, runs); runs whose text is None are left out."""
    found: dict[str, list[Run]] = {}
    names: dict[str, list[str]] = {}
    for c in comparison.contenders:
        own: dict[str, list[Run]] = {}
        for run in c.runs:
            if (text := text_of(run)) is not None:
                own.setdefault(text, []).append(run)
        for text, runs in own.items():
            seeds = f" seed{'s' * (len(runs) > 1)} {listed([str(run.seed) for run in runs], 12)}" * (len(own) > 1)
            found.setdefault(text, []).extend(runs)
            names.setdefault(text, []).append(f"{c.name}{seeds}")
    return [(text, names[text], runs) for text, runs in found.items()]


def scripts(comparison: Comparison) -> tuple[list[str], list]:
    """Warnings, and blocks with the differences of the scripts of each architecture and the changes of checkouts."""
    warnings, blocks = [], []
    for architecture in dict.fromkeys(c.architecture for c in comparison.contenders):
        own = groups(comparison, lambda run, name=architecture: run.script if run.architecture == name else None)
        if len(own) < 2:
            continue
        first, others = own[0], own[1:]
        warnings.append(
            f"{architecture} was trained by {len(own)} different scripts: {listed([listed(n) for _, n, _ in own])}. "
            "Scripts shows how they differ."
        )
        for text, names, _ in others[:SHOWN]:
            before, after = (t.splitlines()[:COMPARED] for t in (first[0], text))
            lines = difflib.unified_diff(before, after, listed(first[1]), listed(names), lineterm="", n=2)
            blocks.append(Code(cut(lines), f"{architecture}: from {listed(first[1])} to {listed(names)}"))
        if len(others) > SHOWN:
            blocks.append(Text(f"{len(others) - SHOWN} further scripts of {architecture} are not shown."))
    changed = groups(comparison, lambda run: run.changes)
    if len(changed) > 1:
        without = [listed(names) for text, names, _ in changed if not text]
        words = "Checkouts had different changes" if len(changed) > 2 or not without else "Some checkouts had changes"
        warnings.append(f"{words}: see Scripts.")
    shown = [(text, names, runs) for text, names, runs in changed if text]
    for text, names, runs in shown[:SHOWN]:
        title = f"Changes {runs[0].changes_digest} in the checkout of {listed(names)}"
        blocks.append(Code(cut(text.splitlines()), title))
    if len(shown) > SHOWN:
        blocks.append(Text(f"{len(shown) - SHOWN} further checkouts with changes are not shown."))
    return warnings, blocks


def cut(lines: Iterable[str]) -> str:
    """At most LINES lines of at most WIDTH characters, and how many more there are."""
    lines = list(lines)
    kept = [line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..." for line in lines[:LINES]]
    return "\n".join(kept + [f"... {len(lines) - LINES} more lines"] * (len(lines) > LINES))
