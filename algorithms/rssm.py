"""The recurrent state-space model with an ensemble of latent dynamics (eq. 2).

The GRU and the posterior are shared; only the prior heads are an ensemble. One member, drawn anew at each
time step, predicts that step, both when the model is fitted and when it imagines.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from algorithms.networks import EnsembleHeads, LayerNormGRUCell
from algorithms.precision import float32


@dataclass(frozen=True)
class Latent:
    """A latent state s = [z, h]: ``stoch`` (..., stoch) and ``deter`` (..., deter)."""

    stoch: Tensor
    deter: Tensor

    @property
    def features(self) -> Tensor:
        """The state as one vector (..., stoch + deter)."""
        return torch.cat([self.stoch, self.deter], -1)

    def detach(self) -> Latent:
        """Return the state cut from the graph that made it."""
        return Latent(self.stoch.detach(), self.deter.detach())

    def select(self, index: Tensor) -> Latent:
        """Return the states at flat positions ``index`` (N,) of the leading dimensions."""
        return Latent(self.stoch.flatten(0, -2)[index], self.deter.flatten(0, -2)[index])


@dataclass(frozen=True)
class Posterior:
    """A filtered sequence: states (T, B, ...) and the moments of q(z_t | h_t, x_t), each (T, B, stoch)."""

    state: Latent
    mean: Tensor
    std: Tensor


class RSSM(nn.Module):
    """Deterministic path, posterior head and K prior heads."""

    def __init__(
        self, embedding: int, actions: int, stoch: int, deter: int, hidden: int, members: int, min_std: float
    ) -> None:
        super().__init__()
        self.stoch, self.deter, self.members, self.min_std = stoch, deter, members, min_std
        self.input_layer = nn.Linear(stoch + actions, hidden)
        self.cell = LayerNormGRUCell(hidden, deter)
        self.posterior_deter = nn.Linear(deter, hidden)
        self.posterior_embedding = nn.Linear(embedding, hidden, bias=False)
        self.posterior_output = nn.Linear(hidden, 2 * stoch)
        self.prior_heads = EnsembleHeads(members, deter, hidden, 2 * stoch)

    def initial(self, batch: int) -> Latent:
        """Return the zero state of ``batch`` rows."""
        device = self.input_layer.weight.device
        return Latent(torch.zeros(batch, self.stoch, device=device), torch.zeros(batch, self.deter, device=device))

    def advance(self, state: Latent, action: Tensor) -> Tensor:
        """Return h_t from s_{t-1} and a_{t-1}."""
        return self.cell(F.elu(self.input_layer(torch.cat([state.stoch, action], -1))), state.deter)

    def infer(self, deter: Tensor, projected_embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of q(z_t | h_t, x_t)."""
        hidden = F.elu(self.posterior_deter(deter) + projected_embedding)
        return self._moments(self.posterior_output(hidden))

    def observe(self, embeddings: Tensor, actions: Tensor, generator: torch.Generator) -> Posterior:
        """Filter a sequence from the zero state: (T, B, E) and (T, B, A); ``actions[t]`` led to ``embeddings[t]``."""
        projected = self.posterior_embedding(embeddings).float()
        noise = torch.randn(*actions.shape[:2], self.stoch, generator=generator, device=actions.device)
        state = self.initial(actions.shape[1])
        steps: list[tuple[Tensor, ...]] = []
        with float32():
            for action, embedding, draw in zip(actions, projected, noise, strict=True):
                deter = self.advance(state, action)
                mean, std = self.infer(deter, embedding)
                state = Latent(mean + std * draw, deter)
                steps.append((state.stoch, deter, mean, std))
        stoch, deter, mean, std = (torch.stack(values) for values in zip(*steps, strict=True))
        return Posterior(Latent(stoch, deter), mean, std)

    def draw_members(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Return uniform member indices of ``shape``."""
        return torch.randint(self.members, shape, generator=generator, device=self.input_layer.weight.device)

    def prior(self, deter: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
        """Return the moments of M_k(z_t | h_t), deter (T, B, H), by one member a step (T,) or a row (T, B)."""
        if member.dim() == 1:
            return self._moments(self.prior_heads.select(deter, member))
        every = self.prior_heads(deter.flatten(0, 1)).unflatten(1, deter.shape[:2])
        index = member[None, :, :, None].expand(1, *every.shape[1:])
        return self._moments(every.gather(0, index)[0])

    def prior_means(self, deter: Tensor) -> Tensor:
        """Return every member's mean, the mu_k of eq. 4: (..., H) -> (..., K, stoch)."""
        every = self.prior_heads(deter.flatten(0, -2))[..., : self.stoch]
        return every.transpose(0, 1).unflatten(0, deter.shape[:-1])

    def imagine(self, state: Latent, action: Tensor, member: Tensor, noise: Tensor) -> tuple[Latent, Tensor]:
        """Return s_{t+1} ~ M_k(. | s_t, a_t) and every member's mean of it (N, K, stoch).

        ``member`` is one index () for all rows or one a row (N,).
        """
        deter = self.advance(state, action)
        every = self.prior_heads(deter)
        # Indexing by a tensor of one number would read it on the host, and wait for a GPU to come to it.
        rows = torch.arange(len(deter), device=deter.device)
        chosen = every.index_select(0, member[None])[0] if member.dim() == 0 else every[member, rows]
        mean, std = self._moments(chosen)
        return Latent(mean + std * noise, deter), every[..., : self.stoch].transpose(0, 1)

    def _moments(self, output: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = output.chunk(2, -1)
        return mean, 2 * (raw / 2).sigmoid() + self.min_std
