"""Statistics with known answers: by hand, from rliable, and coverage of the intervals over many repeats."""

import numpy as np
import pytest
from scipy import stats

from benchmark.reporting import significance

# What rliable 1.2.0 gives for `scores_for_rliable` (arch 7.2.0, NumPy 2.4.6): point estimates, profiles at 0, 0.2 to 1,
# and intervals of its StratifiedBootstrap from 50,000 draws (3,000 for the probability of improvement).
RLIABLE = {
    "iqm": (0.423562412342216, 0.478494623655914),
    "improvement": 0.44166666666666665,
    "profile x": tuple(k / 45 for k in (40, 32, 23, 15, 7, 0)),
    "profile y": tuple(k / 36 for k in (36, 29, 20, 13, 5, 0)),
    "iqm interval x": (0.31837307, 0.53576438),
    "mean interval x": (0.3562724, 0.50035842),
    "improvement interval": (0.31388889, 0.56944444),
}


def scores_for_rliable():
    """Scores [5, 9] and [4, 9] with some ties between them."""
    i, j = np.mgrid[:5, :9]
    x = (7 * i + 11 * j + 3 * i * j + 5) % 31 / 31
    i, j = np.mgrid[:4, :9]
    y = (5 * i + 13 * j + 2 * i * j + 1) % 29 / 31
    y[:2, :3] = x[:2, :3]
    return x, y


def made(rng, seeds, repeats, tasks=9, luck=0.05, noise=0.05):
    """Scores [repeats, seeds, tasks]: tasks of unlike difficulty, seeds with luck that goes through all their tasks."""
    shape = (repeats, seeds)
    return (
        np.linspace(0.4, 0.95, tasks)
        + luck * rng.standard_normal((*shape, 1))
        + noise * rng.standard_normal((*shape, tasks))
    )


def drawn_anew(scores, rng, draws):
    """Bootstrap samples as in the paper's section 4.1: seeds anew for each task, [seeds, tasks] -> [draws, ...]."""
    n, tasks = scores.shape
    return scores[rng.integers(n, size=(draws, n, tasks)), np.arange(tasks)]


def coverage(statistic, seeds, repeats, stretch=True, stratified=False, luck=0.05, draws=400):
    """Share of repeats whose 95% interval holds the statistic of 20,000 seeds."""
    rng = np.random.default_rng(seeds)
    truth = statistic(made(rng, 20_000, 1, luck=luck)[0])
    held = 0
    for scores in made(rng, seeds, repeats, luck=luck):
        drawn = statistic((drawn_anew if stratified else significance.draw)(scores, rng, draws))
        own = significance.interval(statistic(scores), drawn, seeds) if stretch else significance.percentile(drawn)
        held += own[0] <= truth <= own[1]
    return held / repeats


def paired(x, y, rng, draws=2000):
    return significance.combination([significance.paired_draws(x, y, significance.mean, rng, draws)], [1])


def test_interquartile_mean_by_hand():
    scores = np.array([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 100.0]])
    assert significance.iqm(scores) == 3.5  # 2, 3, 4, 5 are left of eight
    assert significance.iqm(np.array([[7.0, 1.0, 3.0]])) == pytest.approx(11 / 3)  # a quarter of three is none
    assert significance.iqm(np.stack([scores, scores + 1])).tolist() == [3.5, 4.5]
    assert significance.iqm(scores) == stats.trim_mean(scores, 0.25, axis=None)


def test_probability_of_improvement_by_hand():
    x, y = np.array([[1.0, 0.5], [0.0, 0.5]]), np.array([[0.5, 0.5]])
    # First task: one of two pairs is won; second task: both are ties, half each.
    assert significance.probability_of_improvement(x, y) == 0.5
    assert significance.probability_of_improvement(np.array([[2.0], [1.0]]), np.array([[1.0], [0.0]])) == 0.875
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, (5, 3)).astype(float), rng.integers(0, 4, (6, 3)).astype(float)
    u = [stats.mannwhitneyu(a[:, k], b[:, k]).statistic / 30 for k in range(3)]
    assert significance.probability_of_improvement(a, b) == pytest.approx(np.mean(u))
    assert significance.probability_of_improvement(b, a) == pytest.approx(1 - np.mean(u))


def test_profile_by_hand():
    scores = np.array([[0.0, 0.5], [0.5, 1.0]])
    assert significance.profile(scores, np.array([0.0, 0.4, 0.5, 1.0])).tolist() == [0.75, 0.75, 0.25, 0.0]


def test_rliable_gave_the_same():
    x, y = scores_for_rliable()
    assert (significance.iqm(x), significance.iqm(y)) == pytest.approx(RLIABLE["iqm"], abs=1e-12)
    assert significance.probability_of_improvement(x, y) == pytest.approx(RLIABLE["improvement"], abs=1e-12)
    thresholds = np.linspace(0, 1, 6)
    assert significance.profile(x, thresholds) == pytest.approx(RLIABLE["profile x"], abs=1e-12)
    assert significance.profile(y, thresholds) == pytest.approx(RLIABLE["profile y"], abs=1e-12)
    rng = np.random.default_rng(1)
    for statistic, name in ((significance.iqm, "iqm interval x"), (significance.mean, "mean interval x")):
        own = significance.percentile(statistic(drawn_anew(x, rng, 20_000)))
        assert own == pytest.approx(RLIABLE[name], abs=0.006)
    pairs = zip(drawn_anew(x, rng, 10_000), drawn_anew(y, rng, 10_000), strict=True)
    own = significance.percentile(np.array([significance.probability_of_improvement(*pair) for pair in pairs]))
    assert own == pytest.approx(RLIABLE["improvement interval"], abs=0.012)


def test_rliable_gives_the_same():
    metrics = pytest.importorskip("rliable.metrics", reason="rliable is not installed (or fails to import)")
    library = pytest.importorskip("rliable.library")
    x, y = scores_for_rliable()
    thresholds = np.linspace(0, 1, 11)
    assert significance.iqm(x) == pytest.approx(metrics.aggregate_iqm(x))
    assert significance.mean(x) == pytest.approx(metrics.aggregate_mean(x))
    assert significance.probability_of_improvement(x, y) == pytest.approx(metrics.probability_of_improvement(x, y))
    assert significance.profile(x, thresholds) == pytest.approx([library.run_score_deviation(x, t) for t in thresholds])


def test_a_draw_takes_whole_seeds():
    scores = np.arange(12.0).reshape(3, 4)
    whole = significance.draw(scores, np.random.default_rng(0), 50)
    assert whole.shape == (50, 3, 4) and (np.diff(whole, axis=-1) == 1).all()
    again = significance.draw(scores, np.random.default_rng(0), 50)
    assert (whole == again).all()


def test_levels_are_drawn_within_their_category():
    scores = np.array([[1.0, 1.0, 0.0, 1.0, 0.0, 0.0]])  # all of the first category won, a quarter of the second
    strata = np.array([0, 0, 1, 1, 1, 1])
    drawn = significance.draw_levels(scores, strata, significance.mean, np.random.default_rng(0), 4000)
    assert drawn.min() >= 0.5 and drawn.mean() == pytest.approx(0.625, abs=0.01)
    assert drawn.std() == pytest.approx(np.sqrt(0.25 * 0.75 / 4) / 2, rel=0.05)


def test_one_and_two_seeds():
    one, two = np.array([[0.5, 0.7]]), np.array([[0.5, 0.7], [0.6, 0.8]])
    rng = np.random.default_rng(0)
    drawn = significance.mean(significance.draw(one, rng, 100))
    assert np.isnan(significance.interval(0.6, drawn, 1)).all()
    value, low, high = significance.difference(one, two, significance.mean, rng)
    assert value == pytest.approx(-0.05) and np.isnan(low) and np.isnan(high)
    value, low, high = paired(one, one - 0.1, rng)
    assert value == pytest.approx(0.1) and np.isnan(low)
    low, high = significance.interval(0.65, significance.mean(significance.draw(two, rng, 4000)), 2, (0, 1))
    # Student's t of one degree of freedom is 12.7; a quarter of the draws is the worse seed twice.
    assert low == pytest.approx(0.65 - 0.05 * np.sqrt(2) * 12.7062 / 1.95996, abs=1e-4) and high == 1.0
    with pytest.raises(ValueError, match=r"shapes \(1, 2\) and \(2, 2\)"):
        significance.paired_draws(one, two, significance.mean, rng)


def test_stretched_intervals_agree_with_students():
    rng = np.random.default_rng(3)
    scores = rng.normal(0.6, 0.1, (12, 1))
    low, high = significance.interval(scores.mean(), significance.mean(significance.draw(scores, rng, 40_000)), 12)
    expected = stats.t.interval(0.95, 11, scores.mean(), stats.sem(scores[:, 0]))
    assert (low, high) == pytest.approx(expected, abs=0.006)
    other = rng.normal(0.5, 0.2, (9, 1))
    _, low, high = significance.difference(scores, other, significance.mean, rng, 40_000)
    expected = stats.ttest_ind(scores[:, 0], other[:, 0], equal_var=False).confidence_interval(0.95)
    assert (low, high) == pytest.approx(tuple(expected), abs=0.012)


def test_pairs_see_what_independent_seeds_do_not():
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.2, (6, 1))
    x, y = 0.55 + luck + rng.normal(0, 0.01, (6, 1)), 0.5 + luck
    together = paired(x, y, rng)
    apart = significance.difference(x, y, significance.mean, rng)
    assert together[0] == pytest.approx(apart[0]) == pytest.approx(0.05, abs=0.02)
    assert together[1] > 0 > apart[1]


# What SciPy 1.17.1 gives for the differences of the last of GROUPS to the others: mean and half of the 95% interval of
# tukey_hsd with equal_var=True (Tukey, Kramer) and with equal_var=False (Games, Howell).
GROUPS = ([0.52, 0.49, 0.55, 0.47], [0.70, 0.50, 0.62], [0.56, 0.57, 0.55, 0.56, 0.57], [0.74, 0.71, 0.78])
BEHIND = ((0.23583333, 0.11322022, 0.10376028), (0.13666667, 0.12103752, 0.34458447))
BEHIND += ((0.18133333, 0.10825925, 0.13295993),)


def test_behind_the_best_is_the_wider_of_tukey_and_of_games_and_howell():
    best, gaps = significance.behind_best([np.array(group) for group in GROUPS])
    assert best == 3 and gaps[3][0] == 0
    for (value, low, high), (expected, tukey, games) in zip(gaps[:3], BEHIND, strict=True):
        assert value == pytest.approx(expected)
        assert 0.999999 < (high - value) / max(tukey, games) < 1.005  # the range is interpolated
        assert high - value == pytest.approx(value - low)
    assert np.isnan(significance.behind_best([np.array([0.5]), np.array([0.7])])[1][0][1])
    _, gaps = significance.behind_best([np.array([0.5, 0.6]), np.array([0.7])])
    assert gaps[0][0] == pytest.approx(0.15) and np.isnan(gaps[0][1])
    # Seeds that agree in everything vary as those of the others do; where all agree nothing is known to vary.
    _, gaps = significance.behind_best([np.full(3, 0.9), np.full(3, 0.8), np.array([0.3, 0.5, 0.4])])
    assert gaps[1][1] < 0 < gaps[2][1]
    _, gaps = significance.behind_best([np.full(3, 0.9), np.full(3, 0.8)])
    assert gaps[1] == pytest.approx((0.1, 0.1, 0.1))


def test_students_range():
    """Tables of the upper 5% points give 8.33, 5.82 and 4.90 (Harter 1960, Annals of Mathematical Statistics 31)."""
    for groups, freedom, expected in ((3, 2, 8.331), (8, 7, 5.815), (8, 16, 4.896)):
        assert significance.studentized_range(0.95, groups, freedom) == pytest.approx(expected, abs=0.001)
    for groups, freedom in ((3, 2.5), (8, 3.3), (8, 12.7)):
        exact = stats.studentized_range.ppf(0.95, groups, freedom)
        assert exact <= significance.studentized_range(0.95, groups, freedom) < 1.005 * exact


def together(rng, deviations, seeds, repeats):
    """Share of repeats in which all intervals of what equal groups are behind the best of them hold 0."""
    held = 0
    for _ in range(repeats):
        groups = list(rng.normal(0.8, deviations, (seeds, len(deviations))).T)
        held += all(not low > 0 for _, low, _ in significance.behind_best(groups)[1])
    return held / repeats


SPREADS = {"equal": lambda k: [0.01] * k, "half 5": lambda k: [0.01] * (k - k // 2) + [0.05] * (k // 2)}
SPREADS |= {"half 20": lambda k: [0.01] * (k - k // 2) + [0.2] * (k // 2), "one 20": lambda k: [0.01] * (k - 1) + [0.2]}


@pytest.mark.parametrize("name", SPREADS)
@pytest.mark.parametrize("groups", [3, 8])
def test_equals_are_rarely_told_apart(groups, name, repeats=1500):
    """Three seeds of each. With Tukey's range and unpooled variances 91 to 94 of 100 held, where these differ."""
    share = together(np.random.default_rng(6), SPREADS[name](groups), 3, repeats)
    assert share > 0.95 - 2 * np.sqrt(0.95 * 0.05 / repeats)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [2, 3, 8])
@pytest.mark.parametrize("seeds", [3, 5])
def test_equals_are_rarely_told_apart_over_ten_thousand_repeats(groups, seeds):
    for name, deviations in SPREADS.items():
        share = together(np.random.default_rng(5), deviations(groups), seeds, 10_000)
        # Two groups are Welch's test, which falls a little short with few seeds.
        assert (0.9375 if groups == 2 else 0.95 - 2 * 0.00218) < share < 0.9975, name


def test_curves_share_a_grid_that_all_seeds_reach():
    one = (np.array([0.0, 1.0, 3.0]), np.array([0.0, 1.0, 3.0]))
    other = (np.array([0.5, 2.0]), np.array([0.0, 3.0]))
    grid, values = significance.curves([one, other])
    assert grid.tolist() == [0.5, 1.0, 2.0]
    assert values.tolist() == [[0.5, 1.0, 2.0], [0.0, 1.0, 3.0]]


def test_coverage_in_brief():
    """With three seeds 93 to 95 of 100 intervals hold the truth, as they should; plain percentiles 73."""
    assert coverage(significance.iqm, 3, 150, draws=200) > 0.87
    assert 0.6 < coverage(significance.iqm, 3, 150, stretch=False, draws=200) < 0.85
    assert coverage(significance.iqm, 3, 150, stretch=False, stratified=True, draws=200) < 0.65


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "plain"), [(2, 0.48), (3, 0.73), (5, 0.85), (10, 0.91)])
def test_coverage_over_a_thousand_repeats(seeds, plain):
    for statistic in (significance.mean, significance.iqm):
        assert 0.90 < coverage(statistic, seeds, 1000) < 0.975
    assert coverage(significance.mean, seeds, 1000, stretch=False) == pytest.approx(plain, abs=0.05)
    # Seeds drawn anew for each task: right where a seed has no luck of its own, far too narrow where it has.
    assert coverage(significance.mean, seeds, 1000, stretch=False, stratified=True) < 0.65
    assert coverage(significance.mean, seeds, 1000, stretch=False, stratified=True, luck=0.0) > plain - 0.03


@pytest.mark.slow
def test_differences_cover_over_a_thousand_repeats():
    rng = np.random.default_rng(4)
    for seeds in (2, 3, 5):
        held = []
        for _ in range(1000):
            x, y = rng.normal(0.8, 0.03, (seeds, 1)), rng.normal(0.75, 0.06, (seeds, 1))
            luck = rng.normal(0, 0.1, (seeds, 1))
            apart = significance.difference(x, y, significance.mean, rng, 400)
            pairs = paired(x + luck, y + luck, rng, 400)
            held.append([low <= 0.05 <= high for _, low, high in (apart, pairs)])
        assert (np.mean(held, 0) > 0.9).all() and (np.mean(held, 0) < 0.98).all()
