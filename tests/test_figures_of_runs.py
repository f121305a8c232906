"""Figures of one number a run, and of what the theory asks to be measured."""

import dataclasses
import itertools

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from synthetic_results import SyntheticRun, evaluation, write_all

from ailft_bench.figures import estimates, is_drawn, load, style, summaries, theory
from ailft_bench.figures.captions import estimate_caption
from ailft_bench.figures.comparison import Cell, comparisons
from ailft_bench.results import load_results

CONSERVATIVE, VMAIL = Cell("conservative", "default"), Cell("vmail", "default")
STEPS = (0, 100, 200, 300, 400)


def run(algorithm, seed, curve, **changes):
    """A run with the given sub-tasks completed at steps 0, 100, ..."""
    return SyntheticRun(
        algorithm, seed, {step: evaluation(value) for step, value in zip(STEPS, curve, strict=False)}, {}, **changes
    )


def comparison_of(tmp_path, runs):
    (comparison,) = comparisons(load_results(write_all(tmp_path / "results", runs), only=is_drawn))
    return comparison


@pytest.fixture
def study(tmp_path):
    """Two algorithms on three seeds; one run of VMAIL failed half way."""
    runs = [run("conservative", 0, [0, 2, 4, 4, 4]), run("conservative", 1, [0, 0, 2, 2, 3])]
    runs += [run("conservative", 2, [0, 1, 3, 1, 4])]
    runs += [run("vmail", 0, [0, 0, 1, 1, 1]), run("vmail", 1, [0, 0, 0, 2, 4])]
    runs += [run("vmail", 2, [0, 0, 0], state="failed")]
    return comparison_of(tmp_path, runs)


def values(table, cell, series="seed", metric=None):
    chosen = (table["algorithm"] == cell.algorithm) & (table["variant"] == cell.variant) & (table["series"] == series)
    if metric is not None:
        chosen &= table["metric"] == metric
    return table.loc[chosen]


def test_area_is_of_finished_runs_only(study):
    areas = summaries.area_table(study)
    assert values(areas, CONSERVATIVE)["value"].tolist() == [3, 1.375, 1.75]
    assert values(areas, VMAIL)["seed"].tolist() == [0, 1]
    final = values(areas, CONSERVATIVE, "final").iloc[0]
    assert (final["value"], final["runs"]) == (pytest.approx(np.mean([3, 1.375, 1.75])), 3)


def test_failed_run_is_censored_where_it_ended(study):
    arrivals = summaries.arrival_table(study)
    seeds = values(arrivals, VMAIL).set_index("seed")
    assert seeds["value"].fillna(-1).to_dict() == {0: -1, 1: 300, 2: -1}
    assert seeds["env_step"].to_dict() == {0: 400, 1: 400, 2: 200}
    # At step 300 two runs are left: one of them arrives.
    reached = values(arrivals, VMAIL, "reached")
    assert reached["value"].tolist() == [0, 0.5, 0.5]
    assert values(arrivals, CONSERVATIVE, "reached")["value"].iloc[-1] == 1


def test_improvement_is_of_the_algorithm_over_the_baseline_and_not_the_reverse(study):
    # Of the seeds finished in both: 4 and 3 against 1 and 4.
    table = summaries.improvement_table(study, summaries.baseline_of)
    assert values(table, CONSERVATIVE, "final")["value"].item() == pytest.approx((2 + 0.5) / 4)
    assert values(table, CONSERVATIVE, "final")["runs"].item() == 2
    assert values(table, VMAIL, "final").empty
    reverse = summaries.improvement_table(study, lambda comparison, cell: CONSERVATIVE)
    assert values(reverse, VMAIL, "final")["value"].item() == pytest.approx(1.5 / 4)


def test_improvement_over_vmail_is_drawn_whatever_a_suite_calls_it(tmp_path):
    runs = [run("unpenalised", 0, [0, 1], method="vmail", agent={"alpha": 0.0})]
    runs += [run("conservative", 0, [0, 2], agent={"alpha": 10.0})]
    comparison = comparison_of(tmp_path, runs)
    assert summaries.baseline_of(comparison) == Cell("unpenalised", "default")
    drawn = estimates.improvement(comparison, tmp_path)
    (data,) = (pd.read_csv(path) for path in drawn if path.suffix == ".csv")
    assert data[["algorithm", "value"]].to_numpy().tolist() == [["conservative", 1.0]]


def test_profile_falls_from_all_runs_to_none(study):
    profile = summaries.profile_table(study)
    own = profile[profile["algorithm"] == "conservative"].set_index("threshold")["value"]
    assert own[2.0] == 1
    assert own[3.0] == pytest.approx(2 / 3)
    assert own[4.0] == 0


def test_stability_is_that_of_the_hand_examples(study):
    table = summaries.stability_table(study)
    lost = values(table, CONSERVATIVE, metric="drawdown").set_index("seed")["value"]
    assert lost.to_dict() == {0: 0, 1: 0, 2: 2}
    spread = values(table, CONSERVATIVE, "final", "dispersion_across_runs").iloc[0]
    assert (spread["value"], spread["runs"]) == (0.5, 3)


def test_sensitivity_groups_what_differs_in_one_setting_alone(tmp_path):
    def with_settings(algorithm, variant, seed, score, **agent):
        settings = {"online": True, "alpha": 3.0, "ensemble_size": 7, "lam": 0.95} | agent
        return run(algorithm, seed, [0, score, score, score, score], variant=variant, agent=settings)

    runs = [with_settings("conservative", "default", seed, 3) for seed in (0, 1)]
    runs += [with_settings("conservative", "mild", seed, 2, alpha=1.0) for seed in (0, 1)]
    runs += [with_settings("vmail", "default", seed, 1, alpha=0.0) for seed in (0, 1)]
    runs += [with_settings("conservative", "both", seed, 4, alpha=1.0, ensemble_size=3) for seed in (0, 1)]
    table = summaries.sensitivity_table(comparison_of(tmp_path, runs))
    points = table[table["series"] == "final"]
    alpha = points[points["setting"] == "alpha"]
    assert alpha.set_index("x")["value"].to_dict() == {0: 1, 1: 2, 3: 3}
    members = points[points["setting"] == "ensemble_size"]
    assert members.set_index("x")["value"].to_dict() == {3: 4, 7: 2}
    assert set(table["setting"]) == {"alpha", "ensemble_size"}


def test_line_of_a_sensitivity_compares_the_seeds_that_all_values_have(tmp_path):
    def at(alpha, seed, score):
        agent = {"online": True, "alpha": alpha}
        return run(f"alpha_{alpha:g}", seed, [0, score, score], method="conservative", agent=agent)

    runs = [at(0.0, 0, 1), at(0.0, 1, 2), at(0.0, 2, 4), at(0.0, 3, 4)]
    runs += [at(10.0, 0, 2), at(10.0, 1, 3), at(10.0, 4, 0)]
    runs += [dataclasses.replace(at(30.0, 0, 2), state="failed")]
    table = summaries.sensitivity_table(comparison_of(tmp_path, runs))
    points = table[table["series"] == "final"].set_index("x")
    assert points["value"].to_dict() == {0: 2.75, 10: pytest.approx(5 / 3)}
    assert points["paired"].to_dict() == {0: 1.5, 10: 2.5}


def two_lines(tmp_path):
    """Entries of one method that differ in alpha, each with and without the cloning term."""
    runs = []
    for alpha in (0.0, 1.0, 10.0):
        for variant, scale in (("default", 0.5), ("no_cloning", 0.0)):
            agent = {"online": True, "alpha": alpha, "bc_scale": scale}
            changes = {"method": "conservative", "variant": variant, "agent": agent}
            score = 2 + scale * (alpha < 5)
            runs += [run(f"alpha_{alpha:g}", seed, [0, score, score], **changes) for seed in (0, 1)]
    return comparison_of(tmp_path, runs)


def test_variants_of_entries_that_differ_in_a_setting_are_two_lines(tmp_path):
    table = summaries.sensitivity_table(two_lines(tmp_path))
    points = table[table["series"] == "final"]
    lines = {name: own.set_index("x")["value"].to_dict() for name, own in points.groupby("group", sort=False)}
    assert lines == {
        "conservative, bc_scale 0.5": {0: 2.5, 1: 2.5, 10: 2},
        "conservative, bc_scale 0": {0: 2, 1: 2, 10: 2},
    }
    assert list(lines) == ["conservative, bc_scale 0.5", "conservative, bc_scale 0"]


def sensitivity_caption(comparison, folder):
    return Image.open(estimates.sensitivity(comparison, folder)[0]).text["Description"]


def test_only_default_of_a_line_is_marked_and_only_then_explained(tmp_path):
    entries = two_lines(tmp_path / "entries")
    assert not summaries.sensitivity_table(entries)["default"].any()
    assert "filled square" not in sensitivity_caption(entries, tmp_path)

    alphas = {"default": 3.0, "mild": 1.0, "strong": 9.0}
    runs = [
        run("conservative", seed, [0, 1], variant=variant, agent={"online": True, "alpha": alpha})
        for variant, alpha in alphas.items()
        for seed in (0, 1)
    ]
    variants = comparison_of(tmp_path / "variants", runs)
    table = summaries.sensitivity_table(variants)
    assert set(table.loc[table["default"], "x"]) == {3}
    assert "filled square: the default" in sensitivity_caption(variants, tmp_path)


def test_suite_without_baseline_variants_or_diagnostics_has_no_such_figures(tmp_path):
    comparison = comparison_of(tmp_path, [run("conservative", seed, [0, 1, 2, 3, 4]) for seed in (0, 1)])
    for draw in (estimates.improvement, estimates.sensitivity, theory.terms, theory.calibration):
        assert draw(comparison, tmp_path) == []


def test_theory_is_drawn_from_training_and_evaluation(tmp_path):
    diagnostics = {"disagreement/fresh": 0.2, "model/one_step_error": 0.5, "disagreement/calibration": 0.9}
    diagnostics |= {"model/action_effect": 0.4, "gradient/reward_cosine": -0.1}
    diagnostics |= {"gradient/reward_mean_cosine": 0.1, "gradient/penalty_mean_cosine": 0.0}
    for seed in (0, 1):
        measured = {step: evaluation(1) | diagnostics for step in STEPS}
        directory = SyntheticRun("conservative", seed, measured, {}, state="waiting").write(tmp_path / "results")
        for step in (0, 50, 100):
            directory.metrics.append("train", step, 0, {"discriminator/total_variation": 1 - step / 200}, 1.0)
        directory.finish()
    (comparison,) = comparisons(load_results(tmp_path / "results"))
    with matplotlib.rc_context(style.RC):
        drawn = theory.terms(comparison, tmp_path) + theory.calibration(comparison, tmp_path)
    assert {path.name for path in drawn if path.suffix == ".png"} == {
        "kitchen-cpu-theory.png",
        "kitchen-cpu-calibration.png",
    }
    data = pd.read_csv(tmp_path / "kitchen-cpu-theory.csv")
    assert set(data["metric"]) == set(theory.PANELS) - {"disagreement/imagined"}  # which nobody measured
    points = summaries.calibration_table(comparison)
    assert len(points) == 2 * len(STEPS)
    assert set(points["disagreement"]) == {0.2}


def test_small_disagreements_have_labels_that_keep_apart(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(style, "save", lambda figure, *rest: figures.append(figure) or [])
    for step, disagreement in zip(STEPS, np.linspace(0.0148, 0.0335, len(STEPS)), strict=True):
        measured = {"disagreement/fresh": float(disagreement), "model/one_step_error": 0.2 - step / 6000}
        SyntheticRun("conservative", step, {step: evaluation(1) | measured}, {}).write(tmp_path / "results")
    (comparison,) = comparisons(load_results(tmp_path / "results"))
    with style.appearance(for_print=False, captions=True):
        theory.calibration(comparison, tmp_path)
        FigureCanvasAgg(figures[0]).draw()
        axes = figures[0].axes[0]
        (low, high), labels = axes.get_xlim(), axes.get_xticklabels()
        boxes = [label.get_window_extent() for label in labels if low <= label.get_position()[0] <= high]
    assert len(boxes) > 2
    assert all(right.x0 - left.x1 > left.height / 2 for left, right in itertools.pairwise(boxes))


def test_captions_say_seeds_interval_scale_budget_and_what_is_missing(study):
    text = estimate_caption(study, "What.", offline=True)
    for part in (
        "scale cpu",
        "400 environment steps",
        "95 % stratified bootstrap",
        "optimistic",
        "vmail seed 2 failed",
    ):
        assert part in text


def test_reading_for_figures_leaves_out_what_no_figure_shows(tmp_path):
    single = SyntheticRun("conservative", 0, {0: evaluation(1) | {"model/loss": 1.0}}, {100: 1.0})
    write_all(tmp_path, [single])
    everything, drawn = load_results(tmp_path), load(tmp_path, "kitchen", None)
    assert set(everything.metrics["metric"]) - set(drawn.metrics["metric"]) == {"model/loss", "critic/loss"}
    assert set(everything.metrics) - set(drawn.metrics) == {"episode", "wall_time_s"}
