"""How commands are told whom to believe."""

from __future__ import annotations

import argparse

from walt_train.loop.admission.policy import Policy


def add_admission_argument(parser: argparse._ActionsContainer) -> None:
    """Declares `--policy`; `admission_policy` reads it."""
    parser.add_argument(
        "--policy",
        choices=[policy.value for policy in Policy],
        help="who is believed: enrolled devices, or whoever the broker lets in "
        "(default: enrolled with --workers or --cert, else open)",
    )


def admission_policy(args: argparse.Namespace) -> Policy:
    """What was said; else enrolled where the broker knows devices by their certificates.

    Args:
        args: Parsed by a parser that went through `add_admission_argument` and `add_broker_arguments`.
    """
    if args.policy:
        return Policy(args.policy)
    return Policy.ENROLLED if args.workers or args.cert else Policy.OPEN
