"""Publishing a generation: a signed release, and the wish that the camera's devices take it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from walt_edge.contract.bundle import Bundle
from walt_edge.contract.errors import WaltError
from walt_edge.contract.messages import Desired
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.broker.connection import BrokerConfig
from walt_train.loop.publish.desired import set_desired
from walt_train.loop.publish.files import BusyError
from walt_train.loop.publish.repository import Release, Repository

LOGGER = logging.getLogger(__name__)
_LOOK_EVERY_S = 3600.0
_PATIENCE_S = 120.0
_BUSY_S = 0.2

Tell = Callable[[Sequence[DeviceTopics], Desired], None]
"""Makes devices know what they are to run; may be repeated."""


class Publisher(Protocol):
    """What the last step needs."""

    def publish(self, bundle: Path, devices: Sequence[DeviceTopics]) -> Release:
        """Releases a bundle and tells the devices; repeated, it gives the release that was made before."""


class Rollout:
    """Publishes in a TUF repository and tells by MQTT.

    Args:
        repository: Where releases are signed.
        tell: How devices learn of one.
    """

    def __init__(self, repository: Repository, tell: Tell) -> None:
        self._repository = repository
        self._tell = tell
        self._look_s = 0.0

    def publish(self, bundle: Path, devices: Sequence[DeviceTopics]) -> Release:
        """Releases a bundle once, whatever became of the last attempt, and tells the devices.

        Raises:
            BundleError: It is no bundle.
            PublishError, KeysError, BusyError: The repository cannot be written, or is held for minutes.
            BrokerError: The release stands, and the devices do not know of it: try again.
        """
        # Another camera's release may have come after ours, so the newest one does not tell whether ours is there.
        release = self._repository.find(Bundle.read(bundle).sha256) or self._publish(bundle)
        if devices:
            self._tell(devices, Desired(release=release.number, target=release.target, sha256=release.sha256))
        return release

    def _publish(self, bundle: Path) -> Release:
        give_up_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._repository.publish(bundle)
            except BusyError:
                # Another camera's release takes a moment and is no failure of ours.
                if time.monotonic() > give_up_s:
                    raise
                time.sleep(_BUSY_S)

    def keep(self) -> None:
        """Signs the repository anew in time, so that agents go on trusting it while nothing is released."""
        if time.monotonic() < self._look_s:
            return
        self._look_s = time.monotonic() + _LOOK_EVERY_S
        try:
            if self._repository.keep():
                LOGGER.info("the repository was signed anew")
        except WaltError as error:
            LOGGER.error("cannot sign the repository anew: %s", error)


def by_mqtt(broker: BrokerConfig) -> Tell:
    """Tells by retained messages."""
    return lambda devices, desired: set_desired(broker, devices, desired)
