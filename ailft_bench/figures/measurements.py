"""Where in the tidy table the measurements of each line of a figure are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ailft_bench.results import Results

#: By suite, scale, algorithm and variant: row numbers by phase and metric.
Places = Mapping[tuple[str, ...], Mapping[tuple[str, str], np.ndarray]]

_RUN = ["suite", "scale", "algorithm", "variant", "run_id"]


def places_of(results: Results) -> Places:
    """Return the row numbers (n,) of each metric of each line, those of superseded runs left out.

    There may be millions of rows: they are sorted once, by small integers, and never copied as a whole.
    """
    metrics, current = results.metrics, results.runs[~results.runs["superseded"]]
    line_of: dict[tuple[str, ...], int] = {}
    lines: dict[tuple[str, ...], int] = {}
    for run in zip(*(current[name] for name in _RUN), strict=True):
        line_of[run] = lines.setdefault(run[:-1], len(lines))
    labels = [metrics[name].cat for name in _RUN]
    codes = [column.codes.to_numpy() for column in labels]
    # A run's rows lie together.
    changes = np.zeros(len(metrics), bool)
    for code in codes:
        changes[1:] |= code[1:] != code[:-1]
    changes[:1] = True
    starts = np.flatnonzero(changes)
    found = [
        line_of.get(tuple(column.categories[code[start]] for column, code in zip(labels, codes, strict=True)), -1)
        for start in starts
    ]
    phase, metric = metrics["phase"].cat, metrics["metric"].cat
    sizes = len(phase.categories), len(metric.categories)
    small = np.min_scalar_type(-1 - len(lines) * sizes[0] * sizes[1])
    key = np.repeat(np.array(found, small), np.diff(np.append(starts, len(metrics))))
    left_out = key < 0
    for column, size in ((phase, sizes[0]), (metric, sizes[1])):
        key *= small.type(size)
        key += column.codes.to_numpy().astype(small)
    key[left_out] = -1
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    begins = np.flatnonzero(np.diff(ordered, prepend=small.type(-2)))
    places: dict[tuple[str, ...], dict[tuple[str, str], np.ndarray]] = {line: {} for line in lines}
    names = list(lines)
    for begin, rows in zip(begins, np.split(order, begins[1:]), strict=True):
        if ordered[begin] >= 0:
            rest, name = divmod(int(ordered[begin]), sizes[1])
            line, kind = divmod(rest, sizes[0])
            places[names[line]][phase.categories[kind], metric.categories[name]] = rows
    return places
