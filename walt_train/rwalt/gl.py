"""OpenGL without a screen: the context, the programs, and instanced drawing of many meshes in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import moderngl
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError
from walt_train.rwalt.meshes import COLUMNS, Mesh
from walt_train.rwalt.scene import INSTANCE, PixelBox

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
        context = moderngl.create_context(standalone=True, require=430, backend="egl")  # type: ignore[arg-type]
    except Exception as error:  # by driver an ImportError, a RuntimeError or a bare Exception
        raise RenderError(f"no OpenGL 4.3 without a screen ({str(error).splitlines()[0]}): {REMEDY}") from error
    return context


def make_program(context: moderngl.Context, vertex: str, fragment: str, leaves: bool = False) -> moderngl.Program:
    """Compiles a pair of shader files, with `#include NAME` lines replaced by NAME.glsl.

    Only programs made with `leaves` know foliage: its noise would cost every pixel of a software rasteriser, which
    computes both sides of a branch.
    """
    return context.program(
        vertex_shader=_source(f"{vertex}.vert", leaves), fragment_shader=_source(f"{fragment}.frag", leaves)
    )


def _source(name: str, leaves: bool) -> str:
    folder = files("walt_train.rwalt") / "shaders"
    lines = (folder / name).read_text().splitlines()
    lines[1:1] = ["#define LEAVES"] * leaves
    return "\n".join(
        (folder / f"{line.split()[1]}.glsl").read_text() if line.startswith("#include") else line for line in lines
    )


def set_uniforms(program: moderngl.Program, values: Mapping[str, Any]) -> None:
    """Sets those uniforms that the program has; an array is a matrix as numpy has it, row by row."""
    for name, value in values.items():
        member = program.get(name, None)
        if not isinstance(member, moderngl.Uniform):
            continue
        if isinstance(value, np.ndarray):
            member.write(np.ascontiguousarray(value.T, dtype=np.float32).tobytes())
        else:
            member.value = value


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Instances to draw together.

    Attributes:
        rows: (n,) of `INSTANCE`, sorted by mesh.
        meshes: (n,) mesh numbers.
        owners: (n,) which object each instance is a part of.
        boxes: The pixel box of every object.
    """

    rows: NDArray[np.void]
    meshes: NDArray[np.int64]
    owners: NDArray[np.int64]
    boxes: list[PixelBox]

    def of(self, owners: set[int]) -> Batch:
        """A copy with the parts of some objects only."""
        chosen = np.isin(self.owners, list(owners))
        return Batch(self.rows[chosen], self.meshes[chosen], self.owners[chosen], self.boxes)


class MeshStore:
    """All meshes of a street in one vertex and one index buffer, drawn many at a time by one indirect call."""

    def __init__(self, context: moderngl.Context, meshes: Mapping[str, Mesh]) -> None:
        self._context = context
        shared = [np.unique(mesh, axis=0, return_inverse=True) for mesh in meshes.values()]
        vertices = np.concatenate([corners for corners, _ in shared])
        indices = np.concatenate([inverse.ravel() for _, inverse in shared])
        assert vertices.shape[1] == COLUMNS
        self._number = {name: index for index, name in enumerate(meshes)}
        self._index_counts = np.array([len(inverse) for _, inverse in shared])
        self._first_indices = np.cumsum(self._index_counts) - self._index_counts
        vertex_counts = np.array([len(corners) for corners, _ in shared])
        self._base_vertices = np.cumsum(vertex_counts) - vertex_counts
        self._vertices = context.buffer(vertices.astype(np.float32).tobytes())
        self._indices = context.buffer(indices.astype(np.uint32).tobytes())
        self._instances = context.buffer(reserve=MAX_INSTANCES * INSTANCE.itemsize, dynamic=True)
        self._commands = context.buffer(reserve=20 * (len(meshes) + 1), dynamic=True)
        self._arrays: dict[int, moderngl.VertexArray] = {}

    def batch(self, rows: NDArray[np.void], meshes: Sequence[str], boxes: Sequence[PixelBox]) -> Batch:
        """Instances of meshes by name, ready to draw; `tint.w` of a row is its owner's number + 1."""
        numbers = np.array([self._number[name] for name in meshes], dtype=np.int64)
        order = np.argsort(numbers, kind="stable")
        rows = rows[order]
        return Batch(rows, numbers[order], np.rint(rows["tint"][:, 3]).astype(np.int64) - 1, list(boxes))

    def draw(self, program: moderngl.Program, batch: Batch) -> None:
        """Draws a batch with one call."""
        if not len(batch.rows):
            return
        assert len(batch.rows) <= MAX_INSTANCES
        used, starts, copies = np.unique(batch.meshes, return_index=True, return_counts=True)
        # DrawElementsIndirectCommand: indices, instances, first index, base vertex, base instance.
        columns = [self._index_counts[used], copies, self._first_indices[used], self._base_vertices[used], starts]
        self._instances.orphan()
        self._instances.write(batch.rows.tobytes())
        self._commands.orphan()
        self._commands.write(np.stack(columns, axis=1).astype(np.uint32).tobytes())
        self._array(program).render_indirect(self._commands, moderngl.TRIANGLES, count=len(used))

    def _array(self, program: moderngl.Program) -> moderngl.VertexArray:
        """The vertex array of a program: the attributes that it does not read are skipped over."""
        if program.glo not in self._arrays:
            content = [
                (self._vertices, *_layout(program, _VERTEX, "")),
                (self._instances, *_layout(program, _INSTANCE, "/i")),
            ]
            self._arrays[program.glo] = self._context.vertex_array(program, content, index_buffer=self._indices)
        return self._arrays[program.glo]


def _layout(program: moderngl.Program, attributes: Mapping[str, str], suffix: str) -> tuple[str, ...]:
    names = [name for name in attributes if program.get(name, None) is not None]
    words = [kind if name in names else f"{4 * int(kind[0])}x" for name, kind in attributes.items()]
    return (" ".join(words) + suffix, *names)
