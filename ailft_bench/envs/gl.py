"""OpenGL without a screen: chooses a backend that works here, and renders square images with it.

MuJoCo takes its backend from the environment variable ``MUJOCO_GL`` when it is first imported, and fails at
the first image if that backend is missing. Here it is probed in a subprocess (a failed attempt leaves
PyOpenGL bound to the wrong platform for the rest of the process, and a broken driver may crash), and contexts
come from the backend's own module, so it does not matter whether ``mujoco`` was imported before.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import subprocess
import sys
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from ailft_bench.errors import UserError, nearest

if TYPE_CHECKING:
    import mujoco

_CANDIDATES = {"linux": ("egl", "osmesa"), "darwin": ("cgl",)}.get(sys.platform, ("glfw",))
_KNOWN = {*_CANDIDATES, "glfw"}

_PROBE = """
import importlib, sys
context = importlib.import_module("mujoco." + sys.argv[1]).GLContext(16, 16)
context.make_current()
try:
    from OpenGL import GL
    print(GL.glGetString(GL.GL_RENDERER).decode())
except ImportError:
    print("unknown renderer")
context.free()
"""

_INSTALL = (
    "install a software renderer: apt-get install -y libegl1 libgl1-mesa-dri (EGL) "
    "or apt-get install -y libosmesa6 (OSMesa)"
)

_open_renderers: weakref.WeakSet[OffscreenRenderer] = weakref.WeakSet()


def configure_gl() -> str:
    """Choose the OpenGL backend of this process and its children; return its name (``egl``, ``osmesa``, ...).

    A ``MUJOCO_GL`` that is already set is respected. Otherwise the first backend that can make a context is
    written to ``MUJOCO_GL``, so that the probe (about half a second) runs once for a tree of processes.

    Raises:
        UserError: no backend works here, or ``MUJOCO_GL`` names none that can render without a screen.
    """
    # llvmpipe's own threads gain nothing on images this small, and many workers would fight for the cores.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    if chosen:
        if chosen not in _KNOWN:
            raise UserError(f"environment variable MUJOCO_GL: {chosen!r}; {nearest(chosen, _KNOWN)}")
        return chosen
    problems = []
    for backend in _CANDIDATES:
        probe = _probe(backend)
        if probe.returncode == 0:
            os.environ["MUJOCO_GL"] = backend
            return backend
        problems.append(f"{backend}: {_last_line(probe.stderr)}")
    raise UserError(f"no OpenGL backend can render without a screen ({'; '.join(problems)}); {_INSTALL}")


def gl_backend() -> str:
    """Return backend and renderer in words, for example ``egl: llvmpipe (LLVM 15.0.6, 256 bits)``.

    Raises:
        UserError: the backend that ``configure_gl`` would use cannot make a context here.
    """
    backend = configure_gl()
    probe = _probe(backend)
    if probe.returncode != 0:
        raise UserError(f"OpenGL backend {backend!r} fails: {_last_line(probe.stderr)}; {_INSTALL}")
    return f"{backend}: {_last_line(probe.stdout)}"


def _probe(backend: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _PROBE, backend]
    # The parent's choice for OpenGL must not decide the probe of another backend.
    environment = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    environment["MUJOCO_GL"] = backend
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"


class OffscreenRenderer:
    """Square RGB images of one model through one free camera, in an OpenGL context of its own.

    Visual quality is the model's (``model.vis.quality``, read when the renderer is made) and the two flags.
    The framebuffer is grown where the model declares a smaller one.

    Raises:
        UserError: no OpenGL backend works here.
    """

    _context: mujoco.MjrContext | None = None

    def __init__(
        self,
        model: mujoco.MjModel,
        size: int,
        camera: mujoco.MjvCamera,
        *,
        shadows: bool = False,
        reflections: bool = False,
    ) -> None:
        backend = configure_gl()
        import mujoco

        window = model.vis.global_
        window.offwidth, window.offheight = max(window.offwidth, size), max(window.offheight, size)
        self._model = model
        self._camera = camera
        self._options = mujoco.MjvOption()
        self._scene = mujoco.MjvScene(model, maxgeom=max(1000, 2 * model.ngeom))
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = reflections
        self._rectangle = mujoco.MjrRect(0, 0, size, size)
        self._pixels = np.empty((size, size, 3), np.uint8)
        self._gl: Any = _make_context(backend, size)
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        _close_all_at_exit()
        _open_renderers.add(self)

    def render(self, data: mujoco.MjData) -> np.ndarray:
        """Return the image of ``data``, uint8 ``(size, size, 3)``; its derived positions must be current."""
        import mujoco

        if self._context is None:
            raise RuntimeError("this renderer is closed")
        self._gl.make_current()
        mujoco.mjv_updateScene(
            self._model, data, self._options, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        mujoco.mjr_render(self._rectangle, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._rectangle, self._context)
        return self._pixels[::-1].copy()

    def close(self) -> None:
        """Free the OpenGL context; calling it again does nothing."""
        if self._context is not None:
            self._gl.make_current()
            self._context.free()
            self._context = None
            self._gl.free()

    def __del__(self) -> None:
        self.close()


def _make_context(backend: str, size: int) -> Any:
    try:
        context = importlib.import_module(f"mujoco.{backend}").GLContext(size, size)
        context.make_current()
    # Drivers fail in their own ways: missing libraries, attributes of None, GL errors.
    except Exception as error:
        raise UserError(f"OpenGL backend {backend!r} cannot make a context: {error}; {_INSTALL}") from error
    return context


@functools.cache
def _close_all_at_exit() -> None:
    # First called after the backend registered its own handler, hence run before it: exit handlers run in
    # reverse, and a context must not outlive its display.
    atexit.register(_close_all)


def _close_all() -> None:
    for renderer in list(_open_renderers):
        renderer.close()
