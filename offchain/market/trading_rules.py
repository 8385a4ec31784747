"""Trading rules off chain: signed once by a prosumer, then orders from its committed forecast (``ITradingRules``)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from coincurve import PrivateKey
from eth_account.signers.local import LocalAccount

from offchain.chain.abi import checksum
from offchain.chain.client import Call, Receipt
from offchain.chain.contracts import Suite
from offchain.chain.leaves import baseline_leaf, values_hash
from offchain.chain.merkle import MerkleTree
from offchain.chain.signatures import TRADING_RULE, rules_domain, sign
from offchain.domain.curves import unpack_baseline
from offchain.domain.errors import DomainError
from offchain.domain.isp import ISPS_PER_HOUR
from offchain.domain.units import BPS
from offchain.market.bidding import Limits, orders_by_limits
from offchain.market.terms import EnergyType, SessionTerms
from offchain.store import Store
from offchain.store.curves import CurveRow, curves_covering, curves_of_commitment, get_commitment

HOURS = 24
ANYONE = "0x" + "0" * 40
_NEVER_BUY, _NEVER_SELL = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class TradingRule:
    """What may be traded for a connection without asking its owner again.

    Attributes
    ----------
    connection_id : bytes
    agent : str
        Who may bring orders; :data:`ANYONE` leaves it open.
    forecaster : str
        Whose committed forecasts count.
    number : int
        Higher than that of any rule of the connection before.
    valid_from, valid_until : int
        UTC seconds, both included.
    share_bps : int
        Share of the forecast to trade [1/10,000].
    green_only : bool
        Only green energy is bought.
    buy_limits, sell_limits : tuple of (int or None), 24 each
        Most paid and least taken in delivery periods that begin in an hour of the day, UTC [uToken/kWh];
        ``None``: never.
    """

    connection_id: bytes
    agent: str
    forecaster: str
    number: int
    valid_from: int
    valid_until: int
    share_bps: int
    green_only: bool
    buy_limits: tuple[int | None, ...]
    sell_limits: tuple[int | None, ...]

    def __post_init__(self):
        if len(self.connection_id) != 32:
            raise DomainError(f"connection id of {len(self.connection_id)} bytes", hint="32 bytes are needed")
        if not 0 <= self.share_bps <= BPS:
            raise DomainError(f"share {self.share_bps} of the forecast is outside 0..{BPS} basis points")
        if not 0 <= self.valid_from <= self.valid_until < 2**40:
            raise DomainError(f"trading rule from {self.valid_from} until {self.valid_until}", hint="UTC seconds")
        if not 0 < self.number < 2**32:
            raise DomainError(f"trading rule number {self.number}", hint="count from 1")
        for name in ("buy_limits", "sell_limits"):
            limits = getattr(self, name)
            if len(limits) != HOURS:
                raise DomainError(f"{name}: {len(limits)} limits", hint="one for each hour of the day, UTC")
            if any(limit is not None and not _NEVER_BUY < limit < _NEVER_SELL for limit in limits):
                raise DomainError(f"{name}: a limit outside 64 bits")

    def as_argument(self) -> dict[str, Any]:
        """``ITradingRules.Rule``."""
        return {
            "connectionId": self.connection_id,
            "agent": self.agent,
            "forecaster": self.forecaster,
            "number": self.number,
            "validFrom": self.valid_from,
            "validUntil": self.valid_until,
            "shareBps": self.share_bps,
            "greenOnly": self.green_only,
            "buyLimits": [_NEVER_BUY if limit is None else limit for limit in self.buy_limits],
            "sellLimits": [_NEVER_SELL if limit is None else limit for limit in self.sell_limits],
        }

    @classmethod
    def of_argument(cls, rule: Mapping[str, Any]) -> "TradingRule":
        """Inverse of :meth:`as_argument`; what ``RuleRegistered`` carries."""
        return cls(
            *(bytes(rule["connectionId"]), checksum(rule["agent"]), checksum(rule["forecaster"]), rule["number"]),
            *(rule["validFrom"], rule["validUntil"], rule["shareBps"], rule["greenOnly"]),
            tuple(None if limit == _NEVER_BUY else limit for limit in rule["buyLimits"]),
            tuple(None if limit == _NEVER_SELL else limit for limit in rule["sellLimits"]),
        )

    def limits(self, terms: SessionTerms, first_isp: int) -> list[Limits]:
        """Limits of every delivery period of a session."""
        hours = [(first_isp + p * terms.isps_per_period) // ISPS_PER_HOUR % HOURS for p in range(terms.period_count)]
        return [(self.buy_limits[hour], self.sell_limits[hour]) for hour in hours]

    def orders(
        self, terms: SessionTerms, first_isp: int, net_wh: np.ndarray, *, buys: EnergyType, sells: EnergyType
    ) -> np.ndarray:
        """Orders that the contract takes by this rule, for the expected net consumption per ISP of the session [Wh].

        Parameters
        ----------
        buys, sells : EnergyType
            Type of what the prosumer prefers to buy, and of what it produces; a rule that is ``green_only`` buys green.
        """
        bought = EnergyType.GREEN if self.green_only else buys
        return orders_by_limits(terms, net_wh, self.limits(terms, first_isp), self.share_bps, bought, sells)


@dataclass(frozen=True)
class CommittedForecast:
    """Forecast of a meter under a commitment, with its proof."""

    commitment_id: int
    meter_id: bytes
    first_isp: int
    values: bytes
    proof: Sequence[bytes]

    def as_argument(self) -> dict[str, Any]:
        """``ITradingRules.Forecast``."""
        return {
            "commitmentId": self.commitment_id,
            "meterId": self.meter_id,
            "values": self.values,
            "proof": list(self.proof),
        }

    def net_wh(self, terms: SessionTerms, first_isp: int) -> np.ndarray:
        """Expected net consumption per ISP of a session [Wh].

        Raises
        ------
        DomainError
            The forecast does not hold the whole session.
        """
        values, start = unpack_baseline(self.values), first_isp - self.first_isp
        end = start + terms.isps_per_period * terms.period_count
        if start < 0 or end > len(values):
            raise DomainError(
                f"forecast of ISPs {self.first_isp} to {self.first_isp + len(values) - 1} does not hold the session"
                f" from ISP {first_isp}",
                hint="commit a forecast of the day of delivery",
            )
        return np.array(values[start:end], dtype=np.int64)


def sign_rule(suite: Suite, wallet: PrivateKey, rule: TradingRule) -> bytes:
    """Signature of a rule by the owner of its connection."""
    domain = rules_domain(suite.chain.chain_id, suite.address("TradingRules"))
    return sign(TRADING_RULE.digest(domain, rule.as_argument()), wallet)


def register_rule(suite: Suite, sender: LocalAccount, rule: TradingRule, signature: bytes = b"") -> Receipt:
    """Put a rule into force; anyone brings the owner's signature, the owner needs none."""
    return suite.send(sender, "TradingRules", "register", (rule.as_argument(), signature))


def find_forecast(store: Store, rule: TradingRule, meter_id: bytes, session_first_isp: int) -> CommittedForecast:
    """Latest forecast of a meter that the forecaster of a rule committed for the day of a session.

    Raises
    ------
    DomainError
        The store holds none.
    """
    with store.read() as connection:
        for row in curves_covering(connection, "forecast", meter_id, session_first_isp):
            committed = row.commitment_id and get_commitment(connection, row.commitment_id)
            if committed and checksum(committed.committer) == rule.forecaster:
                return _proven(row, curves_of_commitment(connection, row.commitment_id))
    raise DomainError(
        f"no forecast of meter 0x{meter_id.hex()} that {rule.forecaster} committed for ISP {session_first_isp}",
        hint="the forecaster commits forecasts before orders by a rule are placed",
    )


def place_call(suite: Suite, rule: TradingRule, session_id: int, bundle: bytes, forecast: CommittedForecast) -> Call:
    """Orders by a rule, ready to be sent by its agent."""
    return suite.prepare("TradingRules", "place", (rule.as_argument(), session_id, bundle, forecast.as_argument()))


def _proven(row: CurveRow, curves: Sequence[CurveRow]) -> CommittedForecast:
    leaves = [baseline_leaf(c.subject_id, c.first_isp, c.isp_count, values_hash(c.values)) for c in curves]
    position = [curve.subject_id for curve in curves].index(row.subject_id)
    return CommittedForecast(
        row.commitment_id, row.subject_id, row.first_isp, row.values, MerkleTree(leaves).proof(position)
    )
