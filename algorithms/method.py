"""A method: a name, the settings in which it differs from the core, and those that define it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from algorithms.config import PRESETS, AgentConfig, SettingError


@dataclass(frozen=True)
class Method:
    """One row of the comparison.

    Attributes:
        name: as suites call it.
        summary: one line for tables and help.
        settings: what differs from the core; laid over presets and suite-wide settings.
        defining: the keys of ``settings`` that nobody may change without changing the method's name.
    """

    name: str
    summary: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    defining: frozenset[str] = frozenset()

    def configure(self, preset: str, *shared: Mapping[str, Any], own: Mapping[str, Any]) -> AgentConfig:
        """Resolve the settings of one cell; later wins: preset, ``shared`` in turn, the method, ``own``.

        Raises:
            SettingError: for an unknown preset, key or value, or where ``own`` changes a defining key.
        """
        if preset not in PRESETS:
            raise SettingError("preset", preset, ", ".join(PRESETS))
        for key in sorted(self.defining & own.keys()):
            if own[key] != self.settings[key]:
                raise SettingError(key, own[key], f"{self.settings[key]} only: it is what makes {self.name}")
        merged: dict[str, Any] = dict(PRESETS[preset])
        for layer in (*shared, self.settings, own):
            merged.update(layer)
        return AgentConfig.from_settings(merged)
