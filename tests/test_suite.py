"""Suites: every mistake is named with its place and the nearest valid name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from specs import SUITE, write_suite

from ailft_bench import suite_file
from ailft_bench.demos.recording import make_env
from ailft_bench.envs import all_arguments
from ailft_bench.errors import UserError
from ailft_bench.suite import Suite

SHIPPED = [
    "kitchen",
    "kitchen_alpha",
    "kitchen_hard",
    "kitchen_microwave",
    "kitchen_scratch",
    "push_alpha",
    "push_cloned",
    "quickstart",
]


def load(folder: Path, *assignments: str, text: str = SUITE) -> Suite:
    return suite_file.load(str(write_suite(folder, text)), assignments)


def test_settings_are_laid_over_each_other_in_order(tmp_path: Path) -> None:
    suite = load(tmp_path)
    assert suite.seeds == (0, 1)
    assert suite.agent("cpu", "conservative", "default").discount == 0.98
    assert suite.agent("smoke", "conservative", "default").discount == 0.9
    assert suite.agent("smoke", "vmail", "default").alpha == 0
    assert suite.agent("smoke", "k1", "default").ensemble_size == 1
    assert suite.agent("smoke", "conservative", "mild").alpha == 1
    assert suite.method_of("k1") == "conservative"
    assert suite.at("smoke").environment.kwargs == {"image_size": 64, "start_noise": 0.01}
    assert suite.at("cpu").environment.kwargs == {"image_size": 64, "start_noise": 0.02}


def test_variants_cross_the_algorithms_they_name(tmp_path: Path) -> None:
    suite = load(tmp_path)
    assert suite.variants_of("conservative") == ["default", "mild"]
    assert suite.variants_of("vmail") == ["default"]


@pytest.mark.parametrize(
    ("assignment", "seen"),
    [
        ("settings.discount=0.5", lambda suite: suite.agent("smoke", "vmail", "default").discount == 0.5),
        ("algorithms.k1.alpha=7", lambda suite: suite.agent("smoke", "k1", "default").alpha == 7),
        ("algorithms.conservative.alpha=7", lambda suite: suite.agent("cpu", "k1", "default").alpha != 7),
        (
            "environment.start_noise=.1",
            lambda suite: suite.at("smoke").environment.kwargs["start_noise"] == 0.1,
        ),
        ("scales.cpu.env_steps=70", lambda suite: suite.scales["cpu"].env_steps == 70),
        ("seeds=[4, 2]", lambda suite: suite.seeds == (4, 2)),
        ("settings.model_lr=1e-3", lambda suite: suite.agent("cpu", "k1", "default").model_lr == 0.001),
        ("name=other", lambda suite: suite.name == "other"),
        ("resources.memory_gib=3.5", lambda suite: suite.resources.memory_gib == 3.5),
    ],
)
def test_set_reaches_any_key_and_no_scale_changes_it_back(tmp_path: Path, assignment: str, seen) -> None:
    assert not seen(load(tmp_path)) or assignment.startswith("algorithms.conservative")
    assert seen(load(tmp_path, assignment))


WITH_SCALED_ALGORITHM = (
    SUITE
    + """  large: &large
    preset: cpu
    env_steps: 400
    algorithms: {k1: {alpha: 30, horizon: 4}}
    settings: &shared {discount: 0.9}
  larger:
    <<: *large
    settings: *shared
"""
)


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        ((), (30, 4)),
        (("algorithms.k1.alpha=7",), (7, 4)),
        (("algorithms.k1={method: conservative, alpha: 7, horizon: 2}",), (7, 2)),
        (("algorithms.k1.alpha=7", "scales.large.algorithms.k1.alpha=8"), (8, 4)),
    ],
)
def test_what_is_set_for_an_algorithm_no_scale_changes_back(
    tmp_path: Path, assignments: tuple[str, ...], expected: tuple[float, int]
) -> None:
    agent = load(tmp_path, *assignments, text=WITH_SCALED_ALGORITHM).agent("large", "k1", "default")
    assert (agent.alpha, agent.horizon) == expected


def test_what_is_set_for_all_names_the_algorithms_that_keep_their_own(tmp_path: Path) -> None:
    suite = load(tmp_path, "settings.alpha=3", text=WITH_SCALED_ALGORITHM)
    (note,) = suite_file.kept_settings(suite, "large", ["settings.alpha=3", "seeds=2"])
    assert "k1 keeps its own value of 30" in note  # and vmail 0, which is what makes it vmail
    assert "--set algorithms.k1.alpha=3 would change it" in note
    whole = ["settings.alpha=4", "settings={alpha: 3, discount: 0.5}"]  # the last one counts
    suite = load(tmp_path, *whole, text=WITH_SCALED_ALGORITHM)
    assert suite_file.kept_settings(suite, "large", whole)[0] == note
    assert suite_file.kept_settings(suite, "large", ["settings="]) == []


@pytest.mark.parametrize("key", ["settings.discount", "algorithms.k1.discount"])
def test_what_is_set_for_one_scale_stays_there_where_two_share_an_anchor(tmp_path: Path, key: str) -> None:
    suite = load(tmp_path, f"scales.large.{key}=0.5", text=WITH_SCALED_ALGORITHM)
    assert suite.agent("large", "k1", "default").discount == 0.5
    assert suite.agent("larger", "k1", "default").discount == 0.9


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("seeds: 2", "seed: 2", ["line 12", "unknown key 'seed'", "did you mean 'seeds'?"]),
        (
            "env_steps: 200",
            "env_stps: 200",
            ["line 17", "scales.smoke.env_stps", "did you mean 'env_steps'?"],
        ),
        ("env_steps: 200", "env_steps: 0", ["line 17", "scales.smoke.env_steps", "found 0"]),
        ("discount: 0.98", "discont: 0.98", ["line 5", "settings.discont", "did you mean 'discount'?"]),
        ("discount: 0.98", "discount: 1.5", ["line 5", "settings.discount", "1.5", "0 to 1"]),
        ("ensemble_size: 1", "ensemble_size: one", ["line 9", "algorithms.k1.ensemble_size", "'one'"]),
        ("method: conservative", "method: conserative", ["line 9", "did you mean 'conservative'?"]),
        ("vmail: {}", "vmial: {}", ["line 8", "unknown method 'vmial'", "did you mean 'vmail'?"]),
        ("vmail: {}", "vmail: {alpha: 3}", ["line 8", "algorithms.vmail.alpha", "it is what makes vmail"]),
        ("only: [conservative]", "only: []", ["line 11", "variants.mild.only", "at least 1 item"]),
        ("name: toy", "name: 2024-02-30", ["not valid YAML", "day"]),
        ("only: [conservative]", "only: [vmial]", ["line 11", "variants.mild.only", "did you mean 'vmail'?"]),
        ("preset: smoke", "preset: smok", ["line 16", "did you mean 'smoke'?"]),
        ("{start_noise: 0.01}", "{id: 3}", ["line 19", "scales.smoke.environment.id", "valid string", "found 3"]),
        ("seeds: 2", "[a, b]: 2", ["line 12", "a sequence stands as a key"]),
        ("image_size: 64", "image_sise: 32", ["line 3", "did you mean 'image_size'?"]),
        ("ailft/Push-v0", "ailft/Psh-v0", ["line 3", "did you mean 'ailft/Push-v0'?"]),
        ("episodes: 2}", "episodes: none}", ["line 4", "demonstrations.episodes", "'none'"]),
        ("name: toy", "name: demos", ["line 1", "choose another name"]),
        ("name: toy", "name: a/b", ["line 1", "it becomes a folder"]),
        ("seeds: 2", "seeds: [1, 1]", ["seeds", "twice"]),
        ("seeds: 2", "seeds: -1", ["seeds", "1 to 10000"]),
        ("seeds: 2", "seeds: 2\nseeds: 3", ["line 13", 'duplicate key "seeds"']),
        ("  vmail: {}", "  vmail: {", ["line"]),
        (
            "evaluation: {episodes: 2, every: 100}\n",
            "evaluation: 3\n",
            ["expected a mapping of keys; found 3"],
        ),
        (
            "environment: {start_noise: 0.01}",
            "environment: {noise: 0.01}",
            ["line 19", "no argument 'noise'"],
        ),
        ("    environment: {start", "    evaluation: {start", ["line 19", "unknown key 'start_noise'"]),
    ],
)
def test_mistake_in_a_suite_is_named_with_its_line(tmp_path: Path, old: str, new: str, parts: list[str]) -> None:
    assert old in SUITE
    with pytest.raises(UserError) as error:
        load(tmp_path, text=SUITE.replace(old, new, 1))
    assert "toy.yaml" in str(error.value)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("alpha=3", ["settings.alpha=3 (for all algorithms), algorithms.NAME.alpha=3 (for one)"]),
        ("lambda=0.9", ["lam is a setting of the agent", "settings.lam=0.9"]),
        ("alhpa=3", ["unknown key 'alhpa'", "allowed: algorithms"]),
        ("setings.alpha=3", ["did you mean 'settings'?"]),
        ("settings.alhpa=3", ["did you mean 'alpha'?"]),
        ("algorithms.vmial.alpha=3", ["no 'vmial' in algorithms", "did you mean 'vmail'?"]),
        ("scales.smok.env_steps=3", ["did you mean 'smoke'?"]),
        ("scales.smoke.env_step=3", ["did you mean 'env_steps'?"]),
        ("name.first=x", ["name is a value"]),
        ("settings.alpha", ["expected key=value"]),
        ("settings.alpha=[1", ["not valid YAML"]),
        ("settings.alpha=2024-02-30", ["not valid YAML"]),
        ("variants.mid={ensemble_size: 2}", ["no 'mid' in variants", "did you mean 'mild'?"]),
        ("environment.id.x={}", ["environment.id is a value"]),
        ("algorithms.vmial={}", ["no 'vmial' in algorithms", "did you mean 'vmail'?"]),
        ("settings.alpha=x", ["'x'", "a finite number"]),
    ],
)
def test_bad_assignment_is_named(tmp_path: Path, assignment: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, assignment)
    for part in (f"--set {assignment}", *parts):
        assert part in str(error.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_suite_is_found_by_name_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    suite = suite_file.load(name)
    assert suite.name == name
    assert set(suite.scales) >= {"paper", "cpu", "smoke"}


def test_no_shipped_suite_is_left_out_here() -> None:
    assert sorted(path.stem for path in (Path(__file__).parents[1] / "suites").glob("*.yaml")) == SHIPPED


def test_missing_suites_are_named() -> None:
    with pytest.raises(UserError, match="did you mean 'kitchen'"):
        suite_file.load("kitchn")
    with pytest.raises(UserError, match=r"nowhere\.yaml: no such file"):
        suite_file.load("nowhere.yaml")


@pytest.mark.parametrize("text", ["", "- a\n", "just words\n"])
def test_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="expected a mapping"):
        load(tmp_path, text=text)


@pytest.mark.parametrize(
    ("assignment", "part"),
    [
        ("environment.image_size=65", "65 is not one of"),
        ("environment.image_size=big", "valid integer"),
        ("environment.horizon=10.5", "valid integer"),
        ("environment.tasks=[puk]", "did you mean 'puck'"),
        ("environment.start_noise=-1", "-1"),
        ("seeds=[[1], [2]]", "a list of seeds"),
        ("seeds=99999999999", "1 to 10000"),
        ("settings.alpha=.inf", "a finite number"),
        ("environment.id=no_such_module:My-v0", "cannot import no_such_module"),
        ("scales.smoke.algorithms.bcc={alpha: 1}", "no algorithm 'bcc'"),
    ],
)
def test_bad_value_is_refused_before_anything_runs(tmp_path: Path, assignment: str, part: str) -> None:
    with pytest.raises(UserError) as error:
        suite_file.load(str(write_suite(tmp_path, SUITE)), [assignment], try_environments=True)
    assert part in str(error.value)
    assert assignment.split("=")[0].rpartition(".")[2] in str(error.value)


ANNOTATED = """
from __future__ import annotations
from typing import TYPE_CHECKING
import gymnasium
import numpy as np
from ailft_bench.envs.push import PushEnv
if TYPE_CHECKING:
    from nowhere import Unseen

class Annotated(PushEnv):
    def __init__(
        self,
        unseen: Unseen | list[Unseen] = 1,
        weights: np.ndarray = None,
        goal: tuple[float, ...] = None,
        spans: dict[str, tuple[int, int]] | None = None,
        horizon: int = 50,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(horizon=horizon, render_mode=render_mode)
        self.given = (unseen, weights, goal, spans)

gymnasium.register("Annotated-v0", entry_point="annotated_env:Annotated")
"""


def load_annotated(folder: Path, environment: str) -> Suite:
    (folder / "annotated_env.py").write_text(ANNOTATED)
    text = SUITE.replace("id: ailft/Push-v0, image_size: 64, start_noise: 0.02", environment).replace(
        "    environment: {start_noise: 0.01}\n", ""
    )
    return suite_file.load(str(write_suite(folder, text)), try_environments=True)


def test_annotations_of_a_users_environment_are_followed_where_they_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    given = "id: annotated_env:Annotated-v0, unseen: 3, weights: [1, 2], goal: [0.5, 1], spans: {a: [1, 2]}"
    environment = load_annotated(tmp_path, given).at("smoke").environment
    arguments = json.loads(json.dumps(all_arguments(environment.id, environment.kwargs)))  # as workers find them
    env: Any = make_env(environment.id, arguments)
    assert env.given == (3, [1, 2], (0.5, 1.0), {"a": (1, 2)})
    defaults: Any = make_env(environment.id, all_arguments(environment.id, {}))
    assert defaults.given == (1, None, None, None)
    for bad, parts in (
        ("goal: [high]", ["line 3: environment.goal: ['high']", "valid number"]),
        ("horizon: 2.5", ["line 3: environment.horizon: 2.5", "valid integer"]),
        ("horizn: 2", ["did you mean 'horizon'?"]),
    ):
        with pytest.raises(UserError) as error:
            load_annotated(tmp_path, f"id: annotated_env:Annotated-v0, {bad}")
        for part in parts:
            assert part in str(error.value)


def test_scale_changes_an_algorithm_of_its_own(tmp_path: Path) -> None:
    suite = load(tmp_path, "scales.smoke.algorithms.k1.alpha=9")
    assert suite.agent("smoke", "k1", "default").alpha == 9
    assert suite.agent("cpu", "k1", "default").alpha != 9
    assert suite.agent("smoke", "conservative", "default").alpha != 9
