"""What is said of a search at test time (`--search`): search_results.json, and a section of report.md.

None of it is in eval_results.json, which holds plain play.
"""

import statistics
from collections.abc import Sequence

from npp_rl.evaluation.intervals import wilson
from npp_rl.evaluation.summary import counted
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.maps import GROUPS

WITHIN = (0.5, 1, 2, 5, 10, 30, 60)  # seconds of CPU time within which wins are counted


def _part(entries, seconds):
    won = [entry for entry in entries if entry["success_rate"]]
    spent = [entry["seconds"] for entry in entries]
    low, high = wilson(len(won), len(entries))
    limits = [limit for limit in WITHIN if limit < seconds] + [seconds]
    return {
        "levels": len(entries),
        "success_rate": len(won) / len(entries),
        "success_low": low,
        "success_high": high,
        "greedy": sum(entry["won_by"] == "greedy play" for entry in entries) / len(entries),
        "within": {f"{limit:g}": sum(entry["seconds"] <= limit for entry in won) for limit in limits},
        "seconds": {"mean": statistics.fmean(spent), "median": statistics.median(spent), "most": max(spent)},
    }


def search_results(entries: Sequence[dict], settings: dict) -> dict:
    """Content of search_results.json: `overall`, `by_category`, `by_group`, `levels` (the entries) and `settings`.

    entries: those of `evaluate`, with `success_rate` 1 or 0, `tries` (the run that wins, with the keys of an outcome of
    `evaluate` that a search knows; none for a level that is not won), `seconds` of CPU time, `rounds` and `won_by`:
    "greedy play", "policy" or "search", by which the last step of the win was found, or None. settings: `seconds` for a
    level, `seed`, `pace` (guided.pace_of), and the rules of the games.

    Each part has `levels`, `success_rate` with Wilson's 95% interval, `greedy` (success of plain greedy play on the
    same levels), `within` (seconds -> wins) and `seconds` of CPU time of a level (mean, median, most). As in
    eval_results.json, levels that the agent was trained on count in nothing, and levels that are not simulated as a
    whole in `by_group` only. `overall` is None where no level counts.
    """
    entries, seconds = list(entries), settings["seconds"]
    whole = counted(entries)
    unseen = [entry for entry in entries if not entry.get("trained_on")]
    categories = [*CATEGORIES, *sorted({entry["category"] for entry in whole} - set(CATEGORIES))]

    def by(key, names, of):
        parts = {name: [entry for entry in of if entry[key] == name] for name in names}
        return {name: _part(part, seconds) for name, part in parts.items() if part}

    return {
        "overall": _part(whole, seconds) if whole else None,
        "by_category": by("category", categories, whole),
        "by_group": by("group", GROUPS, unseen),
        "settings": settings,
        "levels": entries,
    }


def search_section(found: dict) -> list[str]:
    """Lines of the report on a search, whose results are `search_results`."""
    settings = found["settings"]
    limits = list(found["overall"]["within"]) if found["overall"] else []
    lines = [
        "",
        "## Search at test time",
        "",
        "Not the agent's plain play: a search that the policy guides has at most "
        f"{settings['seconds']:g} s of CPU time a level, all included (seed {settings['seed']}). Nothing of it counts "
        "above. search_results.json has the actions of each win.",
        "",
    ]
    if not found["overall"]:
        return [*lines, "No level counts."]
    columns = ["", "levels", "greedy", "with search", "95% interval", *(f"{limit} s" for limit in limits)]
    columns += ["mean", "median", "most"]
    lines += [f"| {' | '.join(columns)} |", "| --- |" + " ---: |" * (len(columns) - 1)]
    groups = [(f"*{name}*", part) for name, part in found["by_group"].items()] if len(found["by_group"]) > 1 else []
    for name, part in [*found["by_category"].items(), *groups, ("**overall**", found["overall"])]:
        cells = [name.replace("|", "\\|"), str(part["levels"]), f"{part['greedy']:.1%}", f"{part['success_rate']:.1%}"]
        cells += [f"{part['success_low']:.0%} to {part['success_high']:.0%}"]
        cells += [str(part["within"][limit]) for limit in limits]
        cells += [f"{part['seconds'][key]:.2f}" for key in ("mean", "median", "most")]
        lines.append(f"| {' | '.join(cells)} |")
    return [
        *lines,
        "",
        "Columns of seconds: wins within so much CPU time. Mean, median and most: seconds of CPU time of a level.",
    ]
