"""Steps of a post-delivery pool on chain; anyone can take them but for signing and opening."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coincurve import PrivateKey
from eth_account.signers.local import LocalAccount

from offchain.chain.client import Receipt
from offchain.chain.contracts import Suite
from offchain.chain.signatures import CANCELLATION, JOINING, TRADE, pool_domain, sign, trades_domain
from offchain.domain.errors import DomainError
from offchain.flexibility.metered_days import ProvenDay
from offchain.market.operating import MAX_TICKS, covering_days, metered_days
from offchain.market.pool import Mechanism, MemberState, PoolTerms, Trade
from offchain.market.pool_replay import MemberRecord, PoolRecord, trade_id_of
from offchain.market.positions import Window, window_of
from offchain.market.replay import SessionRecord
from offchain.market.terms import MAX_DELIVERY_ISPS, RECORD_SECONDS
from offchain.store import Store


def open_pool(suite: Suite, operator: LocalAccount, terms: PoolTerms) -> int:
    """Open a pool; its id.

    Raises
    ------
    DomainError
        Readings could not become usable before the reports' deadline, or would not count any more at it.
    """
    window = suite.call("MeteringLedger", "challengeWindow")
    earliest, latest = terms.delivery_end + window, terms.delivery_end + RECORD_SECONDS
    if not earliest < terms.report_by < latest:
        raise DomainError(
            f"reports until {terms.report_by}, readings can be used after {earliest} and before {latest}",
            hint="report_by leaves time for readings, and for the end of the market day that they come with",
        )
    receipt = suite.send(operator, "PostDeliveryPool", "open", (terms.as_tuple(),))
    return suite.event(receipt, "PoolOpened").args["poolId"]


# -------------------------------------------------------------------------------- signed


def signed_joining(
    suite: Suite,
    wallet: PrivateKey,
    *,
    pool_id: int,
    connection_id: bytes,
    deposit: int,
    limits: tuple[int, int],
    deadline: int,
) -> dict[str, Any]:
    """``IPoolRelay.SignedJoining``: what an owner signs and a relayer brings.

    Parameters
    ----------
    deposit : int
        uToken.
    limits : tuple of int
        Ticks of the highest price for buying and of the lowest for selling; zeros unless the pool is a tick book.
    """
    fields = {"connectionId": connection_id, "deposit": deposit, "buyTick": limits[0], "sellTick": limits[1]}
    fields["deadline"] = deadline
    domain = pool_domain(suite.chain.chain_id, suite.address("PoolRelay"))
    return {**fields, "signature": sign(JOINING.digest(domain, {"poolId": pool_id} | fields), wallet)}


def join_signed(suite: Suite, relayer: LocalAccount, pool_id: int, joinings: Sequence[Mapping[str, Any]]) -> Receipt:
    """Bring signed joinings, all or none."""
    return suite.send(relayer, "PoolRelay", "joinSigned", (pool_id, joinings))


def sign_trade(suite: Suite, wallet: PrivateKey, trade: Trade) -> bytes:
    """Signature of a party under a trade."""
    domain = trades_domain(suite.chain.chain_id, suite.address("BilateralTrades"))
    return sign(TRADE.digest(domain, trade.as_message()), wallet)


def sign_cancellation(suite: Suite, wallet: PrivateKey, trade: Trade) -> bytes:
    """Signature of a party under the end of a trade."""
    domain = trades_domain(suite.chain.chain_id, suite.address("BilateralTrades"))
    return sign(CANCELLATION.digest(domain, {"tradeId": trade_id_of(trade)}), wallet)


def register_trade(suite: Suite, sender: LocalAccount, trade: Trade, seller: bytes, buyer: bytes) -> Receipt:
    """Register a trade with the signatures of both parties."""
    return suite.send(sender, "BilateralTrades", "register", (trade.as_tuple(), seller, buyer))


def cancel_trade(suite: Suite, sender: LocalAccount, trade: Trade, seller: bytes, buyer: bytes) -> Receipt:
    """Take a trade back with the signatures of both parties under its end."""
    return suite.send(sender, "BilateralTrades", "cancel", (trade.as_tuple(), seller, buyer))


# -------------------------------------------------------------------------------- after delivery


def report_members(
    suite: Suite,
    sender: LocalAccount,
    sessions: Mapping[int, SessionRecord],
    pool: PoolRecord,
    members: Iterable[MemberRecord],
    metered: Mapping[bytes, Sequence[ProvenDay]],
) -> list[Receipt]:
    """Report every member whose connection has metered days, and whose auctions of these hours have ended.

    Parameters
    ----------
    sessions : mapping
        All sessions of the energy market by id.
    metered : mapping
        Metered days with their proofs by connection id, as :func:`offchain.market.operating.metered_days` finds them.
    """
    calls = []
    for member in members:
        window = pool_window(suite, sessions, pool, member.connection_id)
        days = covering_days(metered.get(member.connection_id, ()), window)
        if days and window.is_final:
            brought = [trade.as_tuple() for trade in pool.trades_of(member.connection_id)]
            positions = [held.as_argument() for held in window.held]
            evidence = [day.as_evidence() for day in days]
            arguments = (pool.id, member.connection_id, brought, positions, evidence)
            calls.append((sender, suite.prepare("PoolReports", "report", arguments)))
    return suite.chain.send_all(calls)


def pool_window(suite: Suite, sessions: Mapping[int, SessionRecord], pool: PoolRecord, connection_id: bytes) -> Window:
    """ISPs that a member's report is about: those of the pool, widened by its auctions."""
    area = suite.call("GridRegistry", "connection", (connection_id,))["congestionPointId"]
    return window_of(sessions, connection_id, area, pool.terms.first_isp, pool.terms.span.end_isp)


def settle_unreported_members(
    suite: Suite, sender: LocalAccount, pool: PoolRecord, members: Iterable[MemberRecord]
) -> list[Receipt]:
    """Settle members that nobody reported until the deadline."""
    calls = []
    for member in members:
        brought = [trade.as_tuple() for trade in pool.trades_of(member.connection_id)]
        arguments = (pool.id, member.connection_id, brought)
        calls.append((sender, suite.prepare("PoolReports", "settleUnreported", arguments)))
    return suite.chain.send_all(calls)


def fix_pool_prices(suite: Suite, sender: LocalAccount, pool: PoolRecord) -> Receipt:
    """Clear a tick book, and fix the prices."""
    if pool.terms.mechanism is Mechanism.TICK_BOOK:
        last = pool.terms.period_count - 1
        suite.send(sender, "PostDeliveryPool", "clear", (pool.id, 0, last, MAX_TICKS))
    return suite.send(sender, "PostDeliveryPool", "fixPrices", (pool.id,))


def claim_members(
    suite: Suite, sender: LocalAccount, pool: PoolRecord, members: Iterable[MemberRecord]
) -> list[Receipt]:
    """Pay reported members at the fixed prices."""
    calls = []
    for member in members:
        arguments = (pool.id, member.connection_id, member.position, pool.prices)
        calls.append((sender, suite.prepare("PostDeliveryPool", "claim", arguments)))
    return suite.chain.send_all(calls)


def close_pool(suite: Suite, sender: LocalAccount, pool_id: int) -> Receipt:
    """Pay what is left of the pot to the operator."""
    return suite.send(sender, "PostDeliveryPool", "close", (pool_id,))


def advance_pool(
    suite: Suite, sender: LocalAccount, sessions: Mapping[int, SessionRecord], pool: PoolRecord, store: Store | None
) -> list[str]:
    """Take the next steps that the time allows; what was done, in words. Nothing when there is nothing to do.

    Parameters
    ----------
    sessions : mapping
        All sessions of the energy market by id, as the chain tells them now.
    pool : PoolRecord
        As the chain tells it now.
    store : Store or None
        Metered days for the reports; without one, nobody is reported.
    """
    now, terms = suite.chain.block()["timestamp"], pool.terms
    if pool.residual is not None or now <= terms.join_by:
        return []
    due = [member for member in pool.open if member.state is MemberState.JOINED]
    if due and store is not None and terms.reports_from <= now <= terms.report_by:
        # A window is at most a longest delivery of an auction longer on each side.
        first, end = terms.first_isp - MAX_DELIVERY_ISPS, terms.span.end_isp + MAX_DELIVERY_ISPS
        days = metered_days(suite, store, first, end)
        reported = report_members(suite, sender, sessions, pool, due, days)
        return [f"reported {len(reported)} members"] if reported else []
    if due and now > terms.report_by:
        settle_unreported_members(suite, sender, pool, due)
        return [f"settled {len(due)} members without report"]
    if due:
        return []
    if pool.open and pool.surplus_price is None:
        fix_pool_prices(suite, sender, pool)
        return ["fixed the prices"]
    if pool.open:
        claim_members(suite, sender, pool, pool.open)
        return [f"paid {len(pool.open)} members"]
    close_pool(suite, sender, pool.id)
    return ["closed the pool"]
