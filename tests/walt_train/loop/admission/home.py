"""A store with devices in it, for tests of admission."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
from sqlalchemy import Engine, insert

from tests.envelopes import sealed
from walt_edge.contract.messages import encode_envelope, envelope_id
from walt_edge.contract.topics import DeviceTopics, Kind
from walt_train.loop.admission.anomaly import Crops
from walt_train.loop.identity.tables import devices
from walt_train.loop.ingest.arrivals import Arrival
from walt_train.loop.store.tables import envelopes

ONE = DeviceTopics("test", "walt-test")
TWO = DeviceTopics("test", "walt-two")
GHOST = DeviceTopics("test", "walt-ghost")
_IDS = itertools.count()


def enrol(engine: Engine, *names: DeviceTopics, revoked: bool = False) -> None:
    with engine.begin() as connection:
        for one in names:
            row = {"device": one.device, "site": one.site, "enrolled_us": 1, "serial": "1", "expires_us": 2**60}
            gone = {"revoked_us": 2 if revoked else None, "revoked_reason": "stolen" if revoked else ""}
            connection.execute(insert(devices), row | gone)


def arrival(number: int, names: DeviceTopics = ONE, kind: Kind = Kind.CROP, camera: str = "cam-1") -> Arrival:
    whole = sealed(number, kind, site=names.site, device=names.device).envelope
    origin = msgspec.structs.replace(whole.header.origin, camera=camera)
    header = msgspec.structs.replace(whole.header, origin=origin)
    data = encode_envelope(msgspec.structs.replace(whole, header=header))
    return Arrival(names.envelope(kind, envelope_id(data)), data)


def put_rows(
    engine: Engine,
    names: DeviceTopics,
    camera: str,
    crops: Crops,
    received_us: Sequence[int],
    held: str | None = None,
) -> None:
    """Rows as an ingest would have written them, without files."""
    rows = [
        {
            "id": f"{next(_IDS):064x}",
            "kind": "crop",
            "site": names.site,
            "device": names.device,
            "camera": camera,
            "captured_us": int(crops.captured_us[at]),
            "clock": "synchronised",
            "boot_id": "boot",
            "monotonic_ns": at,
            "media_time_s": 0.0,
            "received_us": received_us[at],
            "bytes": int(crops.size[at]),
            "holdout": False,
            "held": held,
            "label": int(crops.label[at]),
            "track_id": at,
            "confidence": float(crops.confidence[at]),
            **dict(zip(("x0", "y0", "x1", "y1"), map(float, crops.boxes_xyxy[at]), strict=True)),
            "plate": "",
        }
        for at in range(len(crops))
    ]
    with engine.begin() as connection:
        connection.execute(insert(envelopes), rows)
