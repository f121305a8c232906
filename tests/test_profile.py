"""Machine profiles, and what becomes of one on the way to sbatch."""

from __future__ import annotations

from pathlib import Path

import pytest

from ailft_bench.errors import UserError
from ailft_bench.slurm import profile
from ailft_bench.slurm.profile import Profile
from ailft_bench.slurm.submission import chunks, parameters


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "ailft-bench" / "profiles"
    folder.mkdir(parents=True)
    return folder


def test_without_a_name_the_users_default_counts(configuration: Path) -> None:
    assert profile.load(None) == Profile()
    (configuration / "default.yaml").write_text("partition: night\nparallel: 7\n")
    assert profile.load(None) == Profile(partition="night", parallel=7)


def test_users_profile_goes_before_the_shipped_one_of_the_same_name(configuration: Path) -> None:
    assert profile.load("slurm-gpu").gpus == 1
    (configuration / "slurm-gpu.yaml").write_text("gpus: 2\n")
    assert profile.load("slurm-gpu").gpus == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cpus: 1\npartitoin: x\n", r"line 2: partitoin: unknown key 'partitoin'; did you mean 'partition'"),
        ("cpus: many\n", r"line 1: cpus: .*valid integer.*'many'"),
        ("memory_gib: 0\n", r"line 1: memory_gib: .*greater than 0"),
        ("time_limit_min: 2\nsignal_delay_s: 120\n", r"line 2: signal_delay_s: 120 s leave nothing"),
    ],
)
def test_mistake_is_named_with_its_line(configuration: Path, text: str, message: str) -> None:
    (configuration / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        profile.load("mine")


def test_unknown_profile_is_named() -> None:
    with pytest.raises(UserError, match="did you mean 'slurm-gpu'"):
        profile.load("slurm-gqu")
    with pytest.raises(UserError, match="cannot be read"):
        profile.load("nowhere.yaml")


def test_everything_in_a_profile_reaches_sbatch(tmp_path: Path) -> None:
    from submitit.slurm.slurm import _convert_mem, _make_sbatch_string

    full = Profile(
        partition="night",
        account="us",
        qos="low",
        constraint="fast",
        time_limit_min=90,
        signal_delay_s=33,
        cpus=3,
        gpus=2,
        memory_gib=1.5,
        parallel=10,
        setup=["module load cuda"],
        sbatch={"exclude": "node7", "requeue": True},
    )
    chosen = parameters(full, "kitchen-1", arrays=2)
    names = {"name": "job_name", "timeout_min": "time", "mem_gb": "mem"}
    values = {names.get(key, key.removeprefix("slurm_")): value for key, value in chosen.items()}
    values["mem"] = _convert_mem(values["mem"])
    text = _make_sbatch_string(command="work", folder=tmp_path, map_count=50, **values)
    for line in (
        "--partition=night",
        "--account=us",
        "--qos=low",
        "--constraint=fast",
        "--time=90",
        "--signal=USR2@33",
        "--cpus-per-task=3",
        "--gpus-per-node=2",
        "--mem=1536MB",
        "--array=0-49%5",
        "--job-name=kitchen-1",
        "--exclude=node7",
        "--requeue",
    ):
        assert f"#SBATCH {line}\n" in text
    assert "wckey" not in text
    assert "module load cuda" in text.splitlines()


def test_arrays_are_as_large_as_slurm_allows_and_lose_no_cell() -> None:
    paths = [Path(str(number)) for number in range(2500)]
    arrays = chunks(paths, 1000)
    assert [len(array) for array in arrays] == [1000, 1000, 500]
    assert [path for array in arrays for path in array] == paths
    assert chunks([], 1000) == []
