"""Settings of a pilot day: who takes part, at what prices, when what happens, and what goes wrong."""

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from offchain.domain.errors import DomainError
from offchain.domain.units import UTOKEN
from offchain.grid.scenario import SCENARIOS

HOUR = 3_600


@dataclass(frozen=True, slots=True)
class Timetable:
    """When what happens, in seconds from local midnight of the delivery day (negative: before).

    The contracts hold everybody to the deadlines that follow from it.
    """

    setup: int = -60 * HOUR
    forecast: int = -13 * HOUR
    request: int = -12 * HOUR
    offers: int = -11 * HOUR
    gate_closure: int = -10 * HOUR
    selection: int = -10 * HOUR + 900
    select_by: int = -9 * HOUR
    dispatch: int = -8 * HOUR
    dispatch_by: int = -6 * HOUR


@dataclass(frozen=True, slots=True)
class Prices:
    """Money of the day, micro-token (per kWh where it is a price)."""

    price_cap: int = 600_000
    aggregator_price: tuple[int, int] = (330_000, 390_000)
    """Lowest and highest offer price of an aggregator."""
    bond_rate: int = 100_000
    aggregator_penalty: int = 150_000
    reward: tuple[int, int] = (150_000, 240_000)
    """Lowest and highest reward rate of an agreement."""
    standby_premium: int = 40_000
    prosumer_penalty: int = 250_000
    prosumer_bond: int = 2_000_000
    regulated_rate: int = 300_000
    operator_bond: int = 100_000_000
    challenge_penalty: int = 10_000_000


@dataclass(frozen=True, slots=True)
class Trading:
    """The sessions: grid, deadlines, rates [uToken/kWh], and how people trade.

    The day-ahead session is over before the DSO's request, so that whoever trades knows what it will use.
    """

    gate_closure: int = -12 * HOUR - 1_800
    """Of the day-ahead session, seconds from local midnight of the delivery day."""
    acceptance_seconds: int = 900
    base_price: int = -50_000
    price_step: int = 5_000
    tick_count: int = 91
    min_quantity_wh: int = 100
    fee_rate: int = 2_000
    rejection_fee_rate: int = 5_000
    guarantee_rate: int = 150_000
    shortage_price: int = 280_000
    shortage_penalty_rate: int = 30_000
    surplus_price: int = 60_000
    green_reward_rate: int = 10_000
    brown_penalty_rate: int = 5_000
    surplus_budget: int = 20 * UTOKEN
    reward_budget: int = 5 * UTOKEN
    intraday_from: int = 8 * HOUR
    """Delivery of the first intraday session, seconds from local midnight: before, hardly anybody has any to sell."""
    intraday_surplus_budget: int = 5 * UTOKEN
    intraday_reward_budget: int = UTOKEN
    limits: tuple[tuple[int, int], tuple[int, int]] = ((120_000, 320_000), (40_000, 180_000))
    """Lowest and highest limit price of buyers, then of sellers."""
    share_bps: int = 9_000
    """Share of the forecast that everybody trades."""
    prefers_green: float = 0.7
    accredited: float = 0.8
    """Share of the producers that registered what they produce with."""
    rejecting: float = 0.05
    """Share of the traders that take a match back."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong on the day, seeded: shares of the prosumers with an order, rounded to whole prosumers."""

    short: float = 0.07
    """Deliver 20 to 60% of what they were ordered."""
    failing: float = 0.04
    """Deliver nothing."""
    silent: float = 0.04
    """Their meter falls silent in the middle of the delivery and comes back the next day."""
    dead: float = 0.03
    """Their meter dies before the delivery and never comes back."""
    oracle_down: tuple[int, int] | None = None
    """Positions of the day from and until which the site's oracle is not running."""


@dataclass(frozen=True, slots=True)
class PilotConfig:
    """One pilot day.

    Parameters
    ----------
    scenario : str
        One of ``offchain.grid.scenario.SCENARIOS``.
    seed : int
        Decides devices, keys, prices and faults; the same seed gives the same report, wall time aside.
    out : Path
        Folder for chain state, store and report.
    day : date, optional
        Another day of 2016 than the scenario's.
    participation : float
        Share of the connections with flexible devices that have an agreement, 0 to 1.
    standby : float
        Share of an aggregator's members that are standby.
    """

    scenario: str = "evening"
    seed: int = 1
    out: Path = Path("build/pilot")
    day: date | None = None
    participation: float = 1.0
    standby: float = 0.2
    aggregators: int = 2
    timetable: Timetable = field(default_factory=Timetable)
    prices: Prices = field(default_factory=Prices)
    faults: Faults = field(default_factory=Faults)
    trading: Trading = field(default_factory=Trading)
    reserve_bps: int = 4_000
    """Share of the expected use of EVs and heat pumps that aggregators do not offer UP."""
    max_share_bps: int = 6_000
    """Largest share of the request per ISP that one aggregator gets while others can take the rest."""
    tolerance_bps: int = 1_000
    planning_margin: float = 0.97
    """Loading the flexibility is bought for, as a share of the limit; the rest covers those who do not deliver."""
    challenge_window_s: int = 6 * HOUR
    readings_due_s: int = 48 * HOUR
    settle_by_s: int = 96 * HOUR
    correction_s: int = 30 * 24 * HOUR
    bond_hold_s: int = 35 * 24 * HOUR

    def __post_init__(self):
        if self.scenario not in SCENARIOS:
            raise DomainError(f"unknown scenario {self.scenario!r}", hint=f"one of {', '.join(SCENARIOS)}")
        if not 0 <= self.participation <= 1:
            raise DomainError(f"participation {self.participation} is not between 0 and 1")
        if self.seed < 0:
            raise DomainError(f"seed {self.seed} is negative", hint="choose a whole number from 0")
