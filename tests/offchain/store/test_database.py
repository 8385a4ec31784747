"""open_store: new file -> tables; our file -> reopened; anything else -> one clear line."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from offchain.domain.errors import AdapterError, PermanentError, TransientError
from offchain.store import database, open_store
from offchain.store.documents import Document, get_document, put_document
from offchain.store.tables import metadata, store_meta

DOCUMENT = Document("terms", b"k" * 32, b"content", 1)


def test_open_store_keeps_data_when_reopened(tmp_path):
    path = tmp_path / "site.db"
    with open_store(path) as store, store.write() as connection:
        put_document(connection, DOCUMENT)
    with open_store(path, create=False) as store, store.read() as connection:
        assert get_document(connection, "terms", b"k" * 32) == DOCUMENT


def test_open_store_makes_files_for_their_owner_alone(tmp_path):
    with open_store(tmp_path / "site.db") as store, store.write() as connection:
        put_document(connection, DOCUMENT)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("site.db", "site.db-wal", "site.db-shm"), 0o600)


def test_open_store_is_durable_by_configuration(tmp_path):
    with open_store(tmp_path / "site.db") as store, store.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1


def _text(path):
    path.write_text("meter;value\n1;2\n")


def _foreign(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")


def _other_version(path):
    open_store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE store_meta SET value = '99'")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_text, "not a database"),
        (_foreign, "not one of gridpact"),
        (_other_version, "schema version 99"),
        (lambda path: path.mkdir(), "is a folder"),
    ],
    ids=["text", "foreign", "version", "folder"],
)
def test_open_store_refuses_when_file_is_not_ours(tmp_path, make, message):
    path = tmp_path / "other.db"
    make(path)
    with pytest.raises(PermanentError, match=message) as caught:
        open_store(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.hint


def test_open_store_refuses_when_missing_and_not_to_be_created(tmp_path):
    with pytest.raises(PermanentError, match="no such file"):
        open_store(tmp_path / "none.db", create=False)
    assert not (tmp_path / "none.db").exists()


def test_open_store_refuses_when_folder_is_missing(tmp_path):
    with pytest.raises(PermanentError, match="unable to open"):
        open_store(tmp_path / "no" / "site.db")


def test_open_store_refuses_when_url_is_wrong():
    with pytest.raises(PermanentError, match="store"):
        open_store("oracle9i://somewhere/else")


def test_open_store_hides_password_when_server_is_not_there():
    with pytest.raises(AdapterError, match=r"store postgresql\+psycopg://user:\*\*\*@") as caught:
        open_store("postgresql+psycopg://user:secret@127.0.0.1:1/db")
    assert "secret" not in str(caught.value)


def test_verify_names_damage_when_pages_are_overwritten(tmp_path):
    path = tmp_path / "site.db"
    with open_store(path) as store, store.write() as connection:
        for number in range(2000):
            put_document(connection, Document("terms", number.to_bytes(32), bytes(200), 1))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 8192] = b"\xa5" * 8192
    path.write_bytes(content)
    with pytest.raises(PermanentError), open_store(path) as store:
        store.verify()


def test_write_leaves_nothing_when_block_raises(tmp_path):
    with open_store(tmp_path / "site.db") as store:
        with pytest.raises(RuntimeError), store.write() as connection:
            put_document(connection, DOCUMENT)
            raise RuntimeError
        with store.read() as connection:
            assert get_document(connection, "terms", b"k" * 32) is None


def test_write_raises_transient_when_database_is_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0)
    path = tmp_path / "site.db"
    with (
        open_store(path) as store,
        open_store(path) as other,
        store.write(),
        pytest.raises(TransientError, match="locked"),
        other.write(),
    ):
        pass


def test_open_store_raises_when_url_cannot_be_read():
    with pytest.raises(PermanentError, match="check the database URL"):
        open_store("not a scheme://x")


def test_tables_compile_for_postgresql():
    dialect = postgresql.dialect()
    for table in metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))
    statement = postgresql.insert(store_meta).on_conflict_do_nothing()
    assert "ON CONFLICT DO NOTHING" in str(statement.compile(dialect=dialect))


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ("site.db", Path("site.db")),
        (Path("site.db"), Path("site.db")),
        ("sqlite:///site.db", None),
        ("postgresql+psycopg://user@host/db", None),
    ],
)
def test_file_of_tells_a_file_from_a_database_url(target, file):
    assert database.file_of(target) == file
