"""A TCP proxy that does to a camera's connections what networks, switches and cameras do to them.

    with FaultProxy(server.port) as proxy, RtspCamera(proxy.url("/street")) as camera:
        proxy.weather = Weather(delay_s=0.2, jitter_s=0.1)
        proxy.cut(reset=True)

It knows as much of RTSP as it takes to tell answers from interleaved packets of pictures, so that it can spoil one
and let the other pass. It runs in a thread of its own; its methods return when what they say has been done.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from walt_edge.contract.closing import Closing

HOST = "127.0.0.1"
_PATIENCE_S = 10.0
_CHUNK = 65536
_WAITING_PARTS = 1024
_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to everything that passes.

    Attributes:
        delay_s: Everything comes so much later.
        jitter_s: And by up to so much more, in order all the same.
        answer_s: Each RTSP answer takes so long.
        bytes_per_s: What comes from the camera is not faster than this; 0 does not limit it.
        mute: RTSP answers pass, pictures do not.
        garble: Pictures' packets keep their length and lose their content.
        silent: New connections are taken and never served.
        reply: New connections are answered with this, whatever they ask, and closed.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    answer_s: float = 0.0
    bytes_per_s: float = 0.0
    mute: bool = False
    garble: bool = False
    silent: bool = False
    reply: bytes = b""


CALM = Weather()


class FaultProxy(Closing):
    """Passes connections on to a server on this machine, and spoils them as it is told.

    Args:
        target_port: Where the server listens.
        seed: Of delays and noise.

    Attributes:
        port: Where the proxy listens.
        weather: What happens to everything that passes; may be replaced at any time.
        taken_at: When each connection came, by the monotonic clock.
        ended_at: When the last one ended.
    """

    def __init__(self, target_port: int, seed: int = 0) -> None:
        self.target_port = target_port
        self.weather = CALM
        self.port = 0
        self.taken_at: list[float] = []
        self.ended_at = 0.0
        self.random = random.Random(seed)
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)
        self._thread.start()
        self.admit()

    def url(self, path: str = "/street") -> str:
        """The stream's address by way of the proxy."""
        return f"rtsp://{HOST}:{self.port}{path}"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def admit(self) -> None:
        """Listens, on the same port again if it had refused."""
        self._do(self._admit())

    def refuse(self) -> None:
        """Listens no more; what is open stays open."""
        self._do(self._refuse())

    def cut(self, *, reset: bool) -> None:
        """Ends all connections: by a reset, as of a camera that has lost its memory, or by an orderly end."""
        self._do(self._cut(reset=reset))

    def freeze(self, *, up: bool = True, down: bool = True) -> None:
        """Makes all open connections half-open: what is sent gets lost and nothing ever ends. New ones pass.

        Args:
            up: What goes to the server.
            down: What comes from it.
        """
        self._do(self._freeze(up, down))

    def insert(self, nbytes: int) -> None:
        """Puts noise among what comes from the server."""
        self._do(self._insert(nbytes))

    def close(self) -> None:
        """Ends everything; harmless when repeated."""
        if self._loop.is_closed():
            return
        self._do(self._refuse())
        self._do(self._cut(reset=True))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE_S)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_S)

    async def _admit(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, HOST, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _cut(self, *, reset: bool) -> None:
        for connection in list(self._connections):
            await connection.end(reset=reset)

    async def _freeze(self, up: bool, down: bool) -> None:
        for connection in self._connections:
            connection.is_frozen = (connection.is_frozen[0] or up, connection.is_frozen[1] or down)

    async def _insert(self, nbytes: int) -> None:
        for connection in self._connections:
            connection.to_client.put(self.random.randbytes(nbytes), 0.0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        self._connections.add(connection)
        self.taken_at.append(time.monotonic())
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            self.ended_at = time.monotonic()


class _Connection:
    """One client's connection, and the one to the server that belongs to it."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._born_in = proxy.weather
        self._client = reader
        self._writers = [writer]
        self._is_cut = asyncio.Event()
        self._is_over = asyncio.Event()
        self.to_client = _Line(writer)
        self.is_frozen = (False, False)

    async def run(self) -> None:
        """Passes bytes until one side ends it, or the proxy does."""
        try:
            await _first_of([self._serve(), self._cut()])
        finally:
            for writer in self._writers:
                writer.close()
            self._is_over.set()

    async def end(self, *, reset: bool) -> None:
        """Ends it now."""
        if reset:
            for writer in self._writers:
                _forget_at_close(writer)
                writer.transport.abort()
        self._is_cut.set()
        await self._is_over.wait()

    async def _cut(self) -> None:
        await self._is_cut.wait()

    async def _serve(self) -> None:
        if self._born_in.silent:
            while await self._client.read(_CHUNK):
                pass
        elif reply := self._born_in.reply:
            await self._client.read(_CHUNK)
            self._writers[0].write(reply)
        else:
            server, writer = await asyncio.open_connection(HOST, self._proxy.target_port)
            self._writers.append(writer)
            to_server = _Line(writer)
            await _first_of(
                [self._pump_up(to_server), self._pump_down(server), to_server.run(), self.to_client.run()]
            )

    async def _pump_up(self, line: _Line) -> None:
        while data := await self._client.read(_CHUNK):
            if not self.is_frozen[0]:
                line.put(data, self._later_s())

    async def _pump_down(self, server: asyncio.StreamReader) -> None:
        parts = _Parts()
        while data := await server.read(_CHUNK):
            for part in parts.split(data):
                self._pass_down(part)
            await self.to_client.room()
        if self.is_frozen[1]:
            await asyncio.Event().wait()  # the end gets lost as well
        await self.to_client.flushed()

    def _pass_down(self, part: bytes) -> None:
        weather, is_packet = self._proxy.weather, part.startswith(b"$")
        if self.is_frozen[1] or (is_packet and weather.mute):
            return
        if is_packet and weather.garble:
            part = part[:4] + self._proxy.random.randbytes(len(part) - 4)
        later_s = self._later_s() + (0.0 if is_packet else weather.answer_s)
        self.to_client.put(part, later_s, weather.bytes_per_s)

    def _later_s(self) -> float:
        weather = self._proxy.weather
        return weather.delay_s + self._proxy.random.uniform(0.0, weather.jitter_s)


class _Line:
    """What waits to be written to one side, in order, each part with its time."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._waiting: asyncio.Queue[tuple[float, bytes, float]] = asyncio.Queue()

    def put(self, data: bytes, later_s: float, bytes_per_s: float = 0.0) -> None:
        """Writes it after so long."""
        self._waiting.put_nowait((asyncio.get_running_loop().time() + later_s, data, bytes_per_s))

    async def room(self) -> None:
        """Waits while too much is waiting, so that the sender feels it."""
        while self._waiting.qsize() > _WAITING_PARTS:
            await asyncio.sleep(0.01)

    async def flushed(self) -> None:
        """Waits until all is written."""
        await self._waiting.join()

    async def run(self) -> None:
        """Writes what is put."""
        while True:
            due_s, data, bytes_per_s = await self._waiting.get()
            await asyncio.sleep(due_s - asyncio.get_running_loop().time())
            self._writer.write(data)
            await self._writer.drain()
            if bytes_per_s:
                await asyncio.sleep(len(data) / bytes_per_s)
            self._waiting.task_done()


class _Parts:
    """Splits what an RTSP server sends into answers and interleaved packets (RFC 2326, 10.12)."""

    def __init__(self) -> None:
        self._rest = b""

    def split(self, data: bytes) -> Iterator[bytes]:
        """The parts that are complete by now."""
        self._rest += data
        while length := self._first_length():
            yield self._rest[:length]
            self._rest = self._rest[length:]

    def _first_length(self) -> int:
        """Of the first part, bytes; 0 if it is not complete."""
        if self._rest.startswith(b"$"):
            length = 4 + int.from_bytes(self._rest[2:4]) if len(self._rest) >= 4 else 0
        else:
            head = self._rest.find(b"\r\n\r\n") + 4
            declared = _LENGTH.search(self._rest[:head]) if head > 3 else None
            length = (head if head > 3 else 0) + (int(declared[1]) if declared else 0)
        return length if length <= len(self._rest) else 0


async def _first_of(work: list[Coroutine[Any, Any, None]]) -> None:
    """Runs all until one of them ends, or breaks as connections do."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, OSError):
                raise result


def _forget_at_close(writer: asyncio.StreamWriter) -> None:
    """Makes closing a reset."""
    one = writer.get_extra_info("socket")
    with suppress(OSError):  # it may be closed
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
