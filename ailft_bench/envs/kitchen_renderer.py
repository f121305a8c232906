"""Pictures of the kitchen from joint positions: the stock scene, or the same scene some hundred times faster.

The renderer owns a model and a simulation of its own and only ever receives joint positions, so that no
setting in here can touch the physics of an episode, and any stored state can be shown at any time.

Software rendering of the stock scene takes most of a second: large shadow maps, reflections, eight samples a
pixel, and robot meshes of 134 thousand faces that cover a few hundred pixels. ``fast`` drops the first three
and thins the meshes to a twentieth. Without shadows nothing blocks the oven light (in the model it always
burns, and the light switch slides a shutter in front of it), so the switch's angle turns it on instead.
"""

from __future__ import annotations

import functools
from pathlib import Path

import fast_simplification
import mujoco
import numpy as np
import trimesh
from gymnasium_robotics.envs.franka_kitchen import kitchen_env as upstream

from ailft_bench.envs.gl import OffscreenRenderer

RENDERINGS = ("fast", "stock")

_ASSETS = Path(upstream.__file__).parents[1] / "assets" / "kitchen_franka"
_SCENE = _ASSETS / "kitchen_assets" / "kitchen_env_model.xml"
_MESHES = _ASSETS / "franka_assets" / "meshes"

#: Share of the faces of a robot mesh that ``fast`` keeps; at 64 pixels the pose and outline stay as they are.
_KEPT_FACES = 0.05
#: Cylinders and capsules (stock 28 slices) cost more than the thinned robot does.
_SLICES = 8
#: Angle of the light switch (rad) where half of its travel uncovers the lamp.
_LIGHT_ON_BELOW = -0.35


class KitchenRenderer:
    """Images of the kitchen through the camera of the published 64 x 64 runs.

    Args:
        size: Width and height in pixels.
        rendering: ``fast`` or ``stock``.

    Raises:
        UserError: no OpenGL backend works here.
    """

    def __init__(self, size: int, rendering: str = "fast") -> None:
        self._fast = rendering == "fast"
        self._model = _fast_model(size) if self._fast else mujoco.MjModel.from_xml_path(str(_SCENE))
        self._data = mujoco.MjData(self._model)
        self._lamp = self._model.light("ovenlight").id
        self._switch = self._model.joint("light_switch").qposadr[0]
        self._offscreen = OffscreenRenderer(
            self._model, size, _camera(), shadows=not self._fast, reflections=not self._fast
        )

    def render(self, qpos: np.ndarray) -> np.ndarray:
        """Return the image, uint8 ``(size, size, 3)``, of joint positions ``qpos``, float64 ``(30,)``."""
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        if self._fast:
            self._model.light_active[self._lamp] = qpos[self._switch] < _LIGHT_ON_BELOW
        return self._offscreen.render(self._data)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._offscreen.close()


def _camera() -> mujoco.MjvCamera:
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FREE
    camera.lookat[:] = -0.3, 0.5, 2.0
    camera.distance, camera.azimuth, camera.elevation = 1.86, 90.0, -60.0
    return camera


def _fast_model(size: int) -> mujoco.MjModel:
    spec = mujoco.MjSpec.from_file(str(_SCENE))
    for mesh in spec.meshes:
        if mesh.file.startswith("visual/"):
            vertices, faces = _thinned(mesh.file)
            mesh.file, mesh.uservert, mesh.userface = "", vertices.ravel(), faces.ravel()
    model = spec.compile()
    quality = model.vis.quality
    quality.shadowsize, quality.offsamples = 0, 0
    quality.numslices, quality.numstacks, quality.numquads = _SLICES, _SLICES // 2, 1
    model.vis.global_.offwidth, model.vis.global_.offheight = size, size
    return model


@functools.cache
def _thinned(file: str) -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.load_mesh(_MESHES / file)
    return fast_simplification.simplify(
        np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces), target_reduction=1.0 - _KEPT_FACES
    )
