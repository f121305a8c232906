import math

import pytest
import torch
from torch import Tensor

from algorithms.distributions import TanhNormal, TruncatedNormal

CASES = [(0.0, 0.5), (0.9, 0.1), (-0.99, 0.05), (0.3, 2.1)]


@pytest.mark.parametrize(("mean", "std"), CASES)
@pytest.mark.parametrize("kind", [TruncatedNormal, TanhNormal])
def test_density_integrates_to_one(kind: type, mean: float, std: float) -> None:
    grid = torch.linspace(-1 + 1e-6, 1 - 1e-6, 400_001, dtype=torch.float64)[:, None]
    distribution = kind(torch.tensor([mean]).double(), torch.tensor([std]).double())
    density = distribution.log_prob(grid).exp()
    tolerance = 1e-3 if kind is TruncatedNormal else 5e-2  # the squashed density is cut 1e-3 before the border
    assert torch.trapezoid(density, grid[:, 0]).item() == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize(("mean", "std"), CASES)
@pytest.mark.parametrize("kind", [TruncatedNormal, TanhNormal])
def test_samples_are_inside_and_follow_the_density(kind: type, mean: float, std: float) -> None:
    distribution = kind(torch.full((200_000, 1), mean), torch.full((200_000, 1), std))
    samples, _ = distribution.rsample(torch.Generator().manual_seed(0))
    assert (samples.abs() <= 1).all()
    for low, high in ((-0.95, -0.2), (-0.2, 0.5), (0.5, 0.95)):
        grid = torch.linspace(low, high, 20_001)[:, None]
        density = kind(torch.tensor([mean]), torch.tensor([std])).log_prob(grid).exp()
        expected = torch.trapezoid(density, grid[:, 0]).item()
        share = ((samples > low) & (samples < high)).float().mean().item()
        assert share == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("kind", [TruncatedNormal, TanhNormal])
def test_sample_gradients_are_those_of_the_expectation(kind: type) -> None:
    """d E[a] / d mean by reparameterisation against a finite difference with the same random numbers."""

    def expectation(mean: Tensor) -> Tensor:
        return (
            kind(mean.expand(50_000, 1), torch.full((50_000, 1), 0.4).double())
            .rsample(torch.Generator().manual_seed(1))[0]
            .mean()
        )

    mean = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(expectation(mean), mean)
    numeric = (expectation(mean + 1e-4) - expectation(mean - 1e-4)) / 2e-4
    assert gradient.item() == pytest.approx(numeric.item(), rel=1e-3)


@pytest.mark.parametrize("kind", [TruncatedNormal, TanhNormal])
def test_density_of_actions_at_the_border_is_finite(kind: type) -> None:
    mean = torch.tensor([0.999], requires_grad=True)
    log_prob = kind(mean, torch.tensor([0.1])).log_prob(torch.tensor([[1.0], [-1.0]]))
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert mean.grad is not None
    assert math.isfinite(mean.grad.item())


@pytest.mark.parametrize(("std", "entropy"), [(5.0, -3.68), (2.0, -0.002)])
def test_density_of_a_saturated_own_sample_is_exact(std: float, entropy: float) -> None:
    """Entropies by Monte Carlo in double precision from the pre-squash values."""
    squashed = TanhNormal(torch.zeros(400_000, 1), torch.full((400_000, 1), std))
    _, log_prob = squashed.rsample(torch.Generator().manual_seed(0))
    assert -log_prob.mean().item() == pytest.approx(entropy, abs=0.03)


@pytest.mark.parametrize("kind", [TruncatedNormal, TanhNormal])
def test_density_of_an_own_sample_is_that_of_the_action(kind: type) -> None:
    distribution = kind(torch.full((100, 3), 0.2), torch.full((100, 3), 0.3))
    action, log_prob = distribution.rsample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_prob, distribution.log_prob(action), rtol=1e-3, atol=1e-3)
