import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import trim_mean

from ailft_bench.statistics import (
    area_under_curve,
    bootstrap_interval,
    iqm,
    mean,
    mean_band,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    step_curve,
    steps_to_threshold,
)

# The numbers expected of X and Y were computed with rliable 1.2.0.
X = np.array(
    [
        [0.10, 0.55, 0.90, 0.30],
        [0.20, 0.60, 0.70, 0.35],
        [0.15, 0.40, 1.10, 0.50],
        [0.30, 0.65, 0.80, 0.20],
        [0.25, 0.45, 1.00, 0.45],
    ]
)
Y = np.array(
    [
        [0.05, 0.50, 0.60, 0.30],
        [0.22, 0.52, 0.75, 0.25],
        [0.12, 0.41, 0.95, 0.33],
        [0.18, 0.58, 0.85, 0.28],
    ]
)
AGGREGATES = [mean, median, iqm]


def score_arrays(max_runs=8, max_tasks=4):
    shape = st.tuples(st.integers(1, max_runs), st.integers(1, max_tasks))
    return shape.flatmap(lambda s: arrays(np.float64, s, elements=st.floats(-10, 10, width=32)))


@pytest.mark.parametrize(
    ("statistic", "of_x", "of_y"),
    [
        (mean, 0.4975, 0.430625),
        (median, 0.445, 0.39625),
        (iqm, 0.455, 0.39625),
        (optimality_gap, 0.5075, 0.569375),
    ],
)
def test_aggregates_equal_rliable(statistic, of_x, of_y):
    assert statistic(X) == pytest.approx(of_x, abs=1e-12)
    assert statistic(Y) == pytest.approx(of_y, abs=1e-12)


def test_probability_of_improvement_equals_rliable_in_both_directions():
    assert probability_of_improvement(X, Y) == pytest.approx(0.68125)
    assert probability_of_improvement(Y, X) == pytest.approx(0.31875)


def test_bootstrap_interval_of_iqm_equals_rliable():
    low, high = bootstrap_interval(X, iqm, np.random.default_rng(0), repetitions=50000)
    assert (low, high) == (pytest.approx(0.395, abs=1e-9), pytest.approx(0.510, abs=1e-9))


def test_performance_profile_equals_rliable_and_is_strict():
    assert performance_profile(X, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx([1, 0.75, 0.4, 0.2, 0.05])


@given(score_arrays())
def test_iqm_is_scipys_trimmed_mean(scores):
    assert iqm(scores) == pytest.approx(trim_mean(scores, 0.25, axis=None), abs=1e-9)


def test_iqm_of_five_drops_one_at_each_end():
    assert iqm([[0], [1], [2], [3], [100]]) == 2


@given(score_arrays(), st.randoms(use_true_random=False))
def test_order_of_runs_does_not_matter(scores, random):
    shuffled = scores[random.sample(range(len(scores)), len(scores))]
    for statistic in [*AGGREGATES, optimality_gap]:
        assert statistic(shuffled) == pytest.approx(statistic(scores), abs=1e-9)


@given(score_arrays(), st.floats(0.1, 10), st.floats(-5, 5))
def test_aggregates_follow_a_change_of_unit(scores, scale, shift):
    for statistic in AGGREGATES:
        assert statistic(scale * scores + shift) == pytest.approx(scale * statistic(scores) + shift, abs=1e-6)


@given(score_arrays())
def test_aggregates_lie_between_extremes(scores):
    for statistic in AGGREGATES:
        assert scores.min() - 1e-9 <= statistic(scores) <= scores.max() + 1e-9


@given(score_arrays(max_tasks=1), score_arrays(max_tasks=1))
def test_improvement_of_swapped_arguments_sums_to_one_with_unequal_runs(x, y):
    forward, backward = probability_of_improvement(x, y), probability_of_improvement(y, x)
    assert 0 <= forward <= 1
    assert forward + backward == pytest.approx(1)


def test_improvement_of_always_better_is_one_and_of_ties_one_half():
    assert probability_of_improvement([[2.0], [3.0], [4.0]], [[1.0]]) == 1
    assert probability_of_improvement(np.ones((3, 2)), np.ones((5, 2))) == 0.5


def test_improvement_between_different_tasks_is_refused():
    with pytest.raises(ValueError, match="same tasks, got 4 and 3"):
        probability_of_improvement(X, Y[:, :3])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_missing_score_is_an_error_that_names_the_run(bad):
    scores = X.copy()
    scores[[1, 3], 2] = bad
    for call in (mean, median, iqm, optimality_gap, lambda s: performance_profile(s, [0.5])):
        with pytest.raises(ValueError, match="runs 1, 3 of 5"):
            call(scores)
    with pytest.raises(ValueError, match="runs 1, 3 of 5"):
        bootstrap_interval(scores, mean, np.random.default_rng(0))
    with pytest.raises(ValueError, match="runs 1, 3 of 5"):
        probability_of_improvement(Y, scores)


@pytest.mark.parametrize("scores", [[], [0.1, 0.2], np.zeros((2, 2, 2)), np.zeros((0, 3))])
def test_wrong_shape_is_an_error(scores):
    with pytest.raises(ValueError, match=r"\(runs, tasks\)"):
        mean(scores)


def test_single_run_has_no_interval():
    assert np.isnan(bootstrap_interval(X[:1], mean, np.random.default_rng(0))).all()


def test_interval_repeats_with_the_same_generator_and_contains_the_estimate():
    first, second = (bootstrap_interval(X, mean, np.random.default_rng(7)) for _ in range(2))
    assert first == second
    assert first[0] < mean(X) < first[1]


def test_interval_of_equal_runs_has_no_width():
    assert bootstrap_interval(np.ones((4, 2)), mean, np.random.default_rng(0)) == (1, 1)


def test_runs_are_resampled_within_tasks():
    # Tasks differ a hundredfold, runs not at all: resampling across tasks would give a wide interval.
    scores = np.tile([1.0, 100.0], (5, 1))
    assert bootstrap_interval(scores, mean, np.random.default_rng(0)) == (50.5, 50.5)


def test_impossible_confidence_is_refused():
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval(X, mean, np.random.default_rng(0), confidence=95)


def test_step_curve_carries_forward_and_never_extrapolates():
    curve = step_curve([10, 20, 40], [1.0, 2.0, 4.0], [0, 10, 15, 20, 30, 40, 50])
    np.testing.assert_array_equal(curve, [np.nan, 1, 1, 2, 2, 4, np.nan])


def test_step_curve_of_no_measurement_is_unknown_everywhere():
    assert np.isnan(step_curve([], [], [0, 1])).all()


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(-5, 5)), min_size=1, max_size=20, unique_by=lambda p: p[0]))
def test_step_curve_passes_through_its_measurements_in_any_order(points):
    steps, values = map(np.array, zip(*points, strict=True))
    np.testing.assert_array_equal(step_curve(steps, values, steps), values)


def test_band_of_complete_curves_is_the_interval_of_each_step():
    low, high = mean_band(X, np.random.default_rng(0), repetitions=20000)
    for step in range(X.shape[1]):
        exact = bootstrap_interval(X[:, [step]], mean, np.random.default_rng(1), repetitions=20000)
        assert (low[step], high[step]) == pytest.approx(exact, abs=0.02)


def test_band_uses_only_runs_that_reached_a_step():
    nan = np.nan
    curves = np.array([[0.0, 0.0, 5.0, 5.0], [1.0, 1.0, 5.0, 4.0], [0.0, 1.0, 5.0, nan], [9.0, nan, nan, nan]])
    low, high = mean_band(curves, np.random.default_rng(0))
    assert high[0] > 1 >= high[1]
    assert (low[2], high[2]) == (5, 5)
    assert np.isnan([low[3], high[3]]).all()  # of two runs


def test_area_under_curve_is_the_time_average():
    assert area_under_curve([0, 10, 30], [0.0, 1.0, 1.0]) == pytest.approx(25 / 30)
    unfinished = [[2.0, 2.0, 2.0], [1.0, np.nan, np.nan]]
    np.testing.assert_array_equal(area_under_curve([0, 10, 30], unfinished), [2, np.nan])
    with pytest.raises(ValueError, match="two increasing"):
        area_under_curve([0], [1.0])


@given(arrays(np.float64, (3, 6), elements=st.floats(-10, 10)), st.floats(0.1, 10), st.floats(-5, 5))
def test_area_follows_a_change_of_unit(curves, scale, shift):
    steps = [0, 1, 3, 4, 8, 9]
    expected = scale * area_under_curve(steps, curves) + shift
    np.testing.assert_allclose(area_under_curve(steps, scale * curves + shift), expected, atol=1e-9)


def test_steps_to_threshold_wants_a_streak_and_is_censored_at_the_end():
    steps, values = [0, 10, 20, 30, 40], [0.0, 3.0, 1.0, 3.0, 3.5]
    assert steps_to_threshold(steps, values, 3) == 10
    assert steps_to_threshold(steps, values, 3, consecutive=2) == 30
    assert steps_to_threshold(steps, values, 3, consecutive=3) == math.inf
    assert steps_to_threshold(steps, values, 4) == math.inf
    assert steps_to_threshold([], [], 1) == math.inf
