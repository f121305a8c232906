"""The plain update: the same functions without the fast paths, to measure these against.

Stock convolutions on unfolded images with the channels first, a layer before the decoder's first transposed
convolution, a network of its own for every ensemble member, and optimisers that loop over parameters.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from algorithms.agent import Agent
from algorithms.networks import mlp


class PlainAgent(Agent):
    """An agent for unfolded uint8 frames (T, B, 64, 64, 3); arguments as ``Agent``'s."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        config, rssm = self.config, self.model.rssm
        self.model.encoder = PlainEncoder(config.depth)  # type: ignore[assignment]
        self.model.decoder = PlainDecoder(self.model.feature_size, config.depth)  # type: ignore[assignment]
        rssm.prior_heads = PlainHeads(rssm.members, rssm.deter, config.hidden, 2 * rssm.stoch)  # type: ignore[assignment]
        self.model.background = torch.zeros(3, 64, 64)
        self.model.to(self.device)
        self._start_averages()  # of the networks that are there now
        self.use_plain_optimizers()

    def use_plain_optimizers(self) -> None:
        """Give every module an optimiser that loops over the parameters that it has now."""
        for name, module in self._modules.items():
            (fast,) = self._optimizers[name].param_groups
            options = {key: fast[key] for key in ("lr", "eps", "weight_decay")}
            trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
            self._optimizers[name] = torch.optim.AdamW(trained, foreach=False, **options)


class PlainEncoder(nn.Module):
    """Four convolutions of kernel 4 and stride 2 on scaled images (..., 3, 64, 64)."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        channels = (3, depth, 2 * depth, 4 * depth, 8 * depth)
        convolutions = [nn.Conv2d(inputs, outputs, 4, 2) for inputs, outputs in pairwise(channels)]
        self.layers = nn.Sequential(*(layer for convolution in convolutions for layer in (convolution, nn.ReLU())))

    def forward(self, images: Tensor) -> Tensor:
        """Embed (..., 3, 64, 64) as (..., 32 depth), channel by channel."""
        return self.layers(images.flatten(0, -4).contiguous()).flatten(1).unflatten(0, images.shape[:-3])


class PlainDecoder(nn.Module):
    """A linear layer and four transposed convolutions of stride 2, from a pixel to an image."""

    def __init__(self, inputs: int, depth: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 32 * depth)
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(32 * depth, 4 * depth, 5, 2),
            nn.ReLU(),
            nn.ConvTranspose2d(4 * depth, 2 * depth, 5, 2),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * depth, depth, 6, 2),
            nn.ReLU(),
            nn.ConvTranspose2d(depth, 3, 6, 2),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Decode (..., F) to (..., 3, 64, 64)."""
        first = self.linear(features.flatten(0, -2))[..., None, None]
        return self.layers(first).float().unflatten(0, features.shape[:-1])


class PlainHeads(nn.Module):
    """K networks, one after the other."""

    def __init__(self, members: int, inputs: int, units: int, outputs: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(mlp(inputs, units, 1, outputs) for _ in range(members))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return all members' outputs: (N, inputs) -> (K, N, outputs)."""
        return torch.stack([member(inputs).float() for member in self.members])

    def select(self, inputs: Tensor, member: Tensor) -> Tensor:
        """Return the output of one member a leading index: (T, N, inputs), (T,) -> (T, N, outputs)."""
        return torch.stack([self.members[k](x).float() for x, k in zip(inputs, member.tolist(), strict=True)])
