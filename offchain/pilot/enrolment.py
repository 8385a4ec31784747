"""Before the day: participants, connections, meters, money, agreements (HL-UC01_LL-UC01 and LL-UC02)."""

from collections.abc import Iterable

import numpy as np

from offchain.chain.agreements import Terms, agreement_digest, isp_bits
from offchain.chain.signatures import (
    APPROVAL,
    ENROLMENT,
    agreements_domain,
    participants_domain,
    sign,
    signing_key,
)
from offchain.domain.units import UTOKEN
from offchain.grid.assets import Asset
from offchain.pilot.cast import Prosumer, commitment
from offchain.pilot.funding import buy_tokens
from offchain.pilot.world import World

ROLE = {"dso": 1, "aggregator": 3, "meter operator": 5, "market operator": 6}
"""``IParticipantRegistry.Role`` of organisations."""
MAX_ISPS = 100
NOTICE_S = 1_800
STANDBY_NOTICE_S = 300


def enrol(world: World, baseline_method: bytes) -> None:
    """Everybody and everything that the day needs, by the functions of the contracts alone."""
    _register_organisations(world)
    _register_prosumers(world)
    _register_grid(world)
    _fund(world)
    _sign_agreements(world, baseline_method)


def _register_organisations(world: World) -> None:
    cast, seed = world.cast, world.config.seed
    world.send(
        cast.admin,
        "ParticipantRegistry",
        "registerRegistrar",
        cast.registrar.address,
        commitment(seed, "registrar"),
    )
    members = [
        (cast.dso, "dso"),
        (cast.operator, "meter operator"),
        (cast.market_operator, "market operator"),
        *((aggregator, "aggregator") for aggregator in cast.aggregators),
    ]
    world.send_all(
        [
            (
                cast.registrar,
                "ParticipantRegistry",
                "registerOrganisation",
                (account.address, ROLE[role], commitment(seed, account.address)),
            )
            for account, role in members
        ]
    )


def _register_prosumers(world: World) -> None:
    """Each by its own consent and the registrar's approval; the relayer pays for the transaction."""
    cast = world.cast
    domain = participants_domain(world.chain.chain_id, world.suite.address("ParticipantRegistry"))
    registrar = signing_key(bytes(cast.registrar.key))
    deadline = world.time_of(0)
    calls = []
    for prosumer in cast.prosumers:
        identity = commitment(world.config.seed, f"identity {prosumer.name}")
        message = {
            "account": prosumer.address,
            "identityCommitment": identity,
            "nonce": 0,
            "deadline": deadline,
        }
        calls.append(
            (
                cast.relayer,
                "ParticipantRegistry",
                "registerProsumer",
                (
                    prosumer.address,
                    identity,
                    deadline,
                    cast.registrar.address,
                    sign(APPROVAL.digest(domain, message), registrar),
                    sign(ENROLMENT.digest(domain, message), prosumer.wallet),
                ),
            )
        )
    world.send_all(calls)


def _register_grid(world: World) -> None:
    """Congestion point, connections, meters, and the aggregators that become active there."""
    cast, scenario, point = world.cast, world.scenario, world.congestion_point_id
    capacity_w = round(float(scenario.grid.trafo_sn_va[0]))
    world.send(cast.dso, "GridRegistry", "declareCongestionPoint", point, capacity_w)
    limits = [_technical_limits(_assets(world, p)) for p in cast.prosumers]
    world.send_all(
        [
            (
                cast.dso,
                "GridRegistry",
                "registerConnection",
                (p.connection_id, point, p.address, up_w, down_w),
            )
            for p, (up_w, down_w) in zip(cast.prosumers, limits, strict=True)
        ]
        + [(a, "GridRegistry", "activateAggregator", (point,)) for a in cast.aggregators]
    )
    first_isp = world.day.first_isp - 4 * 96
    world.send_all(
        [
            (
                cast.operator,
                "MeterRegistry",
                "registerMeter",
                (p.meter_id, p.connection_id, p.device_address, first_isp),
            )
            for p in cast.prosumers
        ]
    )


def _fund(world: World) -> None:
    """Tokens from the desk: budgets, working capital, bonds; aggregators advance those of prosumers."""
    cast, prices = world.cast, world.config.prices
    members = _members(world)
    buy_tokens(world, cast.dso, {cast.dso.address: 20_000 * UTOKEN})
    buy_tokens(world, cast.operator, {cast.operator.address: prices.operator_bond})
    for position, aggregator in enumerate(cast.aggregators):
        bonds = {prosumer.address: prices.prosumer_bond for prosumer, of in members if of == position}
        buy_tokens(world, aggregator, {aggregator.address: 5_000 * UTOKEN} | bonds)
    world.send(cast.operator, "MeteringLedger", "postBond", prices.operator_bond)


def _sign_agreements(world: World, baseline_method: bytes) -> None:
    """Terms signed by both sides, registered by the relayer."""
    cast, config, prices = world.cast, world.config, world.config.prices
    rng = np.random.default_rng([config.seed, 2])
    domain = agreements_domain(world.chain.chain_id, world.suite.address("AgreementRegistry"))
    all_day = isp_bits(range(MAX_ISPS))
    deadline = world.time_of(0)
    calls, signed = [], []
    for prosumer, aggregator_position in _members(world):
        aggregator = cast.aggregators[aggregator_position]
        up_w, down_w = _market_limits(_assets(world, prosumer))
        standby = bool(rng.random() < config.standby)
        rate = int(rng.integers(prices.reward[0] // 1_000, prices.reward[1] // 1_000 + 1)) * 1_000
        terms = Terms(
            connection_id=prosumer.connection_id,
            prosumer=prosumer.address,
            aggregator=aggregator.address,
            baseline_method=baseline_method,
            working_day_isps=all_day,
            weekend_isps=all_day,
            max_up_w=up_w,
            max_down_w=down_w,
            reward_rate=rate + (prices.standby_premium if standby else 0),
            penalty_rate=prices.prosumer_penalty,
            tolerance_bps=config.tolerance_bps,
            multiplier_bps=10_000,
            notice_seconds=STANDBY_NOTICE_S if standby else NOTICE_S,
            termination_notice_seconds=7 * 86_400,
            valid_from=world.time_of(config.timetable.setup),
            valid_until=world.time_of(365 * 86_400),
            weekly_activations=5,
            standby=standby,
            missing_is_shortfall=bool(rng.random() < 0.5),
            bond=prices.prosumer_bond,
        )
        digest = agreement_digest(domain, terms, nonce=0, deadline=deadline)
        signatures = (sign(digest, prosumer.wallet), sign(digest, signing_key(bytes(aggregator.key))))
        calls.append((cast.relayer, "AgreementRegistry", "register", (terms.as_tuple(), deadline, *signatures)))
        signed.append((prosumer.position, aggregator_position, terms))
    receipts = world.send_all(calls)
    for event, (position, aggregator_position, terms) in zip(
        world.events(receipts, "AgreementRegistered"), signed, strict=True
    ):
        world.terms[event["agreementId"]] = terms
        world.member_of[event["agreementId"]] = (position, aggregator_position)


def _members(world: World) -> list[tuple[Prosumer, int]]:
    """Prosumers with an agreement, and their aggregator; drawn once, whoever asks."""
    rng = np.random.default_rng([world.config.seed, 1])
    members = []
    for prosumer in world.cast.prosumers:
        takes_part = rng.random() < world.config.participation
        aggregator = int(rng.integers(world.config.aggregators))
        if takes_part and any(_market_limits(_assets(world, prosumer))):
            members.append((prosumer, aggregator))
    return members


def _assets(world: World, prosumer: Prosumer) -> list[Asset]:
    return [world.scenario.assets[i] for i in world.scenario.connections[prosumer.position].assets]


def _market_limits(assets: Iterable[Asset]) -> tuple[int, int]:
    """Power that flexible devices can move UP and DOWN [W]."""
    flexible = [a for a in assets if a.flexible]
    power_w = sum(a.max_import_w + a.max_export_w for a in flexible)
    return (
        power_w if any(a.up_energy_wh for a in flexible) else 0,
        power_w if any(a.down_energy_wh for a in flexible) else 0,
    )


def _technical_limits(assets: Iterable[Asset]) -> tuple[int, int]:
    """What the DSO can switch: all that takes power (UP), feed-in and flexible load (DOWN) [W]."""
    assets = list(assets)
    up_w = sum(a.max_import_w for a in assets)
    down_w = sum(a.max_export_w for a in assets) + sum(a.max_import_w for a in assets if a.flexible)
    return up_w, down_w
