"""Machine profiles: what a cell asks of a cluster. Never a part of a suite, nor of a run's identity."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from ailft_bench.errors import UserError, nearest
from ailft_bench.yaml_file import YamlFile


class Profile(BaseModel):
    """One YAML file of ``profiles/``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time_limit_min: PositiveInt = 240
    #: So long before the end of its time a job is asked to save and to queue again.
    signal_delay_s: PositiveInt = 120
    cpus: PositiveInt = 1
    gpus: NonNegativeInt = 0
    memory_gib: PositiveFloat = 4.0
    #: How many cells may run at once.
    parallel: PositiveInt = 100
    #: Shell lines before the worker starts: ``module load ...``.
    setup: list[str] = Field(default_factory=list)
    #: Further options of sbatch by their long names: ``{exclude: node7}``.
    sbatch: dict[str, str | int | bool] = Field(default_factory=dict)


def load(name: str | None) -> Profile:
    """Read a profile by path or name; without one the user's ``default``, else what ``Profile`` says.

    Raises:
        UserError: names the file, line, key, bad value, what is allowed and the nearest match.
    """
    known = {path.stem: path for folder in reversed(_folders()) for path in folder.glob("*.yaml")}
    if name is None and "default" not in known:
        return Profile()
    path = Path(name) if name is not None and Path(name).suffix in (".yaml", ".yml") else known.get(name or "default")
    if path is None:
        raise UserError(f"--profile {name}: no such profile in {_folders()[0]} or shipped; {nearest(str(name), known)}")
    file = YamlFile(path)
    try:
        profile = Profile.model_validate(file.content)
    except ValidationError as error:
        raise UserError("\n".join(_explain(file, details) for details in error.errors())) from error
    if profile.signal_delay_s >= 60 * profile.time_limit_min:
        raise UserError(
            f"{file.where(('signal_delay_s',))}: {profile.signal_delay_s} s leave nothing of a time limit of "
            f"{profile.time_limit_min} min; allowed: less than {60 * profile.time_limit_min}"
        )
    return profile


def _folders() -> list[Path]:
    """The user's profiles, those of the checkout, those of an installed wheel."""
    configuration = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    package = Path(__file__).parents[1]
    return [configuration / "ailft-bench" / "profiles", package.parent / "profiles", package / "shipped_profiles"]


def _explain(file: YamlFile, details: Any) -> str:
    key = tuple(details["loc"])
    where = file.where(key)
    if details["type"] == "extra_forbidden":
        return f"{where}: unknown key {key[-1]!r}; {nearest(str(key[-1]), Profile.model_fields)}"
    return f"{where}: {details['msg'][0].lower()}{details['msg'][1:]}; found {details['input']!r}"
