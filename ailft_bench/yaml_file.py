"""A YAML file whose values remember where they stand, so that an error can name the line."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ailft_bench.errors import UserError, nearest

Key = tuple[str | int, ...]


class YamlFile:
    """The content of one YAML 1.2 file (``1e-3`` is a number, ``no`` is a word), and later ``--set`` values.

    Attributes:
        path: where it was read.
        content: plain dictionaries, lists and scalars.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read: {error}") from error
        try:
            self.content: Any = _unshared(_reader().load(text))
            root = _reader().compose(io.StringIO(text))
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f", line {mark.line + 1}" if mark else ""
            # The note of a repeated key talks about this library's Python interface.
            raise UserError(f"{path}{line}: {(error.problem or 'not valid YAML').splitlines()[0]}") from error
        except (YAMLError, ValueError) as error:  # what looks like a date may be none
            raise UserError(f"{path}: not valid YAML: {error}") from error
        if not isinstance(self.content, dict):
            raise UserError(f"{path}: expected a mapping of keys, found {type(self.content).__name__}")
        self._lines: dict[Key, int] = {}
        self._assignments: dict[Key, str] = {}
        self._index((), root)

    def where(self, key: Key) -> str:
        """Say where ``key`` (or its nearest parent) stands: the file and line, or the ``--set`` argument."""
        dotted = ".".join(str(part) for part in key)
        for length in range(len(key), 0, -1):
            if key[:length] in self._assignments:
                return f"--set {self._assignments[key[:length]]}: {dotted}"
            if key[:length] in self._lines:
                return f"{self.path}, line {self._lines[key[:length]]}: {dotted}"
        return f"{self.path}: {dotted}" if dotted else str(self.path)

    def set(self, assignment: str, named: Sequence[str], known: Sequence[str]) -> Key:
        """Apply ``a.b=value`` (a YAML scalar or flow value) and return the key.

        Args:
            assignment: the argument of ``--set``.
            named: top-level sections whose entries have names: they can be changed, not invented.
            known: all top-level keys.

        Raises:
            UserError: no ``=``, not YAML, or a path that leads nowhere.
        """
        dotted, equals, text = assignment.partition("=")
        key: Key = tuple(dotted.strip().split("."))
        if not equals or "" in key:
            raise UserError(f"--set {assignment}: expected key=value, for example algorithms.conservative.alpha=3")
        value = parse_value(assignment, text)
        if key[0] not in known:
            raise UserError(f"--set {assignment}: unknown key {key[0]!r}; {nearest(str(key[0]), known)}")
        target = self.content
        for depth, part in enumerate(key):
            if depth == 1 and key[0] in named and part not in target:
                known_here = nearest(str(part), target) if target else "there is none"
                raise UserError(f"--set {assignment}: no {part!r} in {key[0]}; {known_here}")
            if depth == len(key) - 1:
                target[part] = value
                break
            if target.get(part) is None:
                target[part] = {}
            target = target[part]
            if not isinstance(target, dict):
                parent = ".".join(str(part) for part in key[: depth + 1])
                raise UserError(f"--set {assignment}: {parent} is a value and has no keys below it")
        self._assignments[key] = assignment
        return key

    def _index(self, key: Key, node: Node) -> None:
        if isinstance(node, MappingNode):
            for name, value in node.value:
                if not isinstance(name, ScalarNode):
                    line = name.start_mark.line + 1
                    raise UserError(f"{self.path}, line {line}: a {name.id} stands as a key; allowed: words")
                self._lines[(*key, name.value)] = name.start_mark.line + 1
                self._index((*key, name.value), value)
        elif isinstance(node, SequenceNode):
            for index, value in enumerate(node.value):
                self._lines[(*key, index)] = value.start_mark.line + 1
                self._index((*key, index), value)


def _unshared(value: Any) -> Any:
    """Return a copy in which what YAML's anchors and aliases share is apart, so that it can be changed apart."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def parse_value(assignment: str, text: str) -> Any:
    """Return the value of one ``--set`` argument.

    Raises:
        UserError: ``text`` is not YAML.
    """
    try:
        return _reader().load(text)
    except (YAMLError, ValueError) as error:  # what looks like a date may be none
        raise UserError(f"--set {assignment}: the value is not valid YAML") from error


def _reader() -> YAML:
    return YAML(typ="safe", pure=True)
