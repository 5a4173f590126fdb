"""Where a store lies: one knob from a folder on a laptop to PostgreSQL and object storage at size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from walt_edge.contract.errors import UsageError

DATABASE_NAME = "store.sqlite3"
_POSTGRES = ("postgresql", "postgres", "postgresql+psycopg")
DATABASES = "sqlite:////FOLDER/store.sqlite3 or postgresql://USER@HOST/NAME"
BLOBS = "a folder or s3://BUCKET/PREFIX"
_S3_OPTIONS = ("endpoint", "region")


@dataclass(frozen=True, slots=True, repr=False)
class StoreConfig:
    """The two places that make a store; a password in them is never printed.

    Attributes:
        database_url: `sqlite:////abs/file` or `postgresql://user:password@host:port/name?sslmode=...`, with whatever
            else libpq takes. A password may as well come from `PGPASSWORD` or `~/.pgpass`.
        blob_url: A folder, `file:///folder`, or `s3://bucket/prefix?endpoint=https://host&region=name`. Keys come
            from where every S3 client looks for them: `AWS_ACCESS_KEY_ID`, `~/.aws`, the machine's role.

    Raises:
        UsageError: One of them is of no known kind, or malformed.
    """

    database_url: str
    blob_url: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "database_url", _checked_database(self.database_url))
        object.__setattr__(self, "blob_url", _checked_blobs(self.blob_url))

    @classmethod
    def local(cls, folder: Path) -> StoreConfig:
        """SQLite and files in one folder."""
        database = URL.create("sqlite", database=str(folder.absolute() / DATABASE_NAME))
        return cls(database.render_as_string(), str(folder))

    @property
    def database(self) -> URL:
        """The database's address, as SQLAlchemy takes it."""
        return make_url(self.database_url)

    @property
    def database_file(self) -> Path | None:
        """The database's file, if it is one."""
        return Path(self.database.database or "") if self.database.drivername == "sqlite" else None

    @property
    def exists(self) -> bool:
        """Whether a store may be there; of a database on a server, only opening it tells."""
        return self.database_file is None or self.database_file.is_file()

    @property
    def blob_folder(self) -> Path | None:
        """The folder of the blobs, if they lie in one."""
        parts = urlsplit(self.blob_url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    @property
    def bucket(self) -> str:
        """BUCKET/PREFIX of the blobs, "" if they lie in a folder."""
        parts = urlsplit(self.blob_url)
        return f"{parts.netloc}{parts.path}".rstrip("/") if parts.scheme == "s3" else ""

    @property
    def s3_options(self) -> dict[str, str]:
        """`endpoint` and `region`, as far as they are given."""
        return dict(parse_qsl(urlsplit(self.blob_url).query))

    @property
    def place(self) -> str:
        """Where it is, for people: without passwords."""
        folder, file = self.blob_folder, self.database_file
        if folder and file == folder / DATABASE_NAME:
            return str(folder)
        return f"{self.database_place} with {self.blob_place}"

    @property
    def identity(self) -> str:
        """The same for the same store, however it is spelt; without passwords."""
        folder, file = self.blob_folder, self.database_file
        return str(folder.resolve()) if folder and file == folder / DATABASE_NAME else self.place

    @property
    def database_place(self) -> str:
        """Where the database is, for people."""
        return address_of(self.database)

    @property
    def blob_place(self) -> str:
        """Where the blobs are, for people."""
        return str(self.blob_folder) if self.blob_folder else f"s3://{self.bucket}"

    def __repr__(self) -> str:
        return f"StoreConfig({self.place})"


def address_of(database: URL) -> str:
    """Where a database is, for people: without a password, and without options, which may hold one."""
    if database.drivername == "sqlite":
        return str(database.database)
    shown = URL.create("postgresql", database.username, None, database.host, database.port, database.database)
    return shown.render_as_string()


def _checked_database(text: str) -> str:
    # No message here repeats the text: what is malformed may be a password.
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UsageError(f"the database's address is none: give {DATABASES}") from None
    if text.partition("?")[0].count("@") > 1:
        raise UsageError("the database's address has two @: write one that is part of the password as %40")
    if url.drivername == "sqlite":
        if not url.database or url.database == ":memory:" or url.host:
            raise UsageError("a database of SQLite needs a file: sqlite:////FOLDER/store.sqlite3 (four slashes)")
        return url.set(database=str(Path(url.database).absolute())).render_as_string()
    if url.drivername in _POSTGRES:
        if not url.database:
            raise UsageError("the database's address names no database: give postgresql://USER@HOST/NAME")
        return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    raise UsageError(f"a database of kind '{url.drivername}' is not known: give {DATABASES}")


def _checked_blobs(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise UsageError(f"the blobs' address is none: give {BLOBS}") from error
    if "://" not in text:
        return f"file://{quote(str(Path(text).absolute()))}"
    if parts.scheme == "file" and not parts.netloc and parts.path:
        return f"file://{parts.path}"
    if parts.scheme != "s3":
        raise UsageError(f"blobs of kind '{parts.scheme}' are not known: give {BLOBS}")
    if "@" in parts.netloc + parts.path or ":" in parts.netloc:
        raise UsageError("the blobs' address holds a key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
    if not parts.netloc:
        raise UsageError("the blobs' address names no bucket: give s3://BUCKET/PREFIX")
    if unknown := sorted({name for name, _ in parse_qsl(parts.query)} - set(_S3_OPTIONS)):
        raise UsageError(f"s3://{parts.netloc}: unknown option {', '.join(unknown)}; known: {', '.join(_S3_OPTIONS)}")
    return text
