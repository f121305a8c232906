"""The run store: whatever happens to a worker, its directory stays readable and nothing counts twice."""

from __future__ import annotations

import contextlib
import math
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from specs import make_spec
from streams import table

from ailft_bench import provenance
from ailft_bench.durable import StorageError, write_bytes
from ailft_bench.errors import UserError
from ailft_bench.store import RunDirectory, runs


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, make_spec())


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def test_directory_names_what_the_run_is(tmp_path: Path) -> None:
    plain, varied = make_spec(), make_spec(variant="mild", seed=3)
    assert RunDirectory.create(tmp_path, plain).path == (
        tmp_path / "toy/smoke/conservative" / f"seed-0-{plain.run_id[:8]}"
    )
    assert RunDirectory.create(tmp_path, varied).path == (
        tmp_path / "toy/smoke/conservative+mild" / f"seed-3-{varied.run_id[:8]}"
    )
    assert [run.spec for run in runs(tmp_path)] == [plain, varied]
    assert [run.spec for run in runs(tmp_path, "toy", "cpu")] == []


def test_creating_a_run_again_keeps_what_it_goes_on_from_and_who_began_that(tmp_path: Path) -> None:
    first = RunDirectory.create(tmp_path, make_spec(created="first"))
    first.metrics.append("train", 1, 0, {"return": 1.0}, 0.1)
    first.save_checkpoint(1, lambda folder: None)
    again = RunDirectory.create(tmp_path, make_spec(created="second"))
    assert again.spec.created == "first"
    assert len(again.metrics.read()) == 1


def test_run_that_failed_before_its_first_checkpoint_is_the_work_of_who_starts_it_again(tmp_path: Path) -> None:
    first = RunDirectory.create(tmp_path, make_spec(created="first", provenance={"commit": "broken"}))
    first.fail("ValueError: broken")
    spec = make_spec(created="second", provenance={"commit": "mended"})
    assert RunDirectory.create(tmp_path, spec).spec == spec
    with first.lease():  # a worker has it, and may be about to save
        again = RunDirectory.create(tmp_path, make_spec(created="third"))
    assert again.spec == spec


def test_versions_of_a_run_are_those_since_its_last_beginning(run: RunDirectory, monkeypatch) -> None:
    def start(version: str) -> None:
        monkeypatch.setattr(provenance, "collect", lambda: {"source_sha256": version})
        run.start_attempt()

    with run.lease():
        start("failed")
        start("begun")
        run.save_checkpoint(1, lambda folder: None)
        start("begun")
        assert run.attempts.versions() == {"begun"}
        start("went on")
        assert run.attempts.versions() == {"begun", "went on"}


def test_missing_and_damaged_run_json_are_named(tmp_path: Path, run: RunDirectory) -> None:
    with pytest.raises(UserError, match="not a run directory"):
        _ = RunDirectory(tmp_path).spec
    (run.path / "run.json").write_text('{"schema": 1}')
    with pytest.raises(UserError, match=r"run\.json: run_id"):
        _ = RunDirectory(run.path).spec


def test_torn_last_line_is_skipped_and_cut_by_the_next_writer(run: RunDirectory) -> None:
    run.metrics.append("train", 10, 1, {"return": 1.0}, 0.5)
    with open(run.metrics.path, "ab") as file:
        file.write(b'{"phase": "train", "env_st')
    reader = RunDirectory(run.path).metrics
    assert [row["env_step"] for row in reader.read()] == [10]
    reader.append("train", 20, 2, {"return": 2.0}, 0.6)
    assert [row["env_step"] for row in reader.read()] == [10, 20]
    assert reader.size() == run.metrics.path.stat().st_size


def test_broken_line_in_the_middle_is_named(run: RunDirectory) -> None:
    run.metrics.path.write_text('{"phase": \n{}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 1"):
        run.metrics.read()


def test_truncated_metrics_go_on_where_the_checkpoint_was(run: RunDirectory) -> None:
    run.metrics.append("train", 10, 1, {"return": 1.0}, 0.5)
    size = run.metrics.size()
    run.metrics.append("train", 20, 2, {"return": 2.0}, 0.6)
    resumed = RunDirectory(run.path).metrics
    resumed.truncate(size)
    resumed.append("train", 20, 2, {"return": 3.0}, 0.7)
    assert [row["metrics"]["return"] for row in resumed.read()] == [1.0, 3.0]


def test_metrics_shorter_than_the_checkpoint_are_refused(run: RunDirectory) -> None:
    run.metrics.append("train", 10, 1, {"return": 1.0}, 0.5)
    with pytest.raises(UserError, match="delete this run"):
        run.metrics.truncate(10_000)


def test_newest_complete_checkpoint_is_used_and_older_ones_go(run: RunDirectory) -> None:
    assert run.latest_checkpoint() is None
    for content in ("first", "second"):
        run.save_checkpoint(0, lambda folder, content=content: (folder / "x").write_text(content))
    found = run.latest_checkpoint()
    assert found is not None
    assert found[0] == 0
    assert (found[1] / "x").read_text() == "second"
    run.save_checkpoint(50, lambda folder: (folder / "x").write_text("third"))
    (run.path / "checkpoint" / "000009-70").mkdir()
    found = run.latest_checkpoint()
    assert found is not None
    assert found[0] == 50
    assert [path.name for path in (run.path / "checkpoint").glob("*/done")] == ["done"]


def test_failing_checkpoint_leaves_the_older_one(run: RunDirectory) -> None:
    run.save_checkpoint(1, lambda folder: (folder / "x").write_text("good"))

    def fail(folder: Path) -> None:
        (folder / "x").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run.save_checkpoint(2, fail)
    found = run.latest_checkpoint()
    assert found is not None
    assert found[0] == 1
    assert [path.name for path in (run.path / "checkpoint").iterdir()] == [found[1].name]


def test_result_is_tidy_and_done_comes_with_it(run: RunDirectory) -> None:
    run.metrics.append("train", 10, 1, {"return": 1.0, "critic/loss": math.nan}, 0.5)
    run.metrics.append("eval", 10, 1, {"return": 2.0}, 1.5)
    assert run.state == "waiting"
    run.finish()
    assert run.state == "done"
    assert run.wall_time_s == 1.5
    recorded = table(run)
    assert recorded.column_names == [
        *("suite", "scale", "algorithm", "variant", "run_id", "seed", "phase", "env_step", "episode"),
        *("metric", "value", "wall_time_s"),
    ]
    assert recorded.column("metric").to_pylist() == ["return", "critic/loss", "return"]
    assert recorded.column("phase").to_pylist() == ["train", "train", "eval"]
    values = recorded.column("value").to_pylist()
    assert values[::2] == [1.0, 2.0]
    assert math.isnan(values[1])


def test_every_row_of_pretraining_is_kept(run: RunDirectory) -> None:
    for updates, loss in ((100, 3.0), (200, 2.0)):
        run.metrics.append("train", 0, 0, {"model/loss": loss, "time/updates": updates}, 0.5)
    run.finish()
    assert table(run).column("value").to_pylist() == [3.0, 100.0, 2.0, 200.0]


def test_first_valid_result_stays(run: RunDirectory) -> None:
    run.metrics.append("eval", 10, 1, {"return": 1.0}, 0.5)
    run.finish()
    (run.path / "done").unlink()
    run.metrics.append("eval", 20, 2, {"return": 2.0}, 0.6)
    run.finish()
    assert table(run).column("value").to_pylist() == [1.0]


def test_damaged_result_without_done_is_replaced(run: RunDirectory) -> None:
    run.metrics.append("eval", 10, 1, {"return": 1.0}, 0.5)
    (run.path / "result.parquet").write_bytes(b"PAR1 half a file")
    assert run.state == "waiting"
    run.finish()
    assert table(run).column("value").to_pylist() == [1.0]


def test_failure_is_kept_until_the_next_attempt(run: RunDirectory) -> None:
    run.fail("ValueError: no", "Traceback ...")
    assert run.state == "failed"
    assert run.failure is not None
    assert run.failure.reason == "ValueError: no"
    with run.lease():
        run.start_attempt()
        assert run.state == "running"
    assert run.state == "waiting"
    (attempt,) = run.attempts.read()
    assert attempt.after is not None
    assert attempt.after["reason"] == "ValueError: no"
    assert attempt.provenance["source_sha256"]


WRITER = """
import sys
from pathlib import Path
from ailft_bench.store import RunDirectory

run = RunDirectory(Path(sys.argv[1]))
with run.lease():
    found = run.latest_checkpoint()
    run.start_attempt()
    step, size = 0, 0
    if found:
        step, size = map(int, (found[1] / "state").read_text().split())
    run.metrics.truncate(size)
    while step < 60:
        step += 1
        run.metrics.append("train", step, step, {"square": step * step}, 0.0)
        run.report_progress("online", step, 60, step, 0)
        if step % 5 == 0:
            run.save_checkpoint(step, lambda d: (d / "state").write_text(f"{step} {run.metrics.size()}"))
    run.finish()
"""


def test_worker_killed_at_random_moments_ends_with_the_stream_of_an_undisturbed_one(
    run: RunDirectory,
) -> None:
    rng = random.Random(0)
    kills = 0
    for _ in range(40):
        worker = subprocess.Popen([sys.executable, "-c", WRITER, str(run.path)])
        # The imports take most of the time: kill from the first sign of life on.
        while worker.poll() is None and RunDirectory(run.path).holder is None:
            time.sleep(0.002)
        if kills < 12:
            time.sleep(rng.uniform(0, 0.1))
        else:
            worker.wait()
        kills += worker.poll() is None
        worker.kill()
        worker.wait()
        seen = RunDirectory(run.path)
        steps = [row["env_step"] for row in seen.metrics.read()]
        assert steps == list(range(1, len(steps) + 1))
        found = seen.latest_checkpoint()
        if found is not None:
            step, size = map(int, (found[1] / "state").read_text().split())
            assert step == found[0]
            assert size <= seen.metrics.size()
        if seen.state == "done":
            break
    assert kills > 0
    assert run.state == "done"
    assert table(run).column("value").to_pylist() == [step * step for step in range(1, 61)]


def test_full_disk_is_one_message_and_the_older_checkpoint_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=512k") as disk:
        run = RunDirectory.create(disk, make_spec())
        run.metrics.append("train", 1, 1, {"return": 1.0}, 0.1)
        run.save_checkpoint(1, lambda folder: (folder / "x").write_text("good"))
        filler = fill(disk)
        with pytest.raises(StorageError, match="the disk is full"):
            run.save_checkpoint(2, lambda folder: write_bytes(folder / "x", bytes(100_000)) and None)
        wide = {f"metric {number}": 1.0 for number in range(1000)}
        with pytest.raises(StorageError, match="the disk is full"):
            run.metrics.append("train", 2, 2, wide, 0.1)
        whole = len(run.metrics.read())
        found = run.latest_checkpoint()
        assert found is not None
        assert (found[1] / "x").read_text() == "good"
        filler.unlink()
        run.metrics.append("train", 900, 900, {"return": 1.0}, 0.1)
        assert len(run.metrics.read()) == whole + 1
        run.finish()
        assert table(run).num_rows == whole + 1


def test_full_disk_behind_torch_save_is_the_same_message(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with small_disk(tmp_path / "disk", "size=512k") as disk:
        run = RunDirectory.create(disk, make_spec())
        with pytest.raises(StorageError, match="the disk is full"):
            run.save_checkpoint(1, lambda folder: torch.save(torch.zeros(1_000_000), folder / "state.pt"))
        assert run.latest_checkpoint() is None
        assert list((run.path / "checkpoint").iterdir()) == []


def test_file_size_limit_is_a_message_too(run: RunDirectory) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        with pytest.raises(StorageError, match="limit"):
            run.save_checkpoint(1, lambda folder: (folder / "x").write_bytes(bytes(200_000)) and None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert run.latest_checkpoint() is None


def test_read_only_folder_is_one_message(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "ro") as disk, pytest.raises(StorageError, match="read-only"):
        RunDirectory.create(disk, make_spec())
