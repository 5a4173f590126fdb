"""Tells devices which release home wants them to run: a retained message for each."""

from __future__ import annotations

from collections.abc import Sequence

from walt_edge.contract.messages import Desired, encode_json
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.broker.connection import BrokerConfig
from walt_train.loop.broker.retained import publish_retained


def set_desired(
    broker: BrokerConfig, devices: Sequence[DeviceTopics], desired: Desired, timeout_s: float = 10.0
) -> None:
    """Publishes the wish, retained, and waits until the broker has taken it for every device.

    Args:
        broker: How to reach the broker; its session settings are not used.
        devices: Whom it is for.
        desired: What they are to run.
        timeout_s: For connecting and for all acknowledgements together.

    Raises:
        BrokerError: Not reachable, refused, or no acknowledgement in time; some of the devices may have been told.
    """
    payload = encode_json(desired)
    publish_retained(broker, {one.desired: payload for one in devices}, "the desired release", timeout_s)
