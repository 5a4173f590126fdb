"""The model between two frames: exchanged, failing, slow, put down."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bundles import manifest
from tests.fakes.models import ScriptedModel
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.messages import Desired
from walt_edge.update.holder import Fitted, ModelHolder, Patience

FRAME = np.zeros((64, 96, 3), np.uint8)


def fitted(release: int, golden_ms: float = 1000.0, **script: object) -> Fitted:
    sha256 = f"{release:064d}"
    wish = Desired(release=release, target="street.walt", sha256=sha256)
    return Fitted(ScriptedModel(manifest(), sha256, script), wish, golden_ms)


def test_what_is_offered_looks_from_the_next_frame_on() -> None:
    holder = ModelHolder()
    assert holder.look(FRAME) is None
    for release in (1, 2):
        offer = holder.offer(fitted(release))
        assert holder.release == release - 1
        assert not offer.taken.is_set()
        holder.exchange()
        assert offer.taken.is_set()
        look = holder.look(FRAME)
        assert look is not None
        assert (look.release, len(look.instances)) == (release, 1)
        assert look.took_ms > 0
    holder.offer(None)
    holder.exchange()
    assert holder.look(FRAME) is None


def test_an_offer_is_withdrawn_or_taken_never_both() -> None:
    holder = ModelHolder()
    offer = holder.offer(fitted(1))
    assert holder.withdraw(offer)
    holder.exchange()
    assert holder.release == 0
    offer = holder.offer(fitted(2))
    holder.exchange()
    assert not holder.withdraw(offer)
    assert holder.release == 2


@pytest.mark.parametrize(("script", "line"), [("raises", "the network gives up"), ("slow", "ms a frame")])
def test_a_model_that_fails_or_is_slow_too_often_in_a_row_is_put_down(script: str, line: str) -> None:
    put_down: list[tuple[int, str]] = []
    holder = ModelHolder(Patience(frames=20))
    holder.on_put_down = lambda one, reason: put_down.append((one.wish.release, reason))
    holder.offer(fitted(3, golden_ms=0.1, predict=script))
    holder.exchange()
    for _ in range(19):
        assert holder.look(FRAME) is not None
        assert holder.release == 3
    look = holder.look(FRAME)
    assert look is not None
    assert holder.release == 0
    ((release, reason),) = put_down
    assert release == 3
    assert reason.startswith("put down after 20 frames in a row: ")
    assert line in reason
    assert holder.look(FRAME) is None


def test_a_bad_frame_now_and_then_is_borne_and_gives_no_instances() -> None:
    class Moody(ScriptedModel):
        def predict(self, image_bgr: NDArray[np.uint8], /) -> AmodalInstances:
            if self.looked % 2:
                self.looked += 1
                raise MemoryError
            return super().predict(image_bgr)

    holder = ModelHolder(Patience(frames=2))
    holder.offer(Fitted(Moody(manifest(), "a" * 64, {}), fitted(1).wish, 1000.0))
    holder.exchange()
    looks = [holder.look(FRAME) for _ in range(10)]
    assert [len(look.instances) for look in looks if look] == [1, 0] * 5
