"""`walt-edge enroll`: this device becomes known at home, by a token that home gave."""

from __future__ import annotations

import argparse
import getpass
import os
import pwd
import sys
from pathlib import Path

from walt_edge.agent.logs import configure
from walt_edge.config import Home
from walt_edge.contract.enrolment import Token
from walt_edge.contract.errors import UsageError
from walt_edge.identity.credentials import Credentials
from walt_edge.identity.enrolling import enrol
from walt_edge.settings.flags import add_file_arguments, add_home_argument, sources

_MAX_TOKEN_CHARS = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("url", metavar="URL", help="https://HOST:PORT of walt-loop identity")
    parser.add_argument(
        "token", nargs="?", metavar="TOKEN", help="as walt-loop enroll printed it; asked for if absent"
    )
    parser.add_argument("--token-file", metavar="FILE", help="read it from a file; -: from the standard input")
    add_home_argument(parser)
    add_file_arguments(parser.add_argument_group("configuration"))


def run(args: argparse.Namespace) -> int:
    """Enrols; may be run again until it has worked."""
    config = sources(args).load()
    token = Token.parse(_token(args))
    configure(config)
    _check_owner(config.home)
    with Home(config.home) as home:
        enrolled = enrol(home, args.url, token)
        expires = Credentials(config.home).certificate(enrolled).expires
    sys.stdout.write(f"this device is {enrolled.site}/{enrolled.device}, its broker {enrolled.broker}\n")
    sys.stdout.write(f"its certificate lasts until {expires:%Y-%m-%d}; walt-edge run renews it by itself\n")
    return 0


def _token(args: argparse.Namespace) -> str:
    if args.token is not None and args.token_file is not None:
        raise UsageError("a token and --token-file are given: keep one")
    if args.token is not None:
        return str(args.token)
    if args.token_file is None and sys.stdin.isatty():
        return getpass.getpass("token: ")
    if args.token_file in (None, "-"):
        return sys.stdin.read(_MAX_TOKEN_CHARS)
    try:
        with Path(args.token_file).open(encoding="ascii") as file:
            return file.read(_MAX_TOKEN_CHARS)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file {args.token_file} cannot be read: {error}") from error


def _check_owner(home: Path) -> None:
    """Root's files would be closed to the agent, which runs as the folder's owner."""
    try:
        owner = home.stat().st_uid
    except OSError:
        return
    if os.geteuid() == 0 and owner != 0:
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        raise UsageError(f"{home} belongs to {name}: run this as its owner (sudo -u {name} walt-edge enroll ...)")
