"""Figures of tuning studies, and where a setting stands on their axes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from studies import make_plan, play

from ailft_bench.figures import tuning as figures
from ailft_bench.figures.parameter_axis import ParameterAxis
from ailft_bench.tuning import space


def test_values_outside_of_the_choices_stand_right_of_them_and_null_among_them() -> None:
    axis = ParameterAxis(space.parse("horizon", "choice[4,5]", "here"), pd.Series([3, 5, 4]))
    assert list(axis.places(pd.Series([3, 5, 4]))) == [2, 1, 0]
    assert axis.limits == (-0.5, 2.5)
    values = pd.Series([0.8, None])
    assert list(ParameterAxis(space.parse("kl_balance", "choice[null,0.8]", "here"), values).places(values)) == [1, 0]


def test_null_has_no_place_among_numbers() -> None:
    values = pd.Series([None, 50, 300])
    axis = ParameterAxis(space.parse("imagination_starts", "int[50,300]", "here"), values)
    assert axis.limits == (40, 310)
    assert list(axis.inside) == [False, True, True]
    assert axis.places(values) == pytest.approx([float("nan"), 50, 300], nan_ok=True)


def test_every_figure_lies_beside_its_table(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, "alpha", "lambda", trials=12, objective="return,cost")
    study, outcome, _ = play(tmp_path, plan)
    drawn = figures.plot(plan, outcome, study.optuna(), tmp_path / "figures")
    stems = [f"{plan.name}-{name}" for name in ("history", "slice", "importance", "map-alpha-lam", "pareto")]
    assert [path.name for path in drawn] == [f"{stem}{end}" for stem in stems for end in (".png", ".pdf", ".csv")]
    tables = {name: pd.read_csv(tmp_path / "figures" / f"{plan.name}-{name}.csv") for name in ("history", "pareto")}
    history, pareto = tables["history"], tables["pareto"]
    assert list(history["value"]) == pytest.approx([trial.mean("return") for trial in outcome.trials])
    assert (history["low"] <= history["value"]).all()
    assert {f"seed {seed}" for seed in plan.seeds["tune"]} <= set(history.columns)
    assert set(outcome.candidates) <= set(pareto.loc[pareto["front"], "trial"])


def test_zero_stands_left_of_a_logarithmic_axis() -> None:
    values = pd.Series([3.0, 0.0, 0.1, 30.0])
    axis = ParameterAxis(space.parse("alpha", "log[0.1,30]", "here"), values)
    places = axis.places(values)
    assert list(axis.inside) == [True, False, True, True]
    assert axis.limits[0] < places[1] < places[2] < places[0] < places[3] < axis.limits[1]
