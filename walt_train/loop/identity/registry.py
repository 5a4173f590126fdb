"""Which devices there are, which certificates they have, and which tokens let new ones in.

A token is spent in the transaction that records the device and its certificate, so that a kill leaves all of it or
nothing. Where the answer got lost, the device asks again with the same key and gets the same certificate; whoever
comes with another key finds the token spent.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from walt_edge.contract.enrolment import GRACE_DAYS, Token
from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.topics import DeviceTopics, check_name
from walt_train.loop.identity.authority import Clock, DeviceCertificate, Revoked, common_name, utc_now
from walt_train.loop.identity.mosquitto import Revocations
from walt_train.loop.identity.tables import certificates, devices, enrolment_tokens
from walt_train.loop.store.database import transaction

_LIVE_MAX: Final = 8
_GRACE_US: Final = GRACE_DAYS * 86_400_000_000

Issue = Callable[[DeviceTopics], DeviceCertificate]


class RefusedError(WaltError):
    """Somebody may not have a certificate; the text may be told to whoever asked."""


class WrongTokenError(RefusedError):
    """The token is none of ours: whoever tries is to be slowed down."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device that was enrolled.

    Attributes:
        device: Its id.
        site: Where it belongs.
        enrolled_us: When it was, the last time.
        revoked_us: Since when it no longer counts; None = it does.
        revoked_reason: Why.
        serial: Of its newest certificate.
        expires_us: When that ends.
    """

    device: str
    site: str
    enrolled_us: int
    revoked_us: int | None
    revoked_reason: str
    serial: str
    expires_us: int

    @property
    def names(self) -> DeviceTopics:
        """Site and device."""
        return DeviceTopics(self.site, self.device)


class Registry:
    """Devices and tokens in the store's database; any number of processes may use it.

    Args:
        engine: Of the store.
        clock: What time it is.
    """

    def __init__(self, engine: Engine, clock: Clock = utc_now) -> None:
        self._engine = engine
        self._clock = clock

    # -- looking ------------------------------------------------------------------------------------------

    def get(self, device: str) -> Device | None:
        """A device by its id; None if it was never enrolled."""
        with self._engine.connect() as connection:
            row = _row(connection, devices, devices.c.device == device)
        return Device(**row) if row else None

    def all(self) -> list[Device]:
        """Every device, by site and id."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(devices).order_by(devices.c.site, devices.c.device)).mappings()
            return [Device(**row) for row in rows]

    def revocations(self) -> Revocations:
        """What the broker must refuse."""
        with self._engine.connect() as connection:
            gone = select(certificates.c.serial, certificates.c.revoked_us)
            gone = gone.where(certificates.c.revoked_us.is_not(None), certificates.c.expires_us > self._now_us())
            silent = select(devices.c.site, devices.c.device).where(devices.c.revoked_us.is_not(None))
            return Revocations(
                tuple(Revoked(serial, _utc(us)) for serial, us in connection.execute(gone)),
                tuple(DeviceTopics(site, device) for site, device in connection.execute(silent)),
            )

    # -- tokens -------------------------------------------------------------------------------------------

    def make_token(self, fingerprint: str, site: str, device: str | None = None, hours: float = 24.0) -> Token:
        """A token for one device; only its hash is kept.

        Args:
            fingerprint: Of home's certificate authority.
            site: Where the device will belong.
            device: Its id, also of one that is known or revoked; None for one that is not known yet.
            hours: It counts for so long.

        Raises:
            UsageError: A name is too long, or the time is none.
            TopicError: A name cannot stand in a topic.
            StoreWriteError: It cannot be written.
        """
        common_name(DeviceTopics(site, device or "walt-0123456789abcdef"))
        if not 0 < hours <= 24 * 366:
            raise UsageError(f"a token of {hours:g} hours: give more than 0 and at most a year")
        token, now_us = Token.make(fingerprint), self._now_us()
        row = {
            "id": token.id,
            "secret_sha256": _digest(token),
            "site": site,
            "device": device,
            "made_us": now_us,
            "expires_us": now_us + round(hours * 3_600_000_000),
        }
        with transaction(self._engine) as connection:
            connection.execute(delete(enrolment_tokens).where(enrolment_tokens.c.expires_us < now_us))
            connection.execute(insert(enrolment_tokens), row)
        return token

    # -- certificates -------------------------------------------------------------------------------------

    def enrol(self, token: Token, device: str | None, key_sha256: str, issue: Issue) -> DeviceCertificate | str:
        """Spends a token and records a device.

        Args:
            token: What the device shows.
            device: The id that it has already, if any.
            key_sha256: Of its public key.
            issue: Signs a certificate for that key.

        Returns:
            The certificate, or the PEM of the one that was given for this token and key before.

        Raises:
            WrongTokenError: There is no such token.
            RefusedError: It is spent or too old, or the device is another's or known.
            StoreWriteError: It cannot be written; the token is as it was.
        """
        try:
            with transaction(self._engine) as connection:
                row = self._checked(connection, token)
                if row["spent_us"] is not None:
                    return _given(connection, row, key_sha256, self._now_us())
                names = DeviceTopics(row["site"], _agreed(row["device"], device))
                known = _row(connection, devices, devices.c.device == names.device)
                if known and row["device"] is None:
                    raise RefusedError(
                        f"{names.device} is enrolled already: it needs a token of its own "
                        f"(walt-loop enroll --site {names.site} --device {names.device})"
                    )
                spent = {"spent_us": self._now_us(), "spent_by": names.device, "key_sha256": key_sha256}
                connection.execute(update(enrolment_tokens).where(enrolment_tokens.c.id == token.id).values(spent))
                _revoke_certificates(connection, names.device, self._now_us())
                certificate = issue(names)
                self._record(connection, certificate, key_sha256)
                self._enter(connection, certificate, known is not None)
                return certificate
        except IntegrityError as error:
            raise RefusedError(f"{device} is being enrolled by somebody else at this moment") from error

    def renew(self, shown: DeviceCertificate, key_sha256: str, issue: Issue) -> DeviceCertificate | str:
        """Records the next certificate of a device that has proven to hold the key of one that it has.

        Args:
            shown: The certificate that it has, checked.
            key_sha256: Of its new public key.
            issue: Signs a certificate for that key.

        Returns:
            As `enrol`.

        Raises:
            RefusedError: It is revoked, too new, or too old.
            StoreWriteError: It cannot be written.
        """
        now, device = self._clock(), shown.names.device
        if now < shown.renew_from:
            raise RefusedError(f"this certificate may be renewed from {shown.renew_from:%Y-%m-%d} on")
        if now >= shown.renew_until:
            raise RefusedError("this certificate expired too long ago: enrol the device anew (walt-loop enroll)")
        with transaction(self._engine) as connection:
            known = _row(connection, devices, devices.c.device == device)
            held = _row(connection, certificates, certificates.c.serial == shown.serial)
            if not known or not held or held["revoked_us"] or known["revoked_us"]:
                raise RefusedError(f"{device} is revoked: enrol it anew (walt-loop enroll --device {device})")
            live = _live(connection, device, self._now_us())
            again = next((row for row in live if row["key_sha256"] == key_sha256), None)
            if again is not None and again["issued_us"] > held["issued_us"]:
                return str(again["pem"])
            if again is not None or held["key_sha256"] == key_sha256:
                raise RefusedError("a renewal takes a new key")
            if len(live) >= _LIVE_MAX:
                raise RefusedError(f"{device} has {_LIVE_MAX} certificates that count: use the newest")
            certificate = issue(DeviceTopics(known["site"], device))
            self._record(connection, certificate, key_sha256)
            values = {"serial": certificate.serial, "expires_us": _us(certificate.expires)}
            connection.execute(update(devices).where(devices.c.device == device).values(values))
            return certificate

    def revoke(self, names: DeviceTopics, reason: str) -> bool:
        """Has a device no longer count, and none of its certificates; False if it was revoked before.

        Raises:
            UsageError: There is no such device.
            StoreWriteError: It cannot be written.
        """
        with transaction(self._engine) as connection:
            known = _row(connection, devices, devices.c.device == names.device)
            if known is None or known["site"] != names.site:
                raise UsageError(f"no device {names.site}/{names.device} was enrolled: walt-loop devices lists them")
            if known["revoked_us"] is not None:
                return False
            values = {"revoked_us": self._now_us(), "revoked_reason": reason}
            connection.execute(update(devices).where(devices.c.device == names.device).values(values))
            _revoke_certificates(connection, names.device, self._now_us())
            return True

    def forget_old(self) -> None:
        """Removes certificates and tokens that can be of no use to anybody any more; raises StoreWriteError."""
        now_us = self._now_us()
        with transaction(self._engine) as connection:
            connection.execute(delete(certificates).where(certificates.c.expires_us < now_us - _GRACE_US))
            connection.execute(delete(enrolment_tokens).where(enrolment_tokens.c.expires_us < now_us))

    def _checked(self, connection: Connection, token: Token) -> RowMapping:
        row = _row(connection, enrolment_tokens, enrolment_tokens.c.id == token.id)
        if not hmac.compare_digest(row["secret_sha256"] if row else "", _digest(token)) or row is None:
            raise WrongTokenError("this token is none of ours: ask for a new one (walt-loop enroll)")
        if row["expires_us"] <= self._now_us():
            raise RefusedError("this token is too old: ask for a new one (walt-loop enroll)")
        return row

    def _record(self, connection: Connection, certificate: DeviceCertificate, key_sha256: str) -> None:
        row = {
            "serial": certificate.serial,
            "device": certificate.names.device,
            "key_sha256": key_sha256,
            "pem": certificate.pem.decode(),
            "issued_us": self._now_us(),
            "expires_us": _us(certificate.expires),
        }
        connection.execute(insert(certificates), row)

    def _enter(self, connection: Connection, certificate: DeviceCertificate, is_known: bool) -> None:
        values = {
            "device": certificate.names.device,
            "site": certificate.names.site,
            "enrolled_us": self._now_us(),
            "revoked_us": None,
            "revoked_reason": "",
            "serial": certificate.serial,
            "expires_us": _us(certificate.expires),
        }
        if is_known:
            connection.execute(update(devices).where(devices.c.device == certificate.names.device).values(values))
        else:
            connection.execute(insert(devices), values)

    def _now_us(self) -> int:
        return _us(self._clock())


def key_hash(public: ec.EllipticCurvePublicKey) -> str:
    """How a public key is told from others: the sha256 of its DER, hexadecimal."""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _row(connection: Connection, table: Table, condition: ColumnElement[bool]) -> RowMapping | None:
    """The one row, held until the transaction ends."""
    return connection.execute(select(table).where(condition).with_for_update()).mappings().one_or_none()


def _live(connection: Connection, device: str, now_us: int) -> Sequence[RowMapping]:
    """The certificates of a device that count, the newest first."""
    wanted = select(certificates).where(
        certificates.c.device == device, certificates.c.expires_us > now_us, certificates.c.revoked_us.is_(None)
    )
    return connection.execute(wanted.order_by(certificates.c.issued_us.desc())).mappings().all()


def _given(connection: Connection, token: RowMapping, key_sha256: str, now_us: int) -> str:
    """What a spent token was spent on, for the one who spent it."""
    if token["key_sha256"] != key_sha256:
        raise RefusedError("this token was used: ask for a new one (walt-loop enroll)")
    for row in _live(connection, token["spent_by"], now_us):
        if row["key_sha256"] == key_sha256:
            return str(row["pem"])
    raise RefusedError("what this token gave no longer counts: ask for a new one (walt-loop enroll)")


def _agreed(named: str | None, own: str | None) -> str:
    """The device's id: what the token says, else what the device says, else a new one."""
    if named and own and named != own:
        raise RefusedError(f"this token is for {named}, this device is {own}: ask for one of its own")
    return check_name(named or own or f"walt-{secrets.token_hex(8)}", "device")


def _revoke_certificates(connection: Connection, device: str, now_us: int) -> None:
    """All that a device had: what it gets next, or nothing, takes their place."""
    held = update(certificates).where(certificates.c.device == device, certificates.c.revoked_us.is_(None))
    connection.execute(held.values(revoked_us=now_us))


def _digest(token: Token) -> str:
    return hashlib.sha256(token.secret.encode()).hexdigest()


def _us(moment: datetime.datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _utc(us: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(us / 1_000_000, datetime.UTC)
