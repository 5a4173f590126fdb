"""How commands are told of the broker."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from walt_edge.contract.errors import UsageError
from walt_train.loop.broker.arguments import HOME, INGEST, add_broker_arguments, broker_config, shared_group
from walt_train.loop.identity.authority import Authority
from walt_train.loop.identity.mosquitto import Address, write_workers


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    address = Address(hosts=("home.local",), workers_host="0.0.0.0", workers_port=9884)
    write_workers(folder / "workers", Authority.make(folder / "identity"), address)
    return folder / "workers"


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--group")
    add_broker_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize("role", [INGEST, HOME])
def test_one_folder_says_where_the_broker_is_and_who_we_are(workers: Path, role: str) -> None:
    config = broker_config(parsed("--workers", str(workers)), role, "me", 60)
    # Listening everywhere is no address: workers elsewhere meet the broker by home's name.
    assert (config.host, config.port, config.client_id, config.expiry_s) == ("home.local", 9884, "me", 60)
    assert config.ca == workers / "home-ca.pem"
    assert config.cert == config.key == workers / f"{role}.pem"
    for file in (config.ca, config.cert):
        assert file is not None
        assert file.read_text().startswith("-----BEGIN CERTIFICATE-----")


def test_an_address_of_ones_own_goes_before_the_folders(workers: Path) -> None:
    config = broker_config(parsed("--workers", str(workers), "--broker", "10.0.0.1:8884"), HOME)
    assert (config.host, config.cert) == ("10.0.0.1", workers / "walt-home.pem")


def test_the_shared_group_cannot_be_guessed_where_there_are_strangers(workers: Path) -> None:
    secret = shared_group(parsed("--workers", str(workers)))
    assert len(secret) > 32
    assert shared_group(parsed("--broker", "b:1")) == "ingest"
    assert shared_group(parsed("--workers", str(workers), "--group", "mine")) == "mine"


def test_files_are_taken_as_they_are_given() -> None:
    config = broker_config(parsed("--broker", "[::1]", "--ca", "ca", "--cert", "cert", "--key", "key"), HOME)
    assert (config.host, config.port, config.ca, config.cert, config.key) == (
        "::1",
        1883,
        Path("ca"),
        Path("cert"),
        Path("key"),
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "Give --broker HOST:PORT, or --workers DIR"),
        (["--broker", "b:1", "--cert", "c", "--key", "k"], "need --ca"),
        (["--broker", "b:1", "--workers", "w", "--ca", "c"], "leave --ca"),
        (["--workers", "/nonexistent"], "walt-loop broker writes it"),
        (["--broker", "b:port"], "is not HOST:PORT"),
    ],
)
def test_what_is_missing_or_said_twice_is_named(words: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        broker_config(parsed(*words), HOME)
