"""What the commands of the energy market share: the deployment, sessions as the chain tells them, times for people."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from offchain.cli.connection import connect
from offchain.domain.errors import DomainError

if TYPE_CHECKING:
    from offchain.chain.contracts import Suite
    from offchain.chain.events import Event
    from offchain.market.replay import SessionRecord

REFUSALS = {
    "DayFull": "this day of the area takes no further session, other days do",
    "PeriodsCross": "periods of a day lie in each other or apart: fit isps_per_period and the start to those sessions",
    "GatePassed": "a session is opened before its gate closes: begin delivery later",
    "InsufficientBalance": "the operator deposits the budgets of the terms into the clearing house",
    "MissingRole": "only active market operators have sessions; a registrar admits them",
    "CongestionPointUnknown": "name a congestion point that its DSO has declared",
}
"""What can be done when `MarketSessions` refuses to open a session, by the name of its error."""


def open_suite(rpc: str, chain_id: int | None, deployment: Path | None) -> "Suite":
    from offchain.chain.contracts import Suite
    from offchain.chain.deployment import DEPLOYMENTS

    chain = connect(rpc, chain_id)
    return Suite.open(chain, deployment or DEPLOYMENTS / f"{chain.chain_id}.json")


@contextmanager
def hinted() -> Iterator[None]:
    """Adds what can be done to errors of an opening."""
    from offchain.chain.errors import ContractRevertedError

    try:
        yield
    except ContractRevertedError as error:
        error.hint = REFUSALS.get(error.name, error.hint)
        raise


def events_and_sessions(suite: "Suite") -> tuple[list["Event"], dict[int, "SessionRecord"]]:
    """All events of the chain, and the sessions that they tell."""
    from offchain.chain.indexer import read_events
    from offchain.market.replay import replay_sessions

    events = read_events(suite.chain, suite)
    return events, replay_sessions(events)


def all_sessions(suite: "Suite") -> dict[int, "SessionRecord"]:
    return events_and_sessions(suite)[1]


def find_session(suite: "Suite", session_id: int) -> "SessionRecord":
    """A session by its number; :class:`DomainError` when it was never opened."""
    return known_session(all_sessions(suite), session_id)


def known_session(sessions: Mapping[int, "SessionRecord"], session_id: int) -> "SessionRecord":
    if session_id not in sessions:
        raise DomainError(
            f"there is no session {session_id}", hint=f"{len(sessions)} were opened; `gridpact market list`"
        )
    return sessions[session_id]


def stamp(unix: int) -> str:
    """UTC seconds as local time."""
    return datetime.fromtimestamp(unix).astimezone().isoformat(timespec="minutes")


def minutes(isps: int) -> int:
    """Length of some ISPs."""
    from offchain.domain.isp import SECONDS_PER_ISP

    return isps * SECONDS_PER_ISP // 60
