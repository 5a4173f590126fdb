"""The classes that WALT tells apart, and their COCO category ids."""

from __future__ import annotations

import enum


class Label(enum.IntEnum):
    """A movable object's class; the value is its COCO `category_id`."""

    PERSON = 1
    VEHICLE = 2

    @property
    def title(self) -> str:
        """The name as written in `annotations.json` and on pictures."""
        return self.name.lower()


def coco_categories() -> list[dict[str, object]]:
    """The `categories` list of every COCO file this project writes."""
    return [{"id": int(label), "name": label.title, "supercategory": "movable"} for label in Label]
