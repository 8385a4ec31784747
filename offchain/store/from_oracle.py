"""Readings that an oracle keeps, as measurements: energy per ISP with quality, known since when, and from where."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from sqlalchemy import Connection, select

from offchain.store.database import Store
from offchain.store.readings import ReadingRow, first_reading, last_reading, readings_between
from offchain.store.series import SeriesBlock, put_changes, read_measurements
from offchain.store.tables import estimates, superseded_readings

KNOWN_TOGETHER_S = 3_600
"""Readings that became known within the same hour are stored together, as known since the last of them."""
CHUNK_ISPS = 96
NET, IMPORT, EXPORT, QUALITY = "net_wh", "import_wh", "export_wh", "quality"
ESTIMATED = "estimated_net_wh"
"""Of gaps, beside the readings and never among them."""


@dataclass
class OracleImport:
    """What an import did: readings by what became of them, how many carry a quality flag, and new estimates."""

    meters: int = 0
    new: int = 0
    corrected: int = 0
    unchanged: int = 0
    flagged: int = 0
    estimated: int = 0


def import_readings(
    oracle: Store, store: Store, *, progress: Callable[[str, int, int], None] = lambda stage, done, total: None
) -> OracleImport:
    """Take the readings of an oracle's store over as measurements; doing it again takes over what is new.

    Series are meter ids in hex; quantities ``import_wh``, ``export_wh``, ``net_wh`` (import minus export) and
    ``quality`` (flags of :class:`oracles.normalise.Quality`). What a corrected reading said before is taken over too,
    with the time since when it was known, so that ``known_at`` gives what was believed then. Estimates of gaps
    become ``estimated_net_wh``. Times since when values were known are never earlier than the oracle's, and less than
    an hour later.

    Parameters
    ----------
    oracle, store : Store
        From and to; may be the same.
    """
    done = OracleImport()
    with oracle.read() as source:
        first, last = first_reading(source), last_reading(source)
        if first is None or last is None:
            return done
        starts = range(first, last + 1, CHUNK_ISPS)
        meters: set[bytes] = set()
        for number, start in enumerate(starts, start=1):
            end = min(start + CHUNK_ISPS, last + 1)
            rows = readings_between(source, start, end)
            meters |= {row.meter_id for row in rows}
            before = _superseded(source, start, end)
            guesses = _estimates(source, start, end)
            with store.write() as target:
                _take_superseded(target, before)
                _take(target, rows, done)
                for belief, pairs in _known_together(guesses):
                    block = _block(pairs, lambda row: row.import_wh - row.export_wh)
                    new, changed = put_changes(
                        target, block, quantity=ESTIMATED, belief_time=belief, source=f"oracle:{pairs[0].source}"
                    )
                    done.estimated += new + changed
            progress("readings", number, len(starts))
        done.meters = len(meters)
    return done


def _take(target: Connection, rows: list[ReadingRow], done: OracleImport) -> None:
    for belief, together in _known_together(rows):
        source = f"oracle:{together[0].source}"
        fresh = changed = 0
        for quantity, value in _QUANTITIES.items():
            block = _block(together, value)
            counts = put_changes(target, block, quantity=quantity, belief_time=belief, source=source)
            if quantity == NET:
                fresh, changed = counts
        done.new += fresh
        done.corrected += changed
        done.unchanged += len(together) - fresh - changed
        done.flagged += sum(row.quality != 0 for row in together)


_QUANTITIES = {
    NET: lambda row: row.import_wh - row.export_wh,
    IMPORT: lambda row: row.import_wh,
    EXPORT: lambda row: row.export_wh,
    QUALITY: lambda row: row.quality,
}


def _take_superseded(target: Connection, rows: list[ReadingRow]) -> None:
    """What corrected readings said before, where nothing is stored yet; else it was taken over when it counted."""
    for belief, together in _known_together(rows):
        for quantity, value in _QUANTITIES.items():
            block = _block(together, value)
            there = read_measurements(target, block.ids, quantity, block.first_isp, len(block.values)).values
            kept = SeriesBlock(block.ids, block.first_isp, np.where(np.isnan(there), block.values, np.nan))
            put_changes(target, kept, quantity=quantity, belief_time=belief, source=f"oracle:{together[0].source}")


def _known_together(rows: Iterable[ReadingRow]) -> Iterable[tuple[int, list[ReadingRow]]]:
    """Readings of one source and hour of belief, earliest belief first, with the time since when all were known."""

    def key(row: ReadingRow) -> tuple[int, str]:
        return row.belief_time // KNOWN_TOGETHER_S, row.source

    for _, group in groupby(sorted(rows, key=key), key):
        together = list(group)
        yield max(row.belief_time for row in together), together


def _block(rows: list[ReadingRow], value: Callable[[ReadingRow], int]) -> SeriesBlock:
    ids = sorted({row.meter_id for row in rows})
    column = {meter_id: n for n, meter_id in enumerate(ids)}
    first, last = min(row.isp for row in rows), max(row.isp for row in rows)
    values = np.full((last - first + 1, len(ids)), np.nan)
    for row in rows:
        values[row.isp - first, column[row.meter_id]] = value(row)
    return SeriesBlock(tuple(meter_id.hex() for meter_id in ids), first, values)


def _superseded(connection: Connection, first_isp: int, end_isp: int) -> list[ReadingRow]:
    columns = [superseded_readings.c[name] for name in ReadingRow._fields]
    query = select(*columns).where(superseded_readings.c.isp >= first_isp, superseded_readings.c.isp < end_isp)
    return [ReadingRow(*row) for row in connection.execute(query.order_by(superseded_readings.c.id))]


def _estimates(connection: Connection, first_isp: int, end_isp: int) -> list[ReadingRow]:
    """Estimates in the form of readings; their source is the method."""
    e = estimates.c
    query = select(e.meter_id, e.isp, e.import_wh, e.export_wh, e.belief_time, e.method)
    query = query.where(e.isp >= first_isp, e.isp < end_isp)
    return [
        ReadingRow(m, isp, i, x, 0, b"", belief, method) for m, isp, i, x, belief, method in connection.execute(query)
    ]
