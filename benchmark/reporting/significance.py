"""Statistics over seeds: interquartile mean, performance profiles, probability of improvement, bootstrap intervals.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS), section 4, in our
own few lines. Scores are float64 [seeds, tasks], higher is better. Every random choice comes from the generator given.

Two things differ from the paper, where each task of each seed is a training of its own:

- Here one network plays all levels, so the levels of a seed rise and fall together. Drawing seeds anew for each task
  (section 4.1) averages that away, and its intervals are far too narrow. Here a draw takes whole seeds.
- A percentile interval of three seeds cannot reach past the worst and the best of them, and three values lie on both
  sides of their median in only 3 of 4 samples, whatever the nominal level. `interval` therefore stretches the draws by
  sqrt(n / (n - 1)) (the bootstrap's variance is that of n, not n - 1) and by Student's t over the normal quantile
  (Hesterberg 2015, "What Teachers Should Know about the Bootstrap", section 3.2, there for the quantiles' levels).
  Then coverage is close to nominal from two seeds on, and two seeds give a wide interval.
"""

from functools import lru_cache

import numpy as np

MIN_SEEDS = 3  # fewer conclude nothing
SEED = 20210830  # of the generators of reports and the dashboard, so that the same runs give the same figures
DRAWS = 2000


def iqm(scores: np.ndarray) -> np.ndarray:
    """Interquartile mean of the last two axes, [..., seeds, tasks] -> [...] (section 4.3).

    It is the mean of what is left when a quarter of the values, rounded down, is cut off at either end.
    """
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return flat[..., cut : flat.shape[-1] - cut].mean(-1)


def mean(scores: np.ndarray) -> np.ndarray:
    """Mean over seeds and tasks, [..., seeds, tasks] -> [...]."""
    return scores.mean((-2, -1))


def profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Share of the scores above each threshold, [..., seeds, tasks] -> [..., thresholds] (section 4.2)."""
    return (scores[..., None] > thresholds).mean((-3, -2))


def wins(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Share of tasks on which a seed of x beats a seed of y, a tie being half, [n, t], [m, t] -> [n, m]."""
    return ((x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])).mean(-1)


def probability_of_improvement(x: np.ndarray, y: np.ndarray) -> float:
    """P(x > y) + P(x = y) / 2 for one seed of each on one task, averaged over tasks (section 4.3; Mann, Whitney)."""
    return float(wins(x, y).mean())


def draw(scores: np.ndarray, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """Bootstrap samples of whole seeds, [seeds, tasks] -> [draws, seeds, tasks]."""
    return scores[rng.integers(len(scores), size=(draws, len(scores)))]


def draw_levels(
    scores: np.ndarray, strata: np.ndarray, statistic, rng: np.random.Generator, draws: int = DRAWS
) -> np.ndarray:
    """Draws of a statistic of the strata's means when levels are drawn within each stratum and seeds are kept.

    scores: [seeds, levels]; strata: [levels], which category each belongs to; statistic: [..., seeds, strata] -> [...].
    """
    columns = []
    for stratum in np.unique(strata):
        own = scores[:, strata == stratum]
        count = own.shape[1]
        weights = rng.multinomial(count, np.full(count, 1 / count), size=draws) / count
        columns.append(weights @ own.T)
    return statistic(np.stack(columns, -1))


def draw_improvement(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """Bootstrap draws [draws] of `probability_of_improvement`, the seeds of x and y drawn independently."""
    table = wins(x, y)
    i, j = (rng.integers(n, size=(draws, n)) for n in table.shape)
    return table[i[:, :, None], j[:, None, :]].mean((1, 2))


def percentile(draws: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """The plain percentile interval of draws [draws] (section 4.1)."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(draws, [tail, 100 - tail])
    return float(low), float(high)


def stretched(draws: np.ndarray, estimate, seeds: int) -> np.ndarray:
    """Draws [draws, ...] about `estimate` [...] with the variance of n - 1; NaN for a single seed."""
    return estimate + (draws - estimate) * np.sqrt(seeds / (seeds - 1)) if seeds > 1 else np.full_like(draws, np.nan)


@lru_cache(maxsize=1000)
def student(freedom: float, confidence: float = 0.95) -> float:
    """Student's quantile over the normal one at this confidence."""
    from scipy import stats  # here and below: slow to import, and much of a report does without

    tail = (1 + confidence) / 2
    return float(stats.t.ppf(tail, freedom) / stats.norm.ppf(tail))


def interval(
    estimate,
    draws: np.ndarray,
    seeds: int,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    confidence: float = 0.95,
    levels: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap interval for few seeds (see above) -> low, high [...] of an estimate [...] and its draws [draws, ...].

    levels: draws of the same statistic over levels (`draw_levels`), whose variation is added and needs no stretching.
    bounds: what the quantity cannot exceed. One seed has no interval: NaN, NaN.
    """
    if seeds < 2:
        return np.full_like(estimate, np.nan, dtype=float), np.full_like(estimate, np.nan, dtype=float)
    wide = estimate + (stretched(draws, estimate, seeds) - estimate) * student(seeds - 1, confidence)
    if levels is not None:
        wide = wide + (levels - levels.mean(0))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(wide, [tail, 100 - tail], axis=0)
    return np.clip(low, *bounds), np.clip(high, *bounds)


def welch(variances: np.ndarray, freedoms: np.ndarray) -> float:
    """Degrees of freedom of a sum of variances of means, after Welch and Satterthwaite; one variance must not be 0."""
    return float(variances.sum() ** 2 / (variances**2 / freedoms).sum())


def combination(
    parts: list[tuple[float, np.ndarray, int]],
    factors: list[float],
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """Interval of a sum of independent estimates times factors -> estimate, low, high.

    parts: (estimate, its bootstrap draws [draws], seeds). Degrees of freedom as in `welch`. A part of one seed gives
    NaN for the interval.
    """
    estimate = float(sum(f * e for f, (e, _, _) in zip(factors, parts, strict=True)))
    if min(n for _, _, n in parts) < 2:
        return estimate, np.nan, np.nan
    deviations = [f * (stretched(d, e, n) - e) for f, (e, d, n) in zip(factors, parts, strict=True)]
    variances = np.array([deviation.var() for deviation in deviations])
    if variances.sum() == 0:
        return estimate, estimate, estimate
    low, high = percentile(sum(deviations), confidence)
    wider = student(welch(variances, np.array([n - 1 for _, _, n in parts])), confidence)
    return estimate, estimate + low * wider, estimate + high * wider


def difference(
    x: np.ndarray,
    y: np.ndarray,
    statistic,
    rng: np.random.Generator,
    draws: int = DRAWS,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """Statistic of x [n, t] minus that of y [m, t] -> estimate, low, high; the seeds of both are independent."""
    parts = [(statistic(s), statistic(draw(s, rng, draws)), len(s)) for s in (x, y)]
    return combination(parts, [1, -1], confidence)


def behind_best(groups: list[np.ndarray], confidence: float = 0.95) -> tuple[int, list[tuple[float, float, float]]]:
    """Index of the group with the highest mean, and for each group how far it is behind: mean, low, high.

    groups: values [seeds] of each contender. The best is found in the data, so the intervals hold together for all
    groups. Each is the wider of two:

    - Tukey and Kramer (1953, 1956): Student's range with the variance between seeds pooled over all groups. It is exact
      where these variances are equal, and far too narrow where they are not.
    - Games and Howell (1976, Journal of Educational Statistics 1:113): Student's range with the two groups' own
      variances and the degrees of freedom of just these (`welch`). It allows for unequal variances, and is too narrow
      where a group's few seeds lie close together by chance.

    The wider one covers at its nominal level from three groups on: in simulations of normal values (3 to 10 seeds a
    group, deviations up to 20 times as large in one group as in another, equal and unequal means) all true differences
    lie in the 95% intervals in 95 to 99 of 100 experiments. For two groups it is Welch's test, with 94 to 97 of 100.
    The price: a group whose seeds differ much widens the intervals of all. A group of one seed gives NaN.
    """
    means = [float(group.mean()) for group in groups]
    best = int(np.argmax(means))
    freedom = sum(len(group) - 1 for group in groups)
    if freedom == 0 or len(groups) < 2:
        return best, [(means[best] - mean, np.nan, np.nan) for mean in means]
    own = [float(group.var(ddof=1)) if len(group) > 1 else 0.0 for group in groups]
    pooled = sum((len(group) - 1) * v for group, v in zip(groups, own, strict=True)) / freedom
    n = len(groups[best])
    gaps = []
    for group, mean, variance in zip(groups, means, own, strict=True):
        gap, m = means[best] - mean, len(group)
        if min(n, m) == 1:
            gaps.append((gap, np.nan, np.nan))
            continue
        half = studentized_range(confidence, len(groups), freedom) * np.sqrt(pooled * (1 / n + 1 / m))
        apart = np.array([own[best] / n, variance / m])
        if apart.sum() > 0:
            range_ = studentized_range(confidence, len(groups), welch(apart, np.array([n - 1, m - 1])))
            half = max(half, range_ * np.sqrt(apart.sum()))
        half /= np.sqrt(2)
        gaps.append((gap, gap - half, gap + half))
    return best, gaps


def studentized_range(confidence: float, groups: int, freedom: float) -> float:
    """Quantile of Student's range of so many groups at 1 degree of freedom or more.

    Between whole degrees of freedom the logarithm is interpolated over their reciprocals: from 2 on that is too wide by
    0.4% at most, between 1 and 2 by 3%. Each quantile takes a third of a second.
    """
    low = max(1, int(freedom))
    if freedom == low:
        return _studentized_range(confidence, groups, low)
    below, above = (np.log(_studentized_range(confidence, groups, whole)) for whole in (low, low + 1))
    return float(np.exp(above + (below - above) * (1 / freedom - 1 / (low + 1)) * low * (low + 1)))


@lru_cache
def _studentized_range(confidence, groups, freedom):
    from scipy import stats

    return float(stats.studentized_range.ppf(confidence, groups, freedom))


def paired_draws(x: np.ndarray, y: np.ndarray, statistic, rng: np.random.Generator, draws: int = DRAWS):
    """(Difference, its draws [draws], pairs) of x and y [n, t], for `combination`.

    Row i of both is the same seed, and these are drawn together.
    """
    if x.shape != y.shape:
        raise ValueError(f"pairs: scores of shapes {x.shape} and {y.shape}, expected the same seeds and tasks")
    rows = rng.integers(len(x), size=(draws, len(x)))
    return float(statistic(x) - statistic(y)), statistic(x[rows]) - statistic(y[rows]), len(x)


def curves(curves: list[tuple[np.ndarray, np.ndarray]], points: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Seeds' curves (x ascending, y) on one grid of x, at most `points` of theirs -> grid [k], values [seeds, k].

    The grid begins where the last of the seeds begins and ends where the first ends, so each point has all of them.
    """
    start, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.unique(np.concatenate([x for x, _ in curves] + [[start, end]]))
    grid = grid[(grid >= start) & (grid <= end)] if end > start else np.array([start])
    grid = grid[np.unique(np.linspace(0, len(grid) - 1, points).astype(int))]
    return grid, np.stack([np.interp(grid, x, y) for x, y in curves])
