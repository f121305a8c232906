"""The command line: ``ailft-bench``, one module for each family of commands."""

from ailft_bench.cli.commands import app, main

__all__ = ["app", "main"]
