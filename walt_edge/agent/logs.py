"""The agent's log: lines for people or JSON for machines, on standard error, never with a credential in them."""

from __future__ import annotations

import datetime
import json
import logging
import sys
import threading
from types import TracebackType
from typing import Any, Final

from walt_edge.contract.redaction import RedactingFormatter, Redactor, secrets_of
from walt_edge.settings.tree import AgentConfig, LogConfig

LOG = logging.getLogger(__name__)

TEXT_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, thread and message; fields and exception where there are any.

    A lane's thread is called after its camera.

    Args:
        redactor: What to hide.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """The line; credentials are taken out before the text is quoted."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "thread": record.threadName,
            "message": self._redactor(record.getMessage()),
        }
        fields = {key: self._plain(value) for key, value in vars(record).items() if key not in _OWN}
        if fields:
            line["fields"] = fields
        if record.exc_info:
            line["exception"] = self._redactor(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = self._redactor(record.stack_info)
        return json.dumps(line, ensure_ascii=False, allow_nan=True)

    def _plain(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        return self._redactor(str(value))


def configure(config: AgentConfig) -> Redactor:
    """Sets level and form of the whole process's log, and the hooks that catch what nobody caught.

    May be called again with a changed configuration. Returns what hides its secrets, for other places where text
    leaves the process.
    """
    redactor = Redactor(known_secrets(config))
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler())
    for handler in root.handlers:
        handler.setFormatter(_formatter(config.log, redactor))
    root.setLevel(config.log.level)
    logging.captureWarnings(capture=True)
    _install_hooks()
    return redactor


def known_secrets(config: AgentConfig) -> tuple[str, ...]:
    """What must never be read outside of this process."""
    urls = [camera.url.get_secret_value() for camera in config.cameras]
    token = config.web.token.get_secret_value() if config.web.token else None
    updates = config.updates.url.get_secret_value() if config.updates.url else None
    # A recording's path is no secret, whatever it looks like.
    return secrets_of(*(url for url in urls if "://" in url), updates, token)


def _formatter(log: LogConfig, redactor: Redactor) -> logging.Formatter:
    return JsonFormatter(redactor) if log.format == "json" else RedactingFormatter(TEXT_FORMAT, redactor)


def _install_hooks() -> None:
    """Uncaught errors go through the log, which redacts them, instead of to standard error as they are."""

    def uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, traceback)
        else:
            LOG.critical("ended by an error that nobody expected", exc_info=(kind, error, traceback))

    def uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit:
            return
        name = args.thread.name if args.thread else "unknown"
        error = args.exc_value or args.exc_type()
        LOG.critical("the thread %s ended", name, exc_info=(args.exc_type, error, args.exc_traceback))

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        error = args.exc_value or args.exc_type()
        LOG.error(args.err_msg or "ignored", exc_info=(args.exc_type, error, args.exc_traceback))

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread
    sys.unraisablehook = unraisable
