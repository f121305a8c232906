"""What a run shows, and that whoever stops looking does not stop the run."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from specs import make_spec

from ailft_bench import display
from ailft_bench.cells import planned_work
from ailft_bench.display import LiveProgress
from ailft_bench.pool import Ending
from ailft_bench.store import RunDirectory

# Shows what becomes of a cell, line by line, once the reader of its output has gone.
SHOW = """
import sys
from pathlib import Path
from rich.console import Console
from ailft_bench.display import LiveProgress
from ailft_bench.pool import Ending
from ailft_bench.store import RunDirectory

path = Path(sys.argv[1])
with LiveProgress(Console(), {path: RunDirectory(path).spec}) as progress:
    progress.say("begun")
    sys.stdin.readline()
    progress.poll([path])
    for _ in range(3):
        progress.ended(path, Ending("done"))
sys.stderr.write("went on")
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, make_spec())


def test_terminal_that_goes_away_stops_nothing(run: RunDirectory) -> None:
    run.report_progress("online", 100, 200, 100, 3)
    terminal, inside = os.openpty()
    went_on = False
    # What could not be written is tried again when it is closed.
    with suppress(OSError), os.fdopen(inside, "w") as file:
        progress = LiveProgress(Console(file=file, force_terminal=True, width=100), {run.path: run.spec})
        with progress:
            progress.poll([run.path])
            shown = b""
            while b"conservative seed 0" not in shown:
                shown += os.read(terminal, 10_000)
            os.close(terminal)
            progress.say("more")
            progress.ended(run.path, Ending("failed", "it did not work"))
            progress.poll([])
        went_on = True
    assert went_on


def test_reader_of_the_output_that_goes_away_stops_nothing(run: RunDirectory) -> None:
    command = [sys.executable, "-c", SHOW, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.stdout.close()
        _, said = process.communicate(b"\n", timeout=60)
    assert (process.returncode, said) == (0, b"went on")


def test_progress_that_cannot_be_read_is_not_shown(run: RunDirectory, tmp_path: Path) -> None:
    (run.path / "progress.json").mkdir()
    with open(tmp_path / "shown", "w+") as file:
        console = Console(file=file, force_terminal=True, width=100)
        with LiveProgress(console, {run.path: run.spec}) as progress:
            progress.poll([run.path])
        file.seek(0)
        assert "starting" in file.read()


def test_time_left_is_that_of_the_pace_so_far_also_where_cells_have_just_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (RunDirectory.create(tmp_path, make_spec(seed=seed)) for seed in range(3))
    clock, shown = SimpleNamespace(now=0.0), StringIO()
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=lambda: clock.now))
    progress = LiveProgress(Console(file=shown, width=100), {run.path: run.spec for run in (first, second, third)})

    def lines_at(now: float, *active: RunDirectory) -> str:
        clock.now = now
        shown.seek(0)
        shown.truncate()
        progress.poll([run.path for run in active])
        return shown.getvalue()

    whole = int(planned_work(first.spec))
    assert lines_at(1000, first) == "conservative seed 0: started\n"
    assert "time left: unknown; conservative seed 0 0%" in lines_at(1061, first)
    first.report_progress("online", 0, 0, whole // 2, 0)
    assert "0 of 3 cells ended, time left: 10 min; conservative seed 0 50%" in lines_at(1122, first)
    progress.ended(first.path, Ending("done"))
    assert "1 of 3 cells ended, time left: 8 min; conservative seed 1 0%" in lines_at(1240, second)
    progress.ended(second.path, Ending("interrupted", "stopped"))
    assert "1 of 3 cells ended, time left: 5 min; conservative seed 2 0%" in lines_at(1301, third)


def test_what_was_done_before_a_cell_goes_on_says_nothing_of_the_pace(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, shown = SimpleNamespace(now=0.0), StringIO()
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=lambda: clock.now))
    progress = LiveProgress(Console(file=shown, width=100), {run.path: run.spec})
    whole = int(planned_work(run.spec))
    for now, tenths in (1000, 5), (1061, 5), (1120, 6):
        clock.now = now
        run.report_progress("online", 0, 0, whole * tenths // 10, 0)
        progress.poll([run.path])
    clock.now = 1240
    progress.poll([run.path])
    assert shown.getvalue().splitlines()[-1] == "0 of 1 cells ended, time left: 16 min; conservative seed 0 60%"
