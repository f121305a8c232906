"""Search spaces: which settings are tuned, over which ranges. One grammar for command line and suite.

``NAME:KIND[LOW,HIGH]`` with the kinds ``float``, ``int`` and ``log`` (uniform in the logarithm, whole numbers for a
setting that is one), or ``NAME:choice[A,B,C]``. A suite's ``tuning`` section maps names to the part after the colon;
a name alone means the suite's range, else a built-in one.
"""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ailft_bench.errors import UserError, nearest
from algorithms.config import AgentConfig, SettingError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

Kind = Literal["float", "int", "log", "choice"]

#: Names that the paper uses for settings that Python cannot call so.
ALIASES = {"lambda": "lam"}
#: Where neither the command nor the suite says anything. Defaults at scale paper: 3 (ours) and 0.95.
BUILT_IN = {"alpha": "log[0.1,30]", "lam": "float[0.7,1]"}

_KINDS = typing.get_args(Kind)
_RANGE = re.compile(r"\s*([a-z]+)\s*\[([^\[\]]*)\]\s*")
_EXAMPLE = "for example alpha, lambda:float[0.8,1], horizon:int[5,30], actor_lr:log[1e-5,1e-3], critic:choice[Q,V]"
_WORDS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Parameter:
    """One setting of the agent and its range: ``values`` are low and high, or all choices."""

    name: str
    kind: Kind
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.name}:{self.range}"

    @property
    def range(self) -> str:
        """The part after the colon, as ``parse`` reads it."""
        return f"{self.kind}[{','.join(map(written, self.values))}]"

    @property
    def label(self) -> str:
        """The name as the paper has it."""
        return next((alias for alias, name in ALIASES.items() if name == self.name), self.name)

    @property
    def numeric(self) -> bool:
        """Whether values lie on an axis."""
        return self.kind != "choice"

    @property
    def logarithmic(self) -> bool:
        """Whether that axis is a logarithmic one."""
        return self.kind == "log"

    def contains(self, value: object) -> bool:
        """Whether ``value`` can be drawn."""
        if not self.numeric:
            return value in self.values
        return isinstance(value, int | float) and self.values[0] <= value <= self.values[1]

    def quantile(self, share: float) -> Any:
        """Return the value below which ``share`` (0 to 1, without 1) of the range lies, as it is drawn at first."""
        if not self.numeric:
            return self.values[int(share * len(self.values))]
        low, high = self.values
        value = low * (high / low) ** share if self.logarithmic else low + share * (high - low)
        return round(value) if isinstance(low, int) else value

    def distribution(self) -> BaseDistribution:
        """Return the range as Optuna has it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if not self.numeric:
            return CategoricalDistribution(self.values)
        low, high = self.values
        whole = IntDistribution if isinstance(low, int) else FloatDistribution
        return whole(low, high, log=self.logarithmic)

    def suggest(self, trial: Trial) -> Any:
        """Draw a value for ``trial``, or return the one that it has already."""
        if not self.numeric:
            return trial.suggest_categorical(self.name, self.values)
        low, high = self.values
        suggest = trial.suggest_int if isinstance(low, int) else trial.suggest_float
        return suggest(self.name, low, high, log=self.logarithmic)


def parse_all(
    texts: Sequence[str], section: Mapping[str, str], base: AgentConfig, fixed: Mapping[str, Any], method: str
) -> list[Parameter]:
    """Read the command's parameters.

    Args:
        texts: as typed: names, or names with ranges.
        section: the ``tuning`` section of the suite.
        base: the settings that are tuned.
        fixed: settings that ``method`` consists of, with their values.
        method: its name, for messages.

    Raises:
        UserError: an unknown setting, one that is given twice or has no range, an empty range, or a value that the
            setting cannot have.
    """
    known = BUILT_IN | {ALIASES.get(name, name): text for name, text in section.items()}
    found: dict[str, Parameter] = {}
    for text in texts:
        given, colon, range_ = text.partition(":")
        name = setting(given.strip(), text)
        if name in found:
            raise UserError(f"{text}: {name} is given twice")
        if name in fixed:
            raise UserError(
                f"{text}: {name} = {fixed[name]} is what makes {method}; tune it on another algorithm of the suite, "
                "for example --algorithm conservative"
            )
        parameter = parse(name, range_ if colon else known.get(name) or _all_values(name, text), text)
        _check_values(parameter, text, base.as_dict())
        found[name] = parameter
    return list(found.values())


def setting(name: str, where: str) -> str:
    """Return the setting that ``name`` or its alias stands for.

    Raises:
        UserError: there is none.
    """
    hints = _hints()
    if ALIASES.get(name, name) not in hints:
        raise UserError(
            f"{where}: the agent has no setting {name!r}; {nearest(name, [*hints, *ALIASES])} (environment, "
            "demonstrations and budget are the task, and are not tuned)"
        )
    return ALIASES.get(name, name)


def parse(name: str, text: str, where: str) -> Parameter:
    """Read a range, such as ``log[0.1,30]``, for the setting ``name``.

    Raises:
        UserError: not a range, an empty one, or not one of this setting.
    """
    match = _RANGE.fullmatch(text)
    if match is None or match[1] not in _KINDS:
        raise UserError(f"{where}: {text!r} is not a range; allowed: {_EXAMPLE}")
    kind: Any = match[1]
    words = [word.strip() for word in match[2].split(",") if word.strip()]
    values = tuple(_choice(name, word) for word in words) if kind == "choice" else _ends(name, kind, words, where)
    if kind == "choice" and (len(values) < 2 or len(set(words)) != len(words)):
        raise UserError(f"{where}: {text} is no choice; allowed: at least two values, each once")
    parameter = Parameter(name, kind, values)
    _check_values(parameter, where, {})
    return parameter


def _ends(name: str, kind: Kind, words: Sequence[str], where: str) -> tuple[Any, ...]:
    types = _types(name)
    if not types & {int, float}:
        raise UserError(f"{where}: {name} is no number; allowed: {name}:choice[...]")
    whole = float not in types
    if whole and kind == "float":
        raise UserError(f"{where}: {name} is a whole number; allowed: {name}:int[{','.join(words)}]")
    whole |= kind == "int"
    try:
        low, high = (int(word) if whole else float(word) for word in words)
    except ValueError as error:
        numbers = "whole numbers" if whole else "numbers"
        raise UserError(f"{where}: expected two {numbers}, the lowest and the highest; found {words}") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{where}: the range from {low} to {high} is empty; allowed: a lowest value below the highest")
    if kind == "log" and low <= 0:
        extra = "; alpha = 0 is a trial of its own anyway" if name == "alpha" and low == 0 else ""
        raise UserError(f"{where}: a logarithmic range begins above 0, found {low}{extra}")
    return low, high


def _choice(name: str, word: str) -> Any:
    """Return a choice in the type of the setting."""
    if word in _WORDS:
        return _WORDS[word]
    for kind in (int, float):
        if kind in _types(name):
            try:
                return kind(word)
            except ValueError:
                continue
    return word


def written(value: object) -> str:
    """Return a value as ranges, suites and ``--set`` have it: YAML, and no more digits than it takes."""
    if isinstance(value, float) and value == float(f"{value:g}"):
        return f"{value:g}"
    return next((name for name, meant in _WORDS.items() if meant is value), str(value))


def _all_values(name: str, text: str) -> str:
    """Return the choice of all values of a setting that has few."""
    hint = _hints()[name]
    if typing.get_origin(hint) is Literal:
        return f"choice[{','.join(typing.get_args(hint))}]"
    if hint is bool:
        return "choice[false,true]"
    kind = "int[1,10]" if float not in _types(name) else "float[0,1]"
    raise UserError(f"{text}: no range is known for {name}; give one, for example {name}:{kind}")


def _check_values(parameter: Parameter, where: str, base: Mapping[str, Any]) -> None:
    """Let the agent say what it refuses: ends of a range, or choices."""
    for value in parameter.values:
        try:
            AgentConfig.from_settings({**base, parameter.name: value})
        except SettingError as error:
            if error.key == parameter.name or base:
                refused = f"{error.key} = {error.value!r}" if error.key != parameter.name else f"{error.value!r}"
                raise UserError(f"{where}: {refused} is not allowed; allowed: {error.allowed}") from error


def _types(name: str) -> set[Any]:
    hint = _hints()[name]
    return set(typing.get_args(hint) or (hint,))


def _hints() -> dict[str, Any]:
    return typing.get_type_hints(AgentConfig)
