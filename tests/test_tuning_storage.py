"""What holds a tuning study: the journal or a data base, opened by others, damaged, and the plan beside it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import optuna
import pytest
from rich.console import Console
from specs import SUITE, write_suite
from studies import Quick, make_plan, play, score
from typer.testing import CliRunner

from ailft_bench import executors
from ailft_bench.cli import app
from ailft_bench.errors import UserError
from ailft_bench.store import RunSpec
from ailft_bench.tuning import summary
from ailft_bench.tuning.study import Study


def test_data_base_instead_of_the_journal(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    plan = make_plan(tmp_path, trials=2, storage=url)
    study, outcome, _ = play(tmp_path, plan, url=url)
    assert not (study.folder / "journal.log").exists()
    assert len(optuna.load_study(study_name=plan.name, storage=url).trials) == 2
    assert outcome.complete
    with pytest.raises(UserError, match=r"--storage: sqlite.* there, journal\.log asked for"):
        Study.open(tmp_path / "results", plan.model_copy(update={"storage": "journal.log"}), None)
    with pytest.raises(UserError, match=r"--storage nonsense://me@here/x: cannot be opened"):
        Study.open(tmp_path / "other", plan, "nonsense://me:secret@here/x")


def test_storage_that_cannot_be_opened_leaves_the_name_of_the_study_free(tmp_path: Path) -> None:
    mistyped, right = (f"sqlite:///{tmp_path / place / 'optuna.db'}" for place in ("nowhere", "results"))
    with pytest.raises(UserError, match="cannot be opened"):
        Study.open(tmp_path / "results", make_plan(tmp_path, storage=mistyped), mistyped)
    assert not list(tmp_path.rglob("study.json"))
    plan = make_plan(tmp_path, storage=right)
    assert Study.open(tmp_path / "results", plan, right).plan == plan


def test_trials_of_another_plan_in_the_data_base_are_refused_from_another_results_folder(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    play(tmp_path, make_plan(tmp_path, trials=2, storage=url), url=url)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_suite(elsewhere, SUITE.replace("env_steps: 200", "env_steps: 300"))
    longer = make_plan(elsewhere, trials=2, storage=url)
    for _ in range(2):  # the first refusal leaves no plan behind that would vouch for the trials
        with pytest.raises(UserError, match="environment steps: 200 there, 300 asked for") as refusal:
            Study.open(elsewhere / "results", longer, url)
        for part in (f"--storage {url}: the study 'toy-smoke-alpha'", "--study NAME", "optuna delete-study"):
            assert part in str(refusal.value)
    same = Study.open(elsewhere / "results", make_plan(tmp_path, trials=2, storage=url), url)
    assert len(same.optuna().trials) == 2


def test_trials_of_before_storages_had_decisions_need_the_plan_beside_them(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    plan = make_plan(tmp_path, trials=2, storage=url)
    Study.open(tmp_path / "results", plan, url)
    optuna.delete_study(study_name=plan.name, storage=url)
    old = optuna.create_study(study_name=plan.name, storage=url)
    old.enqueue_trial({"alpha": 3.0})
    with pytest.raises(UserError, match="which ones, it does not say"):
        Study.open(tmp_path / "third", plan, url)
    assert len(Study.open(tmp_path / "results", plan, url).optuna().trials) == 1
    assert Study.open(tmp_path / "third", plan, url).plan == plan  # now the storage says whose they are


@pytest.mark.parametrize(("storage", "said"), [("sqlite:///x.db", False), ("postgresql://me:secret@db/x", True)])
def test_stopped_study_says_that_its_command_lacks_the_password(
    monkeypatch: pytest.MonkeyPatch, storage: str, said: bool
) -> None:
    monkeypatch.setattr(sys, "argv", ["ailft-bench", "tune", "alpha", "--storage", storage])
    shown = io.StringIO()
    summary.show_stopped(Console(file=shown, width=200))
    assert ("with the password of its storage" in shown.getvalue()) == said
    assert "secret" not in shown.getvalue()
    assert "ailft-bench tune alpha --storage" in shown.getvalue()


def test_journal_opens_in_optuna_as_its_dashboard_does(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, trials=3)
    study, outcome, _ = play(tmp_path, plan)
    backend = optuna.storages.journal.JournalFileBackend(str(study.folder / "journal.log"))
    loaded = optuna.load_study(study_name=plan.name, storage=optuna.storages.JournalStorage(backend))
    assert [trial.user_attrs["settings"] for trial in loaded.trials] == [trial.settings for trial in outcome.trials]
    assert loaded.trials[0].params == {"alpha": 3.0}
    assert loaded.best_value == max(trial.mean("final") for trial in outcome.trials)


def test_damaged_journal_names_the_line(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, trials=2)
    study, _, _ = play(tmp_path, plan)
    journal = study.folder / "journal.log"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([*lines[:3], "garbage\n", *lines[3:]]))
    with pytest.raises(UserError, match=r"journal.log, line 4: not valid JSON"):
        play(tmp_path, plan)


def test_journal_damaged_while_it_is_used_names_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = tmp_path / "results" / "tuning" / "toy-smoke-alpha" / "journal.log"

    def damaging(spec: RunSpec) -> float:
        with journal.open("a") as file:
            file.write("garbage\n")
        return score(spec)

    monkeypatch.setattr(executors, "choose", lambda *arguments: Quick(scored=damaging))
    command = ["tune", "alpha", "--suite", str(write_suite(tmp_path)), "--scale", "smoke", "--objective", "final"]
    ended = CliRunner().invoke(app, [*command, "--results", str(tmp_path / "results")])
    assert ended.exit_code == 2
    assert "journal.log, line" in ended.stderr
    assert "not valid JSON: the file system lost a write" in ended.stderr


def test_plan_on_disk_is_the_plan(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, "alpha", "lambda", "critic", trials=2)
    study = Study.open(tmp_path / "results", plan, None)
    assert study.plan == plan
    assert plan.space == {"alpha": "log[0.1,30]", "lam": "float[0.7,1]", "critic": "choice[Q,V]"}
