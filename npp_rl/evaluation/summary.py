"""Statistics, tables and reports of an evaluation."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from npp_rl.environment.games import CAUSES
from npp_rl.evaluation.analysis import FAILURES, NEAR_GOAL_PX, STUCK_PX, WINDOW_SECONDS, describe
from npp_rl.evaluation.intervals import wilson
from npp_rl.levels.categories import CATEGORIES, TIER_NAMES
from npp_rl.levels.copies import near_copies
from npp_rl.levels.maps import GROUPS, Level

NOT_WHOLE = GROUPS[2]


def summarise(entries: list[dict]) -> dict:
    """Statistics over levels. The level is the unit, so several tries on one level do not narrow intervals.

    - `success_rate` with Wilson's 95% interval `success_low`, `success_high`.
    - Means over won episodes: `steps` and `frames` to finish; `efficiency`, px of the level's shortest way along free
      space / px travelled, at most 1; `par_efficiency`, frames of the level's par / own frames, if it has a par.
    - Over all episodes: `death_rate`, `timeout_rate`, `safety` (share without a death), `deaths` (cause -> count),
      `failures` (kind -> count, see analysis.py), means of `near_misses` (see retrace.py) and `return`.
    - `solvable`: success on the levels that have a par or were won in a try; `never_solved`: number of other levels.

    A mean or share over nothing is None.
    """
    outcomes = [outcome for entry in entries for outcome in entry["tries"]]
    won = [outcome for outcome in outcomes if outcome["success"]]
    deaths = Counter(
        outcome["cause"] for outcome in outcomes if not outcome["success"] and outcome["cause"] != CAUSES[0]
    )
    failures = Counter(outcome.get("failure") for outcome in outcomes)
    by_par = [
        entry["par"] / outcome["frames"]
        for entry in entries
        for outcome in entry["tries"]
        if entry["par"] is not None and outcome["success"]
    ]
    solvable = [entry for entry in entries if entry["par"] is not None or entry["success_rate"] > 0]

    def mean(values):
        values = [value for value in values if value is not None]
        return sum(values) / len(values) if values else None

    def share(count):
        return count / len(outcomes) if outcomes else None

    def success(of):
        total = sum(entry["success_rate"] for entry in of)
        low, high = wilson(total, len(of))
        rate = total / len(of) if of else None
        return {"levels": len(of), "success_rate": rate, "success_low": low, "success_high": high}

    return {
        **success(entries),
        "episodes": len(outcomes),
        "steps": mean(outcome["steps"] for outcome in won),
        "frames": mean(outcome["frames"] for outcome in won),
        "efficiency": mean(outcome["efficiency"] for outcome in won),
        "par_efficiency": mean(by_par),
        "death_rate": share(deaths.total()),
        "timeout_rate": 1 - share(len(won) + deaths.total()) if outcomes else None,
        "safety": 1 - share(deaths.total()) if outcomes else None,
        "deaths": dict(sorted(deaths.items())),
        "near_misses": mean(outcome.get("near_misses") for outcome in outcomes),
        "failures": {name: failures[name] for name in FAILURES if failures[name]},
        "return": mean(outcome["return"] for outcome in outcomes),
        "solvable": success(solvable),
        "never_solved": len(entries) - len(solvable),
    }


def summaries(entries: list[dict]) -> dict[str, dict]:
    """Statistics of an evaluation's entries, one for each level.

    Returns `overall`, `by_category.<name>`, `by_tier.<name>` and `by_group.<name>`. A level that the agent was trained
    on counts in none of them. A level that is not simulated as a whole (see `Level.group`) is easier than it should be,
    so it counts in `by_group` only.
    """
    names = {"category": [*CATEGORIES, *sorted({entry["category"] for entry in entries} - set(CATEGORIES))]}
    names |= {"tier": TIER_NAMES, "group": GROUPS}
    unseen = [entry for entry in entries if not entry.get("trained_on")]
    whole = counted(entries)

    def by(key, of):
        parts = {name: [entry for entry in of if entry[key] == name] for name in names[key]}
        return {name: summarise(part) for name, part in parts.items() if part}

    parts = {"by_category": by("category", whole), "by_tier": by("tier", whole), "by_group": by("group", unseen)}
    return {"overall": summarise(whole), **parts}


def leave_out(results: dict, levels: Sequence[Level], trained_on: frozenset[str] | None) -> None:
    """Take the levels that the agent was trained or chosen on out of the statistics in `results` of `levels`.

    trained_on: their `tiles_key` (see `checkpoints.keys_of`), so mirror images count, and levels that differ in
    entities only. They keep their entries in `levels`, marked with "trained_on": true, and are counted in `trained_on`:
    `levels`, their number, and `success_rate` on them, None if there are none. If all are left out, `overall` counts no
    levels and its rates are None. If trained_on is None, which is unknown, nothing is left out and `trained_on` is
    None.
    """
    if trained_on is None:
        results["trained_on"] = None
        return
    seen = []
    for level, entry in zip(levels, results["levels"], strict=True):
        if level.tiles_key in trained_on:
            entry["trained_on"] = True
            seen.append(entry["success_rate"])
    results["trained_on"] = {"levels": len(seen), "success_rate": sum(seen) / len(seen) if seen else None}
    if seen:
        results |= summaries(results["levels"])


def note_near_copies(results: dict, train_levels: Sequence[Level], levels: Sequence[Level]) -> None:
    """Add `near_copies` to the `results` of `levels`: the levels that count and are near-copies of training levels.

    They are near-copies by levels/copies.py, and count. The entry has `ids`, and `success_rate_without`, success on the
    other levels that count, None if there are none. Without near-copies there is no entry.
    """
    near = {level.digest for level in near_copies(levels, train_levels)}
    entries = counted(results["levels"])
    if ids := [entry["id"] for entry in entries if entry["digest"] in near]:
        others = [entry["success_rate"] for entry in entries if entry["digest"] not in near]
        without = sum(others) / len(others) if others else None
        results["near_copies"] = {"ids": ids, "success_rate_without": without}


def counted(entries: list[dict]) -> list[dict]:
    """Entries of the levels that count: those that the agent was not trained on and that are simulated as a whole."""
    return [entry for entry in entries if not entry.get("trained_on") and entry.get("group") != NOT_WHOLE]


def scalars(results: dict, prefix: str) -> dict[str, float]:
    """Statistics of `results` as a flat dict for metrics.jsonl: `<prefix>/success_rate`, `<prefix>/<category>` ...

    Empty where no level counts.
    """
    overall = results["overall"]
    if not overall["levels"]:
        return {}
    keys = ("success_rate", "success_low", "success_high", "steps", "frames", "efficiency", "par_efficiency")
    keys += ("safety", "near_misses", "return")
    flat = {f"{prefix}/{key}": overall[key] for key in keys if overall[key] is not None}
    flat |= {f"{prefix}/tier_{name}": part["success_rate"] for name, part in results["by_tier"].items()}
    return flat | {f"{prefix}/{name}": part["success_rate"] for name, part in results["by_category"].items()}


def _number(value, form):
    return "-" if value is None else format(value, form)


def _trained_on(results):
    """What is said about levels that the agent was trained on."""
    if (part := results["trained_on"]) is None:
        return "not known, because the checkpoint does not say: some of these levels may be among them"
    if not part["levels"]:
        return "none of these levels"
    won = f"success on them is {part['success_rate']:.1%}"
    if part["levels"] == len(results["levels"]):
        return f"all of these levels, so there is no result on levels that the agent does not know; {won}"
    return f"{part['levels']} of these {len(results['levels'])} levels, which count in nothing below; {won}"


def _not_whole(results):
    """What is said about levels with entities that are not simulated, None where there are none."""
    if NOT_WHOLE not in results["by_group"]:
        return None
    part = results["by_group"][NOT_WHOLE]
    return (
        f"{part['levels']} of these {len(results['levels'])} levels hold entities that are not simulated, and count "
        f"only in a row of their own; success on them is {part['success_rate']:.1%}"
    )


def _seconds(part):
    return "-" if part["frames"] is None else f"{part['frames'] / 60:.1f}"


def _interval(part):
    return f"{part['success_low']:.0%} to {part['success_high']:.0%}"


def report(results: dict, title: str, about: dict[str, str], more: Sequence[str] = ()) -> str:
    """Markdown report: what was evaluated, a table by category and tier, how episodes failed, what the agent costs.

    more: lines for its end.
    """
    settings, overall = results["settings"], results["overall"]
    chosen = (
        "greedy" if settings["deterministic"] else f"sampled, {settings['tries']} per level, seed {settings['seed']}"
    )
    lines = [f"# {title}", ""]
    about = {**about, "actions": chosen}
    if "trained_on" in results:
        about["trained or chosen on"] = _trained_on(results)
    if not_whole := _not_whole(results):
        about["not simulated"] = not_whole
    if near := results.get("near_copies"):
        ids = ", ".join(near["ids"][:5]) + (", ..." if len(near["ids"]) > 5 else "")
        without = _number(near["success_rate_without"], ".1%")
        about["near-copies of training levels"] = f"{len(near['ids'])} ({ids}), which count; without them {without}"
    lines += [f"- {name}: {value}" for name, value in about.items()]
    if not overall["levels"]:
        return "\n".join([*lines, *_cost(results), *more]) + "\n"
    lines += [
        "",
        "| | levels | success | 95% interval | seconds | steps | efficiency | against par | died | ran out of time "
        "| near misses |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    tiers = [(f"*{name}*", part) for name, part in results["by_tier"].items()]
    groups = [(f"*{name}*", part) for name, part in results["by_group"].items()] if len(results["by_group"]) > 1 else []
    for name, part in [*results["by_category"].items(), *tiers, *groups, ("**overall**", overall)]:
        cell = name.replace("|", "\\|")
        lines.append(
            f"| {cell} | {part['levels']} | {part['success_rate']:.1%} | {_interval(part)} | {_seconds(part)} "
            f"| {_number(part['steps'], '.0f')} | {_number(part['efficiency'], '.0%')} "
            f"| {_number(part['par_efficiency'], '.0%')} | {part['death_rate']:.1%} | {part['timeout_rate']:.1%} "
            f"| {_number(part['near_misses'], '.2f')} |"
        )
    lines += ["", *_failures(results)]
    solvable = overall["solvable"]
    if overall["never_solved"] and solvable["levels"]:
        lines += [
            "",
            f"{overall['never_solved']} of {overall['levels']} levels have no known solution (neither a par nor a won "
            f"try); success on the other {solvable['levels']}: {solvable['success_rate']:.1%} ({_interval(solvable)}).",
        ]
    lines += _members(results) + _generalisation(results) + _cost(results)
    lines += [
        "",
        "Seconds and steps to finish, efficiency (px of the shortest way / px travelled) and against par (frames of "
        "the best known run / own frames) are means over won episodes. The interval is Wilson's over levels. Near "
        "misses (a deadly thing within a few px, an impact just below the deadly speed) are means over episodes. "
        "*easy*, *middle* and *hard* are groups of categories.",
        *more,
    ]
    return "\n".join(lines) + "\n"


def _link_text(text):
    return re.sub(r"([\\\[\]])", r"\\\1", text)


def _failures(results):
    """Lines of the report on how episodes failed and which levels were never won."""
    overall = results["overall"]
    lost = sum(overall["failures"].values())
    if not lost:
        return ["No episode failed."] if overall["success_rate"] == 1 else ["How episodes failed was not examined."]
    deaths = ", ".join(f"{cause.replace('_', ' ')} {n}" for cause, n in overall["deaths"].items())
    words = {
        "died": f"died: {deaths}",
        "stuck": f"stuck: moved less than {STUCK_PX:.0f} px in the last {WINDOW_SECONDS} seconds",
        "timed out near the goal": f"out of time with at most {NEAR_GOAL_PX:.0f} px of way left",
        "too slow": "too slow: still coming nearer when the time was up",
        "wandering": "wandering: moved without coming nearer",
    }
    lines = [f"{lost} of {overall['episodes']} episodes failed:", ""]
    lines += [f"- {n} ({n / lost:.0%}) {words[name]}" for name, n in overall["failures"].items()]
    failed = [entry for entry in counted(results["levels"]) if entry["success_rate"] == 0]
    if failed:
        lines += ["", f"Never won ({len(failed)} of {overall['levels']}):", ""]
        pictures = results.get("pictures", {})
        # Levels with pictures come first: they are from all categories and kinds of failure.
        for entry in sorted(failed, key=lambda entry: entry["id"] not in pictures)[: max(30, len(pictures))]:
            name = f"[{_link_text(entry['id'])}]({pictures[entry['id']]})" if entry["id"] in pictures else entry["id"]
            lines.append(f"- {name}: {describe(entry['tries'][0])}")
        if len(failed) > max(30, len(pictures)):
            lines.append(f"- and {len(failed) - max(30, len(pictures))} more")
    return lines


def _members(results):
    """Lines of the report on an ensemble's agents, each alone."""
    if not results.get("members"):
        return []
    parts = {"the ensemble": results}
    for number, member in enumerate(results["members"], 1):
        place = Path(member["checkpoint"])
        name = f"{number}: {place.resolve().parent.parent.name}/{place.stem}"
        parts[name.replace("|", "\\|")] = member
    return ["", "The ensemble, and each of its agents alone:", "", comparison(parts).rstrip()]


def _generalisation(results):
    if "generalisation" not in results:
        return []
    part = results["generalisation"]
    train = part["train"]
    return [
        "",
        f"Generalisation: {train['success_rate']:.1%} ({_interval(train)}) on {train['levels']} training levels, "
        f"{results['overall']['success_rate']:.1%} here: a gap of {100 * part['gap']:.1f} points (95% interval "
        f"{100 * part['gap_low']:.1f} to {100 * part['gap_high']:.1f}).",
    ]


def _cost(results):
    if "cost" not in results:
        return []
    part = results["cost"]
    times = "; ".join(
        f"{batch} at once {time['p50']:.3g} ms (99th percentile {time['p99']:.3g})"
        for batch, time in part["latency_ms"].items()
    )
    return [
        "",
        f"Cost: {part['parameters']:,} parameters, {part['flops'] / 1e6:,.2f} million operations per decision (matrix "
        f"products and convolutions), {part['peak_memory_mb']:,.0f} MB of peak memory; decision time: {times}, on "
        f"{part['device']} with {part['threads']} threads.",
    ]


def comparison(results: dict[str, dict]) -> str:
    """Markdown table of several evaluations, by name. Levels that an agent was trained on do not count."""
    tiers = [name for name in TIER_NAMES if any(name in one["by_tier"] for one in results.values())]
    columns = ["", "levels", "success", "95% interval", *tiers, "seconds", "against par", "died", "near misses"]
    gap = any("generalisation" in one for one in results.values())
    cost = any("cost" in one for one in results.values())
    columns += ["gap"] * gap + ["parameters", "Mflop", "ms (1)", "ms (256)"] * cost
    lines = [f"| {' | '.join(columns)} |", "| --- |" + " ---: |" * (len(columns) - 1)]
    for name, one in results.items():
        part = one["overall"]
        cells = [name, str(part["levels"]), _number(part["success_rate"], ".1%"), _interval(part)]
        cells += [_number(one["by_tier"].get(tier, {}).get("success_rate"), ".1%") for tier in tiers]
        cells += [_seconds(part), _number(part["par_efficiency"], ".0%"), _number(part["death_rate"], ".1%")]
        cells += [_number(part["near_misses"], ".2f")]
        if gap:
            cells += [_number(one.get("generalisation", {}).get("gap"), ".1%")]
        if cost and "cost" in one:
            spent = one["cost"]
            cells += [f"{spent['parameters']:,}", f"{spent['flops'] / 1e6:,.2f}"]
            cells += [f"{spent['latency_ms'][batch]['p50']:.3g}" for batch in ("1", "256")]
        cells += ["-"] * (len(columns) - len(cells))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
