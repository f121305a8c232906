import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ailft_bench import provenance

ROOT = Path(__file__).parents[1]
NOBODY = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A repository of this program's sources, everything committed."""
    root = tmp_path_factory.mktemp("checkout")
    for package in ("ailft_bench", "algorithms"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".gitignore").write_text("__pycache__/\n")
    shutil.copyfile(ROOT / "pyproject.toml", root / "pyproject.toml")
    (root / "README.md").write_text("read me\n")
    for arguments in (["init", "-q"], ["add", "."], [*NOBODY, "commit", "-qm", "everything"]):
        subprocess.run(["git", "-C", str(root), *arguments], check=True)
    return root


def code(root):
    """What a process of the checkout's own code records of that code."""
    script = "import json; from ailft_bench import provenance; print(json.dumps(provenance.collect()))"
    found = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    return json.loads(found.stdout)


def test_command_is_noted_without_the_password_of_a_data_base(monkeypatch):
    url = "postgresql+psycopg://me:s3c/r@t@db:5432/optuna"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ailft-bench", "tune", "alpha", "--storage", url, "--set", "name=a b"])
    noted = "ailft-bench tune alpha --storage postgresql+psycopg://me@db:5432/optuna --set 'name=a b'"
    assert provenance.command() == noted


def test_results_and_notes_beside_the_code_do_not_make_a_checkout_dirty(checkout):
    before = code(checkout)
    notes = checkout / "notes.txt"
    notes.write_text("seed 3 looks odd\n")
    (checkout / "README.md").write_text("read me, please\n")
    after = code(checkout)
    for name in ("dirty", "diff_sha256"):
        assert not before[name]
        assert not after[name]
    assert before["source_sha256"] == after["source_sha256"]


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "algorithms/vmail.py", "algorithms/mine.py", "ailft_bench/envs/mine.xml"]
)
def test_a_changed_source_and_an_added_one_make_it_dirty(checkout, name):
    path = checkout / name
    before = path.read_text() if path.exists() else None
    try:
        path.write_text(f"{before or ''}\n")
        found = code(checkout)
    finally:
        path.unlink()
        if before is not None:
            path.write_text(before)
    assert found["dirty"]
    assert bool(found["diff_sha256"]) == (before is not None)
