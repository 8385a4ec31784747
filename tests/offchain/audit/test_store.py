"""One falsified row of the store at a time: each is found, and meter, ISP and what are named."""

import pytest

from offchain.audit import Query
from offchain.domain.errors import PermanentError
from offchain.store import open_store
from tests.offchain.audit import world as w

LATE, ISP = w.meter("late"), w.DAY.first_isp + 40
NAMED = f"meter 0x{LATE.hex()}, ISP {ISP} (2016-05-17T08:00Z)"


def flip(data: bytes, at: int) -> bytes:
    """One bit of one byte changed."""
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def stored(case, column: str, table: str, where: str, *parameters):
    with open_store(case.store, create=False) as store, store.read() as connection:
        return connection.exec_driver_sql(f'SELECT "{column}" FROM {table} WHERE {where}', parameters).scalar_one()


def change_reading(case, column: str, value) -> None:
    case.sql(f"UPDATE readings SET {column} = ? WHERE meter_id = ? AND isp = ?", value, LATE, ISP)


def change_day(case, version: int, column: str, at: int) -> None:
    """Flips a byte of the metered day of ``late``."""
    where = "meter_id = ? AND version = ?"
    data = stored(case, column, "meter_days", where, LATE, version)
    case.sql(f'UPDATE meter_days SET "{column}" = ? WHERE {where}', flip(data, at), LATE, version)


@pytest.mark.parametrize("column", ["import_wh", "export_wh"])
def test_audit_names_meter_and_isp_when_a_reading_is_changed(case, column):
    change_reading(case, column, 2_001)
    first = case.audit().mismatches[0]
    assert (first.what, first.where) == ("stored reading changed", NAMED)
    assert first.expected == "2000 Wh import, 0 Wh export"


def test_audit_names_meter_and_isp_when_a_reading_is_out_of_range(case):
    change_reading(case, "import_wh", -1)
    assert case.audit().mismatches[0].where == NAMED


def test_audit_names_meter_and_isp_when_the_signature_of_a_reading_is_changed(case):
    signature = stored(case, "signature", "readings", "meter_id = ? AND isp = ?", LATE, ISP)
    change_reading(case, "signature", flip(signature, 10))
    first = case.audit().mismatches[0]
    assert (first.what, first.where) == ("signature of a stored reading", NAMED)


def test_audit_names_meter_and_isp_when_a_reading_is_missing(case):
    case.sql("DELETE FROM readings WHERE meter_id = ? AND isp = ?", LATE, ISP)
    first = case.audit().mismatches[0]
    assert (first.what, first.where) == ("reading missing in the store", NAMED)


@pytest.mark.parametrize(
    ("meter_id", "isp"),
    [
        pytest.param(w.meter("silent"), ISP, id="of a meter without readings"),
        pytest.param(LATE, w.DAY.end_isp + 5, id="of another day"),
        pytest.param(w.meter("nobody"), ISP, id="of an unknown meter"),
    ],
)
def test_audit_names_meter_and_isp_when_a_reading_was_added(case, assert_found, meter_id, isp):
    case.sql(
        "INSERT INTO readings (meter_id, isp, import_wh, export_wh, quality, signature, belief_time, source) "
        "SELECT ?, ?, import_wh, export_wh, quality, signature, belief_time, source "
        "FROM readings WHERE meter_id = ? AND isp = ?",
        meter_id,
        isp,
        LATE,
        ISP,
    )
    assert_found("signature of a stored reading", f"meter 0x{meter_id.hex()}, ISP {isp}")


def test_audit_names_meter_and_isp_when_a_value_of_a_metered_day_is_changed(case):
    change_day(case, 2, "values", 8 * 40 + 3)
    first = case.audit().mismatches[0]
    assert (first.what, first.where) == ("stored value of a metered day changed", NAMED)
    assert (first.expected, first.found) == ("2000 Wh import, 0 Wh export", "2001 Wh import, 0 Wh export")


def test_audit_names_meter_and_isp_when_a_missing_value_of_a_metered_day_is_filled_in(case):
    """Position 75 of the first batch, which here is the latest."""
    case.sql("DELETE FROM readings WHERE meter_id = ? AND isp = ?", LATE, w.DAY.first_isp + 75)
    case.events = case.events[: [e.name for e in case.events].index("Withdrawn")]
    change_day(case, 1, "values", 8 * 75 + 3)
    first = case.audit().mismatches[0]
    assert first.what == "stored value of a metered day changed"
    assert first.where == f"meter 0x{LATE.hex()}, ISP {w.DAY.first_isp + 75} (2016-05-17T16:45Z)"
    assert first.expected == "no reading"


def test_audit_names_meter_and_isp_when_a_value_of_a_metered_day_is_blanked(case):
    values = stored(case, "values", "meter_days", "meter_id = ? AND version = 2", LATE)
    blanked = values[: 8 * 40] + b"\xff" * 8 + values[8 * 41 :]
    case.sql('UPDATE meter_days SET "values" = ? WHERE meter_id = ? AND version = 2', blanked, LATE)
    first = case.audit().mismatches[0]
    assert (first.what, first.where) == ("stored value of a metered day changed", NAMED)
    assert first.found == "no reading"


def test_audit_names_the_batch_when_a_value_of_a_metered_day_is_changed(case, assert_found):
    change_day(case, 2, "values", 8 * 40 + 3)
    assert_found("root rebuilt from the metered days", "version 2")


def test_audit_names_the_verdict_when_its_metered_day_is_changed(case, assert_found):
    change_day(case, 1, "values", 8 * 72 + 3)
    report = assert_found(f"metered day of meter 0x{LATE.hex()} behind a verdict", "prosumer order 2")
    assert report.mismatches[0].what == "signature of a stored metered day"
    assert f"0x{LATE.hex()}" in report.mismatches[0].where


def test_audit_names_the_meter_when_the_signature_of_a_metered_day_is_changed(case):
    change_day(case, 2, "signature", 64)
    first = case.audit().mismatches[0]
    assert first.what == "signature of a stored metered day"
    assert f"0x{LATE.hex()}" in first.where


def test_audit_names_the_meter_when_a_metered_day_is_cut(case, assert_found):
    case.sql('UPDATE meter_days SET "values" = substr("values", 1, 760) WHERE meter_id = ?', LATE)
    assert_found("length of a metered day", LATE.hex())


def test_audit_names_the_batch_when_a_metered_day_is_missing(case, assert_found):
    case.sql("DELETE FROM meter_days WHERE meter_id = ? AND version = 2", LATE)
    assert_found("metered days of a batch", "version 2")
    assert_found("readings that the batch leaves out", LATE.hex())


def test_audit_names_the_batch_when_a_metered_day_was_added(case, assert_found):
    case.sql(
        'INSERT INTO meter_days (meter_id, first_isp, isp_count, version, "values", signature, batch_id) '
        'SELECT ?, first_isp, isp_count, version, "values", signature, batch_id '
        "FROM meter_days WHERE meter_id = ? AND version = 2",
        w.meter("silent"),
        LATE,
    )
    assert_found("metered days of a batch", "version 2")
    assert_found("signature of a stored metered day", w.meter("silent").hex())


@pytest.mark.parametrize("column", ["root", "data_hash", "leaf_count", "isp_count"])
def test_audit_names_the_column_when_a_batch_is_changed(case, assert_found, column):
    value = bytes(32) if column in ("root", "data_hash") else 7
    case.sql(f"UPDATE batches SET {column} = ? WHERE version = 2", value)
    assert_found(f"{column} of a stored batch", "version 2")


def test_audit_names_the_batch_when_it_is_missing(case, assert_found):
    case.sql("DELETE FROM meter_days WHERE version = 2")
    case.sql("DELETE FROM batches WHERE version = 2")
    assert_found("batch missing in the store", "version 2")


def test_audit_names_the_batch_when_it_was_never_anchored(case, assert_found):
    case.sql("UPDATE batches SET version = 3 WHERE version = 2")
    assert_found("batch in the store that was never anchored", "3")


@pytest.mark.parametrize("statement", ["UPDATE readings SET export_wh = 9", "DELETE FROM readings"])
def test_audit_names_the_intraday_batch_when_a_reading_of_it_is_changed(case, assert_found, statement):
    case.sql(f"{statement} WHERE meter_id = ? AND isp = ?", LATE, w.INTRADAY_ISP)
    assert_found("intraday batch rebuilt from the readings", f"ISP {w.INTRADAY_ISP}")


def change_curve(case, name: str, at: int) -> None:
    case.sql('UPDATE curves SET "values" = ? WHERE subject_id = ?', flip(w.BASELINE, at), w.meter(name))


def test_audit_names_the_meter_when_an_ordered_baseline_is_changed(case, assert_found):
    change_curve(case, "late", 290)
    report = assert_found("root rebuilt from the curves", "commitment 1")
    assert report.mismatches[0].what == f"baseline of meter 0x{LATE.hex()}"
    assert_found("pinned by an order", "prosumer order 2")
    assert_found("behind a verdict", "prosumer order 2")


def test_audit_names_the_meter_when_an_ordered_baseline_is_missing(case, assert_found):
    case.sql("DELETE FROM curves WHERE subject_id = ?", LATE)
    assert_found(f"baseline of meter 0x{LATE.hex()}", "commitment 1")
    assert_found("curves of a commitment", "commitment 1")


def test_audit_names_the_commitment_when_a_baseline_was_added(case, assert_found):
    case.sql(
        'INSERT INTO curves(kind, method, subject_id, first_isp, isp_count, "values", belief_time, commitment_id, '
        'leaf_position) SELECT kind, method, ?, first_isp, isp_count, "values", belief_time, 1, 9 FROM curves '
        "WHERE subject_id = ?",
        w.meter("silent two"),
        LATE,
    )
    assert_found("curves of a commitment", "commitment 1")


@pytest.mark.parametrize(
    "column",
    ["root", "data_hash", "scope", "method", "leaf_count", "made_at", "first_isp", "isp_count", "committer"],
)
def test_audit_names_the_column_when_a_commitment_is_changed(case, assert_found, column):
    hashes = ("root", "data_hash", "scope", "method")
    value = bytes(32) if column in hashes else w.NOBODY if column == "committer" else 7
    case.sql(f"UPDATE commitments SET {column} = ? WHERE commitment_id = 1", value)
    assert_found(f"{column} of a stored commitment", "commitment 1")


def test_audit_names_the_commitment_when_it_is_missing(case, assert_found):
    case.sql("DELETE FROM curves WHERE commitment_id = 3")
    case.sql("DELETE FROM commitments WHERE commitment_id = 3")
    assert_found("commitment missing in the store", "commitment 3")


def test_audit_names_the_commitment_when_it_was_never_posted(case, assert_found):
    case.sql("UPDATE curves SET commitment_id = NULL WHERE commitment_id = 3")
    case.sql("UPDATE commitments SET commitment_id = 9 WHERE commitment_id = 3")
    assert_found("commitment in the store that was never posted", "commitment 9")


def test_audit_names_the_document_when_it_is_changed(case, assert_found):
    key = w.order_terms("standby", w.ORDERED["standby"])["quantitiesHash"]
    content = stored(case, "content", "documents", "key = ?", key)
    case.sql("UPDATE documents SET content = ? WHERE key = ?", flip(content, 303), key)
    assert_found("stored document", f"prosumer_order_quantities 0x{key.hex()}")


def test_audit_names_the_order_when_its_document_is_missing(case, assert_found):
    key = w.order_terms("standby", w.ORDERED["standby"])["quantitiesHash"]
    case.sql("DELETE FROM documents WHERE key = ?", key)
    assert_found("document missing in the store", "prosumer order 4")


def test_audit_names_the_document_when_its_order_was_never_issued(case, assert_found):
    case.sql("INSERT INTO documents VALUES ('prosumer_order_quantities', ?, x'00', 1)", bytes(32))
    assert_found("document of an order that was never issued", bytes(32).hex())


def test_audit_refuses_a_store_when_a_column_holds_something_else(case):
    case.sql("UPDATE readings SET import_wh = 'much' WHERE meter_id = ? AND isp = ?", LATE, ISP)
    with pytest.raises(PermanentError, match=r"readings\.import_wh holds 'much'"):
        case.audit()


def test_audit_refuses_a_store_when_its_file_is_damaged(case):
    content = bytearray(case.store.read_bytes())
    content[5_000:9_000] = bytes(4_000)
    case.store.write_bytes(content)
    with pytest.raises(PermanentError, match=r"store .*store\.db"):
        case.audit()


# -------------------------------------------------------------------------------- contracts that answer otherwise


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (Query("ClearingHouse", "totalHeld"), None),
        (Query("ClearingHouse", "balanceOf", (w.account("late"),)), None),
        (Query("ClearingHouse", "lockOf", (w.lock_id("AgreementRegistry.bondLockId", 1),)), None),
        (Query("EnergyToken", "totalSupply"), None),
        (Query("EnergyToken", "balanceOf", (w.TREASURY,)), None),
        (Query("TokenDesk", "netBought", (w.DSO,)), None),
        (Query("MeteringLedger", "bondOf", (w.OPERATOR,)), None),
        (Query("FlexSettlement", "owed", (w.AGGREGATORS[1], w.account("late"))), None),
        (Query("ParticipantRegistry", "statusOf", (w.DSO,)), None),
        (Query("ParticipantRegistry", "rolesOf", (w.DSO,)), None),
        (Query("GridRegistry", "congestionPoint", (w.POINT,)), "capacityW"),
        (Query("GridRegistry", "connection", (w.connection("late"),)), "technicalUpW"),
        (Query("MeterRegistry", "meter", (LATE,)), "keyFromIsp"),
        (Query("MeteringLedger", "batch", (w.OPERATOR, w.DAY.first_isp)), "version"),
        (Query("CommitmentRegistry", "commitment", (1,)), "postedAt"),
        (Query("AgreementRegistry", "standingOf", (1,)), "version"),
        (Query("AgreementRegistry", "termsOf", (1,)), "rewardRate"),
        (Query("FlexMarket", "request", (1,)), "status"),
        (Query("FlexMarket", "offer", (1,)), "bond"),
        (Query("FlexMarket", "flexOrder", (2,)), "escrow"),
        (Query("FlexDispatch", "group", (1,)), "creditedWh"),
        (Query("FlexDispatch", "prosumerOrder", (1,)), "net"),
        (Query("FlexDispatch", "reassignment", (1,)), "pot"),
    ],
    ids=str,
)
def test_audit_names_the_getter_when_a_contract_answers_otherwise(case, assert_found, query, field):
    if field is None:
        case.answers[query] += 1
    else:
        case.answers[query] = {**case.answers[query], field: case.answers[query][field] + 1}
    special = {"totalHeld": "total held", "totalSupply": "supply of energy tokens"}
    if query.function in special:
        assert_found(special[query.function])
    else:
        assert_found("state of a contract", str(query))


def test_audit_names_the_order_when_its_terms_hash_differs(case, assert_found):
    query = Query("FlexDispatch", "prosumerOrder", (2,))
    case.answers[query] = {**case.answers[query], "termsHash": bytes(32)}
    report = assert_found("state of a contract", str(query))
    assert report.mismatches[0].found == f"termsHash 0x{bytes(32).hex()}"
