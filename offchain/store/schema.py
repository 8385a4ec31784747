"""Brings a database to the tables of this program, by the migrations in ``migrations/``."""

from pathlib import Path

from sqlalchemy import Connection

from offchain.store.tables import SCHEMA_VERSION

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(connection: Connection, *, version: int) -> None:
    """Run the migrations that a database of schema ``version`` lacks; 0 is an empty one.

    All of them run in the transaction of ``connection``.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    if version:
        command.stamp(config, f"{version:04d}")
    command.upgrade(config, f"{SCHEMA_VERSION:04d}")
