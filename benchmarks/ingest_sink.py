"""A bare subscriber in the ingest's place: it answers every crop at once and stores nothing; the broker's limit.

python -m benchmarks.ingest_sink HOST PORT FOLDER-OF-WORKERS
"""

from __future__ import annotations

import sys
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from walt_edge.contract.messages import Ack, AckState, encode_json
from walt_edge.contract.topics import ROOT, DeviceTopics, EnvelopeTopic
from walt_train.loop.broker.arguments import INGEST

ANSWER = encode_json(Ack(AckState.STORED))


def main() -> None:
    """Runs until it is ended."""
    host, port, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    own = str(folder / f"{INGEST}.pem")
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="sink", protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(1000)
    client.tls_set(str(folder / "home-ca.pem"), own, own)
    client.on_connect = lambda c, *_: c.subscribe([(f"{ROOT}/+/+/crop/+", SubscribeOptions(qos=1))])
    client.on_subscribe = lambda *_: print("connected", flush=True)
    client.on_message = _answer
    client.connect(host, port)
    client.loop_forever()


def _answer(client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
    topic = EnvelopeTopic.parse(message.topic)
    client.publish(DeviceTopics(topic.site, topic.device).ack(topic.sha256), ANSWER, qos=1)


if __name__ == "__main__":
    main()
