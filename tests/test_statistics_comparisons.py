import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from test_statistics import X, Y

from ailft_bench.statistics import (
    advice,
    benjamini_hochberg,
    bootstrap_interval,
    expected_width,
    holm,
    improvement_interval,
    iqm,
    mean,
    median_time,
    paired_interval,
    probability_of_improvement,
    proportion_interval,
    ragged_bootstrap_interval,
    restricted_mean_time,
    runs_for_tolerance,
    sign_flip_test,
    survival,
    tolerance_interval,
    tolerance_share,
)


def rng():
    return np.random.default_rng(0)


def test_interval_of_improvement_equals_rliable():
    low, high = improvement_interval(X, Y, rng(), repetitions=50000)
    assert (low, high) == (pytest.approx(0.475, abs=0.0126), pytest.approx(0.850, abs=0.0126))
    assert low < probability_of_improvement(X, Y) < high


def test_interval_of_swapped_improvement_is_its_mirror_image():
    low, high = improvement_interval(X, Y, rng(), repetitions=20000)
    swapped = improvement_interval(Y, X, rng(), repetitions=20000)
    assert swapped == (pytest.approx(1 - high, abs=0.02), pytest.approx(1 - low, abs=0.02))


def test_interval_of_certain_improvement_ties_and_single_runs():
    assert improvement_interval([[2.0], [3.0], [2.5]], [[0.0], [1.0], [1.5]], rng()) == (1, 1)
    assert improvement_interval(np.ones((3, 2)), np.ones((5, 2)), rng()) == pytest.approx((0.5, 0.5))
    assert np.isnan(improvement_interval(X[:2], Y, rng())).all()


def test_pairs_are_resampled_together():
    # The same difference on every seed has no spread, however much seeds differ.
    shared = np.array([[0.0], [10.0], [20.0], [30.0]])
    assert paired_interval(shared + 1, shared, rng()) == (1, 1)
    assert paired_interval(shared, shared + 1, rng()) == (-1, -1)
    assert np.isnan(paired_interval([[1.0], [3.0]], [[0.0], [1.0]], rng())).all()


def test_interval_of_paired_means_is_that_of_their_differences():
    x, y = X[:4], Y
    paired = paired_interval(x, y, rng(), repetitions=20000)
    assert paired == pytest.approx(bootstrap_interval(x - y, mean, rng(), repetitions=20000), abs=0.005)


@pytest.mark.parametrize("function", [paired_interval, sign_flip_test])
def test_pairs_of_unequal_seeds_are_refused(function):
    with pytest.raises(ValueError, match="same seeds"):
        function(X, Y, rng())


@pytest.mark.parametrize(("pairs", "smallest"), [(5, 0.0625), (6, 0.03125), (10, 2 / 1024)])
def test_sign_flip_test_has_a_smallest_p_value(pairs, smallest):
    x = np.arange(1.0, pairs + 1)[:, None]
    assert sign_flip_test(x, np.zeros_like(x), rng()) == pytest.approx(smallest)
    assert sign_flip_test(np.zeros_like(x), x, rng()) == pytest.approx(smallest)


@given(arrays(np.float64, (6, 2), elements=st.floats(-5, 5, width=16)))
def test_sign_flip_test_is_scipys_and_does_not_depend_on_the_order(x):
    y = np.zeros_like(x)
    expected = stats.permutation_test(
        (x.mean(axis=1),), np.mean, permutation_type="samples", alternative="two-sided", n_resamples=np.inf
    ).pvalue
    assert sign_flip_test(x, y, rng()) == pytest.approx(min(expected, 1), abs=1e-9)
    assert sign_flip_test(y, x, rng()) == sign_flip_test(x, y, rng())


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=7))
def test_sign_flip_test_counts_equal_sums_however_they_are_rounded(twentieths):
    # Scores are means of so many episodes: differences are no binary fractions, and their sum is often zero.
    differences = [*twentieths, -sum(twentieths[1:])]
    signs = np.array(list(product((1, -1), repeat=len(differences))))
    exact = (np.abs(signs @ differences) >= abs(sum(differences))).mean()
    x = np.array(differences)[:, None] / 20
    assert sign_flip_test(x, np.zeros_like(x), rng()) == pytest.approx(exact)


def test_sign_flip_test_of_equal_runs_sees_nothing_and_of_many_pairs_draws_signs():
    assert sign_flip_test(X, X, rng()) == 1
    many = np.random.default_rng(1).normal(0.4, 1, size=(30, 1))
    drawn = sign_flip_test(many, np.zeros_like(many), rng())
    assert drawn == pytest.approx(stats.ttest_1samp(many[:, 0], 0).pvalue, abs=0.02)


def test_holm_of_a_hand_example():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])


@given(arrays(np.float64, st.integers(1, 8), elements=st.floats(0, 1)))
def test_corrections_never_lower_a_p_value_and_equal_scipys(p):
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p), abs=1e-12)
    assert (holm(p) >= benjamini_hochberg(p) - 1e-12).all()
    assert (benjamini_hochberg(p) >= p - 1e-12).all()


@pytest.mark.parametrize("correction", [holm, benjamini_hochberg])
def test_what_is_no_p_value_is_refused(correction):
    for bad in ([], [math.nan], [1.2]):
        with pytest.raises(ValueError, match="p-values"):
            correction(bad)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_of_a_share_is_wilsons(counts):
    expected = stats.binomtest(*counts).proportion_ci(method="wilson")
    assert proportion_interval(*counts) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_more_successes_than_trials_are_refused():
    for counts in ((3, 2), (0, 0), (-1, 4)):
        with pytest.raises(ValueError, match="successes"):
            proportion_interval(*counts)


def test_unequal_runs_by_task_are_resampled_and_none_is_cut():
    def pooled(rows):
        return mean(np.concatenate(rows)[:, None])

    low, high = ragged_bootstrap_interval([X[:, 0], Y[:, 0]], pooled, rng(), repetitions=5000)
    assert low < pooled([X[:, 0], Y[:, 0]]) < high
    # The ninth run is the only one with a 9, and it is drawn at times.
    assert ragged_bootstrap_interval([[0.0] * 4, [0.0, 0.0, 9.0]], lambda r: r[1].max(), rng()) == (0, 9)
    assert np.isnan(ragged_bootstrap_interval([[1.0, 2.0], [1.0, 2.0, 3.0]], pooled, rng())).all()
    with pytest.raises(ValueError, match="not finite at 1"):
        ragged_bootstrap_interval([[1.0, math.nan]], pooled, rng())


def test_survival_of_a_hand_example_with_a_run_that_ended_early():
    # Reached at 10 and 30; one ended at 20 without, one ran to 40 without.
    times, ends = [10, math.inf, 30, math.inf], [40, 20, 40, 40]
    steps, shares = survival(times, ends)
    assert steps.tolist() == [10, 30]
    assert shares == pytest.approx([3 / 4, 3 / 4 * 1 / 2])
    assert median_time(times, ends) == 30
    assert restricted_mean_time(times, ends, 40) == pytest.approx(10 + 20 * 3 / 4 + 10 * 3 / 8)


def test_threshold_that_no_run_reaches_has_no_median_and_the_whole_horizon_as_mean():
    never = [math.inf, math.inf]
    assert median_time(never, [40, 40]) == math.inf
    assert restricted_mean_time(never, [40, 40], 40) == 40
    with pytest.raises(ValueError, match="2 numbers"):
        survival([math.nan, 1], [40, 40])


@given(st.lists(st.integers(1, 100), min_size=1, max_size=9))
def test_without_censoring_the_restricted_mean_is_the_mean(times):
    assert restricted_mean_time(times, [100] * len(times), 100) == pytest.approx(np.mean(times))


def test_minimum_to_maximum_covers_what_the_table_says():
    shares = [round(tolerance_share(runs), 2) for runs in (5, 10, 20, 30)]
    assert shares == [0.34, 0.61, 0.78, 0.85]
    assert tolerance_share(5) == pytest.approx(stats.beta.ppf(0.05, 4, 2))


def test_runs_needed_for_a_tolerance_interval():
    assert (runs_for_tolerance(0.95), runs_for_tolerance(0.95, sided=1)) == (93, 59)


def test_tolerance_interval_drops_as_many_ends_as_it_may():
    values = np.random.default_rng(0).permutation(100)
    low, high = tolerance_interval(values, share=0.5)
    assert (
        stats.beta.sf(0.5, high - low, 101 - (high - low))
        >= 0.95
        > stats.beta.sf(0.5, high - low - 2, 103 - high + low)
    )
    assert np.isnan(tolerance_interval([1.0, 2.0, 3.0], share=0.9)).all()
    assert tolerance_interval([3.0, 1.0, 2.0, 5.0, 4.0], share=0.34) == (1, 5)


def test_more_seeds_narrow_the_interval():
    few, more, many = (expected_width(X, iqm, runs, rng()) for runs in (3, 10, 40))
    assert few > more > many > 0
    assert expected_width(X, iqm, 5, rng()) == pytest.approx(np.subtract(*bootstrap_interval(X, iqm, rng())[::-1]))
    assert math.isnan(expected_width(X[:1], iqm, 10, rng()))


def test_advice_says_what_few_seeds_are_worth():
    assert advice(2).startswith("Intervals are of 3 seeds or more")
    assert "optimistic" in advice(5)
    assert "optimistic" not in advice(6)
    assert advice(6)
    assert advice(10) == ""
