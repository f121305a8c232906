"""Every hyper-parameter and switch of the shared core, flat, with the published values as defaults.

Defaults are the ``paper`` preset: what the paper states, else what its authors' later code uses, else our
choice, marked "ours". Nothing here imports torch, so a command line can validate settings at once.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


class SettingError(ValueError):
    """A setting that does not exist or has a value that is not allowed.

    Attributes:
        key: the setting's name.
        value: the offending value.
        allowed: what is allowed, in words.
    """

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key}: {value!r} is not allowed; allowed: {allowed}")
        self.key = key
        self.value = value
        self.allowed = allowed


#: Settings that came after results were published, with the value under which those were made: a run that knows
#: nothing of one of them is the run that has it at this value.
LATER: dict[str, Any] = {"rescale_moments": False}


@dataclass(frozen=True)
class AgentConfig:
    """The scientific configuration of one agent; see the comment above each group."""

    # World model (eq. 2): encoder, RSSM, decoder.
    depth: int = 48
    deter: int = 400
    stoch: int = 360
    hidden: int = 400
    units: int = 400
    min_std: float = 0.1
    ensemble_size: int = 7  # ours
    member_per_row: bool = False  # one member a time step for the whole batch, or one for each row of it
    kl_scale: float = 1.0
    kl_balance: float | None = 0.8  # None: one KL that trains posterior and prior alike (Dreamer v1)
    free_nats: float = 1.0
    center_frames: bool = False  # ours: networks see frames as differences to the demonstrations' mean frame
    random_shift: int = 0  # ours: training sequences are moved by up to so many pixels, an even number

    # Batches. With demo_batch_fraction > 0 that share of each batch is expert sequences, and they serve as
    # the expert batch too; with 0 an expert batch of the same size is drawn beside the replay batch.
    batch_size: int = 32
    sequence_length: int = 50
    demo_batch_fraction: float = 0.0
    demos_in_replay: bool = True
    prioritize_ends: bool = False  # ours: an episode's first and last frames are drawn half as often as others

    # Discriminator (eq. 3). Its regulariser is not given by the paper: ours is a zero-centred penalty on the
    # input gradient; gp_param is VMAIL's, noise is that of the authors' later code.
    disc_layers: int = 2
    disc_units: int = 200
    disc_steps: int = 1
    disc_pairs: int | None = None  # at most so many pairs of each kind in a discriminator step; None: all
    disc_negatives: Literal["model", "replay", "both"] = "model"  # in the replay are demonstrations too
    disc_regularizer: Literal["gp_input", "gp_param", "noise", "none"] = "gp_input"
    disc_penalty: float = 0.1
    disc_penalty_target: float = 0.0
    disc_noise: float = 2.5
    disc_action_scale: float = 1.0  # ours: multiplies actions at the discriminator's input

    # Reward (eq. 4).
    alpha: float = 3.0  # ours
    reward_form: Literal["logit", "prob", "gail"] = "logit"
    disagreement: Literal["mean", "sum", "l2"] = "mean"
    penalize_data_reward: bool = True

    # Critics (eq. 5, 7, 8, 9).
    critic: Literal["Q", "V"] = "Q"
    n_critics: int = 2
    critic_layers: int = 4
    target_reduce: Literal["min", "random"] = "min"
    target_every: int = 100
    target_tau: float = 1.0  # 1: hard copy; below 1: Polyak
    data_critic_loss: bool = True
    bootstrap: bool = True  # False: all returns, the critics' targets too, end at the horizon (VMAIL as published)
    discount: float = 0.99
    lam: float = 0.95  # without bootstrap no mixture: a second discount, and a factor of the actor's loss

    # Actor (eq. 6).
    adversarial: bool = True  # False: no discriminator, no critics, no imagination
    actor_layers: int = 4
    horizon: int = 15
    imagination_starts: int | None = None  # rollouts an update; None: from every posterior state
    action_distribution: Literal["trunc_normal", "tanh_normal"] = "trunc_normal"
    actor_min_std: float = 0.1
    actor_init_std: float = 1.0  # of tanh_normal, before the squashing
    entropy: float = 1e-4
    discount_weights: bool = False  # weight step t of the actor's and critics' losses by discount**t
    bc_scale: float = 0.0  # weight of -log pi(a_E | s_E) in every actor update
    model_bc_scale: float = 0.0  # ours: weight of the same term in the model's loss, so that states hold what it needs

    # What acts: a policy of the world model's latent state, or for plain cloning a network on the last frames.
    policy: Literal["latent", "image"] = "latent"
    frame_stack: int = 1  # frames that an image policy sees at once
    action_chunk: int = 1  # actions that an image policy decides at once, and then plays without looking

    # Optimisers.
    model_lr: float = 3e-4
    disc_lr: float = 1e-4  # ours
    critic_lr: float = 3e-4
    actor_lr: float = 3e-4
    pretrain_lr_scale: float = 1.0  # ours: multiplies the rates of model and actor in bc_pretrain and adapt_updates
    adam_eps: float = 1e-5
    weight_decay: float = 1e-6
    grad_clip: float = 100.0
    rescale_moments: bool = False  # ours: the actor's Adam follows its loss from weight 1 to bc_scale when going online
    average_decay: float = (
        0.0  # ours: an exponential average over updates acts, and learning goes on from it after cloning and adapting
    )

    # Schedule, in this order: full updates on the demonstrations, model + BC updates on them, environment steps
    # without updates, model + BC updates on both, then updates every `train_every` environment steps.
    pretrain_updates: int = 1000
    bc_pretrain: int = 0
    prefill_steps: int = 5000
    prefill_noise: float = 0.0  # ours: sd of the noise added to the prefill's actions, to show what actions do
    adapt_updates: int = 0  # ours: model + BC updates at pretraining's rates, on demonstrations and prefill
    online: bool = True  # False: stops before the first environment step
    train_every: int = 5
    updates_per_train: int = 2
    actor_frozen_updates: int = 0  # ours: first online updates in which only model, D and critics learn
    acting: Literal["sample", "mean"] = "sample"  # ours: "mean" for training episodes of the policy's mean actions
    exploration_noise: float = 0.0  # sd of the noise added to the actions of later training episodes

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            _check_type(field.name, value, _HINTS[field.name])
            if value is None or field.name not in _RANGES:
                continue
            low, high = _RANGES[field.name]
            if not low <= value <= high:
                raise SettingError(field.name, value, f"{low} to {high}" if math.isfinite(high) else f"at least {low}")

        adapting = self.adapt_updates if self.online else 0
        if not self.adversarial and self.bc_scale == 0 and self.bc_pretrain + adapting == 0:
            raise SettingError(
                "bc_pretrain",
                0,
                "at least 1 where nothing else (adversarial, bc_scale, adapt_updates) trains the actor",
            )
        if self.model_bc_scale > 0 and self.demo_batch_fraction == 0:
            raise SettingError("model_bc_scale", self.model_bc_scale, "0 where demo_batch_fraction is 0")
        if self.random_shift % 2:
            raise SettingError("random_shift", self.random_shift, "an even number: frames are folded 2 x 2")
        for name, needed in (("adversarial", False), ("online", False), ("demo_batch_fraction", 1.0)):
            if self.policy == "image" and getattr(self, name) != needed:
                raise SettingError(name, getattr(self, name), f"{needed} where the policy acts on images (bc_cnn)")
        for name in ("frame_stack", "action_chunk"):
            if self.policy == "latent" and getattr(self, name) > 1:
                raise SettingError(name, getattr(self, name), "1 where the policy acts on latent states (see bc_cnn)")
        if not self.online and self.pretrain_updates + self.bc_pretrain == 0:
            raise SettingError("bc_pretrain", 0, "at least 1 where online is false: nothing else would be learned")

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> AgentConfig:
        """Return the defaults with ``settings`` laid over them.

        Raises:
            SettingError: for an unknown key (``allowed`` then lists the keys) or a bad value.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for key, value in settings.items():
            if key not in names:
                raise SettingError(key, value, ", ".join(names))
        floats = {key for key, hint in _HINTS.items() if float in (hint, *typing.get_args(hint))}
        values: dict[str, Any] = {
            key: float(value) if key in floats and type(value) is int else value for key, value in settings.items()
        }
        return cls(**values)

    @property
    def expert_rows(self) -> int:
        """Rows of each batch that are expert sequences: at least one where the fraction is above 0."""
        return max(round(self.demo_batch_fraction * self.batch_size), int(self.demo_batch_fraction > 0))

    @property
    def row_frames(self) -> int:
        """Frames of one row of a batch: what an image policy sees and the actions after it, or a sequence."""
        return self.frame_stack + self.action_chunk if self.policy == "image" else self.sequence_length

    def as_dict(self) -> dict[str, Any]:
        """Return all settings, in the order of declaration."""
        return dataclasses.asdict(self)


_HINTS: dict[str, Any] = {}
_HINTS.update(typing.get_type_hints(AgentConfig))

_POSITIVE_INTEGERS = (
    "depth deter stoch hidden units ensemble_size batch_size disc_layers disc_units disc_steps disc_pairs "
    "n_critics critic_layers target_every actor_layers horizon imagination_starts train_every updates_per_train "
    "frame_stack action_chunk"
)
_NONNEGATIVE = (
    "kl_scale free_nats disc_penalty disc_penalty_target disc_noise disc_action_scale alpha entropy bc_scale "
    "model_bc_scale model_lr disc_lr critic_lr actor_lr weight_decay pretrain_updates bc_pretrain prefill_steps "
    "prefill_noise adapt_updates actor_frozen_updates exploration_noise random_shift"
)
_FRACTIONS = "kl_balance demo_batch_fraction target_tau discount lam average_decay"
_POSITIVE = "pretrain_lr_scale min_std actor_min_std actor_init_std adam_eps grad_clip"
_RANGES: dict[str, tuple[float, float]] = {
    "sequence_length": (2, math.inf),
    **{name: (1, math.inf) for name in _POSITIVE_INTEGERS.split()},
    **{name: (0, math.inf) for name in _NONNEGATIVE.split()},
    **{name: (1e-12, math.inf) for name in _POSITIVE.split()},
    **{name: (0, 1) for name in _FRACTIONS.split()},
}


def _check_type(name: str, value: object, hint: Any) -> None:
    if typing.get_origin(hint) is Literal:
        options = typing.get_args(hint)
        if value not in options:
            raise SettingError(name, value, ", ".join(map(str, options)))
        return
    kinds = typing.get_args(hint) or (hint,)
    if type(value) not in kinds or (isinstance(value, float) and not math.isfinite(value)):
        words = {int: "an integer", float: "a finite number", bool: "true or false", type(None): "null"}
        raise SettingError(name, value, " or ".join(words[kind] for kind in kinds))


#: Overlays of the defaults. ``cpu`` is sized for one core of a laptop; ``smoke`` proves the plumbing.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "cpu": {
        "depth": 16,
        "deter": 200,
        "stoch": 30,
        "hidden": 200,
        "units": 200,
        "ensemble_size": 5,
        "free_nats": 3.0,  # with 1, now and then a run's posterior never looks at the image (KL stays at 1)
        "center_frames": True,
        "batch_size": 12,
        "sequence_length": 20,
        "demo_batch_fraction": 0.5,
        "prioritize_ends": True,
        "disc_pairs": 400,
        "disc_steps": 3,
        "disc_lr": 1e-3,
        "disc_action_scale": 3.0,
        "alpha": 10.0,
        "imagination_starts": 150,
        # Within a few thousand updates the critics never learn to point at the expert, and drown the reward's own
        # gradient, which does; so returns end after a few steps, and a cloning term holds what was cloned.
        "bootstrap": False,
        "lam": 1.0,
        "horizon": 3,
        "discount": 0.9,
        "bc_scale": 0.3,
        # With ten times that, what clones no better hardly learns what actions do (docs/lab-book.md, section 11).
        "model_bc_scale": 1.0,
        "entropy": 0.0,
        # Sampled actions can be those of a much worse policy (0.2 tasks of the kitchen against 1.8, before averaging),
        # which never comes to see what follows the first task.
        "acting": "mean",
        "model_lr": 1.5e-4,
        "actor_lr": 1e-4,
        "pretrain_lr_scale": 4.0,
        # Rates this high leave the last network where the last batches threw it; the average of many does more tasks.
        "average_decay": 0.995,
        "actor_min_std": 0.05,
        "target_every": 1,
        "target_tau": 0.02,
        "pretrain_updates": 0,
        "bc_pretrain": 1500,
        "prefill_steps": 1120,
        "prefill_noise": 0.3,
        "adapt_updates": 500,
        "updates_per_train": 1,
        "actor_frozen_updates": 200,
    },
    "smoke": {
        "depth": 4,
        "deter": 32,
        "stoch": 8,
        "hidden": 32,
        "units": 32,
        "ensemble_size": 3,
        "batch_size": 4,
        "sequence_length": 10,
        "demo_batch_fraction": 0.5,
        "disc_layers": 1,
        "disc_units": 32,
        "disc_pairs": 64,
        "critic_layers": 2,
        "actor_layers": 2,
        "imagination_starts": 16,
        "horizon": 3,
        "pretrain_updates": 4,
        "bc_pretrain": 60,
        "prefill_steps": 50,
        "prefill_noise": 0.3,
        "adapt_updates": 4,
        "train_every": 10,
        "updates_per_train": 1,
    },
}
