"""The tables of identity: devices, the certificates that they were given, and tokens that let new ones in."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table, Text

from walt_train.loop.store.tables import metadata

devices = Table(
    "devices",
    metadata,
    Column("device", String(64), primary_key=True),
    Column("site", String(64), nullable=False),
    # The newest enrolment.
    Column("enrolled_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
    Column("revoked_reason", Text, nullable=False),
    # Of the newest certificate, hexadecimal.
    Column("serial", String(40), nullable=False),
    Column("expires_us", BigInteger, nullable=False),
)

# Every certificate that may still matter: an older one counts until it expires, and is shown when a renewal got lost.
certificates = Table(
    "certificates",
    metadata,
    Column("serial", String(40), primary_key=True),
    Column("device", String(64), nullable=False),
    # sha256 of the public key: who asks again with the same one gets the same certificate.
    Column("key_sha256", String(64), nullable=False),
    Column("pem", Text, nullable=False),
    Column("issued_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
    Index("certificates_by_device", "device", "expires_us"),
)

enrolment_tokens = Table(
    "enrolment_tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("secret_sha256", String(64), nullable=False),
    Column("site", String(64), nullable=False),
    # The only device that it is for; NULL = any that is not known yet.
    Column("device", String(64)),
    Column("made_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("spent_us", BigInteger),
    # By which device, with which key.
    Column("spent_by", String(64)),
    Column("key_sha256", String(64)),
)
