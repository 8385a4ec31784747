"""Changes of the tables, the same for SQLite and PostgreSQL (alembic)."""
