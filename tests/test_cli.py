"""The command line, as a user's shell sees it: exit codes, messages, and no traceback for a mistake."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from specs import SUITE, make_spec, write_suite

from ailft_bench.cli.options import parse_names, parse_seeds
from ailft_bench.errors import UserError
from ailft_bench.store import RunDirectory

ROOT = Path(__file__).parent.parent


def environment() -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if key != "AILFT_RESULTS"}
    return {**inherited, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}


def ailft(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "ailft_bench", *arguments],
        cwd=folder,
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in result.stderr
    return result


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "toy.yaml", "--scale", "smke"], ["--scale smke", "did you mean 'smoke'?"]),
        (["run", "nowhere.yaml"], ["nowhere.yaml: no such file"]),
        (["run", "kitchn"], ["kitchn", "did you mean 'kitchen'?"]),
        (["run", "toy.yaml", "--algorithms", "vmial"], ["--algorithms vmial", "did you mean 'vmail'?"]),
        (
            ["run", "toy.yaml", "--set", "settings.alhpa=3"],
            ["--set settings.alhpa=3", "did you mean 'alpha'?"],
        ),
        (["run", "toy.yaml", "--set", "settings.alpha"], ["expected key=value"]),
        (["run", "toy.yaml", "--seeds", "many"], ["--seeds many", "a number of seeds"]),
        (["run", "toy.yaml", "--seeds", "1,1"], ["--seeds 1,1", "twice"]),
        (["run", "toy.yaml", "--jobs", "0"], ["--jobs"]),
        (["run", "toy.yaml", "--executor", "cloud"], ["--executor", "local"]),
        (["run", "toy.yaml", "--executor", "slurm"], ["no SLURM answers here", "local"]),
        (["run", "toy.yaml", "--executor", "local", "--detach"], ["--detach"]),
        (["tune", "alhpa", "--suite", "toy.yaml", "--scale", "smoke"], ["alhpa", "did you mean 'alpha'?"]),
        (["tune", "alpha:log[0,3]", "--suite", "toy.yaml", "--scale", "smoke"], ["alpha = 0 is a trial of its own"]),
        (["tune", "alpha", "--suite", "toy.yaml", "--algorithm", "vmail"], ["is what makes vmail"]),
        (["tune", "alpha", "--suite", "toy.yaml", "--scale", "smoke", "--objective", "speed"], ["unknown objective"]),
        (["cancel", "kichen"], ["kichen: neither a suite nor a folder in results", "did you mean 'kitchen'?"]),
        (["explain", "c0ffee"], ["c0ffee", "no run"]),
        (["run", "toy.yaml", "--results", "toy.yaml/x"], ["a part of this path is a file"]),
        (["run", "misspelt.yaml"], ["misspelt.yaml, line 12", "did you mean 'seeds'?"]),
        (["runn", "toy.yaml"], ["runn"]),
        (["status"], ["no runs", "ailft-bench run"]),
        (["plot"], ["results"]),
        (["export", "--out", "x.csv"], ["results"]),
        (["demos", "make", "--env", "kichen"], ["--env kichen", "did you mean 'kitchen'?"]),
        (["demos", "make", "--env", "push", "--set", "image_size"], ["expected key=value"]),
        (["demos", "make", "--env", "push", "--set", "horizon=1.5"], ["--set horizon: 1.5", "valid integer"]),
        (["demos", "make", "--env", "push", "--set", "horizn=9"], ["--set horizn", "did you mean 'horizon'?"]),
        (["demos", "make", "--env", "push", "--set", "id=9"], ["--set id", "allowed: action_noise"]),
        (["demos", "make", "--env", "nomod:My-v0", "--set", "horizon=9"], ["--env nomod:My-v0", "cannot import"]),
        (["demos", "import", "toy.npz", "--env", "nomod:My-v0", "--out", "d"], ["nomod:My-v0", "cannot import"]),
        (["demos", "import", "toy.npz", "--env", "nomod/My-v0", "--out", "d"], ["nomod/My-v0", "no such environment"]),
        (["demos", "show", "nowhere"], ["nowhere"]),
    ],
)
def test_mistake_is_a_message_and_exit_code_2(tmp_path: Path, arguments: list[str], parts: list[str]) -> None:
    write_suite(tmp_path)
    (tmp_path / "misspelt.yaml").write_text(SUITE.replace("seeds:", "seed:"))
    before = sorted(tmp_path.iterdir())
    result = ailft(tmp_path, *arguments)
    assert result.returncode == 2
    for part in parts:
        assert part in result.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_dry_run_shows_the_scale_first_and_touches_nothing(tmp_path: Path) -> None:
    write_suite(tmp_path)
    result = ailft(tmp_path, "run", "toy.yaml", "--scale", "smoke", "--seeds", "2,5", "--dry-run")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("suite toy, scale smoke: 200 environment steps")
    assert len([line for line in lines if line.rstrip().endswith("missing")]) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["toy.yaml"]


OWN_MODULES = {
    "my_log.py": """
class MyLog:
    def __init__(self, run): self.file = run / "mine.txt"
    def start(self, rows): pass
    def log(self, row): self.file.write_text(str(row["env_step"]))
    def close(self): pass
""",
    "my_env.py": """
import gymnasium
from ailft_bench.demos.experts import EXPERTS
from ailft_bench.envs.push import PushEnv
class MyPush(PushEnv): pass
gymnasium.register("MyPush-v0", entry_point="my_env:MyPush")
EXPERTS["my_env:MyPush-v0"] = EXPERTS["ailft/Push-v0"]
""",
}


def test_environment_expert_and_live_log_in_the_users_folder_are_found_by_the_installed_command(tmp_path: Path) -> None:
    suite = SUITE.replace("ailft/Push-v0", "my_env:MyPush-v0").replace("env_steps: 200", "env_steps: 50")
    write_suite(tmp_path, suite)
    for name, text in OWN_MODULES.items():
        (tmp_path / name).write_text(text)
    # A console script, unlike python -m, has its own folder on the path and not the user's.
    script = [sys.executable, "-P", "-c", "from ailft_bench.cli import main; main()"]
    options = ["--scale", "smoke", "--seeds", "1", "--algorithms", "vmail", "--live", "my_log:MyLog"]
    shorter = ["--set", "settings.prefill_steps=40", "--set", "settings.bc_pretrain=2"]
    result = subprocess.run(
        [*script, "run", "toy.yaml", *options, *shorter],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 of 1 cells done" in result.stdout
    assert [path.read_text() for path in tmp_path.glob("results/toy/smoke/vmail/*/mine.txt")] == ["50"]


def test_results_folder_comes_from_the_option_or_the_environment(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "elsewhere", make_spec()).finish()
    by_option = ailft(tmp_path, "status", "--results", "elsewhere")
    by_variable = ailft(tmp_path, "status", AILFT_RESULTS="elsewhere")
    assert by_option.returncode == by_variable.returncode == 0
    assert by_option.stdout == by_variable.stdout
    assert "1 done" in by_option.stdout


def test_jobs_of_a_suite_whose_file_is_gone_can_be_cancelled_and_its_misspelt_name_is_a_message(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "results", make_spec(suite="gone"))
    (tmp_path / "results" / "demos").mkdir()
    known = ailft(tmp_path, "cancel", "gone")
    assert (known.returncode, known.stdout) == (0, "no jobs of this suite are queued or running\n")
    for name, hint in (("gon", "did you mean 'gone'?"), ("demos", "allowed: gone, ")):
        unknown = ailft(tmp_path, "cancel", name)
        assert unknown.returncode == 2
        assert hint in unknown.stderr


def test_help_and_version_import_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.argv = ['ailft-bench', sys.argv[1]]\n"
        "from ailft_bench.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print([m for m in ('torch', 'numpy', 'gymnasium', 'pydantic') if m in sys.modules])\n"
    )
    for option in ("--help", "--version"):
        result = subprocess.run(
            [sys.executable, "-c", code, option],
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("order", ["ailft_bench, gymnasium", "gymnasium, ailft_bench"])
def test_environments_are_registered_whichever_is_imported_first(order: str) -> None:
    code = f"import {order}; print(gymnasium.spec('ailft/Push-v0').id)"
    result = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["ailft/Push-v0"]
    assert result.stderr == ""


def test_demonstrations_are_made_listed_and_drawn(tmp_path: Path) -> None:
    made = ailft(tmp_path, "demos", "make", "--env", "push", "--episodes", "2")
    assert made.returncode == 0, made.stderr
    assert "2 episodes of ailft/Push-v0" in made.stdout
    directory = made.stdout.split()[-1]
    listed = ailft(tmp_path, "demos", "list")
    assert "ailft/Push-v0" in listed.stdout
    shown = ailft(tmp_path, "demos", "show", directory, "--out", "sheet.png")
    assert shown.returncode == 0, shown.stderr
    assert (tmp_path / "sheet.png").stat().st_size > 0


def test_ctrl_c_is_resumable_and_exit_code_130(tmp_path: Path) -> None:
    """The worker is the real one, the run long enough to be interrupted."""
    write_suite(tmp_path)
    command = [sys.executable, "-m", "ailft_bench", "run", "toy.yaml", "--scale", "smoke"]
    command += ["--algorithms", "vmail", "--seeds", "1", "--set", "scales.smoke.env_steps=1000000"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("results/toy/smoke/vmail/*/checkpoint/*/done")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=90)
    assert process.returncode == 130, errors
    assert "1 interrupted" in output
    (path,) = tmp_path.glob("results/toy/smoke/vmail/*")
    assert RunDirectory(path).state == "waiting"
    assert not (path / "failed.json").exists()


@pytest.mark.parametrize(
    ("text", "seeds"), [(None, []), ("3", [0, 1, 2]), ("0,3,7", [0, 3, 7]), ("4,", [4]), (" 1 , 2 ", [1, 2])]
)
def test_seeds_are_a_number_or_a_list(text: str | None, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", ",", "0", "-1", "1,-1", "1.5", "a", "1,,2", "2,2", "4294967296,"])
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--seeds"):
        parse_seeds(text)


def test_names_are_split_at_commas() -> None:
    assert parse_names(None) == []
    assert parse_names("a, b,") == ["a", "b"]
