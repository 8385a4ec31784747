"""ChainAnchor on a real chain.

anchored → found by its root, confirmed; another root or period → not found; corrected → the latest decides
waiting to be mined → try again later, never sent twice; sent but not mined in time → followed up by its hash
killed between sending and noting → not sent twice; node gone → TransientError, later anchored; reverted → given up
"""

from datetime import UTC, datetime

import pytest
from eth_hash.auto import keccak

from offchain.chain.anvil import MNEMONIC, Anvil
from offchain.chain.client import Chain
from offchain.chain.clock import ChainClock
from offchain.chain.contracts import Suite
from offchain.chain.deployment import Deployment, Web3Executor
from offchain.chain.errors import ContractRevertedError, ReceiptTimeoutError
from offchain.chain.indexer import read_events
from offchain.chain.signers import mnemonic_signers
from offchain.domain.errors import TransientError
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.store.batches import BatchKind, BatchStatus, get_batch
from offchain.store.outbox import dead_letters
from offchain.store.readings import ReadingRow, insert_readings
from oracles.anchoring import ChainAnchor
from oracles.batching import Batcher
from oracles.clock import SimulatedClock
from oracles.publisher import Publisher
from tests.oracles.conftest import DAY

METER_OPERATOR = 5
BOND = 100_000_000
ROOT, DATA = keccak(b"root"), keccak(b"data")


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    start = DAY.first_isp * SECONDS_PER_ISP - 86_400
    with Anvil(state=tmp_path_factory.mktemp("anchoring") / "chain.state", timestamp=start) as node:
        yield node


@pytest.fixture(scope="module")
def deployed(node, tmp_path_factory):
    """Suite with one meter operator that has posted its bond, after the end of the day."""
    admin, registrar, operator = mnemonic_signers(MNEMONIC, 3)
    chain = Chain(node.url)
    clock = ChainClock(chain, simulated=True)
    record = Deployment(
        Web3Executor(chain, admin), {"minimum_bond": BOND}, path=tmp_path_factory.mktemp("suite") / "deployment.json"
    ).run()
    suite = Suite.open(chain, record)
    desk = suite.address("TokenDesk")
    payment = suite.call("TokenDesk", "quote", (BOND,))[0]
    suite.send(admin, "ParticipantRegistry", "registerRegistrar", (registrar.address, keccak(b"registrar")))
    organisation = (operator.address, METER_OPERATOR, keccak(b"operator"))
    suite.send(registrar, "ParticipantRegistry", "registerOrganisation", organisation)
    suite.send(admin, "LocalCurrency", "mint", (operator.address, payment))
    suite.send(operator, "LocalCurrency", "approve", (desk, payment))
    suite.send(operator, "TokenDesk", "buyAndDeposit", (BOND, operator.address))
    suite.send(operator, "MeteringLedger", "postBond", (BOND,))
    clock.advance_to((DAY.end_isp + 1) * SECONDS_PER_ISP)
    return suite, operator


@pytest.fixture
def suite(deployed):
    """The suite with a client of its own; what a test does on the chain is undone after it."""
    shared, _ = deployed
    chain = Chain(shared.chain.url)
    snapshot = chain.request("evm_snapshot")
    yield Suite(chain, shared.addresses, first_block=shared.first_block)
    chain.request("evm_revert", snapshot)


@pytest.fixture
def anchor(suite, deployed):
    return ChainAnchor(suite, deployed[1])


@pytest.fixture
def after():
    """Clock of the oracle, after the day."""
    return SimulatedClock(datetime.fromtimestamp((DAY.end_isp + 1) * SECONDS_PER_ISP, UTC))


@pytest.fixture
def batcher(store, anchor, meter_ids, signer, after):
    return Batcher(store, anchor.operator, meter_ids, signer, after)


def anchored(suite, name="DayAnchored"):
    return [event for event in read_events(suite.chain, suite) if event.name == name]


def publish_all(publisher):
    while (report := publisher.publish()).sent or report.waiting:
        continue
    return report


def status_of(store, batch):
    with store.read() as connection:
        return get_batch(connection, batch.id).status


def add_reading(store, signer, meter_id, isp, import_wh=500):
    row = ReadingRow(meter_id, isp, import_wh, 0, 0, signer.sign_reading(meter_id, isp, import_wh, 0), 1, "modbus")
    with store.write() as connection:
        insert_readings(connection, [row])


def test_anchor_day_is_found_and_confirmed_when_mined(anchor, suite):
    tx = anchor.anchor_day(DAY.first_isp, DAY.isp_count, ROOT, 5, DATA)
    (event,) = anchored(suite)
    assert (event.tx_hash, event.args["root"], event.args["operator"]) == (tx, ROOT, anchor.operator)
    assert anchor.transaction_of(BatchKind.DAY, DAY.first_isp, ROOT) == tx
    assert anchor.is_confirmed(tx) is True


def test_anchor_intraday_is_found_and_confirmed_when_mined(anchor, suite):
    tx = anchor.anchor_intraday(DAY.first_isp + 7, ROOT, 5, DATA)
    (event,) = anchored(suite, "IntradayAnchored")
    assert (event.tx_hash, event.args["root"]) == (tx, ROOT)
    assert anchor.transaction_of(BatchKind.INTRADAY, DAY.first_isp + 7, ROOT) == tx
    assert anchor.transaction_of(BatchKind.DAY, DAY.first_isp + 7, ROOT) is None


def test_transaction_of_is_none_when_nothing_like_it_was_anchored(anchor):
    anchor.anchor_day(DAY.first_isp, DAY.isp_count, ROOT, 5, DATA)
    assert anchor.transaction_of(BatchKind.DAY, DAY.first_isp, keccak(b"other")) is None
    assert anchor.transaction_of(BatchKind.DAY, DAY.first_isp - 96, ROOT) is None


def test_transaction_of_tells_the_latest_when_a_correction_followed(anchor):
    anchor.anchor_day(DAY.first_isp, DAY.isp_count, ROOT, 5, DATA)
    second = anchor.anchor_day(DAY.first_isp, DAY.isp_count, keccak(b"second"), 5, DATA)
    assert anchor.transaction_of(BatchKind.DAY, DAY.first_isp, ROOT) is None
    assert anchor.transaction_of(BatchKind.DAY, DAY.first_isp, keccak(b"second")) == second


def test_transaction_of_is_none_when_another_operator_anchored_it(anchor, suite):
    anchor.anchor_day(DAY.first_isp, DAY.isp_count, ROOT, 5, DATA)
    other = ChainAnchor(suite, mnemonic_signers(MNEMONIC, 4)[3])
    assert other.transaction_of(BatchKind.DAY, DAY.first_isp, ROOT) is None


def test_is_confirmed_waits_when_blocks_are_missing_on_top(anchor, suite, deployed):
    tx = anchor.anchor_day(DAY.first_isp, DAY.isp_count, ROOT, 5, DATA)
    careful = ChainAnchor(suite, deployed[1], confirmations=2)
    assert careful.is_confirmed(tx) is None
    suite.chain.request("anvil_mine", hex(2))
    assert careful.is_confirmed(tx) is True


def test_is_confirmed_is_false_when_the_transaction_is_unknown(anchor):
    assert anchor.is_confirmed("0x" + "ab" * 32) is False


def test_transaction_of_asks_to_wait_when_a_transaction_is_not_mined_yet(anchor, suite, deployed):
    chain, operator = suite.chain, deployed[1]
    call = suite.prepare("MeteringLedger", "anchorDay", (DAY.first_isp, DAY.isp_count, ROOT, 5, DATA), gas=1_000_000)
    nonce = int(chain.request("eth_getTransactionCount", operator.address, "pending"), 16)
    chain.request("evm_setAutomine", False)
    try:
        sent = chain.sign(operator, call, nonce=nonce, fees=chain.fees())
        chain.request("eth_sendRawTransaction", sent.raw)
        with pytest.raises(TransientError, match="wait to be mined"):
            anchor.transaction_of(BatchKind.DAY, DAY.first_isp, ROOT)
        assert anchor.is_confirmed(sent.tx_hash) is None
        chain.request("evm_mine")
    finally:
        chain.request("evm_setAutomine", True)
    assert anchor.transaction_of(BatchKind.DAY, DAY.first_isp, ROOT) == sent.tx_hash


def test_anchor_day_gives_the_hash_when_it_is_not_mined_in_time(anchor, suite, monkeypatch):
    def send(*args, **options):
        raise ReceiptTimeoutError("0x" + "cd" * 32, seconds=1, what="MeteringLedger.anchorDay")

    monkeypatch.setattr(suite, "send", send)
    assert anchor.anchor_day(DAY.first_isp, DAY.isp_count, ROOT, 5, DATA) == "0x" + "cd" * 32


def test_publish_anchors_both_versions_when_a_reading_came_late(
    anchor, suite, store, batcher, after, signer, meter_ids
):
    publisher = Publisher(store, anchor, after)
    first = batcher.close_day(DAY)
    publish_all(publisher)
    add_reading(store, signer, meter_ids[0], DAY.first_isp)
    second = batcher.close_day(DAY)
    publish_all(publisher)
    assert [e.args["root"] for e in anchored(suite)] == [first.root, second.root]
    assert [e.args["version"] for e in anchored(suite)] == [1, 2]
    assert status_of(store, first) is status_of(store, second) is BatchStatus.CONFIRMED


def test_publish_anchors_once_when_killed_between_sending_and_noting(anchor, suite, store, batcher, after):
    class Killed(ChainAnchor):
        def anchor_day(self, *args):
            super().anchor_day(*args)
            raise KeyboardInterrupt

    batch = batcher.close_day(DAY)
    with pytest.raises(KeyboardInterrupt):
        Publisher(store, Killed(suite, anchor._signer), after).publish()
    assert status_of(store, batch) is BatchStatus.PENDING
    publish_all(Publisher(store, anchor, after))
    assert len(anchored(suite)) == 1
    assert status_of(store, batch) is BatchStatus.CONFIRMED


def test_publish_gives_up_when_the_ledger_reverts(suite, store, meter_ids, signer, after):
    stranger = ChainAnchor(suite, mnemonic_signers(MNEMONIC, 4)[3])
    batch = Batcher(store, stranger.operator, meter_ids, signer, after).close_day(DAY)
    assert Publisher(store, stranger, after).publish().failed == 1
    assert status_of(store, batch) is BatchStatus.FAILED
    with store.read() as connection:
        (dead,) = dead_letters(connection)
    assert "MeteringLedger.anchorDay reverted" in dead.last_error
    assert anchored(suite) == []


def test_anchor_raises_what_the_ledger_says_when_it_reverts(anchor, suite):
    with pytest.raises(ContractRevertedError) as caught:
        anchor.anchor_day(DAY.first_isp, DAY.isp_count, ROOT, 0, DATA)
    assert not isinstance(caught.value, TransientError)
    assert caught.value.name == "EmptyBatch"
    assert anchored(suite) == []


def test_publish_waits_and_anchors_when_the_node_was_gone(tmp_path, deployed, node, store, signer, meter_ids, after):
    """Last in the file: it stops the node of the others."""
    shared, operator = deployed
    anchor = ChainAnchor(shared, operator)
    batch = Batcher(store, operator.address, meter_ids, signer, after).close_day(DAY)
    publisher = Publisher(store, anchor, after)
    port = node.port
    node.stop()
    for question in (
        lambda: anchor.transaction_of(BatchKind.DAY, DAY.first_isp, batch.root),
        lambda: anchor.is_confirmed("0x" + "ab" * 32),
        lambda: anchor.anchor_day(DAY.first_isp, DAY.isp_count, ROOT, 5, DATA),
        lambda: anchor.anchor_intraday(DAY.first_isp, ROOT, 5, DATA),
    ):
        with pytest.raises(TransientError, match="no chain node answers"):
            question()
    assert publisher.publish().failed == 1
    assert status_of(store, batch) is BatchStatus.PENDING
    with store.read() as connection:
        assert dead_letters(connection) == []
    with Anvil(state=node.state, port=port):
        ChainClock(shared.chain, simulated=True)
        later = SimulatedClock(datetime.fromtimestamp((DAY.end_isp + 2) * SECONDS_PER_ISP, UTC))
        publish_all(Publisher(store, anchor, later))
        assert status_of(store, batch) is BatchStatus.CONFIRMED
        assert [e.args["root"] for e in anchored(shared)] == [batch.root]
