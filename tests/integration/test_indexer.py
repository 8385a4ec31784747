"""The indexer on a real Anvil.

new blocks → read once; confirmations → stays behind; reorg → taken back and read anew; node limits a range → smaller
ranges; reorg while reading → ReorgDetectedError, retried
"""

import pytest
from sqlalchemy import create_engine, func, select

from offchain.chain import indexer as indexer_module
from offchain.chain.anvil import Anvil
from offchain.chain.client import Chain
from offchain.chain.errors import ReorgDetectedError
from offchain.chain.indexer import Indexer, read_events
from offchain.chain.rpc import RpcError
from tests.integration.probe import deploy_probe, signers


@pytest.fixture
def suite():
    with Anvil(mining="batch") as node:
        yield deploy_probe(Chain(node.url))


@pytest.fixture
def engine(tmp_path):
    return create_engine(f"sqlite:///{tmp_path / 'index.db'}")


def _place(suite, *prices):
    return [suite.send(signers()[1], "Probe", "place", [price]) for price in prices]


def _prices(events):
    return [event.args["price"] for event in events]


def test_read_events_gives_every_field_in_order(suite):
    quote = {"price": 7, "point": b"\x07" * 32, "parts": [2**63]}
    receipts = [*_place(suite, 1, 2), suite.send(signers()[1], "Probe", "quote", [quote, b"\xff"])]
    events = read_events(suite.chain, suite)
    assert events == [event for receipt in receipts for event in suite.events(receipt)]
    assert [e.name for e in events] == ["Placed", "Placed", "Quoted"]
    assert events[2].args["quote"] == quote
    assert events[2].args["data"] == b"\xff"
    assert len(events[2].args["label"]) == 32
    assert events[0].address == suite.address("Probe")


def test_sync_stores_what_read_events_reads_and_nothing_twice(suite, engine):
    indexer = Indexer(suite.chain, suite, engine)
    quote = {"price": 7, "point": b"\x07" * 32, "parts": [2**63]}
    _place(suite, 1)
    suite.send(signers()[1], "Probe", "quote", [quote, b""])
    assert indexer.sync() == suite.chain.block_number()
    revision = indexer.revision
    assert indexer.sync() == suite.chain.block_number()
    suite.chain.request("evm_mine")
    indexer.sync()
    assert indexer.revision == revision > 0  # a block without events
    _place(suite, 2)
    Indexer(suite.chain, suite, engine).sync()
    assert indexer.events() == read_events(suite.chain, suite)
    assert _prices(indexer.events(names=["Placed"])) == [1, 2]


def test_sync_stays_behind_when_confirmations_are_asked_for(suite, engine):
    indexer = Indexer(suite.chain, suite, engine, confirmations=2)
    _place(suite, 1, 2, 3)
    assert indexer.sync() == suite.chain.block_number() - 2
    assert _prices(indexer.events()) == [1]


def test_sync_takes_back_what_a_reorg_replaced(suite, engine):
    indexer = Indexer(suite.chain, suite, engine)
    _place(suite, 1)
    snapshot = suite.chain.request("evm_snapshot")
    _place(suite, 2, 3)
    indexer.sync()
    assert _prices(indexer.events()) == [1, 2, 3]
    suite.chain.request("evm_revert", snapshot)
    suite.chain.nonces(signers()[1].address).reset()
    revision = indexer.revision
    indexer.sync()
    assert indexer.revision > revision
    _place(suite, 4)
    indexer.sync()
    assert _prices(indexer.events()) == [1, 4]
    assert indexer.events() == read_events(suite.chain, suite)
    assert indexer.last_block() == suite.chain.block_number()


def test_sync_takes_back_what_a_deep_reorg_replaced_when_the_new_chain_is_longer(suite, engine):
    indexer = Indexer(suite.chain, suite, engine)
    _place(suite, 1, 2, 3)
    indexer.sync()
    suite.chain.request("anvil_reorg", 2, [])
    suite.chain.request("anvil_mine", 3)
    indexer.sync()
    assert _prices(indexer.events()) == [1]
    assert indexer.last_block() == suite.chain.block_number()


def test_sync_leaves_the_database_alone_when_the_rewind_cannot_be_finished(suite, engine, monkeypatch):
    indexer = Indexer(suite.chain, suite, engine)
    snapshot = suite.chain.request("evm_snapshot")
    _place(suite, 1, 2)
    indexer.sync()
    suite.chain.request("evm_revert", snapshot)
    before = indexer.events()
    real = indexer_module.delete

    def failing(table):
        if table.name == "chain_blocks":
            raise OSError("disk full")
        return real(table)

    monkeypatch.setattr(indexer_module, "delete", failing)
    with pytest.raises(OSError, match="disk full"):
        indexer.sync()
    assert indexer.events() == before


def test_read_events_asks_for_less_when_the_node_refuses_a_range(suite, monkeypatch):
    _place(suite, 1, 2, 3, 4)
    expected = read_events(suite.chain, suite)
    real, spans = suite.chain.rpc.request, []

    def limited(method, *params):
        if method == "eth_getLogs":
            span = int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1
            spans.append(span)
            if span > 2:
                raise RpcError({"code": -32005, "message": "range too large"})
        return real(method, *params)

    monkeypatch.setattr(suite.chain.rpc, "request", limited)
    assert read_events(suite.chain, suite) == expected
    assert max(spans) > 2
    assert min(spans) <= 2


def test_read_events_raises_when_blocks_are_replaced_while_it_reads(suite, monkeypatch):
    _place(suite, 1, 2)
    real = suite.chain.rpc.request

    def unlucky(method, *params):
        result = real(method, *params)
        if method == "eth_getLogs":
            suite.chain.request("anvil_reorg", 1, [])
        return result

    monkeypatch.setattr(suite.chain.rpc, "request", unlucky)
    with pytest.raises(ReorgDetectedError, match="was replaced"):
        read_events(suite.chain, suite)


def test_sync_reads_again_when_blocks_are_replaced_while_it_reads(suite, engine, monkeypatch):
    _place(suite, 1, 2)
    real, done = suite.chain.rpc.request, []

    def unlucky_once(method, *params):
        result = real(method, *params)
        if method == "eth_getLogs" and not done:
            done.append(True)
            suite.chain.request("anvil_reorg", 1, [])
        return result

    monkeypatch.setattr(suite.chain.rpc, "request", unlucky_once)
    indexer = Indexer(suite.chain, suite, engine)
    indexer.sync()
    assert _prices(indexer.events()) == [1]
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(indexer_module._events)) == 1
