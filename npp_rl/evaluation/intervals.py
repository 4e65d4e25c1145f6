"""Intervals and tests of success rates."""

import math
from collections.abc import Sequence


def wilson(successes: float, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's score interval (1927, JASA 22:209) of a success rate, 95% by default. `n` = 0 gives (0, 1)."""
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def difference(successes: float, n: int, other: float, m: int) -> tuple[float, float]:
    """95% interval of the difference of two independent success rates, successes / n - other / m.

    Newcombe's hybrid of two Wilson intervals (1998, Statistics in Medicine 17:873, method 10).
    """
    one, two = successes / n, other / m
    (low1, high1), (low2, high2) = wilson(successes, n), wilson(other, m)
    return one - two - math.hypot(one - low1, high2 - two), one - two + math.hypot(high1 - one, two - low2)


def worse(won: Sequence[float], best: Sequence[float], level: float = 0.05) -> bool:
    """Whether an agent is significantly worse than another on the same levels: McNemar's exact test, one-sided.

    won, best: success of the two agents on each level, in the same order. Levels with equal success do not count. On
    the others, equal agents would win half each (McNemar 1947, Psychometrika 12:153).
    """
    gained = sum(one > other for one, other in zip(won, best, strict=True))
    lost = sum(one < other for one, other in zip(won, best, strict=True))
    decided = gained + lost
    return sum(math.comb(decided, k) for k in range(gained + 1)) < level * 2**decided


def keep_newer(won: list[float], best: list[float]) -> tuple[bool, list[float]]:
    """Whether to keep the newest agent, and the successes that later agents are compared with.

    won, best: success on each validation level of the newest agent and of the agent that won most levels so far (empty
    if there is none). The newest agent is kept unless it is `worse`, because training improves agents and the highest
    success so far is partly luck. The comparison is with the agent that won most, so that small losses do not add up.
    """
    if len(best) != len(won):
        return True, won
    return not worse(won, best), won if sum(won) >= sum(best) else best
