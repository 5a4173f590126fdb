"""Secrets that are shown once and stored as their hash."""

from __future__ import annotations

import hashlib
import hmac
import secrets


def new_secret() -> str:
    """256 random bits, for a cookie or a token."""
    return secrets.token_urlsafe(32)


def new_id() -> str:
    """A name that tells nothing, 16 hexadecimal digits."""
    return secrets.token_hex(8)


def digest(secret: str) -> str:
    """What is stored of a secret. It is as long as its hash, so that one round is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def derived(secret: str, purpose: str) -> str:
    """What a secret's holder proves it with in a form, without showing it."""
    return hmac.new(secret.encode("utf-8", "surrogatepass"), purpose.encode(), hashlib.sha256).hexdigest()


def is_same(one: str, other: str) -> bool:
    """Compares in the same time wherever they differ."""
    return hmac.compare_digest(digest(one), digest(other))
