"""Publishing a generation: a signed release, and the rollout that brings it to the camera's devices."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from walt_edge.contract.bundle import Bundle
from walt_edge.contract.errors import WaltError
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.broker.connection import BrokerConfig
from walt_train.loop.publish.desired import set_desired
from walt_train.loop.publish.files import BusyError
from walt_train.loop.publish.repository import Release, Repository
from walt_train.loop.publish.roles import Channel
from walt_train.loop.rollout.engine import RolloutEngine, Tell
from walt_train.loop.serve.jobs import Generation

LOGGER = logging.getLogger(__name__)
_LOOK_EVERY_S = 3600.0
_PATIENCE_S = 120.0
_BUSY_S = 0.2


class Publisher(Protocol):
    """What the last step needs."""

    def publish(self, bundle: Path, devices: Sequence[DeviceTopics], generation: Generation) -> Release:
        """Releases a bundle and begins its rollout; repeated, it gives the release that was made before."""


class Publishing:
    """Publishes in a TUF repository, and begins the rollout of what was published.

    Args:
        repository: Where releases are signed.
        engine: Drives the rollout; its first devices are told at once.
    """

    def __init__(self, repository: Repository, engine: RolloutEngine) -> None:
        self._repository = repository
        self._engine = engine
        self._look_s = 0.0

    def publish(self, bundle: Path, devices: Sequence[DeviceTopics], generation: Generation) -> Release:
        """Releases a bundle once, whatever became of the last attempt, and creates its rollout.

        Signed by `canary`: the rollout has `stable` sign it too before it goes beyond its first devices.

        Raises:
            BundleError: It is no bundle.
            PublishError, KeysError, BusyError: The repository cannot be written, or is held for minutes.
            RolloutError, StoreWriteError: The release stands, and has no rollout: try again.
        """
        checked = Bundle.read(bundle)
        # Another camera's release may have come after ours, so the newest one does not tell whether ours is there.
        release = self._repository.find(checked.sha256) or self._publish(bundle, "canary" if devices else "stable")
        if devices:
            name = f"{checked.manifest.name} ({generation.title})"
            self._engine.rollouts.create(
                release, devices, "walt-loop serve", name=name, camera=generation.camera, generation=generation.number
            )
            self._engine.step()
        return release

    def _publish(self, bundle: Path, role: Channel) -> Release:
        give_up_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._repository.publish(bundle, role)
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
