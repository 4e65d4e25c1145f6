"""Statistics with known answers: by hand, from rliable, and coverage of the intervals over many repeats."""

import numpy as np
import pytest
from scipy import stats

from benchmark.reporting import significance as statistics

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


def coverage(statistic, seeds, repeats, stretch=True, stratified=False, luck=0.05, draws=400):
    """Share of repeats whose 95% interval holds the statistic of 20,000 seeds."""
    rng = np.random.default_rng(seeds)
    truth = statistic(made(rng, 20_000, 1, luck=luck)[0])
    held = 0
    for scores in made(rng, seeds, repeats, luck=luck):
        drawn = statistic(statistics.draw(scores, rng, draws, stratified))
        own = statistics.interval(statistic(scores), drawn, seeds) if stretch else statistics.percentile(drawn)
        held += own[0] <= truth <= own[1]
    return held / repeats


def test_interquartile_mean_by_hand():
    scores = np.array([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 100.0]])
    assert statistics.iqm(scores) == 3.5  # 2, 3, 4, 5 are left of eight
    assert statistics.iqm(np.array([[7.0, 1.0, 3.0]])) == pytest.approx(11 / 3)  # a quarter of three is none
    assert statistics.iqm(np.stack([scores, scores + 1])).tolist() == [3.5, 4.5]
    assert statistics.iqm(scores) == stats.trim_mean(scores, 0.25, axis=None)


def test_probability_of_improvement_by_hand():
    x, y = np.array([[1.0, 0.5], [0.0, 0.5]]), np.array([[0.5, 0.5]])
    # First task: one of two pairs is won; second task: both are ties, half each.
    assert statistics.probability_of_improvement(x, y) == 0.5
    assert statistics.probability_of_improvement(np.array([[2.0], [1.0]]), np.array([[1.0], [0.0]])) == 0.875
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, (5, 3)).astype(float), rng.integers(0, 4, (6, 3)).astype(float)
    u = [stats.mannwhitneyu(a[:, k], b[:, k]).statistic / 30 for k in range(3)]
    assert statistics.probability_of_improvement(a, b) == pytest.approx(np.mean(u))
    assert statistics.probability_of_improvement(b, a) == pytest.approx(1 - np.mean(u))


def test_profile_by_hand():
    scores = np.array([[0.0, 0.5], [0.5, 1.0]])
    assert statistics.profile(scores, np.array([0.0, 0.4, 0.5, 1.0])).tolist() == [0.75, 0.75, 0.25, 0.0]


def test_rliable_gave_the_same():
    x, y = scores_for_rliable()
    assert (statistics.iqm(x), statistics.iqm(y)) == pytest.approx(RLIABLE["iqm"], abs=1e-12)
    assert statistics.probability_of_improvement(x, y) == pytest.approx(RLIABLE["improvement"], abs=1e-12)
    thresholds = np.linspace(0, 1, 6)
    assert statistics.profile(x, thresholds) == pytest.approx(RLIABLE["profile x"], abs=1e-12)
    assert statistics.profile(y, thresholds) == pytest.approx(RLIABLE["profile y"], abs=1e-12)
    rng = np.random.default_rng(1)
    for statistic, name in ((statistics.iqm, "iqm interval x"), (statistics.mean, "mean interval x")):
        own = statistics.percentile(statistic(statistics.draw(x, rng, 20_000, stratified=True)))
        assert own == pytest.approx(RLIABLE[name], abs=0.006)
    own = statistics.percentile(statistics.draw_improvement(x, y, rng, 10_000, stratified=True))
    assert own == pytest.approx(RLIABLE["improvement interval"], abs=0.012)


def test_rliable_gives_the_same():
    metrics = pytest.importorskip("rliable.metrics", reason="rliable is not installed (or fails to import)")
    library = pytest.importorskip("rliable.library")
    x, y = scores_for_rliable()
    thresholds = np.linspace(0, 1, 11)
    assert statistics.iqm(x) == pytest.approx(metrics.aggregate_iqm(x))
    assert statistics.mean(x) == pytest.approx(metrics.aggregate_mean(x))
    assert statistics.probability_of_improvement(x, y) == pytest.approx(metrics.probability_of_improvement(x, y))
    assert statistics.profile(x, thresholds) == pytest.approx([library.run_score_deviation(x, t) for t in thresholds])


def test_draws_of_whole_seeds_are_paired_and_those_of_a_task_are_not():
    scores = np.arange(12.0).reshape(3, 4)
    rng = np.random.default_rng(0)
    whole = statistics.draw(scores, rng, 50)
    assert whole.shape == (50, 3, 4) and (np.diff(whole, axis=-1) == 1).all()
    single = statistics.draw(scores, rng, 50, stratified=True)
    assert (single % 4 == np.arange(4)).all() and not (np.diff(single, axis=-1) == 1).all()
    again = statistics.draw(scores, np.random.default_rng(0), 50)
    assert (whole == again).all()


def test_levels_are_drawn_within_their_category():
    scores = np.array([[1.0, 1.0, 0.0, 1.0, 0.0, 0.0]])  # all of the first category won, a quarter of the second
    strata = np.array([0, 0, 1, 1, 1, 1])
    drawn = statistics.draw_levels(scores, strata, statistics.mean, np.random.default_rng(0), 4000)
    assert drawn.min() >= 0.5 and drawn.mean() == pytest.approx(0.625, abs=0.01)
    assert drawn.std() == pytest.approx(np.sqrt(0.25 * 0.75 / 4) / 2, rel=0.05)


def test_one_and_two_seeds():
    one, two = np.array([[0.5, 0.7]]), np.array([[0.5, 0.7], [0.6, 0.8]])
    rng = np.random.default_rng(0)
    drawn = statistics.mean(statistics.draw(one, rng, 100))
    assert np.isnan(statistics.interval(0.6, drawn, 1)).all()
    value, low, high = statistics.difference(one, two, statistics.mean, rng)
    assert value == pytest.approx(-0.05) and np.isnan(low) and np.isnan(high)
    value, low, high = statistics.paired_difference(one, one - 0.1, statistics.mean, rng)
    assert value == pytest.approx(0.1) and np.isnan(low)
    low, high = statistics.interval(0.65, statistics.mean(statistics.draw(two, rng, 4000)), 2, (0, 1))
    # Student's t of one degree of freedom is 12.7; a quarter of the draws is the worse seed twice.
    assert low == pytest.approx(0.65 - 0.05 * np.sqrt(2) * 12.7062 / 1.95996, abs=1e-4) and high == 1.0
    assert "one seed" in statistics.enough(1) and "too few" in statistics.enough(2) and statistics.enough(3) == ""
    with pytest.raises(ValueError, match=r"shapes \(1, 2\) and \(2, 2\)"):
        statistics.paired_difference(one, two, statistics.mean, rng)


def test_stretched_intervals_agree_with_students():
    rng = np.random.default_rng(3)
    scores = rng.normal(0.6, 0.1, (12, 1))
    low, high = statistics.interval(scores.mean(), statistics.mean(statistics.draw(scores, rng, 40_000)), 12)
    expected = stats.t.interval(0.95, 11, scores.mean(), stats.sem(scores[:, 0]))
    assert (low, high) == pytest.approx(expected, abs=0.006)
    other = rng.normal(0.5, 0.2, (9, 1))
    _, low, high = statistics.difference(scores, other, statistics.mean, rng, 40_000)
    expected = stats.ttest_ind(scores[:, 0], other[:, 0], equal_var=False).confidence_interval(0.95)
    assert (low, high) == pytest.approx(tuple(expected), abs=0.012)


def test_pairs_see_what_independent_seeds_do_not():
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.2, (6, 1))
    x, y = 0.55 + luck + rng.normal(0, 0.01, (6, 1)), 0.5 + luck
    paired = statistics.paired_difference(x, y, statistics.mean, rng)
    apart = statistics.difference(x, y, statistics.mean, rng)
    assert paired[0] == pytest.approx(apart[0]) == pytest.approx(0.05, abs=0.02)
    assert paired[1] > 0 > apart[1]


def test_behind_the_best_agrees_with_tukey():
    rng = np.random.default_rng(2)
    groups = [rng.normal(mean, 0.05, 6) for mean in (0.5, 0.7, 0.55, 0.72)]
    best, gaps = statistics.behind_best(groups)
    expected = stats.tukey_hsd(*groups).confidence_interval(0.95)
    assert best == int(np.argmax([g.mean() for g in groups])) and gaps[best][0] == 0
    for k in range(4):
        if k != best:
            # Tukey's own uses the pooled variance only; ours is never narrower.
            assert gaps[k][1] <= expected.low[best, k] + 1e-6 and gaps[k][0] == pytest.approx(
                (expected.low[best, k] + expected.high[best, k]) / 2
            )
    assert gaps[0][1] > 0  # 0.2 apart with a deviation of 0.05
    assert np.isnan(statistics.behind_best([np.array([0.5]), np.array([0.7])])[1][0][1])


def test_curves_share_a_grid_that_all_seeds_reach():
    one = (np.array([0.0, 1.0, 3.0]), np.array([0.0, 1.0, 3.0]))
    other = (np.array([0.5, 2.0]), np.array([0.0, 3.0]))
    grid, values = statistics.curves([one, other])
    assert grid.tolist() == [0.5, 1.0, 2.0]
    assert values.tolist() == [[0.5, 1.0, 2.0], [0.0, 1.0, 3.0]]


def test_coverage_in_brief():
    """With three seeds 93 to 95 of 100 intervals hold the truth, as they should; plain percentiles 73."""
    assert coverage(statistics.iqm, 3, 150, draws=200) > 0.87
    assert 0.6 < coverage(statistics.iqm, 3, 150, stretch=False, draws=200) < 0.85
    assert coverage(statistics.iqm, 3, 150, stretch=False, stratified=True, draws=200) < 0.65


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "plain"), [(2, 0.48), (3, 0.73), (5, 0.85), (10, 0.91)])
def test_coverage_over_a_thousand_repeats(seeds, plain):
    for statistic in (statistics.mean, statistics.iqm):
        assert 0.90 < coverage(statistic, seeds, 1000) < 0.975
    assert coverage(statistics.mean, seeds, 1000, stretch=False) == pytest.approx(plain, abs=0.05)
    # Seeds drawn anew for each task: right where a seed has no luck of its own, far too narrow where it has.
    assert coverage(statistics.mean, seeds, 1000, stretch=False, stratified=True) < 0.65
    assert coverage(statistics.mean, seeds, 1000, stretch=False, stratified=True, luck=0.0) > plain - 0.03


@pytest.mark.slow
def test_differences_cover_over_a_thousand_repeats():
    rng = np.random.default_rng(4)
    for seeds in (2, 3, 5):
        held = []
        for _ in range(1000):
            x, y = rng.normal(0.8, 0.03, (seeds, 1)), rng.normal(0.75, 0.06, (seeds, 1))
            luck = rng.normal(0, 0.1, (seeds, 1))
            apart = statistics.difference(x, y, statistics.mean, rng, 400)
            pairs = statistics.paired_difference(x + luck, y + luck, statistics.mean, rng, 400)
            held.append([low <= 0.05 <= high for _, low, high in (apart, pairs)])
        assert (np.mean(held, 0) > 0.9).all() and (np.mean(held, 0) < 0.98).all()


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "seeds"), [(3, 3), (8, 3), (8, 5)])
def test_a_best_among_equals_is_rarely_called_better(groups, seeds):
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(1000):
        _, gaps = statistics.behind_best(list(rng.normal(0.8, 0.03, (groups, seeds))))
        wrong += any(low > 0 for _, low, _ in gaps)
    assert 0.005 < wrong / 1000 < 0.075
