"""Building blocks: MLPs, the image encoder and decoder, a layer-normalised GRU cell, an ensemble of heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from algorithms.frames import CHANNELS
from algorithms.precision import float32

#: Kernels (stride 2) of the decoder's transposed convolutions by image size, the last of which, of kernel 6, is
#: done on folded frames: each chain ends at exactly that size.
_DECODER_KERNELS = {64: (5, 5, 6, 6), 84: (8, 4, 6, 6), 128: (5, 5, 5, 6, 6)}


def mlp(inputs: int, units: int, layers: int, outputs: int) -> nn.Sequential:
    """Return ``layers`` hidden layers of ``units`` with ELU and one linear output layer."""
    blocks: list[nn.Module] = []
    for _ in range(layers):
        blocks += [nn.Linear(inputs, units), nn.ELU()]
        inputs = units
    return nn.Sequential(*blocks, nn.Linear(inputs, outputs))


class Encoder(nn.Module):
    """Convolutions of kernel 4 and stride 2 on the image (Dreamer v1), the first of them on ``stack`` folded frames."""

    def __init__(self, image_size: int, depth: int, stack: int = 1) -> None:
        super().__init__()
        channels, size = depth, image_size // 2 - 1
        layers: list[nn.Module] = [nn.Conv2d(stack * CHANNELS, depth, 2), nn.ReLU()]
        for level in range(1, len(_kernels(image_size))):
            outputs = depth * 2 ** min(level, 3)
            layers += [nn.Conv2d(channels, outputs, 4, 2), nn.ReLU()]
            channels, size = outputs, (size - 4) // 2 + 1
        self.layers = _channels_last(layers)
        self.outputs = channels * size * size

    def forward(self, frames: Tensor) -> Tensor:
        """Embed scaled frames, or stacks of them, (..., 12 stack, S/2, S/2) as (..., outputs)."""
        batch = frames.shape[:-3]
        return self.layers(frames.flatten(0, -4)).flatten(1).unflatten(0, batch)


class Decoder(nn.Module):
    """From a latent state to the mean of a unit-variance Gaussian over the scaled, folded image.

    The first transposed convolution acts on a single pixel, so it and the linear layer before it, with no
    activation between them, are one linear map; the last one acts on folded frames.
    """

    def __init__(self, inputs: int, image_size: int, depth: int) -> None:
        super().__init__()
        first, *kernels, _ = _kernels(image_size)
        channels = depth * 2 ** min(len(kernels), 3)
        self.linear = nn.Linear(inputs, channels * first * first)
        self.shape = (first, first, channels)
        layers: list[nn.Module] = []
        for level, kernel in reversed(list(enumerate(reversed(kernels)))):
            outputs = depth * 2 ** min(level, 3)
            layers += [nn.ReLU(), _TransposedConvolution(channels, outputs, kernel, 2)]
            channels = outputs
        self.layers = _channels_last([*layers, nn.ReLU(), nn.Conv2d(channels, CHANNELS, 3, padding=2)])

    def forward(self, features: Tensor) -> Tensor:
        """Decode (..., F) to (..., 12, S/2, S/2)."""
        batch = features.shape[:-1]
        first = self.linear(features.flatten(0, -2)).unflatten(1, self.shape).movedim(-1, 1)
        *layers, last = self.layers
        for layer in layers:
            first = layer(first)
        with float32():  # its weight gradient is slow in bfloat16: a handful of channels
            return last(first.float()).unflatten(0, batch)


class _TransposedConvolution(nn.ConvTranspose2d):
    """Adds its bias afterwards: the kernels with a bias are slower, in bfloat16 by far."""

    def forward(self, inputs: Tensor, output_size: list[int] | None = None) -> Tensor:
        assert self.bias is not None
        return F.conv_transpose2d(inputs, self.weight, None, self.stride) + self.bias[:, None, None]


def _channels_last(layers: list[nn.Module]) -> nn.Sequential:
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class LayerNormGRUCell(nn.Module):
    """A GRU cell with layer normalisation of its gates and an update bias of -1 (Dreamer v2)."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs + size, 3 * size, bias=False)
        self.norm = nn.LayerNorm(3 * size)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Advance ``state`` (..., size) by ``inputs`` (..., inputs)."""
        reset, candidate, update = self.norm(self.linear(torch.cat([inputs, state], -1)).float()).chunk(3, -1)
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
        return torch.baddbmm(self.bias2, hidden, self.weight2).float()

    def select(self, inputs: Tensor, member: Tensor) -> Tensor:
        """Return the output of one member a leading index: (T, N, inputs), (T,) -> (T, N, outputs)."""
        hidden = F.elu(torch.baddbmm(self.bias1[member], inputs, self.weight1[member]))
        return torch.baddbmm(self.bias2[member], hidden, self.weight2[member]).float()


def _stacked_linear(members: int, inputs: int, outputs: int) -> tuple[nn.Parameter, nn.Parameter]:
    layers = [nn.Linear(inputs, outputs) for _ in range(members)]
    weight = torch.stack([layer.weight.detach().T for layer in layers])
    bias = torch.stack([layer.bias.detach()[None] for layer in layers])
    return nn.Parameter(weight), nn.Parameter(bias)


def _kernels(image_size: int) -> tuple[int, ...]:
    if image_size not in _DECODER_KERNELS:
        raise ValueError(f"image size {image_size} is not supported; allowed: {', '.join(map(str, _DECODER_KERNELS))}")
    return _DECODER_KERNELS[image_size]
