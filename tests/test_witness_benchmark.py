"""How a witness is taught: what its lessons say, what it learns of them, and that its file computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.witness import exported, trained, varied
from benchmarks.witness_lessons import Known, Lessons, looked_at
from tests.walt_train.mining.colours import colour_teacher
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_train.mining.witness import CHANNELS, SIDE, SPREAD, Witness
from walt_train.model.witness import WitnessNet

RED = (40, 40, 220)


def known(x0: int, y0: int, x1: int, y1: int, *, hidden: float) -> Known:
    mask = PatchMask(x0, y0, np.ones((y1 - y0, x1 - x0), bool))
    return Known(mask, hidden <= 0.02, hidden, f"street/{x0}")


def test_lessons_are_what_a_teacher_sees_beside_the_truth() -> None:
    empty = np.full((240, 320, 3), 120, np.uint8)
    picture = empty.copy()
    picture[60:160, 100:140] = RED
    teacher = colour_teacher({RED: Label.PERSON})

    def lesson(truth: Known) -> tuple[bool, float, str]:
        lessons = looked_at([(picture, [truth])], empty, teacher)
        assert lessons.shown.shape == (1, CHANNELS, SIDE, SIDE)
        return bool(lessons.whole[0]), round(float(lessons.hidden[0]), 3), str(lessons.objects[0])

    assert lesson(known(100, 60, 140, 160, hidden=0.0)) == (True, 0.0, "street/100")
    assert lesson(known(100, 60, 140, 160, hidden=0.05)) == (False, 0.05, "street/100")
    # It touches another object and is none: nothing whole is shown.
    assert lesson(known(90, 20, 140, 300, hidden=0.0)) == (False, 1.0, "street/90")
    assert lesson(known(200, 60, 240, 160, hidden=0.0)) == (False, 1.0, "nothing")


def lessons(count: int) -> Lessons:
    """Where somebody stands nearer, something is hidden."""
    random = np.random.default_rng(1)
    shown = random.integers(90, 160, (count, CHANNELS, SIDE, SIDE)).astype(np.uint8)
    hidden = random.random(count) < 0.5
    shown[:, 10] = 0
    shown[hidden, 10, 30:50, 30:50] = 255
    return Lessons(shown, ~hidden, 0.3 * hidden.astype(np.float32), np.arange(count).astype(str))


def test_it_learns_what_its_lessons_say(tmp_path: Path) -> None:
    some = lessons(160)
    some.write(tmp_path / "cache" / "some.npz")
    again = Lessons.read(tmp_path / "cache" / "some.npz")
    assert (again.shown == some.shown).all()
    told = np.array(Witness(exported(trained(Lessons.joined([again, some]), steps=30, seed=0)))(some.shown))
    assert told[some.whole].min() > told[~some.whole].max()


def test_its_file_computes_what_torch_does() -> None:
    torch.manual_seed(2)
    net = WitnessNet().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 1.0, 2.0)
            nn.init.normal_(module.bias)
    nn.init.normal_(net.out.weight)  # no two answers alike
    shown = lessons(3).shown
    levels = torch.from_numpy(shown).float()
    with torch.no_grad():
        wanted = ((net(levels) + net(levels.flip(3)))[:, 0] / 2 / SPREAD).sigmoid().numpy()
    assert np.ptp(wanted) > 1e-4
    np.testing.assert_allclose(Witness(exported(net))(shown), wanted, atol=1e-5)


def test_views_vary_in_light_and_never_in_what_is_known() -> None:
    some = lessons(40)
    out = varied(some.shown, np.random.default_rng(0))
    assert out.dtype == np.float32
    assert 0 <= out.min() <= out.max() <= 255
    masks = out[:, 6:]
    same = (masks == some.shown[:, 6:]).all(axis=(1, 2, 3))
    mirrored = (masks == some.shown[:, 6:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same | mirrored).all()
    assert 5 < mirrored.sum() < 35
    assert np.abs(out[:, :3].mean(axis=(1, 2, 3)) - some.shown[:, :3].mean(axis=(1, 2, 3))).max() > 8
