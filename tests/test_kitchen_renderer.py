"""Pictures of the kitchen: every task is visible, and both renderings show the same scene."""

import os
import subprocess
import sys

import numpy as np
import pytest
from gymnasium_robotics.envs.franka_kitchen.kitchen_env import OBS_ELEMENT_GOALS, OBS_ELEMENT_INDICES

from ailft_bench.envs.gl import configure_gl, gl_backend
from ailft_bench.envs.kitchen import DEFAULT_TASKS, KitchenEnv
from ailft_bench.envs.kitchen_renderer import KitchenRenderer
from ailft_bench.errors import UserError


@pytest.fixture(scope="module")
def start():
    env = KitchenEnv(start_noise=0.0)
    return env.begin(0)["state"][:30]


@pytest.fixture(scope="module")
def fast():
    renderer = KitchenRenderer(64)
    yield renderer
    renderer.close()


def changed_pixels(before, after):
    return (np.abs(before.astype(int) - after).max(axis=-1) > 20).sum()


@pytest.mark.parametrize("task", DEFAULT_TASKS)
def test_finished_task_changes_many_pixels(fast, start, task):
    done = start.copy()
    done[OBS_ELEMENT_INDICES[task]] = OBS_ELEMENT_GOALS[task]
    assert changed_pixels(fast.render(start), fast.render(done)) > 100


def test_oven_light_is_seen_on_the_hob_only_when_switched_on(fast, start):
    on = start.copy()
    on[OBS_ELEMENT_INDICES["light switch"]] = OBS_ELEMENT_GOALS["light switch"]
    hob = np.s_[24:50, 26:58]
    lit, dark = fast.render(on)[hob].astype(int), fast.render(start)[hob].astype(int)
    assert (lit.max(axis=-1) - dark.max(axis=-1) > 20).sum() > 100
    assert (lit >= dark).mean() > 0.99


def test_fast_picture_is_the_stock_picture_without_shadows(fast, start):
    stock_renderer = KitchenRenderer(64, "stock")
    on = start.copy()
    on[OBS_ELEMENT_INDICES["light switch"]] = OBS_ELEMENT_GOALS["light switch"]
    for qpos in (start, on):
        stock = stock_renderer.render(qpos).astype(int)
        same, other = (np.abs(stock - fast.render(q)).mean() for q in (qpos, on if qpos is start else start))
        assert same < 20
        assert same < other
    stock_renderer.close()


def test_pictures_depend_on_nothing_but_the_joint_positions(fast, start):
    first = fast.render(start)
    other = KitchenRenderer(64)
    on = start.copy()
    on[OBS_ELEMENT_INDICES["light switch"]] = OBS_ELEMENT_GOALS["light switch"]
    fast.render(on)
    np.testing.assert_array_equal(fast.render(start), first)
    np.testing.assert_array_equal(other.render(start), first)
    other.close()


def test_backend_is_chosen_and_named():
    assert gl_backend().startswith(f"{configure_gl()}: ")


def test_unknown_backend_is_refused_with_what_is_allowed(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "elg")
    with pytest.raises(UserError, match="MUJOCO_GL: 'elg'; did you mean 'egl'"):
        configure_gl()


def test_backend_that_fails_here_names_the_command_that_installs_one(monkeypatch):
    # GLFW opens windows: it cannot work without a display.
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UserError, match="apt-get install"):
        gl_backend()


def test_images_work_when_mujoco_was_imported_first_without_a_backend():
    program = (
        "import mujoco; from ailft_bench.envs.kitchen_renderer import KitchenRenderer; "
        "import numpy as np; assert KitchenRenderer(64).render(np.zeros(30)).any()"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr
