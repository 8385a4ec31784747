"""Holds the store against the chain: every root, every metered day, every reading, every document."""

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256

from eth_hash.auto import keccak

from offchain.audit.archive import Archive
from offchain.audit.model import Batch as AnchoredBatch
from offchain.audit.model import Commitment, CommitmentKind, Model
from offchain.audit.report import Checks
from offchain.audit.roots import (
    curve_data_hash,
    curve_root,
    day_data_hash,
    day_root,
    reading_data_hash,
    reading_root,
)
from offchain.domain.curves import unpack_readings
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.store.batches import Batch, BatchKind, BatchStatus, MeterDayRow
from offchain.store.curves import CommitmentRow, CurveRow
from offchain.store.documents import Document
from offchain.store.readings import ReadingRow

Value = tuple[int, int] | None
ORDER_DOCUMENT = "prosumer_order_quantities"
RUN_DOCUMENT = "forecast_run"
"""Packed quantities of a prosumer order, under their hash."""


def check_store(
    checks: Checks, model: Model, archive: Archive, progress: Callable[[int], None] = lambda done: None
) -> None:
    """All checks of the store; the most telling ones first, so that they are named first."""
    _check_readings(checks, model, archive, progress)
    _check_batches(checks, model, archive)
    _check_commitments(checks, model, archive)
    _check_documents(checks, model, archive)


# -------------------------------------------------------------------------------- readings and metered days


def _check_readings(checks: Checks, model: Model, archive: Archive, progress: Callable[[int], None]) -> None:
    made_at = {
        (batch.operator, batch.first_isp, batch.version): batch.belief_time
        for batch, _ in archive.records.batches
        if batch.kind == BatchKind.DAY
    }
    compared: set[tuple[bytes, int]] = set()
    for (operator, first_isp), versions in model.batches.items():
        for anchored in versions:
            key = (operator, first_isp, anchored.version)
            days = archive.days.get(key, {})
            for day in days.values():
                sound = _check_day(checks, archive, day, anchored)
                if anchored is versions[-1] and sound:
                    compared |= _compare_day(checks, archive, day, made_at[key])
                else:
                    _require_day_signed(checks, archive, day)
                progress(day.isp_count)
        _check_left_out(checks, model, archive, operator, first_isp, versions[-1], made_at)
    for rows in archive.records.readings.values():
        for row in rows.values():
            if (row.meter_id, row.isp) not in compared:
                _require_signed(checks, archive, row)


def _check_day(checks: Checks, archive: Archive, day: MeterDayRow, anchored: AnchoredBatch) -> bool:
    """Shape of a day; its signature is told after its values, which say more."""
    where = day_name(day)
    expected = (8 * anchored.isp_count, anchored.isp_count, anchored.version)
    return checks.equal(
        "metered days",
        "length of a metered day",
        where,
        expected,
        (len(day.values), day.isp_count, day.version),
    )


def _compare_day(checks: Checks, archive: Archive, day: MeterDayRow, made_at: int) -> set[tuple[bytes, int]]:
    """Every reading of a day equals the value that was anchored."""
    rows = archive.records.readings.get(day.meter_id, {})
    day_signed = archive.day_signed(day)
    differs = False
    for position, value in enumerate(unpack_readings(day.values)):
        isp = day.first_isp + position
        row = rows.get(isp)
        if row is not None and value is None and row.belief_time > made_at:
            _require_signed(checks, archive, row)  # came after the batch: a later version will hold it
            continue
        read = None if row is None else (row.import_wh, row.export_wh)
        signed = row is None or archive.reading_signed(row)
        if read == value:
            checks.holds(
                "readings",
                "signature of a stored reading",
                reading_name(day.meter_id, isp),
                signed,
                "that of the device",
                "of somebody else, or changed",
            )
            continue
        differs = True
        where = reading_name(day.meter_id, isp)
        if not signed:
            checks.fail("readings", "stored reading changed", where, _show(value), _show(read))
        elif not day_signed:
            checks.fail("readings", "stored value of a metered day changed", where, _show(read), _show(value))
        elif row is None:
            checks.fail("readings", "reading missing in the store", where, _show(value), "no row")
        else:
            checks.fail("readings", "reading other than the anchored value", where, _show(value), _show(read))
    if not differs or not day_signed:
        _require_day_signed(checks, archive, day)
    return {(day.meter_id, day.first_isp + position) for position in range(day.isp_count)}


def _require_day_signed(checks: Checks, archive: Archive, day: MeterDayRow) -> None:
    checks.holds(
        "metered days",
        "signature of a stored metered day",
        day_name(day),
        archive.day_signed(day),
        "that of the device",
        "of somebody else, or changed",
    )


def _check_left_out(
    checks: Checks,
    model: Model,
    archive: Archive,
    operator: str,
    first_isp: int,
    latest: AnchoredBatch,
    made_at: dict[tuple[str, int, int], int],
) -> None:
    """Readings that were known when the batch was made are in it."""
    key = (operator, first_isp, latest.version)
    days = archive.days.get(key, {})
    for meter_id, rows in archive.records.readings.items():
        meter = model.meters.get(meter_id)
        if meter is None or meter.operator != operator or meter_id in days or key not in made_at:
            continue
        known = [
            row.isp
            for row in rows.values()
            if first_isp <= row.isp < first_isp + latest.isp_count and row.belief_time <= made_at[key]
        ]
        if known:
            checks.fail(
                "readings",
                "readings that the batch leaves out",
                f"meter 0x{meter_id.hex()}, {len(known)} ISPs from {isp_name(min(known))}",
                "a metered day in the batch",
                "none",
            )


def _require_signed(checks: Checks, archive: Archive, row: ReadingRow) -> None:
    checks.holds(
        "readings",
        "signature of a stored reading",
        reading_name(row.meter_id, row.isp),
        archive.reading_signed(row),
        "that of the device",
        "of somebody else, or changed",
    )


# -------------------------------------------------------------------------------- batches


def _check_batches(checks: Checks, model: Model, archive: Archive) -> None:
    stored = {
        (batch.operator, batch.first_isp, batch.version): (batch, days)
        for batch, days in archive.records.batches
        if batch.kind == BatchKind.DAY
    }
    for (operator, first_isp), versions in model.batches.items():
        for anchored in versions:
            where = f"batch of {operator}, day from {isp_name(first_isp)}, version {anchored.version}"
            if (operator, first_isp, anchored.version) not in stored:
                checks.fail("roots", "batch missing in the store", where, "a batch", "no row")
                continue
            batch, days = stored.pop((operator, first_isp, anchored.version))
            checks.equal("roots", "root rebuilt from the metered days", where, anchored.root, day_root(days))
            checks.equal("roots", "metered days of a batch", where, anchored.leaf_count, len(days))
            checks.equal("roots", "data behind a batch", where, anchored.data_hash, day_data_hash(days))
            _check_row(checks, batch, anchored, where)
    for key, (batch, _) in stored.items():
        if batch.status == BatchStatus.CONFIRMED:
            checks.fail("roots", "batch in the store that was never anchored", str(key), "an event", "none")
    _check_intraday(checks, model, archive)


def _check_row(checks: Checks, batch: Batch, anchored: AnchoredBatch, where: str) -> None:
    expected = {
        "root": anchored.root,
        "leaf_count": anchored.leaf_count,
        "isp_count": anchored.isp_count,
        "data_hash": anchored.data_hash,
    }
    for name, value in expected.items():
        checks.equal("roots", f"{name} of a stored batch", where, value, getattr(batch, name))


def _check_intraday(checks: Checks, model: Model, archive: Archive) -> None:
    stored = {
        (batch.operator, batch.first_isp, batch.root): batch
        for batch, _ in archive.records.batches
        if batch.kind == BatchKind.INTRADAY
    }
    for operator, isp, root, leaf_count, data_hash in model.intraday:
        where = f"intraday batch of {operator}, {isp_name(isp)}"
        batch = stored.pop((operator, isp, root), None)
        if batch is None:
            checks.fail("roots", "batch missing in the store", where, root, "no row")
            continue
        stated = (leaf_count, data_hash)
        checks.equal("roots", "stored intraday batch", where, stated, (batch.leaf_count, batch.data_hash))
        rows = _readings_at(model, archive, operator, isp, batch.belief_time)
        rebuilt = (reading_root(rows), len(rows), reading_data_hash(rows))
        checks.equal("roots", "intraday batch rebuilt from the readings", where, (root, *stated), rebuilt)
    for batch in stored.values():
        if batch.status == BatchStatus.CONFIRMED:
            where = f"intraday batch of {batch.operator}, {isp_name(batch.first_isp)}"
            checks.fail("roots", "batch in the store that was never anchored", where, "an event", "none")


def _readings_at(model: Model, archive: Archive, operator: str, isp: int, known_at: int) -> list[ReadingRow]:
    """Readings of an operator's meters for one ISP that were known when its batch was made."""
    found = (rows.get(isp) for rows in archive.records.readings.values())
    return [
        row
        for row in found
        if row is not None
        and row.belief_time <= known_at
        and (meter := model.meters.get(row.meter_id)) is not None
        and meter.operator == operator
    ]


# -------------------------------------------------------------------------------- commitments


def _check_commitments(checks: Checks, model: Model, archive: Archive) -> None:
    stored = dict(archive.records.commitments)
    for commitment_id, committed in model.commitments.items():
        where = f"commitment {commitment_id} ({committed.kind.name.lower()})"
        found = stored.pop(commitment_id, None)
        if found is None:
            checks.fail("baselines", "commitment missing in the store", where, "a commitment", "no row")
            continue
        row, curves = found
        if committed.kind is CommitmentKind.BASELINE:
            _name_changed_baselines(checks, model, commitment_id, curves, where)
        checks.equal("roots", "root rebuilt from the curves", where, committed.root, curve_root(curves))
        checks.equal("roots", "curves of a commitment", where, committed.leaf_count, len(curves))
        checks.equal("roots", "data behind a commitment", where, committed.data_hash, curve_data_hash(curves))
        _check_commitment_row(checks, row, committed, where)
    for commitment_id in stored:
        where = f"commitment {commitment_id}"
        checks.fail("roots", "commitment in the store that was never posted", where, "an event", "none")


def _check_commitment_row(checks: Checks, row: CommitmentRow, committed: Commitment, where: str) -> None:
    for name in ("scope", "method", "first_isp", "isp_count", "root", "leaf_count", "made_at", "data_hash"):
        checks.equal("roots", f"{name} of a stored commitment", where, getattr(committed, name), getattr(row, name))
    checks.equal(
        "roots",
        "committer of a stored commitment",
        where,
        committed.committer.lower(),
        row.committer.lower(),
    )


def _name_changed_baselines(
    checks: Checks, model: Model, commitment_id: int, curves: list[CurveRow], where: str
) -> None:
    """Baselines that orders pinned can be named one by one; the root tells of the others together."""
    pinned = {
        order.terms["meterId"]: order.terms["baselineHash"]
        for order in model.orders.values()
        if model.groups[order.terms["groupId"]].commitment_id == commitment_id
    }
    by_meter = {curve.subject_id: curve for curve in curves}
    for meter_id, expected in pinned.items():
        curve = by_meter.get(meter_id)
        found = None if curve is None else keccak(curve.values)
        checks.equal("baselines", f"baseline of meter 0x{meter_id.hex()}", where, expected, found)


# -------------------------------------------------------------------------------- documents


def _check_documents(checks: Checks, model: Model, archive: Archive) -> None:
    """Documents lie under their hash; those of orders are just those that were issued."""
    kept = set()
    for document in archive.records.documents:
        where = f"{document.kind} 0x{document.key.hex()}"
        checks.equal("documents", "stored document", where, document.key, _key(document))
        if document.kind == ORDER_DOCUMENT:
            kept.add(document.key)
    if not kept:
        return
    issued = {order.terms["quantitiesHash"]: order_id for order_id, order in model.orders.items()}
    for key, order_id in issued.items():
        where = f"prosumer order {order_id}"
        checks.holds("documents", "document missing in the store", where, key in kept, key, "no row")
    for key in kept - issued.keys():
        where = f"{ORDER_DOCUMENT} 0x{key.hex()}"
        checks.fail("documents", "document of an order that was never issued", where, "an event", "none")


def _key(document: Document) -> bytes:
    """Records of forecast runs are named by SHA-256 (decision 0051), what the chain knows by Keccak."""
    if document.kind == RUN_DOCUMENT:
        return sha256(document.content).digest()
    return keccak(document.content)


# -------------------------------------------------------------------------------- names


def isp_name(isp: int) -> str:
    return f"ISP {isp} ({datetime.fromtimestamp(isp * SECONDS_PER_ISP, UTC):%Y-%m-%dT%H:%MZ})"


def reading_name(meter_id: bytes, isp: int) -> str:
    return f"meter 0x{meter_id.hex()}, {isp_name(isp)}"


def day_name(day: MeterDayRow) -> str:
    return f"meter 0x{day.meter_id.hex()}, day from {isp_name(day.first_isp)}, version {day.version}"


def _show(value: Value) -> str:
    return "no reading" if value is None else f"{value[0]} Wh import, {value[1]} Wh export"
