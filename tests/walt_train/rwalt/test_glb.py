from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from tests.material import shared_data
from walt_train.rwalt.glb import MeshError, load_meshes
from walt_train.rwalt.renderer import Renderer
from walt_train.rwalt.street import Street, StreetConfig


def write_car(path: Path, axes: tuple[int, int, int] = (0, 1, 2)) -> None:
    """A car of three boxes: x lateral, y up, z forward, then its axes are permuted."""
    scene = trimesh.Scene()
    for name, extents, centre in (
        ("Car", (1.8, 1.0, 4.5), (0, 0.8, 0)),
        ("FrontWheels", (1.8, 0.6, 0.6), (0, 0.3, 1.4)),
        ("BackWheels", (1.8, 0.6, 0.6), (0, 0.3, -1.4)),
    ):
        mesh = trimesh.creation.box(extents=np.array(extents)[list(axes)])
        mesh.apply_translation(np.array(centre)[list(axes)])
        scene.add_geometry(mesh, node_name=name, geom_name=name)
    path.write_bytes(trimesh.exchange.gltf.export_glb(scene))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1), (2, 1, 0)], ids=["y-up", "z-up", "along-x"])
def test_cars_stand_on_their_wheels_and_drive_forwards(tmp_path: Path, axes: tuple[int, int, int]) -> None:
    write_car(tmp_path / "my_car.glb", axes)
    (car,) = load_meshes(tmp_path).vehicles
    assert car.size_lwh[0] == pytest.approx(4.5, rel=0.01)
    assert car.size_lwh[2] < car.size_lwh[1]
    assert car.body[:, 2].min() == pytest.approx(0, abs=1e-6)
    tyres = car.body[car.body[:, 6] < 0.1]
    assert tyres[:, 2].max() < 0.75, "wheels are below"


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(MeshError, match=r"no \.glb file"):
            load_meshes(folder)
    (tmp_path / "car.glb").write_bytes(b"not a mesh")
    with pytest.raises(MeshError, match="cannot read"):
        load_meshes(tmp_path)
    (tmp_path / "car.glb").unlink()
    trimesh.creation.box().export(tmp_path / "thing.glb")
    with pytest.raises(MeshError, match="name them after"):
        load_meshes(tmp_path)


def test_real_meshes_are_drawn_and_labelled() -> None:
    folder = shared_data("meshes")
    street = Street(StreetConfig(seed=2, frames=1, size_wh=(320, 180), light="day", meshes=folder))
    glb = {model.name: model for model in street.vehicles if "_" in model.name}
    assert len(glb) >= 10
    for model in glb.values():
        length, width, height = model.size_lwh
        assert length > width
        assert 0.5 < height < 3.5
        assert width <= 2.6
    renderer = Renderer(street)
    assert renderer.draw(0).objects
    renderer.close()
