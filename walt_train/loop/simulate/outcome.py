"""What a simulation has measured, for people and as JSON."""

from __future__ import annotations

import msgspec
import numpy as np


class Hostilities(msgspec.Struct, frozen=True, kw_only=True):
    """What hostile devices tried, and what became of it; `believed` and `overheard` must be 0."""

    tried: dict[str, int]
    rejected: int
    refused: int
    believed: int
    overheard: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Of one run. Counts are crops unless a name says otherwise.

    Attributes:
        devices: How many took part.
        connected_s: From the first attempt until all were online.
        measured_s: From the first publish of a crop until the last answer.
        accepted: Crops that devices promised; `acked` + `rejected` + `pending`, always.
        acked: What home said it has; `duplicates` among them were answered once more after a resend.
        rejected: What home refused for good.
        pending: What home had not spoken about at the end.
        lost: What devices had promised, home had not refused, and the store does not hold; None: nobody looked.
        doubled: Rows of the store that tell of a crop that another row tells of as well; None: nobody looked.
        stored_twice: What home said twice it had newly stored.
        sent: Publishes, `resent` among them; `unheard` met no subscriber, `refused` the broker's ACL.
        crops_per_second: `acked` over `measured_s`.
        ack_ms_p50: From a crop's first publish to home's answer, milliseconds; the median.
        ack_ms_p99: The same, the slowest hundredth.
        connects: Connections, all devices.
        failures: Attempts that failed and connections that were lost.
        why: The last of these, in a few words.
        apart_s: The longest time in which not all devices were online, once they had been.
        status_sent: Status messages published by devices.
        status_heard: Status messages that the counting subscriber got, last wills among them.
        status_wrong: Devices whose last status, as home would see it, was not what they had said last.
        telemetry_sent: Telemetry messages published.
        telemetry_heard: Telemetry messages that the counting subscriber got.
        hostilities: Of the hostile devices.
        lag_ms_max: The longest that the simulator itself kept its devices waiting.
        cpu_s: Processor time of the simulator, from the first attempt to connect until the last answer.
        peak_mb: Its memory at most, MiB.
    """

    devices: int
    connected_s: float
    measured_s: float
    accepted: int
    acked: int
    duplicates: int
    rejected: int
    pending: int
    stored_twice: int
    lost: int | None = None
    doubled: int | None = None
    sent: int
    resent: int
    unheard: int
    refused: int
    crops_per_second: float
    ack_ms_p50: float
    ack_ms_p99: float
    connects: int
    failures: int
    why: str
    apart_s: float
    status_sent: int
    status_heard: int
    status_wrong: int
    telemetry_sent: int
    telemetry_heard: int
    hostilities: Hostilities
    lag_ms_max: float
    cpu_s: float
    peak_mb: float

    @property
    def flawless(self) -> bool:
        """Whether home has heard everything, and nothing twice."""
        hostile = self.hostilities.believed + self.hostilities.overheard
        unheard = self.pending or self.rejected or self.lost or self.status_wrong
        return not (unheard or self.doubled or self.stored_twice or hostile)

    def lines(self) -> list[str]:
        """The outcome in words."""
        apart = f"; not all for {self.apart_s:.1f} s" if self.failures else ""
        text = [
            f"devices    {self.devices:,} connected in {self.connected_s:.1f} s, {self.connects:,} connections, "
            f"{self.failures:,} failures{f' (last: {self.why})' if self.failures else ''}{apart}",
            f"crops      {self.accepted:,} accepted = {self.acked:,} acked + {self.rejected:,} rejected "
            f"+ {self.pending:,} pending",
            f"answers    {self.crops_per_second:,.1f} crops/s over {self.measured_s:.1f} s; p50 "
            f"{self.ack_ms_p50:,.0f} ms, p99 {self.ack_ms_p99:,.0f} ms; {self.duplicates:,} duplicates, "
            f"{self.stored_twice:,} stored twice",
            f"publishes  {self.sent:,}, {self.resent:,} of them again, {self.unheard:,} heard by nobody, "
            f"{self.refused:,} refused",
            f"heard      {self.status_heard:,} statuses of {self.status_sent:,} sent ({self.status_wrong:,} devices "
            f"wrong at the end), {self.telemetry_heard:,} of {self.telemetry_sent:,} telemetry messages",
            f"simulator  {self.cpu_s:.1f} s of processor, {self.peak_mb:,.0f} MiB at most, late by "
            f"{self.lag_ms_max:,.0f} ms at most",
        ]
        if self.lost is not None:
            text.append(f"store      {self.lost:,} crops lost, {self.doubled:,} doubled")
        if self.hostilities.tried:
            tried = ", ".join(f"{count} x {what}" for what, count in self.hostilities.tried.items())
            text.append(
                f"hostile    {tried}: {self.hostilities.rejected:,} rejected by home, "
                f"{self.hostilities.refused:,} refused by the broker, {self.hostilities.believed:,} believed, "
                f"{self.hostilities.overheard:,} messages of others overheard"
            )
        return text


def percentile_ms(values_s: list[float], percent: float) -> float:
    """A percentile in milliseconds; 0 if there is nothing."""
    return float(np.percentile(values_s, percent)) * 1e3 if values_s else 0.0
