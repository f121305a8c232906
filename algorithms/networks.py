"""Building blocks: MLPs, the image encoder and decoder, a layer-normalised GRU cell, an ensemble of heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Decoder kernels (stride 2) by image size: each chain of transposed convolutions ends at exactly that size.
_DECODER_KERNELS = {64: (5, 5, 6, 6), 84: (8, 4, 6, 6), 128: (5, 5, 5, 6, 6)}


def mlp(inputs: int, units: int, layers: int, outputs: int) -> nn.Sequential:
    """Return ``layers`` hidden layers of ``units`` with ELU and one linear output layer."""
    blocks: list[nn.Module] = []
    for _ in range(layers):
        blocks += [nn.Linear(inputs, units), nn.ELU()]
        inputs = units
    return nn.Sequential(*blocks, nn.Linear(inputs, outputs))


class Encoder(nn.Module):
    """Convolutions of kernel 4 and stride 2 on images scaled to [-0.5, 0.5] (Dreamer v1)."""

    def __init__(self, image_size: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, size = 3, image_size
        for level in range(len(_kernels(image_size))):
            layers += [nn.Conv2d(channels, depth * 2 ** min(level, 3), 4, 2), nn.ReLU()]
            channels, size = depth * 2 ** min(level, 3), (size - 4) // 2 + 1
        self.layers = nn.Sequential(*layers)
        self.outputs = channels * size * size

    def forward(self, images: Tensor) -> Tensor:
        """Embed scaled images (..., 3, S, S) as (..., outputs)."""
        batch = images.shape[:-3]
        return self.layers(images.flatten(0, -4)).flatten(1).unflatten(0, batch)


class Decoder(nn.Module):
    """From a latent state to the mean of a unit-variance Gaussian over the scaled image.

    The first transposed convolution acts on a single pixel, so it and the linear layer before it, with no
    activation between them, are one linear map.
    """

    def __init__(self, inputs: int, image_size: int, depth: int) -> None:
        super().__init__()
        first, *kernels = _kernels(image_size)
        channels = depth * 2 ** min(len(kernels) - 1, 3)
        self.linear = nn.Linear(inputs, channels * first * first)
        self.shape = (channels, first, first)
        layers: list[nn.Module] = []
        for level, kernel in enumerate(kernels):
            last = level == len(kernels) - 1
            outputs = 3 if last else depth * 2 ** max(len(kernels) - 2 - level, 0)
            layers += [nn.ReLU(), nn.ConvTranspose2d(channels, outputs, kernel, 2)]
            channels = outputs
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Decode (..., F) to (..., 3, S, S)."""
        batch = features.shape[:-1]
        first = self.linear(features.flatten(0, -2)).unflatten(1, self.shape)
        return self.layers(first.contiguous(memory_format=torch.channels_last)).unflatten(0, batch)


class LayerNormGRUCell(nn.Module):
    """A GRU cell with layer normalisation of its gates and an update bias of -1 (Dreamer v2)."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs + size, 3 * size, bias=False)
        self.norm = nn.LayerNorm(3 * size)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Advance ``state`` (..., size) by ``inputs`` (..., inputs)."""
        reset, candidate, update = self.norm(self.linear(torch.cat([inputs, state], -1))).chunk(3, -1)
        candidate = torch.tanh(reset.sigmoid() * candidate)
        update = (update - 1).sigmoid()
        return update * candidate + (1 - update) * state


class EnsembleHeads(nn.Module):
    """K independent two-layer heads (eq. 2's members M_k), evaluated in one batched product.

    A member's initialisation and function are those of a separate network; no parameter is shared.
    """

    def __init__(self, members: int, inputs: int, units: int, outputs: int) -> None:
        super().__init__()
        self.members = members
        self.weight1, self.bias1 = _stacked_linear(members, inputs, units)
        self.weight2, self.bias2 = _stacked_linear(members, units, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return all members' outputs: (N, inputs) -> (K, N, outputs)."""
        hidden = F.elu(torch.baddbmm(self.bias1, inputs.expand(self.members, *inputs.shape), self.weight1))
        return torch.baddbmm(self.bias2, hidden, self.weight2)

    def select(self, inputs: Tensor, member: Tensor) -> Tensor:
        """Return the output of one member a leading index: (T, N, inputs), (T,) -> (T, N, outputs)."""
        hidden = F.elu(torch.baddbmm(self.bias1[member], inputs, self.weight1[member]))
        return torch.baddbmm(self.bias2[member], hidden, self.weight2[member])


def _stacked_linear(members: int, inputs: int, outputs: int) -> tuple[nn.Parameter, nn.Parameter]:
    layers = [nn.Linear(inputs, outputs) for _ in range(members)]
    weight = torch.stack([layer.weight.detach().T for layer in layers])
    bias = torch.stack([layer.bias.detach()[None] for layer in layers])
    return nn.Parameter(weight), nn.Parameter(bias)


def _kernels(image_size: int) -> tuple[int, ...]:
    if image_size not in _DECODER_KERNELS:
        raise ValueError(f"image size {image_size} is not supported; allowed: {', '.join(map(str, _DECODER_KERNELS))}")
    return _DECODER_KERNELS[image_size]
