"""Identity, folder and broker: kept over starts, and told in one line where they are wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from walt_edge.config import Endpoint, Home, HomeError, Tls
from walt_edge.contract.errors import UsageError, WaltError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("home.local:1884", "home.local", 1884),
        ("home.local", "home.local", 1883),
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("[::1]:1883", "::1", 1883),
        ("[::1]", "::1", 1883),
    ],
)
def test_endpoints(text: str, host: str, port: int) -> None:
    endpoint = Endpoint.parse(text)
    assert (endpoint.host, endpoint.port) == (host, port)
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    ["", ":1883", "host:", "host:0", "host:65536", "host:x", "mqtt://host:1883", "::1", "a b:1", "host:²", "[]:1"],
)
def test_malformed_endpoints(text: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        Endpoint.parse(text)


def test_an_identity_is_made_once_and_kept(tmp_path: Path) -> None:
    with Home(tmp_path / "new" / "home") as home:
        first = home.device()
        named = home.device(site="plaza", camera="north")
    assert re.fullmatch(r"walt-[0-9a-f]{16}", first.device)
    assert (named.device, named.site, named.camera) == (first.device, "plaza", "north")
    with Home(tmp_path / "new" / "home") as home:
        assert home.device() == named
        assert home.device(camera="south").site == "plaza"
    with Home(tmp_path / "other") as home:
        assert home.device().device != first.device


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"device": "a/b"}', b'{"device": 3}'])
def test_a_damaged_identity_is_never_replaced_in_silence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "device.json").write_bytes(content)
    with Home(tmp_path) as home, pytest.raises(HomeError, match="cannot be read"):
        home.device()
    assert (tmp_path / "device.json").read_bytes() == content


@pytest.mark.parametrize("name", ["a/b", "", "+", "#", "x" * 65, ".."])
def test_names_that_cannot_stand_in_a_topic(tmp_path: Path, name: str) -> None:
    with Home(tmp_path) as home, pytest.raises(WaltError, match="is not a name"):
        home.device(site=name)


def test_one_agent_at_a_time(tmp_path: Path) -> None:
    with Home(tmp_path), pytest.raises(HomeError, match="another agent"):
        Home(tmp_path)
    Home(tmp_path).close()


def test_a_killed_agent_leaves_the_folder_free(tmp_path: Path) -> None:
    hold = (
        "import sys, pathlib; from walt_edge.config import Home\n"
        "home = Home(pathlib.Path(sys.argv[1])); print(1, flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"1\n"
    with pytest.raises(HomeError):
        Home(tmp_path)
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    Home(tmp_path).close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="--home"):
        Home(tmp_path / "file")


def test_tls_files_must_be_there_and_complete(tmp_path: Path) -> None:
    pem = tmp_path / "x.pem"
    with pytest.raises(UsageError, match="no such file"):
        Tls(ca=pem)
    pem.write_text("")
    with pytest.raises(UsageError, match="belong together"):
        Tls(ca=pem, cert=pem)
    assert Tls(ca=pem, cert=pem, key=pem).key == pem
