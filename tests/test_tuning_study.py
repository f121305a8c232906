"""Tuning studies: several processes, kills, blocks of seeds that never meet, and nothing that leaks into results."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pandas as pd
import pytest
from rich.console import Console
from specs import SUITE, make_spec, write_suite
from studies import Quick, make_plan, play, score

from ailft_bench import status
from ailft_bench.errors import UserError
from ailft_bench.pool import Ending
from ailft_bench.results import load_results, newest_suite
from ailft_bench.store import RunDirectory, RunSpec, runs
from ailft_bench.tuning import summary
from ailft_bench.tuning.plan import BLOCKS
from ailft_bench.tuning.protocol import Outcome, Stopped
from ailft_bench.tuning.study import Study
from ailft_bench.tuning.trials import Trials


def tuning_runs(study: Study) -> list[RunDirectory]:
    return [run for block in BLOCKS for run in runs(study.root(block))]


def test_protocol_tunes_selects_and_reports_on_seeds_that_never_meet(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, trials=8)
    study, outcome, _ = play(tmp_path, plan)
    assert [trial.state for trial in outcome.trials] == ["done"] * 8
    assert outcome.trials[0].settings == {"alpha": 3.0}
    assert outcome.trials[1].settings == {"alpha": 0.0}
    assert all(0.1 <= trial.settings["alpha"] <= 30 for trial in outcome.trials[2:])
    # Paired: all trials have met the same seeds, and the blocks have none in common.
    assert {tuple(trial.scores) for trial in outcome.trials} == {plan.seeds["tune"]}
    assert {tuple(scores) for scores in outcome.select.values()} == {plan.seeds["select"]}
    assert {tuple(scores) for scores in outcome.report.values()} == {plan.seeds["report"]}
    seeds = [seed for block in BLOCKS for seed in plan.seeds[block]]
    assert len(set(seeds)) == len(seeds) == 3 + 2 + 2
    assert min(seeds) >= 10_000
    # The best three of the first block, the best of them on the second, and the default, on the third.
    best = sorted(range(8), key=lambda number: outcome.trials[number].mean("final"), reverse=True)
    assert outcome.candidates == best[:3]
    assert list(outcome.select) == best[:3]
    (chosen,) = outcome.chosen
    assert set(outcome.report) == {chosen, 0}
    assert len(tuning_runs(study)) == 8 * 3 + 3 * 2 + len(outcome.report) * 2
    assert outcome.complete


def test_second_call_has_nothing_to_do_and_prints_the_same(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, trials=3)
    study, first, _ = play(tmp_path, plan)
    _, second, text = play(tmp_path, plan, Quick(scored=lambda spec: pytest.fail("a finished run was started")))
    assert (second, text) == (first, "")
    printed = shown(study, second)
    assert "tune, 3 seeds" in printed
    assert "selection bias of trial" in printed
    assert f"optuna-dashboard {study.folder}/journal.log" in printed
    sensitivity = pd.read_csv(study.folder / "figures" / f"{plan.name}-sensitivity.csv")
    assert sensitivity["alpha"].is_monotonic_increasing
    assert sensitivity["alpha"][0] == 0


def test_results_never_see_tuning_runs(tmp_path: Path) -> None:
    study, _, _ = play(tmp_path, make_plan(tmp_path, trials=2))
    results = tmp_path / "results"
    assert len(tuning_runs(study)) > 0
    assert list(runs(results)) == []
    for look in (load_results, newest_suite, status.collect):
        with pytest.raises(UserError, match="no runs"):
            look(results)
    own = make_spec(suite="toy")
    RunDirectory.create(results, own)
    assert newest_suite(results) == "toy"
    assert [cell.run_id for cell in status.collect(results)] == [own.run_id]
    assert list(load_results(results).specs) == [own.run_id]


def test_killed_process_is_replaced_by_another_on_the_same_study(tmp_path: Path) -> None:
    """Two at once; one gets SIGKILL in the middle of a trial; the other one ends with all of them."""
    plan = make_plan(tmp_path)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(Path(__file__).with_name("studies.py")), str(tmp_path)]
    killed = subprocess.Popen([*command, "3600"], env=environment)
    other: subprocess.Popen[bytes] | None = None
    root = Study(tmp_path / "results", plan, None).root("tune")
    try:
        until(lambda: any(run.holder for run in runs(root)))
        (doomed,) = [run for run in runs(root) if run.holder]
        other = subprocess.Popen([*command, "0.1"], env=environment)
        # The second one has work of its own, and does not touch the first one's.
        until(lambda: sum(run.state == "done" for run in runs(root)) > 2)
        assert killed.poll() is None
        killed.kill()
        assert other.wait(600) == 0
    finally:
        for process in (killed, other):
            if process is not None:
                process.kill()
                process.wait()
    study, outcome, text = play(tmp_path, plan, Quick(scored=lambda spec: pytest.fail("a run was lost")))
    assert text == ""
    assert [trial.state for trial in outcome.trials] == ["done"] * plan.trials
    told = [trial.state.name for trial in study.optuna().get_trials()]
    assert told == ["COMPLETE"] * plan.trials
    assert doomed.state == "done"
    assert len(doomed.attempts.read()) == 2
    found = list(runs(study.root("tune")))
    assert len(found) == len({run.spec.run_id for run in found}) == plan.trials * 3


def until(condition: Callable[[], object], patience_s: float = 600) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class Interrupted(Quick):
    """Stops as after Ctrl-C at the first run of some trial."""

    def run(self, out: Console, results: Path, cells: dict[Path, RunSpec], memory_gib: float) -> dict[Path, Ending]:
        if any(spec.variant == "trial-2" for spec in cells.values()):
            return {path: Ending("interrupted") for path in cells}
        return super().run(out, results, cells, memory_gib)


def test_interrupted_study_goes_on_where_it_was(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    with pytest.raises(Stopped) as stopped:
        play(tmp_path, plan, Interrupted(jobs=1))
    assert stopped.value.code == 130
    started: list[str] = []

    def counted(spec: RunSpec) -> float:
        started.append(spec.variant)
        return score(spec)

    study, outcome, _ = play(tmp_path, plan, Quick(jobs=1, scored=counted))
    assert [trial.state for trial in outcome.trials] == ["done"] * 6
    assert started[:3] == ["trial-2"] * 3
    assert [trial.number for trial in study.optuna().get_trials()] == list(range(6))


def test_what_is_drawn_at_random_does_not_depend_on_the_process(tmp_path: Path) -> None:
    settings = []
    for name, jobs in (("one", 1), ("many", 8)):
        folder = tmp_path / name
        folder.mkdir()
        _, outcome, _ = play(folder, make_plan(folder, trials=8), Quick(jobs=jobs))
        settings.append([trial.settings for trial in outcome.trials])
    assert settings[0] == settings[1]


def test_trial_of_a_live_process_is_left_to_it(tmp_path: Path) -> None:
    study = Study.open(tmp_path / "results", make_plan(tmp_path, trials=3), None)
    first, second = Trials(study), Trials(study)
    with first.claim(2) as claims:
        assert [claim.number for claim in claims] == [0, 1]
        with second.claim(2) as others:
            assert [claim.number for claim in others] == [2]
            with second.claim(2) as none:
                assert none == []
    with second.claim(3) as claims:
        assert [claim.number for claim in claims] == [0, 1, 2]


def test_study_of_another_space_or_budget_is_refused(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, trials=2)
    study, _, _ = play(tmp_path, plan)
    before = (study.folder / "study.json").read_bytes()
    for changed, words in (
        (make_plan(tmp_path, "alpha:log[1,10]", trials=2), "parameters: alpha:log"),
        (make_plan(tmp_path, trials=5), "--trials: 2 there, 5 asked for"),
        (make_plan(tmp_path, trials=2, seeds=4), "seeds of block tune: 3 there, 4 asked for"),
        (make_plan(tmp_path, trials=2, objective="return"), "--objective: final there, return asked for"),
    ):
        with pytest.raises(UserError, match="never change") as refusal:
            Study.open(tmp_path / "results", changed, None)
        assert words in str(refusal.value)
        assert "--study NAME" in str(refusal.value)
    (tmp_path / "toy.yaml").write_text((tmp_path / "toy.yaml").read_text().replace("env_steps: 200", "env_steps: 300"))
    with pytest.raises(UserError, match="environment steps: 200 there, 300 asked for"):
        Study.open(tmp_path / "results", make_plan(tmp_path, trials=2), None)
    assert (study.folder / "study.json").read_bytes() == before
    other = make_plan(tmp_path, trials=2, name="longer")
    assert not set(other.seeds["tune"]) & set(plan.seeds["tune"])
    assert Study.open(tmp_path / "results", other, None).folder != study.folder


def test_choice_is_made_once(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, trials=4)
    study, outcome, _ = play(tmp_path, plan)
    (study.folder / "choice.json").write_text('{"chosen": [1]}')
    _, again, _ = play(tmp_path, plan)
    assert outcome.chosen != [1]
    assert again.chosen == [1]


def test_setting_that_fails_twice_is_a_failed_trial_and_not_the_end(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, trials=4)
    attempts: list[int] = []

    def broken(spec: RunSpec) -> float:
        if spec.agent["alpha"] == 0:
            attempts.append(spec.seed)
            raise ValueError("diverged")
        return score(spec)

    study, outcome, text = play(tmp_path, plan, Quick(scored=broken))
    assert [trial.state for trial in outcome.trials] == ["done", "failed", "done", "done"]
    assert outcome.trials[1].reason == "3 of 3 seeds failed: diverged"
    assert sorted(attempts) == sorted(2 * plan.seeds["tune"])
    assert "trial 1: failed: 3 of 3 seeds failed: diverged" in text
    assert study.optuna().get_trials()[1].state == optuna.trial.TrialState.FAIL
    assert not outcome.complete


def test_damaged_run_stops_the_study_and_condemns_no_setting(tmp_path: Path) -> None:
    def damaging(spec: RunSpec) -> float:
        (record,) = tmp_path.rglob(f"seed-{spec.seed}-{spec.run_id[:8]}/run.json")
        record.write_text("{")
        raise ValueError("the disk is ill")

    plan = make_plan(tmp_path, trials=1)
    with pytest.raises(UserError, match=r"run\.json: not valid JSON"):
        play(tmp_path, plan, Quick(scored=damaging))
    for record in list(tmp_path.rglob("run.json")):
        if record.read_text() == "{":
            shutil.rmtree(record.parent)
    _, outcome, _ = play(tmp_path, plan)
    assert [trial.state for trial in outcome.trials] == ["done"]


def test_settings_that_do_not_go_together_are_a_failed_trial(tmp_path: Path) -> None:
    write_suite(tmp_path, SUITE.replace("{discount: 0.98}", "{discount: 0.98, adapt_updates: 0}"))
    plan = make_plan(tmp_path, "adversarial", "bc_pretrain:choice[0,5]", trials=8)
    _, outcome, _ = play(tmp_path, plan)
    refused = [t for t in outcome.trials if t.settings == {"adversarial": False, "bc_pretrain": 0}]
    assert refused
    assert {t.state for t in refused} == {"failed"}
    assert "refuses these settings together: bc_pretrain" in refused[0].reason


def test_run_that_failed_once_is_tried_again(tmp_path: Path) -> None:
    failed: list[str] = []

    def unlucky(spec: RunSpec) -> float:
        if spec.run_id not in failed and spec.agent["alpha"] == 0:
            failed.append(spec.run_id)
            raise ValueError("bad luck")
        return score(spec)

    _, outcome, _ = play(tmp_path, make_plan(tmp_path, trials=2), Quick(scored=unlucky))
    assert len(failed) >= 3
    assert outcome.complete


def test_same_settings_share_their_runs(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, "horizon:int[3,4]", trials=6)
    study, outcome, _ = play(tmp_path, plan)
    settings = {trial.settings["horizon"] for trial in outcome.trials}
    assert settings == {3, 4}
    assert len(list(runs(study.root("tune")))) == 2 * 3
    assert [trial.number for trial in outcome.trials] == list(range(6))
    assert len(outcome.candidates) == 2


def test_equal_numbers_are_one_setting_however_written(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, "alpha:int[1,4]", trials=10)
    study, outcome, _ = play(tmp_path, plan)
    again = [trial for trial in outcome.trials[1:] if trial.settings["alpha"] == 3]
    assert again
    assert {trial.variant for trial in again} == {"default"}
    found = [run.spec.run_id for run in runs(study.root("tune"))]
    assert len(found) == len(set(found)) == 3 * len({trial.settings["alpha"] for trial in outcome.trials})


def test_settings_too_expensive_are_not_chosen(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, "alpha:log[0.01,30]", trials=8, max_cost=0.5)
    study, outcome, _ = play(tmp_path, plan)
    (chosen,) = outcome.chosen
    assert outcome.settings(chosen)["alpha"] <= 0.5
    trial = study.optuna().get_trials()[0]
    assert trial.constraints == {"cost": 2.5}


def shown(study: Study, outcome: Outcome) -> str:
    text = io.StringIO()
    summary.show(Console(file=text, width=200), study, outcome)
    return text.getvalue()


def test_nothing_within_the_allowed_cost_is_said(tmp_path: Path) -> None:
    allowed, forbidden = (tmp_path / name for name in ("allowed", "forbidden"))
    words = "is not within --max-cost"
    for folder, texts, max_cost in ((allowed, ["alpha"], 0.5), (forbidden, ["lambda"], 2.5)):
        folder.mkdir()
        study, outcome, _ = play(folder, make_plan(folder, *texts, trials=4, max_cost=max_cost))
        (chosen,) = outcome.chosen
        expected = (
            f"trial {chosen} {words} 2.5: 3 violating steps an episode on the report seeds; on the tuning seeds no "
            "setting was within it\n"
        )
        printed = shown(study, outcome)
        assert (words in printed) == (expected in printed) == (folder == forbidden)


def test_two_objectives_choose_a_front(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, objective="return,cost", trials=8)
    study, outcome, _ = play(tmp_path, plan)
    assert [direction.name for direction in study.optuna().directions] == ["MAXIMIZE", "MINIMIZE"]
    assert 1 in outcome.candidates  # alpha = 0 costs nothing
    assert len(outcome.candidates) == 3
    assert len(outcome.chosen) >= 2


def test_pruning_compares_pairs_and_spares_half_of_the_seeds(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, "alpha:log[0.5,300]", trials=12, prune=True, seeds=4, name="pruned")
    study, outcome, _ = play(tmp_path, plan, Quick(jobs=1))
    pruned = [trial for trial in outcome.trials if trial.state == "pruned"]
    assert pruned
    finished_before = {trial.number: sum(t.state == "done" for t in outcome.trials[: trial.number]) for trial in pruned}
    assert min(finished_before.values()) >= 3  # a quarter of 12
    for trial in pruned:
        assert tuple(trial.scores) == plan.seeds["tune"][:2]
        assert "on each of the first 2 seeds" in trial.reason
        assert trial.number not in outcome.candidates
    assert study.optuna().get_trials()[pruned[0].number].state == optuna.trial.TrialState.PRUNED
    assert len(list(runs(study.root("tune")))) == 4 * 12 - 2 * len(pruned)


@pytest.mark.parametrize("max_cost", [400.0, 0.01])
def test_pruning_looks_at_the_cost_first(tmp_path: Path, max_cost: float) -> None:
    plan = make_plan(tmp_path, "alpha:log[0.5,300]", trials=12, prune=True, seeds=4, name="pruned", max_cost=max_cost)
    study, outcome, _ = play(tmp_path, plan, Quick(jobs=1))
    pruned = [trial for trial in outcome.trials if trial.state == "pruned"]
    assert bool(pruned) == (max_cost == 400)  # only alpha = 0 is feasible in the other
    told = study.optuna().get_trials()
    assert [t.constraints for t in told] == [{"cost": t.settings["alpha"] - max_cost} for t in outcome.trials]


@pytest.mark.parametrize(
    ("texts", "settings"),
    [
        (["horizon:choice[4,5]"], {}),
        (["kl_balance:choice[0.8,null]", "horizon:choice[4,5]"], {}),
        (["imagination_starts:int[50,300]"], {"imagination_starts": "null"}),
        (["imagination_starts:log[50,300]", "alpha"], {"imagination_starts": "null"}),
    ],
)
def test_suites_own_settings_may_lie_outside_of_the_ranges(
    tmp_path: Path, texts: list[str], settings: dict[str, str]
) -> None:
    added = "".join(f", {key}: {value}" for key, value in settings.items())
    write_suite(tmp_path, SUITE.replace("settings: {discount: 0.98", "settings: {discount: 0.98" + added))
    plan = make_plan(tmp_path, *texts, trials=8)
    study, outcome, _ = play(tmp_path, plan)
    assert outcome.trials[0].settings == plan.defaults
    assert not all(parameter.contains(plan.defaults[parameter.name]) for parameter in plan.parameters)
    assert f"{plan.name}-slice.png" in shown(study, outcome).replace("\n", "")
