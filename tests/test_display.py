"""What a run shows, and that whoever stops looking does not stop the run."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console
from specs import make_spec

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
