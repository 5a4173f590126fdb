"""Pictures of what is stored, for a browser: small, with outlines drawn, and never a stranger's own bytes.

What devices sent is decoded by processes that can do nothing else, drawn on, and encoded again. What was made is kept
in memory within a bound, by the id of what it shows: an id never changes its picture.
"""

from __future__ import annotations

import atexit
import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.closing import Closing
from walt_edge.contract.errors import UsageError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import decode_rle
from walt_edge.contract.messages import CropHeader, Envelope
from walt_train.decoding import ConfinedDecoder, DecodingError
from walt_train.loop.store.errors import StoreError
from walt_train.loop.store.store import Store

WIDTHS: Final = (160, 240, 320, 480, 640, 960, 1280, 1920, 3840)
"""Pixels; what is asked for becomes the next of these, so that nobody fills the memory with every width there is."""
THUMB_PX: Final = 240
_DECODERS: Final = 2
_CACHE_BYTES: Final = 64 << 20
_LARGEST_UP: Final = 4.0
"""A crop of few pixels is not shown larger than this many times its size."""
_PERSON, _VEHICLE, _SHADOW = (66, 157, 255), (255, 168, 74), (40, 40, 40)
_GREY: Final = 128
_QUALITY: Final = 88

Image = NDArray[np.uint8]


class Pictures(Closing):
    """Makes pictures, for any number of threads.

    Args:
        decoders: Processes that decode, at most; each begins when it is needed.
        cache_bytes: Of pictures kept, at most.
    """

    def __init__(self, decoders: int = _DECODERS, cache_bytes: int = _CACHE_BYTES) -> None:
        # A decoder ends with the thread that began it: these stay, a server's own come and go.
        self._workers = ThreadPoolExecutor(decoders, thread_name_prefix="decoder")
        self._own = threading.local()
        self._decoders: list[ConfinedDecoder] = []
        self._cache = _Cache(cache_bytes)

    def close(self) -> None:
        """Ends the decoders."""
        self._workers.shutdown()
        for decoder in self._decoders:
            decoder.close()

    def crop(self, store: Store, sha256: str, width: int = THUMB_PX, *, outline: bool = True) -> bytes:
        """A crop with its mask's outline, as JPEG that fits into a square.

        Args:
            store: Where it is.
            sha256: Its id.
            width: Of the square, pixels.
            outline: Whether the outline is drawn.

        Raises:
            StoreError: It is not stored, or is no crop.
            DecodingError, NoDecoderError: It cannot be decoded, or not safely on this machine.
        """
        width = allowed(width)
        key = f"crop {sha256} {width} {outline}"
        return self._cache.get(key) or self._made(key, self._crop, store, sha256, width, outline)

    def whole(self, store: Store, sha256: str, width: int) -> bytes:
        """A plate or a frame as JPEG, at most that wide; raises as `crop` does."""
        width = allowed(width)
        key = f"whole {sha256} {width}"
        return self._cache.get(key) or self._made(key, self._whole, store, sha256, width)

    def place(self, store: Store, sha256: str, width: int) -> bytes:
        """A crop where it stood on its plate, framed; on grey where the plate is not stored. Raises as `crop`."""
        width = allowed(width)
        key = f"place {sha256} {width}"
        return self._cache.get(key) or self._made(key, self._place, store, sha256, width)

    def drop(self, sha256: str) -> None:
        """Removes every picture of something that is stored no more."""
        self._cache.drop(sha256)

    def _made(self, key: str, make: Callable[..., bytes], *wish: Any) -> bytes:
        """Made where the decoders are: so few at once, however many ask, since a picture may take much memory."""
        return self._cache.put(key, self._workers.submit(make, *wish).result())

    def _crop(self, store: Store, sha256: str, width: int, outline: bool) -> bytes:
        envelope, header = _crop_of(store, sha256)
        image = self._decoded(envelope)
        scale = min(width / max(image.shape[:2]), _LARGEST_UP)
        image = _scaled(image, scale)
        if outline:
            _draw_outline(image, header)
        return _jpeg(image)

    def _whole(self, store: Store, sha256: str, width: int) -> bytes:
        envelope = store.get(sha256).envelope
        if isinstance(envelope.header, CropHeader):
            raise StoreError(f"{sha256[:12]} is a crop: it has no whole picture")
        image = self._decoded(envelope)
        return _jpeg(_scaled(image, min(1.0, width / image.shape[1])))

    def _place(self, store: Store, sha256: str, width: int) -> bytes:
        envelope, header = _crop_of(store, sha256)
        scale = min(1.0, width / max(header.origin.frame_wh))
        ground = self._ground(store, header, scale)
        mask = decode_rle(header.mask).astype(np.uint8)
        left, top = (
            min(round(value * scale), side - 1)
            for value, side in zip(header.crop_xy, ground.shape[1::-1], strict=True)
        )
        own = _scaled(self._decoded(envelope), scale)
        inside = cv2.resize(mask, own.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
        part = ground[top : top + own.shape[0], left : left + own.shape[1]]
        inside = inside[: part.shape[0], : part.shape[1]]
        part[inside] = own[: part.shape[0], : part.shape[1]][inside]
        _draw_outline(part, header)
        x0, y0, x1, y1 = (round(value * scale) for value in header.box_xyxy)
        cv2.rectangle(ground, (x0 - 3, y0 - 3), (x1 + 3, y1 + 3), _colour(header.label), 2, cv2.LINE_AA)
        return _jpeg(ground)

    def _ground(self, store: Store, header: CropHeader, scale: float) -> Image:
        width, height = header.origin.frame_wh
        try:
            plate = store.get(header.plate).envelope if header.plate else None
            if plate is not None and plate.image_wh == (width, height):
                return _scaled(self._decoded(plate), scale)
        except (StoreError, DecodingError):
            # The plate expired, is another's or is damaged: where the crop stood is known all the same.
            pass
        # Of the size that is shown: how large a frame is, a device only says.
        size_hw = max(1, round(height * scale)), max(1, round(width * scale))
        return np.full((*size_hw, 3), _GREY, dtype=np.uint8)

    def _decoded(self, envelope: Envelope) -> Image:
        """Its pixels; nobody may write them."""
        decoder: ConfinedDecoder | None = getattr(self._own, "decoder", None)
        if decoder is None:
            decoder = self._own.decoder = ConfinedDecoder()
            self._decoders.append(decoder)
        return decoder.decode(envelope.image, envelope.image_wh)


@functools.cache
def shared_pictures() -> Pictures:
    """The one of this process: decoders are processes, and an id's picture is the same for everybody."""
    made = Pictures()
    atexit.register(made.close)
    return made


def allowed(width: int) -> int:
    """The next width that is made; raises UsageError for what is none."""
    for one in WIDTHS:
        if 0 < width <= one:
            return one
    raise UsageError(f"a picture of {width} pixels: give 1 to {WIDTHS[-1]}")


class _Cache:
    """What was used last, within a bound of bytes."""

    def __init__(self, most: int) -> None:
        self._most, self._size = most, 0
        self._items: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        with self._lock:
            found = self._items.get(key)
            if found is not None:
                self._items.move_to_end(key)
            return found

    def put(self, key: str, data: bytes) -> bytes:
        with self._lock:
            self._size += len(data) - len(self._items.pop(key, b""))
            self._items[key] = data
            while self._size > self._most:
                self._size -= len(self._items.popitem(last=False)[1])
        return data

    def drop(self, part: str) -> None:
        with self._lock:
            for key in [key for key in self._items if part in key]:
                self._size -= len(self._items.pop(key))


def _crop_of(store: Store, sha256: str) -> tuple[Envelope, CropHeader]:
    envelope = store.get(sha256).envelope
    if not isinstance(envelope.header, CropHeader):
        raise StoreError(f"{sha256[:12]} is no crop")
    return envelope, envelope.header


def _colour(label: Label) -> tuple[int, int, int]:
    return _PERSON if label is Label.PERSON else _VEHICLE


def _scaled(image: Image, scale: float) -> Image:
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=how), dtype=np.uint8)


def _draw_outline(image: Image, header: CropHeader) -> None:
    """Draws the mask's edge on its crop, light on dark, so that it is seen on any ground.

    By its pixels and not as lines: of a mask that is dust there would be millions.
    """
    mask = decode_rle(header.mask).astype(np.uint8) * 255
    inside = cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_LINEAR) > _GREY
    edge = inside & ~cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0).astype(bool)
    image[cv2.dilate(edge.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)] = _SHADOW
    image[edge] = _colour(header.label)


def _jpeg(image: Image) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
