"""The doctor: a line for each thing, whatever breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from ailft_bench.doctor import Finding, examine


def findings(results: Path) -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine(results)}


def test_every_subject_is_looked_at_and_well_here(tmp_path: Path) -> None:
    found = findings(tmp_path / "results")
    assert list(found) == [
        *("machine", "OpenGL", "ailft/Kitchen-v0", "ailft/Push-v0"),
        *("torch", "demonstrations", "SLURM", "results"),
    ]
    assert [subject for subject, finding in found.items() if finding.verdict == "fail"] == []
    assert "ms a step" in found["ailft/Kitchen-v0"].text
    assert not (tmp_path / "results").exists()


def test_broken_rendering_and_folder_are_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "crayons")
    (tmp_path / "file").write_text("")
    found = findings(tmp_path / "file" / "results")
    assert {subject for subject, finding in found.items() if finding.verdict == "fail"} >= {
        "OpenGL",
        "ailft/Push-v0",
        "results",
    }
    assert "crayons" in found["OpenGL"].text
    assert found["torch"].verdict == "ok"
