"""Bundles that a connection holds in sessions that deliver at the same time: what settlement nets together."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from offchain.domain.isp import SECONDS_PER_ISP
from offchain.market.netting import Position, widened
from offchain.market.replay import BundleRecord, SessionRecord

ISPS_PER_UTC_DAY = 96
EVERYWHERE = bytes(32)
"""Area of sessions that all connections may trade in."""


class Held(NamedTuple):
    """Bundle of a connection with its session."""

    session: SessionRecord
    record: BundleRecord

    def as_argument(self) -> dict[str, Any]:
        """``IMarketSettlement.Position``."""
        return {"sessionId": self.session.id, "bundle": self.record.bundle}

    def as_position(self) -> Position:
        """What it traded, by the latest results."""
        return Position(self.session.id, self.session.span, self.session.fills(self.record))


class Window(NamedTuple):
    """ISPs [first, end) that are netted together, and all that the connection holds there, in the contract's order."""

    first_isp: int
    end_isp: int
    held: Sequence[Held]

    @property
    def end_seconds(self) -> int:
        """End of its delivery [UTC s]."""
        return self.end_isp * SECONDS_PER_ISP

    @property
    def is_final(self) -> bool:
        """Whether all auctions have ended."""
        return all(held.session.rates is not None for held in self.held)


def window_of(
    sessions: Mapping[int, SessionRecord], connection_id: bytes, area: bytes, first_isp: int, end_isp: int
) -> Window:
    """Window around some ISPs of a connection.

    Parameters
    ----------
    sessions : mapping
        All sessions by id, as :func:`offchain.market.replay.replay_sessions` tells them.
    area : bytes
        Congestion point of the session that is settled, or of the connection where there is none.
    """
    while True:
        held = held_between(sessions, connection_id, area, first_isp, end_isp)
        wider = widened(first_isp, end_isp, [h.session.span for h in held])
        if wider == (first_isp, end_isp):
            return Window(first_isp, end_isp, held)
        first_isp, end_isp = wider


def session_window(
    sessions: Mapping[int, SessionRecord], session: SessionRecord, connection_id: bytes, connection_area: bytes
) -> Window:
    """Window in which the bundle of a connection in a session is netted."""
    own_area = session.terms.congestion_point_id
    area = connection_area if own_area == EVERYWHERE else own_area
    return window_of(sessions, connection_id, area, session.first_isp, session.span.end_isp)


def overlapping(sessions: Mapping[int, SessionRecord], session: SessionRecord) -> list[SessionRecord]:
    """Other sessions with whose trades those of a session are netted, in the order of their opening."""
    own, span = session.terms.congestion_point_id, session.span
    return [
        other
        for _, other in sorted(sessions.items())
        if other.id != session.id
        and (EVERYWHERE in (own, other.terms.congestion_point_id) or own == other.terms.congestion_point_id)
        and _meets(other, span.first_isp, span.end_isp)
    ]


def _meets(session: SessionRecord, first_isp: int, end_isp: int) -> bool:
    return session.first_isp < end_isp and first_isp < session.span.end_isp


def held_between(
    sessions: Mapping[int, SessionRecord], connection_id: bytes, area: bytes, first_isp: int, end_isp: int
) -> list[Held]:
    """Bundles that deliver in [first, end), in the order of ``IMarketSessions.overlapping``."""

    def order(held: Held) -> tuple[int, bool, int]:
        day = max(first_isp, held.session.first_isp) // ISPS_PER_UTC_DAY
        return day, held.session.terms.congestion_point_id != area, held.session.id

    found = []
    for session in sessions.values():
        record = session.bundles.get(connection_id)
        if record is None or not record.bundle or session.terms.congestion_point_id not in (area, EVERYWHERE):
            continue
        if _meets(session, first_isp, end_isp):
            found.append(Held(session, record))
    return sorted(found, key=order)
