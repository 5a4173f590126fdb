"""`walt-loop users`: who may sign in at the dashboard, on the machine itself: who reads the store is an admin anyway.

Passwords are asked for at the terminal, or read from stdin where it is none; never from the command line, which every
process can list.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from walt_edge.contract.errors import UsageError
from walt_train.loop.serve.jobs import now_us
from walt_train.loop.store.arguments import add_store_arguments, open_store
from walt_train.loop.web.access.access import Access
from walt_train.loop.web.access.passwords import check_password
from walt_train.loop.web.access.people import check_name
from walt_train.loop.web.access.person import Person, Role
from walt_train.loop.web.access.tokens import SCOPES

_ROLES = [role.word for role in Role]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add("action", nargs="?", default="list", choices=["list", *_ACTIONS], help="what to do (default: %(default)s)")
    add("name", nargs="?", metavar="NAME", help="whom; not of list")
    add_store_arguments(parser)
    add("--role", choices=_ROLES, help="of add and role: what the person may do")
    add("--scope", choices=list(SCOPES), default="read", help="of token: what it may do (default: %(default)s)")
    add("--days", type=int, default=90, metavar="N", help="of token: how long it lasts (default: %(default)s)")
    add("--for", dest="label", default="made by walt-loop users", metavar="TEXT", help="of token: what it is for")


def run(args: argparse.Namespace) -> int:
    """Lists, or does what was decided."""
    if (args.name is None) != (args.action == "list"):
        raise UsageError("name a person, and what to do: walt-loop users add ann --role operator; list shows who is")
    with open_store(args) as store:
        access = Access.on(store.engine, now_us)
        text = _table(access) if args.action == "list" else _do(access, args)
    sys.stdout.write(text)
    return 0


def _do(access: Access, args: argparse.Namespace) -> str:
    args.name = check_name(args.name)
    line = _ACTIONS[args.action](access, args)
    detail = f"by {_who()} with walt-loop users"
    access.trail.note("", f"people.{args.action}", args.name, detail=detail)
    return f"{line}\n"


def _add(access: Access, args: argparse.Namespace) -> str:
    role = _role(args)
    access.people.add(args.name, role, _password(args.name))
    return f"{args.name} may sign in as {role.word}"


def _set_role(access: Access, args: argparse.Namespace) -> str:
    role = _role(args)
    access.people.set_role(args.name, role)
    return f"{args.name} is {role.word}"


def _set_password(access: Access, args: argparse.Namespace) -> str:
    access.people.read(args.name)
    access.people.set_password(args.name, _password(args.name))
    return f"{args.name} has a new password, and is signed out everywhere"


def _disable(access: Access, args: argparse.Namespace) -> str:
    access.people.disable(args.name)
    return f"{args.name} may not sign in any more; sessions and tokens have ended"


def _enable(access: Access, args: argparse.Namespace) -> str:
    access.people.enable(args.name)
    return f"{args.name} may sign in again"


def _make_token(access: Access, args: argparse.Namespace) -> str:
    owner = access.people.read(args.name)
    if owner.disabled_us is not None:
        raise UsageError(f"{owner.name} may not sign in: walt-loop users enable {owner.name} first")
    token = access.tokens.make(Person(owner.name, owner.role), args.label, args.scope, args.days)
    sys.stderr.write("this token is shown once:\n")
    return token


_ACTIONS: dict[str, Callable[[Access, argparse.Namespace], str]] = {
    "add": _add,
    "role": _set_role,
    "password": _set_password,
    "disable": _disable,
    "enable": _enable,
    "token": _make_token,
}


def _role(args: argparse.Namespace) -> Role:
    if args.role is None:
        raise UsageError(f"say what {args.name} may do: --role {' | '.join(_ROLES)}")
    return Role.of(args.role)


def _password(name: str) -> str:
    if not sys.stdin.isatty():
        return check_password(sys.stdin.readline().rstrip("\r\n"), name)
    password = check_password(getpass.getpass(f"password of {name}: "), name)
    if getpass.getpass("once more: ") != password:
        raise UsageError("the two differ: nothing was changed; try again")
    return password


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _table(access: Access) -> str:
    lines = [f"{'name':<24}  {'role':<8}  {'state':<8}  last sign-in"]
    for one in access.people.all():
        entered = "never" if one.entered_us is None else f"{datetime.fromtimestamp(one.entered_us // 1_000_000, UTC)}"
        state = "disabled" if one.disabled_us is not None else "active"
        lines.append(f"{one.name:<24}  {one.role.word:<8}  {state:<8}  {entered}")
    return "\n".join(lines) + "\n"
