"""Corrections of settled trades: the outcome by the newest readings, recomputed, and the difference that it makes."""

from dataclasses import asdict

from offchain.audit.replay import Replay
from offchain.audit.rules.debts import settle_debt
from offchain.audit.rules.energy_market import applied, metered_of, outcome_by_meters, session_of, window_of_session
from offchain.chain.events import Event
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.market.settlement import Outcome

SUBJECT = "market corrections"
CONTRACT = "MarketCorrections"


def trader_corrected(replay: Replay, event: Event) -> None:
    session, where = session_of(replay, event)
    args, now = event.args, event.timestamp
    record = replay.find(session.bundles, args["connectionId"], "bundle")
    replay.checks.equal(SUBJECT, "trader of a correction", where, record.trader, args["trader"])
    settled = record.outcome is not None
    replay.rule(SUBJECT, "correction before settlement", where, settled, "a settled bundle", "an open one")
    closed = session.residual is not None
    replay.rule(SUBJECT, "correction before closing", where, closed, "a closed session", "an open one")
    isps, _ = window_of_session(replay, session, record.connection_id)
    end = isps.stop * SECONDS_PER_ISP
    until = end + replay.setting("MarketSessions", "recordSeconds")
    replay.rule(SUBJECT, "time of a correction", where, end <= now < until, f"{end} .. {until - 1}", now)
    expected = found = Outcome(*args["outcome"].values())
    metered = metered_of(replay, session, record.connection_id, now, where)
    if metered is not None and session.rates is not None:
        expected, _ = outcome_by_meters(replay, session, record.connection_id, metered)
        replay.checks.equal(SUBJECT, "outcome of a correction", where, asdict(expected), asdict(found))
    difference = expected.payout - record.paid
    replay.checks.equal(SUBJECT, "difference of a correction", where, difference, args["difference"])
    replay.rule(SUBJECT, "correction of nothing", where, args["difference"] != 0, "a difference", "none")
    if difference > 0:
        settle_debt(replay, CONTRACT, session.operator, record.trader, difference)
    else:
        settle_debt(replay, CONTRACT, record.trader, session.operator, -difference)


HANDLERS = {(CONTRACT, "TraderCorrected"): applied(trader_corrected)}
