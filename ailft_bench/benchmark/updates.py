"""Updates: of which sizes, on what, with how many operations, and where their time goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from algorithms import agent as agents
from algorithms.agent import Agent
from algorithms.config import PRESETS, AgentConfig
from algorithms.frames import fold
from algorithms.replay import Batch

IMAGE_SIZE, ACTIONS = 64, 9

#: The presets, and ``full``: a Dreamer of the usual size on a small batch, with nothing left out.
SETTINGS: dict[str, dict[str, Any]] = {
    **PRESETS,
    "full": {
        "depth": 32,
        "deter": 200,
        "stoch": 30,
        "hidden": 200,
        "units": 400,
        "ensemble_size": 5,
        "n_critics": 2,
        "batch_size": 16,
        "sequence_length": 25,
        "imagination_starts": None,
        "disc_pairs": None,
    },
}


def batches(config: AgentConfig, folded: bool = True) -> tuple[Batch, Batch | None]:
    """Return a batch of noise, and an expert batch where the configuration needs one beside it."""
    rng = np.random.default_rng(0)

    def draw(expert_rows: int) -> Batch:
        shape = (config.sequence_length, config.batch_size)
        images = rng.integers(0, 256, (*shape, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
        actions = rng.uniform(-1, 1, (*shape, ACTIONS)).astype(np.float32)
        begins = torch.zeros(config.batch_size, dtype=torch.bool)
        frames = torch.from_numpy(fold(images) if folded else images)
        return Batch(frames, torch.from_numpy(actions), expert_rows, begins)

    return draw(config.expert_rows), None if config.expert_rows else draw(config.batch_size)


def count_gflop(operation: Callable[[], object]) -> float:
    """Return the billions of operations of products and convolutions; a multiplication and an addition are two."""
    with _Operations() as counted:
        operation()
    return counted.total / 1e9


class _Operations(TorchDispatchMode):
    # Not torch's FlopCounterMode: it hooks modules, which a gradient of a gradient breaks.
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def phases(agent: Agent, batch: Batch, expert: Batch | None, updates: int = 3) -> dict[str, float]:
    """Return the seconds of an update by phase, longest first; they sum up to the update."""
    watch = _Stopwatch()
    rssm, model = agent.model.rssm, agent.model
    places: list[tuple[Any, str, str]] = [
        (agent, "_update", "rest"),
        (model, "loss", "model: losses"),
        (model.encoder, "forward", "model: encode"),
        (rssm, "observe", "model: observe"),
        (model.decoder, "forward", "model: decode"),
        (agents, "imagine", "imagination"),
        (agent, "_update_discriminator", "discriminator"),
        (agent, "_rewards", "reward"),
        (agent, "_update_actor", "actor"),
        (agent, "_update_critics", "critics"),
        (agents.nn.utils, "clip_grad_norm_", "optimisers"),
        *((optimizer, "step", "optimisers") for optimizer in agent._optimizers.values()),
    ]
    step = agent._step

    def named_step(name: str, *arguments: Any) -> None:
        watch.backward = f"{name.removesuffix('s')}: backward"
        step(name, *arguments)

    agent.update(batch, expert)
    with watch.around(places), watch.around_backward(), _set(agent, "_step", named_step):
        for _ in range(updates):
            agent._update(*agent._to_device(batch, expert), True)
    mean = {phase: seconds / updates for phase, seconds in watch.seconds.items()}
    return dict(sorted(mean.items(), key=lambda item: -item[1]))


class _Stopwatch:
    """Processor time by phase; a phase within another one stops the outer one's watch."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.backward = ""
        self._phases: list[str] = []
        self._since = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._charge()
        self._phases.append(name)
        try:
            yield
        finally:
            self._charge()
            self._phases.pop()

    @contextmanager
    def around(self, places: list[tuple[Any, str, str]]) -> Iterator[None]:
        """Let each method (owner, name) run in its phase."""
        if not places:
            yield
            return
        (owner, name, phase), *others = places
        function = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            with self.phase(phase):
                return function(*arguments, **options)

        with _set(owner, name, watched), self.around(others):
            yield

    @contextmanager
    def around_backward(self) -> Iterator[None]:
        backward = torch.Tensor.backward

        def watched(tensor: torch.Tensor, *arguments: Any, **options: Any) -> None:
            with self.phase(self.backward):
                backward(tensor, *arguments, **options)

        with _set(torch.Tensor, "backward", watched):
            yield

    def _charge(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter() if torch.cuda.is_available() else time.process_time()
        if self._phases:
            self.seconds[self._phases[-1]] += now - self._since
        self._since = now


@contextmanager
def _set(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give ``owner`` another attribute for the block."""
    own, before = name in vars(owner), getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
