"""`walt-loop web`: home's dashboard, where people see the fleet, decide on rollouts and look at clip art."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from cryptography import x509

from walt_edge.contract.errors import UsageError
from walt_train.loop.rollout.rollouts import Rollouts
from walt_train.loop.serve.http import parse_listen
from walt_train.loop.store.arguments import add_store_arguments, store_config
from walt_train.loop.store.store import Store
from walt_train.loop.web.app import make_app
from walt_train.loop.web.server import WebServer
from walt_train.loop.web.settings import WebSettings, is_loopback, parse_proxies
from walt_train.loop.web.site import Site

LOGGER = logging.getLogger(__name__)
_TURN_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add_store_arguments(parser)
    add("--home", type=Path, metavar="DIR", help="what walt-loop serve keeps: generations, repository")
    add("--http", default="127.0.0.1:8080", metavar="HOST:PORT", help="where to listen (default: %(default)s)")
    add("--name", action="append", default=[], metavar="HOST", help="a name that people ask for it by; repeatable")
    add(
        "--tls-cert", type=Path, metavar="FILE", help="serves by HTTPS: certificate chain (its names count as --name)"
    )
    add("--tls-key", type=Path, metavar="FILE", help="its key")
    add(
        "--behind-proxy",
        nargs="*",
        metavar="ADDRESS",
        help="a proxy that speaks HTTPS stands before it: its addresses or networks (default: this machine)",
    )


def run(args: argparse.Namespace) -> int:
    """Serves until SIGTERM or Ctrl-C."""
    settings = _settings(args)
    where = store_config(args)
    stop = _stop_on_signals()
    with Store(where) as store:
        site = Site.of(store, home=args.home, rollouts=Rollouts(store.engine), settings=settings)
        with WebServer(make_app(site), settings) as server:
            sys.stdout.write(greeting(site, server.url))
            sys.stdout.flush()
            while server.is_running and not stop.wait(_TURN_S):
                pass
            ended = not server.is_running
    if ended:
        raise UsageError("the dashboard has ended by itself; the log tells why")
    return 0


def greeting(site: Site, url: str) -> str:
    """Where it is, by a name that people use; and the set-up token if there is nobody yet."""
    settings, token = site.settings, site.first.offer()
    if settings.proxies:
        url = f"https://{settings.names[0]}/"
    elif settings.names and not is_loopback(settings.host):
        url = f"https://{settings.names[0]}:{url.rpartition(':')[2]}"
    if token is None:
        return f"{url}\n"
    return (
        f"{url}\nnobody may sign in yet: make the first admin at {url}setup with this set-up token, once\n{token}\n"
    )


def _settings(args: argparse.Namespace) -> WebSettings:
    if bool(args.tls_cert) and args.behind_proxy is not None:
        raise UsageError("give --tls-cert, or --behind-proxy for a proxy that has the certificate")
    host, port = parse_listen(args.http)
    names = {name.lower().rstrip(".") for name in args.name}
    if args.tls_cert:
        names |= names_in(args.tls_cert)
    return WebSettings(
        host=host,
        port=port,
        tls_cert=args.tls_cert,
        tls_key=args.tls_key,
        names=tuple(sorted(names)),
        proxies=parse_proxies(args.behind_proxy) if args.behind_proxy is not None else (),
    )


def names_in(path: Path) -> set[str]:
    """The names and addresses that a certificate is good for."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read a certificate from {path}: {error}; give a PEM file") from error
    except x509.ExtensionNotFound as error:
        raise UsageError(f"the certificate {path} names no host: make one with a subjectAltName") from error
    addresses = (str(one) for one in found.get_values_for_type(x509.IPAddress))
    return {name.lower() for name in (*found.get_values_for_type(x509.DNSName), *addresses)}


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()

    def ask(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return stop
