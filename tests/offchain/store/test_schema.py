"""Migrations: they give exactly the tables of this program, from nothing and from every older version."""

import sqlite3

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from offchain.store import open_store
from offchain.store.documents import Document, get_document, put_document
from offchain.store.tables import ADDED_TO, metadata

NEW_IN_2 = ("superseded_readings", "estimates", "rejections", "observations", "device_states", "commands")
NEW_IN_3 = ("measurements", "weather", "forecasts", "baselines", "assets")
NEW_IN_4 = ("analyses",)
SINCE = {1: (*NEW_IN_2, *NEW_IN_3, *NEW_IN_4), 2: (*NEW_IN_3, *NEW_IN_4), 3: NEW_IN_4, 4: ()}


def older(path, version):
    """A store as an older version left it: no migrations, none of the newer tables, an index that was dropped since."""
    with open_store(path) as store, store.write() as connection:
        put_document(connection, Document("terms", b"k" * 32, b"content", 1))
    with sqlite3.connect(path) as connection:
        for table in (*SINCE[version], "alembic_version"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("CREATE INDEX ix_readings_meter ON readings (meter_id, isp)")
        connection.execute("UPDATE store_meta SET value = ?", (str(version),))


def test_upgrade_gives_the_tables_of_this_program_when_new(tmp_path):
    with open_store(tmp_path / "a.db") as store, store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize("version", sorted(ADDED_TO))
def test_upgrade_keeps_the_data_when_older(tmp_path, version):
    path = tmp_path / "old.db"
    older(path, version)
    with open_store(path) as store, store.read() as connection:
        assert set(metadata.tables) <= set(inspect(connection).get_table_names())
        assert inspect(connection).get_indexes("readings") == []
        assert get_document(connection, "terms", b"k" * 32).content == b"content"
    open_store(path, create=False).close()


def test_open_store_changes_nothing_when_older_and_read_only(tmp_path):
    path = tmp_path / "old.db"
    older(path, 1)
    with open_store(path, create=False) as store, store.read() as connection:
        assert get_document(connection, "terms", b"k" * 32).content == b"content"
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT value FROM store_meta").fetchone() == ("1",)
