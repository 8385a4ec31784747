"""Connection to a chain: reads, and sends what one or many signers sign, quickly and in order."""

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import rlp
from eth_account.signers.local import LocalAccount
from eth_utils import keccak

from offchain.chain.abi import Codec, checksum
from offchain.chain.errors import (
    ContractRevertedError,
    NodeUnreachableError,
    NoFundsError,
    NonceGapError,
    ReceiptTimeoutError,
    TransactionRefusedError,
    WrongChainError,
)
from offchain.chain.failover import FailoverRpc
from offchain.chain.nonce import NonceQueue
from offchain.chain.rpc import Rpc, RpcError
from offchain.chain.signers import TransactionSigner, sign_preimage
from offchain.domain.errors import ChainError, DomainError

WINDOW = 2_000
"""Transactions in flight at once; fees are asked for anew for each window."""
RESEND_SECONDS = 10
"""How long a transaction may wait before it is handed to the node again."""
GAS_MARGIN_PERCENT = 25
"""Added to estimates: what is cold, warm or zero may have changed until the transaction runs."""
NONCE_COMPLAINTS = (
    "nonce too low",
    "nonce is too low",
    "nonce below",
    "replacement transaction underpriced",
    "oldnonce",
)
ALREADY_THERE = ("already known", "already imported", "known transaction")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a contract, or its creation when ``to`` is ``None``."""

    contract: str
    function: str
    to: str | None
    data: bytes
    value: int = 0
    """[wei]"""
    gas: int | None = None
    """Gas limit; estimated when ``None``."""

    @property
    def what(self) -> str:
        return f"{self.contract}.{self.function}"

    def message(self, sender: str | None = None) -> dict[str, str]:
        """As JSON-RPC wants it."""
        message = {"data": "0x" + self.data.hex(), "value": hex(self.value)}
        if self.to is not None:
            message["to"] = self.to
        if sender is not None:
            message["from"] = sender
        if self.gas is not None:
            message["gas"] = hex(self.gas)
        return message


@dataclass(frozen=True, slots=True)
class Fees:
    """What a unit of gas may cost [wei]; ``priority`` is ``None`` on a chain without EIP-1559."""

    maximum: int
    priority: int | None


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A transaction ready to be sent, as often as it takes."""

    sender: str
    nonce: int
    raw: str
    tx_hash: str


@dataclass(frozen=True)
class Receipt:
    """What became of a transaction."""

    contract: str
    function: str
    tx_hash: str | None
    """``None`` when the call was refused before it was sent."""
    block_number: int | None
    gas_used: int
    fee: int
    """Paid for gas [wei]."""
    contract_address: str | None
    """Address of a created contract."""
    logs: list[dict[str, Any]] = field(repr=False)
    error: ContractRevertedError | None = None

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(slots=True)
class Usage:
    """Transactions and gas of one function."""

    transactions: int = 0
    gas_used: int = 0
    reverted: int = 0


class Chain:
    """One chain through one node or several; may be shared by threads.

    Parameters
    ----------
    url : str or sequence of str
        HTTP endpoint, or several in order of preference: when one does not answer, or for another chain, the next
        does. Several need ``expected_chain_id``.
    expected_chain_id : int, optional
        Refuse every other chain.
    codec : Codec, optional
        ABIs by which reverts are named.
    timeout : float
        For one answer [s].
    receipt_timeout : float
        For transactions to be mined [s].

    Raises
    ------
    NodeUnreachableError, WrongChainError
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        expected_chain_id: int | None = None,
        codec: Codec | None = None,
        timeout: float = 30,
        receipt_timeout: float = 120,
    ):
        self.codec = codec or Codec({})
        self.receipt_timeout = receipt_timeout
        if isinstance(url, str):
            self.rpc: Rpc | FailoverRpc = Rpc(url, timeout=timeout)
        elif expected_chain_id is None:
            raise DomainError("several endpoints without the chain that they must be of", hint="give the chain id")
        else:
            self.rpc = FailoverRpc(url, chain_id=expected_chain_id, timeout=timeout)
        self.url = self.rpc.url
        self.chain_id = int(self.request("eth_chainId"), 16)
        if expected_chain_id is not None and self.chain_id != expected_chain_id:
            raise WrongChainError(expected=expected_chain_id, actual=self.chain_id, where=self.url)
        self.usage: dict[tuple[str, str], Usage] = defaultdict(Usage)
        self._usage_lock = threading.Lock()
        self._queues: dict[str, NonceQueue] = {}
        self._queues_lock = threading.Lock()
        self._mining_lock = threading.Lock()

    # Reading

    def request(self, method: str, *params: Any) -> Any:
        """Result of any JSON-RPC method."""
        try:
            return self.rpc.request(method, *params)
        except RpcError as exc:
            raise TransactionRefusedError(method, exc.message) from exc

    @cached_property
    def is_anvil(self) -> bool:
        return str(self.request("web3_clientVersion")).lower().startswith("anvil")

    @cached_property
    def mines_on_demand(self) -> bool:
        """An Anvil that was started without mining: this client asks for a block after what it sends."""
        return self.is_anvil and not self.request("anvil_getAutomine") and not self.request("anvil_getIntervalMining")

    def block(self, number: int | str = "latest") -> dict[str, Any]:
        """Header of a block: ``number``, ``timestamp`` [unix s], ``hash``, ``parent_hash``, ``base_fee`` [wei]."""
        block = self.request("eth_getBlockByNumber", hex(number) if isinstance(number, int) else number, False)
        if block is None:
            raise ChainError(f"chain {self.chain_id} has no block {number}")
        return header(block)

    def block_number(self) -> int:
        return int(self.request("eth_blockNumber"), 16)

    def balance(self, address: str) -> int:
        """Balance of the chain's own currency [wei]."""
        return int(self.request("eth_getBalance", address, "latest"), 16)

    def code(self, address: str) -> bytes:
        """Code of a contract; empty where there is none."""
        return bytes.fromhex(self.request("eth_getCode", address, "latest")[2:])

    def call(self, call: Call, *, sender: str | None = None, block: int | str = "latest") -> bytes:
        """Return data of a call that changes nothing."""
        return self.call_all([call], sender=sender, block=block)[0]

    def call_all(self, calls: Sequence[Call], *, sender: str | None = None, block: int | str = "latest") -> list[bytes]:
        """As :meth:`call` for many calls in few requests."""
        where = hex(block) if isinstance(block, int) else block
        results = self._batch([("eth_call", [call.message(sender), where]) for call in calls])
        for call, result in zip(calls, results, strict=True):
            if isinstance(result, RpcError):
                raise self._explain(call, result)
        return [bytes.fromhex(result[2:]) for result in results]

    # Sending

    def send(self, signer: LocalAccount, call: Call) -> Receipt:
        """Signs and sends a call and waits until it is mined.

        Raises
        ------
        ContractRevertedError
            The contract refused; nothing was sent when this was seen while estimating.
        NoFundsError, NonceGapError, ReceiptTimeoutError, NodeUnreachableError, TransactionRefusedError
        """
        return self.send_all([(signer, call)])[0]

    def send_all(self, items: Sequence[tuple[LocalAccount, Call]], *, check: bool = True) -> list[Receipt]:
        """Sends many calls of any signers at once and waits until all are mined.

        Calls of one signer run in the given order. Gas is estimated on the state before the first of them, so a call
        that needs an earlier one of the same list must bring its gas.

        Parameters
        ----------
        items : sequence of (signer, Call)
        check : bool
            Raise the first revert. If not, it stands in ``Receipt.error`` and the others go on.

        Returns
        -------
        list of Receipt
            In the order of ``items``.
        """
        receipts: list[Receipt] = []
        for start in range(0, len(items), WINDOW):
            receipts += self._send_window(items[start : start + WINDOW], check)
        if check:
            for receipt in receipts:
                if receipt.error is not None:
                    raise receipt.error
        return receipts

    def _send_window(self, items: Sequence[tuple[LocalAccount, Call]], check: bool) -> list[Receipt]:
        priced, refused = self._with_gas(items)
        if check and refused:
            raise next(iter(refused.values()))
        sendable = [(i, signer, call) for i, (signer, call) in enumerate(priced) if i not in refused]
        fees = self.fees()
        self._require_funds([(signer, call) for _, signer, call in sendable], fees)
        signed = self._submit([(signer, call) for _, signer, call in sendable], fees)
        mined = self._await([(transaction, call) for transaction, (_, _, call) in zip(signed, sendable, strict=True)])
        receipts: list[Receipt | None] = [None] * len(items)
        for i, error in refused.items():
            call = items[i][1]
            receipts[i] = Receipt(call.contract, call.function, None, None, 0, 0, None, [], error)
        for (i, _, _), receipt in zip(sendable, mined, strict=True):
            receipts[i] = receipt
        return receipts

    def _with_gas(
        self, items: Sequence[tuple[LocalAccount, Call]]
    ) -> tuple[list[tuple[LocalAccount, Call]], dict[int, ContractRevertedError]]:
        """Calls with their gas limit, and what the contracts already refuse, by position."""
        unknown = [i for i, (_, call) in enumerate(items) if call.gas is None]
        estimates = self._batch([("eth_estimateGas", [items[i][1].message(items[i][0].address)]) for i in unknown])
        priced = list(items)
        refused: dict[int, ContractRevertedError] = {}
        for i, estimate in zip(unknown, estimates, strict=True):
            signer, call = items[i]
            if isinstance(estimate, RpcError):
                error = self._explain(call, estimate)
                if not isinstance(error, ContractRevertedError):
                    raise error
                refused[i] = error
            else:
                gas = int(estimate, 16)
                priced[i] = (
                    signer,
                    replace(call, gas=gas if gas == 21_000 else gas * (100 + GAS_MARGIN_PERCENT) // 100),
                )
        return priced, refused

    def priced(self, signer: TransactionSigner, call: Call) -> Call:
        """The call with its gas limit; :class:`ContractRevertedError` when the contract refuses it."""
        ((_, priced),), refused = self._with_gas([(signer, call)])
        if refused:
            raise refused[0]
        return priced

    def nonce(self, address: str) -> int:
        """Next nonce of an account by the node, transactions in its pool included."""
        return int(self.request("eth_getTransactionCount", address, "pending"), 16)

    def fees(self) -> Fees:
        """Fees that stay good enough while twelve full blocks pass."""
        block, tip, price = self._batch(
            [
                ("eth_getBlockByNumber", ["latest", False]),
                ("eth_maxPriorityFeePerGas", []),
                ("eth_gasPrice", []),
            ]
        )
        if isinstance(block, RpcError):
            raise TransactionRefusedError("eth_getBlockByNumber", block.message)
        if block.get("baseFeePerGas") is None:
            return Fees(0 if isinstance(price, RpcError) else int(price, 16), None)
        priority = 0 if isinstance(tip, RpcError) else int(tip, 16)
        return Fees(4 * int(block["baseFeePerGas"], 16) + priority, priority)

    def _require_funds(self, items: Sequence[tuple[LocalAccount, Call]], fees: Fees) -> None:
        required: dict[str, int] = defaultdict(int)
        for signer, call in items:
            required[signer.address] += call.gas * fees.maximum + call.value
        balances = self._batch([("eth_getBalance", [address, "latest"]) for address in required])
        for (address, needed), balance in zip(required.items(), balances, strict=True):
            if isinstance(balance, RpcError):
                raise TransactionRefusedError("eth_getBalance", balance.message)
            if int(balance, 16) < needed:
                raise NoFundsError(address, balance=int(balance, 16), required=needed)

    def nonces(self, address: str) -> NonceQueue:
        """Queue of nonces of a signer."""
        with self._queues_lock:
            if address not in self._queues:
                self._queues[address] = NonceQueue(lambda: self.nonce(address))
            return self._queues[address]

    def sign(self, signer: TransactionSigner, call: Call, *, nonce: int, fees: Fees) -> SignedTransaction:
        """Signs a call whose gas is known."""
        # By hand: four times as fast as eth-account, which checks every field twice, and any signer will do.
        to = bytes.fromhex(call.to[2:]) if call.to else b""
        if fees.priority is None:
            fields = [nonce, fees.maximum, call.gas, to, call.value, call.data]
            signature = sign_preimage(signer, rlp.encode([*fields, self.chain_id, b"", b""]))
            raw = rlp.encode([*fields, signature.v - 27 + 35 + 2 * self.chain_id, signature.r, signature.s])
        else:
            fields = [self.chain_id, nonce, fees.priority, fees.maximum, call.gas, to, call.value, call.data, []]
            signature = sign_preimage(signer, b"\x02" + rlp.encode(fields))
            raw = b"\x02" + rlp.encode([*fields, signature.v - 27, signature.r, signature.s])
        tx_hash = keccak(raw)
        return SignedTransaction(signer.address, nonce, "0x" + raw.hex(), "0x" + tx_hash.hex())

    def broadcast(self, transactions: Sequence[SignedTransaction]) -> list[str | None]:
        """Hands signed transactions to the node.

        Returns
        -------
        list of str or None
            Reason of refusal per transaction; ``None`` when accepted or already there.
        """
        requests = [("eth_sendRawTransaction", [transaction.raw]) for transaction in transactions]
        # A node may run the requests of a batch side by side, so mining is asked for when all are in the pool: a
        # transaction that arrives while its predecessor is being mined can stay queued for ever.
        if self.mines_on_demand:
            results = self._batch(requests)
            self.request("evm_mine")
        elif self.is_anvil and len(requests) > 1:
            # An Anvil that mines each transaction chokes on hundreds that arrive together.
            with self._mining_lock:
                self.request("evm_setAutomine", False)
                results = self._batch(requests)
                self.request("evm_mine")
                self.request("evm_setAutomine", True)
        else:
            results = self._batch(requests)
        reasons = [r.message if isinstance(r, RpcError) else None for r in results[: len(transactions)]]
        return [None if r is not None and _says(r, ALREADY_THERE) else r for r in reasons]

    def _submit(self, items: Sequence[tuple[LocalAccount, Call]], fees: Fees) -> list[SignedTransaction]:
        queues = {signer.address: self.nonces(signer.address) for signer, _ in items}
        signed: dict[int, SignedTransaction] = {}
        waiting = list(range(len(items)))
        with ExitStack() as held:
            for address in sorted(queues):  # always in this order, so that two threads cannot wait for each other
                held.enter_context(queues[address])
            try:
                for _ in range(3):
                    for i in waiting:
                        signer, call = items[i]
                        signed[i] = self.sign(signer, call, nonce=queues[signer.address].take(), fees=fees)
                    reasons = self.broadcast([signed[i] for i in waiting])
                    outdated = []
                    for i, reason in zip(waiting, reasons, strict=True):
                        if reason is None:
                            continue
                        if not _says(reason, NONCE_COMPLAINTS):
                            raise self._refused(items[i], reason, fees)
                        outdated.append(i)
                        queues[items[i][0].address].reset()
                    waiting = outdated
                    if not waiting:
                        return [signed[i] for i in range(len(items))]
                raise TransactionRefusedError(items[waiting[0]][1].what, "another program sends for the same signer")
            except ChainError:
                for queue in queues.values():
                    queue.reset()
                raise

    def _refused(self, item: tuple[LocalAccount, Call], reason: str, fees: Fees) -> ChainError:
        signer, call = item
        if "insufficient funds" in reason.lower():
            required = call.gas * fees.maximum + call.value
            return NoFundsError(signer.address, balance=self.balance(signer.address), required=required)
        return TransactionRefusedError(call.what, reason)

    def receipts(self, tx_hashes: Sequence[str]) -> list[dict[str, Any] | None]:
        """Receipts as the node has them; ``None`` for what is not mined."""
        results = self._batch([("eth_getTransactionReceipt", [tx_hash]) for tx_hash in tx_hashes])
        return [None if isinstance(result, RpcError) else result for result in results]

    def _await(self, sent: Sequence[tuple[SignedTransaction, Call]]) -> list[Receipt]:
        found: dict[str, dict[str, Any]] = {}
        outstanding = [transaction for transaction, _ in sent]
        deadline = time.monotonic() + self.receipt_timeout
        resend_at = time.monotonic() + RESEND_SECONDS
        pause = 0.005
        while True:
            raw = self.receipts([transaction.tx_hash for transaction in outstanding])
            found |= {t.tx_hash: r for t, r in zip(outstanding, raw, strict=True) if r is not None}
            outstanding = [transaction for transaction in outstanding if transaction.tx_hash not in found]
            if not outstanding:
                break
            if time.monotonic() > deadline:
                raise self._overdue(outstanding[0], {t.tx_hash: call for t, call in sent})
            if time.monotonic() > resend_at:
                # A node may lose what it accepted; sending it again does nothing where it did not.
                self.broadcast(outstanding)
                resend_at = time.monotonic() + RESEND_SECONDS
            elif self.is_anvil and int(self.request("txpool_status")["pending"], 16):
                self.request("evm_mine")
            else:
                time.sleep(pause)
                pause = min(pause * 1.5, 1)
        return [self._receipt(call, found[transaction.tx_hash]) for transaction, call in sent]

    def _overdue(self, transaction: SignedTransaction, calls: Mapping[str, Call]) -> ChainError:
        self.nonces(transaction.sender).reset()
        expected = int(self.request("eth_getTransactionCount", transaction.sender, "latest"), 16)
        if expected < transaction.nonce:
            return NonceGapError(transaction.sender, expected=expected, nonce=transaction.nonce)
        call = calls[transaction.tx_hash]
        return ReceiptTimeoutError(transaction.tx_hash, seconds=self.receipt_timeout, what=call.what)

    def _receipt(self, call: Call, raw: dict[str, Any]) -> Receipt:
        gas_used = int(raw["gasUsed"], 16)
        failed = int(raw["status"], 16) == 0
        with self._usage_lock:
            usage = self.usage[call.contract, call.function]
            usage.transactions += 1
            usage.gas_used += gas_used
            usage.reverted += failed
        created = raw.get("contractAddress")
        return Receipt(
            call.contract,
            call.function,
            raw["transactionHash"],
            int(raw["blockNumber"], 16),
            gas_used,
            gas_used * int(raw.get("effectiveGasPrice", "0x0"), 16),
            checksum(created) if created and call.to is None else None,
            raw["logs"],
            self._why_failed(call, raw) if failed else None,
        )

    def _why_failed(self, call: Call, raw: dict[str, Any]) -> ContractRevertedError:
        """Runs a mined transaction again, where the node can trace; else the call on the state before its block."""
        try:
            trace = self.rpc.request("debug_traceTransaction", raw["transactionHash"], {"tracer": "callTracer"})
        except RpcError:
            trace = {}
        output = trace.get("output") or "0x"
        if output == "0x" and "gas" in trace.get("error", "").lower():
            return ContractRevertedError(call.contract, call.function, "OutOfGas", {"limit": call.gas})
        if output == "0x":
            before = hex(int(raw["blockNumber"], 16) - 1)
            result = self._batch([("eth_call", [call.message(raw["from"]), before])])[0]
            if isinstance(result, RpcError):
                output = _revert_data(result) or "0x"
        return self.codec.decode_error(call.contract, call.function, bytes.fromhex(output[2:]))

    def _explain(self, call: Call, error: RpcError) -> ChainError:
        data = _revert_data(error)
        if data is not None:
            return self.codec.decode_error(call.contract, call.function, bytes.fromhex(data[2:]))
        if "revert" in error.message.lower():
            return self.codec.decode_error(call.contract, call.function, b"")
        return TransactionRefusedError(call.what, error.message)

    def _batch(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        try:
            return self.rpc.batch(requests)
        except RpcError as exc:
            raise NodeUnreachableError(self.url, f"it refuses batches: {exc.message}") from exc

    # Totals

    def totals(self) -> Usage:
        """Transactions and gas of all functions so far."""
        with self._usage_lock:
            return Usage(
                sum(usage.transactions for usage in self.usage.values()),
                sum(usage.gas_used for usage in self.usage.values()),
                sum(usage.reverted for usage in self.usage.values()),
            )


def header(block: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a block that we use, as numbers."""
    return {
        "number": int(block["number"], 16),
        "timestamp": int(block["timestamp"], 16),
        "hash": block["hash"],
        "parent_hash": block["parentHash"],
        "base_fee": int(block.get("baseFeePerGas") or "0x0", 16),
    }


def _says(reason: str, phrases: Sequence[str]) -> bool:
    return any(phrase in reason.lower() for phrase in phrases)


def _revert_data(error: RpcError) -> str | None:
    """Revert data of an error object; nodes put it in ``data`` or one level below."""
    data = error.data
    if isinstance(data, Mapping):
        data = data.get("data")
    return data if isinstance(data, str) and data.startswith("0x") else None
