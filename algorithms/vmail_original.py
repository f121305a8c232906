"""VMAIL as published (Rafailov et al., 2021; dm_control variant): for history, not for a causal comparison.

State-value critic without target network or data loss, which the actor does not listen to (no bootstrap,
lambda = 1); the reward is D itself; one latent dynamics model; penalty on the discriminator's parameter
gradient; Dreamer v1's KL with 3 free nats.
"""

from algorithms.method import Method

METHOD = Method(
    "vmail_original",
    "VMAIL as published: V critic, D as reward, no data loss, parameter-gradient penalty",
    settings={
        "alpha": 0.0,
        "ensemble_size": 1,
        "kl_balance": None,
        "free_nats": 3.0,
        "critic": "V",
        "n_critics": 1,
        "critic_layers": 3,
        "target_every": 1,
        "target_tau": 1.0,
        "data_critic_loss": False,
        "bootstrap": False,
        "lam": 1.0,
        "horizon": 14,  # of 15 imagined steps the last one's reward is not used
        "discount": 0.99,
        "bc_scale": 0.0,
        "model_bc_scale": 0.0,
        "discount_weights": True,
        "reward_form": "prob",
        "disc_regularizer": "gp_param",
        "disc_penalty": 1.0,
        "disc_penalty_target": 1.0,
        "disc_steps": 1,
        "disc_action_scale": 1.0,
        "action_distribution": "tanh_normal",
        "actor_init_std": 5.0,
        "entropy": 0.0,
        "model_lr": 6e-4,
        "disc_lr": 8e-5,
        "critic_lr": 8e-5,
        "actor_lr": 8e-5,
        "pretrain_lr_scale": 1.0,
        "average_decay": 0.0,
        "acting": "sample",
        "weight_decay": 0.0,
        "prefill_noise": 0.3,
        "adapt_updates": 0,
        "exploration_noise": 0.3,
        "actor_frozen_updates": 0,
        "actor_min_std": 1e-4,
        "adam_eps": 1e-7,
    },
    defining=frozenset({"alpha", "critic", "bootstrap", "data_critic_loss"}),
)
