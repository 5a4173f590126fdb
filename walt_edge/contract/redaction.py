"""Takes passwords and tokens out of text that somebody will read: log lines, error lines, tracebacks, `ps`.

Rather too much than too little: what looks like a credential goes, and so does every secret that is known by value.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urlsplit

HIDDEN: Final = "***"
_KNOWN_CHARS_MIN: Final = 4  # a shorter secret, replaced wherever it stands, would take the log apart
_NAMES = r"(?<![A-Za-z])(?:pass(?:word|wd|phrase)?|pwd|token|secret|api_?key|auth|sig(?:nature)?)"
# A slash or an @ inside of a password is wrong in a URL and common in practice: up to the last @ of the word.
_USER_AND_PASSWORD = re.compile(r"(?<=://)([^/\s@:\"'<>]*):([^\s\"'<>]*)@")
_USER_ALONE = re.compile(r"(?<=://)([^/\s@:?#\"'<>]+)@")
_ASSIGNED = re.compile(rf"({_NAMES}(?:=|[\"']\s*:\s*)[\"']?)([^\s&\"'<>,;)\]}}]+)", re.IGNORECASE)
_HEADER = re.compile(r"(authorization[\"']?\s*[:=]\s*[\"']?(?:\w+\s+)?|\bbearer\s+)([^\s\"',]{8,})", re.IGNORECASE)
# As walt_edge.contract.enrolment.Token writes itself, whole or cut short.
_ENROLMENT = re.compile(r"\bwalt1\.[0-9a-f]{16}\.[0-9a-f.]+")


@dataclass(frozen=True, slots=True, repr=False)
class Redactor:
    """Replaces credentials by `***`.

    Attributes:
        secrets: Known by value, beside what is known by its looks.
    """

    secrets: tuple[str, ...] = ()

    def __call__(self, text: str) -> str:
        """The text without credentials; the user of a URL with a password stays."""
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        if "://" in text:
            text = _USER_AND_PASSWORD.sub(rf"\1:{HIDDEN}@", text)
            text = _USER_ALONE.sub(f"{HIDDEN}@", text)
        text = _ENROLMENT.sub(HIDDEN, text)
        return _HEADER.sub(rf"\1{HIDDEN}", _ASSIGNED.sub(rf"\1{HIDDEN}", text))


redact: Final = Redactor()
"""By looks alone."""


def secrets_of(*texts: str | None) -> tuple[str, ...]:
    """The secrets in URLs and tokens, in every spelling that may be met; the longest first.

    Args:
        texts: URLs, of which the password counts, and bare tokens, which count whole.
    """
    found: set[str] = set()
    for text in texts:
        for secret in _bare(text or ""):
            found |= {secret, unquote(secret), quote(secret, safe=""), quote(unquote(secret), safe="")}
    return tuple(sorted((one for one in found if len(one) >= _KNOWN_CHARS_MIN), key=len, reverse=True))


def _bare(text: str) -> tuple[str, ...]:
    if "://" not in text:
        return (text,)
    by_looks = tuple(match[2] for match in _USER_AND_PASSWORD.finditer(text))
    try:
        return (*by_looks, urlsplit(text).password or "")
    except ValueError:
        return by_looks


class RedactingFormatter(logging.Formatter):
    """A formatter whose whole output, tracebacks included, is without credentials.

    Args:
        format_: As `logging.Formatter` takes it.
        redactor: What to hide.
    """

    def __init__(self, format_: str | None = None, redactor: Redactor = redact) -> None:
        super().__init__(format_)
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """The line, redacted as a whole: message, arguments, exception and stack."""
        return self._redactor(super().format(record))
