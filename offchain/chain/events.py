"""Events as everybody off chain reads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from offchain.chain.abi import Codec, checksum


@dataclass(frozen=True, slots=True)
class Event:
    """One event of one contract; structs in ``args`` are dicts, bytes are ``bytes``."""

    contract: str
    address: str
    name: str
    args: Mapping[str, Any]
    block_number: int
    block_hash: str
    tx_hash: str
    log_index: int
    timestamp: int
    """Of its block [unix s]."""


def decode_event(codec: Codec, names: Mapping[str, str], log: Mapping[str, Any], timestamp: int) -> Event | None:
    """Event of a log as JSON-RPC gives it; ``None`` when no contract of ``names`` (by address) made it."""
    address = checksum(log["address"])
    contract = names.get(address)
    if contract is None:
        return None
    topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
    decoded = codec.decode_log(contract, topics, bytes.fromhex(log["data"][2:]))
    if decoded is None:
        return None
    name, args = decoded
    return Event(
        contract,
        address,
        name,
        args,
        int(log["blockNumber"], 16),
        log["blockHash"],
        log["transactionHash"],
        int(log["logIndex"], 16),
        timestamp,
    )
