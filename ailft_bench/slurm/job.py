"""The job: what SLURM runs for one cell. A pool of one around the worker, so that a crash has a reason.

What ends a job early, and what becomes of it:

- USR2, before the time limit or a preemption: the worker saves, the job queues again.
- TERM, without warning: the worker saves if SLURM's KillWait is long enough; SLURM itself queues again what it
  preempted or requeued, and leaves what was cancelled.
- The worker is killed: the job queues again, at most ``RERUNS`` times without reaching the next checkpoint.
- The node is lost: SLURM queues again; the last checkpoint carries on.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from ailft_bench import signals
from ailft_bench.pool import Pool
from ailft_bench.slurm import queue
from ailft_bench.store import RunDirectory
from ailft_bench.store.attempts import RERUNS, job_id

_LOOK_AGAIN_S = 5.0
#: How often in a row a job queues again because it was asked to, without reaching the next checkpoint.
_GIVES_WAY = 20


def work_on(directory: str) -> str:
    """Work on the run in ``directory`` until it is done, or until this job must give way.

    Raises:
        RuntimeError: the run failed, and starting it again by itself would not help.
    """
    run = RunDirectory(Path(directory))
    with signals.noted() as received:
        while True:
            pool = Pool(1)
            ending = pool.run([run.path])[run.path]
            received += pool.received
            if ending.state != "elsewhere" or received:
                break
            # Two copies of a job live when SLURM has lost sight of the first one: wait for its end.
            time.sleep(_LOOK_AGAIN_S)
        if ending.state == "done":
            return "done"
        failure = run.failure
        crashed = not received and failure is not None and failure.verdict == "killed"
        limit = RERUNS if crashed else _GIVES_WAY if signal.SIGUSR2 in received else 0
        if limit and run.attempts.fruitless() <= limit:
            queue.requeue(job_id(dict(os.environ)), give_up=lambda: signal.SIGTERM in received)
            return "queued again"
        if ending.state == "failed":
            raise RuntimeError(ending.reason)
        return ending.state
