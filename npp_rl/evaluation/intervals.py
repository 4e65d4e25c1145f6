"""Confidence intervals of success rates."""

import math


def wilson(successes: float, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's score interval (1927, JASA 22:209) of a success rate; 95% by default. `n` = 0 gives (0, 1)."""
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def difference(successes: float, n: int, other: float, m: int) -> tuple[float, float]:
    """95% interval of a difference of two independent success rates, successes / n - other / m.

    Newcombe's hybrid of two Wilson intervals (1998, Statistics in Medicine 17:873, method 10).
    """
    one, two = successes / n, other / m
    (low1, high1), (low2, high2) = wilson(successes, n), wilson(other, m)
    return one - two - math.hypot(one - low1, high2 - two), one - two + math.hypot(high1 - one, two - low2)
