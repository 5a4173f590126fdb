"""The calibrated confidence: monotone, explained, and as sure as it is right."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walt_edge.vision.sightings import Reason
from walt_train.mining.confidence import (
    INSTANCES,
    Coefficients,
    ConfidenceError,
    calibrate,
    coefficients_of,
    explain,
    package_coefficients,
)
from walt_train.mining.fitting import Example, across_cameras, fit, isotonic

NAMES = [*(reason.value for reason in Reason), "class", "size"]
PARTS = st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1))


def drawn(count: int, seed: int = 1) -> list[Example]:
    """Views of which the neighbour's part decides, and the border's says nothing."""
    rng = np.random.default_rng(seed)
    out = []
    for index in range(count):
        near, border = rng.uniform(0.05, 1, 2)
        whole = rng.random() < 1 / (1 + np.exp(-(3 + 2.5 * np.log(near))))
        parts = {"neighbour": float(near), "border": float(border)}
        out.append(Example(f"camera-{index % 5}", index // 5, parts, bool(whole)))
    return out


@given(PARTS, st.sampled_from(NAMES), st.floats(0, 1))
def test_more_doubt_is_never_surer(parts: dict[str, float], name: str, share: float) -> None:
    before = calibrate(parts)
    after = calibrate({**parts, name: parts.get(name, 1.0) * share})
    assert 0 <= after <= before + 1e-12 <= 1 + 1e-12


@given(PARTS)
def test_shares_add_up(parts: dict[str, float]) -> None:
    shares = explain(parts)
    assert [share for _, share in shares] == sorted((share for _, share in shares), reverse=True)
    assert not shares or sum(share for _, share in shares) == pytest.approx(1)


def test_the_package_brings_coefficients_of_known_parts() -> None:
    found = package_coefficients()
    assert set(found.weights) <= set(NAMES)
    assert all(weight >= 0 for weight in found.weights.values())
    assert 0 <= found.threshold <= 1


def test_broken_coefficients_are_told() -> None:
    with pytest.raises(ConfidenceError, match="--fit"):
        package_coefficients("nowhere.json")


def test_each_kind_of_eyes_has_coefficients_of_its_own() -> None:
    motion, network = coefficients_of("motion-1"), coefficients_of(f"{INSTANCES}+walt_edge_general-0123abcd")
    assert "neighbour" in motion.weights
    assert "second occluder" not in motion.weights
    assert "second occluder" in network.weights
    assert "neighbour" not in network.weights


def test_fitting_finds_what_decides() -> None:
    found = fit(drawn(1500))
    assert found.weights["neighbour"] == pytest.approx(2.5, rel=0.25)
    assert found.weights.get("border", 0.0) < 0.3
    assert found.bias == pytest.approx(3, abs=0.5)


def test_the_surest_of_many_views_does_not_flatter() -> None:
    rng = np.random.default_rng(5)
    views = [
        Example("camera", number, {"merged": float(rng.uniform(0.1, 1))}, bool(number % 2))
        for number in range(200)
        for _ in range(6)
    ]
    found = fit(views)
    best = [max(calibrate(v.parts, found) for v in views[k : k + 6]) for k in range(0, len(views), 6)]
    assert np.mean(best) == pytest.approx(0.5, abs=0.05)


def test_no_camera_judges_itself() -> None:
    views = drawn(60)
    trained: list[set[str]] = []

    def learn(others: object) -> object:
        trained.append({view.camera for view in others})  # type: ignore[attr-defined]
        return lambda view: float(view.camera not in trained[-1])

    assert across_cameras(views, learn).all()  # type: ignore[arg-type]
    assert len(trained) == 5


def test_isotonic_is_monotone_and_right_on_average() -> None:
    rng = np.random.default_rng(2)
    scores = rng.uniform(0, 1, 400)
    truths = (rng.uniform(0, 1, 400) < scores).astype(float)
    steps = isotonic(scores, truths)
    levels = [steps(score) for score in np.linspace(0, 1, 50)]
    assert levels == sorted(levels)
    assert np.mean([steps(score) for score in scores]) == pytest.approx(truths.mean())


def test_a_missing_part_speaks_not_against_it() -> None:
    model = Coefficients(bias=2.0, weights={"merged": 1.0}, threshold=0.5)
    assert calibrate({}, model) == calibrate({"merged": 1.0, "unheard of": 0.0}, model)


def test_calibrating_needs_neither_torch_nor_scipy() -> None:
    code = (
        "import sys; from walt_train.mining.confidence import calibrate; calibrate({'merged': 0.5}); "
        "assert not {'torch', 'scipy'} & set(sys.modules), 'too much'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
