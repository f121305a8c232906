"""The report: one self-contained HTML page of a suite's results; no network, no scripts, readable on a phone."""

from ailft_bench.report.page import write_report

__all__ = ["write_report"]
