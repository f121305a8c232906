"""Plain behaviour cloning: a convolutional network from the last frames to the next actions, no world model.

The baseline that most would try first, in the forms that are known to do well from few demonstrations: a stack of
frames (``frame_stack``), several actions at once that are then played without looking (``action_chunk``), or both.
"""

from __future__ import annotations

from collections import deque
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from algorithms.actor import Actor
from algorithms.config import AgentConfig
from algorithms.frames import FrameScaling, fold
from algorithms.learner import Learner, Metrics, to_floats
from algorithms.networks import Encoder
from algorithms.precision import Precision, products_in
from algorithms.replay import Batch


class ImageActor(FrameScaling):
    """Frames in, a distribution over the next actions out."""

    def __init__(self, config: AgentConfig, image_size: int, action_size: int) -> None:
        super().__init__(image_size, config.center_frames, config.random_shift)
        self.encoder = Encoder(image_size, config.depth, config.frame_stack)
        self.actor = Actor(config, self.encoder.outputs, action_size * config.action_chunk)

    def embed(self, scaled: Tensor) -> Tensor:
        """Embed scaled stacks (K, B, 12, S/2, S/2), oldest frame first, as features (B, F)."""
        return self.encoder(scaled.transpose(0, 1).flatten(1, 2))


class Cloner(Learner):
    """Learns by -log pi(a_E | frames) alone; arguments as ``Agent``'s."""

    def __init__(
        self,
        config: AgentConfig,
        image_size: int,
        action_size: int,
        seed: int,
        device: str = "cpu",
        precision: Precision = "float32",
    ) -> None:
        super().__init__(config, action_size, seed, device, precision)
        with self._first_weights(seed):
            self.network = ImageActor(config, image_size, action_size)
        self._take({"actor": (self.network, config.actor_lr)}, averaged=("actor",))

    @property
    def acting_network(self) -> ImageActor:
        """The network that acts for a policy."""
        return cast(ImageActor, self._acting("actor"))

    def center(self, frame: Tensor) -> None:
        """Take a mean frame as the background; see ``FrameScaling.center``."""
        self.network.center(frame)
        self.acting_network.center(frame)

    def policy(self, sample: bool, generator: torch.Generator) -> FramePolicy:
        """Return a policy that acts in one environment; see ``FramePolicy``."""
        return FramePolicy(self, sample, generator)

    def judge(self, frames: Tensor, actions: Tensor, generator: torch.Generator) -> dict[str, float]:
        """Return nothing: there is no model that fresh episodes could judge."""
        return {}

    def foresee(self, belief: dict[str, Any], actions: np.ndarray) -> None:
        """Return nothing: there is no model that expects anything."""

    def directions(self, demonstrations: Batch, generator: torch.Generator) -> dict[str, float]:
        """Return nothing: cloning is its one term."""
        return {}

    def clone(self, batch: Batch, expert: Batch | None, bc_scale: float, lr_scale: float = 1.0) -> dict[str, float]:
        """Take a step on ``bc_scale`` x the cloning loss; rows are expert ones, ``AgentConfig.row_frames`` long."""
        if batch.expert_rows < batch.frames.shape[1]:
            raise ValueError("plain cloning learns from expert rows only")
        with products_in(self.precision, self.device):
            metrics = self._clone(batch.to(self.device), bc_scale, lr_scale)
        self._count_update()
        return to_floats(metrics)

    def update(self, batch: Batch, expert: Batch | None, train_actor: bool = True) -> dict[str, float]:
        """Never called: no adversarial update is configured (``AgentConfig``)."""
        raise NotImplementedError("plain cloning has no adversarial update")

    def compile(self, backend: str = "inductor") -> None:
        """Compile the network (``torch.compile``)."""
        self.network.encoder.compile(backend=backend)
        self.network.actor.layers.compile(backend=backend)

    def _clone(self, batch: Batch, bc_scale: float, lr_scale: float) -> Metrics:
        stacks, actions = self._pairs(batch)
        policy = self.network.actor(self.network.embed(stacks))
        loss = -policy.log_prob(actions).mean() / self.config.action_chunk
        metrics = {"actor/demo_nll": loss, "actor/demo_mse": (policy.mode() - actions).square().mean()}
        self._step("actor", bc_scale * loss, metrics, lr_scale)
        return metrics

    def _pairs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return one stack (K, B, 12, S/2, S/2) a row and the actions (B, C x A) that follow it.

        Rows that begin an episode may stand for any of its first moments, when there are fewer frames than a stack
        holds: the first frame then fills it up, as in ``FramePolicy``. An episode's last ``action_chunk`` frames
        are never the newest of a stack: too few actions follow.
        """
        depth, chunk = self.config.frame_stack, self.config.action_chunk
        rows = torch.arange(batch.actions.shape[1], device=self.device)
        early = torch.randint(depth, rows.shape, generator=self.generator, device=self.device)
        now = torch.where(batch.begins, early, depth - 1)
        back = torch.arange(depth - 1, -1, -1, device=self.device)[:, None]
        scaled = self.network.shifted(self.network.scaled(batch.frames), self.generator)
        ahead = torch.arange(1, chunk + 1, device=self.device)[:, None]
        actions = batch.actions[now + ahead, rows]
        return scaled[(now - back).clamp(min=0), rows], actions.transpose(0, 1).flatten(1)


class FramePolicy:
    """A cloner acting in one environment: the last frames, and the actions that are still to be played.

    ``sample`` draws actions, otherwise the mean is taken.
    """

    noise = 0.0

    def __init__(self, cloner: Cloner, sample: bool, generator: torch.Generator) -> None:
        self._cloner, self._sample, self._generator = cloner, sample, generator
        self.reset()

    def reset(self) -> None:
        """Forget the episode."""
        self._frames: deque[np.ndarray] = deque(maxlen=self._cloner.config.frame_stack)
        self._planned: list[np.ndarray] = []

    def act(self, image: np.ndarray) -> np.ndarray:
        """Return the action (A,) for the next uint8 image (S, S, 3) of the episode."""
        frame = fold(image)
        self._frames.extend([frame] * (1 if self._frames else self._cloner.config.frame_stack))
        if not self._planned:
            self._planned = self._plan()
        return self._planned.pop(0)

    def _plan(self) -> list[np.ndarray]:
        network = self._cloner.acting_network
        with torch.no_grad():
            frames = torch.from_numpy(np.stack(self._frames))[:, None].to(self._cloner.device)
            features = network.embed(network.scaled(frames))
        actions = network.actor.act(features, self._sample, self.noise, self._generator)
        return list(actions.reshape(-1, self._cloner.action_size).cpu().numpy())

    def state_dict(self) -> dict[str, Any]:
        """Return the state in mid-episode, random generator included."""
        return {"frames": list(self._frames), "planned": list(self._planned), "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue an episode where ``state_dict`` left it."""
        self._frames = deque(state["frames"], maxlen=self._cloner.config.frame_stack)
        self._planned = list(state["planned"])
        self._generator.set_state(state["generator"].cpu())
