"""Terms of a market session, its products and its times (twin of ``IEnergyMarket.Terms``)."""

from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import NamedTuple

from offchain.domain.errors import DomainError
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.market.orders import PriceGrid

MAX_DELIVERY_PERIODS = 128
MAX_DELIVERY_ISPS = 672
RECORD_SECONDS = 30 * 86_400
"""How long after delivery readings and bundles count (``IMarketSessions.recordSeconds``)."""
CORRECTION_SECONDS = 7 * 86_400
"""How much of that is left for corrections at least (``IMarketSessions.correctionSeconds``)."""


class EnergyType(IntEnum):
    """``IEnergyMarket.EnergyType``: what is sold and bought, each with its own books."""

    BROWN = 0
    GREEN = 1


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """Terms of a session; fields and order as in ``IEnergyMarket.Terms``, rates and prices in uToken/kWh."""

    base_price: int
    price_step: int
    tick_count: int
    min_quantity_wh: int
    isps_per_period: int
    period_count: int
    gate_lead_seconds: int
    acceptance_seconds: int
    readings_due_seconds: int
    settlement_seconds: int
    fee_rate: int
    rejection_fee_rate: int
    guarantee_rate: int
    shortage_price: int
    shortage_penalty_rate: int
    surplus_price: int
    green_reward_rate: int
    brown_penalty_rate: int
    surplus_budget: int
    reward_budget: int
    congestion_point_id: bytes = bytes(32)

    def __post_init__(self):
        if not 1 <= self.period_count <= MAX_DELIVERY_PERIODS or self.isps_per_period < 1:
            raise DomainError(
                f"session of {self.period_count} periods of {self.isps_per_period} ISPs",
                hint=f"1 to {MAX_DELIVERY_PERIODS} periods of at least one ISP",
            )
        if self.isps_per_period * self.period_count > MAX_DELIVERY_ISPS:
            raise DomainError(
                f"session of {self.isps_per_period * self.period_count} ISPs",
                hint=f"at most {MAX_DELIVERY_ISPS}, a week",
            )
        longest = RECORD_SECONDS - CORRECTION_SECONDS
        if self.readings_due_seconds + self.settlement_seconds > longest:
            raise DomainError(
                f"settlement ends {self.readings_due_seconds + self.settlement_seconds} s after delivery",
                hint=f"readings_due_seconds and settlement_seconds sum up to at most {longest}",
            )
        if self.acceptance_seconds > self.gate_lead_seconds:
            raise DomainError(
                f"acceptance window of {self.acceptance_seconds} s ends after delivery begins",
                hint=f"at most gate_lead_seconds = {self.gate_lead_seconds}",
            )

    @property
    def grid(self) -> PriceGrid:
        """Price grid of the books, one for each product."""
        return PriceGrid(self.base_price, self.price_step, self.tick_count, self.product_count, self.min_quantity_wh)

    @property
    def product_count(self) -> int:
        return len(EnergyType) * self.period_count

    def product(self, energy_type: EnergyType, period: int) -> int:
        """Number of the book of a type and a delivery period."""
        if not 0 <= period < self.period_count:
            raise DomainError(f"period {period} is outside the session of {self.period_count}")
        return energy_type * self.period_count + period

    def type_and_period(self, product: int) -> tuple[EnergyType, int]:
        """Inverse of :meth:`product`."""
        energy_type, period = divmod(product, self.period_count)
        return EnergyType(energy_type), period

    def as_tuple(self) -> tuple:
        """Argument of the contract."""
        return astuple(self)


class Span(NamedTuple):
    """When a session delivers."""

    first_isp: int
    isps_per_period: int
    period_count: int

    @property
    def end_isp(self) -> int:
        return self.first_isp + self.isps_per_period * self.period_count


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """Deadlines of a session [UTC s], in their order."""

    gate_closure: int
    accept_by: int
    delivery_start: int
    delivery_end: int
    readings_due: int
    settle_by: int

    @classmethod
    def of(cls, terms: SessionTerms, first_isp: int) -> "SessionTimes":
        start = first_isp * SECONDS_PER_ISP
        gate = start - terms.gate_lead_seconds
        end = start + terms.isps_per_period * terms.period_count * SECONDS_PER_ISP
        due = end + terms.readings_due_seconds
        return cls(gate, gate + terms.acceptance_seconds, start, end, due, due + terms.settlement_seconds)
