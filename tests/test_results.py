import json
import os
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from synthetic_results import SyntheticRun, evaluation, write_all

from ailft_bench.durable import write_bytes
from ailft_bench.errors import UserError
from ailft_bench.results import RUN_COLUMNS, SCHEMA, load_results, newest_suite, write_table
from ailft_bench.store import RunDirectory

CURVE = {0: evaluation(0), 100: evaluation(1), 400: evaluation(2)}
COSTS = {100: 5.0, 200: 3.0}


def run(algorithm="conservative", seed=0, **changes):
    return SyntheticRun(algorithm, seed, **{"evaluations": CURVE, "costs": COSTS, **changes})


def states(results):
    return {(row.algorithm, row.seed): row.state for row in results.runs.itertuples()}


def test_finished_unfinished_failed_and_torn_runs_are_all_there(tmp_path):
    kinds = ["done", "waiting", "failed", "torn"]
    write_all(tmp_path, [run(seed=seed, state=state) for seed, state in enumerate(kinds)])
    results = load_results(tmp_path)
    expected = {0: "done", 1: "waiting", 2: "failed", 3: "waiting"}
    assert states(results) == {("conservative", seed): state for seed, state in expected.items()}
    # The torn line of seed 3 had begun a measurement at step 400 that is there already, whole.
    assert results.metrics.groupby("seed").size().nunique() == 1
    assert results.runs["env_steps"].tolist() == [400] * 4
    assert results.runs["reason"].tolist() == ["", "", "ValueError: the loss is not finite", ""]


def test_values_are_those_that_were_measured(tmp_path):
    write_all(tmp_path, [run(seed=3), run(seed=4, state="waiting")])
    metrics = load_results(tmp_path).metrics
    for seed in (3, 4):
        own = metrics[(metrics["seed"] == seed) & (metrics["phase"] == "eval")]
        curve = own[own["metric"] == "tasks_completed"]
        assert dict(zip(curve["env_step"], curve["value"], strict=True)) == {0: 0, 100: 1, 400: 2}
        assert own.loc[own["env_step"] == 100, "wall_time_s"].unique() == [10]
    assert metrics.loc[metrics["metric"] == "cost", "value"].sum() == 2 * 8


@pytest.mark.parametrize("kinds", [["done"], ["waiting"], ["done", "waiting"]])
def test_dtypes_do_not_depend_on_what_is_finished(tmp_path, kinds):
    write_all(tmp_path, [run(seed=seed, state=state) for seed, state in enumerate(kinds)])
    results = load_results(tmp_path)
    kinds = {name: str(dtype) for name, dtype in results.metrics.dtypes.items()}
    numbers = {
        "seed": "int64",
        "env_step": "int64",
        "episode": "int64",
        "value": "float64",
        "wall_time_s": "float64",
    }
    assert kinds == {name: numbers.get(name, "category") for name in SCHEMA.names}
    assert {name: str(dtype) for name, dtype in results.runs.dtypes.items()} == RUN_COLUMNS


def test_run_without_a_measurement_is_a_run_and_no_row(tmp_path):
    write_all(tmp_path, [run(evaluations={}, costs={}, state="waiting")])
    results = load_results(tmp_path)
    assert results.metrics.empty
    assert results.runs[["state", "env_steps", "budget"]].values.tolist() == [["waiting", 0, 400]]


def test_seed_that_only_another_algorithm_has_is_missing(tmp_path):
    write_all(tmp_path, [run(seed=0), run(seed=1), run("vmail", 1), run("vmail", 7, scale="paper")])
    results = load_results(tmp_path, scale="cpu")
    assert states(results) == {
        ("conservative", 0): "done",
        ("conservative", 1): "done",
        ("vmail", 0): "missing",
        ("vmail", 1): "done",
    }
    missing = results.runs[results.runs["state"] == "missing"].iloc[0]
    assert (missing["run_id"], missing["env_steps"], missing["reason"]) == ("", 0, "never started")


@pytest.mark.parametrize("finished_first", [True, False])
def test_copied_run_counts_once_and_the_finished_copy_wins(tmp_path, finished_first):
    directory = run().write(tmp_path).path
    names = ["seed-0-a", "seed-0-b"]
    copy = directory.with_name(names[finished_first])
    shutil.copytree(directory, copy)
    os.remove(copy / "done")
    directory.rename(directory.with_name(names[not finished_first]))
    results = load_results(tmp_path)
    assert results.runs["state"].tolist() == ["done"]
    assert not results.metrics.duplicated(["run_id", "phase", "env_step", "episode", "metric"]).any()


def test_same_science_under_two_labels_is_in_both(tmp_path):
    for label in ("a", "b"):
        directory = run(variant=label).write(tmp_path).path
        spec = json.loads((directory / "run.json").read_text()) | {"run_id": "c0ffee"}
        (directory / "run.json").write_text(json.dumps(spec))
        os.remove(directory / "done")
        os.remove(directory / "result.parquet")
    results = load_results(tmp_path)
    assert results.runs["variant"].tolist() == ["a", "b"]
    sizes = results.metrics.groupby("variant").size()
    assert sizes["a"] == sizes["b"] > 0


def test_older_configuration_under_the_same_label_is_superseded(tmp_path):
    old = [run(seed=seed, agent={"alpha": 1.0}) for seed in (0, 1)]
    new = run(seed=0, agent={"alpha": 3.0}, created="2026-11-02T00:00:00", state="waiting")
    write_all(tmp_path, [*old, new])
    runs = load_results(tmp_path).runs
    assert runs.loc[runs["superseded"], "run_id"].tolist() == [spec.run_id for spec in old]
    assert runs.loc[~runs["superseded"], "run_id"].tolist() == [new.run_id]


def test_configuration_that_was_asked_for_again_is_back(tmp_path):
    old = [run(seed=seed, agent={"alpha": 1.0}) for seed in (0, 1)]
    new = run(seed=0, agent={"alpha": 3.0}, created="2026-11-02T00:00:00")
    write_all(tmp_path, [*old, new, *(run("vmail", seed) for seed in (0, 1))])
    runs = load_results(tmp_path).runs
    assert runs.loc[runs["state"] == "missing", "reason"].tolist() == ["there in another configuration alone"]
    RunDirectory(old[1].spec.directory(tmp_path)).ask_again()
    runs = load_results(tmp_path).runs
    assert runs.loc[runs["superseded"], "run_id"].tolist() == [new.run_id]
    assert set(runs["state"]) == {"done"}


def test_newest_configuration_is_the_newest_whatever_the_clock_of_its_place_said(tmp_path):
    early = run(agent={"alpha": 1.0}, created="2026-11-02T22:00:00+0900")
    late = run(agent={"alpha": 3.0}, created="2026-11-02T14:00:00+0000")
    write_all(tmp_path, [early, late])
    runs = load_results(tmp_path).runs
    assert runs.loc[~runs["superseded"], "run_id"].tolist() == [late.run_id]


def test_choice_of_suite_and_scale(tmp_path):
    write_all(tmp_path, [run(), run(scale="smoke"), run(suite="push")])
    assert set(load_results(tmp_path).runs["suite"]) == {"kitchen", "push"}
    assert len(load_results(tmp_path, "kitchen").runs) == 2
    assert load_results(tmp_path, "kitchen", "smoke").runs["scale"].tolist() == ["smoke"]


def test_unknown_suite_names_the_nearest(tmp_path):
    write_all(tmp_path, [run()])
    with pytest.raises(UserError, match="suite 'kitchn'; did you mean 'kitchen'"):
        load_results(tmp_path, "kitchn")
    with pytest.raises(UserError, match="scale 'cup'; did you mean 'cpu'"):
        load_results(tmp_path, "kitchen", "cup")


def test_empty_folder_says_how_to_start(tmp_path):
    for call in (load_results, newest_suite):
        with pytest.raises(UserError, match="no runs here yet; start some with: ailft-bench run"):
            call(tmp_path / "nowhere")


def test_damaged_run_is_a_row_with_the_reason_and_stops_no_other(tmp_path):
    whole = [run("vmail", seed) for seed in range(5)]
    write_all(tmp_path, whole)
    broken = {seed: run(seed=seed, state="done" if seed < 2 else "waiting").write(tmp_path).path for seed in range(5)}
    (broken[0] / "result.parquet").write_bytes(b"PAR1 and nothing else")
    (broken[1] / "run.json").write_text("{")
    (broken[2] / "metrics.jsonl").write_text('nonsense\n{"phase": "eval"}\n')
    (broken[3] / "metrics.jsonl").write_text("3\n")
    (broken[4] / "run.json").write_text('{"schema": 99}')
    results = load_results(tmp_path)
    assert {state for (name, _), state in states(results).items() if name == "vmail"} == {"done"}
    runs = results.runs[results.runs["algorithm"] == "conservative"].set_index("seed")
    assert runs["state"].tolist() == ["damaged"] * 5
    assert not runs["superseded"].any()
    for seed, name in enumerate(["result.parquet", "run.json", "metrics.jsonl, line 1", "metrics.jsonl", "schema 99"]):
        assert name in runs.loc[seed, "reason"]
    assert set(results.metrics["run_id"]) == {spec.run_id for spec in whole}


def test_damaged_run_that_was_run_again_is_left_out(tmp_path):
    directory = run().write(tmp_path).path
    (directory / "run.json").write_text("{")
    directory.rename(directory.with_name("seed-0-damaged"))
    run().write(tmp_path)
    runs = load_results(tmp_path).runs
    assert runs.loc[~runs["superseded"], "state"].tolist() == ["done"]
    assert len(runs) == 2


def test_newest_suite_is_the_one_written_to_last(tmp_path):
    directories = {}
    for age, suite in enumerate(["kitchen", "push", "reach"]):
        directories[suite] = run(suite=suite, state="waiting").write(tmp_path).path
        for name in ("run.json", "metrics.jsonl"):
            os.utime(directories[suite] / name, (1e9 - age, 1e9 - age))
    assert newest_suite(tmp_path) == "kitchen"
    os.utime(directories["push"] / "metrics.jsonl", (2e9, 2e9))
    assert newest_suite(tmp_path) == "push"


@pytest.mark.parametrize("name", ["all.parquet", "all.csv"])
def test_exported_table_reads_back_equal_and_in_plain_types(tmp_path, name):
    diverged = {0: {"tasks_completed": 0.1 + 0.2, "critic/loss": np.nan}}
    write_all(tmp_path, [run(), run("vmail", 1, evaluations=diverged, state="waiting")])
    metrics = load_results(tmp_path).metrics
    path = write_table(metrics, tmp_path / "out" / name)
    back = pd.read_parquet(path) if name.endswith("parquet") else pd.read_csv(path)
    plain = metrics.astype(dict.fromkeys(metrics.select_dtypes("category"), "str"))
    # CSV has no types: a column of whole numbers reads back as integers.
    pd.testing.assert_frame_equal(back, plain, check_dtype=name.endswith("parquet"))
    assert os.listdir(path.parent) == [name]


def test_exported_parquet_has_the_columns_of_the_schema(tmp_path):
    write_all(tmp_path, [run()])
    path = write_table(load_results(tmp_path).metrics, tmp_path / "any.name", "parquet")
    assert pyarrow.parquet.read_schema(path).names == SCHEMA.names


def test_export_replaces_no_device_and_no_folder(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path):
        with pytest.raises(UserError, match="is no file, and would be replaced: choose another place"):
            write_table(pd.DataFrame({"a": [1]}), place, "csv")
        with pytest.raises(UserError, match="is no file, and would be replaced"):
            write_bytes(place, b"page")
    assert os.listdir(tmp_path) == ["pipe"]


def test_unknown_export_format_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="no export format 'parket'; did you mean 'parquet'"):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "all.parket")
    assert not os.listdir(tmp_path)
