"""Environments, and their registration with gymnasium (by name, so that nothing heavy is imported)."""

from __future__ import annotations

import farama_notifications
import gymnasium

ENTRY_POINTS = {
    "ailft/Kitchen-v0": "ailft_bench.envs.kitchen:KitchenEnv",
    "ailft/Push-v0": "ailft_bench.envs.push:PushEnv",
}


def register_environments() -> None:
    """Register every environment of the project with gymnasium; calling it again does nothing.

    No ``max_episode_steps``: an environment truncates itself at its ``horizon``, so its state is complete.
    """
    # gymnasium-robotics would print a notice about its hand environments, which have no part here, to the
    # standard error of every process.
    farama_notifications.notifications.pop("gymnasium_robotics", None)
    for env_id, entry_point in ENTRY_POINTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point=entry_point)
