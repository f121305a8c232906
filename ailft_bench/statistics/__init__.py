"""Statistics over training runs: aggregates, intervals, comparisons, learning curves, stability, safety.

The unit of replication is the training run (a seed): average a run's evaluation episodes first. Scores are
arrays ``(runs, tasks)``, runs first; curves are ``(runs, steps)``. Randomness is a generator that the caller
passes in; nothing here reads files.
"""

from ailft_bench.statistics.aggregates import iqm, mean, median, optimality_gap, performance_profile
from ailft_bench.statistics.arrays import Floats
from ailft_bench.statistics.comparisons import (
    benjamini_hochberg,
    holm,
    improvement_interval,
    paired_interval,
    probability_of_improvement,
    sign_flip_test,
)
from ailft_bench.statistics.curves import (
    area_under_curve,
    median_time,
    restricted_mean_time,
    step_curve,
    steps_to_threshold,
    survival,
)
from ailft_bench.statistics.intervals import (
    FEWEST_RUNS,
    bootstrap_interval,
    mean_band,
    proportion_interval,
    ragged_bootstrap_interval,
)
from ailft_bench.statistics.reliability import (
    curve_range,
    cvar,
    dispersion_across_runs,
    dispersion_across_time,
    drawdown,
    interquartile_range,
    long_term_risk,
    risk_across_runs,
    short_term_risk,
)
from ailft_bench.statistics.safety import cost_rate, cost_regret, exceedance, feasible_score
from ailft_bench.statistics.seeds import (
    FEW_SEEDS,
    advice,
    expected_width,
    runs_for_tolerance,
    tolerance_interval,
    tolerance_share,
)

__all__ = [
    "FEWEST_RUNS",
    "FEW_SEEDS",
    "Floats",
    "advice",
    "area_under_curve",
    "benjamini_hochberg",
    "bootstrap_interval",
    "cost_rate",
    "cost_regret",
    "curve_range",
    "cvar",
    "dispersion_across_runs",
    "dispersion_across_time",
    "drawdown",
    "exceedance",
    "expected_width",
    "feasible_score",
    "holm",
    "improvement_interval",
    "interquartile_range",
    "iqm",
    "long_term_risk",
    "mean",
    "mean_band",
    "median",
    "median_time",
    "optimality_gap",
    "paired_interval",
    "performance_profile",
    "probability_of_improvement",
    "proportion_interval",
    "ragged_bootstrap_interval",
    "restricted_mean_time",
    "risk_across_runs",
    "runs_for_tolerance",
    "short_term_risk",
    "sign_flip_test",
    "step_curve",
    "steps_to_threshold",
    "survival",
    "tolerance_interval",
    "tolerance_share",
]
