"""Sessions rebuilt from events: terms, standing bundles, results, what was settled."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from offchain.chain.events import Event
from offchain.market.clearing import Clearing, ClearingClass
from offchain.market.netting import Fills
from offchain.market.orders import ORDER, PriceGrid, unpack_bundle
from offchain.market.settlement import FinalRates, Outcome, bundle_fills
from offchain.market.terms import EnergyType, SessionTerms, SessionTimes, Span

CONTRACTS = (
    *("MarketSessions", "EnergyMarket", "MarketSettlement", "EnergyCertificates", "SettlementProposer"),
    "MarketCorrections",
)
"""Whose events tell a session."""


@dataclass
class BundleRecord:
    """The bundle of a connection as it stands."""

    connection_id: bytes
    trader: str
    sequence: int
    bundle: bytes
    escrow: int
    rejected_fee: int = 0
    certified: bool = False
    released: int | None = None
    """What {claim} returned [uToken]; ``None`` before."""
    outcome: Outcome | None = None
    metered: bool | None = None
    corrected: Outcome | None = None
    """By newer readings than those that it was settled by; ``None`` without a correction."""

    @property
    def paid(self) -> int:
        """Payout as it stands, fee of a claim included [uToken]; zero before settlement."""
        latest = self.corrected or self.outcome
        return latest.payout if latest else 0


@dataclass
class SessionRecord:
    """A session as its events tell it."""

    id: int
    operator: str
    first_isp: int
    terms: SessionTerms
    schedule_id: int = 0
    """Zero: opened by itself."""
    bundles: dict[bytes, BundleRecord] = field(default_factory=dict)
    results: dict[int, Clearing] = field(default_factory=dict)
    """Latest result by product."""
    provisional: dict[int, Clearing] = field(default_factory=dict)
    """Provisional result by product."""
    changed: set[int] = field(default_factory=set)
    """Products whose book a rejection changed since they were cleared."""
    injected_wh: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Injected energy of settled sellers by (product, producer class) [Wh]."""
    rates: FinalRates | None = None
    residual: int | None = None

    @property
    def times(self) -> SessionTimes:
        return SessionTimes.of(self.terms, self.first_isp)

    @property
    def span(self) -> Span:
        return Span(self.first_isp, self.terms.isps_per_period, self.terms.period_count)

    @property
    def standing(self) -> list[BundleRecord]:
        """Bundles that were not cancelled, in the order in which their connections first came."""
        return [record for record in self.bundles.values() if record.bundle]

    def volume_wh(self, kind: EnergyType) -> int:
        """Matched energy of a type by the latest results [Wh]."""
        first = self.terms.product(kind, 0)
        return sum(result.volume_wh for result in self.final_results[first : first + self.terms.period_count])

    def book(self, record: BundleRecord) -> np.ndarray:
        """Orders of a bundle."""
        return unpack_bundle(self.terms.grid, record.bundle)

    def fills(self, record: BundleRecord) -> Fills:
        """Fills of a bundle by the latest results."""
        return bundle_fills(self.terms, self.final_results, self.book(record))

    @property
    def final_results(self) -> list[Clearing]:
        """Results of all products; those of products that nobody cleared are open."""
        return [self.results.get(p, Clearing(ClearingClass.OPEN)) for p in range(self.terms.product_count)]


def terms_of(fields: Mapping[str, Any]) -> SessionTerms:
    """Terms as an event or a getter carries them: the fields of the struct in their order."""
    return SessionTerms(*fields.values())


def unpack_result(grid: PriceGrid, packed: int) -> Clearing:
    """``TickBook.Result`` from its packed word."""

    def bits(shift: int, width: int) -> int:
        return packed >> shift & (1 << width) - 1

    kind = ClearingClass(bits(0, 4))
    low, high = bits(4, 12), bits(16, 12)
    price = grid.base_price + (low + high) * grid.price_step // 2 if kind > ClearingClass.NONE else 0
    return Clearing(kind, price, packed >> 180, bits(28, 12), bits(40, 12), low, high, bits(52, 64), bits(116, 64))


def pack_result(result: Clearing) -> int:
    """Inverse of :func:`unpack_result`."""
    fields = (
        *((result.kind, 4), (result.low_tick, 12), (result.high_tick, 12), (result.sell_tick, 12)),
        *((result.buy_tick, 12), (result.ration_numerator, 64), (result.ration_denominator, 64)),
    )
    word, shift = 0, 0
    for value, width in fields:
        word |= int(value) << shift
        shift += width
    return word | result.volume_wh << shift


def replay_sessions(
    events: Iterable[Event], sessions: dict[int, SessionRecord] | None = None
) -> dict[int, SessionRecord]:
    """Sessions by id from the events of the market's contracts; others are passed over.

    Parameters
    ----------
    sessions : dict, optional
        What earlier events told; it is changed.
    """
    sessions = {} if sessions is None else sessions
    for event in events:
        if event.contract in CONTRACTS and "sessionId" in event.args:
            apply_event(sessions, event)
    return sessions


def apply_event(sessions: dict[int, SessionRecord], event: Event) -> None:
    """What an event about a session changes; nothing is checked.

    Raises
    ------
    KeyError
        Session or bundle that no event before made known.
    """
    args = event.args
    session_id = args["sessionId"]
    if event.name == "SessionOpened":
        terms = terms_of(args["terms"])
        sessions[session_id] = SessionRecord(session_id, args["operator"], args["firstIsp"], terms, args["scheduleId"])
        return
    session = sessions[session_id]
    match event.name:
        case "BundleSubmitted":
            connection_id = args["connectionId"]
            session.bundles[connection_id] = BundleRecord(
                connection_id, args["trader"], args["sequence"], args["bundle"], args["escrow"]
            )
        case "ProductCleared":
            result = unpack_result(session.terms.grid, args["result"])
            session.results[args["product"]] = result
            session.changed.discard(args["product"])
            if not args["isFinal"]:
                session.provisional[args["product"]] = result
        case "MatchRejected":
            record = session.bundles[args["connectionId"]]
            session.changed.update(_products_at(record.bundle, args["positions"]))
            record.bundle, record.escrow, record.sequence = args["bundle"], args["escrow"], args["sequence"]
            record.rejected_fee += args["fee"]
        case "SessionFinalised":
            session.rates = FinalRates(args["surplusPrice"], args["greenRewardRate"])
        case "BundleClaimed":
            record = session.bundles[args["connectionId"]]
            record.released, record.escrow = args["released"], args["escrow"]
        case "CertificatesIssued":
            session.bundles[args["connectionId"]].certified = True
        case "InjectionRecorded":
            for product, injected_wh in enumerate(args["injectedWh"]):
                session.injected_wh[product, args["producerClass"]] += injected_wh
        case "TraderSettled":
            record = session.bundles[args["connectionId"]]
            record.outcome, record.metered = Outcome(*args["outcome"].values()), args["metered"]
        case "OutcomeClaimed":
            record = session.bundles[args["connectionId"]]
            record.outcome, record.metered = Outcome(*args["outcome"].values()), True
        case "TraderCorrected":
            session.bundles[args["connectionId"]].corrected = Outcome(*args["outcome"].values())
        case "SessionClosed":
            session.residual = args["residual"]


def _products_at(bundle: bytes, positions: int) -> set[int]:
    """Products of the orders at the positions whose bits are set."""
    orders = range(len(bundle) // ORDER.itemsize)
    return {bundle[ORDER.itemsize * i] for i in orders if positions >> i & 1}
