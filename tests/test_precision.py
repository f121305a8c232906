"""Precision, placement and compilation: what they may change in an update, and what they may not."""

from typing import Any

import pytest
import torch
from specs import make_spec
from test_agent import ACTIONS, batch, config, parameters
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ailft_bench import machine, precision
from ailft_bench.errors import UserError
from ailft_bench.store import RunDirectory
from algorithms import agent as agents
from algorithms.agent import Agent
from algorithms.precision import Precision, float32, products_in
from algorithms.replay import Batch

CPU = torch.device("cpu")
#: Shares of pairs or actions on one side of a threshold: one that crosses it moves them by a jump.
COUNTED = {
    "discriminator/accuracy_expert",
    "discriminator/accuracy_policy",
    "discriminator/total_variation",
    "actor/saturation",
}


def updated(chosen: Precision, **changes: Any) -> tuple[Agent, dict[str, float]]:
    settings = config(free_nats=0.0, **changes)
    agent = Agent(settings, 64, ACTIONS, seed=1, precision=chosen)
    return agent, agent.update(batch(settings), None)


def test_bfloat16_update_is_the_float32_one_to_its_rounding() -> None:
    """Eight bits of mantissa: 1 part in 256 a product, averaged in every metric."""
    plain, expected = updated("float32")
    rounded, found = updated("bfloat16")
    assert found != expected
    for name, value in expected.items():
        if name not in COUNTED:
            assert found[name] == pytest.approx(value, rel=0.05, abs=0.02), name
    assert all(tensor.dtype == torch.float32 for tensor in parameters(rounded).values())
    before = Agent(plain.config, 64, ACTIONS, seed=1)
    for name in plain._modules:
        start, step, rounded_step = (
            torch.cat([tensor.detach().flatten() for tensor in agent._modules[name].parameters()])
            for agent in (before, plain, rounded)
        )
        cosine = torch.cosine_similarity(step - start, rounded_step - start, 0)
        assert cosine > 0.8, name  # of Adam's first step, which is nearly the gradient's sign


@pytest.mark.parametrize("regularizer", ["gp_input", "gp_param", "noise"])
def test_bfloat16_gradients_reach_every_parameter_that_float32_ones_reach(regularizer: str) -> None:
    plain, rounded = (updated(chosen, disc_regularizer=regularizer)[0] for chosen in ("float32", "bfloat16"))
    for name, module in plain._modules.items():
        for (path, expected), found in zip(module.named_parameters(), rounded._modules[name].parameters(), strict=True):
            assert (expected.grad is None) == (found.grad is None), path
            if expected.grad is not None and expected.grad.any():
                assert found.grad is not None
                assert found.grad.dtype == torch.float32
                assert found.grad.any(), path


def test_recurrent_state_moments_and_values_stay_float32() -> None:
    agent = Agent(config(), 64, ACTIONS, seed=0)
    frames, actions = batch(agent.config).frames, batch(agent.config).actions
    seen: set[torch.dtype] = set()
    agent.model.rssm.cell.linear.register_forward_hook(lambda *call: seen.add(call[2].dtype))
    with products_in("bfloat16", CPU):
        posterior = agent.model.observe(frames, actions, agent.generator)
        assert seen == {torch.float32}
        state = posterior.state.select(torch.arange(4))
        latent, means = agent.model.rssm.imagine(state, actions[0], torch.tensor(0), torch.zeros(4, 8))
        assert seen == {torch.float32, torch.bfloat16}
        tensors = [
            *(posterior.mean, posterior.std, posterior.state.deter, latent.deter, latent.stoch, means),
            agent.critics(latent.features, actions[0]),
            agent.discriminator.clean(agent.discriminator.pairs(latent.features, actions[0])),
            agent.actor(latent.features).mode(),
            agent.model.decoder(latent.features),
        ]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}


def test_a_block_of_float32_is_one_whatever_surrounds_it() -> None:
    matrix = torch.randn(4, 4)
    with products_in("bfloat16", CPU):
        assert (matrix @ matrix).dtype == torch.bfloat16
        with float32():
            assert (matrix @ matrix).dtype == torch.float32
    with products_in("float32", CPU):
        assert (matrix @ matrix).dtype == torch.float32


class OnMeta(TorchDispatchMode):
    """Refuses what a meta tensor itself does not: another device's tensor as index or factor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            assert not isinstance(value, torch.Tensor) or value.device.type == "meta" or value.dim() == 0, func
        return func(*args, **(kwargs or {}))


class HostGenerator(torch.Generator):
    """A generator on the host, whatever the device."""

    def __new__(cls, device: object) -> "HostGenerator":
        return super().__new__(cls)


def on_meta(value: Batch) -> Batch:
    return value.to(torch.device("meta"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"imagination_starts": 8, "disc_pairs": 16},
        {"demo_batch_fraction": 0.0},
        {"member_per_row": True, "target_reduce": "random", "target_every": 1, "target_tau": 0.1},
        {"disc_regularizer": "noise", "disc_negatives": "both", "kl_balance": None, "disagreement": "l2"},
        {
            "disc_regularizer": "gp_param",
            "action_distribution": "tanh_normal",
            "critic": "V",
            "data_critic_loss": False,
        },
    ],
    ids=lambda changes: ",".join(changes) or "defaults",
)
def test_an_update_stays_on_its_device_and_reads_nothing_back(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A meta tensor has a place and no numbers: mixing devices, or reading one on the host, is an error."""
    settings = config(**changes)
    # What has no meta kernel: random generators, fused optimisers, and the one transfer at the end.
    with monkeypatch.context() as patch:
        patch.setattr(torch, "Generator", HostGenerator)
        agent = Agent(settings, 64, ACTIONS, seed=0, device="meta")
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    monkeypatch.setattr(agents, "to_floats", lambda metrics: metrics)
    expert = None if settings.demo_batch_fraction else on_meta(batch(settings))
    drawn = on_meta(batch(settings))
    with OnMeta():
        metrics: dict[str, Any] = agent.update(drawn, expert)
    assert {value.device.type for value in metrics.values()} == {"meta"}
    assert len(metrics) > 20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("chosen", ["float32", "bfloat16"])
def test_an_update_on_a_gpu_waits_for_nothing_but_its_metrics(chosen: Precision) -> None:
    settings = config()
    agent = Agent(settings, 64, ACTIONS, seed=0, device="cuda", precision=chosen)
    agent.update(batch(settings), None)
    read, waited = agents.to_floats, []

    def to_floats(metrics: agents.Metrics) -> dict[str, float]:
        torch.cuda.set_sync_debug_mode("default")
        waited.append(True)
        return read(metrics)

    agents.to_floats = to_floats
    torch.cuda.set_sync_debug_mode("error")
    try:
        agent.update(batch(settings), None)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        agents.to_floats = read
    assert waited


def test_compiled_update_is_the_plain_one_to_rounding() -> None:
    """The graphs are captured and differentiated by the compiler's front, and run as they are."""
    settings = config(free_nats=0.0, horizon=2, ensemble_size=2)
    plain, compiled = (Agent(settings, 64, ACTIONS, seed=1) for _ in range(2))
    compiled.compile(backend="aot_eager")
    expected, found = (agent.update(batch(settings), None) for agent in (plain, compiled))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert list(parameters(compiled)) == list(parameters(plain))


def test_auto_is_bfloat16_where_the_processor_has_units_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(machine.PRECISION, raising=False)
    assert precision.choose("cpu") == "float32"
    monkeypatch.setenv(machine.PRECISION, "auto")
    monkeypatch.setattr(machine, "_read", lambda path: "flags\t\t: fpu avx2 avx512_bf16 amx_tile\n")
    assert machine.bfloat16_units() == ["avx512_bf16"]
    assert precision.choose("cpu") == "bfloat16"
    monkeypatch.setattr(machine, "_read", lambda path: "flags\t\t: fpu avx2\n")
    assert precision.choose("cpu") == "float32"
    monkeypatch.setenv(machine.PRECISION, "bfloat16")
    assert precision.choose("cpu") == "bfloat16"
    monkeypatch.setenv(machine.PRECISION, "float16")
    with pytest.raises(UserError, match="AILFT_PRECISION: 'float16'; did you mean 'bfloat16'"):
        precision.choose("cpu")


def test_a_run_goes_on_in_the_precision_of_its_checkpoint(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDirectory.create(tmp_path, make_spec())
    monkeypatch.setenv(machine.PRECISION, "bfloat16")
    with run.lease():
        assert precision.of_run(run, "cpu") == "bfloat16"
        run.start_attempt(precision="bfloat16")
        monkeypatch.setenv(machine.PRECISION, "float32")
        assert precision.of_run(run, "cpu") == "float32"  # nothing was saved: it begins anew
        run.save_checkpoint(1, lambda folder: None)
        assert precision.of_run(run, "cpu") == "bfloat16"
    assert "goes on in bfloat16, as it began, not in float32" in capsys.readouterr().out
    assert run.attempts.read()[-1].provenance["precision"] == "bfloat16"
