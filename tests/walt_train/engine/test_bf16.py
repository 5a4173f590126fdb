import msgspec
import numpy as np
import pytest
import torch

from tests.walt_train.engine.shapes import Shapes, tiny_recipe
from walt_train.engine.batches import StepBatches, survey
from walt_train.engine.precision import in_bfloat16
from walt_train.model.backbone import Depthwise
from walt_train.model.mm_adapter import AmodalDetector
from walt_train.model.waltnet import WaltNet


@pytest.fixture(scope="module")
def losses() -> dict[bool, dict[str, torch.Tensor]]:
    """Of the same weights on the same batch, by whether they were computed in bfloat16."""
    recipe = tiny_recipe()
    network, scene = survey(Shapes(), recipe)
    recipe = msgspec.structs.replace(recipe, network=network)
    batch = StepBatches(Shapes(), scene, recipe, seed=0)[0]
    found = {}
    for bf16 in (False, True):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - mmdet's samplers draw from it
        detector = AmodalDetector(WaltNet(network), bf16=bf16)
        found[bf16] = _flat(detector(**batch))
        sum(found[bf16].values()).backward()  # type: ignore[union-attr]
        assert all(
            weight.grad is not None and weight.grad.dtype == torch.float32 and torch.isfinite(weight.grad).all()
            for weight in detector.net.parameters()
        )
    return {bf16: {name: loss.detach() for name, loss in each.items()} for bf16, each in found.items()}


def _flat(losses: dict[str, object]) -> dict[str, torch.Tensor]:
    return {
        name: value if isinstance(value, torch.Tensor) else torch.stack(list(value)).sum()  # type: ignore[call-overload]
        for name, value in losses.items()
    }


def test_losses_stay_float32_and_near_those_of_float32(losses: dict[bool, dict[str, torch.Tensor]]) -> None:
    assert losses[True].keys() == losses[False].keys()
    for name, exact in losses[False].items():
        rough = losses[True][name]
        assert rough.dtype == torch.float32, name
        # Which proposals the box head is shown turns on the last bits of their scores.
        far = 0.5 if name in ("loss_cls", "loss_bbox") else 0.05
        assert float(rough) == pytest.approx(float(exact), rel=far, abs=0.02), name


def test_it_really_computes_in_bfloat16(losses: dict[bool, dict[str, torch.Tensor]]) -> None:
    assert any(float(losses[True][name]) != float(exact) for name, exact in losses[False].items())


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", None])
def test_auto_is_bfloat16_where_the_cpu_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    found = {"avx2": True, "avx512_bf16": False, **({name: True} if name else {})}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert in_bfloat16("auto", gpu=False) == (name is not None)
    assert in_bfloat16("bf16", gpu=False)
    assert not in_bfloat16("off", gpu=False)


def test_depthwise_convolutions_stay_float32_on_a_cpu() -> None:
    inner = Depthwise(8, 8, 3, padding=1, groups=8)
    picture = torch.rand(1, 8, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        found = inner(picture.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, inner(picture.bfloat16().float()), rtol=0, atol=0)
