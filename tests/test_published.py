"""What is published: committed tables are made of committed runs, and the documents quote these tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ailft_bench import statistics, tables
from ailft_bench.bundle import import_bundle
from ailft_bench.figures.comparison import Cell, Comparison, comparisons
from ailft_bench.references import read_references, reference_files
from ailft_bench.results import load_results

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "results" / "reference"
BUNDLES = sorted(path.name for path in REFERENCE.iterdir())
DOCUMENTS = ("README.md", "docs/findings.md")
NUMBER = re.compile(r"(?<![\w.,])-?\d+(?:\.\d+)?(?!\w)")
ESTIMATE = re.compile(r"(-?\d+\.\d+) \[(-?\d+\.\d+), (-?\d+\.\d+)\]")
# Differences between two rows, neither of which is the baseline or the control: no table of a bundle has them.
DIFFERENCES = {
    "0.59 [0.44, 0.72]": ("push_alpha", "cpu", "alpha_30", "alpha_100", range(5)),
    "-0.07 [-0.28, 0.10]": ("push_alpha", "cpu", "alpha_30", "alpha_0", range(5, 15)),
    "0.17 [0.03, 0.31]": ("kitchen_hard", "long", "conservative", "bc", range(5)),
}

Estimate = tuple[float, ...]


def compared(bundle: str, tmp_path: Path) -> Iterator[tuple[Comparison, dict[str, dict[str, float]]]]:
    """Yield the comparisons of a committed bundle with their reference lines, from its runs and nothing else."""
    import_bundle(REFERENCE / bundle, tmp_path)
    results = load_results(tmp_path)
    references = read_references(reference_files(results, tmp_path))
    for comparison in comparisons(results):
        yield comparison, references.get((comparison.suite, comparison.scale), {})


def estimates(text: str) -> Iterator[tuple[str, Estimate]]:
    for found in ESTIMATE.finditer(text):
        yield found[0], tuple(map(float, found.groups()))


def agree(quoted: str, exact: Estimate) -> bool:
    """Whether the numbers are the exact ones, rounded to as many digits as they have; either sign of a difference."""
    said = ESTIMATE.search(quoted)
    assert said is not None
    value, low, high = exact
    units = [10.0 ** -len(number.split(".")[1]) for number in said.groups()]
    return any(
        all(abs(float(n) - e) <= 0.501 * unit for n, e, unit in zip(said.groups(), signed, units, strict=True))
        for signed in ((value, low, high), (-value, -high, -low))
    )


def rows_of(markdown: str) -> list[dict[str, str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.strip().splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_committed_tables_are_made_of_the_committed_runs(bundle: str, tmp_path: Path) -> None:
    built = {
        f"{comparison.suite}-{comparison.scale}-{name}.md": tables.to_markdown(table)
        for comparison, references in compared(bundle, tmp_path)
        for name, table in tables.of(comparison, references).items()
    }
    committed = {path.name: path.read_text() for path in (REFERENCE / bundle / "tables").glob("*.md")}
    assert built.keys() == committed.keys()
    for name, text in built.items():
        assert NUMBER.sub("#", text) == NUMBER.sub("#", committed[name]), name
        # The last digit of a half may fall either way on another processor.
        for now, then in zip(NUMBER.findall(text), NUMBER.findall(committed[name]), strict=True):
            unit = 10.0 ** -len(then.partition(".")[2])
            assert abs(float(now) - float(then)) <= 1.01 * unit, (name, now, then)


def test_committed_results_stay_small() -> None:
    assert sum(path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file()) <= 20_000_000


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_estimate_in_a_document_stands_in_a_committed_table(document: str) -> None:
    exact = {estimate for path in REFERENCE.glob("*/tables/*.md") for _, estimate in estimates(path.read_text())}
    quoted = [text for text, _ in estimates((ROOT / document).read_text())]
    assert quoted
    assert [text for text in quoted if text not in DIFFERENCES and not any(agree(text, e) for e in exact)] == []


@pytest.mark.parametrize("quoted", DIFFERENCES)
def test_differences_between_other_rows_are_those_of_the_committed_runs(quoted: str, tmp_path: Path) -> None:
    bundle, scale, better, worse, seeds = DIFFERENCES[quoted]
    comparison = next(comparison for comparison, _ in compared(bundle, tmp_path) if comparison.scale == scale)
    finals = (comparison.final_rows(Cell(name, "default"), tables.SCORE).set_index("seed") for name in (better, worse))
    x, y = (rows.loc[list(seeds), ["value"]].to_numpy() for rows in finals)
    interval = statistics.paired_interval(x, y, np.random.default_rng(0))
    # Another generator than that of the quoted number: its interval may differ in the last digit.
    assert ((x - y).mean(), *interval) == pytest.approx(next(estimates(quoted))[1], abs=0.0151)
    assert any(quoted in (ROOT / document).read_text() for document in DOCUMENTS)


def test_table_of_the_readme_quotes_the_headline_tables() -> None:
    table = re.search(r"^\| suite \|.*?(?=\n\n)", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert table is not None
    suite = ""
    for row in rows_of(table[0]):
        named = re.search(r"\(`(\w+)`\)", row["suite"])
        suite, scale = (named[1], "cpu") if named else (suite, "long")
        headline = (REFERENCE / suite / "tables" / f"{suite}-{scale}-headline.md").read_text()
        reported = {line["algorithm"]: line for line in rows_of(headline)}
        lines = {
            "conservative": reported.get("conservative") or reported[f"alpha_{row['alpha']}"],
            "VMAIL": reported.get("vmail") or reported["alpha_0"],
            "control: cloning online": reported.get("no_ail"),
            "cloning alone: in the world model": reported.get("bc"),
            "cloning alone: three frames": reported.get("bc_cnn"),
        }
        for column, line in lines.items():
            assert row[column] == (line["IQM"] if line else ""), (row["suite"], column)
        assert row["replay"] == reported["replay (reference)"]["mean"]
        assert {f"{row['seeds']}/{row['seeds']}"} == {line["seeds"] for line in lines.values() if line}
