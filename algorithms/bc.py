"""Behaviour cloning in the world model's latent space: model and actor on the demonstrations, nothing else."""

from algorithms.method import Method

METHOD = Method(
    "bc",
    "behaviour cloning from the demonstrations alone; no environment steps",
    settings={
        "adversarial": False,
        "online": False,
        "bc_scale": 1.0,
        "pretrain_updates": 0,
        "demo_batch_fraction": 1.0,
    },
    defining=frozenset({"adversarial", "online"}),
)
