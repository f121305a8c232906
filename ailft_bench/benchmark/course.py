"""The course: everything that is measured, in order, as one JSON object.

Times are seconds or milliseconds of processor time where one thread does the work, so that other programs are not
counted, and of the clock on a GPU and for workers side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch

from ailft_bench import machine
from ailft_bench import precision as precisions
from ailft_bench.benchmark.levers import levers
from ailft_bench.benchmark.probe import Probe, side_by_side
from ailft_bench.benchmark.sampling import Sample, interleave, median, waiting
from ailft_bench.envs.gl import configure_gl
from ailft_bench.pool import WORKER_ENVIRONMENT

#: From this share of waiting on, times of the clock say more about the other programs than about this one.
BUSY = 0.1

Say = Callable[[str], None]


class Course:
    """Runs probes and keeps what they found.

    Args:
        say: called with what is measured next.
        quick: fewer turns, smaller replay, and no ``full`` update.
        profile: time the updates by phase too.
        paper: measure the ``paper`` preset's update too, which takes minutes.
    """

    def __init__(self, say: Say, quick: bool = False, profile: bool = False, paper: bool = False) -> None:
        self._say, self._quick, self._profile = say, quick, profile
        self._turns = 3 if quick else 7
        self._presets = ["smoke", "cpu", *([] if quick else ["full"]), *(["paper"] if paper else [])]
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._chosen = precisions.choose(self._device)
        self._samples: list[Sample] = []

    def run(self) -> dict[str, Any]:
        """Measure everything.

        Raises:
            UserError: a subject cannot be measured here.
        """
        configure_gl()
        found: dict[str, Any] = {
            "threads": int(WORKER_ENVIRONMENT["OMP_NUM_THREADS"]),
            "machine": {"cpu": machine.cpu_model(), "cores": machine.cores(), "torch": torch.__version__},
            "device": torch.cuda.get_device_name() if self._device == "cuda" else "cpu",
            "precision": self._chosen,
            "levers": [vars(lever) for lever in levers(self._chosen)],
            "limit": self._limits(),
            **self._acting(),
        }
        limits = found["limit"]
        found["update"] = {preset: self._update(preset, limits) for preset in self._presets}
        found["checkpoint"] = self._checkpoint()
        found["side_by_side"] = self._side_by_side()
        found["worker"] = self._worker(found["env_step_ms"] + found["act_ms"])
        found["waiting"] = waiting(self._samples) if self._device == "cpu" else 0.0
        return found

    def _limits(self) -> dict[str, float]:
        self._say("matrix products")
        found, facts = self._measure(
            {name: ("product", {"precision": name}, False) for name in ("float32", "bfloat16")}, self._turns
        )
        speed = {name: facts[name]["gflop"] / self._seconds(sample) for name, sample in found.items()}
        return {"gflops_f32": speed["float32"], "gflops_bf16": speed["bfloat16"]}

    def _acting(self) -> dict[str, Any]:
        self._say("frames, environment steps, actions, batches")
        fast, _ = self._measure(
            {
                "frame": ("frame", {"rendering": "fast"}, False),
                "step": ("env_step", {"image": True}, False),
                "physics": ("env_step", {"image": False}, False),
                "act": ("act", {"preset": "cpu"}, False),
                "batch": ("replay_batch", {"preset": "cpu", "frames": 2000}, False),
            },
            self._turns,
        )
        self._say("the stock frame")
        stock, _ = self._measure({"frame": ("frame", {"rendering": "stock"}, False)}, 2 if self._quick else 3)
        milliseconds = {name: 1e3 * sample.cpu for name, sample in fast.items()}
        milliseconds["act"] = 1e3 * self._seconds(fast["act"])
        return {
            "render": {
                "fast_ms": milliseconds["frame"],
                "stock_ms": 1e3 * stock["frame"].cpu,
                "speedup": stock["frame"].cpu / fast["frame"].cpu,
                "share_of_physics": milliseconds["frame"] / milliseconds["physics"],
            },
            "env_step_ms": milliseconds["step"],
            "physics_ms": milliseconds["physics"],
            "act_ms": milliseconds["act"],
            "replay_ms": milliseconds["batch"],
        }

    def _update(self, preset: str, limits: Mapping[str, float]) -> dict[str, Any]:
        """Measure one preset's update in the chosen precision and float32, and the plain one in float32."""
        self._say(f"updates of preset {preset}")
        options: dict[str, Any] = {"preset": preset, "precision": "float32"}
        subjects = {
            "float32": ("update", {**options, "profile": self._profile and self._chosen == "float32"}, False),
            "plain": ("update", {**options, "plain": True}, True),
        }
        if self._chosen == "bfloat16":
            subjects["bfloat16"] = ("update", {**options, "precision": "bfloat16", "profile": self._profile}, False)
        turns = self._turns if preset in ("smoke", "cpu") else 3
        samples, facts = self._measure(subjects, turns)
        seconds = {name: self._seconds(sample) for name, sample in samples.items()}
        best, gflop = seconds[self._chosen], facts[self._chosen]["gflop"]
        found = {
            "seconds": best,
            "gflop": gflop,
            "gflops": gflop / best,
            "fraction_f32": gflop / best / limits["gflops_f32"],
            "fraction_bf16": gflop / best / limits["gflops_bf16"],
            "float32_seconds": seconds["float32"],
            "plain_seconds": seconds["plain"],
            "speedup": seconds["plain"] / best,
        }
        if self._chosen == "bfloat16":
            found["bfloat16_seconds"] = seconds["bfloat16"]
        if self._profile:
            found["phases"] = facts[self._chosen]["phases"]
        return found

    def _checkpoint(self) -> dict[str, float]:
        self._say("a checkpoint")
        samples, facts = self._measure({"save": ("checkpoint", {"preset": "cpu"}, False)}, self._turns)
        return {"seconds": samples["save"].wall, "bytes": facts["save"]["bytes"]}

    def _side_by_side(self) -> dict[str, Any]:
        """Measure updates a second of 1, 2, ... processes at once, up to one a core (or GPU), eight at most."""
        most = 1 if self._device == "cuda" else min(machine.cores(), 8)
        counts = [count for count in (1, 2, 4, 8) if count < most] + [most]
        self._say(f"workers side by side: {', '.join(map(str, counts))}")
        options = {"preset": "cpu", "precision": self._chosen}
        found: dict[int, list[float]] = {count: [] for count in counts}
        with ExitStack() as stack:
            probes = [stack.enter_context(Probe("update", options)) for _ in range(most)]
            for _ in range(1 if self._quick else 3):
                for count in counts:
                    found[count].append(side_by_side(probes[:count], 3.0))
        rates = {str(count): sorted(values)[len(values) // 2] for count, values in found.items()}
        return {"updates_per_s": rates, "gain": {count: rate / rates["1"] for count, rate in rates.items()}}

    def _worker(self, step_ms: float) -> dict[str, float]:
        """Measure environment steps (``step_ms`` each, alone) with an update after every few, and the memory."""
        frames = 5_000 if self._quick else 100_000
        self._say(f"a worker with {frames:,} frames in its replay")
        options = {"preset": "cpu", "frames": frames, "precision": self._chosen}
        samples, facts = self._measure({"steps": ("worker", options, False)}, self._turns)
        seconds, steps = self._seconds(samples["steps"]), facts["steps"]["env_steps"]
        memory = {key: value for key, value in facts["steps"].items() if key.endswith("_gib")}
        return {
            "env_steps_per_hour": 3600 * steps / seconds,
            "env_share": steps * step_ms / 1e3 / seconds,
            "frames": frames,
            **memory,
        }

    def _measure(
        self, subjects: Mapping[str, tuple[str, dict[str, Any], bool]], turns: int
    ) -> tuple[dict[str, Sample], dict[str, dict[str, Any]]]:
        """Return medians and facts of subjects that take turns; each with its options, and the default allocator."""
        with ExitStack() as stack:
            probes = {name: stack.enter_context(Probe(*subject)) for name, subject in subjects.items()}
            found = interleave({name: probe.sample for name, probe in probes.items()}, turns)
            self._samples += [sample for samples in found.values() for sample in samples]
            return {name: median(samples) for name, samples in found.items()}, {
                name: probe.facts for name, probe in probes.items()
            }

    def _seconds(self, sample: Sample) -> float:
        return sample.wall if self._device == "cuda" else sample.cpu
