"""Reading a suite: from a path or a shipped name, with ``--set`` laid over, checked key by key."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import gymnasium
from pydantic import BaseModel, ValidationError

from ailft_bench.demos.recording import make_env
from ailft_bench.envs import as_annotated, environment_class
from ailft_bench.envs.base import ImitationEnv
from ailft_bench.errors import UserError, did_you_mean, nearest
from ailft_bench.suite import Demonstrations, Environment, Evaluation, Settings, Suite
from ailft_bench.tuning import space
from ailft_bench.yaml_file import Key, YamlFile, parse_value
from algorithms.config import PRESETS, AgentConfig, SettingError
from algorithms.methods import METHODS


def load(suite: str, assignments: Sequence[str] = (), try_environments: bool = False) -> Suite:
    """Read a suite by path or shipped name, apply ``--set`` assignments, and check all of it.

    ``try_environments`` makes every environment once, which takes a second: before work starts.

    Raises:
        UserError: names the file, line, key, bad value, what is allowed and the nearest match.
    """
    file = YamlFile(find(suite))
    for assignment in assignments:
        _refuse_bare_setting(assignment)
        key = file.set(assignment, named=("algorithms", "variants", "scales"), known=list(Suite.model_fields))
        _drop_from_scales(file, key)
    try:
        loaded = Suite.model_validate(_without_empty_sections(file.content))
    except ValidationError as error:
        raise UserError("\n".join(_explain(file, details) for details in error.errors()[:5])) from error
    _check_scales(file, loaded)
    _check_environment(file, loaded, try_environments)
    _check_methods(file, loaded)
    _check_variants(file, loaded)
    _check_settings(file, loaded)
    _check_tuning(file, loaded)
    return loaded


def kept_settings(suite: Suite, scale: str, assignments: Sequence[str]) -> list[str]:
    """Say which algorithms keep a value of their own against ``--set settings.KEY=VALUE``, which is for all.

    Not what makes a method what it is: that VMAIL has no penalty surprises nobody.
    """
    wanted: dict[str, Any] = {}
    for assignment in assignments:
        dotted, _, text = assignment.partition("=")
        section, _, key = dotted.strip().partition(".")
        if section == "settings":
            value = parse_value(assignment, text)
            wanted |= {key: value} if key else value or {}
    return [
        f"--set settings.{key}={value}: {algorithm} keeps its own value of {own}; "
        f"--set algorithms.{algorithm}.{key}={value} would change it"
        for key, value in wanted.items()
        for algorithm in suite.algorithms
        if (own := suite.agent(scale, algorithm, "default").as_dict()[key]) != value
        and key not in METHODS[suite.method_of(algorithm)].defining
    ]


def find(suite: str) -> Path:
    """Return the path of a suite that is given by path or shipped name.

    Raises:
        UserError: there is no such file or name.
    """
    path = Path(suite)
    if path.is_file():
        return path
    if path.suffix in (".yaml", ".yml") or len(path.parts) != 1:
        raise UserError(f"{suite}: no such file{did_you_mean(path, path.parent.glob('*.yaml'))}")
    known = shipped()
    if suite not in known:
        raise UserError(f"{suite}: neither a file nor a shipped suite; {nearest(suite, known)}")
    return known[suite]


def shipped() -> dict[str, Path]:
    """Return the suites that have a name: those in ``suites`` here, else those of this package."""
    folders = [
        Path("suites"),
        Path(__file__).parent.parent / "suites",
        Path(__file__).parent / "shipped_suites",
    ]
    return {file.stem: file for folder in reversed(folders) for file in folder.glob("*.yaml")}


def _refuse_bare_setting(assignment: str) -> None:
    """Say where a setting of the agent belongs that stands alone: ``--set alpha=3``."""
    name, _, value = assignment.partition("=")
    name = space.ALIASES.get(name.strip(), name.strip())
    if name in AgentConfig.__dataclass_fields__:
        raise UserError(
            f"--set {assignment}: {name} is a setting of the agent; allowed: settings.{name}={value} (for all "
            f"algorithms), algorithms.NAME.{name}={value} (for one)"
        )


def _drop_from_scales(file: YamlFile, key: Key) -> None:
    """What is set by hand for the whole suite is not changed back by a scale."""
    if key[0] not in ("environment", "demonstrations", "evaluation", "settings", "algorithms"):
        return
    # Scales have the same sections, an algorithm's one step further down: algorithms.conservative.alpha.
    place, rest = (key[:2], key[2:]) if key[0] == "algorithms" else (key[:1], key[1:])
    scales = file.content.get("scales")
    for section in scales.values() if isinstance(scales, dict) else ():
        for part in place:
            section = section.get(part) if isinstance(section, dict) else None
        if isinstance(section, dict):
            section.pop(rest[0], None) if rest else section.clear()


def _without_empty_sections(content: Any) -> Any:
    """``algorithms: {bc: }`` leaves a null where a mapping is meant."""
    if not isinstance(content, dict):
        return content
    optional = ("settings", "variants", "resources", "tuning")
    content = {key: {} if value is None and key in optional else value for key, value in content.items()}
    for key in ("algorithms", "variants"):
        if isinstance(content.get(key), dict):
            content[key] = {name: {} if entry is None else entry for name, entry in content[key].items()}
    return content


def _explain(file: YamlFile, details: Any, prefix: Key = ()) -> str:
    key: Key = (*prefix, *(part for part in details["loc"] if part != "[key]"))
    where = file.where(key)
    if details["type"] == "missing":
        return f"{where}: is missing"
    if details["type"] == "extra_forbidden":
        return f"{where}: unknown key {key[-1]!r}; {nearest(str(key[-1]), _fields(key[:-1]))}"
    reason = details["msg"].removeprefix("Value error, ")
    if details["type"] in ("model_type", "dict_type"):
        reason = "expected a mapping of keys"
    return f"{where}: {reason[0].lower()}{reason[1:]}; found {details['input']!r}"


def _fields(key: Key) -> list[str]:
    """Return the keys that the section at ``key`` has."""
    section: Any = Suite
    for part in key:
        if isinstance(section, type) and issubclass(section, BaseModel):
            section = section.model_fields[str(part)].annotation
        else:
            section = get_args(section)[1]
    return list(section.model_fields)


def _check_scales(file: YamlFile, suite: Suite) -> None:
    """Check the parts of a scale against the sections that they change, and its preset."""
    for name, size in suite.scales.items():
        if size.preset not in PRESETS:
            where = file.where(("scales", name, "preset"))
            raise UserError(f"{where}: unknown preset {size.preset!r}; {nearest(size.preset, PRESETS)}")
        for algorithm in size.algorithms:
            if algorithm not in suite.algorithms:
                where = file.where(("scales", name, "algorithms", algorithm))
                raise UserError(f"{where}: no algorithm {algorithm!r}; {nearest(algorithm, suite.algorithms)}")
        for section, model in (("demonstrations", Demonstrations), ("evaluation", Evaluation)):
            given = getattr(size, section)
            base = getattr(suite, section).model_dump()
            try:
                model.model_validate({**base, **given})
            except ValidationError as error:
                prefix = ("scales", name, section)
                for details in error.errors()[:1]:
                    if details["type"] == "extra_forbidden":
                        key = str(details["loc"][0])
                        hint = nearest(key, model.model_fields)
                        raise UserError(f"{file.where((*prefix, key))}: unknown key {key!r}; {hint}") from error
                    raise UserError(_explain(file, details, prefix)) from error


def _check_environment(file: YamlFile, suite: Suite, try_them: bool) -> None:
    """Check the environment of every scale, so that no bad argument is found out by a worker."""
    made = []
    for scale, size in suite.scales.items():
        try:
            environment = suite.at(scale).environment
        except ValidationError as error:
            raise UserError(_explain(file, error.errors()[0], ("scales", scale, "environment"))) from error
        if environment in made:
            continue
        made.append(environment)

        def where(name: str, scale: str = scale, changes: Settings = size.environment) -> str:
            inner: Key = ("scales", scale, "environment", name)
            return file.where(inner if name in changes else ("environment", name))

        try:
            cls = environment_class(environment.id)
        except LookupError as error:
            ours = [known for known in gymnasium.registry if known.startswith("ailft/")]
            raise UserError(f"{where('id')}: {error}; {nearest(environment.id, ours)}") from error
        check_arguments(environment.id, environment.kwargs, cls, where)
        if try_them:
            _try(environment, where)


def check_arguments(env_id: str, kwargs: Settings, cls: type[ImitationEnv], where: Callable[[str], str]) -> None:
    """Check the arguments of an environment by the names and types that its class has.

    Raises:
        UserError: one that it does not take, or of another type; it stands ``where`` the function says.
    """
    parameters = inspect.signature(cls).parameters
    takes_more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name, value in kwargs.items():
        if name not in parameters and not takes_more:
            hint = nearest(name, parameters)
            raise UserError(f"{where(name)}: {env_id} has no argument {name!r}; {hint}")
        try:
            as_annotated(cls, name, value)
        except ValidationError as error:
            raise UserError(f"{where(name)}: {value!r}: {error.errors()[0]['msg']}") from error


def _try(environment: Environment, where: Callable[[str], str]) -> None:
    try:
        make_env(environment.id, environment.kwargs).close()
    except (UserError, ValueError, TypeError) as error:
        blamed = next((name for name in environment.kwargs if name in str(error)), "id")
        raise UserError(f"{where(blamed)}: {error}") from error


def _check_methods(file: YamlFile, suite: Suite) -> None:
    for algorithm, entry in suite.algorithms.items():
        method = suite.method_of(algorithm)
        if method not in METHODS:
            where = file.where(("algorithms", algorithm, *(["method"] if entry.method else [])))
            raise UserError(f"{where}: unknown method {method!r}; {nearest(method, METHODS)}")


def _check_variants(file: YamlFile, suite: Suite) -> None:
    if "default" in suite.variants:
        raise UserError(f"{file.where(('variants', 'default'))}: 'default' is the name of no variant")
    for name, variant in suite.variants.items():
        for algorithm in variant.only or []:
            if algorithm not in suite.algorithms:
                where = file.where(("variants", name, "only"))
                raise UserError(f"{where}: no algorithm {algorithm!r}; {nearest(algorithm, suite.algorithms)}")


def _check_settings(file: YamlFile, suite: Suite) -> None:
    """Resolve every agent once, and say which layer holds what it refuses."""
    for scale in suite.scales:
        for algorithm in suite.algorithms:
            for variant in suite.variants_of(algorithm):
                try:
                    suite.agent(scale, algorithm, variant)
                except SettingError as error:
                    where = _source_of(file, suite, scale, algorithm, variant, error.key)
                    known = error.key in AgentConfig.__dataclass_fields__
                    at = f" (at scale {scale})" if known else ""
                    raise UserError(f"{where}{at}: {_explain_setting(error)}") from error


def _check_tuning(file: YamlFile, suite: Suite) -> None:
    for name, text in suite.tuning.items():
        where = file.where(("tuning", name))
        space.parse(space.setting(name, where), text, where)


def _source_of(file: YamlFile, suite: Suite, scale: str, algorithm: str, variant: str, key: str) -> str:
    """Say which of the layers that make up a cell's settings holds ``key``: the last one that does."""
    layers: list[tuple[Key, Settings]] = [
        (("variants", variant), {} if variant == "default" else suite.variants[variant].settings),
        (("scales", scale, "algorithms", algorithm), suite.scales[scale].algorithms.get(algorithm, {})),
        (("algorithms", algorithm), suite.algorithms[algorithm].settings),
        (("scales", scale, "settings"), suite.scales[scale].settings),
        (("settings",), suite.settings),
    ]
    # Where a preset or the method itself holds it, the algorithm's entry is the place to change it.
    holder = next((prefix for prefix, settings in layers if key in settings), ("algorithms", algorithm))
    return file.where((*holder, key))


def _explain_setting(error: SettingError) -> str:
    names = list(AgentConfig.__dataclass_fields__)
    if error.key not in names:
        return f"unknown setting {error.key!r}; {nearest(error.key, names)}"
    return f"{error.value!r} is not allowed; allowed: {error.allowed}"
