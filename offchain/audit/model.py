"""What an auditor believes about the suite after replaying its events; filled by :mod:`offchain.audit.rules`.

Terms and other structs stay as the events carry them: dicts by Solidity field name. Ids are integers, meters,
connections, congestion points and locks are bytes, accounts are checksummed addresses, times are UTC seconds.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from offchain.audit.market_verdicts import Books
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.domain.units import Direction
from offchain.market.pool_replay import PoolRecord
from offchain.market.replay import SessionRecord

NOBODY = "0x" + "0" * 40
FIRST_DIRECT_GROUP = 1 << 63
"""Group ids of direct control start here; those below are flex orders."""


class Role(IntEnum):
    NONE = 0
    DSO = 1
    TSO = 2
    AGGREGATOR = 3
    PROSUMER = 4
    METER_OPERATOR = 5
    MARKET_OPERATOR = 6
    REGISTRAR = 7
    AUDITOR = 8


class Standing(IntEnum):
    """Standing of a participant."""

    UNKNOWN = 0
    ACTIVE = 1
    SUSPENDED = 2
    REVOKED = 3


class BatchStatus(IntEnum):
    NONE = 0
    ANCHORED = 1
    REJECTED = 2


class CommitmentKind(IntEnum):
    FORECAST = 0
    BASELINE = 1
    D_PROGNOSIS = 2
    OPTIMISATION = 3


class AgreementStatus(IntEnum):
    NONE = 0
    ACTIVE = 1
    SUSPENDED = 2
    TERMINATED = 3


class RequestStatus(IntEnum):
    NONE = 0
    OPEN = 1
    SELECTED = 2
    CANCELLED = 3
    EXPIRED = 4


class OfferStatus(IntEnum):
    NONE = 0
    OPEN = 1
    ORDERED = 2
    WITHDRAWN = 3
    RELEASED = 4


class FlexOrderStatus(IntEnum):
    NONE = 0
    OPEN = 1
    CANCELLED = 2
    FINALISED = 3


class OrderStatus(IntEnum):
    """State of a prosumer order."""

    NONE = 0
    ISSUED = 1
    CANCELLED = 2
    SETTLED = 3


class Regime(IntEnum):
    GREEN = 0
    YELLOW = 1
    ORANGE = 2
    RED = 3


class StaticLight(IntEnum):
    GREEN = 0
    YELLOW = 1
    RED = 2


@dataclass(slots=True)
class CongestionPoint:
    dso: str
    capacity_w: int
    active: bool = True
    aggregators: set[str] = field(default_factory=set)
    regime: Regime = Regime.GREEN
    regime_until_isp: int = 0
    regime_request_id: int = 0
    """Request that fell short, in Orange."""

    def regime_at(self, time: int) -> Regime:
        return self.regime if time // SECONDS_PER_ISP < self.regime_until_isp else Regime.GREEN


@dataclass(slots=True)
class Connection:
    owner: str
    congestion_point_id: bytes
    technical_up_w: int
    technical_down_w: int
    light: StaticLight = StaticLight.GREEN
    active: bool = True
    meter_id: bytes = b""
    """The last meter registered for it."""
    agreement_id: int = 0
    """The latest agreement of it."""
    orders: dict[int, int] = field(default_factory=dict)
    """Prosumer order per ISP."""


@dataclass(slots=True)
class Meter:
    connection_id: bytes
    operator: str
    keys: list[tuple[int, str]]
    """(first ISP, device key), ascending."""
    end_isp: int = 0

    def key_at(self, isp: int) -> str | None:
        """Key that signs for an ISP; ``None`` when the meter is not in service then."""
        if self.end_isp and isp >= self.end_isp:
            return None
        return next((key for first, key in reversed(self.keys) if isp >= first), None)

    def key_of_day(self, first_isp: int, isp_count: int) -> str | None:
        """Key that signs a market day: the one at the last ISP of the day that the meter was in service."""
        last = first_isp + isp_count - 1
        if first_isp < self.end_isp <= last:
            last = self.end_isp - 1
        return self.key_at(last)


@dataclass(slots=True)
class Batch:
    """One version of the day batch of an operator."""

    version: int
    anchored_at: int
    isp_count: int
    root: bytes
    leaf_count: int
    data_hash: bytes
    status: BatchStatus = BatchStatus.ANCHORED


@dataclass(slots=True)
class Commitment:
    committer: str
    kind: CommitmentKind
    posted_at: int
    scope: bytes
    method: bytes
    first_isp: int
    isp_count: int
    root: bytes
    leaf_count: int
    made_at: int
    data_hash: bytes


@dataclass(slots=True)
class Agreement:
    terms: dict[str, Any]
    version: int
    status: AgreementStatus = AgreementStatus.ACTIVE
    suspended_by: str | None = None
    ends_at: int = 0
    excess_held_until: int = 0
    """When what the latest lowering of the bond made superfluous can leave [UTC s]."""
    availability: dict[int, int] = field(default_factory=dict)
    """Declared positions by first ISP of the market day, as bits."""
    activations: Counter[int] = field(default_factory=Counter)
    """Orders by week."""

    @property
    def end(self) -> int:
        """When it ends, by validity or by notice [UTC s]."""
        valid_until = self.terms["validUntil"]
        return min(self.ends_at, valid_until) if self.ends_at else valid_until

    def available_at(self, day_first_isp: int, position: int) -> bool:
        """Whether a position of a market day may be ordered: agreed, declared, within the agreement."""
        weekend = middle_of_day(day_first_isp).weekday() >= 5
        agreed = self.terms["weekendIsps" if weekend else "workingDayIsps"]
        start = (day_first_isp + position) * SECONDS_PER_ISP
        return (
            bool(agreed & self.availability.get(day_first_isp, agreed) & 1 << position)
            and self.terms["validFrom"] <= start
            and start + SECONDS_PER_ISP <= self.end
        )


@dataclass(slots=True)
class Request:
    terms: dict[str, Any]
    dso: str
    quantities_wh: list[int]
    budget: int
    status: RequestStatus = RequestStatus.OPEN
    ordered_wh: list[int] = field(default_factory=list)
    """Ordered per ISP, over all orders of the request."""
    escrowed: int = 0


@dataclass(slots=True)
class Offer:
    request_id: int
    aggregator: str
    price: int
    commitment_id: int
    quantities_wh: list[int]
    bond: int
    status: OfferStatus = OfferStatus.OPEN
    flex_order_id: int = 0
    bond_returned: int = 0


@dataclass(slots=True)
class FlexOrder:
    request_id: int
    offer_id: int
    dso: str
    aggregator: str
    price: int
    commitment_id: int
    ordered_wh: list[int]
    escrow: int
    bond: int
    status: FlexOrderStatus = FlexOrderStatus.OPEN
    dispatched_wh: list[int] = field(default_factory=list)
    """Per ISP, without replacements."""
    standby: list[dict[str, Any]] | None = None
    """``IFlexReassignment.Standby`` in merit order; ``None`` when no list was set."""
    settled: bool = False
    paid: int = 0
    penalty: int = 0


@dataclass(slots=True)
class Group:
    """What prosumer orders are paid from: a flex order or a direct control event."""

    payer: str
    day_first_isp: int
    isp_count: int
    commitment_id: int
    congestion_point_id: bytes
    rate: int = 0
    direction: Direction = Direction.UP
    issued: int = 0
    settled: int = 0
    credited_wh: int = 0
    missing_wh: int = 0
    finalised: bool = False


@dataclass(slots=True)
class ProsumerOrder:
    terms: dict[str, Any]
    quantities_wh: list[int]
    taken_wh: list[int]
    """Taken over by standby, per ISP."""
    status: OrderStatus = OrderStatus.ISSUED
    version: int = 0
    credited_wh: int = 0
    missing_wh: int = 0
    net: int = 0
    pot: int = 0

    @property
    def positions(self) -> list[int]:
        """Positions of the market day with an ordered quantity."""
        return [p for p, quantity in enumerate(self.quantities_wh) if quantity]


@dataclass(slots=True)
class Token:
    """The energy token [uToken]."""

    supply: int = 0
    balances: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class TradingRule:
    """Latest rule by which orders of a connection may be placed."""

    terms: dict[str, Any]
    in_force: bool = True


@dataclass(slots=True)
class Stake:
    """Stake of a settlement proposer."""

    amount: int = 0
    since: int = 0
    """Average time since which it is staked [UTC s]."""
    bound_until: int = 0
    """On the clock that stands still while the clearing house is paused."""
    open_proposals: int = 0
    """Those that can still fall."""


@dataclass(slots=True)
class Candidate:
    """Who takes part in the draw of a session."""

    weight: int
    commitment: bytes
    secret: bytes | None = None
    punished: bool = False


@dataclass(slots=True)
class Proposal:
    """Batch of outcomes that was published for a session."""

    number: int
    proposer: str
    proposed_at: int
    root: bytes
    leaf_count: int
    data_hash: bytes
    turn: int
    challenge_until: int
    """On the clock that stands still while the clearing house is paused."""
    open_challenges: int = 0
    fallen_at: int = 0
    """When it was proven false or void [UTC s]; 0 while it stands."""
    voided: bool = False
    """It fell, and nobody was at fault."""
    concluded: bool = False
    """No challenge is possible any more."""
    claimed: dict[bytes, bytes] = field(default_factory=dict)
    """Leaves of the claimed outcomes by connection."""


@dataclass(slots=True)
class Challenge:
    """An outcome of a proposal that somebody questioned."""

    session_id: int
    proposal_number: int
    challenger: str
    connection_id: bytes
    answer_by: int
    open: bool = True


@dataclass(slots=True)
class Model:
    """Everything the events tell."""

    roles: defaultdict[str, set[Role]] = field(default_factory=lambda: defaultdict(set))
    standings: dict[str, Standing] = field(default_factory=dict)
    paused: dict[str, int] = field(default_factory=dict)
    """Since when contracts are paused [UTC s]."""
    past_paused_seconds: Counter[str] = field(default_factory=Counter)
    """Length of the pauses that are over."""
    modules: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Addresses that each contract takes for modules."""

    congestion_points: dict[bytes, CongestionPoint] = field(default_factory=dict)
    connections: dict[bytes, Connection] = field(default_factory=dict)
    meters: dict[bytes, Meter] = field(default_factory=dict)

    token: Token = field(default_factory=Token)
    net_bought: Counter[str] = field(default_factory=Counter)
    purchase_limit: int = 0
    balances: Counter[str] = field(default_factory=Counter)
    """Free balances of the clearing house."""
    locks: Counter[bytes] = field(default_factory=Counter)
    total_held: int = 0

    batches: dict[tuple[str, int], list[Batch]] = field(default_factory=dict)
    intraday: list[tuple[str, int, bytes, int, bytes]] = field(default_factory=list)
    """(operator, ISP, root, leaf count, data hash)."""
    metering_bonds: Counter[str] = field(default_factory=Counter)
    commitments: dict[int, Commitment] = field(default_factory=dict)

    agreements: dict[int, Agreement] = field(default_factory=dict)
    requests: dict[int, Request] = field(default_factory=dict)
    offers: dict[int, Offer] = field(default_factory=dict)
    flex_orders: dict[int, FlexOrder] = field(default_factory=dict)
    groups: dict[int, Group] = field(default_factory=dict)
    orders: dict[int, ProsumerOrder] = field(default_factory=dict)
    owed: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(contract, debtor, creditor) -> uToken."""
    regulated_rate: int = 0

    sessions: dict[int, SessionRecord] = field(default_factory=dict)
    """Sessions of the energy market."""
    pools: dict[int, PoolRecord] = field(default_factory=dict)
    """Post-delivery pools."""
    schedules: dict[int, dict[str, Any]] = field(default_factory=dict)
    """``ScheduleRegistered`` by schedule."""
    books: dict[int, Books] = field(default_factory=dict)
    """Orders that stand, by session."""
    trading_rules: dict[bytes, TradingRule] = field(default_factory=dict)
    """By connection."""
    traded_isps: dict[tuple[bytes, int], set[int]] = field(default_factory=dict)
    """ISPs for which rules placed orders, by (connection, forecast commitment)."""
    stakes: defaultdict[str, Stake] = field(default_factory=lambda: defaultdict(Stake))
    """Of settlement proposers."""
    draws: defaultdict[int, dict[str, Candidate]] = field(default_factory=lambda: defaultdict(dict))
    """Candidates by session, in the order of their commitments."""
    proposals: dict[int, list[Proposal]] = field(default_factory=dict)
    """Batches of outcomes by session, in the order of their numbers."""
    challenges: dict[int, Challenge] = field(default_factory=dict)
    producer_classes: dict[bytes, int] = field(default_factory=dict)
    """What connections produce with."""
    certificates: Counter[tuple[int, str]] = field(default_factory=Counter)
    """Certificates and guarantees of origin by (token id, holder) [Wh]."""

    def paused_seconds(self, contract: str, now: int) -> int:
        """How long a contract was paused until now, the running pause included."""
        return self.past_paused_seconds[contract] + now - self.paused.get(contract, now)

    def has_role(self, account: str, role: Role) -> bool:
        """Holds the role and is in good standing."""
        return self.standings.get(account) is Standing.ACTIVE and role in self.roles[account]

    def latest_batch(self, operator: str, first_isp: int) -> Batch | None:
        versions = self.batches.get((operator, first_isp))
        return versions[-1] if versions else None


def middle_of_day(day_first_isp: int) -> datetime:
    """Noon of a market day, give or take its time zone; its UTC date is the local date of the day."""
    return datetime.fromtimestamp(day_first_isp * SECONDS_PER_ISP + 12 * 3600, UTC)


def week_of(day_first_isp: int) -> int:
    """Week (Monday to Sunday) of a market day."""
    return (middle_of_day(day_first_isp).date().toordinal() - 1) // 7


def day_end(day_first_isp: int, isp_count: int) -> int:
    """End of a market day [UTC s]."""
    return (day_first_isp + isp_count) * SECONDS_PER_ISP
