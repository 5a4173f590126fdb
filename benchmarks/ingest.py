"""How many crops a second the store at home takes, durably and answered, against what the disk itself allows.

    python -m benchmarks.ingest --out ingest.json

The raw limit is measured in the same run, on the same folder and with the same bytes: a file written and fsynced for
every crop, alone and by eight threads, before and after the rest. Then the store by itself (groups of 32, files and
folders fsynced, SQLite synchronous=FULL), and the whole: a real Mosquitto, `walt-loop ingest` as a process, and a
sender that waits for home's answers.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.report import Report, arguments
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import encode_rle
from walt_edge.contract.messages import (
    CONTENT_TYPE_ENVELOPE,
    SCHEMA_VERSION,
    Clock,
    CropHeader,
    Envelope,
    Moment,
    Origin,
    decode_envelope,
    encode_envelope,
    envelope_id,
)
from walt_edge.contract.topics import DeviceTopics, Kind
from walt_train.loop.children import Stations, program
from walt_train.loop.demo.broker import HOST, start_broker
from walt_train.loop.store import Accepted, Store

TOPICS = DeviceTopics("bench", "walt-bench")
GROUP = 32
THREADS = 8
SIDE_PX = 200
OUTSTANDING = 200
WAIT_S = 120.0


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path, help="on the disk to measure (default: the system's temporary folder)")
    parser.add_argument("--crops", type=int, default=2000)
    parser.add_argument("--kilobytes", type=int, default=60, help="of a crop")
    args = parser.parse_args()
    count = min(args.crops, 500) if args.quick else args.crops
    crops = make_crops(count, args.kilobytes * 1000, args.seed)
    report = Report("ingest", {"crops": count, "seed": args.seed})
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        root = Path(folder)
        alone = [raw_rate(root / "raw-a", crops[: count // 4], 1)]
        together = [raw_rate(root / "raw-b", crops, THREADS)]
        by_itself = store_rate(root / "store-a", crops)
        whole = wire_rate(root, crops)
        alone.append(raw_rate(root / "raw-c", crops[: count // 4], 1))
        together.append(raw_rate(root / "raw-d", crops, THREADS))
    limit = float(np.mean(together))
    report.add("crop", float(np.mean([len(data) for data in crops])) / 1e3, "kB")
    report.add("write + fsync, one thread", float(np.mean(alone)), "crops/s")
    report.add(f"write + fsync, {THREADS} threads (the disk's limit)", limit, "crops/s")
    report.add("store.add_group, files and rows durable", by_itself, "crops/s")
    report.add("ingest over MQTT, stored and answered", whole, "crops/s", target=500)
    report.add("ingest, share of the limit", 100 * whole / limit, "%")
    report.finish(args.out)


def make_crops(count: int, size: int, seed: int) -> list[bytes]:
    """Envelopes of `size` bytes, all different; what stands for the image is noise, since nobody decodes it."""
    noise = np.random.default_rng(seed)
    mask = np.zeros((SIDE_PX, SIDE_PX), dtype=bool)
    mask[10:-10, 40:-40] = True
    rle = encode_rle(mask)
    origin = Origin(
        site="bench", device="walt-bench", camera="cam-1", model="none", anonymiser="none", frame_wh=(640, 360)
    )
    crops = []
    for number in range(count):
        header = CropHeader(
            origin=origin,
            captured=Moment(
                utc_us=number, boot_id="boot", monotonic_ns=number, clock=Clock.SYNCHRONISED, media_time_s=0.0
            ),
            box_xyxy=(40, 10, 160, 190),
            label=Label.VEHICLE,
            score=0.9,
            unoccluded_confidence=0.9,
            confidence_parts={"neighbour": 1.0, "border": 1.0},
            track_id=number,
            stationary_us=None,
            ground_xy=(100, 190),
            crop_xy=(0, 0),
            mask=rle,
            plate="",
            holdout=False,
        )
        image = b"\xff\xd8\xff" + noise.bytes(size)
        envelope = Envelope(
            schema=SCHEMA_VERSION, header=header, media_type="image/jpeg", image_wh=(SIDE_PX, SIDE_PX), image=image
        )
        crops.append(encode_envelope(envelope))
    return crops


def raw_rate(folder: Path, crops: list[bytes], threads: int) -> float:
    """Files a second: written, fsynced, and nothing else."""
    folder.mkdir()

    def put(number: int) -> None:
        with (folder / str(number)).open("wb") as file:
            file.write(crops[number])
            file.flush()
            os.fsync(file.fileno())

    with ThreadPoolExecutor(threads) as pool:
        start_s = time.perf_counter()
        list(pool.map(put, range(len(crops))))
        return len(crops) / (time.perf_counter() - start_s)


def store_rate(folder: Path, crops: list[bytes]) -> float:
    """Crops a second into the store, without a broker; decoding and checking are in it."""
    with Store(folder) as store:
        start_s = time.perf_counter()
        for at in range(0, len(crops), GROUP):
            group = crops[at : at + GROUP]
            store.add_group([Accepted(envelope_id(data), decode_envelope(data), data) for data in group])
        return len(crops) / (time.perf_counter() - start_s)


def wire_rate(root: Path, crops: list[bytes]) -> float:
    """Crops a second from the first publish to home's last answer."""
    logs = root / "logs"
    logs.mkdir()
    with Stations(logs) as stations:
        _, port = start_broker(stations, root / "broker")
        words = [program("walt-loop"), "ingest", "--broker", f"{HOST}:{port}", "--store", str(root / "store-b")]
        ingest = stations.start("ingest", words)
        ingest.wait_for(lambda: "connected to" in ingest.said(), WAIT_S, "connecting")
        sender = Sender(port)
        start_s = time.perf_counter()
        sender.send(crops)
        took_s = time.perf_counter() - start_s
        sender.close()
        ingest.ask_to_stop()
        ingest.wait(WAIT_S)
    with Store(root / "store-b") as store:
        held = store.counts().crops
    if held != len(crops):
        raise SystemExit(f"sent {len(crops)} crops, the store holds {held}")
    return len(crops) / took_s


class Sender:
    """Publishes crops, at most `OUTSTANDING` of them unanswered."""

    def __init__(self, port: int) -> None:
        self._room = threading.Semaphore(OUTSTANDING)
        self._answered: set[str] = set()
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bench", protocol=mqtt.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(TOPICS.acks, qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self._client.connect(HOST, port)
        self._client.loop_start()
        self._ready.wait(WAIT_S)

    def send(self, crops: list[bytes]) -> None:
        """Publishes all and waits for the last answer."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = CONTENT_TYPE_ENVELOPE
        properties.UserProperty = [("schema", str(SCHEMA_VERSION))]
        for data in crops:
            if not self._room.acquire(timeout=WAIT_S):
                raise SystemExit(f"no answer for {WAIT_S:.0f} s after {len(self._answered)} crops")
            topic = TOPICS.envelope(Kind.CROP, hashlib.sha256(data).hexdigest())
            self._client.publish(topic, data, qos=1, properties=properties)
        for _ in range(OUTSTANDING):
            self._room.acquire(timeout=WAIT_S)

    def close(self) -> None:
        """Ends the connection."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _: mqtt.Client, __: object, message: mqtt.MQTTMessage) -> None:
        if msgspec.json.decode(message.payload)["state"] == "stored":
            self._answered.add(message.topic)
        self._room.release()


if __name__ == "__main__":
    main()
