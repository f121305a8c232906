"""Probes: a subject in a process of its own, with the environment of a worker, measured when it is told to.

``python -m ailft_bench.benchmark.probe NAME JSON`` sets the subject up, prints what is known of it, and then, for
each line that it reads, takes one sample and prints it; it leaves at the end of its input.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any

from ailft_bench.benchmark.sampling import Sample, timed
from ailft_bench.errors import UserError
from ailft_bench.pool import WORKER_ENVIRONMENT


class Probe:
    """One subject; a context manager that ends its process.

    ``facts`` holds what the subject says of itself once it is set up.

    Raises:
        UserError: the process ended before its time; with its last words.
    """

    def __init__(self, subject: str, options: Mapping[str, Any], default_allocator: bool = False) -> None:
        self.subject = subject
        tuned = {key: value for key, value in WORKER_ENVIRONMENT.items() if not key.startswith("MALLOC")}
        environment = {**os.environ, **(tuned if default_allocator else WORKER_ENVIRONMENT)}
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ailft_bench.benchmark.probe", subject, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
        )
        self.facts: dict[str, Any] = self._read()

    def sample(self) -> Sample:
        """Measure once."""
        self.tell()
        return self.told()

    def tell(self, least_s: float = 0.05) -> None:
        """Begin to measure, for at least so many seconds, without waiting for the end."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{least_s}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._read()

    def told(self) -> Sample:
        """Wait for what ``tell`` began."""
        return Sample(**self._read())

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["no message"])[-1]
            raise UserError(f"measuring {self.subject}: its process ended with exit code {code}: {last}")
        return dict(json.loads(line))


def side_by_side(probes: Sequence[Probe], least_s: float) -> float:
    """Let all probes work at the same time, and return how many operations a second they do together."""
    for probe in probes:
        probe.tell(least_s)
    return sum(1 / probe.told().wall for probe in probes)


def main() -> None:
    """Serve one subject."""
    from ailft_bench.benchmark.subjects import SUBJECTS

    # Whatever a library prints is no answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    operation, facts = SUBJECTS[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps(facts), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(timed(operation, float(line)))), file=answers, flush=True)


if __name__ == "__main__":
    main()
