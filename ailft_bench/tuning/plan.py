"""The plan of a study: all that is decided before the first run (``study.json``), and never changed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ailft_bench import durable, provenance
from ailft_bench.cells import decided, expand, identity
from ailft_bench.errors import UserError, nearest
from ailft_bench.seeding import branch_seed
from ailft_bench.store import RunSpec
from ailft_bench.suite import MAX_SEEDS, Suite
from ailft_bench.tuning import space
from ailft_bench.tuning.objective import Objective
from ailft_bench.tuning.space import Parameter
from algorithms.config import AgentConfig
from algorithms.methods import METHODS

#: The blocks of seeds, in the order of the protocol.
Block = Literal["tune", "select", "report"]
BLOCKS: tuple[Block, ...] = ("tune", "select", "report")
Settings = dict[str, Any]

#: Trials that are drawn at random before the sampler learns from the finished ones.
STARTUP_TRIALS = 10
SAMPLER = f"TPESampler(multivariate, group, constant_liar, n_startup_trials={STARTUP_TRIALS})"
#: A trial is never given up before this share of its seeds, rounded up and at least two.
PRUNE_AFTER_SEEDS = 0.5
#: The storage of a study that names no data base.
JOURNAL = "journal.log"


class Budget(NamedTuple):
    """How many settings, on how many seeds each, and how many seeds to choose and to report on."""

    trials: int
    seeds: int
    fresh_seeds: int


BUDGET = Budget(trials=20, seeds=3, fresh_seeds=5)
#: Proves the plumbing in minutes.
SMOKE_BUDGET = Budget(trials=4, seeds=2, fresh_seeds=2)


class Plan(BaseModel):
    """The content of ``study.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    name: str
    #: Ranges by setting, as ``space.parse`` reads them.
    space: dict[str, str]
    #: Settings in all, those that are tried first (the defaults, alpha = 0) included.
    trials: int
    objectives: tuple[str, ...]
    max_cost: float | None
    prune: bool
    #: By block; no seed is in two blocks, or one that a suite would use.
    seeds: dict[Block, tuple[int, ...]]
    sampler: str = SAMPLER
    #: ``journal.log``, or the data base without its password.
    storage: str
    #: The cell that is tuned: the suite's own settings, on the first seed.
    cell: RunSpec
    provenance: dict[str, Any] = Field(default_factory=dict)

    @property
    def parameters(self) -> list[Parameter]:
        """The search space."""
        return [space.parse(name, text, "study.json") for name, text in self.space.items()]

    @property
    def objective(self) -> Objective:
        """What is tuned for."""
        return Objective(self.objectives, self.max_cost)

    @property
    def defaults(self) -> Settings:
        """The suite's own values of what is tuned."""
        return {name: self.cell.agent[name] for name in self.space}

    @property
    def first_settings(self) -> list[Settings]:
        """What is tried before anything is drawn: the defaults, and alpha = 0."""
        without = {**self.defaults, "alpha": 0.0}
        return [self.defaults, without] if self.defaults.get("alpha") else [self.defaults]

    def spread(self, count: int) -> list[Settings]:
        """Return ``count`` settings that lie evenly in the ranges, in all of them from low to high."""
        shares = [(number + 0.5) / count for number in range(count)]
        return [{parameter.name: parameter.quantile(share) for parameter in self.parameters} for share in shares]

    @property
    def alpha_zero(self) -> str:
        """What settings with alpha = 0 are called: of the paper's method, and of no other, it makes VMAIL."""
        return "VMAIL" if self.cell.method == "conservative" else "alpha = 0"

    def spec(self, settings: Mapping[str, Any], variant: str, seed: int) -> RunSpec:
        """Return the run of ``settings`` on ``seed``.

        Raises:
            SettingError: the agent refuses them together.
        """
        agent = AgentConfig.from_settings({**self.cell.agent, **settings}).as_dict()
        spec = self.cell.model_copy(update={"agent": agent, "variant": variant, "seed": seed})
        return spec.model_copy(update={"run_id": identity(spec)})


def draw_up(
    suite: Suite,
    scale: str,
    algorithm: str,
    texts: Sequence[str],
    *,
    trials: int | None,
    seeds: int | None,
    fresh_seeds: int | None,
    objective: Objective,
    prune: bool,
    name: str | None,
    storage: str,
) -> Plan:
    """Return the plan that a command asks for.

    ``texts`` are the parameters as typed; trials and seeds that were not given are those of ``BUDGET``, at scale
    smoke of ``SMOKE_BUDGET``.

    Raises:
        UserError: an unknown algorithm, a parameter or a name that cannot be, or too few seeds to prune.
    """
    budget = SMOKE_BUDGET if scale == "smoke" else BUDGET
    trials, seeds = trials or budget.trials, seeds or budget.seeds
    fresh_seeds = fresh_seeds or budget.fresh_seeds
    if algorithm not in suite.algorithms:
        raise UserError(f"--algorithm {algorithm}: not in suite {suite.name}; {nearest(algorithm, suite.algorithms)}")
    if prune and seeds_before_pruning(seeds) >= seeds:
        raise UserError(f"--prune: with {seeds} seeds a trial there is nothing to save; allowed: --seeds 3 and more")
    if prune and len(objective.names) > 1:
        raise UserError("--prune: of two objectives no trial is worse for sure; leave it out")
    method = METHODS[suite.method_of(algorithm)]
    fixed = {key: method.settings[key] for key in method.defining}
    parameters = space.parse_all(texts, suite.tuning, suite.agent(scale, algorithm, "default"), fixed, method.name)
    parts = [suite.name, scale, *([] if algorithm == "conservative" else [algorithm]), *(p.name for p in parameters)]
    chosen = name or "-".join(parts)
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", chosen) is None:
        raise UserError(f"--study {chosen}: it becomes a folder; allowed: letters, digits, '_', '-' and '.'")
    blocks = seed_blocks(chosen, {"tune": seeds, "select": fresh_seeds, "report": fresh_seeds})
    cells = expand(suite, scale, [algorithm], blocks["tune"][:1])
    return Plan(
        name=chosen,
        space={parameter.name: parameter.range for parameter in parameters},
        trials=trials,
        objectives=objective.names,
        max_cost=objective.max_cost,
        prune=prune,
        seeds=blocks,
        storage=storage,
        cell=next(cell for cell in cells if cell.variant == "default"),
        provenance={**provenance.collect(), "optuna": version("optuna")},
    )


def seed_blocks(name: str, counts: Mapping[Block, int]) -> dict[Block, tuple[int, ...]]:
    """Return the seeds of each block of the study ``name``: a branch of their own, so they meet no others.

    Small numbers are left to suites.
    """
    taken: set[int] = set()
    blocks: dict[Block, tuple[int, ...]] = {}
    for block, count in counts.items():
        seeds: list[int] = []
        index = 0
        while len(seeds) < count:
            seed = branch_seed(0, "tuning", name, block, str(index))
            index += 1
            if seed >= MAX_SEEDS and seed not in taken:
                taken.add(seed)
                seeds.append(seed)
        blocks[block] = tuple(seeds)
    return blocks


def seeds_before_pruning(count: int) -> int:
    """Return how many of ``count`` seeds a trial has before it may be given up."""
    return max(2, math.ceil(PRUNE_AFTER_SEEDS * count))


def agree(path: Path, asked: Plan) -> Plan:
    """Write ``asked`` to ``path`` if nothing is there yet, and return what is there.

    Raises:
        UserError: another plan is there, or something that is none; the file system refused.
    """
    durable.write_json(path, asked.model_dump(mode="json", by_alias=True), exclusive=True)
    known = _read(path)
    differences = differing(decisions(known), decisions(asked))
    if differences:
        raise UserError(
            f"{path}: the study {known.name!r} was begun with other decisions, which never change ({differences}); "
            f"go on with it as it was begun: {known.provenance.get('command')}; or begin another one: --study NAME"
        )
    return known


def _read(path: Path) -> Plan:
    content = durable.read_json(path)
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where}: {first['msg']}; it was changed, or written by another version") from error


def decisions(plan: Plan) -> dict[str, Any]:
    """Return all that must be the same, flat, in words of the command line where there are some."""
    cell = plan.cell
    science: dict[str, Any] = {
        "environment": cell.environment,
        "agent": decided(cell.agent),
        "evaluation": cell.evaluation,
    }
    return {
        "parameters": ", ".join(f"{name}:{text}" for name, text in plan.space.items()),
        "--trials": plan.trials,
        **{f"seeds of block {block}": len(seeds) for block, seeds in plan.seeds.items()},
        "--objective": ",".join(plan.objectives),
        "--max-cost": plan.max_cost,
        "--prune": plan.prune,
        "--storage": plan.storage,
        "--suite": cell.suite,
        "--scale": cell.scale,
        "--algorithm": cell.algorithm,
        "method": cell.method,
        "environment steps": cell.env_steps,
        "demonstrations": cell.demonstrations["checksum"],
        **{f"{section}.{key}": value for section, keys in science.items() for key, value in keys.items()},
    }


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say in which decisions two plans differ, the first four of them; nothing where they agree."""

    def plain(value: Any) -> Any:
        return json.loads(json.dumps(value))

    keys = [key for key in {**before, **now} if plain(before.get(key)) != plain(now.get(key))]
    return "; ".join(f"{key}: {before.get(key)} there, {now.get(key)} asked for" for key in keys[:4])
