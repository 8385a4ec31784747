"""The whole suite with a market day sold: a DSO, two aggregators, six homes with agreements, two open flex orders.

:func:`open_world` deploys and brings everything to the moment after selection; :class:`World` dispatches, meters,
proves and settles. All quantities are Wh by position of the market day, zero elsewhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import brownie
from brownie.network.account import LocalAccount
from brownie.network.contract import ProjectContract
from brownie.network.transaction import TransactionReceipt
from eth_hash.auto import keccak

from offchain.chain.agreements import Terms, agreement_digest, isp_bits, method_id
from offchain.chain.leaves import baseline_leaf, values_hash
from offchain.chain.merkle import MerkleTree
from offchain.chain.signatures import SigningDomain, agreements_domain, metering_domain, sign
from offchain.domain.curves import pack_baseline, pack_readings
from tests.utils import clock, flexibility, metering, system
from tests.utils.flexibility import HOUR, ISP_COUNT, POINT, UP, RequestTerms, curve
from tests.utils.metering import Device, MeterDay, Reading
from tests.utils.plain import event, plain
from tests.utils.system import FAR_FUTURE, Actors, Core, Role, id_of, identity, secret_of

DAY = 24 * HOUR
READINGS_DUE, SETTLE_BY, CORRECTION = 2 * DAY, 4 * DAY, 10 * DAY
"""Deadlines of the settlement after the end of the market day [s]."""
READING_AGE = 1_800
"""How long after its ISP a reading proves a shortfall [s]: two ISPs."""
METHOD = method_id("mid-4-of-6", "1")
ORDERED = {72: 4_000, 73: 4_000, 74: 4_000, 75: 2_001}
"""Flex order of the aggregator."""
RIVAL_ORDERED = {72: 1_000, 73: 1_000}
"""Flex order of the other aggregator."""
PRICE = 250_003
FUNDS = 10**9
OPERATOR_BOND = metering.MINIMUM_BOND
HOMES = ("home", "other_home", "standby", "second_standby", "dear_standby", "rival_home")
LIMIT_WH = 1_000
"""Agreed energy per ISP."""


@dataclass(frozen=True)
class Home:
    """A prosumer with its connection, meter, agreement and committed baseline (net Wh per ISP)."""

    name: str
    account: LocalAccount
    connection_id: bytes
    device: Device
    terms: Terms
    agreement_id: int
    baseline: tuple[int, ...]

    @property
    def packed_baseline(self) -> bytes:
        return pack_baseline(self.baseline)

    @property
    def baseline_hash(self) -> bytes:
        return values_hash(self.packed_baseline)

    def reading_at(self, position: int, delivered: int, direction: int) -> tuple[int, int]:
        """Import and export [Wh] that deliver a quantity, negative when the connection moved the other way."""
        net = self.baseline[position] - (delivered if direction == UP else -delivered)
        return (net, 0) if net >= 0 else (0, -net)


class Issued(NamedTuple):
    """A prosumer order as its event showed it."""

    id: int
    terms: tuple
    fields: dict
    """The terms by name."""
    quantities: bytes


@dataclass(frozen=True)
class Metered:
    """An anchored day batch: days and proofs by home."""

    days: dict[str, MeterDay]
    proofs: dict[str, list[bytes]]
    usable_from: int


@dataclass(frozen=True)
class World:
    core: Core
    actors: Actors
    other_aggregator: LocalAccount
    commitments: ProjectContract
    agreements: ProjectContract
    market: ProjectContract
    metering: ProjectContract
    dispatch: ProjectContract
    reassignment: ProjectContract
    regime: ProjectContract
    settlement: ProjectContract
    homes: dict[str, Home]
    day: int
    """First ISP of the market day, a Wednesday."""
    direction: int
    request: RequestTerms
    request_id: int
    order_id: int
    """Flex order of ``actors.aggregator``."""
    rival_order_id: int
    ordered: dict[int, int]
    """Quantities of the flex order."""
    rival_ordered: dict[int, int]
    baselines: dict[str, MerkleTree]
    """Committed baselines by aggregator: of the homes of that aggregator in the order of ``HOMES``."""
    commitment_ids: dict[str, int]

    def __getattr__(self, name: str) -> Home:
        if name in HOMES:
            return self.homes[name]
        raise AttributeError(name)

    # ------------------------------------------------------------------ time

    def start(self, position: int) -> int:
        """Start of a position of the market day [Unix s]."""
        return (self.day + position) * clock.SECONDS_PER_ISP

    @property
    def end(self) -> int:
        """End of the market day [Unix s]."""
        return self.start(ISP_COUNT)

    def power(self, watt: int) -> dict[str, int]:
        """Agreed power of the request's direction, as a field of the terms."""
        return {"max_up_w" if self.direction == UP else "max_down_w": watt}

    # ------------------------------------------------------------------ dispatch

    def proof(self, home: Home) -> list[bytes]:
        """Proof of the home's baseline under the commitment of its aggregator."""
        aggregator = home.terms.aggregator
        names = [name for name in HOMES if self.homes[name].terms.aggregator == aggregator]
        return self.baselines[aggregator].proof(names.index(home.name))

    def part(self, home: Home, quantities: Mapping[int, int] | bytes, **changed) -> tuple:
        """``IFlexDispatch.Dispatch`` of one home."""
        packed = quantities if isinstance(quantities, bytes) else curve(quantities)
        fields = {
            "agreementId": home.agreement_id,
            "quantitiesWh": packed,
            "baselineWh": home.packed_baseline,
            "baselineProof": self.proof(home),
        }
        return tuple((fields | changed).values())

    def dispatch_parts(self, *parts: tuple, order_id=None, ordered=None, sender=None) -> TransactionReceipt:
        order_id = self.order_id if order_id is None else order_id
        ordered = self.ordered if ordered is None else ordered
        packed = ordered if isinstance(ordered, bytes) else curve(ordered)
        return self.dispatch.dispatch(order_id, packed, list(parts), {"from": sender or self.actors.aggregator})

    def issue(self, home: Home, quantities: Mapping[int, int]) -> Issued:
        """One prosumer order of the home's aggregator."""
        if home.terms.aggregator == self.actors.aggregator:
            return issued(self.dispatch_parts(self.part(home, quantities)))[0]
        return issued(
            self.dispatch_parts(
                self.part(home, quantities),
                order_id=self.rival_order_id,
                ordered=self.rival_ordered,
                sender=self.other_aggregator,
            )
        )[0]

    def cancel(self, order: Issued, sender=None) -> TransactionReceipt:
        return self.dispatch.cancelProsumerOrder(
            order.id, order.terms, order.quantities, {"from": sender or self.actors.aggregator}
        )

    def list_standby(self, *homes: Home) -> TransactionReceipt:
        return self.reassignment.listStandby(
            self.order_id, [self.candidate(home) for home in homes], {"from": self.actors.aggregator}
        )

    def candidate(self, home: Home, **changed) -> tuple:
        """``IFlexReassignment.Candidate``."""
        fields = {
            "agreementId": home.agreement_id,
            "baselineWh": home.packed_baseline,
            "baselineProof": self.proof(home),
        }
        return tuple((fields | changed).values())

    def standby_list(self, *homes: Home) -> list[tuple]:
        """``IFlexReassignment.Standby`` of some homes."""
        return [(home.agreement_id, home.device.meter_id, home.baseline_hash) for home in homes]

    def shortfall(self, order: Issued, home: Home, position: int, delivered: int, *standby: Home, **changed) -> tuple:
        """``IFlexReassignment.Shortfall``: the reading of ``home`` at a position, and the standby list."""
        fields = {
            "prosumerOrderId": order.id,
            "quantitiesWh": order.quantities,
            "baselineWh": home.packed_baseline,
            "takenWh": b"",
            "reading": self.reading(home, position, delivered),
            "standby": self.standby_list(*standby),
        }
        return tuple((fields | changed).values())

    def reassign(self, order: Issued, home: Home, position: int, delivered: int, *standby: Home, **changed):
        """A reassignment sent by an outsider right after the ISP unless the chain is later already."""
        over = self.start(position + 1)
        if brownie.chain[-1].timestamp < over:
            clock.at(over)
        argument = self.shortfall(order, home, position, delivered, *standby, **changed)
        return self.reassignment.reassign(order.terms, argument, {"from": self.actors.outsider})

    def replace(self, order: Issued, standby: Home, quantities: Mapping[int, int], *, freed=0, sender=None):
        """A replacement as the reassignment module asks for it."""
        packed = curve(quantities)
        replacement = (
            *(order.id, standby.agreement_id, standby.device.meter_id, standby.baseline_hash),
            *(packed, packed, sum(quantities.values()), freed),
        )
        return self.dispatch.issueReplacement(replacement, {"from": sender or self.actors.module})

    # ------------------------------------------------------------------ metering

    @property
    def metering_domain(self) -> SigningDomain:
        return metering_domain(brownie.chain.id, self.metering.address)

    def reading(self, home: Home, position: int, delivered: int, device: Device | None = None) -> Reading:
        imported, exported = home.reading_at(position, delivered, self.direction)
        return (device or home.device).reading(self.metering_domain, self.day + position, imported, exported)

    def meter_day(self, home: Home, delivered: Mapping[int, int | None] | None = None) -> MeterDay:
        """Signed day of a home; delivered Wh by position, ``None`` where the reading is missing."""
        delivered = delivered or {}
        values = [
            None if delivered.get(p, 0) is None else home.reading_at(p, delivered.get(p, 0), self.direction)
            for p in range(ISP_COUNT)
        ]
        return home.device.day(self.metering_domain, self.day, pack_readings(values))

    def anchor(
        self, delivered: Mapping[str, Mapping[int, int | None]], *, without: Iterable[str] = (), more=()
    ) -> Metered:
        """Anchors the day of all homes but those ``without``; ``more`` leaves beside them."""
        names = [name for name in HOMES if name not in without]
        days = {name: self.meter_day(self.homes[name], delivered.get(name)) for name in names}
        tree = MerkleTree([day.leaf for day in days.values()] + list(more))
        tx = self.metering.anchorDay(
            self.day, ISP_COUNT, tree.root, len(tree), metering.DATA_HASH, {"from": self.actors.meter_operator}
        )
        usable = metering.timestamp_of(tx) + metering.CHALLENGE_WINDOW
        return Metered(days, {name: tree.proof(i) for i, name in enumerate(names)}, usable)

    def finish_day(self, delivered: Mapping[str, Mapping[int, int | None]], **changed) -> Metered:
        """The day ends, its batch is anchored and can no longer be challenged."""
        if brownie.chain[-1].timestamp < self.end:
            clock.move_to(self.end)
        metered = self.anchor(delivered, **changed)
        clock.move_to(metered.usable_from)
        return metered

    # ------------------------------------------------------------------ settlement

    def evidence(self, order: Issued, home: Home, metered: Metered, **changed) -> tuple:
        """``IFlexSettlement.Evidence``."""
        fields = {
            "quantitiesWh": order.quantities,
            "takenWh": b"",
            "baselineWh": home.packed_baseline,
            "day": metered.days.get(home.name),
            "proof": metered.proofs.get(home.name),
        }
        return tuple((fields | changed).values())

    def settle(self, order: Issued, home: Home, metered: Metered, **changed) -> TransactionReceipt:
        return self.settlement.settle(
            order.id, order.terms, self.evidence(order, home, metered, **changed), {"from": self.actors.outsider}
        )

    def settle_missing(self, order: Issued, taken: bytes = b"") -> TransactionReceipt:
        return self.settlement.settleMissing(
            order.id, order.terms, order.quantities, taken, {"from": self.actors.outsider}
        )

    def correct(self, order: Issued, home: Home, metered: Metered, **changed) -> TransactionReceipt:
        return self.settlement.correct(
            order.id, order.terms, self.evidence(order, home, metered, **changed), {"from": self.actors.outsider}
        )

    def finalise(self, order_id: int | None = None) -> TransactionReceipt:
        order_id = self.order_id if order_id is None else order_id
        return self.settlement.finalise(order_id, {"from": self.actors.outsider})

    # ------------------------------------------------------------------ money

    def group_lock(self, group_id: int | None = None) -> int:
        lock_id = self.dispatch.groupLockId(self.order_id if group_id is None else group_id)
        return self.core.house.lockOf(lock_id)

    def bond(self, home: Home) -> int:
        return self.core.house.lockOf(self.agreements.bondLockId(home.agreement_id))

    def free(self, account) -> int:
        return self.core.house.balanceOf(account)

    @property
    def contracts(self) -> list[ProjectContract]:
        """All that a refused dispatch or settlement must leave as it was."""
        return [self.dispatch, self.reassignment, self.market, self.core.house, self.settlement]


def issued(tx: TransactionReceipt) -> list[Issued]:
    """The prosumer orders that a transaction issued."""
    found = []
    for item in tx.events:
        if item.name != "ProsumerOrdered":
            continue
        fields = plain(item["terms"])
        found.append(Issued(item["prosumerOrderId"], tuple(fields.values()), fields, plain(item["quantitiesWh"])))
    return found


def verdict_of(tx: TransactionReceipt, name: str = "ProsumerSettled") -> dict:
    return event(tx, name)["verdict"]


# ---------------------------------------------------------------------- opening


def open_world(
    core: Core,
    actors: Actors,
    *,
    direction: int = UP,
    ordered: Mapping[int, int] = ORDERED,
    rival_ordered: Mapping[int, int] = RIVAL_ORDERED,
    unsold: Mapping[int, int] | None = None,
    agreed: Mapping | None = None,
    correction: int = CORRECTION,
    **request,
) -> World:
    """Deploys the rest of the suite and brings it to the moment after selection.

    Parameters
    ----------
    direction : int
        Of the request.
    ordered, rival_ordered : mapping
        Quantities of the flex orders of the two aggregators.
    unsold : mapping, optional
        What the request asks for besides, and nobody offers.
    agreed : mapping, optional
        Fields of all agreements that differ.
    correction : int
        How long verdicts can be corrected after the day [s].
    request
        Fields of the request that differ.
    """
    contracts = _deploy(core, actors, correction)
    day = clock.next_wednesday()
    now = day * clock.SECONDS_PER_ISP - 12 * HOUR
    other_aggregator = _organise(core, actors)
    clock.move_to(now)
    homes = _settle_in(core, actors, other_aggregator, contracts, day, now, agreed or {})
    terms = RequestTerms(
        congestion_point_id=POINT,
        direction=direction,
        day_first_isp=day,
        isp_count=ISP_COUNT,
        price_cap=300_001,
        bond_rate=50_001,
        penalty_rate=40_003,
        tolerance_bps=500,
        gate_closure=now + HOUR,
        select_by=now + 2 * HOUR,
        dispatch_by=now + 3 * HOUR,
    )
    terms = replace(terms, **request)
    wanted = (ordered, rival_ordered, unsold or {})
    requested = {p: sum(part.get(p, 0) for part in wanted) for p in set().union(*wanted)}
    market = contracts["market"]
    request_id = market.publishRequest(terms.as_tuple(), curve(requested), {"from": actors.dso}).return_value
    baselines, commitment_ids, selections = {}, {}, []
    for aggregator, sold in ((actors.aggregator, ordered), (other_aggregator, rival_ordered)):
        own = [home for home in homes.values() if home.terms.aggregator == aggregator]
        tree = MerkleTree([baseline_leaf(home.device.meter_id, day, ISP_COUNT, home.baseline_hash) for home in own])
        baselines[aggregator.address] = tree
        commitment_ids[aggregator.address] = (
            contracts["commitments"]
            .commit(
                flexibility.BASELINE,
                POINT,
                METHOD,
                day,
                ISP_COUNT,
                tree.root,
                len(tree),
                now - HOUR,
                metering.DATA_HASH,
                {"from": aggregator},
            )
            .return_value
        )
        offer_id = market.placeOffer(
            request_id, PRICE, commitment_ids[aggregator.address], curve(sold), {"from": aggregator}
        ).return_value
        selections.append((offer_id, curve(sold), curve(sold)))
    clock.at(terms.gate_closure + 1)
    order_ids = market.select(request_id, curve(requested), selections, {"from": actors.dso}).return_value
    return World(
        core=core,
        actors=actors,
        other_aggregator=other_aggregator,
        **contracts,
        homes=homes,
        day=day,
        direction=direction,
        request=terms,
        request_id=request_id,
        order_id=order_ids[0],
        rival_order_id=order_ids[1],
        ordered=dict(ordered),
        rival_ordered=dict(rival_ordered),
        baselines=baselines,
        commitment_ids=commitment_ids,
    )


def _deploy(core: Core, actors: Actors, correction: int) -> dict[str, ProjectContract]:
    admin, authority, participants, house = actors.admin, core.authority, core.participants, core.house
    commitments = flexibility.deploy_commitments(admin, authority, participants)
    agreements = flexibility.deploy_agreements(admin, authority, participants, core.grid, house)
    market = flexibility.deploy_market(admin, authority, participants, core.grid, commitments, house)
    ledger = metering.deploy_ledger(admin, authority, participants, core.meters, house)
    dispatch = system.deploy(
        admin,
        "FlexDispatch",
        *(authority, participants, core.grid, core.meters, commitments, agreements, market, house, correction),
    )
    reassignment = system.deploy(
        admin,
        "FlexReassignment",
        *(authority, participants, core.grid, core.meters, ledger, commitments, agreements, market, dispatch),
        READING_AGE,
    )
    regime = flexibility.deploy_regime(admin, authority, participants, core.grid, commitments, market, dispatch)
    settlement = system.deploy(
        admin,
        "FlexSettlement",
        *(ledger, agreements, market, dispatch, house, READINGS_DUE, SETTLE_BY),
    )
    for target in (commitments, agreements, market, ledger, dispatch, reassignment, regime):
        system.govern(authority, target, actors)
    for target, modules in (
        (house, (ledger, agreements, market, dispatch, settlement)),
        (market, (settlement,)),
        (dispatch, (reassignment, regime, settlement, actors.module)),
    ):
        for module in modules:
            target.setModule(module, True, {"from": admin})
    market.connect(regime, dispatch, {"from": admin})
    return {
        "commitments": commitments,
        "agreements": agreements,
        "market": market,
        "metering": ledger,
        "dispatch": dispatch,
        "reassignment": reassignment,
        "regime": regime,
        "settlement": settlement,
    }


def _organise(core: Core, actors: Actors) -> LocalAccount:
    """The other aggregator, congestion points, money and the operator's bond."""
    other_aggregator = _account("other_aggregator")
    core.participants.registerOrganisation(
        other_aggregator, Role.AGGREGATOR, identity("other_aggregator"), {"from": actors.registrar}
    )
    for point in (POINT, flexibility.OTHER_POINT):
        core.grid.declareCongestionPoint(point, 400_000, {"from": actors.dso})
    for aggregator in (actors.aggregator, other_aggregator):
        core.grid.activateAggregator(POINT, {"from": aggregator})
    for account in (actors.dso, actors.aggregator, other_aggregator, actors.meter_operator):
        system.fund(core, actors, account, FUNDS)
    return other_aggregator


def _settle_in(core, actors, other_aggregator, contracts, day, now, agreed) -> dict[str, Home]:
    contracts["metering"].postBond(OPERATOR_BOND, {"from": actors.meter_operator})
    homes = {}
    for number, name in enumerate(HOMES):
        account, device = _account(name), Device.named(name)
        system.enrol_prosumer(core.participants, account, actors.registrar)
        system.fund(core, actors, account, 10_000_000)
        connection_id = id_of(f"connection of {name}")
        core.grid.registerConnection(connection_id, POINT, account, 8_000, 8_000, {"from": actors.dso})
        core.meters.registerMeter(
            device.meter_id, connection_id, device.address, day - 2 * ISP_COUNT, {"from": actors.meter_operator}
        )
        aggregator = other_aggregator if name.startswith("rival") else actors.aggregator
        terms = _terms(connection_id, account, aggregator, number, "standby" in name, now)
        terms = replace(terms, **agreed)
        arguments = sign_both(contracts["agreements"], terms, account, aggregator)
        agreement_id = (
            contracts["agreements"].register(terms.as_tuple(), *arguments, {"from": actors.outsider}).return_value
        )
        baseline = tuple(500 + 100 * number + p for p in range(ISP_COUNT))
        homes[name] = Home(name, account, connection_id, device, terms, agreement_id, baseline)
    return homes


def _terms(connection_id, account, aggregator, number, standby, now) -> Terms:
    """Reward and penalty rise with the number of the home, so that standby is listed in the order of ``HOMES``."""
    return Terms(
        connection_id=connection_id,
        prosumer=account.address,
        aggregator=aggregator.address,
        baseline_method=METHOD,
        working_day_isps=isp_bits(range(68, 84)),
        weekend_isps=isp_bits(range(40, 48)),
        max_up_w=4 * LIMIT_WH,
        max_down_w=4 * LIMIT_WH + 3,
        reward_rate=150_001 + 25_000 * number,
        penalty_rate=300_007 + 10_000 * number,
        tolerance_bps=1_000,
        multiplier_bps=10_000,
        notice_seconds=900,
        termination_notice_seconds=24 * HOUR,
        valid_from=now - HOUR,
        valid_until=now + 60 * DAY,
        weekly_activations=3,
        standby=standby,
        missing_is_shortfall=False,
        bond=500_000,
    )


def sign_both(agreements, terms: Terms, prosumer, aggregator) -> tuple:
    """Deadline and signatures of both parties, as ``register`` and ``amend`` take them after the terms."""
    domain = agreements_domain(brownie.chain.id, agreements.address)
    digest = agreement_digest(domain, terms, nonce=agreements.nonceOf(terms.connection_id), deadline=FAR_FUTURE)
    return FAR_FUTURE, sign(digest, secret_of(prosumer)), sign(digest, secret_of(aggregator))


def amend(world: World, home: Home, **changed) -> Home:
    """New terms for a home, signed by both sides."""
    terms = replace(home.terms, **changed)
    aggregator = world.actors.aggregator if terms.aggregator == world.actors.aggregator else world.other_aggregator
    arguments = sign_both(world.agreements, terms, home.account, aggregator)
    world.agreements.amend(home.agreement_id, terms.as_tuple(), *arguments, {"from": world.actors.outsider})
    return replace(home, terms=terms)


def leave_in_bond(world: World, home: Home, amount: int) -> None:
    """Takes the rest of a bond out, as earlier penalties would."""
    lock_id = world.agreements.bondLockId(home.agreement_id)
    world.core.house.release(lock_id, world.actors.outsider, world.bond(home) - amount, {"from": world.actors.module})


def _account(name: str) -> LocalAccount:
    account = brownie.accounts.add(keccak(name.encode()))
    brownie.accounts[0].transfer(account, "10 ether", silent=True)
    return account
