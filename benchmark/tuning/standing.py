"""How sure the best of a study's trials is.

The best of many is partly the luckiest. What luck does shows in the seeds of one trial, which differ in nothing else.
All trials are judged by the same levels, so how hard these are does not tell trials apart.
"""

import numpy as np

from benchmark.reporting import significance
from npp_rl.evaluation.intervals import difference, wilson

CONFIDENCE = 0.95


def standing(trials: list[dict]) -> dict | None:
    """How the best of some whole trials (see `study.trials_of`) stands; None where `why_none` knows why there is none.

    Returns `best` (the trial's number), `value`, `low` and `high` (its 95% interval), `tied` (numbers of other trials
    that cannot be told from it), `equal` (those of them with the same value), `others` (how many other whole trials
    there are), `over` ("seeds" or "levels").

    With several seeds the deviation between seeds is pooled over all trials, and trials are told apart by Tukey's range
    test, which holds for all of them together. With one seed a trial's deviation is unknown. The intervals are then
    Wilson's and Newcombe's over the levels alone: they say nothing of other seeds, and hold for each trial alone.
    """
    values = np.array([trial["value"] for trial in trials])
    if len(trials) == 0 or why_none(trials):
        return None
    seeds = [np.array(trial["success_by_seed"]) for trial in trials]
    best = int(values.argmax())
    if min(map(len, seeds)) > 1:
        over, (low, high), tied = "seeds", *_over_seeds(values, seeds, best)
    else:
        over, (low, high), tied = "levels", *_over_levels(values, trials, best)
    tied |= values == values[best]
    others = [trial["number"] for k, trial in enumerate(trials) if tied[k] and k != best]
    equal = [trial["number"] for k, trial in enumerate(trials) if values[k] == values[best] and k != best]
    found = {"best": trials[best]["number"], "value": float(values[best]), "low": max(0.0, low), "high": min(1.0, high)}
    return found | {"tied": others, "equal": equal, "others": len(trials) - 1, "over": over}


def why_none(trials: list[dict]) -> str:
    """Why none of some whole trials can be called the best, in words; "" where one can.

    None can where the highest success is 0 or no more than that of the same runs before training, or where several
    trials have all the same success.
    """
    values = [trial["value"] for trial in trials]
    before = [trial["untrained"] for trial in trials if trial.get("untrained") is not None]
    before = sum(before) / len(before) if before else 0.0
    about = "the only whole trial has" if len(trials) == 1 else f"all {len(trials)} whole trials have"
    if len(trials) > 1 and max(values) == min(values):
        return f"{about} a success of {values[0]:.1%}"
    if max(values) <= before:
        untrained = f", and untrained agents one of {before:.1%}" if before else ""
        return f"{about} a success of {max(values):.1%}{' or less' * (len(trials) > 1)}{untrained}"
    return ""


def _over_seeds(values, seeds, best):
    freedom = sum(len(own) - 1 for own in seeds)
    deviation = np.sqrt(sum(((own - own.mean()) ** 2).sum() for own in seeds) / freedom)
    each = deviation / np.sqrt([len(own) for own in seeds])
    half = 1.959964 * significance.student(freedom, CONFIDENCE) * each[best]
    tied = np.zeros(len(values), bool)
    if len(values) > 1:
        wide = significance.studentized_range(CONFIDENCE, len(values), freedom) / np.sqrt(2)
        tied = values[best] - values <= wide * np.hypot(each[best], each)
    return (values[best] - half, values[best] + half), tied


def _over_levels(values, trials, best):
    counts = [trial["validation_levels"] or 0 for trial in trials]
    low, high = wilson(values[best] * counts[best], counts[best])
    tied = [
        not counts[k] or not counts[best] or difference(values[best] * counts[best], counts[best], v * n, n)[0] <= 0
        for k, (v, n) in enumerate(zip(values, counts, strict=True))
    ]
    return (low, high), np.array(tied)


def in_words(found: dict) -> str:
    """A sentence on what `standing` has found."""
    interval = f"95%: {100 * found['low']:.1f} to {100 * found['high']:.1f}, over {found['over']}"
    about = f"trial {found['best']}, {found['value']:.1%} ({interval})"
    tied, others = len(found["tied"]), found["others"]
    if not others:
        return f"best: {about}, the only whole trial"
    if found["equal"]:
        numbers = sorted([found["best"], *found["equal"]])
        same = f"trials {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
        rest = f"; {tied - len(numbers) + 1} others cannot be told from them" * (tied >= len(numbers))
        return f"no clear best: {same} have the highest success, {found['value']:.1%} ({interval} of each){rest}"
    if not tied:
        return f"best: {about}; each of the other {others} whole trials is worse beyond chance"
    if tied < others:
        return f"best: {about}; {tied} of the other {others} whole trials cannot be told from it"
    return f"no clear best: {about} leads, but none of the other {others} whole trials can be told from it"
