"""What the commands of the energy market share: the deployment, sessions as the chain tells them, times for people."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offchain.cli.connection import connect
from offchain.domain.errors import DomainError

if TYPE_CHECKING:
    from offchain.chain.contracts import Suite
    from offchain.chain.events import Event
    from offchain.market.replay import SessionRecord

DeploymentOption = Annotated[Path | None, typer.Option(help="Deployment file [deployments/<chainId>.json].")]


def open_suite(rpc: str, chain_id: int | None, deployment: Path | None) -> "Suite":
    from offchain.chain.contracts import Suite
    from offchain.chain.deployment import DEPLOYMENTS

    chain = connect(rpc, chain_id)
    return Suite.open(chain, deployment or DEPLOYMENTS / f"{chain.chain_id}.json")


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
