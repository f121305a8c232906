"""Bundles: a study as one directory for a paper or a colleague, and its way back into a results folder.

Layout::

    results.parquet   every measurement, in the schema of ``export``
    runs.csv          every run, those that failed or are missing included
    figures/          PNG, PDF and the data behind each
    tables/           headline, comparisons, tasks, actions, safety and runs in Markdown and LaTeX
    runs/             run.json, metrics (gzip) and result of every run: what ``import`` takes
    references/       the episodes of random, replay and expert (gzip), where measured: ``import`` takes them too
    suite.yaml        the suite, where its file was at hand
    versions.txt      the versions of packages that the runs were made with, for pip
    reproduce.sh      the commands from a checkout to these figures, at the commits that the runs were made at
"""

from __future__ import annotations

import gzip
import json
import shutil
import stat
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ailft_bench import figures, reproduction, tables
from ailft_bench.durable import storage_errors, temporary_beside, write_bytes
from ailft_bench.errors import UserError, did_you_mean
from ailft_bench.figures.comparison import Comparison, comparisons
from ailft_bench.references import is_whole, read_references, reference_files
from ailft_bench.results import Results, specs_of, write_table
from ailft_bench.store import RunDirectory, RunSpec, runs
from ailft_bench.suite import folder_name, suite_name

#: What a run's folder takes along: everything but checkpoints, replay and locks. A bundle has the metrics, which
#: are most of it and repeat themselves, as ``metrics.jsonl.gz``.
_KEPT = ("run.json", "attempts.jsonl", "metrics.jsonl", "failed.json", "result.parquet", "asked.json", "done")
_COMPRESSED = "metrics.jsonl"
_WITH_PROVENANCE = {"run.json", "attempts.jsonl", "failed.json"}
#: What of a ``run.json`` becomes part of a path, and the rule that a suite has for it.
_NAMES = {
    "suite": suite_name,
    "scale": folder_name,
    "algorithm": folder_name,
    "variant": folder_name,
    "run_id": folder_name,
}


def write_bundle(results: Results, results_dir: Path, out: Path, suite_file: Path | None = None) -> Path:
    """Write a bundle of ``results``, which are of ``results_dir``, to the new directory ``out``.

    Raises:
        UserError: ``out`` exists, nothing was evaluated, the runs are of scale smoke (plumbing, never a
            result), or the file system refused.
    """
    if out.exists():
        raise UserError(f"{out}: exists already; choose another directory or move it away")
    if (results.runs["scale"] == "smoke").any():
        raise UserError("scale 'smoke' proves the plumbing and is never a result: choose another with --scale")
    partial = temporary_beside(out)
    with storage_errors(out):
        lines = reference_files(results, results_dir)
        references = read_references(lines)
        try:
            for name in ("figures", "tables", "runs"):
                (partial / name).mkdir(parents=True)
            whole = results.runs[~results.runs["state"].isin(["missing", "damaged"])]
            made = [RunDirectory(Path(directory)) for directory in whole["directory"]]
            places = _places(made, results_dir)
            reasons = [_without_places(reason, places) for reason in results.runs["reason"]]
            results = replace(results, runs=results.runs.assign(reason=reasons))
            figures.plot(results, partial / "figures", references)
            for comparison in comparisons(results):
                known = references.get((comparison.suite, comparison.scale), {})
                _write_tables(comparison, known, partial / "tables")
            write_table(results.metrics, partial / "results.parquet")
            write_table(results.runs.drop(columns="directory"), partial / "runs.csv")
            for run in made:
                _pack(run.path, run.spec.directory(partial / "runs"), places)
            for path in lines.values():
                (partial / "references").mkdir(exist_ok=True)
                _compress(path, partial / "references" / f"{path.name}.gz")
            if suite_file is not None:
                shutil.copyfile(suite_file, partial / "suite.yaml")
            specs = specs_of(results.runs)
            write_bytes(partial / "versions.txt", _versions(specs).encode())
            script = partial / "reproduce.sh"
            write_bytes(script, _without_places(reproduction.script(specs, suite_file), places).encode())
            script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
            partial.rename(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return out


@dataclass(frozen=True)
class Imported:
    """Runs that an import took, those it refused with the reason, and how many suites' reference lines it took."""

    taken: list[Path]
    refused: dict[Path, str]
    lines: int


def import_bundle(bundle: Path, results_dir: Path) -> Imported:
    """Take the runs of ``bundle`` into ``results_dir``; a run that its suite has there already is refused.

    References that are there already are the same ones, and stay.

    Raises:
        UserError: ``bundle`` is none, one of its runs or files is damaged or would lie outside ``results_dir``, or
            the file system refused. What is damaged is found before anything is taken.
    """
    if not bundle.is_dir():
        raise UserError(f"{bundle}: no such directory{did_you_mean(bundle, bundle.parent.glob('*/'))}")
    found = list(runs(bundle / "runs"))
    if not found:
        raise UserError(f"{bundle}: not a bundle: there is no run in {bundle / 'runs'}")
    lines = {
        results_dir / "references" / packed.stem: _decompressed(packed)
        for packed in sorted((bundle / "references").glob("*.json.gz"))
    }
    for run in found:
        _check_names(run)
    waiting: dict[Path, Path] = {}
    refused: dict[Path, str] = {}
    try:
        for run in found:
            target = run.spec.directory(results_dir)
            if target.exists() or target in waiting:
                refused[run.path] = f"{run.spec.run_id} is there already: {target}"
                continue
            waiting[target] = temporary_beside(target)
            with storage_errors(target):
                _unpack(run.path, waiting[target])
        # Only now that all of them are known to be whole.
        for target, partial in waiting.items():
            with storage_errors(target):
                partial.rename(target)
    finally:
        for partial in waiting.values():
            shutil.rmtree(partial, ignore_errors=True)
    missing = [path for path in lines if not is_whole(path)]
    for path in missing:
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, lines[path])
    return Imported(list(waiting), refused, len(missing))


def _write_tables(comparison: Comparison, references: Mapping[str, Mapping[str, float]], folder: Path) -> None:
    for name, table in tables.of(comparison, references).items():
        stem = f"{comparison.suite}-{comparison.scale}-{name}"
        write_bytes(folder / f"{stem}.md", tables.to_markdown(table).encode())
        write_bytes(folder / f"{stem}.tex", tables.to_latex(table).encode())


def _pack(source: Path, target: Path, places: Mapping[str, str]) -> None:
    """Copy a run's folder into a bundle; ``places`` are replaced where provenance may name them."""
    target.mkdir(parents=True)
    for name in _KEPT:
        if not (source / name).exists():
            continue
        if name in _WITH_PROVENANCE:
            text = (source / name).read_text(encoding="utf-8")
            escaped = {json.dumps(place)[1:-1]: stands_for for place, stands_for in places.items()}
            write_bytes(target / name, _without_places(text, escaped).encode())
        elif name == _COMPRESSED:
            _compress(source / name, target / f"{name}.gz")
        else:
            shutil.copyfile(source / name, target / name)


def _check_names(run: RunDirectory) -> None:
    """Refuse a run that its own ``run.json`` would put elsewhere than into the results folder.

    Raises:
        UserError: a name of it is none that a suite could have.
    """
    for key, check in _NAMES.items():
        name = getattr(run.spec, key)
        try:
            check(name)
        except ValueError as error:
            raise UserError(f"{run.path / 'run.json'}: {key}: {name!r}: {error}") from error


def _unpack(source: Path, target: Path) -> None:
    """Copy a run's folder out of a bundle.

    Raises:
        UserError: the compressed metrics or the result are damaged.
    """
    target.mkdir(parents=True)
    for name in _KEPT:
        packed = source / f"{name}.gz"
        if name == _COMPRESSED and packed.exists():
            write_bytes(target / name, _decompressed(packed))
        elif (source / name).exists():
            shutil.copyfile(source / name, target / name)
    result = source / "result.parquet"
    if result.exists():
        try:
            pq.read_table(result)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(result, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: damaged ({error}); get this bundle again")


def _compress(source: Path, target: Path) -> None:
    """Pack one file, without the time of packing, which would change the bytes of the same content."""
    write_bytes(target, gzip.compress(source.read_bytes(), mtime=0))


def _decompressed(path: Path) -> bytes:
    content = path.read_bytes()
    try:
        if not content:
            raise EOFError("empty")
        return gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path, error) from error


def _places(made: Iterable[RunDirectory], results_dir: Path) -> dict[str, str]:
    """Return what stands in a bundle for the folders of the machine that made it: they are nobody's business."""
    places = {str(results_dir.absolute()): "results"}
    for run in made:
        provenance = [run.spec.provenance, *(attempt.provenance for attempt in run.attempts.read())]
        directories = {str(found["directory"]) for found in provenance if found.get("directory")}
        places |= {str(run.path.resolve().parents[3]): "results"} | dict.fromkeys(directories - {"/"}, ".")
    return dict(sorted(places.items(), key=lambda place: -len(place[0])))


def _without_places(text: str, places: Mapping[str, str]) -> str:
    for place, stands_for in places.items():
        text = text.replace(place, stands_for)
    return text


def _versions(specs: Iterable[RunSpec]) -> str:
    """Return pip's requirements; of several versions of a package the highest, with the others as comments."""
    found: dict[str, set[str]] = {}
    for spec in specs:
        for name, version in (spec.provenance.get("packages") or {}).items():
            if version is not None and name != "ailft-bench":
                found.setdefault(name, set()).add(str(version))
    lines = []
    for name, versions in sorted(found.items()):
        pins = [f"{name}=={version.partition('+')[0]}" for version in sorted(versions, key=_order)]
        lines += [pins[-1], *(f"# also: {pin}" for pin in pins[:-1])]
    return "\n".join([*lines, ""])


def _order(version: str) -> tuple[list[int], bool, str]:
    """Sort versions by their numbers (2.9 before 2.10), and what comes before a release (2.10rc1) before it."""
    rest = version.lstrip("0123456789.")
    numbers = [int(number) for number in version.removesuffix(rest).split(".") if number]
    return numbers, not rest.startswith(("a", "b", "c", "rc", "dev")), rest
