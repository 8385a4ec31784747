"""TransactionQueue on a real chain.

submitted → mined, final after enough blocks; same key → once; reverted → nothing written; when mined → said so
killed before broadcasting → sent after the restart; stuck → fee raised, those behind go on; reorg → again
deeper reorg → open again, told, sent again, once; a node that is behind or of another branch → no harm
nonce used by another program → new nonce once that is final, never both; no funds → waits, goes on when there are some
"""

import pytest
from sqlalchemy import create_engine

from offchain.chain.anvil import MNEMONIC, Anvil
from offchain.chain.client import Call, Chain
from offchain.chain.signers import mnemonic_signers, signer
from offchain.chain.transactions import TransactionQueue, TransactionStatus

PAYEE = "0x" + "77" * 20
OPEN, CONFIRMED, REVERTED = TransactionStatus.OPEN, TransactionStatus.CONFIRMED, TransactionStatus.REVERTED
# Reverts from block time 2e9 on: PUSH4 2e9, TIMESTAMP, LT, PUSH1 15, JUMPI, PUSH1 0, PUSH1 0, REVERT, JUMPDEST, STOP
REVERTS_LATER = "0x63773594004210600f5760006000fd5b00"


class Time:
    now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def chain():
    """A chain of its own for each test: Anvil's base fee does not come back with a snapshot."""
    with Anvil() as node:
        chain = Chain(node.url)
        assert chain.mines_on_demand is False  # asked before mining is switched off
        mine(chain, 3)
        yield chain


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def engine(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'queue.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def sender():
    return mnemonic_signers(MNEMONIC, 1)[0]


@pytest.fixture
def queue(chain, sender, engine, clock):
    return TransactionQueue(chain, sender, engine, confirmations=2, bump_after_s=30, clock=clock)


def ping(number=0, to=PAYEE):
    return Call("Payee", "ping", to, number.to_bytes(4))


def mine(chain, blocks=1):
    chain.request("anvil_mine", hex(blocks))


def pings(chain, sender, to=PAYEE):
    """Call data of everything that the sender got mined to the payee, in order."""
    found = []
    for number in range(chain.block_number() + 1):
        block = chain.request("eth_getBlockByNumber", hex(number), True)
        found += [
            int(t["input"], 16)
            for t in block["transactions"]
            if t["from"].lower() == sender.address.lower() and t["to"] == to
        ]
    return found


def test_submit_is_final_when_enough_blocks_are_on_top(queue, chain, sender):
    assert queue.submit("a", ping(1)).status is OPEN
    for _ in range(2):
        assert queue.advance() == 0
        mine(chain)
    assert queue.advance() == 1
    done = queue.by_key("a")
    assert (done.status, queue.by_hash(done.tx_hash)) == (CONFIRMED, done)
    assert pings(chain, sender) == [1]


def test_submit_sends_once_when_the_key_is_the_same(queue, chain, sender):
    assert queue.submit("a", ping(1)).tx_hash == queue.submit("a", ping(2)).tx_hash
    mine(chain, 3)
    queue.advance()
    assert queue.submit("a", ping(3)).status is CONFIRMED
    assert pings(chain, sender) == [1]


def test_submit_goes_on_with_the_nonces_when_restarted(queue, chain, sender, engine, clock):
    chain.request("evm_setAutomine", False)
    queue.submit("a", ping(1))
    restarted = TransactionQueue(Chain(chain.url), sender, engine, clock=clock)
    restarted.submit("b", ping(2))
    mine(chain)
    assert pings(chain, sender) == [1, 2]


def test_advance_sends_what_was_written_when_killed_before_broadcasting(queue, chain, sender, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(chain, "broadcast", _die)
        with pytest.raises(KeyboardInterrupt):
            queue.submit("a", ping(1))
    assert pings(chain, sender) == []
    queue.advance()
    assert pings(chain, sender) == [1]


def _die(*_):
    raise KeyboardInterrupt


def test_advance_raises_the_fee_and_the_rest_goes_on_when_a_transaction_is_stuck(queue, chain, sender, clock):
    chain.request("evm_setAutomine", False)
    for number in range(3):
        queue.submit(str(number), ping(number))
    base_fee = chain.block()["base_fee"]
    for _ in range(3):  # far above what was bid
        chain.request("anvil_setNextBlockBaseFeePerGas", hex(base_fee * 50))
        mine(chain)
    assert pings(chain, sender) == []
    first = queue.by_key("0").tx_hash
    for _ in range(3):
        clock.now += 3_600
        queue.advance()
        chain.request("anvil_setNextBlockBaseFeePerGas", hex(base_fee * 50))
        mine(chain)
    assert pings(chain, sender) == [0, 1, 2]
    mine(chain, 3)
    queue.advance()
    assert [queue.by_key(str(n)).status for n in range(3)] == [CONFIRMED] * 3
    replaced = queue.by_key("0")
    assert replaced.tx_hash != first
    assert queue.by_hash(first) == replaced


def test_advance_raises_the_fee_when_the_clock_was_a_month_ahead_at_the_sending(queue, chain, clock):
    chain.request("evm_setAutomine", False)
    sent = queue.submit("a", ping(1))
    chain.request("anvil_setNextBlockBaseFeePerGas", hex(chain.block()["base_fee"] * 50))
    mine(chain)
    queue.advance()
    assert queue.by_key("a").tx_hash == sent.tx_hash
    clock.now -= 30 * 86_400
    queue.advance()
    assert queue.by_key("a").tx_hash != sent.tx_hash


def test_advance_leaves_the_fee_alone_when_the_chain_stands_still(queue, chain, clock):
    chain.request("evm_setAutomine", False)
    sent = queue.submit("a", ping(1))
    clock.now += 3_600
    queue.advance()
    assert queue.by_key("a").tx_hash == sent.tx_hash


def test_advance_sends_again_when_a_reorg_took_it_out(queue, chain, sender):
    queue.submit("a", ping(1))
    mine(chain)
    assert queue.advance() == 0
    chain.request("anvil_reorg", 2, [])
    assert pings(chain, sender) == []
    for _ in range(3):
        queue.advance()
        mine(chain)
    assert queue.advance() + (queue.by_key("a").status is CONFIRMED) >= 1
    assert pings(chain, sender) == [1]


@pytest.fixture
def final(chain, sender, engine, clock):
    """A queue with two transactions that are final, and the hashes of those that it says have vanished."""
    vanished = []
    queue = TransactionQueue(
        chain, sender, engine, confirmations=2, clock=clock, vanished=lambda _, hashes: vanished.extend(hashes)
    )
    mine(chain, 10)
    for number in range(2):
        queue.submit(str(number), ping(number))
    mine(chain, 3)
    assert queue.advance() == 2
    return queue, vanished


def states(queue):
    return [queue.by_key(str(number)).status for number in range(2)]


def test_advance_sends_again_what_was_final_when_a_reorg_is_deeper_than_the_confirmations(final, chain, sender):
    queue, vanished = final
    hashes = {queue.by_key(str(number)).tx_hash for number in range(2)}
    chain.request("anvil_reorg", 8, [])
    assert pings(chain, sender) == []
    mine(chain)
    queue.advance()
    assert (states(queue), set(vanished)) == ([OPEN, OPEN], hashes)
    mine(chain, 3)
    queue.advance()
    assert (states(queue), pings(chain, sender)) == ([CONFIRMED, CONFIRMED], [0, 1])
    queue.advance()
    assert len(vanished) == 2


def test_advance_opens_only_what_is_above_the_common_block_when_a_reorg_is_deep(final, chain, sender):
    queue, vanished = final
    mine(chain, 10)
    queue.submit("2", ping(2))
    mine(chain, 3)
    queue.advance()
    chain.request("anvil_reorg", 6, [])
    mine(chain)
    queue.advance()
    assert (states(queue), len(vanished)) == ([CONFIRMED, CONFIRMED], 1)
    mine(chain, 3)
    queue.advance()
    assert pings(chain, sender) == [0, 1, 2]


@pytest.mark.parametrize(("told", "reopened"), [(None, 0), ({"hash": "0x" + "ee" * 32}, 2)], ids=["behind", "branch"])
def test_advance_does_no_harm_when_a_node_is_behind_or_of_another_branch(
    final, chain, sender, monkeypatch, told, reopened
):
    queue, vanished = final
    with monkeypatch.context() as patch:
        patch.setattr(chain, "request", lambda method, *_: told)
        queue._take_back()
    assert len(vanished) == reopened
    for _ in range(2):
        queue.advance()
        mine(chain, 3)
    assert (states(queue), pings(chain, sender)) == ([CONFIRMED, CONFIRMED], [0, 1])


def test_advance_believes_no_receipt_when_its_block_is_not_of_the_chain(queue, chain, monkeypatch):
    chain.request("evm_setAutomine", False)
    sent = queue.submit("a", ping(1))
    mined = {"blockNumber": "0x1", "blockHash": "0x" + "ee" * 32, "status": "0x1", "transactionHash": sent.tx_hash}
    monkeypatch.setattr(queue, "_look", lambda _: (chain.block_number() + 9, 0, {sent.tx_hash: mined}))
    assert (queue.advance(), queue.by_key("a").status) == (0, OPEN)
    mined["blockHash"] = chain.request("eth_getBlockByNumber", "0x1", False)["hash"]
    assert (queue.advance(), queue.by_key("a").status) == (1, CONFIRMED)


def test_advance_takes_a_new_nonce_when_another_program_used_it_and_that_is_final(queue, chain, sender):
    chain.request("evm_setAutomine", False)
    sent = queue.submit("a", ping(1))
    chain.request("anvil_dropAllTransactions")
    other = Chain(chain.url)
    foreign = other.sign(sender, Call("", "", PAYEE, b"\x09", gas=30_000), nonce=sent.nonce, fees=chain.fees())
    chain.broadcast([foreign])
    mine(chain)
    for _ in range(3):
        queue.advance()  # both could still be mined
    assert queue.by_key("a").nonce == sent.nonce
    mine(chain, 2)
    queue.advance()
    queue.advance()
    assert queue.by_key("a").nonce == sent.nonce + 1
    mine(chain, 3)
    assert queue.advance() == 1
    assert pings(chain, sender) == [9, 1]


def test_advance_says_reverted_when_the_contract_refuses_in_the_block(queue, chain):
    to = "0x" + "88" * 20
    chain.request("anvil_setCode", to, REVERTS_LATER)
    chain.request("evm_setAutomine", False)
    queue.submit("a", ping(1, to))
    chain.request("evm_setNextBlockTimestamp", 2_000_000_001)
    mine(chain, 3)
    assert queue.advance() == 1
    assert queue.by_key("a").status is REVERTED


def test_submit_writes_nothing_when_the_contract_refuses(queue, chain):
    to = "0x" + "88" * 20
    chain.request("anvil_setCode", to, "0x60006000fd")
    with pytest.raises(Exception, match="reverted"):
        queue.submit("a", ping(1, to))
    assert queue.by_key("a") is None


def test_advance_goes_on_when_funds_arrive(chain, engine, clock):
    poor = signer(b"\x05" * 32)
    queue = TransactionQueue(chain, poor, engine, clock=clock)
    waiting = queue.submit("a", ping(1))
    assert (waiting.status, "funds" in waiting.error) == (OPEN, True)
    queue.advance()
    chain.request("anvil_setBalance", poor.address, hex(10**18))
    queue.advance()
    assert queue.advance() == 1
    assert pings(chain, poor) == [1]
