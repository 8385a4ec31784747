"""The market with meters, certificates, rules and proposer on top: what happens after the auction."""

from collections.abc import Sequence
from typing import Any

from eth_hash.auto import keccak

from offchain.chain.leaves import baseline_leaf, meter_day_leaf, values_hash
from offchain.chain.merkle import MerkleTree
from offchain.chain.signatures import METER_DAY, metering_domain, sign
from offchain.domain.curves import pack_baseline, pack_readings
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.market.terms import Span
from tests.market.world import FUNDS, MarketWorld, OpenSession, Trader
from tests.utils.evm import CHAIN_ID

CHALLENGE_WINDOW = 3_600
METER_OPERATOR, AGGREGATOR = 5, 3
FORECAST = 0
ISPS = 96
PROPOSER_SETTINGS = (86_400 * 30, 3_600, 7_200, 7_200, 1_000_000, 300_000, 200_000, 5_000)
"""Age cap, turn, challenge and answer seconds; minimum stake, reveal penalty, challenge bond, claim fee."""

Readings = Sequence[tuple[int, int] | None]


class SettlingWorld(MarketWorld):
    def __init__(self):
        super().__init__()
        admin = self.admin.address

        def deploy(name: str, *arguments):
            plain = [getattr(argument, "address", argument) for argument in arguments]
            return self.evm.deploy(name, *plain, sender=admin)

        authority, participants, grid, house = self.authority, self.participants, self.grid, self.house
        self.meters = deploy("MeterRegistry", authority, participants, grid)
        self.metering = deploy(
            "MeteringLedger", authority, participants, self.meters, house, CHALLENGE_WINDOW, 1_000, 400, admin
        )
        self.commitments = deploy("CommitmentRegistry", authority, participants)
        self.certificates = deploy("EnergyCertificates", authority, participants, grid, self.market, self.producers)
        self.settlement = deploy(
            "MarketSettlement", self.market, self.sessions, self.certificates, self.metering, self.meters, grid, house
        )
        self.rules = deploy("TradingRules", authority, participants, self.market, grid, self.meters, self.commitments)
        self.proposer = deploy(
            "SettlementProposer",
            *(authority, participants, self.market, self.settlement, self.certificates, grid, house),
            PROPOSER_SETTINGS,
        )
        self.corrections = deploy("MarketCorrections", self.market, self.settlement, self.proposer, grid, house)
        for host, module in (
            (house, self.corrections),
            (house, self.metering),
            (house, self.settlement),
            (house, self.proposer),
            (self.market, self.settlement),
            (self.market, self.certificates),
            (self.market, self.rules),
            (self.market, self.proposer),
            (self.certificates, self.settlement),
            (self.certificates, self.proposer),
        ):
            host.setModule(module, True, sender=admin)
        self.meter_operator, self.forecaster = Trader("meter operator"), Trader("forecaster")
        for organisation, role in ((self.meter_operator, METER_OPERATOR), (self.forecaster, AGGREGATOR)):
            self.participants.registerOrganisation(
                organisation.address, role, keccak(b"o"), sender=self.registrar.address
            )
        self.house.deposit(self.meter_operator.address, FUNDS, sender=admin)
        self.metering.postBond(10_000, sender=self.meter_operator.address)
        for trader in self.traders:
            self.meters.registerMeter(
                *(meter_of(trader), trader.connection, device_of(trader).address, 0),
                sender=self.meter_operator.address,
            )

    def anchor(
        self, session: OpenSession, readings: dict[Trader, Readings], *, isps: int = ISPS
    ) -> dict[Trader, dict[str, Any]]:
        """Anchors a metered day that begins with the session; evidence by trader, usable when this returns.

        Parameters
        ----------
        readings : dict
            (import, export) [Wh] per ISP of the session by trader, ``None`` where missing.
        isps : int
            ISPs of the day.
        """
        domain = metering_domain(CHAIN_ID, self.metering.address)
        days, leaves = {}, []
        for trader, values in readings.items():
            packed = pack_readings([*values, *[(0, 0)] * (isps - len(values))])
            message = {
                "meterId": meter_of(trader),
                "firstIsp": session.first_isp,
                "ispCount": isps,
                "valuesHash": values_hash(packed),
            }
            signature = sign(METER_DAY.digest(domain, message), device_of(trader).key)
            days[trader] = {
                "meterId": meter_of(trader),
                "firstIsp": session.first_isp,
                "ispCount": isps,
                "values": packed,
                "signature": signature,
            }
            leaves.append(meter_day_leaf(meter_of(trader), session.first_isp, isps, values_hash(packed)))
        tree = MerkleTree(leaves)
        self.evm.now = max(self.evm.now, (session.first_isp + isps) * SECONDS_PER_ISP)
        self.metering.anchorDay(
            *(session.first_isp, isps, tree.root, len(leaves), keccak(b"data")), sender=self.meter_operator.address
        )
        self.evm.now += CHALLENGE_WINDOW
        return {
            trader: {"day": day, "proof": proof}
            for (trader, day), proof in zip(days.items(), tree.proofs(), strict=True)
        }

    def commit_forecast(
        self, session: OpenSession, net_wh: dict[Trader, Sequence[int]], *, kind=FORECAST, late=0, count=None
    ) -> dict[Trader, dict]:
        """Commits forecasts from the session's first ISP on, or ``late`` ISPs after.

        Gives ``ITradingRules.Forecast`` by trader.
        ``count`` is what is said of their length [ISP], that of the first if left out.
        """
        first_isp = session.first_isp + late
        count = count or len(next(iter(net_wh.values())))
        packed = {trader: pack_baseline(values) for trader, values in net_wh.items()}
        tree = MerkleTree([baseline_leaf(meter_of(t), first_isp, count, values_hash(p)) for t, p in packed.items()])
        commitment_id = self.commitments.commit(
            *(kind, keccak(b"scope"), keccak(b"method"), first_isp, count),
            *(tree.root, len(packed), self.evm.now, keccak(b"data")),
            sender=self.forecaster.address,
        )
        return {
            trader: {"commitmentId": commitment_id, "meterId": meter_of(trader), "values": p, "proof": proof}
            for (trader, p), proof in zip(packed.items(), tree.proofs(), strict=True)
        }


def position(session: OpenSession, bundle: bytes) -> dict[str, Any]:
    """``IMarketSettlement.Position``."""
    return {"sessionId": session.id, "bundle": bundle}


def span_of(session: OpenSession) -> Span:
    return Span(session.first_isp, session.terms.isps_per_period, session.terms.period_count)


def meter_of(trader: Trader) -> bytes:
    return keccak(b"meter of " + trader.name.encode())


def device_of(trader: Trader) -> Trader:
    return Trader(f"device of {trader.name}")
