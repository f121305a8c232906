"""What differs between two runs: configuration, code, versions of packages, machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ailft_bench.store import RunDirectory

ABSENT = "-"
#: Parts of a specification and of its provenance, under the names that people look for.
_CONFIGURATION = ("method", "seed", "environment", "demonstrations", "env_steps", "evaluation", "agent")
_LABELS = ("suite", "scale", "algorithm", "variant")
_CODE = ("commit", "dirty", "diff_sha256", "source_sha256")
_MACHINE = ("python", "platform", "host", "cpu", "gpu")
_WORKER = ("precision", "compiled")


class Difference(NamedTuple):
    """One key with two values; ``kind``: labels, configuration, code, packages or machine."""

    kind: str
    key: str
    first: str
    second: str


def compare(first: RunDirectory, second: RunDirectory) -> list[Difference]:
    """Return what differs, configuration first; equal things are left out."""
    one, other = (dict(_facts(run)) for run in (first, second))
    found = []
    for kind, key in dict.fromkeys([*one, *other]):
        left, right = (str(facts.get((kind, key), ABSENT)) for facts in (one, other))
        if left != right:
            found.append(Difference(kind, key, left, right))
    return found


def _facts(run: RunDirectory) -> Iterator[tuple[tuple[str, str], Any]]:
    spec, attempts = run.spec, run.attempts.read()
    content = spec.model_dump()
    for key in (*_LABELS, *_CONFIGURATION):
        for path, value in _leaves(key, content[key]):
            yield ("labels" if key in _LABELS else "configuration", path), value
    for key in (*_CODE, *_MACHINE):
        yield ("code" if key in _CODE else "machine", key), spec.provenance.get(key, ABSENT)
    for key in _WORKER:
        yield ("machine", key), attempts[-1].provenance.get(key, ABSENT) if attempts else ABSENT
    for name, version in (spec.provenance.get("packages") or {}).items():
        yield ("packages", name), version


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{path}.{key}", item)
    else:
        yield path, value
