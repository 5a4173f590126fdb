"""The root of every error that a person may meet."""

from __future__ import annotations


class WaltError(Exception):
    """Something a person can mend.

    Its text is one line: what was found, and what to do about it. A console script prints it without a
    traceback and exits with `exit_code`.
    """

    exit_code = 1


class UsageError(WaltError):
    """The command cannot be carried out as asked: an argument, a missing extra, a part not built yet."""

    exit_code = 2
