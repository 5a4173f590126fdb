"""The tables of access: people, their sessions, browsers and tokens, who guesses, and what was done."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from walt_train.loop.store.tables import metadata

people = Table(
    "people",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    # Argon2id, as its reference encodes it; "" = none was set.
    Column("password", Text, nullable=False),
    Column("made_us", BigInteger, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    Column("disabled_us", BigInteger),
    Column("entered_us", BigInteger),
)

# A session is known by the hash of its secret; `id` is what its owner sees of it.
web_sessions = Table(
    "web_sessions",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("id", String(16), nullable=False),
    Column("person", String(64), nullable=False),
    Column("made_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
    Column("address", String(64), nullable=False),
    Column("agent", String(160), nullable=False),
    Index("web_sessions_by_person", "person"),
)

web_tokens = Table(
    "web_tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("person", String(64), nullable=False),
    Column("label", String(64), nullable=False),
    Column("scope", String(16), nullable=False),
    Column("made_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("used_us", BigInteger),
    Column("revoked_us", BigInteger),
    Index("web_tokens_by_person", "person"),
)

# A browser in which somebody has signed in before: a stranger's guesses do not make it wait.
web_browsers = Table(
    "web_browsers",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("person", String(64), nullable=False),
    Column("seen_us", BigInteger, nullable=False),
)

# Wrong passwords, by the hash of the address, name or browser that they came from or were meant for.
web_attempts = Table(
    "web_attempts",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("at_us", BigInteger, nullable=False, index=True),
    Column("until_us", BigInteger, nullable=False),
)

# Written, read, and let go by age; never changed.
audit_log = Table(
    "audit_log",
    metadata,
    # Counted by the program: a sequence would not know what a restore has brought.
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False, index=True),
    Column("who", String(64), nullable=False),
    Column("token", String(16), nullable=False),
    Column("what", String(64), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("detail", Text, nullable=False),
    Column("address", String(64), nullable=False),
    Column("outcome", String(16), nullable=False),
    Index("audit_log_by_who", "who", "id"),
)
