"""The fast layers against the plain ones that they stand for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from algorithms.frames import fold, scale
from algorithms.networks import Decoder, Encoder, EnsembleHeads, LayerNormGRUCell, mlp


def unfold(frames: np.ndarray) -> np.ndarray:
    """Return the images of folded ``frames``: the inverse of ``fold``."""
    *batch, height, width, channels = frames.shape
    blocks = frames.reshape(*batch, height, width, 2, 2, channels // 4)
    return np.ascontiguousarray(np.moveaxis(blocks, -3, -4)).reshape(*batch, 2 * height, 2 * width, channels // 4)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_folding_is_undone_by_unfolding(rows: int, columns: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (2, 2 * rows, 2 * columns, 3), dtype=np.uint8)
    frames = fold(images)
    assert frames.shape == (2, rows, columns, 12)
    assert (unfold(frames) == images).all()
    assert (frames[0, 0, 0] == images[0, :2, :2].reshape(-1)).all()


def random_images(size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)


def plain(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).movedim(-1, -3).double() / 255 - 0.5


def test_first_convolution_on_folded_frames_is_the_plain_one_of_kernel_4_and_stride_2() -> None:
    images = random_images()
    layer = Encoder(64, depth=4).layers[0].double()
    stride_2 = nn.Conv2d(3, 4, 4, 2).double()
    with torch.no_grad():
        # (out, row, column, colour, y, x) -> (out, colour, 2 y + row, 2 x + column)
        blocks = layer.weight.unflatten(1, (2, 2, 3)).permute(0, 3, 4, 1, 5, 2)
        stride_2.weight.copy_(blocks.reshape(4, 3, 4, 4))
        stride_2.bias.copy_(layer.bias)
    torch.testing.assert_close(
        layer(scale(torch.from_numpy(fold(images))).double()), stride_2(plain(images)), atol=1e-6, rtol=1e-6
    )


def test_last_convolution_on_folded_frames_is_the_plain_transposed_one_of_kernel_6_and_stride_2() -> None:
    layer = Decoder(10, 64, depth=4).layers[-1].double()
    transposed = nn.ConvTranspose2d(4, 3, 6, 2, bias=False).double()
    with torch.no_grad():
        layer.bias.zero_()
        # A transposed convolution is the convolution with the flipped kernel; each 2x2 phase is one of 4 kernels.
        phases = layer.weight.unflatten(0, (2, 2, 3)).flip(-1, -2)  # (row, column, colour, in, y, x)
        transposed.weight.copy_(phases.permute(3, 2, 4, 0, 5, 1).reshape(4, 3, 6, 6))
    inputs = torch.randn(2, 4, 30, 30, dtype=torch.float64)
    frames = layer(inputs).movedim(-3, -1).detach().numpy()
    torch.testing.assert_close(torch.from_numpy(unfold(frames)).movedim(-1, -3), transposed(inputs).detach())


@pytest.mark.parametrize("size", [64, 84, 128])
def test_encoder_and_decoder_fit_every_image_size(size: int) -> None:
    frames = scale(torch.from_numpy(fold(random_images(size))))
    encoder, decoder = Encoder(size, depth=4), Decoder(7, size, depth=4)
    assert encoder(frames[None]).shape == (1, 3, encoder.outputs)
    assert decoder(torch.zeros(1, 3, 7)).shape == (1, *frames.shape)


def test_unknown_image_size_is_refused() -> None:
    with pytest.raises(ValueError, match="image size 96"):
        Encoder(96, 4)


def test_ensemble_equals_separate_networks() -> None:
    heads = EnsembleHeads(3, 5, 8, 4)
    inputs = torch.randn(2, 6, 5)
    separate = []
    for member in range(3):
        network = mlp(5, 8, 1, 4)
        with torch.no_grad():
            for layer, weight, bias in ((0, heads.weight1, heads.bias1), (2, heads.weight2, heads.bias2)):
                network[layer].weight.copy_(weight[member].T)
                network[layer].bias.copy_(bias[member, 0])
        separate.append(network(inputs))
    every = heads(inputs.flatten(0, 1)).unflatten(1, (2, 6))
    torch.testing.assert_close(every, torch.stack(separate))
    torch.testing.assert_close(
        heads.select(inputs, torch.tensor([2, 0])), torch.stack([separate[2][0], separate[0][1]])
    )


def test_gru_keeps_its_state_where_the_update_gate_is_shut() -> None:
    cell = LayerNormGRUCell(3, 4)
    with torch.no_grad():
        cell.norm.weight.zero_()
        cell.norm.bias.copy_(torch.tensor([0.0] * 8 + [-50.0] * 4))
    state = torch.randn(2, 4)
    torch.testing.assert_close(cell(torch.randn(2, 3), state), state)
