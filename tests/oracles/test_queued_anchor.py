"""QueuedAnchor on a real chain: found, confirmed; A then B then A again → three; reverted → to be sent again;
a store that does not know what was sent → found on chain."""

import pytest
from eth_hash.auto import keccak
from sqlalchemy import create_engine

from offchain.chain.anvil import MNEMONIC, Anvil
from offchain.chain.errors import ContractRevertedError
from offchain.chain.indexer import read_events
from offchain.chain.signers import mnemonic_signers
from offchain.chain.transactions import TransactionQueue
from offchain.domain.errors import TransientError
from offchain.store.batches import BatchKind
from oracles.anchoring import QueuedAnchor
from tests.oracles.siteworld import AFTER, DAY, deploy

A, B, DATA = keccak(b"a"), keccak(b"b"), keccak(b"data")


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    with Anvil(timestamp=AFTER) as node:
        yield deploy(node, tmp_path_factory.mktemp("suite"))


@pytest.fixture
def new_anchor(suite, tmp_path):
    engines = []

    def new_anchor(name="store", account=1):
        engines.append(create_engine(f"sqlite:///{tmp_path / name}.db"))
        return QueuedAnchor(suite, TransactionQueue(suite.chain, mnemonic_signers(MNEMONIC, 9)[account], engines[-1]))

    snapshot = suite.chain.request("evm_snapshot")
    yield new_anchor
    suite.chain.request("evm_revert", snapshot)
    for engine in engines:
        engine.dispose()


def anchor_day(anchor, root):
    tx = anchor.anchor_day(DAY.first_isp, DAY.isp_count, root, 5, DATA)
    anchor._queue.advance()
    return tx


def roots(suite):
    return [event.args["root"] for event in read_events(suite.chain, suite) if event.name == "DayAnchored"]


def test_anchor_is_found_and_confirmed_when_mined(new_anchor, suite):
    anchor = new_anchor()
    tx = anchor_day(anchor, A)
    assert anchor.transaction_of(BatchKind.DAY, DAY.first_isp, A) == tx
    assert anchor.transaction_of(BatchKind.DAY, DAY.first_isp, B) is None
    assert (anchor.is_confirmed(tx), anchor.final_hash(tx)) == (True, tx)
    assert roots(suite) == [A]


def test_anchor_sends_again_when_a_correction_was_corrected_back(new_anchor, suite):
    anchor = new_anchor()
    for root in (A, B, A):
        assert anchor.transaction_of(BatchKind.DAY, DAY.first_isp, root) is None
        anchor_day(anchor, root)
    assert roots(suite) == [A, B, A]


def test_anchor_is_found_on_chain_when_the_store_does_not_know_it(new_anchor, suite):
    tx = anchor_day(new_anchor(), A)
    restored = new_anchor("restored")
    assert restored.transaction_of(BatchKind.DAY, DAY.first_isp, A) == tx
    assert restored.is_confirmed(tx) is True
    assert roots(suite) == [A]


def test_anchor_waits_when_the_store_does_not_know_what_is_in_the_pool(new_anchor, suite):
    assert suite.chain.mines_on_demand is False
    suite.chain.request("evm_setAutomine", False)
    try:
        anchor = new_anchor()
        anchor.anchor_day(DAY.first_isp, DAY.isp_count, A, 5, DATA)
        assert anchor.transaction_of(BatchKind.INTRADAY, DAY.first_isp, B) is None  # its own do not stand in the way
        with pytest.raises(TransientError, match="wait to be mined"):
            new_anchor("restored").transaction_of(BatchKind.DAY, DAY.first_isp, A)
    finally:
        suite.chain.request("evm_mine")
        suite.chain.request("evm_setAutomine", True)


def test_anchor_raises_what_the_ledger_says_when_it_refuses(new_anchor, suite):
    with pytest.raises(ContractRevertedError):
        anchor_day(new_anchor(account=8), A)
    assert roots(suite) == []
