"""Keeps the mm fork's notices to itself, and gives it the operators that it looks for."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator

from walt_train.model import mmcv_ext


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The packages warn of optional parts and of their own use of torch, and print: none of it helps anybody here."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


mmcv_ext.install()
