"""The run store: one directory a run, files as protocol, readable after a kill at any moment."""

from ailft_bench.store.run import SCHEMA_VERSION, Progress, RunDirectory, RunSpec, State, runs

__all__ = ["SCHEMA_VERSION", "Progress", "RunDirectory", "RunSpec", "State", "runs"]
