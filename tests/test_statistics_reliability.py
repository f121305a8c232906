import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from ailft_bench.statistics import (
    cost_rate,
    cost_regret,
    curve_range,
    cvar,
    dispersion_across_runs,
    dispersion_across_time,
    drawdown,
    exceedance,
    feasible_score,
    interquartile_range,
    long_term_risk,
    risk_across_runs,
    short_term_risk,
)

# The numbers expected of these curves were computed with rl-reliability-metrics.
STEPS = np.arange(10)
CURVES = np.array(
    [
        [0, 1, 3, 2, 4, 6, 5, 3, 7, 8],
        [0, 2, 2, 5, 4, 4, 7, 8, 6, 9],
        [1, 1, 0, 2, 3, 5, 5, 6, 8, 7],
    ],
    dtype=float,
)
values = arrays(np.float64, st.integers(3, 12), elements=st.floats(-10, 10, width=32))


def test_dispersion_and_risk_across_time_equal_the_reference():
    assert [dispersion_across_time(STEPS, curve) for curve in CURVES] == [3, 3, 2]
    assert [short_term_risk(STEPS, curve) for curve in CURVES] == [-2, -2, -1]
    assert [long_term_risk(curve) for curve in CURVES] == [3, 2, 1]
    assert [curve_range(curve) for curve in CURVES] == pytest.approx([7.55, 8.55, 6.55])
    assert drawdown(CURVES[0]).tolist() == [0, 0, 0, 1, 0, 0, 1, 3, 0, 0]


def test_dispersion_and_risk_across_runs_equal_the_reference():
    assert dispersion_across_runs(CURVES).tolist() == [0.5, 0.5, 1.5, 1.5, 0.5, 1, 1, 2.5, 1, 1]
    assert risk_across_runs(CURVES).tolist() == [0, 1, 0, 2, 3, 4, 5, 3, 6, 7]


def test_differences_are_per_step():
    assert dispersion_across_time(10 * STEPS, CURVES[0]) == pytest.approx(0.3)
    assert short_term_risk(10 * STEPS, CURVES[0]) == pytest.approx(-0.2)


def test_dispersion_in_windows_of_a_hand_example():
    # Differences 1, 1, 5, 5: quartile ranges of the windows of two are 0, 2, 0.
    assert dispersion_across_time([0, 1, 2, 3, 4], [0, 1, 2, 7, 12], window=2) == pytest.approx(2 / 3)


def test_steady_learning_has_no_dispersion_and_no_risk():
    line = 3.0 * STEPS
    assert dispersion_across_time(STEPS, line) == 0
    assert short_term_risk(STEPS, line) == 3
    assert long_term_risk(line) == 0


def test_one_measurement_has_no_dispersion_in_time():
    assert np.isnan(dispersion_across_time([0], [1.0]))
    assert np.isnan(short_term_risk([0], [1.0]))
    assert long_term_risk([1.0]) == 0


@given(values)
def test_rising_curves_draw_down_never_and_falling_ones_all_the_way(curve):
    assert long_term_risk(np.sort(curve)) == 0
    assert drawdown(np.sort(curve)[::-1])[-1] == pytest.approx(np.ptp(curve))


@given(values, st.floats(0.1, 10), st.floats(-5, 5))
def test_spread_follows_a_change_of_unit(curve, scale, shift):
    steps = np.arange(curve.size)
    changed = scale * curve + shift
    for measure in (dispersion_across_time, short_term_risk):
        assert measure(steps, changed) == pytest.approx(scale * measure(steps, curve), abs=1e-6)
    assert long_term_risk(changed) == pytest.approx(scale * long_term_risk(curve), abs=1e-6)
    assert curve_range(changed) == pytest.approx(scale * curve_range(curve), abs=1e-6)


@given(values, st.floats(0.02, 0.98))
def test_tails_are_mirror_images_beyond_the_mean(sample, share):
    lower, upper = cvar(sample, share), cvar(sample, share, "upper")
    assert lower <= sample.mean() + 1e-9
    assert upper >= sample.mean() - 1e-9
    assert cvar(-sample, share, "upper") == pytest.approx(-lower)


def test_tail_of_a_hand_example():
    assert cvar(np.arange(1, 11), 0.2) == 1.5
    assert cvar(np.arange(1, 11), 0.2, "upper") == 9.5
    assert cvar([4.0], 0.1) == 4


@given(values)
def test_interquartile_range_is_scipys(sample):
    assert interquartile_range(sample) == pytest.approx(stats.iqr(sample), abs=1e-9)


@pytest.mark.parametrize("bad", [[], [1.0, np.nan], [[1.0]]])
def test_missing_values_are_an_error(bad):
    for measure in (cvar, drawdown, interquartile_range, curve_range, lambda v: exceedance(v, 1)):
        with pytest.raises(ValueError, match=r"must be a non-empty row|not finite at 1"):
            measure(bad)


def test_curve_with_a_missing_run_is_an_error_that_names_it():
    broken = CURVES.copy()
    broken[1, 3] = np.nan
    with pytest.raises(ValueError, match="runs 1 of 3"):
        dispersion_across_runs(broken)


def test_steps_that_do_not_increase_are_refused():
    with pytest.raises(ValueError, match="increase"):
        dispersion_across_time([0, 0, 1], [1.0, 2.0, 3.0])


def test_safety_of_a_hand_example():
    costs = [0, 2, 10]
    assert cost_rate(costs, [100, 100, 200]) == 12 / 400
    assert exceedance(costs, 2) == 1 / 3
    assert cost_regret(costs, 1) == 1 + 9
    assert cvar(costs, 0.1, "upper") == 10


def test_feasible_score_comes_with_its_share():
    assert feasible_score([4.0, 1.0, 3.0], [9, 0, 1], limit=1) == (2 / 3, 2.0)
    share, score = feasible_score([4.0], [9], limit=1)
    assert share == 0
    assert np.isnan(score)


@given(values, st.floats(-10, 10))
def test_regret_is_never_negative_and_zero_exactly_where_nothing_exceeds(costs, limit):
    regret = cost_regret(costs, limit)
    assert regret >= 0
    assert (regret == 0) == (exceedance(costs, limit) == 0)


def test_costs_need_steps_and_scores_need_costs():
    with pytest.raises(ValueError, match="positive number of steps"):
        cost_rate([1.0], [0])
    with pytest.raises(ValueError, match="a score and a cost"):
        feasible_score([1.0, 2.0], [0.0], 1)
