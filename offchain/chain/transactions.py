"""Transactions that must reach the chain once: written down before they are sent, followed until they are final.

A transaction keeps its nonce for life. It is signed and stored, then broadcast; after a crash the stored bytes are
broadcast again, which the chain takes once. One that waits too long is replaced under the same nonce at a higher fee,
so that of all its variants one is mined at most, and those behind it go on. Final is what has ``confirmations`` blocks
on top; what a reorg takes out before that is broadcast again. Should a deeper one take out what was final, it is open
again: its nonce is free on the new branch, and the same bytes go there.

One program sends for a signer. Should another have used a nonce, the transaction gets a new one when, and only when,
the foreign one is as deep as a final one: until then both could still be mined.
"""

import logging
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    delete,
    func,
    insert,
    select,
    update,
)

from offchain.chain.client import Call, Chain, Fees, SignedTransaction
from offchain.chain.errors import NonceGapError
from offchain.chain.rpc import RpcError
from offchain.chain.signers import TransactionSigner
from offchain.domain.errors import ChainError

log = logging.getLogger(__name__)

BUMP_PERCENT = 25
"""More than the 10 to 12.5% that nodes ask of a replacement."""
MOST_BUMPS = 12
"""After these the fee is fourteen times the first one; then only broadcast again."""

_metadata = MetaData()
_AutoId = BigInteger().with_variant(Integer, "sqlite")
_transactions = Table(
    "chain_transactions",
    _metadata,
    Column("id", _AutoId, primary_key=True, autoincrement=True),
    Column("chain_id", BigInteger, nullable=False),
    Column("sender", String(42), nullable=False),
    Column("key", String(160), nullable=False),
    Column("nonce", BigInteger, nullable=False),
    Column("contract", String(64), nullable=False),
    Column("function", String(64), nullable=False),
    Column("to", String(42), nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("gas", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("tx_hash", String(66), nullable=False),
    Column("error", Text),
    UniqueConstraint("chain_id", "sender", "key"),
)
_attempts = Table(
    "chain_attempts",
    _metadata,
    Column("id", _AutoId, primary_key=True, autoincrement=True),
    Column("transaction_id", BigInteger, nullable=False, index=True),
    Column("nonce", BigInteger, nullable=False),
    Column("tx_hash", String(66), nullable=False, unique=True),
    Column("raw", Text, nullable=False),
    Column("max_fee", BigInteger, nullable=False),
    Column("priority_fee", BigInteger),
    Column("sent_at", BigInteger, nullable=False),
    Column("head", BigInteger, nullable=False),
)
_mined = Table(
    "chain_mined",
    _metadata,
    Column("transaction_id", BigInteger, primary_key=True, autoincrement=False),
    Column("block_number", BigInteger, nullable=False, index=True),
    Column("block_hash", String(66), nullable=False),
)


class TransactionStatus(StrEnum):
    """``OPEN`` until it is final; then it took effect, or was mined and reverted."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    REVERTED = "reverted"


class QueuedTransaction(NamedTuple):
    """A transaction as the queue knows it; ``tx_hash`` of its mined variant once final, else of the latest one."""

    id: int
    key: str
    nonce: int
    contract: str
    function: str
    to: str
    data: bytes
    gas: int
    status: TransactionStatus
    tx_hash: str
    error: str | None


_COLUMNS = [_transactions.c[name] for name in QueuedTransaction._fields]

Vanished = Callable[[Connection, list[str]], None]


class TransactionQueue:
    """The transactions of one signer on one chain, in the order of their nonces.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Database; the tables ``chain_transactions``, ``chain_attempts`` and ``chain_mined`` are made if missing.
    confirmations : int
        Blocks on top of a transaction before it is final; 0 where blocks are final at once.
    bump_after_s : float
        How long a transaction may wait before its fee is raised [s]; doubles with every raise.
    clock : callable
        Time [UTC s].
    vanished : callable, optional
        Told all hashes of transactions that were final and are open again, in the database transaction that says so.
    """

    def __init__(
        self,
        chain: Chain,
        signer: TransactionSigner,
        engine: Engine,
        *,
        confirmations: int = 0,
        bump_after_s: float = 30,
        clock: Callable[[], float] = time.time,
        vanished: Vanished | None = None,
    ):
        self.chain = chain
        self.signer = signer
        self._engine = engine
        self._confirmations = confirmations
        self._bump_after_s = bump_after_s
        self._clock = clock
        self._vanished = vanished
        self._lock = threading.RLock()
        self._displaced_once: set[int] = set()
        _metadata.create_all(engine)

    def submit(self, key: str, call: Call) -> QueuedTransaction:
        """Send a call once under an idempotency key; the same key again returns what became of it.

        Raises
        ------
        ContractRevertedError
            The contract refuses it now; nothing was written or sent.
        NodeUnreachableError
            Nothing was written or sent, or it was written and will be sent by :meth:`advance`.
        """
        with self._lock:
            if (known := self.by_key(key)) is not None:
                return known
            priced = self.chain.priced(self.signer, call)
            fees, head = self.chain.fees(), self.chain.block_number()
            nonce = self._next_nonce()
            signed = self.chain.sign(self.signer, priced, nonce=nonce, fees=fees)
            row = {
                "chain_id": self.chain.chain_id,
                "sender": self.signer.address,
                "key": key,
                "nonce": nonce,
                "contract": priced.contract,
                "function": priced.function,
                "to": priced.to,
                "data": priced.data,
                "gas": priced.gas,
                "status": TransactionStatus.OPEN,
                "tx_hash": signed.tx_hash,
            }
            with self._engine.begin() as connection:
                transaction_id = connection.execute(insert(_transactions).values(row)).inserted_primary_key[0]
                self._write_attempt(connection, transaction_id, signed, fees, head)
            self._broadcast(transaction_id, signed)
            return self.by_key(key)

    def by_key(self, key: str) -> QueuedTransaction | None:
        """A transaction by its idempotency key."""
        return next(iter(self._select(_transactions.c.key == key)), None)

    def with_prefix(self, prefix: str) -> list[QueuedTransaction]:
        """Transactions whose key starts with ``prefix``, oldest first."""
        return self._select(_transactions.c.key.startswith(prefix, autoescape=True))

    def by_hash(self, tx_hash: str) -> QueuedTransaction | None:
        """A transaction by the hash of any of its variants."""
        query = select(_attempts.c.transaction_id).where(_attempts.c.tx_hash == tx_hash)
        with self._engine.connect() as connection:
            transaction_id = connection.scalar(query)
        return None if transaction_id is None else next(iter(self._select(_transactions.c.id == transaction_id)), None)

    def open(self) -> list[QueuedTransaction]:
        """Transactions that are not final, by nonce."""
        return sorted(self._select(_transactions.c.status == TransactionStatus.OPEN), key=lambda t: t.nonce)

    def advance(self) -> int:
        """Follow up what is open: note what is final, send what is lost again, raise the fee of what waits.

        Returns
        -------
        int
            How many became final.
        """
        with self._lock:
            self._take_back()
            waiting = self.open()
            if not waiting:
                return 0
            attempts = self._attempts_of([transaction.id for transaction in waiting])
            head, final_nonce, receipts = self._look(attempts)
            final = 0
            for transaction in waiting:
                tried = attempts[transaction.id]
                mined = next((r for a in tried if (r := receipts.get(a.tx_hash)) is not None), None)
                if mined is not None:
                    self._displaced_once.discard(transaction.id)
                    if head - int(mined["blockNumber"], 16) >= self._confirmations and self._is_of_the_chain(mined):
                        self._finish(transaction, mined)
                        final += 1
                elif final_nonce > transaction.nonce:
                    self._displaced(transaction, tried, head)
                else:
                    self._displaced_once.discard(transaction.id)
                    self._push(transaction, tried, head)
            return final

    def _look(self, attempts: dict[int, list[Any]]) -> tuple[int, int, dict[str, Any]]:
        """Head, first nonce that is not final, and receipts, all from one node."""
        head = self.chain.block_number()
        final_block = max(head - self._confirmations, 0)
        hashes = [attempt.tx_hash for tried in attempts.values() for attempt in tried]
        count, *answers = self.chain.rpc.batch(
            [
                ("eth_getTransactionCount", [self.signer.address, hex(final_block)]),
                *(("eth_getTransactionReceipt", [tx_hash]) for tx_hash in hashes),
            ]
        )
        receipts = {
            tx_hash: answer
            for tx_hash, answer in zip(hashes, answers, strict=True)
            if answer is not None and not isinstance(answer, RpcError)
        }
        return head, 0 if isinstance(count, RpcError) else int(count, 16), receipts

    def _take_back(self) -> None:
        """Open again what was final in blocks that are not of the chain any more.

        Blocks hold on to those below them, so one request is enough while nothing has happened. A node that does not
        have the block yet says nothing. One of another branch does no harm: on the true one the nonce is used up, and
        the receipt is found again.
        """
        query = (
            select(_mined)
            .join(_transactions, _transactions.c.id == _mined.c.transaction_id)
            .where(_transactions.c.chain_id == self.chain.chain_id, _transactions.c.sender == self.signer.address)
            .order_by(_mined.c.block_number.desc())
        )
        gone, hashes = [], {}
        with self._engine.connect() as connection:
            for row in connection.execute(query, execution_options={"yield_per": 100}):
                number = row.block_number
                if number not in hashes:
                    block = self.chain.request("eth_getBlockByNumber", hex(number), False)
                    hashes[number] = row.block_hash if block is None else block["hash"]
                if hashes[number] == row.block_hash:
                    break
                gone.append(row.transaction_id)
        if not gone:
            return
        tried = [attempt.tx_hash for attempts in self._attempts_of(gone).values() for attempt in attempts]
        log.error("a reorg took out %d transactions that were final; they are sent again", len(gone))
        with self._engine.begin() as connection:
            connection.execute(delete(_mined).where(_mined.c.transaction_id.in_(gone)))
            reopened = update(_transactions).where(_transactions.c.id.in_(gone))
            connection.execute(reopened.values(status=TransactionStatus.OPEN))
            if self._vanished is not None:
                self._vanished(connection, tried)

    def _is_of_the_chain(self, receipt: dict[str, Any]) -> bool:
        """Whether a receipt is of the block that the chain has in its place; a node may answer from another branch."""
        block = self.chain.request("eth_getBlockByNumber", receipt["blockNumber"], False)
        return block is not None and block["hash"] == receipt["blockHash"]

    def _finish(self, transaction: QueuedTransaction, receipt: dict[str, Any]) -> None:
        ok = int(receipt["status"], 16) == 1
        status = TransactionStatus.CONFIRMED if ok else TransactionStatus.REVERTED
        with self._engine.begin() as connection:
            connection.execute(
                update(_transactions)
                .where(_transactions.c.id == transaction.id)
                .values(status=status, tx_hash=receipt["transactionHash"], error=None)
            )
            number = int(receipt["blockNumber"], 16)
            row = {"transaction_id": transaction.id, "block_number": number, "block_hash": receipt["blockHash"]}
            connection.execute(insert(_mined).values(row))

    def _displaced(self, transaction: QueuedTransaction, tried: list[Any], head: int) -> None:
        # Seen twice before it is believed: the node may have mined it between counting and answering.
        if transaction.id not in self._displaced_once:
            self._displaced_once.add(transaction.id)
            return
        # And by all nodes: to send again what one of them has only forgotten would do it twice.
        asked = [("eth_getTransactionReceipt", [attempt.tx_hash]) for attempt in tried]
        answers = [answer for node in self.chain.rpc.batch_everywhere(asked) for answer in node]
        if any(answer is not None and not isinstance(answer, RpcError) for answer in answers):
            return
        self._displaced_once.discard(transaction.id)
        nonce = self._next_nonce()
        log.warning("nonce %s of %s was used by another program", transaction.nonce, self.signer.address)
        self._attempt(transaction._replace(nonce=nonce), self.chain.fees(), head)

    def _push(self, transaction: QueuedTransaction, tried: list[Any], head: int) -> None:
        last = tried[-1]
        bumps = sum(attempt.nonce == transaction.nonce for attempt in tried) - 1
        # Sent in the future: the clock was wrong then, and how long it has waited is not known.
        overdue = not 0 <= self._clock() - last.sent_at <= self._bump_after_s * 2**bumps
        if not overdue or head <= last.head or bumps >= MOST_BUMPS:
            # A node may have lost it, or a reorg taken it out; where it is known nothing happens.
            self._broadcast(transaction.id, SignedTransaction(self.signer.address, last.nonce, last.raw, last.tx_hash))
            return
        now = self.chain.fees()
        maximum = max(now.maximum, _raised(last.max_fee))
        priority = None if now.priority is None else max(now.priority, _raised(last.priority_fee or 0))
        log.info("%s.%s waits: fee raised to %s wei", transaction.contract, transaction.function, maximum)
        self._attempt(transaction, Fees(max(maximum, priority or 0), priority), head)

    def _attempt(self, transaction: QueuedTransaction, fees: Fees, head: int) -> None:
        call = Call(transaction.contract, transaction.function, transaction.to, transaction.data, gas=transaction.gas)
        signed = self.chain.sign(self.signer, call, nonce=transaction.nonce, fees=fees)
        with self._engine.begin() as connection:
            connection.execute(
                update(_transactions)
                .where(_transactions.c.id == transaction.id)
                .values(nonce=transaction.nonce, tx_hash=signed.tx_hash)
            )
            self._write_attempt(connection, transaction.id, signed, fees, head)
        self._broadcast(transaction.id, signed)

    def _write_attempt(self, connection, transaction_id: int, signed: SignedTransaction, fees: Fees, head: int) -> None:
        connection.execute(
            insert(_attempts).values(
                transaction_id=transaction_id,
                nonce=signed.nonce,
                tx_hash=signed.tx_hash,
                raw=signed.raw,
                max_fee=fees.maximum,
                priority_fee=fees.priority,
                sent_at=int(self._clock()),
                head=head,
            )
        )

    def _broadcast(self, transaction_id: int, signed: SignedTransaction) -> None:
        """Hand it to the node; a refusal is noted, and :meth:`advance` sees to it."""
        try:
            (error,) = self.chain.broadcast([signed])
        except ChainError as exc:
            error = str(exc)
        with self._engine.begin() as connection:
            connection.execute(update(_transactions).where(_transactions.c.id == transaction_id).values(error=error))

    def _next_nonce(self) -> int:
        """After the last one handed out; the node knows better only when it is further."""
        query = select(func.max(_transactions.c.nonce)).where(
            _transactions.c.chain_id == self.chain.chain_id, _transactions.c.sender == self.signer.address
        )
        with self._engine.connect() as connection:
            last = connection.scalar(query)
        expected = self.chain.nonce(self.signer.address)
        if last is None:
            return expected
        opened = [transaction.nonce for transaction in self.open()]
        if expected <= last and not any(nonce >= expected for nonce in opened):
            raise NonceGapError(self.signer.address, expected=expected, nonce=last + 1)
        return max(last + 1, expected)

    def _attempts_of(self, ids: list[int]) -> dict[int, list[Any]]:
        found: dict[int, list[Any]] = {transaction_id: [] for transaction_id in ids}
        query = select(_attempts).where(_attempts.c.transaction_id.in_(ids)).order_by(_attempts.c.id)
        with self._engine.connect() as connection:
            for row in connection.execute(query):
                found[row.transaction_id].append(row)
        return found

    def _select(self, condition) -> list[QueuedTransaction]:
        query = (
            select(*_COLUMNS)
            .where(
                condition,
                _transactions.c.chain_id == self.chain.chain_id,
                _transactions.c.sender == self.signer.address,
            )
            .order_by(_transactions.c.id)
        )
        with self._engine.connect() as connection:
            return [
                QueuedTransaction(*row)._replace(status=TransactionStatus(row.status))
                for row in connection.execute(query)
            ]


def _raised(fee: int) -> int:
    return fee + fee * BUMP_PERCENT // 100 + 1
