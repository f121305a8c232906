"""Suites: what is compared, on what, with which budget."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    StrictInt,
)

from algorithms.config import AgentConfig
from algorithms.methods import METHODS

#: Folders of the results directory that are not suites.
RESERVED_NAMES = ("demos", "figures", "pretrained", "reference", "references", "slurm", "tuning", "videos")


#: More than anybody means: a number this large is a seed that was given as a number of seeds.
MAX_SEEDS = 10_000


def folder_name(name: str) -> str:
    """Return ``name``, of a scale, an algorithm or a variant.

    Raises:
        ValueError: it could not be a folder, or would be one elsewhere.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ValueError("a name has letters, digits, '_', '-' and '.' only: it becomes a folder")
    return name


def suite_name(name: str) -> str:
    """Return ``name``, of a suite.

    Raises:
        ValueError: as ``folder_name``, or its folder of the results directory holds something else.
    """
    if name in RESERVED_NAMES:
        raise ValueError(f"{name!r} is a folder of the results directory; choose another name")
    return folder_name(name)


def _seed_list(seeds: object) -> object:
    if isinstance(seeds, int) and not isinstance(seeds, bool) and 0 < seeds <= MAX_SEEDS:
        return tuple(range(seeds))
    if isinstance(seeds, Sequence) and seeds and all(isinstance(seed, int) for seed in seeds):
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed is given twice")
        return tuple(seeds)
    raise ValueError(f"expected a number of seeds (1 to {MAX_SEEDS}) or a list of seeds")


Name = Annotated[str, AfterValidator(folder_name)]
Seeds = Annotated[tuple[Annotated[StrictInt, Field(ge=0, lt=2**32)], ...], BeforeValidator(_seed_list)]
Settings = dict[str, Any]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Open(BaseModel):
    """A section with keys of its own and keys of something else."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


class Environment(_Open):
    """``id``, and the keyword arguments of ``gymnasium.make``."""

    id: str

    @property
    def kwargs(self) -> Settings:
        """Everything but ``id``."""
        return dict(self.model_extra or {})


class Algorithm(_Open):
    """A ``method`` (by default the one of the same name), and settings of its agent."""

    method: str | None = None

    @property
    def settings(self) -> Settings:
        """Everything but ``method``."""
        return dict(self.model_extra or {})


class Variant(_Open):
    """Settings of the agent, laid over those of each algorithm, or of ``only`` some."""

    only: Annotated[list[str], Field(min_length=1)] | None = None

    @property
    def settings(self) -> Settings:
        """Everything but ``only``."""
        return dict(self.model_extra or {})


class Demonstrations(_Section):
    """Where the demonstrations come from: the scripted expert, or a directory of episodes."""

    source: str = "scripted"
    episodes: PositiveInt = 10
    seed: int = Field(default=0, ge=0)


class Evaluation(_Section):
    """``episodes`` a policy, ``every`` so many environment steps and at the end."""

    episodes: PositiveInt = 10
    every: PositiveInt = 10_000


class Resources(_Section):
    """What one cell needs of a machine; never a part of its identity."""

    memory_gib: PositiveFloat = 2.0


class Scale(_Section):
    """One size of the suite: a budget, a preset of the agent, and what else differs at this size."""

    env_steps: PositiveInt
    preset: str
    checkpoint_every: PositiveInt | None = None
    environment: Settings = Field(default_factory=dict)
    demonstrations: Settings = Field(default_factory=dict)
    evaluation: Settings = Field(default_factory=dict)
    settings: Settings = Field(default_factory=dict)
    algorithms: dict[Name, Settings] = Field(default_factory=dict)


class Suite(_Section):
    """A suite as written; ``suite_file.load`` reads it, ``cells.expand`` resolves one scale of it."""

    name: Annotated[str, AfterValidator(suite_name)]
    description: str = ""
    environment: Environment
    demonstrations: Demonstrations = Demonstrations()
    evaluation: Evaluation = Evaluation()
    settings: Settings = Field(default_factory=dict)
    algorithms: dict[Name, Algorithm] = Field(min_length=1)
    variants: dict[Name, Variant] = Field(default_factory=dict)
    seeds: Seeds
    scales: dict[Name, Scale] = Field(min_length=1)
    resources: Resources = Resources()
    #: Ranges of settings for ``tune``, by name; never a part of a run's identity.
    tuning: dict[str, str] = Field(default_factory=dict)

    def at(self, scale: str) -> Suite:
        """Return the suite with what ``scale`` changes laid over it (agent settings excepted)."""
        size = self.scales[scale]
        sections = {
            "environment": Environment(**{**self.environment.model_dump(), **size.environment}),
            "demonstrations": Demonstrations(**{**self.demonstrations.model_dump(), **size.demonstrations}),
            "evaluation": Evaluation(**{**self.evaluation.model_dump(), **size.evaluation}),
        }
        return self.model_copy(update=sections)

    def variants_of(self, algorithm: str) -> list[str]:
        """Return the variants of one algorithm; ``default`` (no change) is always the first."""
        return [
            "default",
            *(name for name, variant in self.variants.items() if algorithm in (variant.only or [algorithm])),
        ]

    def method_of(self, algorithm: str) -> str:
        """Return the method of an algorithm's entry: its name unless ``method`` says otherwise."""
        return self.algorithms[algorithm].method or algorithm

    def agent(self, scale: str, algorithm: str, variant: str) -> AgentConfig:
        """Resolve the agent's settings of one cell.

        Raises:
            SettingError: an unknown key, a bad value, or a key that defines the method.
        """
        size = self.scales[scale]
        own = self.algorithms[algorithm].settings | size.algorithms.get(algorithm, {})
        if variant != "default":
            own |= self.variants[variant].settings
        method = METHODS[self.method_of(algorithm)]
        return method.configure(size.preset, self.settings, size.settings, own=own)
