"""A real uplink and a simulated device behind one face, so that one script plays with either."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests.broker import Broker
from tests.envelopes import sealed
from walt_edge.config import Endpoint
from walt_edge.contract.messages import Info
from walt_edge.contract.topics import DeviceTopics
from walt_edge.spool.spool import Spool
from walt_edge.uplink.uplink import Uplink, UplinkSettings
from walt_train.loop.simulate.crops import CropMaker
from walt_train.loop.simulate.device import Device
from walt_train.loop.simulate.ledger import Ledger
from walt_train.loop.simulate.participant import Shore
from walt_train.loop.simulate.window import Times

TOPICS = DeviceTopics("test", "walt-test")
BOOT = "boot-1"
_T = TypeVar("_T")


class Sender(ABC):
    """Brings crops home, and can be watched and disturbed."""

    @abstractmethod
    def accept(self, count: int) -> None:
        """Promises so many further crops."""

    @property
    @abstractmethod
    def depth(self) -> int: ...

    @property
    @abstractmethod
    def settled(self) -> tuple[int, int]:
        """Acked, rejected."""

    @property
    @abstractmethod
    def malformed(self) -> int: ...

    @property
    @abstractmethod
    def connected(self) -> bool: ...

    @abstractmethod
    def cut(self) -> None:
        """Ends the connection without a word."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Real(Sender):
    def __init__(self, broker: Broker, times: Times, folder: Path) -> None:
        self._broker = broker
        self._settings = UplinkSettings(
            window=times.window,
            ack_timeout_s=times.ack_timeout_s,
            ack_timeout_cap_s=times.ack_timeout_cap_s,
            unheard_s=times.unheard_s,
            reconnect_min_s=times.reconnect_min_s,
            reconnect_max_s=times.reconnect_max_s,
        )
        self._folder = folder
        self._made = 0

    def accept(self, count: int) -> None:
        for number in range(self._made, self._made + count):
            self._spool.accept(sealed(number))
        self._made += count
        self._uplink.notify()

    @property
    def depth(self) -> int:
        return self._spool.counts().depth

    @property
    def settled(self) -> tuple[int, int]:
        counts = self._spool.counts()
        return counts.acked, counts.rejected

    @property
    def malformed(self) -> int:
        return self._uplink.stats.acks_malformed

    @property
    def connected(self) -> bool:
        return self._uplink.connected

    def cut(self) -> None:
        client = self._uplink._client
        assert client is not None
        sock = client.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._folder.mkdir()
        self._spool = Spool(self._folder)
        info = Info(version="1", camera="cam-1", machine="test", python="3.11", anonymiser="test")
        endpoint = Endpoint.parse(self._broker.address)
        self._uplink = Uplink(endpoint, TOPICS, self._spool, BOOT, info, self._settings, random.Random(5))
        self._uplink.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._uplink.stop()
        self._spool.close()


class Simulated(Sender):
    def __init__(self, broker: Broker, times: Times, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="simulated")
        self._errors: list[object] = []
        self._loop.set_exception_handler(lambda _, context: self._errors.append(context))
        self._shore = Shore(broker.host, broker.port, times, self._loop)
        self._ledger = Ledger()
        self._device = Device(self._shore, TOPICS, None, CropMaker(5), self._ledger, BOOT, random.Random(5))

    def accept(self, count: int) -> None:
        def accept() -> None:
            for _ in range(count):
                self._device.accept(time.time_ns() // 1000)

        self._do(accept)

    @property
    def depth(self) -> int:
        return self._device.pending

    @property
    def settled(self) -> tuple[int, int]:
        return self._ledger.acked, self._ledger.rejected

    @property
    def malformed(self) -> int:
        return self._ledger.malformed

    @property
    def connected(self) -> bool:
        return self._device.online

    def cut(self) -> None:
        self._do(lambda: self._device.cut("cut"))

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._device.start)
        self._ticking = asyncio.run_coroutine_threadsafe(self._tick(), self._loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._device.leave(), self._loop).result(20)
        self._ticking.cancel()
        self._do(lambda: None)
        self._shore.diallers.shutdown()
        self._do(lambda: None)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()
        assert not self._errors

    async def _tick(self) -> None:
        while True:
            self._device.tick(time.monotonic())
            await asyncio.sleep(self._shore.times.tick_s)

    def _do(self, work: Callable[[], _T]) -> _T:
        done: Future[_T] = Future()
        self._loop.call_soon_threadsafe(lambda: done.set_result(work()))
        return done.result(20)
