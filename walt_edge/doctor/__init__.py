"""Looks at everything that the agent needs, one line each, and says what to do where something is amiss.

It changes nothing: it may run beside a running agent, whose folder stays locked and whose broker connection stays its
own. What it writes to measure the disk it removes.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from walt_edge.contract.errors import WaltError
from walt_edge.settings.tree import AgentConfig

LOG = logging.getLogger(__name__)


class State(enum.StrEnum):
    """How a thing is: as it should be, worth a look, or in the agent's way."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line.

    Attributes:
        name: What was looked at.
        state: How it is.
        text: What was found.
        remedy: What to do; empty only where all is well.
    """

    name: str
    state: State
    text: str
    remedy: str = ""

    def __post_init__(self) -> None:
        assert bool(self.remedy) == (self.state is not State.OK), self


Check = Callable[[AgentConfig], Iterable[Finding]]


def ok(name: str, text: str) -> Finding:
    """All is well."""
    return Finding(name, State.OK, text)


def warn(name: str, text: str, remedy: str) -> Finding:
    """Worth a look."""
    return Finding(name, State.WARN, text, remedy)


def fail(name: str, text: str, remedy: str) -> Finding:
    """In the agent's way."""
    return Finding(name, State.FAIL, text, remedy)


def told(name: str, error: WaltError) -> Finding:
    """An error of ours as a line: its text ends with what to do."""
    text, _, remedy = str(error).rpartition("; ")
    if not text:
        text, _, remedy = str(error).rpartition(": ")
    return fail(name, text or str(error), remedy if text else "see docs/guides/edge.md")


def examine(config: AgentConfig, checks: Sequence[Check]) -> Iterator[Finding]:
    """The findings of all checks, as they come; a check that fails itself is a finding too."""
    for check in checks:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        try:
            yield from check(config)
        except WaltError as error:
            yield told(name, error)
        except Exception as error:
            # The boundary of one check: the others are asked all the same.
            LOG.debug("the check %s failed", name, exc_info=True)
            yield fail(name, f"could not be looked at: {type(error).__name__}: {error}", "report this line")


def all_checks() -> tuple[Check, ...]:
    """Every check, in the order of its lines."""
    from walt_edge.doctor import enrolment, folder, machine, network, watching

    return (*machine.CHECKS, *folder.CHECKS, *watching.CHECKS, *enrolment.CHECKS, *network.CHECKS)
