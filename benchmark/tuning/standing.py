"""How sure the best of a study's trials is.

The best of many is partly the luckiest. What luck does shows in the seeds of one trial, which differ in nothing else.
All trials are judged by the same levels, so how hard these are does not tell trials apart.
"""

import numpy as np

from benchmark.reporting import significance
from npp_rl.evaluation.intervals import difference, wilson

CONFIDENCE = 0.95


def standing(trials: list[dict]) -> dict | None:
    """How the best of some whole trials (see `study.trials_of`) stands; None where all of them have the same value.

    Returns `best` (the trial's number), `value`, `low` and `high` (its 95% interval), `tied` (numbers of other trials
    that cannot be told from it), `others` (how many other whole trials there are), `over` ("seeds" or "levels").

    With several seeds the deviation between seeds is pooled over all trials, and trials are told apart by Tukey's range
    test, which holds for all of them together. With one seed a trial's deviation is unknown. The intervals are then
    Wilson's and Newcombe's over the levels alone: they say nothing of other seeds, and hold for each trial alone.
    """
    values = np.array([trial["value"] for trial in trials])
    if len(trials) == 0 or (len(trials) > 1 and values.max() == values.min()):
        return None
    seeds = [np.array(trial["success_by_seed"]) for trial in trials]
    best = int(values.argmax())
    if min(map(len, seeds)) > 1:
        over, (low, high), tied = "seeds", *_over_seeds(values, seeds, best)
    else:
        over, (low, high), tied = "levels", *_over_levels(values, trials, best)
    tied |= values == values[best]
    others = [trial["number"] for k, trial in enumerate(trials) if tied[k] and k != best]
    found = {"best": trials[best]["number"], "value": float(values[best]), "low": max(0.0, low), "high": min(1.0, high)}
    return found | {"tied": others, "others": len(trials) - 1, "over": over}


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
    if not tied:
        return f"best: {about}; each of the other {others} whole trials is worse beyond chance"
    if tied < others:
        return f"best: {about}; {tied} of the other {others} whole trials cannot be told from it"
    return f"no clear best: {about} leads, but none of the other {others} whole trials can be told from it"
