"""The chain as the publisher sees it: anchors batches in the metering ledger."""

from eth_account.signers.local import LocalAccount

from offchain.chain.contracts import Suite
from offchain.chain.errors import (
    NodeUnreachableError,
    NoFundsError,
    NonceGapError,
    ReceiptTimeoutError,
    WrongChainError,
)
from offchain.chain.events import decode_event
from offchain.chain.transactions import TransactionQueue, TransactionStatus
from offchain.domain.errors import TransientError
from offchain.store.batches import BatchKind

LEDGER = "MeteringLedger"
PASSING = (NodeUnreachableError, WrongChainError, NonceGapError, NoFundsError)
"""Errors of the chain that trying again later, perhaps through another node, can cure."""
EVENTS = {BatchKind.DAY: "DayAnchored", BatchKind.INTRADAY: "IntradayAnchored"}


class ChainAnchor:
    """Anchors for one meter operator (implements ``AnchorPort``).

    Parameters
    ----------
    confirmations : int
        Blocks on top of a transaction before it counts as final; 0 where blocks are final at once.
    """

    def __init__(self, suite: Suite, signer: LocalAccount, *, confirmations: int = 0):
        self._suite = suite
        self._signer = signer
        self._confirmations = confirmations

    @property
    def operator(self) -> str:
        return self._signer.address

    def anchor_day(self, first_isp: int, isp_count: int, root: bytes, leaf_count: int, data_hash: bytes) -> str:
        return self._send("anchorDay", (first_isp, isp_count, root, leaf_count, data_hash))

    def anchor_intraday(self, isp: int, root: bytes, leaf_count: int, data_hash: bytes) -> str:
        return self._send("anchorIntraday", (isp, root, leaf_count, data_hash))

    def transaction_of(self, kind: BatchKind, first_isp: int, root: bytes) -> str | None:
        """Looked up in the events of the ledger; the latest of the period decides.

        Raises
        ------
        TransientError
            None is mined, but transactions of the operator wait, and it may be among them.
        """
        topic = self._suite.codec.event_topic(LEDGER, EVENTS[kind])
        logs = self._reading(
            "eth_getLogs",
            {
                "address": self._suite.address(LEDGER),
                "fromBlock": hex(self._suite.first_block),
                "toBlock": "latest",
                "topics": [
                    "0x" + topic.hex(),
                    "0x" + bytes.fromhex(self.operator[2:]).rjust(32, b"\0").hex(),
                    "0x" + first_isp.to_bytes(32).hex(),
                ],
            },
        )
        if not logs:
            self._require_nothing_waits()
            return None
        event = decode_event(self._suite.codec, self._suite.names, logs[-1], 0)
        if event is not None and event.args["root"] == root:
            return event.tx_hash
        self._require_nothing_waits()
        return None

    def final_hash(self, tx: str) -> str:
        return tx

    def is_confirmed(self, tx: str) -> bool | None:
        receipt = self._reading("eth_getTransactionReceipt", tx)
        if receipt is None:
            return None if self._reading("eth_getTransactionByHash", tx) is not None else False
        if int(receipt["status"], 16) == 0:
            return False
        depth = self._suite.chain.block_number() - int(receipt["blockNumber"], 16)
        return True if depth >= self._confirmations else None

    def _send(self, function: str, args: tuple) -> str:
        try:
            return self._suite.send(self._signer, LEDGER, function, args).tx_hash
        except ReceiptTimeoutError as error:
            return error.tx_hash  # sent, and not to be sent again: is_confirmed follows it up
        except PASSING as error:
            raise TransientError(error.message, hint=error.hint) from error

    def _require_nothing_waits(self, known: int = 0) -> None:
        """Refuse to go on while transactions wait that could be what is looked for; ``known`` ones are not."""
        mined, pending = (
            int(self._reading("eth_getTransactionCount", self.operator, state), 16) for state in ("latest", "pending")
        )
        if pending - mined > known:
            raise TransientError(f"{pending - mined} transactions of {self.operator} wait to be mined")

    def _reading(self, method: str, *params):
        try:
            return self._suite.chain.request(method, *params)
        except PASSING as error:
            raise TransientError(error.message, hint=error.hint) from error


class QueuedAnchor(ChainAnchor):
    """Anchors through a transaction queue: what was sent is known from the store, whichever node is asked.

    The n-th anchoring of a period has the key ``kind:period:n``; what the queue does not know (a store restored from
    a backup) is looked up on chain as in :class:`ChainAnchor`.
    """

    def __init__(self, suite: Suite, queue: TransactionQueue, *, confirmations: int = 0):
        super().__init__(suite, queue.signer, confirmations=confirmations)
        self._queue = queue

    def anchor_day(self, first_isp: int, isp_count: int, root: bytes, leaf_count: int, data_hash: bytes) -> str:
        args = (first_isp, isp_count, root, leaf_count, data_hash)
        return self._submit(BatchKind.DAY, first_isp, "anchorDay", args)

    def anchor_intraday(self, isp: int, root: bytes, leaf_count: int, data_hash: bytes) -> str:
        return self._submit(BatchKind.INTRADAY, isp, "anchorIntraday", (isp, root, leaf_count, data_hash))

    def transaction_of(self, kind: BatchKind, first_isp: int, root: bytes) -> str | None:
        sent = self._queue.with_prefix(_prefix(kind, first_isp))
        if not sent:
            return super().transaction_of(kind, first_isp, root)
        last = sent[-1]
        # The root is an argument of both functions, in its place in the call data.
        is_ours = root in last.data and last.status is not TransactionStatus.REVERTED
        return last.tx_hash if is_ours else None

    def _require_nothing_waits(self, known: int = 0) -> None:
        super()._require_nothing_waits(known + len(self._queue.open()))

    def is_confirmed(self, tx: str) -> bool | None:
        sent = self._queue.by_hash(tx)
        if sent is None:
            return super().is_confirmed(tx)
        return None if sent.status is TransactionStatus.OPEN else sent.status is TransactionStatus.CONFIRMED

    def final_hash(self, tx: str) -> str:
        sent = self._queue.by_hash(tx)
        return tx if sent is None else sent.tx_hash

    def _submit(self, kind: BatchKind, first_isp: int, function: str, args: tuple) -> str:
        prefix = _prefix(kind, first_isp)
        key = f"{prefix}{len(self._queue.with_prefix(prefix)) + 1}"
        try:
            return self._queue.submit(key, self._suite.prepare(LEDGER, function, args)).tx_hash
        except PASSING as error:
            raise TransientError(error.message, hint=error.hint) from error


def _prefix(kind: BatchKind, first_isp: int) -> str:
    return f"{kind}:{first_isp}:"
