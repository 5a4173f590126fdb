"""Home's certificates, at first and at every renewal: authorities, broker, identity, workers, web; an offline copy.

    setup.py --home ./loop --store ./store --host home.example --web walt.example --copy FILE --passphrase FILE

It calls `walt-loop broker`, adds a certificate for home's web and updates, prints what goes where and when it ends,
and may be run again at any time: what still lasts stays. Both authorities sign themselves and must be at hand where
`walt-loop identity` runs, which renews what it gave (decisions 21 and 30); what belongs offline is their copy.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

from cryptography import x509

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.files import write_private
from walt_train.loop.cli import SCRIPT
from walt_train.loop.identity.authority import Authority, utc_now
from walt_train.loop.identity.pairs import keep_server
from walt_train.loop.store.arguments import BLOBS_VARIABLE, DATABASE_VARIABLE

_AUTHORITIES = ("home-ca.key", "home-ca.pem", "devices-ca.key", "devices-ca.pem")
# Who needs which file, by its path below --home, and how it is renewed.
_PLACES = (
    ("identity/home-ca.pem", "whoever checks home: serve's and web's clients", "every device is enrolled anew"),
    ("identity/devices-ca.pem", "the broker's door for devices", "every device is enrolled anew"),
    ("identity/server.pem", "walt-loop identity", "by itself, while identity runs"),
    ("mosquitto/broker.pem", "Mosquitto", "by itself, while identity runs"),
    ("workers/walt-ingest.pem", "walt-loop ingest", "by itself, while identity runs; copy it to ingest"),
    (
        "workers/walt-home.pem",
        "walt-loop serve, web, fleet",
        "by itself, while identity runs; copy it to them",
    ),
    ("tls/web.pem", "walt-loop web and serve", "run this again"),
)


def main(argv: list[str] | None = None) -> int:
    """Makes or renews, then prints the table."""
    args, rest = _parser().parse_known_args(argv)
    try:
        if args.copy is not None:
            _check(args.passphrase)
        _make(args, rest)
        if args.copy is not None:
            _copy(args.home / "identity", args.copy, args.passphrase)
    except (WaltError, OSError) as error:
        sys.stderr.write(f"setup.py: {error}\n")
        return 1
    sys.stdout.write("\n".join(_table(args.home)) + "\n")
    if args.copy is not None:
        sys.stdout.write(f"{args.copy}: both authorities, encrypted; keep it offline, and its passphrase elsewhere\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="setup.py",
        description="Whatever is not named here goes to walt-loop broker (--store, --workers-host, --seen-as ...).",
    )
    add = parser.add_argument
    add("--home", required=True, type=Path, metavar="DIR", help="made if absent: identity, mosquitto, workers, tls")
    add("--host", action="append", required=True, metavar="NAME", help="by which devices meet home")
    add("--web", action="append", default=[], metavar="NAME", help="of web and serve (default: the hosts)")
    add("--copy", type=Path, metavar="FILE", help="writes both authorities there, encrypted by --passphrase")
    add("--passphrase", type=Path, metavar="FILE", help="its first line opens the copy; 20 characters or more")
    return parser


def _make(args: argparse.Namespace, rest: list[str]) -> None:
    words = ["broker", "--home", str(args.home), *rest]
    for host in args.host:
        words += ["--host", host]
    with tempfile.TemporaryDirectory() as empty:
        words += _no_store_yet(args.home, rest, Path(empty))
        if SCRIPT.main(words) != 0:
            raise UsageError("walt-loop broker did not do its work: see above")
    (args.home / "tls").mkdir(mode=0o700, exist_ok=True)
    authority = Authority(args.home / "identity")
    keep_server(authority, args.home / "tls" / "web.pem", tuple(args.web or args.host), utc_now())


def _no_store_yet(home: Path, rest: list[str], empty: Path) -> list[str]:
    """Before there is a store nobody is revoked; later, an empty list would let them in again."""
    named = {word.partition("=")[0] for word in rest} | {name for name in _VARIABLES if os.environ.get(name)}
    if named & {"--store", "--database", DATABASE_VARIABLE}:
        return []
    if (home / "mosquitto" / "devices.crl").exists():
        raise UsageError("give the --store, or --database and --blobs: it knows who is revoked")
    return ["--store", str(empty)]


_VARIABLES = (DATABASE_VARIABLE, BLOBS_VARIABLE)


def _check(passphrase: Path | None) -> None:
    if passphrase is None:
        raise UsageError("--copy needs --passphrase FILE")
    if len(passphrase.read_text().partition("\n")[0]) < 20:
        raise UsageError(f"{passphrase}: give 20 characters or more, such as six random words")


def _copy(identity: Path, path: Path, passphrase: Path) -> None:
    """Encrypts, then opens what was written, before anybody relies on it."""
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in _AUTHORITIES:
            archive.add(identity / name, name)
    sealed = _openssl(packed.getvalue(), passphrase)
    if _openssl(sealed, passphrase, "-d") != packed.getvalue():
        raise UsageError(f"{path}: what was encrypted does not open: nothing is written")
    write_private(path, sealed)


def _openssl(data: bytes, passphrase: Path, *words: str) -> bytes:
    """AES-256 with a slow derivation of its key: `openssl enc -d ... -in COPY | tar x` opens it on any machine."""
    command = ["openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-iter", "1000000", "-md", "sha256", "-salt"]
    done = subprocess.run(
        [*command, *words, "-pass", f"file:{passphrase}"], input=data, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise UsageError(f"openssl: {done.stderr.decode(errors='replace').strip()[:200]}")
    return done.stdout


def _table(home: Path) -> Iterator[str]:
    rows = [("file", "who needs it", "ends", "renewed"), *_rows(home)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield ""
    yield f"secret, and of walt-loop identity alone: {home / 'identity'}/*.key; of the ingest: workers/ingest-group"


def _rows(home: Path) -> Iterable[tuple[str, str, str, str]]:
    for name, who, how in _PLACES:
        certificate = x509.load_pem_x509_certificate((home / name).read_bytes())
        yield str(home / name), who, f"{certificate.not_valid_after_utc:%Y-%m-%d}", how


if __name__ == "__main__":
    sys.exit(main())
