"""Streams of crops as honest cameras send them, month after month, and as somebody who poisons would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from walt_train.loop.admission.anomaly import Crops

DAY_US = 86_400_000_000
_FRAME = (1920, 1080)


@dataclass(frozen=True)
class Scene:
    """One camera's place: what moves where, and when."""

    a_day: float
    lanes_xy: NDArray[np.float64]
    lane_share: NDArray[np.float64]
    heights_px: NDArray[np.float64]
    people: float
    night: float
    peak_hour: float
    sure: float
    standing: float
    detail: float

    @classmethod
    def at(cls, rng: np.random.Generator) -> Scene:
        lanes = int(rng.integers(2, 8))
        return cls(
            a_day=float(np.exp(rng.uniform(np.log(60), np.log(1500)))),
            lanes_xy=rng.uniform((200, 300), (1700, 1000), (lanes, 2)),
            lane_share=rng.dirichlet(np.full(lanes, 1.5)),
            heights_px=rng.uniform(40, 260, lanes),
            people=float(rng.beta(1.5, 2.5)),
            night=float(rng.uniform(0.02, 0.4)),
            peak_hour=float(rng.uniform(9, 19)),
            sure=float(rng.uniform(0.7, 0.92)),
            standing=float(rng.uniform(0.0, 0.25)),
            detail=float(rng.normal(0, 0.4)),
        )


def honest(scene: Scene, days: int, rng: np.random.Generator) -> Crops:
    """A camera's crops: hours and weekdays differ, weather comes and goes, a fair brings people, and things park."""
    parts = [_day(scene, day, days, rng) for day in range(days)]
    return joined(parts)


def _day(scene: Scene, day: int, days: int, rng: np.random.Generator) -> Crops:
    hours = np.arange(24)
    light = np.exp(-0.5 * ((hours - scene.peak_hour + 12) % 24 - 12) ** 2 / 4.5**2)
    rate = scene.night * 0.5 + light
    rate = rate * rng.gamma(4.0, 0.25, 24)
    weekday = 0.6 if day % 7 in (5, 6) else 1.0
    fair = rng.random() < 1 / 60
    weather = rng.random() < 0.2
    amount = scene.a_day * weekday * np.exp(rng.normal(0, 0.3)) * (2.5 if fair else 1.0)
    count = max(1, rng.poisson(amount))
    hour = rng.choice(24, count, p=rate / rate.sum())
    captured = np.sort(day * DAY_US + (hour + rng.random(count)) * 3_600_000_000).astype(np.int64)
    lane = rng.choice(len(scene.lane_share), count, p=scene.lane_share)
    person_rate = np.clip(scene.people * np.exp(rng.normal(0, 0.25)) * (2.5 if fair else 1.0), 0.02, 0.97)
    label = (rng.random(count) < person_rate).astype(np.int64)
    drift = 8.0 * np.sin(2 * np.pi * day / max(days, 1))
    centre = scene.lanes_xy[lane] + rng.normal(0, (90, 35), (count, 2)) + drift
    height = scene.heights_px[lane] * np.exp(rng.normal(0, 0.2, count)) * np.where(label == 1, 1.0, 0.8)
    width = height * np.where(label == 1, 0.42, 1.7) * np.exp(rng.normal(0, 0.15, count))
    boxes = np.concatenate([centre - np.stack([width, height], 1) / 2, centre + np.stack([width, height], 1) / 2], 1)
    # What stands is seen again where it was, a few times, a pixel off.
    stays = np.flatnonzero(rng.random(count) < scene.standing * rng.beta(2, 2) * 2)
    for at in stays[stays > 0]:
        boxes[at] = boxes[at - 1] + rng.normal(0, 1.5, 4)
        label[at] = label[at - 1]
    boxes = np.clip(boxes, 0, (*_FRAME, *_FRAME))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 2)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    noise = scene.detail + rng.normal(0, 0.1) - 0.35 * weather + rng.normal(0, 0.35, count)
    size = (900 + area * 0.35 * np.exp(noise)).astype(np.int64)
    mean = np.clip(scene.sure + rng.normal(0, 0.015) - 0.04 * weather, 0.5, 0.95)
    confidence = rng.beta(14 * mean, 14 * (1 - mean), count)
    return Crops(captured, size, boxes, label, confidence)


def joined(parts: list[Crops]) -> Crops:
    return Crops(
        np.concatenate([part.captured_us for part in parts]),
        np.concatenate([part.size for part in parts]),
        np.concatenate([part.boxes_xyxy for part in parts]),
        np.concatenate([part.label for part in parts]),
        np.concatenate([part.confidence for part in parts]),
    )


def _like(crops: Crops, **changed: NDArray[np.generic]) -> Crops:
    names = ("captured_us", "size", "boxes_xyxy", "label", "confidence")
    return Crops(**{name: changed.get(name, getattr(crops, name)) for name in names})


def one_object(crops: Crops, rng: np.random.Generator) -> Crops:
    """The same crop, over and over, a hair different."""
    boxes = crops.boxes_xyxy[:1] + rng.normal(0, 0.8, (len(crops), 4))
    size = (crops.size[0] * (1 + rng.normal(0, 0.01, len(crops)))).astype(np.int64)
    return _like(crops, boxes_xyxy=boxes, size=size, label=np.full(len(crops), crops.label[0]))


def one_place(crops: Crops, rng: np.random.Generator) -> Crops:
    """Everything where something is to be learnt wrongly."""
    half = (crops.boxes_xyxy[:, 2:] - crops.boxes_xyxy[:, :2]) / 2
    centre = np.array([[1300.0, 240.0]]) + rng.normal(0, 6, (len(crops), 2))
    return _like(crops, boxes_xyxy=np.concatenate([centre - half, centre + half], 1))


def all_sure(crops: Crops, rng: np.random.Generator) -> Crops:
    """Confidence 1.0, so that everything is chosen."""
    return _like(crops, confidence=np.ones(len(crops)))


def at_night(crops: Crops, rng: np.random.Generator) -> Crops:
    """A day's crops in the two hours in which nobody looks."""
    at = crops.captured_us[0] // DAY_US * DAY_US + 2 * 3_600_000_000
    return _like(crops, captured_us=at + (crops.captured_us - crops.captured_us[0]) // 12)


def mislabelled(crops: Crops, rng: np.random.Generator) -> Crops:
    """People called vehicles and vehicles people."""
    return _like(crops, label=1 - crops.label)


def half_mislabelled(crops: Crops, rng: np.random.Generator) -> Crops:
    """Every other one."""
    return _like(crops, label=np.where(np.arange(len(crops)) % 2, crops.label, 1 - crops.label))


ATTACKS = (one_object, one_place, all_sure, at_night, mislabelled, half_mislabelled)
