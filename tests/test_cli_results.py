import subprocess
import sys

import pandas as pd
import pytest
from synthetic_results import SyntheticRun, evaluation, write_all


def ailft(results, *arguments):
    command = [sys.executable, "-m", "ailft_bench", *arguments, "--results", str(results)]
    finished = subprocess.run(command, cwd=results, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in finished.stderr
    return finished


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two algorithms on two seeds; the result of one run and the description of another are damaged."""
    curve = {step: evaluation(step / 200) for step in (0, 200, 400)}
    runs = [SyntheticRun(name, seed, curve, {200: 1.0}) for name in ("conservative", "vmail") for seed in (0, 1, 2)]
    folder = write_all(tmp_path_factory.mktemp("results"), runs)
    for run, name in ((runs[4], "result.parquet"), (runs[5], "run.json")):
        (run.spec.directory(folder) / name).write_bytes(b"{")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [("plot", "kitchen", "--no-caption"), ("report", "kitchen", "--no-videos"), ("export", "--out", "table.csv")],
)
def test_damaged_runs_stop_no_command_and_are_said_loudly(results, arguments):
    finished = ailft(results, *arguments)
    assert finished.returncode == 0
    warnings = [line for line in finished.stderr.splitlines() if line.startswith("warning: damaged")]
    assert len(warnings) == 2
    for warning, name in zip(sorted(warnings), ("seed-1", "seed-2"), strict=True):
        assert name in warning


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("export", "kitchen", "--format", "csv", "--out", "."), (".: a folder", "choose a name in it")),
        (("report", "kitchen", "--no-videos", "--out", "."), (".: a folder", "choose a name in it")),
        (("status", "/nowhere/results/kitchen"), ("no runs of suite /nowhere/results/kitchen", "allowed: kitchen")),
        (("status", "kitchen["), ("no runs of suite kitchen[", "did you mean 'kitchen'?")),
        (("status", "kit*"), ("no runs of suite kit*", "kitchen")),
    ],
)
def test_name_that_is_none_is_a_message_and_exit_code_2(results, arguments, parts):
    before = sorted(results.rglob("*"))
    finished = ailft(results, *arguments)
    assert finished.returncode == 2
    for part in parts:
        assert part in finished.stderr
    assert sorted(results.rglob("*")) == before


def test_status_shows_a_damaged_run(results):
    finished = ailft(results, "status")
    assert finished.returncode == 0
    assert "1 damaged" in finished.stdout


def test_export_has_the_state_of_every_run_beside_the_measurements(results):
    assert ailft(results, "export", "--out", "all.parquet").returncode == 0
    runs = pd.read_parquet(results / "all.runs.parquet").set_index(["algorithm", "seed"])
    assert runs.loc[("vmail", 1), "state"] == runs.loc[("vmail", 2), "state"] == "damaged"
    assert (runs["state"] == "done").sum() == 4
    measured = pd.read_parquet(results / "all.parquet")
    assert set(measured["run_id"]) == set(runs.loc[runs["state"] == "done", "run_id"])
