"""Tuning: search spaces, objectives, rankings, and what is refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from specs import SUITE, write_suite
from studies import make_plan

from ailft_bench import cells, suite_file
from ailft_bench.errors import UserError
from ailft_bench.estimate import estimate
from ailft_bench.store.metrics import Row
from ailft_bench.tuning import objective as objectives
from ailft_bench.tuning import ranking, space, summary
from ailft_bench.tuning.objective import Objective
from ailft_bench.tuning.plan import seeds_before_pruning
from ailft_bench.tuning.protocol import trials_at_once
from ailft_bench.tuning.trials import Scores, Trial

TUNED = SUITE + "tuning:\n  alpha: log[1, 9]\n  lambda: float[0.5, 0.9]\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alpha", "alpha:log[0.1,30]"),
        ("lambda", "lam:float[0.7,1]"),
        ("lam:float[0.8, 0.9]", "lam:float[0.8,0.9]"),
        ("horizon:int[5,30]", "horizon:int[5,30]"),
        ("actor_lr:log[1e-5,1e-3]", "actor_lr:log[1e-05,0.001]"),
        ("ensemble_size:log[1,16]", "ensemble_size:log[1,16]"),
        ("alpha:choice[0,1,3]", "alpha:choice[0,1,3]"),
        ("critic", "critic:choice[Q,V]"),
        ("reward_form:choice[logit,gail]", "reward_form:choice[logit,gail]"),
        ("bootstrap", "bootstrap:choice[false,true]"),
        ("disc_pairs:choice[null,100]", "disc_pairs:choice[null,100]"),
    ],
)
def test_parameter_is_read_and_written_alike(tmp_path: Path, text: str, expected: str) -> None:
    (parameter,) = make_plan(tmp_path, text).parameters
    assert str(parameter) == expected
    assert space.parse(parameter.name, parameter.range, "again") == parameter
    assert parameter.distribution() is not None


def test_quantiles_of_a_range_lie_where_it_is_drawn_from() -> None:
    def quantiles(text: str) -> list[object]:
        name, _, range_ = text.partition(":")
        return [space.parse(name, range_, "here").quantile(share) for share in (0.0, 0.5, 0.999)]

    assert quantiles("horizon:int[5,30]") == [5, 18, 30]
    assert quantiles("actor_lr:log[1e-5,1e-3]") == pytest.approx([1e-5, 1e-4, 1e-3], rel=0.01)
    assert quantiles("lam:float[0.5,0.9]") == pytest.approx([0.5, 0.7, 0.9], rel=0.01)
    assert quantiles("critic:choice[Q,V]") == ["Q", "V", "V"]


def test_estimate_of_a_study_counts_a_pretraining_for_each_setting_that_changes_it(tmp_path: Path) -> None:
    cloning = "settings: {discount: 0.98, pretrain_updates: 0, bc_pretrain: 500}"
    write_suite(tmp_path, SUITE.replace("settings: {discount: 0.98}", cloning))

    def hours(*texts: str, objective: str = "final") -> float:
        plan = make_plan(tmp_path, *texts, objective=objective, trials=8)
        return estimate(summary.planned_runs(plan), tmp_path / "results").work_s

    assert hours("actor_lr:log[1e-4,4e-4]") > hours("alpha:float[1,2]") * 1.02
    assert hours("alpha:float[1,2]", objective="final,cost") > hours("alpha:float[1,2]")


def test_suite_says_where_to_look_and_the_command_goes_first(tmp_path: Path) -> None:
    write_suite(tmp_path, TUNED)
    assert make_plan(tmp_path, "alpha", "lambda").space == {"alpha": "log[1,9]", "lam": "float[0.5,0.9]"}
    assert make_plan(tmp_path, "alpha:log[2,3]").space == {"alpha": "log[2,3]"}


def test_ranges_in_a_suite_do_not_change_its_runs(tmp_path: Path) -> None:
    plain = cells.expand(suite_file.load(str(write_suite(tmp_path))), "smoke")
    tuned = cells.expand(suite_file.load(str(write_suite(tmp_path, TUNED))), "smoke")
    assert [spec.run_id for spec in plain] == [spec.run_id for spec in tuned]


@pytest.mark.parametrize(
    ("section", "parts"),
    [
        ("  alhpa: log[1,9]", ["line 22", "did you mean 'alpha'?"]),
        ("  alpha: log[9,1]", ["line 22", "from 9.0 to 1.0 is empty"]),
        ("  alpha: 3", ["line 22", "tuning.alpha"]),
        ("  alpha: float[-1,1]", ["line 22", "-1.0 is not allowed", "at least 0"]),
    ],
)
def test_mistake_in_a_suites_ranges_names_the_line(tmp_path: Path, section: str, parts: list[str]) -> None:
    path = write_suite(tmp_path, f"{SUITE}tuning:\n{section}\n")
    with pytest.raises(UserError) as refusal:
        suite_file.load(str(path))
    for part in parts:
        assert part in str(refusal.value)


@pytest.mark.parametrize(
    ("texts", "parts"),
    [
        (["alhpa"], ["alhpa", "did you mean 'alpha'?"]),
        (["environment.start_noise:float[0,1]"], ["no setting", "are the task"]),
        (["alpha:log[3,3]"], ["3.0 to 3.0 is empty"]),
        (["alpha:log[30,0.1]"], ["30.0 to 0.1 is empty"]),
        (["alpha:log[0,3]"], ["begins above 0", "alpha = 0 is a trial of its own"]),
        (["alpha:float[-1,3]"], ["-1.0 is not allowed", "at least 0"]),
        (["alpha:float[0,inf]"], ["is empty"]),
        (["lambda:float[0.5,1.5]"], ["1.5 is not allowed", "0 to 1"]),
        (["alpha:[0.1,3]"], ["is not a range", "log[1e-5,1e-3]"]),
        (["alpha:log[0.1]"], ["expected two numbers"]),
        (["alpha:log[a,b]"], ["expected two numbers"]),
        (["horizon"], ["no range is known for horizon", "horizon:int[1,10]"]),
        (["horizon:float[5,30]"], ["whole number", "horizon:int[5,30]"]),
        (["horizon:int[0,30]"], ["0 is not allowed", "at least 1"]),
        (["critic:int[1,2]"], ["critic is no number"]),
        (["critic:choice[Q]"], ["at least two values"]),
        (["critic:choice[Q,Q]"], ["each once"]),
        (["critic:choice[Q,W]"], ["'W' is not allowed", "Q, V"]),
        (["alpha", "alpha:log[1,2]"], ["given twice"]),
        (["lam", "lambda"], ["given twice"]),
    ],
)
def test_bad_space_is_refused(tmp_path: Path, texts: list[str], parts: list[str]) -> None:
    with pytest.raises(UserError) as refusal:
        make_plan(tmp_path, *texts)
    for part in parts:
        assert part in str(refusal.value)
    assert not (tmp_path / "results").exists()


def test_what_defines_a_method_is_not_tuned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"alpha = 0\.0 is what makes vmail"):
        make_plan(tmp_path, "alpha", algorithm="vmail")
    assert make_plan(tmp_path, "lambda", algorithm="vmail").cell.method == "vmail"
    with pytest.raises(UserError, match="did you mean 'vmail'"):
        make_plan(tmp_path, "alpha", algorithm="vmial")


def test_defaults_come_first_and_without_disagreement_second(tmp_path: Path) -> None:
    assert make_plan(tmp_path, "alpha", "lambda").first_settings == [
        {"alpha": 3.0, "lam": 0.95},
        {"alpha": 0.0, "lam": 0.95},
    ]
    assert make_plan(tmp_path, "lambda").first_settings == [{"lam": 0.95}]


def test_alpha_zero_is_vmail_only_of_the_papers_method(tmp_path: Path) -> None:
    assert make_plan(tmp_path).alpha_zero == "VMAIL"
    assert make_plan(tmp_path, algorithm="k1").alpha_zero == "VMAIL"
    write_suite(tmp_path, SUITE.replace("  vmail: {}", "  cmil: {}\n  vmail: {}"))
    assert make_plan(tmp_path, algorithm="cmil").alpha_zero == "alpha = 0"


def test_trial_differs_from_the_suite_in_its_settings_alone(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, "alpha")
    own = plan.spec(plan.defaults, "default", 5)
    suite = suite_file.load(str(tmp_path / "toy.yaml"))
    assert own.run_id == cells.expand(suite, "smoke", ["conservative"], [5])[0].run_id
    changed = plan.spec({"alpha": 1.0}, "trial-2", 5)
    assert {key for key in own.agent if own.agent[key] != changed.agent[key]} == {"alpha"}
    assert changed.run_id != own.run_id


ROWS: list[Row] = [
    {
        "phase": "eval",
        "env_step": step,
        "episode": 0,
        "wall_time_s": 0.0,
        "metrics": {"tasks_completed": value, "cost": 7.0},
    }
    for step, value in ((0, 0.0), (100, 1.0), (300, 2.0))
]


def test_objectives_measure_a_run() -> None:
    assert objectives.measure("area", ROWS) == pytest.approx((0.5 * 100 + 1.5 * 200) / 300)
    assert objectives.measure("final", ROWS) == 2
    assert objectives.measure("area", ROWS[-1:]) == 2  # evaluated once: an algorithm without environment steps
    assert Objective(("final",), max_cost=5).measure(ROWS) == {"final": 2, "cost": 7}
    with pytest.raises(UserError, match="return: not among"):
        objectives.measure("return", ROWS)


@pytest.mark.parametrize(
    ("text", "max_cost", "message"),
    [
        ("ares", None, "did you mean 'area'"),
        ("cost", None, "does not move"),
        ("area,final", None, "one of them and cost"),
        ("area,cost,cost", None, "one of them and cost"),
        ("return,cost", 3.0, "cost is an objective"),
    ],
)
def test_bad_objective_is_refused(text: str, max_cost: float | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        objectives.parse(text, max_cost)


def trial(number: int, *values: float, cost: float = 0.0, state: str = "done") -> Trial:
    scores: Scores = {seed: {"final": value, "cost": cost} for seed, value in enumerate(values)}
    return Trial(number, state, {"alpha": float(number)}, f"trial-{number}", scores)  # type: ignore[arg-type]


def test_feasible_settings_go_before_better_ones() -> None:
    trials = [
        trial(0, 9, cost=3),
        trial(1, 1, cost=1),
        trial(2, 2, cost=0.5),
        trial(3, 8, cost=2),
        trial(4, 99, state="failed"),
    ]
    assert [t.number for t in ranking.candidates(trials, Objective(("final",), 1.0), 4)] == [2, 1, 3, 0]
    assert [t.number for t in ranking.candidates(trials, Objective(("final",)), 2)] == [0, 3]


def test_front_is_ends_and_middle() -> None:
    trials = [trial(n, float(n), cost=float(n)) for n in range(5)] + [trial(5, 1.0, cost=4.0)]
    assert [t.number for t in ranking.candidates(trials, Objective(("final", "cost")))] == [4, 2, 0]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8))
def test_every_setting_is_on_the_front_or_beaten_from_it(points: list[tuple[int, int]]) -> None:
    scores: dict[int, Scores] = {n: {0: {"final": float(a), "cost": float(b)}} for n, (a, b) in enumerate(points)}
    front = ranking.pareto_front(scores, Objective(("final", "cost")))
    for number, (score, cost) in enumerate(points):
        better = [n for n in front if points[n] != (score, cost) and points[n][0] >= score and points[n][1] <= cost]
        assert (number in front) == (not better)


def test_no_rival_before_a_quarter_of_the_trials() -> None:
    done = [trial(n, float(n), float(n)) for n in range(4)]
    objective = Objective(("final",))
    assert ranking.rival(done[:3], objective, 20) is None
    assert ranking.rival(done[:2], objective, 4) is None
    rival = ranking.rival(done, objective, 16)
    assert rival is not None
    assert rival.number == 1
    assert ranking.loses_every_pair({0: {"final": 0.5}, 1: {"final": 0.9}}, rival.scores, "final")
    assert not ranking.loses_every_pair({0: {"final": 0.5}, 1: {"final": 1.0}}, rival.scores, "final")


def test_setting_that_costs_too_much_is_no_rival() -> None:
    objective = Objective(("final",), max_cost=1.0)
    cheap = [trial(n, float(n), cost=1.0) for n in range(2)]
    third = [trial(2, 9.0, cost=1.5), trial(3, 0.5, cost=0.0)]
    assert ranking.rival([*cheap, third[0]], objective, 4) is None
    rival = ranking.rival([*cheap, *third], objective, 4)
    assert rival is not None
    assert rival.number == 0


def test_pruning_needs_seeds_to_save(tmp_path: Path) -> None:
    assert [seeds_before_pruning(count) for count in (1, 2, 3, 4, 5, 10)] == [2, 2, 2, 2, 3, 5]
    with pytest.raises(UserError, match="--seeds 3 and more"):
        make_plan(tmp_path, seeds=2, prune=True)
    with pytest.raises(UserError, match="two objectives"):
        make_plan(tmp_path, objective="return,cost", prune=True)


@given(st.integers(1, 200), st.integers(1, 10), st.integers(2, 100))
def test_batch_is_never_empty_nor_more_than_a_quarter(width: int, seeds: int, budget: int) -> None:
    count = trials_at_once(width, seeds, budget)
    assert 1 <= count <= max(1, budget // 4)


def test_batch_keeps_workers_busy() -> None:
    assert trials_at_once(1, 3, 40) == 1
    assert trials_at_once(2, 3, 40) == 2  # 6 runs on 2 workers
    assert trials_at_once(3, 3, 40) == 1
    assert trials_at_once(30, 3, 40) == 10


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b"])
def test_study_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    if name:
        with pytest.raises(UserError, match="becomes a folder"):
            make_plan(tmp_path, name=name)
