"""The authors' later code as published (L4DC 2024): conservatism on D as reward, with a constant BC term.

The BC term (weight 10 in every actor update, plus BC pretraining) is a confound of its results: compare it
with the term switched off before crediting the penalty. Discriminator inputs carry noise of sd 2.5.
"""

from algorithms.method import Method

METHOD = Method(
    "cmil",
    "the authors' later code: D as reward, alpha 10, BC term 10, instance noise",
    settings={
        "pretrain_updates": 1000,
        "bc_pretrain": 100,
        "alpha": 10.0,
        "ensemble_size": 10,
        "reward_form": "prob",
        "penalize_data_reward": False,
        "target_reduce": "random",
        "target_every": 100,
        "target_tau": 1.0,
        "bootstrap": True,
        "lam": 0.95,
        "horizon": 14,
        "discount": 0.99,
        "model_bc_scale": 0.0,
        "discount_weights": True,
        "disc_regularizer": "noise",
        "disc_noise": 2.5,
        "disc_steps": 1,
        "model_lr": 3e-4,
        "disc_lr": 3e-4,
        "disc_action_scale": 1.0,
        "actor_min_std": 0.1,
        "actor_lr": 3e-4,
        "pretrain_lr_scale": 1.0,
        "average_decay": 0.0,
        "prefill_noise": 0.0,
        "exploration_noise": 0.0,
        "adapt_updates": 0,
        "acting": "sample",
        "entropy": 1e-4,
        "bc_scale": 10.0,
        "actor_frozen_updates": 0,
    },
)
