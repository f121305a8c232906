"""What learns as one: its averages, its optimisers and their moments, and that a restored one goes on bit for bit."""

import io
from typing import Any

import pytest
import torch
from test_agent import ACTIONS, batch, changed, config, frames, parameters, trained

from algorithms.agent import Agent
from algorithms.policy import LatentPolicy


def test_restored_agent_continues_bit_for_bit() -> None:
    settings = config()
    first, _ = trained(settings, 2)
    second = Agent(settings, 64, ACTIONS, seed=77)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    second.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=False))
    for update in range(5, 8):
        assert first.update(batch(settings, update), None) == second.update(batch(settings, update), None)


def test_state_of_another_kind_of_device_is_refused_but_its_networks_serve() -> None:
    agent = Agent(config(), 64, ACTIONS, seed=0)
    state = agent.state_dict() | {"generator": torch.zeros(16, dtype=torch.uint8)}
    other = Agent(config(), 64, ACTIONS, seed=1)
    with pytest.raises(ValueError, match="another kind of device"):
        other.load_state_dict(state)
    other.load_networks(state)
    assert not changed(parameters(agent), parameters(other))


def test_weight_decay_is_a_share_of_the_weight_whatever_the_rate() -> None:
    agent = Agent(config(weight_decay=0.01, actor_lr=1e-3), 64, ACTIONS, seed=0)
    before = agent.actor.layers[0].weight.clone()
    agent.actor.zero_grad()
    for parameter in agent.actor.parameters():
        parameter.grad = torch.zeros_like(parameter)
    agent._optimizers["actor"].step()
    torch.testing.assert_close(agent.actor.layers[0].weight, 0.99 * before)


def test_average_acts_and_follows_what_learns_without_changing_it() -> None:
    settings = config(average_decay=0.5)
    agent, plain = (Agent(each, 64, ACTIONS, seed=0) for each in (settings, config()))
    for each in (agent, plain):
        each.center(torch.full((32, 32, 12), 7.0))
    assert torch.equal(agent.acting_model.background, agent.model.background)
    expected = agent.actor.layers[0].weight.clone()
    for update in range(1, 13):
        for each in (agent, plain):
            each.update(batch(settings, update), None) if update % 2 else each.clone(batch(settings, update), None, 1.0)
        share = max(0.5, 1 - (1 + update) / (10 + update))
        expected = (1 - share) * expected + share * agent.actor.layers[0].weight
    torch.testing.assert_close(agent.acting_actor.layers[0].weight, expected)
    assert not changed(parameters(agent), parameters(plain))
    assert plain.acting_actor is plain.actor
    image = next(frames(1))
    first, unaveraged = (
        LatentPolicy(each, False, torch.Generator().manual_seed(0)).act(image) for each in (agent, plain)
    )
    assert (first != unaveraged).any()
    restored = Agent(settings, 64, ACTIONS, seed=1)
    restored.load_networks(agent.state_dict())
    assert (LatentPolicy(restored, False, torch.Generator().manual_seed(0)).act(image) == first).all()
    agent.settle()
    assert torch.equal(agent.actor.layers[0].weight, agent.acting_actor.layers[0].weight)
    assert (LatentPolicy(agent, False, torch.Generator().manual_seed(0)).act(image) == first).all()


def cloned(**changes: Any) -> Agent:
    """Return an agent after a few updates by cloning alone, at weight 1."""
    settings = config(**changes)
    agent = Agent(settings, 64, ACTIONS, seed=0)
    for update in range(1, 6):
        agent.clone(batch(settings, update), None, 1.0)
    return agent


@pytest.mark.parametrize("weight", [0.03, 0.1, 1.0, 10.0])
def test_actor_that_clones_on_at_another_weight_moves_as_far_once_its_moments_are_rescaled(weight: float) -> None:
    """The size of Adam's step does not depend on that of the loss, if its memory has the same size."""
    as_before, lighter = cloned(adam_eps=1e-12, grad_clip=1e9), cloned(adam_eps=1e-12, grad_clip=1e9)
    start = as_before.actor.layers[0].weight.clone()
    lighter.rescale_moments("actor", weight)
    for update in range(6, 9):
        as_before.clone(batch(as_before.config, update), None, 1.0)
        lighter.clone(batch(lighter.config, update), None, weight)
    assert not torch.equal(start, as_before.actor.layers[0].weight)
    torch.testing.assert_close(lighter.actor.layers[0].weight, as_before.actor.layers[0].weight, rtol=0, atol=1e-5)


def test_moments_scaled_by_nothing_are_those_of_a_fresh_optimiser() -> None:
    agent = cloned()
    agent.rescale_moments("actor", 0.0)
    assert not agent.state_dict()["optimizers"]["actor"]["state"]
    before = agent.actor.layers[0].weight.clone()
    agent.clone(batch(agent.config), None, 1.0)
    # Adam's first step is as long as the rate wherever there is a gradient.
    moved = (agent.actor.layers[0].weight - before).abs().max().item()
    assert moved == pytest.approx(agent.config.actor_lr, rel=0.05)
