"""The market and all that it stands on, deployed in one EVM: real registries, real clearing house, real money."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from coincurve import PrivateKey
from eth_hash.auto import keccak

from offchain.chain.signatures import (
    APPROVAL,
    BUNDLE,
    REJECTION,
    address_of,
    market_domain,
    participants_domain,
    sign,
)
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.market.orders import orders
from offchain.market.terms import SessionTerms, SessionTimes
from tests.utils.evm import CHAIN_ID, LocalEvm

OPENING = 1_800_000_000 // 900 * 900
FAR_FUTURE = 2**63
FUNDS = 10**15
BUY, SELL = 0, 1
DSO, PROSUMER_ROLE, MARKET_OPERATOR = 1, 4, 6
SOLAR = 1

TERMS = SessionTerms(
    base_price=-50_000,
    price_step=5_000,
    tick_count=100,
    min_quantity_wh=10,
    isps_per_period=2,
    period_count=4,
    gate_lead_seconds=3_600,
    acceptance_seconds=1_800,
    readings_due_seconds=86_400,
    settlement_seconds=86_400,
    fee_rate=1_001,
    rejection_fee_rate=3_003,
    guarantee_rate=70_007,
    shortage_price=250_000,
    shortage_penalty_rate=50_000,
    surplus_price=40_000,
    green_reward_rate=10_000,
    brown_penalty_rate=5_000,
    surplus_budget=10_000_000,
    reward_budget=5_000_000,
)
"""Tick 10 is the price zero; products 0 .. 3 brown, 4 .. 7 green."""


def price_tick(price: int) -> int:
    return TERMS.grid.tick(price)


def bundle_of(*rows: tuple[int, int, int, int]) -> bytes:
    """Bundle of (product, side, tick, Wh)."""
    return orders(rows).tobytes()


@dataclass(frozen=True)
class Trader:
    name: str

    @cached_property
    def key(self) -> PrivateKey:
        return PrivateKey(keccak(self.name.encode()))

    @cached_property
    def address(self) -> str:
        return address_of(self.key)

    @cached_property
    def connection(self) -> bytes:
        return keccak(b"connection of " + self.name.encode())


class MarketWorld:
    """Deployed once, rolled back by :meth:`LocalEvm.rolled_back`."""

    make_evm = LocalEvm

    def __init__(self):
        self.evm = self.make_evm(OPENING)
        self.admin, self.registrar, self.dso, self.operator, self.outsider, self.module = (
            Trader(name) for name in ("admin", "registrar", "dso", "operator", "outsider", "module")
        )
        self.traders = [Trader(f"trader {i}") for i in range(5)]
        self.area, self.other_area = keccak(b"area"), keccak(b"other area")
        admin = self.admin.address

        def deploy(name: str, *arguments):
            plain = [getattr(argument, "address", argument) for argument in arguments]
            return self.evm.deploy(name, *plain, sender=admin)

        self.authority = deploy("AccessGovernor", admin)
        self.participants = deploy("ParticipantRegistry", self.authority)
        self.grid = deploy("GridRegistry", self.authority, self.participants)
        self.token = self.issue_token()
        self.house = deploy("ClearingHouse", self.authority, self.token)
        self.producers = deploy("ProducerRegistry", self.authority, self.participants, self.grid)
        self.market = deploy("EnergyMarket", self.authority, self.participants, self.grid, self.producers, self.house)
        self.sessions = deploy("MarketSessions", self.authority, self.participants, self.grid, self.market)
        self.relay = deploy("MarketRelay", self.grid, self.market)
        for host, module in (
            (self.house, self.market.address),
            (self.house, self.module.address),
            (self.market, self.sessions.address),
            (self.market, self.relay.address),
            (self.market, self.module.address),
        ):
            host.setModule(module, True, sender=admin)
        self._enrol()

    def issue_token(self):
        """The money, all of it with the admin."""
        return self.evm.deploy("EnergyToken", self.admin.address, 1_000 * FUNDS, sender=self.admin.address)

    def _enrol(self) -> None:
        admin = self.admin.address
        self.participants.registerRegistrar(self.registrar.address, keccak(b"r"), sender=admin)
        for organisation, role in ((self.dso, DSO), (self.operator, MARKET_OPERATOR)):
            self.participants.registerOrganisation(
                organisation.address, role, keccak(b"o"), sender=self.registrar.address
            )
        for area in (self.area, self.other_area):
            self.grid.declareCongestionPoint(area, 100_000, sender=self.dso.address)
        self.token.approve(self.house.address, 1_000 * FUNDS, sender=admin)
        self.house.deposit(self.operator.address, FUNDS, sender=admin)
        for trader in self.traders:
            self.enrol(trader)

    def enrol(self, trader: Trader, *, area: bytes | None = None) -> None:
        domain = participants_domain(CHAIN_ID, self.participants.address)
        message = {
            "account": trader.address,
            "identityCommitment": keccak(b"p"),
            "nonce": 0,
            "deadline": FAR_FUTURE,
        }
        approval = sign(APPROVAL.digest(domain, message), self.registrar.key)
        self.participants.registerProsumer(
            *(trader.address, keccak(b"p"), FAR_FUTURE, self.registrar.address, approval, b""),
            sender=trader.address,
        )
        self.grid.registerConnection(
            trader.connection, area or self.area, trader.address, 5_000, 5_000, sender=self.dso.address
        )
        self.house.deposit(trader.address, FUNDS, sender=self.admin.address)

    def set_producer_class(self, trader: Trader, producer_class: int) -> None:
        self.producers.setProducerClass(trader.connection, producer_class, sender=self.registrar.address)

    # ---------------------------------------------------------------- sessions

    def open(self, terms: SessionTerms = TERMS, **changed) -> "OpenSession":
        """A session whose gate closes an hour after its opening."""
        terms = replace(terms, **changed)
        first_isp = (self.evm.now + terms.gate_lead_seconds + 3_600) // SECONDS_PER_ISP
        session_id = self.sessions.open(terms.as_tuple(), first_isp, sender=self.operator.address)
        return OpenSession(self, session_id, terms, first_isp)


class OpenSession:
    """A session of a :class:`MarketWorld`, with short names for its steps."""

    def __init__(self, world: MarketWorld, session_id: int, terms: SessionTerms, first_isp: int):
        self.world, self.id, self.terms, self.first_isp = world, session_id, terms, first_isp
        self.times = SessionTimes.of(terms, first_isp)
        self.market = world.market
        self.opened = world.evm.event("SessionOpened")
        self.pot_id = self.market.potLockId(session_id)

    @property
    def pot(self) -> int:
        return self.world.house.lockOf(self.pot_id)

    def state(self) -> dict[str, Any]:
        return self.market.session(self.id)

    def bundle(self, trader: Trader) -> dict[str, Any]:
        return self.market.bundleOf(self.id, trader.connection)

    def submit(self, trader: Trader, bundle: bytes, previous: bytes = b"", *, sender: str | None = None) -> dict:
        self.market.submit(self.id, trader.connection, previous, bundle, sender=sender or trader.address)
        return self.world.evm.event("BundleSubmitted")

    def signed(
        self, trader: Trader, bundle: bytes, previous: bytes = b"", *, sequence=None, deadline=FAR_FUTURE, by=None
    ) -> dict[str, Any]:
        domain = market_domain(CHAIN_ID, self.world.relay.address)
        message = {
            "sessionId": self.id,
            "connectionId": trader.connection,
            "sequence": self.bundle(trader)["sequence"] if sequence is None else sequence,
            "bundleHash": keccak(bundle),
            "deadline": deadline,
        }
        signature = sign(BUNDLE.digest(domain, message), (by or trader).key)
        return {
            "connectionId": trader.connection,
            "previous": previous,
            "bundle": bundle,
            "deadline": deadline,
            "signature": signature,
        }

    def submit_signed(self, *bundles: dict[str, Any]) -> None:
        self.world.relay.submitSigned(self.id, list(bundles), sender=self.world.outsider.address)

    def close_gate(self) -> None:
        self.world.evm.now = self.times.gate_closure + 1

    def end_acceptance(self) -> None:
        self.world.evm.now = self.times.accept_by + 1

    def clear(self, first: int = 0, last: int | None = None, max_ticks: int = 2**256 - 1) -> bool:
        last = self.terms.product_count - 1 if last is None else last
        return self.market.clear(self.id, first, last, max_ticks)

    def reject(self, trader: Trader, bundle: bytes, positions: int, *, sender: str | None = None) -> dict:
        self.market.reject(self.id, trader.connection, bundle, positions, sender=sender or trader.address)
        return self.world.evm.event("MatchRejected")

    def reject_signed(self, trader: Trader, bundle: bytes, positions: int, *, sequence=None, by=None) -> None:
        message = {
            "sessionId": self.id,
            "connectionId": trader.connection,
            "sequence": self.bundle(trader)["sequence"] if sequence is None else sequence,
            "positions": positions,
        }
        digest = REJECTION.digest(market_domain(CHAIN_ID, self.world.relay.address), message)
        signature = sign(digest, (by or trader).key)
        self.world.relay.rejectSigned(
            self.id, trader.connection, bundle, positions, signature, sender=self.world.outsider.address
        )

    def finalise(self) -> dict[str, Any]:
        self.market.finalise(self.id)
        return self.world.evm.event("SessionFinalised")

    def run_auction(self) -> dict[str, Any]:
        """From the open gate to the final match, nobody rejecting."""
        self.end_acceptance()
        self.clear()
        return self.finalise()

    def claim(self, trader: Trader, bundle: bytes) -> dict[str, Any]:
        self.market.claim(self.id, trader.connection, bundle)
        return self.world.evm.event("BundleClaimed")

    def settle(self, trader: Trader, bundle: bytes):
        return self.market.settle(self.id, trader.connection, bundle, sender=self.world.module.address)
