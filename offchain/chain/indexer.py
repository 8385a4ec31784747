"""Reads the events of a suite: all at once for an audit, or into a database that follows the chain through reorgs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    delete,
    func,
    insert,
    select,
)

from offchain.chain.client import Chain, header
from offchain.chain.contracts import Suite
from offchain.chain.errors import ReorgDetectedError, TransactionRefusedError
from offchain.chain.events import Event, decode_event
from offchain.chain.rpc import RpcError

LARGEST_RANGE = 10_000
"""Blocks per request to begin with; halved whenever a node finds it too much."""
ATTEMPTS = 5
"""How often a reorg in the middle of reading is taken as bad luck."""

_metadata = MetaData()
_blocks = Table(
    "chain_blocks",
    _metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", String(66), nullable=False),
    Column("timestamp", BigInteger, nullable=False),
)
_events = Table(
    "chain_events",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("chain_id", BigInteger, nullable=False),
    Column("block_number", BigInteger, nullable=False, index=True),
    Column("block_hash", String(66), nullable=False),
    Column("tx_hash", String(66), nullable=False),
    Column("log_index", Integer, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("contract", String(64), nullable=False),
    Column("address", String(42), nullable=False),
    Column("name", String(64), nullable=False, index=True),
    Column("args", JSON, nullable=False),
    UniqueConstraint("chain_id", "block_hash", "tx_hash", "log_index"),
)


def read_events(chain: Chain, suite: Suite, *, first: int | None = None, last: int | None = None) -> list[Event]:
    """All events of the suite in the order they happened.

    Parameters
    ----------
    first, last : int, optional
        Block range, both included; default is from the deployment to the latest block.

    Raises
    ------
    ReorgDetectedError
        Blocks were replaced while they were read.
    """
    first = suite.first_block if first is None else first
    last = chain.block_number() if last is None else last
    events: list[Event] = []
    ends: list[dict[str, Any]] = []
    for end, part in _read_ranges(chain, suite, first, last):
        ends.append(end)
        events += part
    _require_unchanged(read_headers(chain, [end["number"] for end in ends]), ends)
    return events


def _read_ranges(chain: Chain, suite: Suite, first: int, last: int) -> Iterator[tuple[dict[str, Any], list[Event]]]:
    """Events of one range after the other, each with the header its last block had before they were read.

    When that block is still the same afterwards, so are all blocks before it. The range adapts to what the node can
    answer.
    """
    span = LARGEST_RANGE
    addresses = list(suite.addresses.values())
    while first <= last:
        number = min(first + span - 1, last)
        end = read_headers(chain, [number])[number]
        query = {"fromBlock": hex(first), "toBlock": hex(number), "address": addresses}
        try:
            logs = chain.rpc.request("eth_getLogs", query)
        except RpcError as exc:
            if number == first:
                raise TransactionRefusedError("eth_getLogs", exc.message) from exc
            span = (number - first + 1) // 2
            continue
        yield end, _decode_logs(chain, suite, logs)
        first = number + 1
        span = min(span * 2, LARGEST_RANGE)


def _require_unchanged(headers: Mapping[int, dict[str, Any]], expected: Sequence[dict[str, Any]]) -> None:
    for block in expected:
        if headers[block["number"]]["hash"] != block["hash"]:
            raise ReorgDetectedError(block["number"])


def _decode_logs(chain: Chain, suite: Suite, logs: Sequence[dict[str, Any]]) -> list[Event]:
    headers = read_headers(chain, sorted({int(log["blockNumber"], 16) for log in logs}))
    events = []
    for log in logs:
        block = headers[int(log["blockNumber"], 16)]
        if block["hash"] != log["blockHash"]:
            raise ReorgDetectedError(block["number"])
        event = decode_event(suite.codec, suite.names, log, block["timestamp"])
        if event is not None:
            events.append(event)
    return sorted(events, key=lambda event: (event.block_number, event.log_index))


def read_headers(chain: Chain, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Block headers by number, in few requests."""
    results = chain.rpc.batch([("eth_getBlockByNumber", [hex(number), False]) for number in numbers])
    headers = {}
    for number, block in zip(numbers, results, strict=True):
        if isinstance(block, RpcError) or block is None:
            raise ReorgDetectedError(number)
        headers[number] = header(block)
    return headers


class Indexer:
    """Keeps the events of a suite in a database, some blocks behind the chain.

    Parameters
    ----------
    chain : Chain
    suite : Suite
    engine : sqlalchemy.Engine
        Database; the tables ``chain_events`` and ``chain_blocks`` are made if missing.
    confirmations : int
        How many blocks to stay behind the latest one.
    """

    def __init__(self, chain: Chain, suite: Suite, engine: Engine, *, confirmations: int = 0):
        self._chain = chain
        self._suite = suite
        self._engine = engine
        self._confirmations = confirmations
        self.revision = 0
        """Goes up whenever the stored events change."""
        _metadata.create_all(engine)

    def sync(self) -> int:
        """Reads what is new, after taking back what the chain has replaced.

        Each range is stored in one transaction together with the block hashes it was read under; a crash leaves the
        database at the end of a range.

        Returns
        -------
        int
            Last block that is stored.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return self._sync()
            except ReorgDetectedError:
                continue
        return self._sync()

    def _sync(self) -> int:
        tip = self._rewind()
        first = self._suite.first_block if tip is None else tip["number"] + 1
        last = self._chain.block_number() - self._confirmations
        for end, events in _read_ranges(self._chain, self._suite, first, last):
            self._store(tip, end, events)
            tip = end
        return first - 1 if tip is None else tip["number"]

    def events(self, *, names: Sequence[str] | None = None, first: int = 0, since: int = 0) -> list[Event]:
        """Stored events in order.

        Parameters
        ----------
        names : sequence of str, optional
            Only events of these names.
        first : int
            Only from this block on.
        since : int
            Only of blocks from this time on [unix s].
        """
        query = (
            select(_events)
            .where(
                _events.c.chain_id == self._chain.chain_id,
                _events.c.block_number >= first,
                _events.c.timestamp >= since,
            )
            .order_by(_events.c.block_number, _events.c.log_index)
        )
        if names is not None:
            query = query.where(_events.c.name.in_(names))
        with self._engine.connect() as connection:
            return [
                Event(
                    row.contract,
                    row.address,
                    row.name,
                    _from_json(row.args),
                    row.block_number,
                    row.block_hash,
                    row.tx_hash,
                    row.log_index,
                    row.timestamp,
                )
                for row in connection.execute(query)
            ]

    def last_block(self) -> int | None:
        """Last block that is stored; ``None`` in the beginning."""
        query = select(func.max(_blocks.c.number)).where(_blocks.c.chain_id == self._chain.chain_id)
        with self._engine.connect() as connection:
            return connection.scalar(query)

    def _rewind(self) -> dict[str, Any] | None:
        """Takes back what the chain does not have any more; returns number and hash of the last good block.

        Stored are the blocks that had events and the ends of the ranges read, so at most one range is read again.
        """
        query = select(_blocks).where(_blocks.c.chain_id == self._chain.chain_id).order_by(_blocks.c.number.desc())
        gone: list[int] = []
        good = None
        with self._engine.connect() as connection:
            for row in connection.execute(query, execution_options={"yield_per": 100}):
                block = self._chain.request("eth_getBlockByNumber", hex(row.number), False)
                if block is not None and block["hash"] == row.hash:
                    good = {"number": row.number, "hash": row.hash}
                    break
                gone.append(row.number)
        if gone:
            with self._engine.begin() as connection:
                for table, column in ((_events, _events.c.block_number), (_blocks, _blocks.c.number)):
                    connection.execute(
                        delete(table).where(table.c.chain_id == self._chain.chain_id, column >= gone[-1])
                    )
            self.revision += 1
        return good

    def _store(self, tip: dict[str, Any] | None, end: dict[str, Any], events: Sequence[Event]) -> None:
        """Stores one range, if the chain below it and in it is still the one that was read."""
        expected = [end] if tip is None else [tip, end]
        expected += [{"number": event.block_number, "hash": event.block_hash} for event in events]
        headers = read_headers(self._chain, sorted({block["number"] for block in expected}))
        _require_unchanged(headers, expected)
        chain_id = self._chain.chain_id
        blocks = [
            {"chain_id": chain_id, **{key: block[key] for key in ("number", "hash", "timestamp")}}
            for number, block in headers.items()
            if tip is None or number > tip["number"]
        ]
        with self._engine.begin() as connection:
            connection.execute(insert(_blocks), blocks)
            if events:
                connection.execute(insert(_events), [_row(chain_id, event) for event in events])
        self.revision += bool(events)


def _row(chain_id: int, event: Event) -> dict[str, Any]:
    return {
        "chain_id": chain_id,
        "block_number": event.block_number,
        "block_hash": event.block_hash,
        "tx_hash": event.tx_hash,
        "log_index": event.log_index,
        "timestamp": event.timestamp,
        "contract": event.contract,
        "address": event.address,
        "name": event.name,
        "args": _to_json(event.args),
    }


def _to_json(value: Any) -> Any:
    """JSON without loss; bytes and structs are marked, since JSON has neither."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Mapping):
        return {"fields": {name: _to_json(item) for name, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "bytes" in value:
        return bytes.fromhex(value["bytes"])
    return {name: _from_json(item) for name, item in value["fields"].items()}
