"""Launching: what is missing is run, what is done is left, and nothing is lost on the way."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from specs import SUITE, write_suite

from ailft_bench import cells, display, launch, machine, status, suite_file
from ailft_bench.durable import StorageError
from ailft_bench.errors import UserError
from ailft_bench.estimate import estimate
from ailft_bench.executors import Executor, Inline, Local
from ailft_bench.pool import Command, Ending
from ailft_bench.results import load_results
from ailft_bench.store import RunDirectory, RunSpec, runs
from ailft_bench.suite import Suite

#: Plays a worker: one evaluation, then done. Fails where a file named "break" is in its directory.
WORKER = """
import sys
from pathlib import Path
from ailft_bench.store import RunDirectory

run = RunDirectory(Path(sys.argv[1]))
with run.lease():
    run.start_attempt()
    if (run.path / "break").exists():
        raise ValueError("broken on purpose")
    run.metrics.append("eval", 200, 4, {"tasks_completed": 1.25}, 30.0)
    run.finish()
"""


def worker(path: Path) -> list[str]:
    return [sys.executable, "-c", WORKER, str(path)]


class Launcher:
    """One suite and one results folder, launched as often as a test likes."""

    def __init__(self, folder: Path) -> None:
        self.results = folder / "results"
        self.suite: Suite = suite_file.load(str(write_suite(folder)))
        self.specs: list[RunSpec] = cells.expand(self.suite, "smoke", seeds=[0])

    def __call__(self, command: Command = worker) -> tuple[int, str]:
        text = io.StringIO()
        out = Console(file=text, width=200)
        code = launch.run(out, self.suite, self.specs, self.results, Local(2, command))
        return code, text.getvalue()

    def directory(self, index: int) -> RunDirectory:
        return RunDirectory(self.specs[index].directory(self.results))


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    return Launcher(tmp_path)


def test_second_call_has_nothing_to_do(launcher: Launcher) -> None:
    code, text = launcher()
    assert code == 0
    assert "4 of 4 cells done" in text
    assert text.count("1.25 at step 200") == 4
    assert [run.state for run in runs(launcher.results)] == ["done"] * 4
    provenance = launcher.directory(0).spec.provenance
    assert provenance["python"] == sys.version.split()[0]
    assert provenance["source_sha256"]

    code, text = launcher(lambda path: pytest.fail("a finished cell was started"))
    assert code == 0
    assert "nothing to do: 4 of 4 cells done" in text


def test_suite_that_is_run_again_after_a_trial_of_another_value_is_shown_again(launcher: Launcher) -> None:
    launcher()
    assert not list(launcher.results.rglob("asked.json"))
    own = launcher.specs
    changed = suite_file.load(str(launcher.results.parent / "toy.yaml"), ["algorithms.vmail.discount=0.5"])
    launcher.specs = cells.expand(changed, "smoke", algorithms=["vmail"], seeds=[0])
    launcher()
    shown = load_results(launcher.results).runs
    assert shown.loc[shown["superseded"], "run_id"].tolist() == [spec.run_id for spec in own if spec.method == "vmail"]

    launcher.specs = own
    assert launcher()[0] == 0
    shown = load_results(launcher.results).runs
    assert set(shown.loc[~shown["superseded"], "run_id"]) == {spec.run_id for spec in own}


def test_interrupted_suite_that_goes_on_after_a_trial_of_another_value_is_shown_again(launcher: Launcher) -> None:
    launcher()
    own = launcher.specs
    begun = RunDirectory(next(spec for spec in own if spec.method == "vmail").directory(launcher.results))
    for name in ("done", "result.parquet"):
        (begun.path / name).unlink()
    with begun.lease():
        begun.save_checkpoint(100, lambda folder: None)
    changed = suite_file.load(str(launcher.results.parent / "toy.yaml"), ["algorithms.vmail.discount=0.5"])
    launcher.specs = cells.expand(changed, "smoke", algorithms=["vmail"], seeds=[0])
    launcher()
    launcher.specs = own
    assert launcher()[0] == 0
    shown = load_results(launcher.results).runs
    assert set(shown.loc[~shown["superseded"], "run_id"]) == {spec.run_id for spec in own}


def test_request_for_some_of_the_seeds_marks_nothing(launcher: Launcher) -> None:
    launcher.specs = cells.expand(launcher.suite, "smoke", algorithms=["vmail"], seeds=[0, 1])
    launcher()
    launcher.specs = launcher.specs[:1]
    assert "nothing to do" in launcher()[1]
    assert not list(launcher.results.rglob("asked.json"))


def test_reference_lines_that_are_missing_are_measured_where_all_cells_are_done(launcher: Launcher) -> None:
    launcher()
    (lines,) = (launcher.results / "references").iterdir()
    before = lines.read_text()
    lines.unlink()
    assert launcher()[0] == 0
    assert lines.read_text() == before


def test_reference_lines_that_cannot_be_kept_spoil_nothing(launcher: Launcher) -> None:
    launcher.results.mkdir()
    (launcher.results / "references").symlink_to("nowhere")
    code, text = launcher()
    assert code == 0
    assert "4 of 4 cells done" in text
    assert "no reference lines: " in text
    assert str(launcher.results / "references") in text


def test_failed_cell_is_in_the_table_and_tried_again(launcher: Launcher) -> None:
    broken = launcher.directory(1)
    broken.path.mkdir(parents=True)
    (broken.path / "break").touch()
    code, text = launcher()
    assert code == 1
    assert "3 of 4 cells done, 1 failed" in text
    assert "ValueError: broken on purpose" in text
    assert broken.state == "failed"

    (broken.path / "break").unlink()
    started: list[Path] = []
    code, text = launcher(lambda path: [started.append(path) or sys.executable, "-c", WORKER, str(path)])
    assert code == 0
    assert started == [broken.path]
    assert broken.state == "done"


def test_damaged_log_of_one_cell_hides_nothing_of_the_others(launcher: Launcher) -> None:
    launcher()
    log = launcher.directory(0).path / "metrics.jsonl"
    log.write_text("garbage\n" + log.read_text())
    shown = io.StringIO()
    display.show_endings(Console(file=shown, width=200), launcher.specs, launcher.results, {})
    rows = [line for line in shown.getvalue().splitlines() if "seed 0" in line]
    assert "damaged log" in rows[0]
    assert [row.count("1.25 at step 200") for row in rows] == [0, 1, 1, 1]


def test_scale_and_what_the_suite_is_about_are_said_first(launcher: Launcher) -> None:
    shown = io.StringIO()
    launch.announce(Console(file=shown, width=200), launcher.suite, "smoke")
    assert shown.getvalue().splitlines()[:2] == [
        "suite toy, scale smoke: 200 environment steps a run, preset smoke",
        "a suite of the tests",
    ]


def test_equal_settings_under_two_names_are_two_cells(launcher: Launcher, tmp_path: Path) -> None:
    text = SUITE.replace("  vmail: {}\n", "  again: {method: conservative}\n")
    launcher.suite = suite_file.load(str(write_suite(tmp_path, text)))
    both = [
        spec for spec in cells.expand(launcher.suite, "smoke", seeds=[0]) if spec.label in ("conservative", "again")
    ]
    assert len(both) == 2
    assert both[0].run_id == both[1].run_id
    launcher.specs = both[:1]
    launcher()
    launcher.specs = both
    shown = io.StringIO()
    launch.dry_run(Console(file=shown, width=200), launcher.suite, both, launcher.results, Local(2))
    assert "to do: 1 cells" in shown.getvalue()
    rows = [line.split() for line in shown.getvalue().splitlines() if both[0].run_id in line]
    assert [(row[0], row[-1]) for row in rows] == [("conservative", "done"), ("again", "missing")]
    assert "the paper: eq. 2-9" in shown.getvalue()
    code, text = launcher()
    assert code == 0
    assert "2 of 2 cells done" in text
    found = status.collect(launcher.results)
    assert {(cell.label, cell.state) for cell in found} == {("conservative", "done"), ("again", "done")}
    absent = status.missing(launcher.suite, ["smoke"], found, "toy")
    assert not {"conservative", "again"} & {cell.label for cell in absent if cell.seed == 0}


def test_cell_of_another_process_is_left_to_it(launcher: Launcher) -> None:
    held = RunDirectory.create(launcher.results, launcher.specs[0])
    with held.lease():
        code, text = launcher()
    assert code == 1
    assert "3 of 4 cells done, 1 elsewhere" in text
    assert held.state == "waiting"


def test_dry_run_writes_nothing_and_estimates(launcher: Launcher) -> None:
    text = io.StringIO()
    launch.dry_run(Console(file=text, width=200), launcher.suite, launcher.specs, launcher.results, Local(2))
    assert not launcher.results.exists()
    for spec in launcher.specs:
        assert spec.run_id in text.getvalue()
    assert "to do: 4 cells" in text.getvalue()
    assert "nothing measured here yet" in text.getvalue()


def test_estimate_learns_from_finished_runs(launcher: Launcher) -> None:
    specs = launcher.specs
    launcher.specs = specs[:1]
    launcher()
    text = io.StringIO()
    launch.dry_run(Console(file=text, width=200), launcher.suite, specs, launcher.results, Local(1))
    assert "to do: 3 cells" in text.getvalue()
    assert "at the pace of 1 finished run)" in text.getvalue()


def test_estimate_does_not_take_a_short_run_for_a_long_one(launcher: Launcher) -> None:
    launcher()
    short = estimate(launcher.specs, launcher.results).work_s
    longer = [spec.model_copy(update={"env_steps": 100 * spec.env_steps}) for spec in launcher.specs]
    assert estimate(longer, launcher.results).work_s > 10 * short


def test_estimate_takes_runs_of_an_older_version_that_lacked_a_setting(launcher: Launcher) -> None:
    launcher()
    known = estimate(launcher.specs, launcher.results).work_s
    record = launcher.directory(0).path / "run.json"
    content = json.loads(record.read_text())
    del content["agent"]["policy"], content["agent"]["imagination_starts"]
    record.write_text(json.dumps(content))
    assert estimate(launcher.specs, launcher.results).work_s == pytest.approx(known, rel=0.1)


def test_cell_whose_folder_is_damaged_fails_and_the_others_run(launcher: Launcher) -> None:
    damaged = launcher.directory(0).path
    damaged.mkdir(parents=True)
    (damaged / "run.json").write_text("{")
    code, text = launcher()
    assert code == 1
    assert "3 of 4 cells done, 1 failed" in text
    assert f"{damaged / 'run.json'}:notvalidJSON" in "".join(text.split())
    assert (damaged / "run.json").read_text() == "{"


def test_reason_with_brackets_is_shown_as_it_is(launcher: Launcher) -> None:
    shown, reason = io.StringIO(), "OSError: [/dev/dri/renderD128] cannot be opened [batch]"
    endings = {launcher.directory(0).path: Ending("failed", reason)}
    display.show_endings(Console(file=shown, width=200), launcher.specs, launcher.results, endings)
    assert reason in shown.getvalue()


def test_folder_that_cannot_be_written_is_found_out_before_any_work(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path)
    launcher.results = tmp_path / "file" / "results"
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a part of this path is a file"):
        launcher()


def test_read_only_folder_is_found_out_before_any_work(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path)
    launcher.results.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(launcher.results)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a read-only disk needs root")
    try:
        with pytest.raises(StorageError, match="read-only"):
            launcher(lambda path: pytest.fail("work began"))
    finally:
        subprocess.run(["umount", str(launcher.results)], check=True)


def test_scale_is_chosen_by_the_executor(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert launch.choose_scale(launcher.suite, None, Local().has_gpu()) == "cpu"
    assert launch.choose_scale(launcher.suite, "smoke", has_gpu=False) == "smoke"
    with pytest.raises(UserError, match="did you mean 'smoke'"):
        launch.choose_scale(launcher.suite, "smokey", has_gpu=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(machine, "_torch_finds_cuda", lambda visible: True)
    with pytest.raises(UserError, match="paper, the default here: not in suite toy"):
        launch.choose_scale(launcher.suite, None, Local().has_gpu())


@pytest.mark.parametrize("executor", [Local(), Inline()])
def test_listed_gpu_that_torch_cannot_use_changes_neither_scale_nor_pool(
    monkeypatch: pytest.MonkeyPatch, executor: Executor
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "63")  # a CPU build finds none, and no machine has so many
    assert machine.gpus() == ["63"]
    assert not executor.has_gpu()
    monkeypatch.setattr(machine, "cores", lambda: 3)
    monkeypatch.setattr(machine, "free_memory_gib", lambda: 64.0)
    assert Local().width(2.0) == 3


def test_demonstrations_are_there_before_the_first_worker(launcher: Launcher) -> None:
    cached = launcher.results / "demos" / launcher.specs[0].demonstrations["checksum"]
    seen: list[bool] = []
    launcher(lambda path: [seen.append(cached.is_dir()) or sys.executable, "-c", WORKER, str(path)])
    assert seen == [True] * 4
    assert os.listdir(launcher.results / "demos") == [cached.name]


def test_replay_that_a_killed_worker_left_behind_is_removed(launcher: Launcher) -> None:
    launcher()
    leftover = launcher.directory(0).path / "replay"
    leftover.mkdir()
    (leftover / "frames.u8").write_bytes(bytes(1000))
    launcher()
    assert not leftover.exists()
