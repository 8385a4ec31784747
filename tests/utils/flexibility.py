"""Agreements, market and regime for tests, on the core: a market day, two aggregators, two connections."""

from dataclasses import dataclass, replace

import brownie
from brownie.network.account import LocalAccount
from brownie.network.contract import ProjectContract
from eth_hash.auto import keccak

from offchain.chain.agreements import (
    Action,
    Terms,
    agreement_digest,
    availability_digest,
    isp_bits,
    method_id,
    notice_digest,
)
from offchain.chain.signatures import SigningDomain, agreements_domain, sign
from offchain.domain.curves import pack_quantities
from tests.utils import clock, system
from tests.utils.plain import plain
from tests.utils.system import FAR_FUTURE, Actors, Core, Role, id_of, identity, secret_of

HOUR = 3_600
ISP_COUNT = 96
BOND_HOLD = 40 * 24 * HOUR
"""How long bonds stay after the end of an agreement [s]."""
REGULATED_RATE = 150_000
"""Compensation of direct control [uToken/kWh]."""
POINT = id_of("congestion point")
OTHER_POINT = id_of("other congestion point")
CONNECTION = id_of("connection")
OTHER_CONNECTION = id_of("other connection")
UP, DOWN = 0, 1
BASELINE = 1
"""``ICommitmentRegistry.Kind.Baseline``."""


@dataclass(frozen=True)
class Flexibility:
    """The contracts of this chapter with what they were deployed on.

    ``now`` is noon of the day before the market day, the time at which tests start [Unix s].
    """

    core: Core
    actors: Actors
    other_aggregator: LocalAccount
    commitments: ProjectContract
    agreements: ProjectContract
    market: ProjectContract
    dispatch: ProjectContract
    regime: ProjectContract
    day: int
    """First ISP of the market day, a Wednesday."""

    @property
    def now(self) -> int:
        return self.start(0) - 12 * HOUR

    def start(self, position: int) -> int:
        """Start of a position of the market day [Unix s]."""
        return (self.day + position) * clock.SECONDS_PER_ISP

    @property
    def domain(self) -> SigningDomain:
        return agreements_domain(brownie.chain.id, self.agreements.address)


def deploy_commitments(admin, authority, participants) -> ProjectContract:
    return system.deploy(admin, "CommitmentRegistry", authority, participants)


def deploy_agreements(admin, authority, participants, grid, house) -> ProjectContract:
    return system.deploy(admin, "AgreementRegistry", authority, participants, grid, house, BOND_HOLD)


def deploy_market(admin, authority, participants, grid, commitments, house) -> ProjectContract:
    return system.deploy(admin, "FlexMarket", authority, participants, grid, commitments, house)


def deploy_regime(admin, authority, participants, grid, commitments, market, dispatch) -> ProjectContract:
    return system.deploy(
        admin,
        "GridRegime",
        authority,
        participants,
        grid,
        commitments,
        market,
        dispatch,
        REGULATED_RATE,
    )


def deploy_flexibility(core: Core, actors: Actors) -> Flexibility:
    """All contracts of the chapter on a core with its actors enrolled; dispatch is a double."""
    admin, authority, participants = actors.admin, core.authority, core.participants
    commitments = deploy_commitments(admin, authority, participants)
    agreements = deploy_agreements(admin, authority, participants, core.grid, core.house)
    market = deploy_market(admin, authority, participants, core.grid, commitments, core.house)
    dispatch = system.deploy(admin, "DispatchDouble")
    regime = deploy_regime(admin, authority, participants, core.grid, commitments, market, dispatch)
    for target in (commitments, agreements, market, regime):
        system.govern(authority, target, actors)
    for target in (agreements, market):
        core.house.setModule(target, True, {"from": admin})
    market.setModule(actors.module, True, {"from": admin})
    market.connect(regime, dispatch, {"from": admin})

    other_aggregator = brownie.accounts.add(keccak(b"other_aggregator"))
    brownie.accounts[0].transfer(other_aggregator, "100 ether", silent=True)
    participants.registerOrganisation(
        other_aggregator, Role.AGGREGATOR, identity("other_aggregator"), {"from": actors.registrar}
    )
    for point in (POINT, OTHER_POINT):
        core.grid.declareCongestionPoint(point, 400_000, {"from": actors.dso})
    for aggregator in (actors.aggregator, other_aggregator):
        core.grid.activateAggregator(POINT, {"from": aggregator})
    for connection, owner in ((CONNECTION, actors.prosumer), (OTHER_CONNECTION, actors.other_prosumer)):
        core.grid.registerConnection(connection, POINT, owner, 8_000, 4_001, {"from": actors.dso})
    for account in (actors.dso, actors.aggregator, other_aggregator, actors.prosumer, actors.other_prosumer):
        system.fund(core, actors, account, 10**9)
    flex = Flexibility(
        core,
        actors,
        other_aggregator,
        commitments,
        agreements,
        market,
        dispatch,
        regime,
        clock.next_wednesday(),
    )
    clock.move_to(flex.now)
    return flex


# ---------------------------------------------------------------------- agreements


def make_terms(flex: Flexibility, **changed) -> Terms:
    """Terms between prosumer and aggregator about ``CONNECTION``, in force for ten days from an hour ago."""
    terms = Terms(
        connection_id=CONNECTION,
        prosumer=flex.actors.prosumer.address,
        aggregator=flex.actors.aggregator.address,
        baseline_method=method_id("mid-4-of-6", "1"),
        working_day_isps=isp_bits(range(68, 84)),
        weekend_isps=isp_bits(range(40, 48)),
        max_up_w=4_000,
        max_down_w=2_000,
        reward_rate=200_000,
        penalty_rate=300_000,
        tolerance_bps=1_000,
        multiplier_bps=10_000,
        notice_seconds=900,
        termination_notice_seconds=24 * HOUR,
        valid_from=flex.now - HOUR,
        valid_until=flex.now + 240 * HOUR,
        weekly_activations=5,
        standby=True,
        missing_is_shortfall=False,
        bond=5_000_000,
    )
    return replace(terms, **changed)


def terms_of(values) -> Terms:
    """Terms as a view or an event gives them."""
    return Terms(*plain(values).values())


def sign_terms(
    flex: Flexibility,
    terms: Terms,
    signer: LocalAccount,
    *,
    nonce: int | None = None,
    deadline: int = FAR_FUTURE,
    domain: SigningDomain | None = None,
) -> bytes:
    nonce = flex.agreements.nonceOf(terms.connection_id) if nonce is None else nonce
    digest = agreement_digest(domain or flex.domain, terms, nonce=nonce, deadline=deadline)
    return sign(digest, secret_of(signer))


def sign_notice(flex: Flexibility, agreement_id: int, action: Action, signer, *, party=None, deadline=FAR_FUTURE):
    nonce = flex.agreements.noticeNonceOf(party or signer)
    digest = notice_digest(flex.domain, agreement_id, action, nonce=nonce, deadline=deadline)
    return sign(digest, secret_of(signer))


def sign_availability(flex: Flexibility, agreement_id: int, day: int, isps: int, signer, *, deadline=FAR_FUTURE):
    nonce = flex.agreements.noticeNonceOf(signer)
    digest = availability_digest(flex.domain, agreement_id, day, isps, nonce=nonce, deadline=deadline)
    return sign(digest, secret_of(signer))


def signed(flex: Flexibility, terms: Terms, *, aggregator=None, prosumer=None, **changed) -> tuple:
    """Arguments of ``register`` after the terms: deadline and the signatures of both parties."""
    deadline = changed.get("deadline", FAR_FUTURE)
    return (
        deadline,
        sign_terms(flex, terms, prosumer or flex.actors.prosumer, **changed),
        sign_terms(flex, terms, aggregator or flex.actors.aggregator, **changed),
    )


def register(flex: Flexibility, terms: Terms | None = None, **signers) -> int:
    """Registers an agreement, relayed by an outsider."""
    terms = terms or make_terms(flex)
    arguments = signed(flex, terms, **signers)
    tx = flex.agreements.register(terms.as_tuple(), *arguments, {"from": flex.actors.outsider})
    return tx.events["AgreementRegistered"]["agreementId"]


# ---------------------------------------------------------------------- market


def curve(quantities: dict[int, int], isp_count: int = ISP_COUNT) -> bytes:
    """Packed curve from Wh by position; zero elsewhere."""
    return pack_quantities([quantities.get(p, 0) for p in range(isp_count)])


@dataclass(frozen=True)
class RequestTerms:
    """``IFlexMarket.RequestTerms``."""

    congestion_point_id: bytes
    direction: int
    day_first_isp: int
    isp_count: int
    price_cap: int
    bond_rate: int
    penalty_rate: int
    tolerance_bps: int
    gate_closure: int
    select_by: int
    dispatch_by: int

    def as_tuple(self) -> tuple:
        return tuple(vars(self).values())


REQUESTED = {72: 1_000, 73: 2_000, 74: 501}
"""Wh by position that the request of the tests asks for."""


def make_request(flex: Flexibility, **changed) -> RequestTerms:
    """A request for ``POINT``: gate in one hour, selection within two, dispatch within three."""
    terms = RequestTerms(
        congestion_point_id=POINT,
        direction=UP,
        day_first_isp=flex.day,
        isp_count=ISP_COUNT,
        price_cap=300_001,
        bond_rate=50_001,
        penalty_rate=400_000,
        tolerance_bps=500,
        gate_closure=flex.now + HOUR,
        select_by=flex.now + 2 * HOUR,
        dispatch_by=flex.now + 3 * HOUR,
    )
    return replace(terms, **changed)


def publish(flex: Flexibility, quantities: dict[int, int] = REQUESTED, **changed) -> int:
    terms = make_request(flex, **changed)
    tx = flex.market.publishRequest(terms.as_tuple(), curve(quantities, terms.isp_count), {"from": flex.actors.dso})
    return tx.events["RequestPublished"]["requestId"]


def commit_baseline(flex: Flexibility, committer, *, kind=BASELINE, day=None, isp_count=ISP_COUNT) -> int:
    day = flex.day if day is None else day
    tx = flex.commitments.commit(
        kind,
        POINT,
        method_id("mid-4-of-6", "1"),
        day,
        isp_count,
        keccak(b"root"),
        1,
        flex.now - HOUR,
        keccak(b"data"),
        {"from": committer},
    )
    return tx.events["Committed"]["commitmentId"]


def place(flex: Flexibility, request_id: int, quantities=REQUESTED, *, price=250_003, aggregator=None) -> int:
    """An offer with a baseline committed for it."""
    aggregator = aggregator or flex.actors.aggregator
    commitment_id = commit_baseline(flex, aggregator)
    tx = flex.market.placeOffer(request_id, price, commitment_id, curve(quantities), {"from": aggregator})
    return tx.events["OfferPlaced"]["offerId"]


def select(flex: Flexibility, request_id: int, selections, requested=REQUESTED) -> list[int]:
    """Selects ``(offer id, offered, ordered)`` just after the gate."""
    clock.move_to(flex.market.request(request_id)["terms"]["gateClosure"] + 1)
    packed = [(offer_id, curve(offered), curve(ordered)) for offer_id, offered, ordered in selections]
    tx = flex.market.select(request_id, curve(requested), packed, {"from": flex.actors.dso})
    return [ordered["flexOrderId"] for ordered in tx.events["FlexOrdered"]]


def order(flex: Flexibility, ordered=REQUESTED) -> tuple[int, int, int]:
    """A flex order from scratch: ids of request, offer and order."""
    request_id = publish(flex)
    offer_id = place(flex, request_id)
    (order_id,) = select(flex, request_id, [(offer_id, REQUESTED, ordered)])
    return request_id, offer_id, order_id


def suspend(flex: Flexibility, account) -> None:
    flex.core.participants.setStatus(account, system.Status.SUSPENDED, b"\x01" * 32, {"from": flex.actors.registrar})
