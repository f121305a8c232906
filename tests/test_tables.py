import pandas as pd
import pytest
from synthetic_results import SyntheticRun, evaluation, write_all

from ailft_bench import tables
from ailft_bench.figures.data import comparisons
from ailft_bench.results import load_results


def run(algorithm, seed, score, **changes):
    measured = {step: evaluation(score, cost=seed) for step in (0, 400)}
    return SyntheticRun(algorithm, seed, measured, {200: 2.0, 400: 0.0}, **changes)


@pytest.fixture
def comparison(tmp_path):
    """Scores 1 to 4 against 0 to 3 on the same seeds; the fifth seed of VMAIL failed."""
    runs = [run("conservative", seed, min(seed + 1, 4)) for seed in range(5)]
    runs += [run("vmail", seed, seed) for seed in range(4)] + [run("vmail", 4, 4, state="failed")]
    (found,) = comparisons(load_results(write_all(tmp_path, runs)))
    return found


def row(table, name):
    return table.set_index("algorithm").loc[name]


def test_headline_counts_seeds_and_gives_the_worst_case(comparison):
    table = tables.headline(comparison)
    assert row(table, "conservative")["seeds"] == "5/5"
    # 1, 2, 3, 4, 4: one is dropped at each end.
    assert row(table, "conservative")["IQM"].startswith("3.00 [")
    vmail = row(table, "vmail")
    assert (vmail["seeds"], vmail["mean"], vmail["worst case"]) == ("4/5", "1.50", "1.20")


def test_headline_of_complete_runs_has_no_worst_case(tmp_path):
    (found,) = comparisons(load_results(write_all(tmp_path, [run("vmail", seed, 1) for seed in range(2)])))
    table = tables.headline(found)
    assert "worst case" not in table
    assert table["IQM"].tolist() == ["1.00 [1.00, 1.00]"]


def test_comparison_pairs_finished_seeds_and_corrects_p(comparison):
    table = tables.against_baseline(comparison)
    own = row(table, "conservative")
    assert own["pairs"] == "4"
    assert own["difference"] == "1.00 [1.00, 1.00]"
    assert own["p (Holm, 1 tests)"] == "0.125"
    assert float(own["P(better than vmail)"].split()[0]) > 0.5


def test_safety_is_of_the_evaluation_and_of_training(comparison):
    own = row(tables.safety(comparison), "conservative")
    assert own["violating steps an episode"].startswith("2.00 [")
    assert own["rate in training"] == tables.MISSING  # no lengths of episodes were measured


def test_every_run_is_a_row_with_the_reason_of_its_failure(comparison):
    table = tables.runs(comparison)
    assert len(table) == 10
    failed = table[table["state"] == "failed"].iloc[0]
    assert (failed["algorithm"], failed["seed"], failed["last score"]) == ("vmail", "4", "4.00")
    assert "not finite" in failed["why"]


def test_tables_are_escaped_in_every_format():
    table = pd.DataFrame([{"algorithm": "a_b|c", "100 %": "<1>"}])
    assert tables.to_markdown(table).splitlines()[2] == r"| a_b\|c | <1> |"
    assert r"a\_b|c & <1> \\" in tables.to_latex(table)
    assert r"100 \%" in tables.to_latex(table)
    assert "&lt;1&gt;" in tables.to_html(table)


def test_numbers_that_are_not_known_are_dashes():
    assert tables.number(float("nan")) == tables.MISSING
    assert tables.interval(1.234, float("nan"), float("nan")) == "1.23"
    assert tables.interval(1, 0.5, 1.5) == "1.00 [0.50, 1.50]"
    assert tables.number(1234.5) == "1234"
