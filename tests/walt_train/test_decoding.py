"""Images of strangers are decoded by a process that can do nothing else, and that may die of it."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
import psutil
import pytest

from walt_train.decoding import ConfinedDecoder, DecodingError

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def encoded(suffix: str) -> bytes:
    data: bytes = cv2.imencode(suffix, PIXELS)[1].tobytes()
    return data


@pytest.fixture(scope="module")
def decoder() -> Iterator[ConfinedDecoder]:
    with ConfinedDecoder() as decoder:
        yield decoder


def child_of(decoder: ConfinedDecoder) -> psutil.Process:
    assert decoder._child is not None
    return psutil.Process(decoder._child.pid)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_images_come_out_as_they_are(decoder: ConfinedDecoder, suffix: str) -> None:
    data = encoded(suffix)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert (decoder.decode(data, (40, 30)) == expected).all()


@pytest.mark.parametrize(
    ("data", "size_wh"),
    [
        (b"", (40, 30)),
        (b"rubbish", (40, 30)),
        (encoded(".jpg")[:200], (40, 30)),
        (encoded(".jpg"), (30, 40)),
        (encoded(".png"), (41, 30)),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 500, (40, 30)),
    ],
)
def test_what_is_no_such_image_is_refused(decoder: ConfinedDecoder, data: bytes, size_wh: tuple[int, int]) -> None:
    with pytest.raises(DecodingError, match="it is no image of"):
        decoder.decode(data, size_wh)
    assert decoder.decode(encoded(".png"), (40, 30)).shape == (30, 40, 3)


def bomb(width: int, height: int) -> bytes:
    """A small PNG that is huge when it is decoded."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    rows = zlib.compressobj(9)
    line = b"\0" * (1 + width * 3)
    body = b"".join(rows.compress(line) for _ in range(200)) + rows.flush()
    head = chunk(b"IHDR", struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("claimed_wh", [(40, 30), (16384, 16384)])
def test_a_bomb_does_not_go_off(decoder: ConfinedDecoder, claimed_wh: tuple[int, int]) -> None:
    with pytest.raises(DecodingError):
        decoder.decode(bomb(16384, 16384), claimed_wh)
    assert decoder.decode(encoded(".png"), (40, 30)).shape == (30, 40, 3)


def test_one_that_hangs_is_ended_and_begun_anew() -> None:
    with ConfinedDecoder(image_s=0.5) as decoder:
        decoder.decode(encoded(".png"), (40, 30))
        child = child_of(decoder)
        child.suspend()
        with pytest.raises(DecodingError, match=r"did not end within 0\.5 s"):
            decoder.decode(encoded(".png"), (40, 30))
        assert not child.is_running()
    with ConfinedDecoder() as decoder:
        decoder.decode(encoded(".png"), (40, 30))
        child = child_of(decoder)
        child.send_signal(signal.SIGSEGV)
        assert decoder._child is not None
        decoder._child.wait(20)
        with pytest.raises(DecodingError, match="was ended by signal 11"):
            decoder.decode(encoded(".png"), (40, 30))
        assert decoder.decode(encoded(".png"), (40, 30)).shape == (30, 40, 3)
        child = child_of(decoder)
    assert not child.is_running()


@pytest.mark.parametrize(
    "does",
    [
        "open('/etc/passwd')",
        "__import__('socket').socket()",
        "os.fork()",
        "os.kill(os.getppid(), 9)",
        "os.execv('/bin/true', ['true'])",
    ],
)
def test_the_kernel_ends_one_that_tries_anything_else(does: str) -> None:
    code = f"import os, socket\nfrom walt_train.decoding_child import confine\nconfine()\nos.write(1, b'in')\n{does}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ended.stdout, ended.returncode) == (b"in", -signal.SIGSYS), ended.stderr
