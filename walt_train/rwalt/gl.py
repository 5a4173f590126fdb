"""OpenGL without a screen: the context, the programs, and instanced drawing of many meshes in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import moderngl
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError
from walt_train.rwalt.meshes import COLUMNS, Mesh
from walt_train.rwalt.scene import INSTANCE

REMEDY = "install Mesa's software rasteriser: apt-get install --no-install-recommends libegl1 libgl1-mesa-dri"
MAX_INSTANCES = 8192

_VERTEX = {"in_position": "3f", "in_normal": "3f", "in_colour": "3f", "in_paint": "1f", "in_kind": "1f"}
_INSTANCE = dict.fromkeys(("in_row0", "in_row1", "in_row2", "in_tint", "in_place", "in_box", "in_lamps"), "4f")


class RenderError(WaltError):
    """OpenGL without a screen is not at hand."""


def make_context() -> moderngl.Context:
    """A context on Mesa's EGL.

    Raises:
        RenderError: No EGL, no driver behind it, or one too old.
    """
    try:
        context = moderngl.create_context(standalone=True, backend="egl", require=430)
    except Exception as error:  # noqa: BLE001  glcontext raises bare Exception, ImportError or RuntimeError by driver
        raise RenderError(f"no OpenGL 4.3 without a screen ({str(error).splitlines()[0]}): {REMEDY}") from error
    context.gc_mode = None
    return context


def make_program(context: moderngl.Context, vertex: str, fragment: str) -> moderngl.Program:
    """Compiles a pair of shader files, with `#include NAME` lines replaced by NAME.glsl."""
    return context.program(vertex_shader=_source(f"{vertex}.vert"), fragment_shader=_source(f"{fragment}.frag"))


def _source(name: str) -> str:
    folder = files("walt_train.rwalt") / "shaders"
    lines = (folder / name).read_text().splitlines()
    return "\n".join(
        (folder / f"{line.split()[1]}.glsl").read_text() if line.startswith("#include") else line for line in lines
    )


def set_uniforms(program: moderngl.Program, values: Mapping[str, Any]) -> None:
    """Sets those uniforms that the program has; a matrix is given as numpy has it, row by row."""
    for name, value in values.items():
        member = program.get(name, None)
        if member is None:
            continue
        if isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[0] == value.shape[1]:
            value = value.T
        if isinstance(value, np.ndarray):
            member.write(np.ascontiguousarray(value, dtype=np.float32).tobytes())
        else:
            member.value = value


class MeshStore:
    """All meshes of a street in one vertex buffer, drawn many at a time by one indirect call."""

    def __init__(self, context: moderngl.Context, meshes: Mapping[str, Mesh]) -> None:
        self._context = context
        sizes = [len(mesh) for mesh in meshes.values()]
        self._first = dict(zip(meshes, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
        self._count = dict(zip(meshes, sizes, strict=True))
        self._number = {name: index for index, name in enumerate(meshes)}
        self._names = list(meshes)
        vertices = np.concatenate(list(meshes.values()))
        assert vertices.shape[1] == COLUMNS
        self._vertices = context.buffer(vertices.astype(np.float32).tobytes())
        self._instances = context.buffer(reserve=MAX_INSTANCES * INSTANCE.itemsize, dynamic=True)
        self._commands = context.buffer(reserve=20 * (len(meshes) + 1), dynamic=True)
        self._arrays: dict[int, moderngl.VertexArray] = {}

    def draw(self, program: moderngl.Program, rows: NDArray[np.void], meshes: Sequence[str]) -> None:
        """Draws one instance per row of the mesh that stands at its place in `meshes`."""
        if not len(rows):
            return
        assert len(rows) <= MAX_INSTANCES
        numbers = np.array([self._number[name] for name in meshes])
        order = np.argsort(numbers, kind="stable")
        used, starts, counts = np.unique(numbers[order], return_index=True, return_counts=True)
        # DrawArraysIndirectCommand, padded: moderngl steps 20 bytes from one command to the next.
        commands = np.array(
            [
                (self._count[self._names[mesh]], copies, self._first[self._names[mesh]], start, 0)
                for mesh, start, copies in zip(used, starts, counts, strict=True)
            ],
            dtype=np.uint32,
        )
        self._instances.orphan()
        self._instances.write(rows[order].tobytes())
        self._commands.orphan()
        self._commands.write(commands.tobytes())
        self._array(program).render_indirect(self._commands, moderngl.TRIANGLES, count=len(commands))

    def _array(self, program: moderngl.Program) -> moderngl.VertexArray:
        """The vertex array of a program: the attributes that it does not read are skipped over."""
        if program.glo not in self._arrays:
            content = [
                (self._vertices, *_layout(program, _VERTEX, "")),
                (self._instances, *_layout(program, _INSTANCE, "/i")),
            ]
            self._arrays[program.glo] = self._context.vertex_array(program, content)
        return self._arrays[program.glo]


def _layout(program: moderngl.Program, attributes: Mapping[str, str], suffix: str) -> tuple[str, ...]:
    names = [name for name in attributes if program.get(name, None) is not None]
    words = [kind if name in names else f"{4 * int(kind[0])}x" for name, kind in attributes.items()]
    return (" ".join(words) + suffix, *names)
