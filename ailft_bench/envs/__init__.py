"""Environments, and their registration with gymnasium (by name, so that nothing heavy is imported)."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:
    from ailft_bench.envs.base import ImitationEnv

ENTRY_POINTS = {
    "ailft/Kitchen-v0": "ailft_bench.envs.kitchen:KitchenEnv",
    "ailft/Push-v0": "ailft_bench.envs.push:PushEnv",
}


def register_environments() -> None:
    """Register every environment of the project with gymnasium; calling it again does nothing.

    No ``max_episode_steps``: an environment truncates itself at its ``horizon``, so its state is complete.
    """
    import farama_notifications
    import gymnasium

    # gymnasium-robotics would print a notice about its hand environments, which have no part here, to the
    # standard error of every process.
    farama_notifications.notifications.pop("gymnasium_robotics", None)
    for env_id, entry_point in ENTRY_POINTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point=entry_point)


def register_with_gymnasium() -> None:
    """Register every environment now if gymnasium is imported, else as soon as it is: a third of a second."""
    if "gymnasium" in sys.modules:
        register_environments()
    elif not any(isinstance(finder, _Gymnasium) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Gymnasium())


class _Gymnasium:
    """Finds gymnasium as Python would have, once, and registers the environments when its import is done."""

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "gymnasium":
            return None
        position = sys.meta_path.index(self)
        sys.meta_path.remove(self)
        try:
            spec = find_spec(name)
        finally:  # whoever only asks whether gymnasium is there does not import it yet
            sys.meta_path.insert(position, self)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                sys.meta_path.remove(self)
                execute(module)
                register_environments()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def environment_class(env_id: str) -> type[ImitationEnv]:
    """Return the class behind a gymnasium id; ``module:Id`` imports the module that registers it.

    Raises:
        LookupError: there is no such environment, or it is not an ``ImitationEnv``.
    """
    import gymnasium

    from ailft_bench.envs.base import ImitationEnv

    register_environments()
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise LookupError(f"{env_id}: cannot import {module}: {error}") from error
    if name not in gymnasium.registry:
        raise LookupError(f"{env_id}: no such environment")
    entry_point: Any = gymnasium.registry[name].entry_point
    if isinstance(entry_point, str):
        path, _, attribute = entry_point.partition(":")
        try:
            entry_point = getattr(importlib.import_module(path), attribute)
        except (ImportError, AttributeError) as error:
            raise LookupError(f"{env_id}: cannot import {entry_point}: {error}") from error
    if not (isinstance(entry_point, type) and issubclass(entry_point, ImitationEnv)):
        raise LookupError(f"{env_id}: not an ImitationEnv (see ailft_bench/envs/base.py)")
    return entry_point


def all_arguments(env_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an environment with its defaults filled in, as plain lists and numbers.

    Identities are made of these, so that spelling out a default changes nothing, nor does writing 0 for 0.0; changing
    one does.
    """
    parameters = inspect.signature(environment_class(env_id)).parameters.values()
    defaults = {item.name: item.default for item in parameters if item.default is not item.empty}
    arguments = {**defaults, **given}
    arguments.pop("render_mode", None)
    return {key: _plain(value, defaults.get(key)) for key, value in arguments.items()}


def _plain(value: Any, default: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return float(value) if isinstance(default, float) and type(value) is int else value


def as_annotated(cls: type[ImitationEnv], name: str, value: Any) -> Any:
    """Return an argument of an environment, read from YAML or JSON, as its annotation wants it: a tuple of a list.

    It stays as it is where the annotation says nothing here: there is none, it has a name that is imported for type
    checkers alone, or it is of a type that pydantic cannot check, such as an array.

    Raises:
        ValidationError: the value is none of those that the annotation allows.
    """
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import to_json

    init = inspect.unwrap(cls.__init__)
    annotations = getattr(init, "__annotations__", {})
    if name not in annotations:
        return value
    # Alone: one annotation that cannot be resolved leaves the others checked.
    alone = SimpleNamespace(__annotations__={name: annotations[name]})
    try:
        hint = get_type_hints(alone, getattr(init, "__globals__", {}))[name]
        # Strict as JSON is: 3 is no text and "3" no number, but a list is what there is for a tuple.
        return TypeAdapter(hint).validate_json(to_json(value), strict=True)
    except ValidationError:
        raise
    except Exception:  # of the names in the user's module, or of pydantic
        return value
