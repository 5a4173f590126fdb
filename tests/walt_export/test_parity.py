from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from walt_export.errors import ExportError
from walt_export.parity import Parity, TorchNetwork, check_parity

from tests.checkpoints import EVEN_LEVEL, SCORE_THRESHOLD, SIZE_WH, noise, small_net
from walt_edge.runtimes.network import Candidates, Network
from walt_edge.runtimes.walt_onnx import WaltOnnx
from walt_train.model.branches.walt import MaskHead, WaltHeads
from walt_train.model.waltnet import WaltNet

EVEN = np.full((SIZE_WH[1], SIZE_WH[0], 3), EVEN_LEVEL, np.uint8)


@pytest.fixture(scope="module")
def runtime(model: bytes) -> WaltOnnx:
    return WaltOnnx(model, size_wh=SIZE_WH, device="cpu", threads=1)


def compare(expected: Network, found: Network) -> Parity:
    pictures = {"street": noise(5, scale=2), "empty": EVEN}
    return check_parity(expected, found, pictures, size_wh=SIZE_WH, score_threshold=SCORE_THRESHOLD)


def test_the_exported_graph_answers_as_torch_does(runtime: WaltOnnx) -> None:
    looked_at: list[int] = []

    def torch_network(image: NDArray[np.uint8]) -> Candidates:
        found = TorchNetwork(small_net())(image)
        looked_at.append(int((found.scores >= SCORE_THRESHOLD).sum()))
        return found

    parity = compare(torch_network, runtime)
    assert sum(looked_at) >= 4  # something was compared
    assert looked_at[1] == 0
    assert parity.box_px < 1e-3
    assert parity.score < 1e-5
    assert parity.logit < 1e-3
    assert parity.mask_iou == 1


def moved(net: WaltNet) -> None:
    net.box_head.deltas.bias.add_(0.05)


def surer(net: WaltNet) -> None:
    net.box_head.classes.bias[:2] += 0.05


def other_masks(net: WaltNet) -> None:
    assert isinstance(net.branch, WaltHeads)
    for head in net.branch.heads.values():
        assert isinstance(head, MaskHead)
        assert head.classes.bias is not None
        head.classes.bias[0] += 0.5


def others(net: WaltNet) -> None:
    net.box_head.classes.weight.neg_()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (moved, r"street, object \d+ \((person|vehicle) at \d+,\d+\).*: box_px by 0\.\d+, allowed 0\.1"),
        (surer, r"score by 0\.0\d+, allowed 0\.001"),
        (other_masks, r"logit by 0\.\d+, allowed 0\.001"),
        (others, "instances and torch"),
    ],
)
def test_a_graph_that_differs_is_refused_with_the_figure(
    runtime: WaltOnnx, change: Callable[[WaltNet], None], words: str
) -> None:
    net = small_net()
    with torch.no_grad():
        change(net)
    with pytest.raises(ExportError, match=words) as caught:
        compare(TorchNetwork(net), runtime)
    assert "\n" not in str(caught.value)


def candidates(scores: list[float]) -> Candidates:
    """People beside each other."""
    left = np.arange(len(scores), dtype=np.float32) * 12
    boxes = np.stack([left, left * 0 + 10, left + 10, left * 0 + 40], axis=1)
    maps = np.ones((len(scores), 3, 28, 28), np.float32)
    return Candidates(boxes, np.array(scores, np.float32), np.ones(len(scores), np.int64), maps)


def fixed(answer: Candidates) -> Network:
    return lambda image: answer


def test_equal_candidates_may_change_places() -> None:
    one = candidates([0.9, 0.8, 0.8])
    order = [0, 2, 1]
    other = Candidates(one.boxes_xyxy[order], one.scores[order], one.labels[order], one.maps[order])
    assert compare(fixed(one), fixed(other)) == Parity()


@pytest.mark.parametrize(("scores", "fine"), [([0.9, 0.1], True), ([0.9, 0.5], False), ([0.9, 0.1, 0.1], False)])
def test_a_candidate_may_be_missed_only_where_it_could_not_show(scores: list[float], fine: bool) -> None:
    full, less = candidates(scores), candidates(scores[:1])
    if fine:
        assert compare(fixed(full), fixed(less)) == Parity()
        return
    with pytest.raises(ExportError, match="1 of them the same"):
        compare(fixed(full), fixed(less))


def test_values_that_are_no_numbers_are_refused() -> None:
    bad = candidates([0.9])
    bad.maps[0, 0, 0, 0] = np.nan
    with pytest.raises(ExportError, match="logit by nan"):
        compare(fixed(candidates([0.9])), fixed(bad))


def test_figures_are_rounded_to_the_worse_side() -> None:
    figures = Parity(1.2e-5, 3e-8, 0.00042, 0.99951).figures()
    assert figures == {"box_px": 0.001, "score": 1e-5, "logit": 0.00042, "mask_iou": 0.999}
