"""Why a model was not taken, by what may mend it."""

from __future__ import annotations

from walt_edge.contract.errors import WaltError


class UpdateError(WaltError):
    """A model was not taken; what ran before still runs."""


class RefusedError(UpdateError):
    """This release is not fit for this device: it is not tried again until home wants another."""


class NotNowError(UpdateError):
    """Something else stands in the way, which home or this device may mend: tried again, seldom."""


class UnreachableError(NotNowError):
    """The network or the server fails: tried again soon, with growing pauses."""


class CancelledError(UpdateError):
    """The agent stops, or something more urgent came up."""
