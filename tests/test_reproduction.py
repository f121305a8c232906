"""The commands that make runs again: on the commits they were made at, from the suite that they were made with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ailft_bench import suite_file
from ailft_bench.cells import expand
from ailft_bench.reproduction import commands, held, script
from ailft_bench.store import RunSpec


def made(changes: Sequence[str] = (), seeds: Sequence[int] = (0, 1), **provenance: Any) -> list[RunSpec]:
    """Return the runs of the quick start's first look, as `run` with these changes would have recorded them."""
    cells = expand(suite_file.load("quickstart", changes), "smoke", seeds=seeds)
    words = " ".join(f"--set {change}" for change in changes)
    provenance = {"commit": "c0ffee", "command": f"ailft-bench run quickstart {words}"} | provenance
    return [cell.model_copy(update={"provenance": provenance, "created": "2026-11-01"}) for cell in cells]


def runs_of(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if line.startswith("ailft-bench run")]


def test_suite_holds_the_runs_that_were_made_with_it_and_what_they_changed() -> None:
    shipped = suite_file.find("quickstart")
    plain, changed = made(), made(["algorithms.conservative.alpha=7", "settings.horizon=5"])
    assert held([*plain, *changed], shipped) == {(spec.run_id, spec.label) for spec in [*plain, *changed]}
    assert not {spec.run_id for spec in plain} & {spec.run_id for spec in changed}


def test_suite_that_was_edited_since_holds_none(tmp_path: Path) -> None:
    edited = tmp_path / "suite.yaml"
    edited.write_text(suite_file.find("quickstart").read_text().replace("{episodes: 3}", "{episodes: 4}"))
    assert held(made(), edited) == set()
    edited.write_text("name: quickstart\n")
    assert held(made(), edited) == set()


def test_suite_that_calls_them_otherwise_or_lacks_their_demonstrations_holds_none(tmp_path: Path) -> None:
    specs = made()
    renamed = [spec.model_copy(update={"algorithm": f"my_{spec.algorithm}"}) for spec in specs]
    assert held(renamed, suite_file.find("quickstart")) == set()
    command = "ailft-bench run quickstart --set demonstrations.source=nowhere"
    elsewhere = [spec.model_copy(update={"provenance": {"command": command}}) for spec in specs]
    assert held(elsewhere, suite_file.find("quickstart")) == set()


def test_what_was_typed_is_typed_again() -> None:
    plain, changed = made(), made(["settings.horizon=5", "evaluation.episodes=3"])
    first, second = runs_of(commands([*plain, *changed]))
    assert "--set" not in first
    assert second.endswith(" --set settings.horizon=5 --set evaluation.episodes=3")
    typed = "ailft-bench run --profile here.yaml 'my suites/mine.yaml' --profile=there.yaml --set a=1 --set=a=2 "
    typed += "--precision bfloat16 --compile --set a=3"
    (line,) = runs_of(commands([spec.model_copy(update={"provenance": {"command": typed}}) for spec in plain]))
    assert line.startswith("ailft-bench run 'my suites/mine.yaml' --scale smoke ")
    assert line.endswith(" --set a=1 --set a=2 --precision bfloat16 --compile --set a=3")


def test_runs_of_a_study_are_made_again_by_its_command_alone() -> None:
    command = "ailft-bench tune alpha --suite quickstart --trials 3"
    studied = [spec.model_copy(update={"variant": "trial-2"}) for spec in made(command=command)]
    assert commands(studied) == ["git checkout c0ffee", command]


def test_runs_of_two_commits_are_made_each_at_its_own_and_no_others_with_them() -> None:
    cells = made(seeds=(0, 2))
    newer = [
        spec.model_copy(update={"created": "2026-11-02", "provenance": {"commit": "dec0de", "dirty": True}})
        for spec in cells
        if spec.algorithm == "vmail"
    ]
    older = [spec for spec in cells if spec.algorithm == "conservative" and spec.seed == 2]
    assert commands([*newer, *older]) == [
        "git checkout c0ffee",
        "ailft-bench run quickstart --scale smoke --seeds 2, --algorithms conservative",
        "git checkout dec0de",
        "# the checkout had uncommitted changes when the runs were made",
        "ailft-bench run quickstart --scale smoke --seeds 0,2, --algorithms vmail",
    ]


@pytest.mark.parametrize("at_that_commit", ["nothing", "another bundle"])
def test_script_survives_the_checkout_of_a_commit_that_has_no_such_bundle(tmp_path: Path, at_that_commit: str) -> None:
    repository, bundle = tmp_path / "a checkout", tmp_path / "a checkout" / "results" / "reference" / "quickstart"
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *who, *arguments], cwd=repository, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    bundle.mkdir(parents=True)
    git("init", "-q")
    (repository / "README").write_text("code")
    if at_that_commit == "another bundle":
        (bundle / "suite.yaml").write_text("name: another\n")
        (bundle / "versions.txt").write_text("another==1\n")
    git("add", "-A")
    git("commit", "-qm", "when the runs were made")
    specs = made(commit=git("rev-parse", "HEAD"))
    suite = bundle / "suite.yaml"
    suite.write_text(suite_file.find("quickstart").read_text())
    (bundle / "versions.txt").write_text("torch==2.13.0\n")
    (bundle / "reproduce.sh").write_text(script(specs, suite))
    expected = suite.read_text()
    git("add", "-A")
    git("commit", "-qm", "their bundle")

    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("pip", "ailft-bench"):
        (tools / tool).write_text(
            f'#!/bin/sh\necho "{tool} $*" >> {tmp_path}/called\n'
            f'for word; do if [ -f "$word" ]; then cat "$word" >> {tmp_path}/read; fi; done\n'
        )
        (tools / tool).chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    subprocess.run(["sh", bundle / "reproduce.sh"], cwd=repository, env=environment, check=True, capture_output=True)
    install, run, plot = (tmp_path / "called").read_text().splitlines()
    assert install.startswith("pip install -e . -r ")
    assert "/suite.yaml --scale smoke --seeds 0,1, --algorithms conservative,vmail,no_ail,bc" in run
    assert plot == "ailft-bench plot quickstart --scale smoke"
    assert (tmp_path / "read").read_text() == "torch==2.13.0\n" + expected
