"""What `benchmarks.export` times is what it says."""

from __future__ import annotations

import copy
from collections import Counter

import msgspec
import numpy as np
import pytest
import torch

pytest.importorskip("torch")
pytest.importorskip("walt_export")

from benchmarks.edge_net import (
    Eager,
    borrowed_net,
    count_candidates,
    count_objects,
    force_candidates,
    frames_with,
    golden_picture,
    packaged,
)
from benchmarks.export import chain_gflops, in_turns
from walt_edge.contract.bundle import MODEL, Bundle
from walt_edge.golden import difference
from walt_edge.runtimes.network import look
from walt_edge.runtimes.walt_onnx import WaltOnnx
from walt_train.model.waltnet import WaltNet
from walt_train.recipes import walt_edge_general, walt_edge_small

OBJECTS = 10


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return packaged()


@pytest.fixture(scope="module")
def net(bundle: Bundle) -> WaltNet:
    return borrowed_net(bundle)


def test_borrowed_weights_see_what_the_packaged_model_sees(bundle: Bundle, net: WaltNet) -> None:
    manifest = bundle.manifest
    threshold = manifest.score_threshold
    runtime = WaltOnnx(bundle.files[MODEL], size_wh=manifest.size_wh, device="cpu", threads=1)
    # As many places as the packaged network has: its own fewer would tell the two apart.
    general = walt_edge_general().network
    places = {name: getattr(general, name) for name in ("proposals_before_nms", "proposals", "candidates")}
    wide = copy.copy(net)
    wide.network = msgspec.structs.replace(net.network, **places)
    for name in manifest.golden:
        picture = golden_picture(bundle, name)
        found, expected = (
            look(network, picture, size_wh=manifest.size_wh, score_threshold=threshold)
            for network in (Eager(wide), runtime)
        )
        assert len(found) > 0
        assert difference(found, expected, score_threshold=threshold) == ""


def test_frames_hold_as_many_objects_and_candidates_as_promised(bundle: Bundle, net: WaltNet) -> None:
    forced = force_candidates(net)
    frames = frames_with(Eager(forced), bundle, OBJECTS)
    assert frames
    width, height = net.network.input_wh
    for frame in frames:
        assert frame.shape == (height, width, 3)
        assert count_objects(Eager(forced), frame, bundle) == OBJECTS
        assert count_candidates(forced, frame) == walt_edge_small().network.candidates
    empty = np.full((height, width, 3), 114, np.uint8)
    assert count_candidates(forced, empty) == walt_edge_small().network.candidates
    assert count_candidates(net, empty) < walt_edge_small().network.candidates
    assert net.network.score_floor == walt_edge_small().network.score_floor


def test_contestants_take_turns_on_the_same_frames() -> None:
    seen: list[tuple[str, int]] = []
    frames = [np.full((1, 1, 3), level, np.uint8) for level in (1, 2)]
    calls = {name: lambda frame, name=name: seen.append((name, int(frame[0, 0, 0]))) for name in "abc"}
    times_ms = in_turns(calls, frames, 4)
    assert {name: len(found) for name, found in times_ms.items()} == {"a": 4, "b": 4, "c": 4}
    timed = seen[6:]  # each has warmed up twice
    assert Counter(seen[:6]) == Counter({("a", 1): 2, ("b", 1): 2, ("c", 1): 2})
    rounds = [timed[index : index + 3] for index in range(0, 12, 3)]
    assert [round_[0][0] for round_ in rounds] == ["a", "b", "c", "a"]
    assert [{level for _, level in round_} for round_ in rounds] == [{1}, {2}, {1}, {2}]


def test_the_chain_is_as_long_as_it_says() -> None:
    x = torch.zeros(1, 64, 96, 160)
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.conv2d(x, torch.zeros(64, 64, 3, 3), padding=1)
    assert chain_gflops() == pytest.approx(8 * counter.get_total_flops() / 1e9)
