"""Every equation against loops written from the paper's formulas, on random inputs in double precision."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms import objectives

EXACT = {"rtol": 1e-10, "atol": 1e-10}
horizons = st.integers(1, 7)
batches = st.integers(1, 4)
seeds = st.integers(0, 2**32 - 1)
fractions = st.sampled_from([0.0, 0.3, 0.5, 0.95, 1.0])


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@given(seeds, st.integers(1, 5), batches)
def test_kl_of_gaussians_is_the_sum_over_dimensions_of_the_scalar_formula(seed: int, size: int, batch: int) -> None:
    mean_q, mean_p = normal(seed, batch, size), normal(seed + 1, batch, size)
    std_q, std_p = normal(seed + 2, batch, size).exp(), normal(seed + 3, batch, size).exp()
    expected = [
        sum(
            math.log(p_s / q_s) + (q_s**2 + (q_m - p_m) ** 2) / (2 * p_s**2) - 0.5
            for q_m, q_s, p_m, p_s in zip(*(x[row].tolist() for x in (mean_q, std_q, mean_p, std_p)), strict=True)
        )
        for row in range(batch)
    ]
    actual = objectives.gaussian_kl(mean_q, std_q, mean_p, std_p)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-9)
    assert (actual >= 0).all()


@given(seeds, st.integers(1, 6), horizons, batches)
def test_discriminator_loss_is_minus_the_mean_log_likelihood_of_both_classes(
    seed: int, experts: int, horizon: int, batch: int
) -> None:
    expert, policy = normal(seed, experts), normal(seed + 1, horizon, batch)
    positives = -sum(math.log(1 / (1 + math.exp(-x))) for x in expert.tolist()) / experts
    negatives = 0.0
    for step in range(horizon):
        for row in range(batch):
            negatives -= math.log(1 - 1 / (1 + math.exp(-policy[step, row].item()))) / (horizon * batch)
    assert objectives.discriminator_loss(expert, policy).item() == pytest.approx(positives + negatives, rel=1e-10)


@pytest.mark.parametrize("reduction", ["mean", "sum", "l2"])
@given(seed=seeds, members=st.integers(1, 5), size=st.integers(1, 4))
def test_disagreement_is_the_population_deviation_reduced_over_dimensions(
    reduction: str, seed: int, members: int, size: int
) -> None:
    means = normal(seed, 3, members, size)
    for row in range(3):
        stds = []
        for dimension in range(size):
            column = [means[row, member, dimension].item() for member in range(members)]
            centre = sum(column) / members
            stds.append(math.sqrt(sum((value - centre) ** 2 for value in column) / members))
        expected = {"mean": sum(stds) / size, "sum": sum(stds), "l2": math.sqrt(sum(std**2 for std in stds))}
        actual = objectives.disagreement(means, reduction)[row].item()  # type: ignore[arg-type]
        assert actual == pytest.approx(expected[reduction], rel=1e-10, abs=1e-10)


@given(seeds, st.sampled_from([0.0, 0.5, 10.0]))
def test_reward_is_the_log_odds_minus_the_penalty(seed: int, alpha: float) -> None:
    logits, spread = normal(seed, 4, 3), normal(seed + 1, 4, 3).abs()
    probability = 1 / (1 + (-logits).exp())
    forms = {
        "logit": probability.log() - (1 - probability).log(),
        "prob": probability,
        "gail": -(1 - probability).log(),
    }
    for form, reward in forms.items():
        actual = objectives.imitation_reward(logits, spread, alpha, form)  # type: ignore[arg-type]
        torch.testing.assert_close(actual, reward - alpha * spread, rtol=1e-9, atol=1e-9)


def equation_5(rewards: list[float], values: list[float], discount: float, lam: float, t: int) -> float:
    """The mixture over k of k-step returns, with the reward of (s^t, a^t) counted at arrival."""
    horizon = len(rewards)

    def k_step(k: int) -> float:
        total = sum(discount ** (i - 1) * rewards[t + i - 1] for i in range(1, k + 1))
        return total + discount**k * values[t + k]

    mixture = (1 - lam) * sum(lam ** (k - 1) * k_step(k) for k in range(1, horizon - t))
    return mixture + lam ** (horizon - t - 1) * k_step(horizon - t)


@given(seeds, horizons, batches, fractions, fractions)
def test_lambda_returns_are_equation_5_at_every_step(
    seed: int, horizon: int, batch: int, discount: float, lam: float
) -> None:
    rewards, values = normal(seed, horizon, batch), normal(seed + 1, horizon + 1, batch)
    actual = objectives.lambda_returns(rewards, values, discount, lam)
    for row in range(batch):
        for t in range(horizon):
            expected = equation_5(rewards[:, row].tolist(), values[:, row].tolist(), discount, lam, t)
            assert actual[t, row].item() == pytest.approx(expected, rel=1e-10, abs=1e-10)


@given(seeds, horizons, fractions)
def test_actor_loss_is_one_proper_mixture_of_returns_from_k_equal_zero(seed: int, horizon: int, lam: float) -> None:
    rewards, values = normal(seed, horizon, 1), normal(seed + 1, horizon + 1, 1)
    returns = objectives.lambda_returns(rewards, values, 0.9, lam)
    expected = 0.0
    for t in range(horizon):
        v0 = values[t, 0].item()
        expected -= (
            lam * equation_5(rewards[:, 0].tolist(), values[:, 0].tolist(), 0.9, lam, t) + (1 - lam) * v0
        ) / horizon
    assert objectives.actor_loss(returns, values[:-1], lam).item() == pytest.approx(expected, rel=1e-10, abs=1e-10)


@given(seeds, horizons, batches)
def test_critic_losses_are_mean_squared_errors(seed: int, horizon: int, batch: int) -> None:
    q, targets = normal(seed, horizon, batch), normal(seed + 1, horizon, batch)
    expected = sum((q[t, j].item() - targets[t, j].item()) ** 2 for t in range(horizon) for j in range(batch)) / (
        horizon * batch
    )
    assert objectives.critic_model_loss(q, targets).item() == pytest.approx(expected, rel=1e-10)
    assert objectives.critic_data_loss(q, targets).item() == pytest.approx(expected, rel=1e-10)


@given(seeds, horizons, fractions, fractions)
def test_data_targets_look_one_step_ahead(seed: int, steps: int, discount: float, lam: float) -> None:
    rewards, values, returns = (normal(seed + i, steps, 2) for i in range(3))
    actual = objectives.critic_data_targets(rewards, values, returns, discount, lam)
    for j in range(steps):
        for row in range(2):
            expected = rewards[j, row] + discount * ((1 - lam) * values[j, row] + lam * returns[j, row])
            torch.testing.assert_close(actual[j, row], expected, **EXACT)


def column(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)[:, None]


def test_worked_numbers() -> None:
    rewards, values = column(1, 2, 3), column(10, 20, 30, 40)
    returns = objectives.lambda_returns(rewards, values, 0.5, 0.5)
    torch.testing.assert_close(returns, column(9.8125, 15.25, 23), **EXACT)
    assert objectives.actor_loss(returns, values[:-1], 0.5).item() == pytest.approx(-18.0104166667)
    assert objectives.critic_model_loss(column(9, 15, 24), returns).item() == pytest.approx(0.57421875)
    targets = objectives.critic_data_targets(column(1, 2), column(10, 20), column(12, 24), 0.5, 0.5)
    torch.testing.assert_close(targets, column(6.5, 13), **EXACT)
    assert objectives.critic_data_loss(column(6, 13), targets).item() == pytest.approx(0.125)
    policy = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    assert objectives.discriminator_loss(torch.tensor([0.0, 2.0]).double(), policy).item() == pytest.approx(
        1.16324202984
    )
    means = torch.tensor([[0.0, 0.0], [2.0, 4.0]], dtype=torch.float64)
    for reduction, expected in (("mean", 1.5), ("sum", 3.0), ("l2", 2.2360679775)):
        assert objectives.disagreement(means, reduction).item() == pytest.approx(expected)  # type: ignore[arg-type]
    one, spread = torch.tensor(1.0).double(), torch.tensor(1.5).double()
    for form, expected in (("logit", 0.25), ("prob", -0.01894142137), ("gail", 0.563261687518)):
        assert objectives.imitation_reward(one, spread, 0.5, form).item() == pytest.approx(expected)  # type: ignore[arg-type]
    kl = objectives.gaussian_kl(*(torch.tensor([x]).double() for x in (1.0, 2.0, 0.0, 1.0)))
    assert kl.item() == pytest.approx(1.30685281944)
    two = objectives.gaussian_kl(*(torch.tensor(x).double() for x in ([1.0, 0], [2.0, 1], [0, 0.25], [1.0, 0.5])))
    assert two.item() == pytest.approx(2.23870563888)


def test_reward_that_skips_the_first_action_would_be_noticed() -> None:
    """The literal index of eq. 5 drops the reward of (s^t, a^t); it gives other numbers on the worked example."""
    shifted = objectives.lambda_returns(column(2, 3, 4), column(10, 20, 30, 40), 0.5, 0.5)
    right = objectives.lambda_returns(column(1, 2, 3), column(10, 20, 30, 40), 0.5, 0.5)
    assert not torch.allclose(shifted, right)
    torch.testing.assert_close(right[0], column(9.8125)[0], **EXACT)


def test_returns_of_wrongly_shaped_values_are_refused() -> None:
    with pytest.raises(ValueError, match="one step more"):
        objectives.lambda_returns(torch.zeros(3, 1), torch.zeros(3, 1), 0.9, 0.9)


@pytest.mark.parametrize("reduction", ["mean", "sum", "l2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("members", [1, 3])
def test_coinciding_members_have_no_penalty_and_finite_gradients(
    reduction: str, dtype: torch.dtype, members: int
) -> None:
    means = torch.ones(2, members, 4, dtype=dtype, requires_grad=True)
    spread = objectives.disagreement(means, reduction)  # type: ignore[arg-type]
    assert torch.equal(spread, torch.zeros(2, dtype=dtype))
    for alpha in (0.0, 5.0):
        (gradient,) = torch.autograd.grad(
            objectives.imitation_reward(torch.zeros(2, dtype=dtype), spread, alpha).sum(),
            means,
            retain_graph=True,
        )
        assert torch.isfinite(gradient).all()


@settings(max_examples=10)
@given(seeds)
def test_gradients_agree_with_finite_differences(seed: int) -> None:
    def total(rewards: torch.Tensor, values: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
        reward = objectives.imitation_reward(rewards, objectives.disagreement(means), 0.7)
        return objectives.actor_loss(objectives.lambda_returns(reward, values, 0.9, 0.8), values[:-1], 0.8)

    inputs = [normal(seed, 3, 2), normal(seed + 1, 4, 2), normal(seed + 2, 3, 2, 3, 2)]
    assert torch.autograd.gradcheck(total, [value.requires_grad_() for value in inputs])


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([-200.0, 200.0], requires_grad=True)
    loss = objectives.discriminator_loss(logits, logits)
    for form in ("logit", "prob", "gail"):
        loss = loss + objectives.imitation_reward(logits, torch.zeros(2), 1.0, form).sum()  # type: ignore[arg-type]
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]
