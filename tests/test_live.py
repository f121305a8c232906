import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_training import prepare, start, wait_for

from ailft_bench import live
from ailft_bench.errors import UserError
from ailft_bench.store import runs
from ailft_bench.worker import EXIT_DONE


def shown(run):
    """What TensorBoard shows of a run: (tag, step, value), sorted."""
    events = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return sorted((tag, event.step, event.value) for tag in events.Tags()["scalars"] for event in events.Scalars(tag))


def measured(run):
    """The same of what the log holds; TensorBoard has single precision."""
    found = []
    for row in run.metrics.read():
        phase, step = row["phase"], row["env_step"]
        if phase == "train" and "time/env_steps_per_s" not in row["metrics"]:
            phase, step = "pretrain", int(row["metrics"]["time/updates"])
        found += [(f"{phase}/{name}", step, float(np.float32(value))) for name, value in row["metrics"].items()]
    return sorted(found)


def test_killed_and_resumed_run_shows_every_row_once(tmp_path, monkeypatch):
    monkeypatch.setenv(live.VARIABLE, "tensorboard")
    run, rng = prepare(tmp_path, "conservative"), random.Random(3)
    for _ in range(2):
        process = start(run)
        before = run.latest_checkpoint()
        wait_for(lambda before=before: run.latest_checkpoint() != before, process)
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(run).wait() == EXIT_DONE
    assert shown(run) == measured(run)
    assert {tag.split("/")[0] for tag, _, _ in shown(run)} == {"pretrain", "train", "eval"}


def test_option_reaches_the_workers_of_the_pool(tmp_path):
    command = [sys.executable, "-m", "ailft_bench", "run", "quickstart", "--scale", "smoke", "--algorithms", "bc"]
    command += ["--seeds", "1", "--executor", "local", "--live", "tensorboard", "--results", str(tmp_path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (run,) = runs(tmp_path)
    assert shown(run) == measured(run)
    assert "tensorboard" not in (run.path / "run.json").read_text().replace("--live tensorboard", "")


BROKEN = """
class Broken:
    def __init__(self, run): self.file = open(run / "mine.txt", "a")
    def start(self, rows): print("start", len(rows), file=self.file, flush=True)
    def log(self, row):
        print("log", row["phase"], file=self.file, flush=True)
        raise OSError("the server is gone")
    def close(self): print("close", file=self.file, flush=True)
"""


def test_live_log_of_ones_own_that_breaks_is_left_alone_and_the_run_goes_on(tmp_path):
    (tmp_path / "mine.py").write_text(BROKEN)
    run = prepare(tmp_path / "results", "bc")
    environment = {**os.environ, live.VARIABLE: "mine:Broken", "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ailft_bench.worker", str(run.path)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "live log mine:Broken left alone: OSError: the server is gone" in finished.stderr
    assert (run.path / "mine.txt").read_text().splitlines() == ["start 0", "log train"]
    assert run.state == "done"


def test_missing_extra_and_unknown_names_say_what_to_do(monkeypatch):
    with pytest.raises(UserError, match=r"did you mean 'tensorboard'.*or module:Class"):
        live.ask_for("tensorbord")
    with pytest.raises(UserError, match="cannot be imported"):
        live.ask_for("nowhere:Log")
    with pytest.raises(UserError, match="has no start, log, close"):
        live.ask_for("json:JSONEncoder")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'ailft-bench\[tensorboard\]'"):
        live.ask_for("tensorboard")
    assert live.VARIABLE not in os.environ
