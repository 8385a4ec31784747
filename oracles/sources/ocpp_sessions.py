"""Charging transactions and reservations of all charge points, on disk: numbers are never given twice."""

import sqlite3
from pathlib import Path
from typing import NamedTuple

from offchain.domain.errors import PermanentError

_TABLES = """
CREATE TABLE IF NOT EXISTS session (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    charge_point TEXT NOT NULL,
    connector INTEGER NOT NULL,
    transaction_id TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    meter_start_wh INTEGER,
    stopped_at INTEGER,
    meter_stop_wh INTEGER
);
CREATE INDEX IF NOT EXISTS session_transaction ON session (charge_point, transaction_id);
CREATE TABLE IF NOT EXISTS reservation (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    charge_point TEXT NOT NULL,
    connector INTEGER NOT NULL,
    until INTEGER NOT NULL
);
"""


class ChargeSession(NamedTuple):
    """One transaction.

    Attributes
    ----------
    number : int
        Given by us; the transaction id of OCPP 1.6.
    transaction_id : str
        As the charge point knows it; its own choice in OCPP 2.0.1.
    started_at, stopped_at : int
        UTC seconds; ``stopped_at`` is ``None`` while it runs.
    meter_start_wh, meter_stop_wh : int
        Import register of the connector [Wh]; ``None`` when it was not told.
    """

    number: int
    charge_point: str
    connector: int
    transaction_id: str
    started_at: int
    meter_start_wh: int | None
    stopped_at: int | None
    meter_stop_wh: int | None


class ChargeSessions:
    """The file.

    Parameters
    ----------
    path : Path
        SQLite file; its folder must exist.
    """

    def __init__(self, path: Path):
        try:
            self._db = sqlite3.connect(path)
            self._db.executescript(_TABLES)
        except sqlite3.Error as exc:
            raise PermanentError(f"sessions of charge points in {path}: {exc}", hint="is the folder writable?") from exc

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def start(
        self,
        charge_point: str,
        connector: int,
        started_at: int,
        meter_start_wh: int | None,
        transaction_id: str | None = None,
    ) -> ChargeSession:
        """A transaction begins; the same one told again is the same session.

        Another one that still runs at the connector ends here without meter value: its end was lost.
        """
        if transaction_id is None:
            which, values = (
                "connector = ? AND started_at = ? AND meter_start_wh IS ?",
                (connector, started_at, meter_start_wh),
            )
        else:
            which, values = "transaction_id = ?", (transaction_id,)
        same = self._one(f"charge_point = ? AND {which}", (charge_point, *values))
        if same is not None:
            return same
        with self._db:
            self._db.execute(
                "UPDATE session SET stopped_at = ? WHERE charge_point = ? AND connector = ? AND stopped_at IS NULL",
                (started_at, charge_point, connector),
            )
            number = self._db.execute(
                "INSERT INTO session (charge_point, connector, transaction_id, started_at, meter_start_wh) "
                "VALUES (?, ?, ?, ?, ?)",
                (charge_point, connector, transaction_id or "", started_at, meter_start_wh),
            ).lastrowid
            if transaction_id is None:
                self._db.execute("UPDATE session SET transaction_id = ? WHERE number = ?", (str(number), number))
        session = self._one("number = ?", (number,))
        assert session is not None
        return session

    def stop(
        self, charge_point: str, transaction_id: str, stopped_at: int, meter_stop_wh: int | None
    ) -> ChargeSession | None:
        """A transaction ends; ``None`` when nobody began it here."""
        with self._db:
            self._db.execute(
                "UPDATE session SET stopped_at = ?, meter_stop_wh = ? WHERE charge_point = ? AND transaction_id = ?",
                (stopped_at, meter_stop_wh, charge_point, transaction_id),
            )
        return self.find(charge_point, transaction_id)

    def find(self, charge_point: str, transaction_id: str) -> ChargeSession | None:
        """A transaction by the id that the charge point uses."""
        return self._one("charge_point = ? AND transaction_id = ?", (charge_point, transaction_id))

    def running(self, charge_point: str, connector: int) -> ChargeSession | None:
        """What charges at a connector."""
        return self._one("charge_point = ? AND connector = ? AND stopped_at IS NULL", (charge_point, connector))

    def new_reservation(self, charge_point: str, connector: int, until: int) -> int:
        """Number of a new reservation."""
        with self._db:
            cursor = self._db.execute(
                "INSERT INTO reservation (charge_point, connector, until) VALUES (?, ?, ?)",
                (charge_point, connector, until),
            )
        return int(cursor.lastrowid or 0)

    def end_reservation(self, charge_point: str, number: int) -> None:
        """A reservation was used, cancelled or refused."""
        with self._db:
            self._db.execute("DELETE FROM reservation WHERE charge_point = ? AND number = ?", (charge_point, number))

    def reservations(self, charge_point: str, now: int) -> dict[int, tuple[int, int]]:
        """Connector and end [UTC s] of the reservations that hold, by number."""
        rows = self._db.execute(
            "SELECT number, connector, until FROM reservation WHERE charge_point = ? AND until > ?", (charge_point, now)
        )
        return {number: (connector, until) for number, connector, until in rows}

    def _one(self, condition: str, values: tuple[object, ...]) -> ChargeSession | None:
        row = self._db.execute(
            f"SELECT {', '.join(ChargeSession._fields)} FROM session WHERE {condition} ORDER BY number DESC LIMIT 1",
            values,
        ).fetchone()
        return None if row is None else ChargeSession(*row)
