"""The benchmark: its sampling, the plain update against the fast one, its processes, and what the command says."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_agent import config
from test_cli import ailft, environment

from ailft_bench.benchmark import updates
from ailft_bench.benchmark.levers import levers
from ailft_bench.benchmark.plain import PlainAgent
from ailft_bench.benchmark.probe import Probe, side_by_side
from ailft_bench.benchmark.sampling import Sample, interleave, median, timed, waiting
from ailft_bench.cli import bench
from ailft_bench.errors import UserError
from algorithms.agent import Agent
from algorithms.config import PRESETS, AgentConfig


def test_subjects_take_turns_and_their_median_ignores_a_disturbed_turn() -> None:
    order = []

    def subject(name: str, walls: list[float]) -> Any:
        def sample() -> Sample:
            order.append(name)
            return Sample(walls.pop(0), 1.0)

        return sample

    found = interleave({"a": subject("a", [1.0, 50.0, 1.2]), "b": subject("b", [2.0, 2.0, 2.0])}, 3)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert median(found["a"]) == Sample(1.2, 1.0)
    assert waiting(found["b"]) == 0.5
    assert waiting([Sample(1.0, 1.5)]) == waiting([]) == 0.0


def test_short_operations_are_repeated_and_long_ones_done_once() -> None:
    calls: list[int] = []
    timed(lambda: calls.append(1), least_s=0.02)
    assert len(calls) > 10
    calls.clear()
    timed(lambda: calls.append(1), least_s=0.0)
    assert len(calls) == 1


def with_weights_of(plain: PlainAgent, settings: AgentConfig) -> Agent:
    """Return a fast agent that is the same functions as ``plain``."""
    fast = Agent(settings, 64, plain.action_size, seed=1)
    state = plain.model.state_dict()
    encoder, decoder = fast.model.encoder, fast.model.decoder
    with torch.no_grad():
        for index in range(0, 8, 2):
            weight = state[f"encoder.layers.{index}.weight"]
            if index == 0:  # (out, colour, 2 y + row, 2 x + column) -> (out, row, column, colour, y, x)
                weight = weight.reshape(-1, 3, 2, 2, 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(-1, 12, 2, 2)
            encoder.layers[index].weight.copy_(weight)
            encoder.layers[index].bias.copy_(state[f"encoder.layers.{index}.bias"])
        first, bias = state["decoder.layers.0.weight"], state["decoder.layers.0.bias"]
        merged = torch.einsum("kf,kcyx->yxcf", state["decoder.linear.weight"], first)
        decoder.linear.weight.copy_(merged.flatten(0, 2))
        decoder.linear.bias.copy_((torch.einsum("k,kcyx->yxc", state["decoder.linear.bias"], first) + bias).flatten())
        for index in (2, 4):
            decoder.layers[index - 1].load_state_dict(plain.model.decoder.layers[index].state_dict())
        last = state["decoder.layers.6.weight"].reshape(-1, 3, 3, 2, 3, 2).permute(3, 5, 1, 0, 2, 4)
        decoder.layers[-1].weight.copy_(last.flip(-1, -2).flatten(0, 2))
        decoder.layers[-1].bias.copy_(state["decoder.layers.6.bias"].repeat(4))
        heads = fast.model.rssm.prior_heads
        for name, layer in (("1", 0), ("2", 2)):
            members = range(settings.ensemble_size)
            weights = [state[f"rssm.prior_heads.members.{k}.{layer}.weight"].T for k in members]
            biases = [state[f"rssm.prior_heads.members.{k}.{layer}.bias"][None] for k in members]
            getattr(heads, f"weight{name}").copy_(torch.stack(weights))
            getattr(heads, f"bias{name}").copy_(torch.stack(biases))
        shared = {k: v for k, v in state.items() if k.startswith("rssm.") and "prior_heads" not in k}
        fast.model.load_state_dict(shared, strict=False)
    for name in ("actor", "critics", "discriminator"):
        fast._modules[name].load_state_dict(plain._modules[name].state_dict())
    return fast


@pytest.mark.parametrize(
    "changes",
    [{"random_shift": 4, "average_decay": 0.5}, {"demo_batch_fraction": 0.0, "member_per_row": True}],
    ids=["half", "none"],
)
def test_fast_update_is_the_plain_one_to_rounding(changes: dict[str, Any]) -> None:
    """A whole update on the same images: every loss, reward, value and gradient norm, and what was learned."""
    # The clip is lifted: the decoders have other parameters, hence another norm. Adam's first step is the sign of the
    # gradient, whatever its size, unless eps is larger.
    settings = config(grad_clip=1e9, free_nats=0.0, adam_eps=1e-2, **changes)
    plain = PlainAgent(settings, 64, updates.ACTIONS, 1)
    fast = with_weights_of(plain, settings)
    pairs = [updates.batches(settings, folded) for folded in (False, True)]
    expected, found = (agent.update(*pair) for agent, pair in zip((plain, fast), pairs, strict=True))
    own = {"model/grad_norm"}
    assert {k: v for k, v in found.items() if k not in own} == pytest.approx(
        {k: v for k, v in expected.items() if k not in own}, rel=2e-3, abs=2e-4
    )
    for name in ("actor", "critics", "discriminator"):
        for left, right in zip(fast._modules[name].parameters(), plain._modules[name].parameters(), strict=True):
            torch.testing.assert_close(left, right, rtol=1e-3, atol=2e-5)


def test_operations_are_those_that_one_counts_by_hand() -> None:
    left, right = torch.randn(3, 5, requires_grad=True), torch.randn(5, 7, requires_grad=True)
    assert updates.count_gflop(lambda: left @ right) == pytest.approx(2 * 3 * 5 * 7 / 1e9)
    assert updates.count_gflop(lambda: (left @ right).sum().backward()) == pytest.approx(3 * 2 * 3 * 5 * 7 / 1e9)


def test_phases_cover_the_update_and_leave_the_agent_as_it_was() -> None:
    settings = AgentConfig.from_settings(PRESETS["smoke"])
    agent = Agent(settings, 64, updates.ACTIONS, 0)
    batch, expert = updates.batches(settings)
    before = set(vars(agent)), torch.Tensor.backward
    phases = updates.phases(agent, batch, expert, updates=1)
    assert set(phases) >= {
        *("model: encode", "model: observe", "model: decode", "model: backward", "imagination"),
        *("discriminator: backward", "actor: backward", "critic: backward", "optimisers"),
    }
    assert all(seconds >= 0 for seconds in phases.values())
    assert sum(phases.values()) > 0
    assert list(phases.values()) == sorted(phases.values(), reverse=True)
    assert (set(vars(agent)), torch.Tensor.backward) == before


def test_probe_measures_in_a_worker_of_its_own_and_says_what_broke_it() -> None:
    with Probe("replay_batch", {"preset": "smoke", "frames": 60}) as probe:
        assert probe.facts == {"frames": 60}
        sample = probe.sample()
        assert sample.cpu >= 0
        assert side_by_side([probe], 0.01) > 0
    with pytest.raises(UserError, match=r"measuring frame: its process ended with exit code 1: .*TypeError"):
        Probe("frame", {"colour": "red"})


def test_every_lever_that_is_off_says_why() -> None:
    found = {lever.name: lever for lever in levers("float32")}
    assert not found["bfloat16"].on
    assert all(lever.why for lever in found.values())
    if not torch.cuda.is_available():
        assert "CUDA" in found["CUDA"].why
    assert {lever.name: lever for lever in levers("bfloat16")}["bfloat16"].on


def found_by_a_course() -> dict[str, Any]:
    update = {
        **{"seconds": 0.5, "gflop": 26.0, "gflops": 52.0, "fraction_f32": 0.8, "fraction_bf16": 0.4},
        **{"float32_seconds": 0.5, "plain_seconds": 1.0, "speedup": 2.0, "phases": {"critics": 0.2, "rest": 0.3}},
    }
    return {
        "threads": 1,
        "machine": {"cpu": "a processor", "cores": 2, "torch": "2"},
        **{"device": "cpu", "precision": "float32", "waiting": 0.0},
        "levers": [dataclasses.asdict(lever) for lever in levers("float32")],
        "limit": {"gflops_f32": 65.0, "gflops_bf16": 130.0},
        "render": {"fast_ms": 4.0, "stock_ms": 800.0, "speedup": 200.0, "share_of_physics": 1.1},
        **{"env_step_ms": 8.0, "physics_ms": 3.6, "act_ms": 2.0, "replay_ms": 0.5},
        "update": {"smoke": update, "cpu": update},
        "checkpoint": {"seconds": 0.03, "bytes": 24_000_000},
        "side_by_side": {"updates_per_s": {"1": 1.5, "2": 2.9}, "gain": {"1": 1.0, "2": 1.93}},
        "worker": {"env_steps_per_hour": 25_000.0, "env_share": 0.1, "frames": 100_000, "peak_gib": 1.2},
    }


def test_every_figure_of_the_table_has_a_proportion() -> None:
    rows = {name: (figure, proportion) for name, figure, proportion in bench._rows(found_by_a_course())}
    assert rows["frame, stock"] == ("800 ms", "200 times the fast one")
    assert rows["2 workers at once"] == ("2.90 updates/s", "1.93 times one")
    assert rows["checkpoint"] == ("30 ms, 24 MB", "0.06 cpu updates")
    assert all(figure and proportion for figure, proportion in rows.values())


@pytest.mark.slow
def test_command_measures_and_prints_the_agreed_keys(tmp_path: Path) -> None:
    """The real course, of the smallest update alone."""
    program = (
        "from ailft_bench.benchmark import course\n"
        "from ailft_bench.cli import main\n"
        "import sys\n"
        "init = course.Course.__init__\n"
        "def small(self, *arguments):\n"
        "    init(self, *arguments)\n"
        "    self._presets, self._turns = ['smoke'], 1\n"
        "course.Course.__init__ = small\n"
        "sys.argv = ['ailft-bench', 'bench', '--quick', '--json', '--precision', 'float32']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=3600
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["render"]["stock_ms"] > found["render"]["fast_ms"]
    assert found["limit"]["gflops_f32"] > 0
    assert found["limit"]["gflops_bf16"] > 0
    for key in ("env_step_ms", "act_ms", "replay_ms"):
        assert found[key] > 0
    assert found["update"]["smoke"]["seconds"] > 0
    assert found["update"]["smoke"]["gflop"] == pytest.approx(0.267, rel=0.5)
    assert found["threads"] == 1
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_precision_is_refused(tmp_path: Path) -> None:
    result = ailft(tmp_path, "bench", "--precision", "float16")
    assert result.returncode == 2
    assert "bfloat16" in result.stderr
