import dataclasses
import json
import os
import re
import shutil
import subprocess
from importlib.metadata import version

import pandas as pd
import pytest
from synthetic_results import SyntheticRun, evaluation, write_all

from ailft_bench.bundle import import_bundle, write_bundle
from ailft_bench.demos.collection import demonstrations_checksum
from ailft_bench.envs import environment_class
from ailft_bench.errors import UserError
from ailft_bench.references import load_references, provide_references
from ailft_bench.results import SCHEMA, load_results
from ailft_bench.store import runs


def run(algorithm, seed, **changes):
    curve = {step: evaluation(seed * step / 400) for step in (0, 200, 400)}
    return SyntheticRun(algorithm, seed, curve, {200: 1.0}, **changes)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Results and their bundle: one run failed, one is missing."""
    folder = tmp_path_factory.mktemp("study")
    made = [run("conservative", seed) for seed in range(3)] + [run("vmail", 0), run("vmail", 1, state="failed")]
    results = write_all(folder / "results", made)
    (folder / "suite.yaml").write_text("name: kitchen\n")
    return results, write_bundle(load_results(results), results, folder / "paper", folder / "suite.yaml")


def test_bundle_holds_all_that_a_paper_needs(study):
    results, bundle = study
    table = pd.read_parquet(bundle / "results.parquet")
    assert list(table.columns) == SCHEMA.names
    assert len(table) == len(load_results(results).metrics)
    assert set(pd.read_csv(bundle / "runs.csv")["state"]) == {"done", "failed", "missing"}
    assert (bundle / "suite.yaml").read_text() == "name: kitchen\n"
    assert (bundle / "figures" / "kitchen-cpu-learning.pdf").exists()
    assert "| vmail | 1/3 |" in (bundle / "tables" / "kitchen-cpu-headline.md").read_text()
    assert r"\toprule" in (bundle / "tables" / "kitchen-cpu-headline.tex").read_text()


def test_script_of_the_bundle_asks_for_no_run_that_was_never_made(study):
    script = study[1] / "reproduce.sh"
    assert os.access(script, os.X_OK)
    subprocess.run(["sh", "-n", script], check=True)
    assert [line for line in script.read_text().splitlines() if line.startswith("ailft-bench run")] == [
        "ailft-bench run kitchen --scale cpu --seeds 0,1,2, --algorithms conservative",
        "ailft-bench run kitchen --scale cpu --seeds 0,1, --algorithms vmail",
    ]


def test_imported_bundle_is_the_results_it_was_made_of(study, tmp_path):
    results, bundle = study
    imported = import_bundle(bundle, tmp_path)
    assert (len(imported.taken), imported.refused) == (5, {})
    before, after = load_results(results), load_results(tmp_path)
    pd.testing.assert_frame_equal(before.metrics, after.metrics)
    pd.testing.assert_frame_equal(before.runs.drop(columns="directory"), after.runs.drop(columns="directory"))


def test_metrics_travel_compressed_and_arrive_byte_for_byte(study, tmp_path):
    results, bundle = study
    import_bundle(bundle, tmp_path)
    sent = {made.spec.run_id: made.path for made in runs(results)}
    packed = {run.spec.run_id: run.path for run in runs(bundle / "runs")}
    for arrived in runs(tmp_path):
        log = (sent[arrived.spec.run_id] / "metrics.jsonl").read_bytes()
        assert (arrived.path / "metrics.jsonl").read_bytes() == log
        assert not (packed[arrived.spec.run_id] / "metrics.jsonl").exists()
        assert not (arrived.path / "metrics.jsonl.gz").exists()


def test_reference_lines_travel_with_the_runs(tmp_path, monkeypatch):
    env_id, settings = "ailft/Push-v0", {"horizon": 45}
    recipe = {"source": "scripted", "episodes": 2, "seed": 0}
    made = run(
        "conservative",
        0,
        environment={"id": env_id, "version": environment_class(env_id).version, **settings},
        demonstrations=recipe | {"checksum": demonstrations_checksum(env_id, settings, **recipe)},
    )
    results = write_all(tmp_path / "results", [made])
    record = next(results.rglob("run.json"))
    provenance = {"packages": {"mujoco": version("mujoco")}}
    record.write_text(json.dumps(json.loads(record.read_text()) | {"provenance": provenance}))
    loaded = load_results(results)
    assert not (write_bundle(loaded, results, tmp_path / "without") / "references").exists()
    known = {("kitchen", "cpu"): provide_references(made.spec, results)}
    bundle = write_bundle(loaded, results, tmp_path / "paper")
    assert "| expert (reference) |" in (bundle / "tables" / "kitchen-cpu-headline.md").read_text()
    mine = tmp_path / "mine"
    assert import_bundle(bundle, mine).lines == 1
    assert load_references(load_results(mine), mine) == known
    assert import_bundle(bundle, mine).lines == 0
    # Wherever the runs' own version of mujoco is not the one that is installed.
    monkeypatch.setattr("ailft_bench.references.version", lambda package: "0.0")
    assert load_references(load_results(mine), mine) == known


def test_damaged_reference_lines_are_named_and_nothing_is_taken(study, tmp_path):
    shutil.copytree(study[1] / "runs", tmp_path / "paper" / "runs")
    packed = tmp_path / "paper" / "references" / "c0ffee.json.gz"
    packed.parent.mkdir()
    packed.write_bytes(b"{}")
    with pytest.raises(UserError, match=re.escape(f"{packed}: damaged")):
        import_bundle(tmp_path / "paper", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_bundle_of_uncompressed_metrics_is_taken_as_it_is(study, tmp_path):
    results = study[0]
    shutil.copytree(results, tmp_path / "old" / "runs")
    assert len(import_bundle(tmp_path / "old", tmp_path / "mine").taken) == 5
    pd.testing.assert_frame_equal(load_results(results).metrics, load_results(tmp_path / "mine").metrics)


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-9], lambda data: b"{}" + data, lambda data: data[:20] + data[24:]]
)
def test_damaged_metrics_are_named_and_no_run_is_taken(study, tmp_path, damage):
    shutil.copytree(study[1] / "runs", tmp_path / "paper" / "runs")
    packed = next((tmp_path / "paper").rglob("vmail/*/metrics.jsonl.gz"))
    packed.write_bytes(damage(packed.read_bytes()))
    with pytest.raises(UserError, match=re.escape(f"{packed}: damaged")):
        import_bundle(tmp_path / "paper", tmp_path / "mine")
    assert not list(runs(tmp_path / "mine"))
    assert not list((tmp_path / "mine").rglob("*.tmp"))


def test_damaged_result_is_named_and_no_run_is_taken(study, tmp_path):
    shutil.copytree(study[1] / "runs", tmp_path / "paper" / "runs")
    result = next((tmp_path / "paper").rglob("result.parquet"))
    result.write_bytes(result.read_bytes()[:-9])
    with pytest.raises(UserError, match=re.escape(f"{result}: damaged")):
        import_bundle(tmp_path / "paper", tmp_path / "mine")
    assert not list(runs(tmp_path / "mine"))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("suite", "../../evil"),
        ("suite", "tuning"),
        ("scale", ".."),
        ("algorithm", "../../../evil"),
        ("variant", "a/../../../../evil"),
        ("run_id", "/../../x"),
    ],
)
def test_run_whose_names_lead_out_of_the_results_is_named_and_nothing_is_taken(study, tmp_path, key, name):
    shutil.copytree(study[1] / "runs", tmp_path / "paper" / "runs")
    record = next((tmp_path / "paper").rglob("vmail/*/run.json"))
    record.write_text(json.dumps(json.loads(record.read_text()) | {key: name}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=re.escape(f"{record}: {key}: {name!r}: ")):
        import_bundle(tmp_path / "paper", tmp_path / "a" / "b" / "mine")
    assert sorted(tmp_path.rglob("*")) == before


def test_run_that_is_there_already_is_refused_and_the_others_are_taken(study, tmp_path):
    mine = run("vmail", 0).write(tmp_path)
    before = (mine.path / "metrics.jsonl").read_bytes()
    imported = import_bundle(study[1], tmp_path)
    assert len(imported.taken) == 4
    ((path, reason),) = imported.refused.items()
    assert path.name == mine.path.name
    assert "is there already" in reason
    assert (mine.path / "metrics.jsonl").read_bytes() == before
    assert len(import_bundle(study[1], tmp_path).refused) == 5


def test_run_that_a_bundle_holds_twice_is_taken_once(study, tmp_path):
    shutil.copytree(study[1] / "runs", tmp_path / "paper" / "runs")
    one = next((tmp_path / "paper").rglob("vmail/*/run.json")).parent
    shutil.copytree(one, one.with_name(f"{one.name}-copy"))
    imported = import_bundle(tmp_path / "paper", tmp_path / "mine")
    assert (len(imported.taken), len(imported.refused)) == (5, 1)
    assert not list((tmp_path / "mine").rglob("*.tmp"))


def test_run_that_two_suites_have_is_taken_for_both(tmp_path):
    one, other = (run("conservative", 0, suite=suite) for suite in ("kitchen", "kitchen_alpha"))
    other = dataclasses.replace(other, algorithm="alpha_10", method="conservative")
    first, second = one.write(tmp_path / "a" / "runs"), other.write(tmp_path / "b" / "runs")
    identity = first.spec.run_id
    record = second.path / "run.json"
    record.write_text(record.read_text().replace(other.run_id, identity))
    assert import_bundle(tmp_path / "a", tmp_path / "mine").refused == {}
    assert import_bundle(tmp_path / "b", tmp_path / "mine").refused == {}
    assert [run.spec.run_id for run in runs(tmp_path / "mine")] == [identity, identity]


def test_script_asks_for_a_run_under_each_of_its_labels(tmp_path, monkeypatch):
    monkeypatch.setattr("ailft_bench.bundle.figures.plot", lambda *arguments: [])
    results = tmp_path / "results"
    known = run("conservative", 0).write(results)
    for changes in ({"algorithm": "alpha_10"}, {"suite": "kitchen_alpha"}):
        other = dataclasses.replace(run("conservative", 0), method="conservative", **changes)
        record = other.write(results).path / "run.json"
        record.write_text(record.read_text().replace(other.run_id, known.spec.run_id))
    bundle = write_bundle(load_results(results), results, tmp_path / "paper")
    assert [line for line in (bundle / "reproduce.sh").read_text().splitlines() if line.startswith("ailft-bench")] == [
        "ailft-bench run kitchen --scale cpu --seeds 0, --algorithms alpha_10,conservative",
        "ailft-bench run kitchen_alpha --scale cpu --seeds 0, --algorithms conservative",
        "ailft-bench plot kitchen --scale cpu",
        "ailft-bench plot kitchen_alpha --scale cpu",
    ]


def test_of_several_versions_the_highest_by_number_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("ailft_bench.bundle.figures.plot", lambda *arguments: [])
    found = {
        "torch": ["2.9.1+cpu", "2.10.0", "2.10.0rc1"],
        "dateutil": ["2.9.0.post0", "2.9.0", "2.8"],
        "odd": ["unknown", "1.0", "1.0.dev3"],
    }
    made = [run("conservative", seed) for seed in range(3)]
    results = write_all(tmp_path / "results", made)
    for place, one in enumerate(made):
        record = one.spec.directory(results) / "run.json"
        packages = {name: versions[place] for name, versions in found.items()}
        record.write_text(json.dumps(json.loads(record.read_text()) | {"provenance": {"packages": packages}}))
    bundle = write_bundle(load_results(results), results, tmp_path / "paper")
    assert (bundle / "versions.txt").read_text().splitlines() == [
        *("dateutil==2.9.0.post0", "# also: dateutil==2.8", "# also: dateutil==2.9.0"),
        *("odd==1.0", "# also: odd==unknown", "# also: odd==1.0.dev3"),
        *("torch==2.10.0", "# also: torch==2.9.1", "# also: torch==2.10.0rc1"),
    ]


def test_smoke_runs_and_existing_directories_are_refused_and_nothing_is_left(study, tmp_path):
    with pytest.raises(UserError, match="exists already"):
        write_bundle(load_results(study[0]), *study)
    smoke = write_all(tmp_path / "results", [run("vmail", 0, scale="smoke")])
    with pytest.raises(UserError, match="never a result"):
        write_bundle(load_results(smoke), smoke, tmp_path / "paper")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_bundle_that_is_not_there_is_a_message_with_the_nearest(tmp_path):
    (tmp_path / "kitchen").mkdir()
    with pytest.raises(UserError, match=r"kitchn: no such directory; did you mean '.*/kitchen'\?"):
        import_bundle(tmp_path / "kitchn", tmp_path / "results")


def test_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a bundle"):
        import_bundle(tmp_path, tmp_path / "results")


def test_bundle_tells_nothing_of_the_folders_of_its_machine(tmp_path):
    results = write_all(tmp_path / "results", [run("conservative", 0)])
    (made,) = runs(results)
    failed = run("vmail", 0, state="waiting").write(results)
    failed.fail(f"UserError: {failed.path / 'replay'}: the disk is full", "traceback")
    damaged = run("vmail", 1).write(results)
    (damaged.path / "run.json").write_text("{}")
    record = json.loads((made.path / "run.json").read_text())
    home = str(tmp_path / "home of somebody")
    record["provenance"] = {"directory": home, "command": f"ailft-bench run '{home}/my.yaml' --results {results}"}
    (made.path / "run.json").write_text(json.dumps(record))
    bundle = write_bundle(load_results(results), results, tmp_path / "paper")
    assert "ailft-bench run './my.yaml' --scale cpu" in (bundle / "reproduce.sh").read_text()
    for path in (bundle / "runs.csv", *(bundle / "tables").iterdir()):
        assert str(tmp_path) not in path.read_text()
    assert "the disk is full" in (bundle / "runs.csv").read_text()
    copied = next(found for found in runs(bundle / "runs") if found.spec.algorithm == "conservative")
    assert copied.spec.provenance["command"] == "ailft-bench run './my.yaml' --results results"
    assert copied.spec.run_id == made.spec.run_id
    arrived = import_bundle(bundle, tmp_path / "mine").taken
    assert len(arrived) == 2
    assert all(str(tmp_path) not in path.read_text() for folder in arrived for path in folder.glob("*.json*"))
