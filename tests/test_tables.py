import pandas as pd
import pytest
from synthetic_results import SyntheticRun, evaluation, write_all

from ailft_bench import tables
from ailft_bench.figures import summaries
from ailft_bench.figures.comparison import comparisons
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


def test_headline_says_how_fast_how_steady_and_how_safe(tmp_path):
    def rising(algorithm, seed, curve):
        measured = {100 * place: evaluation(score, cost=3) for place, score in enumerate(curve)}
        written = SyntheticRun(algorithm, seed, measured, {}, state="waiting").write(tmp_path)
        for step in (100, 200):
            metrics = {"cost": 5.0 * (seed + 1), "episode_length": 100.0, "tasks_completed": seed + step / 100}
            written.metrics.append("train", step, step // 100, metrics, 1.0)
        written.finish()

    rising("conservative", 0, [0, 0, 2, 4, 3])
    rising("conservative", 1, [0, 1, 1, 1, 1])
    rising("conservative", 2, [0, 0, 2, 2, 2])
    (found,) = comparisons(load_results(tmp_path))
    references = {"expert": evaluation(4, cost=2)}
    own = row(tables.headline(found, references), "conservative")
    # Two sub-tasks after 200 steps, twice, and never: the budget of 400.
    assert own["steps to 2"].startswith("267 [200, 400]")
    assert own["reached 2"] == "2/3"
    assert own["average over training"].startswith(f"{((1 + 3 + 3.5) + (0.5 + 1 + 1 + 1) + (1 + 2 + 2)) / 4 / 3:.2f} [")
    assert own["in training episodes"] == "2.50 [1.50, 3.50]"
    assert own["lost again"].startswith("0.33 [")
    assert own["unsteadiness in 1,000 steps"] not in (tables.MISSING, "0.00")
    assert own["spread over seeds"] == "1.00"  # without an interval, as three seeds have none
    assert own["cost rate in training"] == "0.10 [0.050, 0.15]"
    assert own["cost at evaluation"] == "3.00"
    expert = row(tables.headline(found, references), "expert (reference)")
    assert (expert["mean"], expert["success"], expert["cost at evaluation"]) == ("4.00", "1.00", "2.00")
    assert expert["seeds"] == expert["IQM"] == tables.MISSING


def test_control_is_a_baseline_too(tmp_path):
    runs = [run("conservative", seed, 3) for seed in range(3)] + [run("no_ail", seed, 2) for seed in range(3)]
    (found,) = comparisons(load_results(write_all(tmp_path, runs)))
    own = row(tables.against_control(found), "conservative")
    assert (own["against"], own["P(better)"], own["difference"]) == ("no_ail", "1.00", "1.00")
    assert tables.against_baseline(found).empty


def test_control_is_found_by_its_method_whatever_a_suite_calls_it(tmp_path):
    runs = [run("conservative", seed, 3) for seed in range(3)]
    runs += [run("cloning_online", seed, 2, method="no_ail") for seed in range(3)]
    (found,) = comparisons(load_results(write_all(tmp_path, runs)))
    assert row(tables.against_control(found), "conservative")["against"] == "cloning_online"


def test_steps_to_half_count_the_budget_of_each_line_where_budgets_differ(tmp_path):
    longer = {step: evaluation(1) for step in (0, 800)}
    runs = [run("conservative", seed, 1) for seed in range(3)]
    runs += [SyntheticRun("vmail", seed, longer, {}, env_steps=800) for seed in range(3)]
    (found,) = comparisons(load_results(write_all(tmp_path, runs)))
    delays = summaries.delay_table(found).query("series == 'seed'")
    assert delays.groupby("algorithm")["value"].unique().to_dict() == {"conservative": [400.0], "vmail": [800.0]}


def test_without_vmail_by_name_the_unpenalised_method_is_the_baseline(tmp_path):
    def dose(alpha, variant="default"):
        agent = {"online": True, "alpha": alpha}
        return [
            run(f"alpha_{alpha:g}", seed, 1 + alpha / 10, variant=variant, method="conservative", agent=agent)
            for seed in range(3)
        ]

    (found,) = comparisons(load_results(write_all(tmp_path, [*dose(10.0), *dose(0.0, "wide"), *dose(0.0)])))
    table = tables.against_baseline(found)
    own = row(table, "alpha_10")
    assert (own["against"], own["P(better)"], own["difference"]) == ("alpha_0", "1.00", "1.00")
    assert set(table["algorithm"]) == {"alpha_10", "alpha_0+wide"}


def test_variant_is_compared_with_the_baseline_in_the_same_variant(tmp_path):
    scores = {
        ("conservative", "wide"): 3,
        ("conservative", "default"): 2,
        ("vmail", "wide"): 2,
        ("vmail", "default"): 2,
    }
    scores |= {("conservative", "lone"): 1, ("no_ail", "wide"): 1}
    runs = [
        run(name, seed, score + seed % 2 / 2, variant=variant)
        for (name, variant), score in scores.items()
        for seed in range(3)
    ]
    (found,) = comparisons(load_results(write_all(tmp_path, runs)))
    against = {
        name: table.set_index("algorithm")[["against", "difference"]].agg(tuple, axis=1).to_dict()
        for name, table in (("vmail", tables.against_baseline(found)), ("no_ail", tables.against_control(found)))
    }
    assert against["vmail"] == {
        "conservative": ("vmail", "0.00"),
        "conservative+wide": ("vmail+wide", "1.00"),
        "conservative+lone": ("vmail", "-1.00"),
        "vmail+wide": ("vmail", "0.00"),
        "no_ail+wide": ("vmail+wide", "-1.00"),
    }
    assert against["no_ail"] == {"conservative+wide": ("no_ail+wide", "2.00"), "vmail+wide": ("no_ail+wide", "1.00")}


def test_variant_that_gives_the_baseline_a_penalty_is_compared_with_the_default(tmp_path):
    def dose(name, alpha, variant):
        agent = {"online": True, "alpha": alpha}
        return [run(name, seed, alpha, variant=variant, method="conservative", agent=agent) for seed in range(3)]

    runs = [*dose("none", 0.0, "default"), *dose("none", 1.0, "strong"), *dose("some", 2.0, "strong")]
    (found,) = comparisons(load_results(write_all(tmp_path, runs)))
    table = tables.against_baseline(found)
    assert set(table["against"]) == {"none"}
    assert row(table, "some+strong")["difference"] == "2.00"


def test_sampled_actions_are_a_column_beside_the_mean_action(comparison):
    table = tables.actions(comparison)
    own = row(table, "conservative")
    assert float(own["sub-tasks, mean"].split()[0]) == 2 * float(own["sub-tasks, sampled"].split()[0])


def test_headline_of_complete_runs_has_no_worst_case(tmp_path):
    (found,) = comparisons(load_results(write_all(tmp_path, [run("vmail", seed, 1 + seed) for seed in range(3)])))
    table = tables.headline(found)
    assert "worst case" not in table
    assert table["IQM"].tolist() == ["2.00 [1.00, 3.00]"]


def test_two_runs_and_runs_that_are_all_alike_have_no_interval(tmp_path):
    runs = [run("vmail", seed, 1 + seed) for seed in range(2)] + [run("conservative", seed, 1) for seed in range(3)]
    (found,) = comparisons(load_results(write_all(tmp_path, runs)))
    table = tables.headline(found)
    assert (row(table, "vmail")["IQM"], row(table, "conservative")["IQM"]) == ("1.50", "1.00")
    assert row(tables.against_baseline(found), "conservative")["difference"] == "-0.50"


def test_comparison_pairs_finished_seeds_and_corrects_p(comparison):
    table = tables.against_baseline(comparison)
    own = row(table, "conservative")
    assert own["pairs"] == "4"
    assert own["difference"] == "1.00"
    assert own["p (Holm, 1 tests)"] == "0.125"
    assert float(own["P(better)"].split()[0]) > 0.5


def test_safety_is_of_the_evaluation_and_of_training(comparison):
    own = row(tables.safety(comparison), "conservative")
    assert own["violating steps an episode"].startswith("2.00 [")
    assert own["rate in training"] == tables.MISSING  # no lengths of episodes were measured


def test_safety_in_training_is_also_that_since_the_actor_learns(tmp_path):
    agent = {"online": True, "prefill_steps": 100, "train_every": 5, "updates_per_train": 1}
    for seed in range(3):
        written = SyntheticRun("vmail", seed, {400: evaluation(1)}, {}, state="waiting", agent=agent).write(tmp_path)
        for step, cost in ((100, 10.0 + seed), (200, 4.0)):
            written.metrics.append("train", step, step // 100, {"cost": cost, "episode_length": 100.0}, 1.0)
        written.finish()
    (found,) = comparisons(load_results(tmp_path))
    own = row(tables.safety(found), "vmail")
    assert own["rate in training"].startswith("0.075 [")
    assert own["rate once the actor learns"] == "0.040"


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
    spelt = tables.to_latex(pd.DataFrame({"path": ["a\\b{c}~d^2"]}))
    assert r"a\textbackslash{}b\{c\}\textasciitilde{}d\textasciicircum{}2" in spelt
    assert "&lt;1&gt;" in tables.to_html(table)


def test_numbers_that_are_not_known_are_dashes():
    assert tables.number(float("nan")) == tables.MISSING
    assert tables.interval(1.234, float("nan"), float("nan")) == "1.23"
    assert tables.interval(1, 0.5, 1.5) == "1.00 [0.50, 1.50]"
    assert tables.number(1234.5) == "1234"
