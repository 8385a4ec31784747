"""The store on PostgreSQL: the same code and migrations as on SQLite, on a server of its own."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from eth_hash.auto import keccak

from offchain.chain.signatures import metering_domain
from offchain.domain.curves import unpack_readings
from offchain.domain.isp import MarketDay, isp_start
from offchain.store import open_store
from offchain.store.assets import Asset, assets_at, put_asset
from offchain.store.batches import Batch, BatchKind, BatchStatus, MeterDayRow, insert_batch, latest_batch, meter_days_of
from offchain.store.documents import Document, get_document, put_document
from offchain.store.outbox import enqueue, mark_done, open_items
from offchain.store.readings import (
    ReadingRow,
    RegisterState,
    energy_matrix,
    insert_readings,
    load_register_states,
    save_register_states,
)
from offchain.store.series import SeriesBlock, put_measurements, read_measurements
from offchain.store.tables import metadata
from oracles.batching import Batcher
from oracles.clock import SimulatedClock
from oracles.evidence import Evidence
from oracles.signer import GatewayKeys

pytestmark = pytest.mark.long
DAY = MarketDay.of(date(2016, 5, 20))


def _binaries() -> Path:
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    for folder in reversed(folders):
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder
    pytest.fail("PostgreSQL is not installed: these tests need initdb and pg_ctl (Debian package postgresql)")


@pytest.fixture(scope="module")
def url():
    """A private server in a temporary folder; it refuses to run as root, so that another user runs it then."""
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="gridpact-pg-"))
    as_user = {}
    if os.geteuid() == 0:
        names = [entry.pw_name for entry in pwd.getpwall()]
        user = "postgres" if "postgres" in names else "nobody"
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)
        as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(*arguments):
        subprocess.run(arguments, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60, **as_user)

    data = folder / "data"
    run(binaries / "initdb", "-D", data, "-U", "gridpact", "-A", "trust", "-E", "UTF8", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    run(binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
    try:
        yield f"postgresql+psycopg://gridpact@127.0.0.1:{port}/postgres"
    finally:
        run(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def store(url):
    """An empty database on the server."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS store")
        connection.execute("CREATE DATABASE store")
    with open_store(url.removesuffix("postgres") + "store") as opened:
        yield opened


def test_migrations_give_the_tables_of_this_program_when_postgresql(store):
    with store.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_store_is_opened_again_when_it_exists(store):
    with store.write() as connection:
        put_document(connection, Document("terms", b"k" * 32, b"content", 1))
    url = store.engine.url.render_as_string(hide_password=False)
    with open_store(url, create=False) as again, again.read() as connection:
        assert get_document(connection, "terms", b"k" * 32).content == b"content"


def test_write_leaves_nothing_when_it_fails(store):
    with pytest.raises(RuntimeError), store.write() as connection:
        put_document(connection, Document("terms", b"k" * 32, b"content", 1))
        raise RuntimeError
    with store.read() as connection:
        assert get_document(connection, "terms", b"k" * 32) is None


def test_readings_count_once_when_inserted_twice(store):
    rows = [
        ReadingRow(bytes([m]) * 32, 100 + i, 10 * m + i, 0, 0, b"s" * 65, 5, "modbus") for m in (1, 2) for i in (0, 1)
    ]
    with store.write() as connection:
        assert insert_readings(connection, rows[:3]) == 3
        assert insert_readings(connection, rows) == 1
    with store.read() as connection:
        energy = energy_matrix(connection, [b"\x02" * 32, b"\x01" * 32], 100, 2)
    assert energy[..., 0].tolist() == [[20, 21], [10, 11]]


def test_register_states_are_replaced_when_saved_again(store):
    with store.write() as connection:
        for boundary in (1, 2):
            save_register_states(connection, [RegisterState(b"m" * 32, boundary, 5, 6, None)])
    with store.read() as connection:
        assert load_register_states(connection)[b"m" * 32].boundary == 2


def test_batch_and_outbox_share_a_transaction_when_written(store):
    batch = Batch(0, BatchKind.DAY, "0x1", 96, 96, 1, b"r" * 32, 1, b"d" * 32, BatchStatus.PENDING, None, 7)
    day = MeterDayRow(b"m" * 32, 96, 96, 1, b"v", b"s" * 65)
    with store.write() as connection:
        number = insert_batch(connection, batch, [day])
        assert enqueue(connection, "batch:1", "anchor", number, now=8)
        assert not enqueue(connection, "batch:1", "anchor", number, now=8)
    with store.write() as connection:
        assert latest_batch(connection, BatchKind.DAY, "0x1", 96)._replace(id=0) == batch
        assert meter_days_of(connection, number) == [day]
        (item,) = open_items(connection, "anchor")
        mark_done(connection, item.id, now=9)
        assert open_items(connection, "anchor") == []


def test_day_is_batched_corrected_served_and_proven_when_postgresql(store):
    """Also: reading row by row must not make a cursor of every statement that follows in the transaction."""
    meter_ids = sorted(bytes([number]) * 32 for number in range(1, 6))
    signer = GatewayKeys(metering_domain(31337, "0x" + "11" * 20), {m: m for m in meter_ids})
    batcher = Batcher(store, "0x" + "22" * 20, meter_ids, signer, SimulatedClock(isp_start(DAY.end_isp)))
    rows = [ReadingRow(m, isp, m[0], 7, 0, b"s" * 65, 5, "modbus") for m in meter_ids for isp in DAY.isps]
    for arrived in (rows[1:], rows[:1]):
        with store.write() as connection:
            insert_readings(connection, arrived)
        batch = batcher.close_day(DAY)
        assert batcher.close_day(DAY) == batch
    evidence = Evidence(store)
    for made in (batch, batcher.close_isp(DAY.first_isp)):
        assert (made.version, made.leaf_count) == (2 if made.kind is BatchKind.DAY else 1, 5)
        assert keccak(b"".join(evidence.data_behind(made.data_hash).parts)) == made.data_hash
        proof = evidence.prove(made.root, meter_ids[2])
        assert unpack_readings(proof.values) == [(3, 7)] * made.isp_count
        assert len(proof.siblings) in (2, 3)


def test_measurements_come_back_when_many(store):
    values = np.random.default_rng(1).normal(size=(2_000, 20))
    ids = tuple(f"m{i}" for i in range(20))
    with store.write() as connection:
        put_measurements(connection, SeriesBlock(ids, 50, values), quantity="net_wh", belief_time=1, source="import")
    with store.read() as connection:
        assert np.array_equal(read_measurements(connection, ids, "net_wh", 50, 2_000).values, values)


def test_assets_come_back_when_stored(store):
    asset = Asset("bat-1", 100, 100, "enrolment", "p1", "battery", {"capacity_wh": 5_000})
    with store.write() as connection:
        assert put_asset(connection, asset)
    with store.read() as connection:
        assert assets_at(connection, 100) == [asset]
