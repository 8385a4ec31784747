"""Durable store: readings, batches, curves, documents, outbox. SQLite embedded, PostgreSQL by URL."""

from offchain.store.database import Store, open_store

__all__ = ["Store", "open_store"]
