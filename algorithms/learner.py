"""What learns: networks with their optimisers, their averages over the updates, and one random generator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.config import AgentConfig
from algorithms.policy import Policy
from algorithms.precision import Precision, float32
from algorithms.replay import Batch

Metrics = dict[str, Tensor]


class Learner(ABC):
    """What is trained, evaluated and saved as one: how it is stepped, averaged and restored.

    ``precision`` is that of products and convolutions in updates (see ``algorithms.precision``); it may be changed
    between them.
    """

    def __init__(
        self, config: AgentConfig, action_size: int, seed: int, device: str = "cpu", precision: Precision = "float32"
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.precision = precision
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.action_size = action_size
        self.updates = 0

    @abstractmethod
    def center(self, frame: Tensor) -> None:
        """Take a mean folded frame as the background; see ``FrameScaling.center``."""

    @abstractmethod
    def clone(self, batch: Batch, expert: Batch | None, bc_scale: float, lr_scale: float = 1.0) -> dict[str, float]:
        """Do one update of what needs no adversary, and return its diagnostics."""

    @abstractmethod
    def update(self, batch: Batch, expert: Batch | None, train_actor: bool = True) -> dict[str, float]:
        """Do one full update, and return its diagnostics."""

    @abstractmethod
    def policy(self, sample: bool, generator: torch.Generator) -> Policy:
        """Return a policy that acts in one environment, by sampled or mean actions."""

    @abstractmethod
    def judge(self, frames: Tensor, actions: Tensor, generator: torch.Generator) -> dict[str, float]:
        """Return what fresh episodes, folded uint8 (T, B, S/2, S/2, 12) and (T, B, A), say of what was learned."""

    @abstractmethod
    def foresee(self, belief: dict[str, Any], actions: np.ndarray) -> np.ndarray | None:
        """Return the images that K actions in a row (K, N, A) are expected to lead to, (N, S/2, S/2, 12).

        ``belief`` is what a policy knew after the image before the first of them, its ``state_dict``. Images are
        folded, in the networks' own scale, which says something about differences only. None where nothing is
        expected, for want of a world model.
        """

    @abstractmethod
    def directions(self, demonstrations: Batch, generator: torch.Generator) -> dict[str, float]:
        """Return where the terms of an adversarial objective point on demonstrations, where there is one."""

    @abstractmethod
    def compile(self, backend: str = "inductor") -> None:
        """Compile what holds no random numbers (``torch.compile``); the first updates then take minutes.

        Raises:
            RuntimeError: at the first update, where there is no compiler.
        """

    def settle(self) -> None:
        """Let the trained networks go on from their averages, where there are any."""
        for name, average in self._averages.items():
            self._modules[name].load_state_dict(average.state_dict())

    def rescale_moments(self, name: str, factor: float) -> None:
        """Prepare a module's optimiser for gradients that will be ``factor`` times what they were; 0: begin anew.

        Adam divides a step by the size of past gradients, and forgets half of them in 700 updates: after a loss has
        become ten times smaller, a module moves at a tenth of its rate, and only slowly faster.
        """
        optimizer = self._optimizers[name]
        if factor == 0:
            optimizer.state.clear()
        for moments in optimizer.state.values():
            moments["exp_avg"].mul_(factor)
            moments["exp_avg_sq"].mul_(factor**2)

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next update depends on, random generator included."""
        return {
            "updates": self.updates,
            "generator": self.generator.get_state(),
            "modules": {name: module.state_dict() for name, module in self._modules.items()},
            "averages": {name: module.state_dict() for name, module in self._averages.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned, on the same kind of device: random streams differ between kinds.

        Raises:
            ValueError: the state is of another kind of device.
        """
        if state["generator"].numel() != self.generator.get_state().numel():
            raise ValueError(f"saved on another kind of device than {self.device.type}; go on where it began")
        self.load_networks(state)
        self.updates = state["updates"]
        self.generator.set_state(state["generator"].cpu())
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])

    def load_networks(self, state: dict[str, Any]) -> None:
        """Restore the networks alone, from any device: enough to act and to be evaluated."""
        for name, module in self._modules.items():
            module.load_state_dict(state["modules"][name])
        for name, module in self._averages.items():
            module.load_state_dict(state["averages"][name])

    @contextmanager
    def _first_weights(self, seed: int) -> Iterator[None]:
        """Draw the weights of networks that are built in the block from ``seed``."""
        with torch.random.fork_rng():
            # Not the seed of the generator: its first draws would be the very bits of the first weights.
            torch.manual_seed(int(np.random.SeedSequence([seed, 1]).generate_state(1)[0]))
            yield

    def _take(self, modules: dict[str, tuple[nn.Module, float]], averaged: Iterable[str]) -> None:
        """Learn these modules at these rates; those ``averaged`` act as averages where the configuration says so."""
        self._modules = {name: module.to(self.device) for name, (module, _) in modules.items()}
        self._rates = {name: rate for name, (_, rate) in modules.items()}
        self._averaged = tuple(averaged)
        self._start_averages()
        config = self.config
        self._optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.AdamW(
                [parameter for parameter in module.parameters() if parameter.requires_grad],
                lr=self._rates[name],
                eps=config.adam_eps,
                # A share of the weight in each step, as in the authors' code: AdamW multiplies it by the rate.
                weight_decay=config.weight_decay / self._rates[name] if self._rates[name] else 0.0,
                fused=True,
            )
            for name, module in self._modules.items()
        }

    def _step(self, name: str, loss: Tensor, metrics: Metrics, lr_scale: float = 1.0) -> None:
        """Move one module down the gradient of ``loss``, and note the gradient's norm in ``metrics``."""
        optimizer, module = self._optimizers[name], self._modules[name]
        for group in optimizer.param_groups:
            group["lr"] = lr_scale * self._rates[name]
        optimizer.zero_grad(set_to_none=True)
        with float32():  # backward computes in the types of forward by itself
            loss.backward()
            norm = nn.utils.clip_grad_norm_(module.parameters(), self.config.grad_clip)
            optimizer.step()
        metrics[f"{name.removesuffix('s')}/grad_norm"] = norm

    def _start_averages(self) -> None:
        self._averages: dict[str, nn.Module] = {}
        if self.config.average_decay:
            self._averages = {name: deepcopy(self._modules[name]).requires_grad_(False) for name in self._averaged}

    def _acting(self, name: str) -> nn.Module:
        """Return what of a module acts: its average, where there is one."""
        return self._averages.get(name, self._modules[name])

    @torch.no_grad()
    def _count_update(self) -> None:
        """Count an update and move the averages towards the networks, at first faster: first weights are forgotten."""
        self.updates += 1
        decay = min(self.config.average_decay, (1 + self.updates) / (10 + self.updates))
        for name, average in self._averages.items():
            module = self._modules[name]
            for slow, fast in zip(average.parameters(), module.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
            for kept, current in zip(average.buffers(), module.buffers(), strict=True):
                kept.copy_(current)


def to_floats(metrics: Metrics) -> dict[str, float]:
    """Bring all diagnostics to the host in one transfer."""
    values = torch.stack([value.detach().float() for value in metrics.values()]).tolist()
    return dict(zip(metrics, values, strict=True))
