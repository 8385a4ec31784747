"""What the auditor needs of the chain: events in order, and answers of getters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from offchain.chain.events import Event


class Query(NamedTuple):
    """One getter of one contract."""

    contract: str
    function: str
    args: tuple = ()

    def __str__(self) -> str:
        shown = ", ".join("0x" + a.hex() if isinstance(a, bytes) else str(a) for a in self.args)
        return f"{self.contract}.{self.function}({shown})"


Getter = Callable[[Sequence[Query]], list[Any]]
"""Answers many queries at the audited block; a struct is a dict by field name."""


class ChainRecord(NamedTuple):
    """Everything the auditor takes from the chain.

    Attributes
    ----------
    chain_id : int
    addresses : mapping of str to str
        Address by contract name.
    events : sequence of Event
        All events of all contracts since their deployment, in order.
    get : Getter
    timestamp : int
        Of the last block [UTC s].
    """

    chain_id: int
    addresses: Mapping[str, str]
    events: Sequence[Event]
    get: Getter
    timestamp: int
