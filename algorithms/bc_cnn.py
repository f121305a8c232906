"""Plain behaviour cloning: a convolutional network from frames to actions, without a world model."""

from algorithms.method import Method

METHOD = Method(
    "bc_cnn",
    "behaviour cloning by a convolutional network, without a world model; no environment steps",
    settings={
        "policy": "image",
        "frame_stack": 3,
        "adversarial": False,
        "online": False,
        "bc_scale": 1.0,
        "model_bc_scale": 0.0,
        "pretrain_updates": 0,
        "demo_batch_fraction": 1.0,
        "batch_size": 64,
        "actor_lr": 1e-3,
        "pretrain_lr_scale": 1.0,
        "average_decay": 0.995,
    },
    defining=frozenset({"policy", "adversarial", "online"}),
)
