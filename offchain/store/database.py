"""The store: one durable database, SQLite in a file or PostgreSQL by URL."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect, Engine, Table, create_engine, event, inspect, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from offchain.domain.errors import AdapterError, PermanentError, TransientError
from offchain.store.schema import upgrade
from offchain.store.tables import ADDED_TO, APPLICATION_ID, SCHEMA_VERSION, store_meta

BUSY_TIMEOUT_S = 30
_SQLITE_MAGIC = b"SQLite format 3\0"

# What the driver says (lower case) -> error class, hint. The first match counts.
_TRANSLATION: tuple[tuple[str, type[AdapterError], str], ...] = (
    ("database is locked", TransientError, "another process writes; try again"),
    ("database or disk is full", TransientError, "free disk space, then try again"),
    ("disk i/o error", TransientError, "check the disk, then try again"),
    ("connection refused", TransientError, "is the database server running?"),
    ("server closed the connection", TransientError, "the database server restarted; try again"),
    ("not a database", PermanentError, "give the path of a gridpact database, or restore it from a backup"),
    ("malformed", PermanentError, "the file is damaged; restore it from a backup"),
    ("unable to open database file", PermanentError, "check that the folder exists and may be written"),
    ("readonly database", PermanentError, "check the permissions of the file and its folder"),
    ("password authentication failed", PermanentError, "check user and password of the database URL"),
)


def _translate(exc: BaseException, name: str) -> AdapterError | None:
    text = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
    for needle, error, hint in _TRANSLATION:
        if needle in text.lower():
            return error(f"store {name}: {text}", hint=hint)
    return None


class Store:
    """Durable database; made by :func:`open_store`.

    What was written inside :meth:`write` is on disk once the block has been left (WAL, ``synchronous=FULL``),
    all of it or nothing.
    """

    def __init__(self, engine: Engine, name: str):
        self.engine = engine
        self.name = name

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that may write; takes the write lock at once, so that it cannot fail half way."""
        with self.engine.connect().execution_options(gridpact_write=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view of the data."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    def verify(self) -> None:
        """Walk the whole SQLite file; :class:`PermanentError` names the first damage."""
        if self.engine.dialect.name != "sqlite":
            return
        with self.read() as connection:
            result = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
        if result != "ok":
            raise PermanentError(f"store {self.name}: {result}", hint="the file is damaged; restore it from a backup")

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def open_store(target: str | Path, *, create: bool = True) -> Store:
    """Open a store; lay out its tables when it is new, and bring older ones up to date.

    Parameters
    ----------
    target : str or Path
        Path of an SQLite file, or a database URL such as ``postgresql+psycopg://user@host/db``.
    create : bool
        Whether the database may be created or brought up to date; readers (auditor) pass ``False``.

    Raises
    ------
    PermanentError
        Not a gridpact store, damaged, of another schema version, or not accessible.
    TransientError
        The database is busy or not reachable at the moment.
    """
    url = _url(target)
    name = url.database if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite":
        _check_file(Path(url.database or ""), create)
    try:
        engine = create_engine(url)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as exc:
        raise PermanentError(
            f"store {name}: {exc}", hint="use a file path, or postgresql+psycopg://user@host/database"
        ) from exc
    _install_events(engine, name)
    store = Store(engine, name)
    try:
        _ensure_schema(store, create)
    except BaseException:
        store.close()
        raise
    return store


def file_of(target: str | Path) -> Path | None:
    """Path of a store that is given as a file; ``None`` when it is given as a database URL."""
    return None if isinstance(target, str) and "://" in target else Path(target)


def _url(target: str | Path) -> URL:
    if (file := file_of(target)) is not None:
        return URL.create("sqlite", database=str(file))
    try:
        return make_url(target)
    except ArgumentError as exc:
        raise PermanentError(f"store: {exc}", hint="check the database URL") from exc


def _check_file(path: Path, create: bool) -> None:
    if path.is_dir():
        raise PermanentError(f"store {path}: is a folder", hint="give the path of a file")
    if not path.exists():
        if not create:
            raise PermanentError(f"store {path}: no such file", hint="run the pilot first, or correct the path")
        with suppress(OSError):  # opening it says what is wrong
            path.touch(mode=0o600)  # readings are personal data; SQLite gives its other files the same mode
        return
    with path.open("rb") as file:
        magic = file.read(len(_SQLITE_MAGIC))
    if magic and magic != _SQLITE_MAGIC:
        raise PermanentError(f"store {path}: not a database", hint="give the path of a gridpact database")


def _install_events(engine: Engine, name: str) -> None:
    @event.listens_for(engine, "handle_error")
    def translate(context) -> None:
        if (error := _translate(context.original_exception, name)) is not None:
            raise error from context.original_exception

    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def configure(dbapi_connection, _record) -> None:
        dbapi_connection.isolation_level = None  # the driver must not begin transactions on its own
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_S * 1000}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            dbapi_connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("gridpact_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _ensure_schema(store: Store, create: bool) -> None:
    try:
        with store.read() as connection:
            tables = set(inspect(connection).get_table_names())
            version = (
                connection.execute(select(store_meta.c.value).where(store_meta.c.key == "schema")).scalar()
                if store_meta.name in tables
                else None
            )
    except DBAPIError as exc:
        raise PermanentError(f"store {store.name}: {exc.orig}", hint="is this a gridpact database?") from exc
    if version == str(SCHEMA_VERSION):
        return
    if version is None and (tables or not create):
        raise PermanentError(f"store {store.name}: a database, but not one of gridpact", hint="give another path")
    older = version is None or (version.isdecimal() and int(version) in ADDED_TO)
    if not older:
        raise PermanentError(
            f"store {store.name}: schema version {version}, this program reads {SCHEMA_VERSION}",
            hint="use the matching version of gridpact",
        )
    if not create:
        return
    with store.write() as connection:
        if version is None and store.engine.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
        upgrade(connection, version=int(version or 0))
        upsert(connection, store_meta, [{"key": "schema", "value": str(SCHEMA_VERSION)}])


Rows = Sequence[dict[str, Any]] | Sequence[NamedTuple]
"""Rows of one table: dictionaries, or named tuples whose fields are columns, which are several times as fast."""


def insert_ignore(connection: Connection, table: Table, rows: Rows) -> int:
    """Insert rows, leaving those alone whose key exists already; returns how many are new."""
    return _execute(connection, table, rows, replace=False)


def upsert(connection: Connection, table: Table, rows: Rows) -> None:
    """Insert rows, replacing those with the same primary key."""
    _execute(connection, table, rows, replace=True)


def _execute(connection: Connection, table: Table, rows: Rows, *, replace: bool) -> int:
    """Run the insert for all rows; how many it touched.

    SQLAlchemy looks at every value of every row on its way to the driver. That is half of the cost of a reading that is
    stored, so named tuples, which hold what the driver takes (numbers, text, bytes), go to it as they are.
    """
    if not rows:
        return 0
    # psycopg closes the cursor of an insert before anybody can ask it how many rows there were
    options = {"preserve_rowcount": True}
    fields = getattr(rows[0], "_fields", None)
    if fields is None:
        statement = _insert(connection.dialect.name, table, replace=replace)
        return connection.execute(statement, rows, execution_options=options).rowcount
    sql, order = _driver_insert(connection.dialect, table, fields, replace=replace)
    values = [row._asdict() for row in rows] if order is None else list(map(order, rows))
    return connection.exec_driver_sql(sql, values, execution_options=options).rowcount


@cache
def _insert(dialect: str, table: Table, *, replace: bool) -> sqlite.Insert | postgresql.Insert:
    statement = {"sqlite": sqlite, "postgresql": postgresql}[dialect].insert(table)
    if not replace:
        return statement.on_conflict_do_nothing()
    keys = [column.name for column in table.primary_key]
    changed = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


@lru_cache(maxsize=64)
def _driver_insert(
    dialect: Dialect, table: Table, fields: tuple[str, ...], *, replace: bool
) -> tuple[str, itemgetter | None]:
    """The insert as the driver takes it, and what puts a row into its order; ``None`` where it takes names."""
    compiled = _insert(dialect.name, table, replace=replace).compile(dialect=dialect, column_keys=fields)
    return str(compiled), itemgetter(*map(fields.index, compiled.positiontup)) if compiled.positiontup else None
