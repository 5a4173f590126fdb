from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path

import pytest

from walt_edge.contract.errors import UsageError
from walt_train.loop.store.arguments import BLOBS_VARIABLE, DATABASE_VARIABLE, add_store_arguments, store_config
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.store import Store, StoreWriteError

SECRET = "s3cret/word"
POSTGRES = "postgresql://walt:s3cret%2Fword@db.example:5433/home?sslmode=require"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATABASE_VARIABLE, raising=False)
    monkeypatch.delenv(BLOBS_VARIABLE, raising=False)


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_store_arguments(parser)
    return parser.parse_args(words)


def test_a_folder_is_a_database_and_blobs(tmp_path: Path) -> None:
    config = StoreConfig.local(tmp_path)
    assert config.database_file == tmp_path / "store.sqlite3"
    assert config.blob_folder == tmp_path
    assert (config.place, config.bucket, repr(config)) == (str(tmp_path), "", f"StoreConfig({tmp_path})")


@pytest.mark.parametrize("name", ["with space", "50%", "a?b#c", "ü@:"])
def test_any_name_of_a_folder(tmp_path: Path, name: str) -> None:
    with Store(tmp_path / name) as store:
        assert store.config.blob_folder == tmp_path / name
        assert store.counts().crops == 0
    assert (tmp_path / name / "store.sqlite3").is_file()


def test_at_size() -> None:
    config = StoreConfig(POSTGRES, "s3://crops/home/one?endpoint=https://s3.example&region=eu")
    assert config.database.drivername == "postgresql+psycopg"
    assert (config.database.password, config.database.query) == (SECRET, {"sslmode": "require"})
    assert (config.database_file, config.blob_folder, config.bucket) == (None, None, "crops/home/one")
    assert config.s3_options == {"endpoint": "https://s3.example", "region": "eu"}
    assert config.place == "postgresql://walt@db.example:5433/home with s3://crops/home/one"
    assert SECRET not in repr(config)
    assert config.exists


@pytest.mark.parametrize(
    ("database", "blobs", "message"),
    [
        ("nonsense", ".", "the database's address is none"),
        (f"postgresql://walt:{SECRET}@db:port/x", ".", "the database's address is none"),
        ("postgresql://walt:pass@word@db/x", ".", "write one that is part of the password as %40"),
        ("postgresql://walt:s3cret@db", ".", "names no database"),
        (f"mysql://walt:{SECRET}@db/x", ".", "a database of kind 'mysql' is not known: give sqlite:"),
        ("sqlite://", ".", "needs a file"),
        ("sqlite://host/x", ".", "needs a file"),
        ("sqlite:///:memory:", ".", "needs a file"),
        (POSTGRES, "gs://x", "blobs of kind 'gs' are not known: give a folder or s3:"),
        (POSTGRES, "s3:///x", "names no bucket"),
        (POSTGRES, f"s3://key:{SECRET}@x/y", "set AWS_ACCESS_KEY_ID"),
        (POSTGRES, f"s3://x/y?secret={SECRET}", "unknown option secret; known: endpoint, region"),
        (POSTGRES, "file://host/x", "blobs of kind 'file' are not known"),
    ],
)
def test_what_is_no_place(database: str, blobs: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        StoreConfig(database, blobs)
    assert "s3cret" not in str(caught.value)
    assert "pass@" not in str(caught.value)


def test_commands_take_a_folder_or_two_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATABASE_VARIABLE, POSTGRES)
    monkeypatch.setenv(BLOBS_VARIABLE, "s3://crops")
    assert store_config(parsed()) == StoreConfig(POSTGRES, "s3://crops")
    assert store_config(parsed("--blobs", str(tmp_path))) == StoreConfig(POSTGRES, str(tmp_path))
    # What is said on the command line counts, whatever the environment says.
    assert store_config(parsed("--store", str(tmp_path)), makes=True) == StoreConfig.local(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "where is the store"),
        (("--database", "postgresql://db/x"), "where is the store"),
        (("--blobs", "x"), "where is the store"),
        (("--store", "x", "--blobs", "y"), "give --store DIR alone"),
        (("--database", POSTGRES, "--blobs", "x"), f"a password in --database: set {DATABASE_VARIABLE}"),
        (("--store", "nowhere"), "no store in nowhere: walt-loop ingest makes one"),
    ],
)
def test_what_cannot_be_asked(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        store_config(parsed(*words))
    assert SECRET not in str(caught.value)


def test_a_missing_driver_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("psycopg", "s3fs"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"pip install 'walt-amodal\[postgres\]'"):
        Store(StoreConfig(POSTGRES, str(tmp_path)))
    with pytest.raises(UsageError, match=r"pip install 'walt-amodal\[s3\]'"):
        Store(StoreConfig("sqlite:///" + str(tmp_path / "x"), "s3://crops"))


def test_no_error_shows_a_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nobody = StoreConfig(f"postgresql://walt:{SECRET.replace('/', '%2F')}@127.0.0.1:1/home", str(tmp_path))
    with pytest.raises(StoreWriteError, match=r"in postgresql://walt@127\.0\.0\.1:1/home with") as caught:
        Store(nobody)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "s3cret" not in shown
