"""A small flexibility day as events and a store, told step by step; every amount is worked out by hand.

Two aggregators sell 12,000 Wh UP at positions 72 to 75 of 17 May 2016. ``failing`` delivers 400 Wh instead of
1,000 and loses 500 Wh at position 75 to ``standby``; ``late`` has no reading at position 75 until a corrected
batch; the meter of ``silent`` is never read; ``direct`` is under direct control.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

from eth_hash.auto import keccak

from offchain.audit import ChainRecord, Query
from offchain.audit.archive import Archive
from offchain.audit.balances import expectations
from offchain.audit.model import Model
from offchain.audit.records import read_records
from offchain.audit.replay import Replay
from offchain.audit.report import Checks
from offchain.audit.rules import handler_of
from offchain.chain.abi import checksum
from offchain.chain.events import Event
from offchain.chain.leaves import baseline_leaf, meter_day_leaf
from offchain.chain.merkle import MerkleTree
from offchain.chain.signatures import METER_DAY, READING, address_of, metering_domain, sign, signing_key
from offchain.domain.curves import pack_baseline, pack_quantities, pack_readings
from offchain.domain.isp import MarketDay
from offchain.store import open_store
from offchain.store.batches import Batch, BatchKind, BatchStatus, MeterDayRow, insert_batch
from offchain.store.curves import CommitmentRow, CurveRow, commit_curves, insert_curves
from offchain.store.documents import Document, put_document
from offchain.store.readings import ReadingRow, insert_readings
from oracles.batching import reading_data, reading_leaf, tree_and_data_hash

CHAIN_ID = 31337
DAY = MarketDay.of(date(2016, 5, 17))
START, END = DAY.first_isp * 900, DAY.end_isp * 900
SOLD = range(72, 76)
METHOD = keccak(b"mid4of6@1")
POINT = keccak(b"transformer 1")
NOBODY = "0x" + "0" * 40
DIRECT_GROUP = 1 << 63


def account(name: str) -> str:
    return checksum("0x" + keccak(name.encode())[12:].hex())


def contract_address(name: str) -> str:
    return account(f"contract {name}")


def lock_id(kind: str, key: Any) -> bytes:
    return keccak(f"{kind} {key}".encode())


CONTRACTS = (
    "ParticipantRegistry",
    "GridRegistry",
    "MeterRegistry",
    "EnergyToken",
    "LocalCurrency",
    "ClearingHouse",
    "TokenDesk",
    "CommitmentRegistry",
    "MeteringLedger",
    "AgreementRegistry",
    "FlexMarket",
    "FlexDispatch",
    "FlexReassignment",
    "GridRegime",
    "FlexSettlement",
)
ADDRESSES = {name: contract_address(name) for name in CONTRACTS}
REGISTRAR, DSO, TREASURY = account("registrar"), account("dso"), account("treasury")
AGGREGATORS = {1: account("aggregator 1"), 2: account("aggregator 2")}
OPERATOR, SILENT_OPERATOR = account("meter operator"), account("silent meter operator")
PROSUMERS = ("failing", "late", "standby", "silent", "direct")
AGREEMENT_OF = {"failing": 1, "late": 2, "standby": 3, "silent": 4}
ORDER_OF = {"failing": 1, "late": 2, "silent": 3, "standby": 4, "direct": 5}
KEYS = {name: signing_key(keccak(f"device {name}".encode())) for name in PROSUMERS}
SETTINGS = {
    Query("MeteringLedger", "minimumBond"): 1_000_000,
    Query("MeteringLedger", "challengeWindow"): 3_600,
    Query("MeteringLedger", "challengePenalty"): 400_000,
    Query("MeteringLedger", "challengerShareBps"): 4_000,
    Query("MeteringLedger", "forfeitTo"): TREASURY,
    Query("AgreementRegistry", "bondHoldSeconds"): 40 * 86_400,
    Query("FlexReassignment", "maxReadingAgeSeconds"): 1_800,
    Query("FlexSettlement", "readingsDueSeconds"): 2 * 86_400,
    Query("FlexSettlement", "settleBySeconds"): 4 * 86_400,
    Query("FlexDispatch", "correctionSeconds"): 20 * 86_400,
    Query("TokenDesk", "quote", (10**6,)): (100, 100),
}
LOCKS = {
    ("FlexMarket", "budgetLockId"),
    ("FlexMarket", "offerLockId"),
    ("FlexMarket", "escrowLockId"),
    ("FlexMarket", "bondLockId"),
    ("FlexDispatch", "groupLockId"),
    ("AgreementRegistry", "bondLockId"),
    ("MeteringLedger", "bondLockId"),
}


def meter(name: str) -> bytes:
    return keccak(f"meter {name}".encode())


def connection(name: str) -> bytes:
    return keccak(f"connection {name}".encode())


def curve(**at: int) -> list[int]:
    """Quantities of a day [Wh]: ``curve(p72=1000)``."""
    values = [0] * DAY.isp_count
    for position, value in at.items():
        values[int(position[1:])] = value
    return values


def sold(wh: int) -> list[int]:
    return curve(**{f"p{p}": wh for p in SOLD})


BASELINE = pack_baseline([2_000] * DAY.isp_count)
DELIVERED = {"failing": 400, "late": 1_000, "standby": 550, "silent": 0, "direct": 1_000}


def metered(name: str, version: int) -> list[tuple[int, int] | None]:
    """Import per ISP; the baseline less what was delivered."""
    values: list[tuple[int, int] | None] = [(2_000, 0)] * DAY.isp_count
    positions = [75] if name in ("standby", "direct") else SOLD
    for position in positions:
        values[position] = (2_000 - DELIVERED[name], 0)
    if name == "late":
        values[75] = (1_300, 0) if version > 1 else None
    return values


@dataclass
class World:
    """Events so far."""

    events: list[Event] = field(default_factory=list)
    blocks: Any = field(default_factory=lambda: count(1))

    def tx(self, time: int, *emitted: tuple[str, str, dict[str, Any]]) -> None:
        """One transaction in a block of its own."""
        number = next(self.blocks)
        for index, (contract, name, args) in enumerate(emitted):
            self.events.append(
                Event(
                    contract,
                    ADDRESSES[contract],
                    name,
                    args,
                    number,
                    f"0x{number:064x}",
                    f"0x{number:063x}f",
                    index,
                    time,
                )
            )


def house(name: str, **args: Any) -> tuple[str, str, dict[str, Any]]:
    """Event of the clearing house; ``lock`` and the like are given as (kind, key)."""
    ids = {"lock": "lockId", "source": "fromLockId", "target": "toLockId", "origin": "from"}
    return "ClearingHouse", name, {ids.get(key, key): value for key, value in args.items()}


def locked(lock: bytes, who: str, module: str, amount: int):
    return house("Locked", lock=lock, account=who, module=ADDRESSES[module], amount=amount)


def released(lock: bytes, who: str, module: str, amount: int):
    return house("Released", lock=lock, account=who, module=ADDRESSES[module], amount=amount)


def relocked(source: bytes, target: bytes, module: str, amount: int):
    return house("Relocked", source=source, target=target, module=ADDRESSES[module], amount=amount)


def moved(source: str, target: str, amount: int):
    return house("Moved", origin=source, to=target, module=ADDRESSES["FlexSettlement"], amount=amount)


def transfer(source: str, target: str, amount: int, token: str = "EnergyToken"):
    return token, "Transfer", {"from": source, "to": target, "value": amount}


def agreement_terms(name: str) -> dict[str, Any]:
    return {
        "connectionId": connection(name),
        "prosumer": account(name),
        "aggregator": AGGREGATORS[2 if name == "silent" else 1],
        "baselineMethod": METHOD,
        "workingDayIsps": (1 << 96) - 1,
        "weekendIsps": 0,
        "maxUpW": 2_000 if name == "standby" else 4_000,
        "maxDownW": 0,
        "rewardRate": 200_000,
        "penaltyRate": 300_000,
        "toleranceBps": 1_000,
        "multiplierBps": 10_000,
        "noticeSeconds": 900,
        "terminationNoticeSeconds": 86_400,
        "validFrom": START - 10 * 86_400,
        "validUntil": START + 100 * 86_400,
        "weeklyActivations": 2,
        "standby": name == "standby",
        "missingIsShortfall": name == "silent",
        "bond": 1_000_000,
    }


REQUEST_TERMS = {
    "congestionPointId": POINT,
    "direction": 0,
    "dayFirstIsp": DAY.first_isp,
    "ispCount": DAY.isp_count,
    "priceCap": 300_000,
    "bondRate": 50_000,
    "penaltyRate": 100_000,
    "toleranceBps": 500,
    "gateClosure": START - 40_000,
    "selectBy": START - 30_000,
    "dispatchBy": START - 20_000,
}


def order_terms(name: str, quantities: list[int]) -> dict[str, Any]:
    agreed = agreement_terms(name) if name in AGREEMENT_OF else {}
    return {
        "groupId": {"silent": 2, "direct": DIRECT_GROUP}.get(name, 1),
        "agreementId": AGREEMENT_OF.get(name, 0),
        "replaces": ORDER_OF["failing"] if name == "standby" else 0,
        "prosumer": account(name),
        "meterId": meter(name),
        "direction": 0,
        "dayFirstIsp": DAY.first_isp,
        "ispCount": DAY.isp_count,
        "rewardRate": agreed.get("rewardRate", 250_000),
        "penaltyRate": agreed.get("penaltyRate", 0),
        "toleranceBps": agreed.get("toleranceBps", 0),
        "multiplierBps": 10_000,
        "noticeSeconds": agreed.get("noticeSeconds", 0),
        "missingIsShortfall": agreed.get("missingIsShortfall", False),
        "quantitiesHash": keccak(pack_quantities(quantities)),
        "baselineHash": keccak(BASELINE),
    }


def on_standby(name: str) -> dict[str, Any]:
    """An agreement on a standby list."""
    return {"agreementId": AGREEMENT_OF[name], "meterId": meter(name), "baselineHash": keccak(BASELINE)}


ORDERED = {
    "failing": sold(1_000),
    "late": sold(1_000),
    "silent": sold(1_000),
    "standby": curve(p75=500),
    "direct": curve(p75=1_000),
}
LARGEST_REWARD = {
    "failing": 880_000,
    "late": 880_000,
    "silent": 880_000,
    "standby": 110_000,
    "direct": 250_000,
}


def ordered(name: str):
    terms = order_terms(name, ORDERED[name])
    return (
        "FlexDispatch",
        "ProsumerOrdered",
        {
            "prosumerOrderId": ORDER_OF[name],
            "groupId": terms["groupId"],
            "prosumer": terms["prosumer"],
            "terms": terms,
            "quantitiesWh": pack_quantities(ORDERED[name]),
            "orderedWh": sum(ORDERED[name]),
            "rewardLocked": LARGEST_REWARD[name],
        },
    )


VERDICTS = {
    "failing": (1_600, 1_600, 2_000, 0, 320_000, 600_000, 0, -280_000),
    "late": (3_000, 3_000, 0, 1_000, 600_000, 0, 0, 600_000),
    "standby": (500, 550, 0, 0, 110_000, 0, 600_000, 110_000),
    "silent": (0, 0, 4_000, 4_000, 0, 1_000_000, 0, -1_000_000),
    "direct": (1_000, 1_000, 0, 0, 250_000, 0, 0, 250_000),
}
CORRECTED = (3_700, 3_700, 200, 0, 740_000, 60_000, 0, 680_000)
VERDICT_FIELDS = (
    "creditedWh",
    "rewardedWh",
    "penalisedWh",
    "missingWh",
    "reward",
    "penalty",
    "bonus",
    "net",
)


def verdict(values: tuple[int, ...]) -> dict[str, int]:
    return dict(zip(VERDICT_FIELDS, values, strict=True))


def settled(name: str, version: int = 1):
    terms = order_terms(name, ORDERED[name])
    return (
        "FlexSettlement",
        "ProsumerSettled",
        {
            "prosumerOrderId": ORDER_OF[name],
            "groupId": terms["groupId"],
            "prosumer": terms["prosumer"],
            "version": version,
            "verdict": verdict(VERDICTS[name]),
        },
    )


# -------------------------------------------------------------------------------- what is stored


def meter_days(version: int) -> list[MeterDayRow]:
    domain = metering_domain(CHAIN_ID, ADDRESSES["MeteringLedger"])
    days = []
    for name in PROSUMERS:
        if name == "silent":
            continue
        values = pack_readings(metered(name, version))
        message = {
            "meterId": meter(name),
            "firstIsp": DAY.first_isp,
            "ispCount": DAY.isp_count,
            "valuesHash": keccak(values),
        }
        signature = sign(METER_DAY.digest(domain, message), KEYS[name])
        days.append(MeterDayRow(meter(name), DAY.first_isp, DAY.isp_count, version, values, signature))
    return sorted(days)


def day_batch(version: int, days: list[MeterDayRow], made_at: int) -> Batch:
    leaves = [meter_day_leaf(d.meter_id, d.first_isp, d.isp_count, keccak(d.values)) for d in days]
    data_hash = keccak(b"".join(d.meter_id + d.values + d.signature for d in days))
    return Batch(
        0,
        BatchKind.DAY,
        OPERATOR,
        DAY.first_isp,
        DAY.isp_count,
        version,
        MerkleTree(leaves).root,
        len(days),
        data_hash,
        BatchStatus.CONFIRMED,
        None,
        made_at,
    )


def readings() -> list[ReadingRow]:
    domain = metering_domain(CHAIN_ID, ADDRESSES["MeteringLedger"])
    rows = []
    for name in PROSUMERS:
        if name == "silent":
            continue
        for position, value in enumerate(metered(name, 2)):
            isp = DAY.first_isp + position
            message = {"meterId": meter(name), "isp": isp, "importWh": value[0], "exportWh": value[1]}
            signature = sign(READING.digest(domain, message), KEYS[name])
            late = name == "late" and position == 75
            known = END + 50_000 if late else (isp + 1) * 900
            rows.append(ReadingRow(meter(name), isp, *value, 0, signature, known, "test"))
    return rows


INTRADAY_ISP = DAY.first_isp + 72


def intraday_batch() -> Batch:
    """Readings of position 72, anchored before the day is over."""
    rows = sorted(row for row in readings() if row.isp == INTRADAY_ISP)
    tree, data_hash = tree_and_data_hash((reading_leaf(row), reading_data(row)) for row in rows)
    made_at = (INTRADAY_ISP + 1) * 900 + 5
    return Batch(
        *(0, BatchKind.INTRADAY, OPERATOR, INTRADAY_ISP, 1, 1, tree.root, len(rows), data_hash),
        BatchStatus.CONFIRMED,
        None,
        made_at,
    )


MADE_AT = {1: END + 60, 2: END + 60_000}
COMMITMENTS = {
    1: (AGGREGATORS[1], ("failing", "late", "standby")),
    2: (AGGREGATORS[2], ("silent",)),
    3: (DSO, ("direct",)),
}


def commitment_row(commitment_id: int) -> CommitmentRow:
    committer, names = COMMITMENTS[commitment_id]
    subjects = sorted(meter(name) for name in names)
    leaves = [baseline_leaf(s, DAY.first_isp, DAY.isp_count, keccak(BASELINE)) for s in subjects]
    return CommitmentRow(
        commitment_id,
        "baseline",
        committer,
        POINT,
        METHOD,
        DAY.first_isp,
        DAY.isp_count,
        MerkleTree(leaves).root,
        len(leaves),
        START - 60_000,
        keccak(b"".join(subject + BASELINE for subject in subjects)),
        None,
    )


def write_store(path: Path) -> None:
    """The store of the day."""
    with open_store(path) as store, store.write() as connection:
        for version in (1, 2):
            days = meter_days(version)
            insert_batch(connection, day_batch(version, days, MADE_AT[version]), days)
        insert_batch(connection, intraday_batch())
        insert_readings(connection, readings())
        for commitment_id, (_, names) in COMMITMENTS.items():
            row = commitment_row(commitment_id)
            subjects = sorted(meter(name) for name in names)
            rows = [
                CurveRow("baseline", "mid4of6@1", s, DAY.first_isp, DAY.isp_count, BASELINE, row.made_at)
                for s in subjects
            ]
            insert_curves(connection, rows)
            commit_curves(connection, row, "mid4of6@1", subjects, row.made_at)
        for name in ORDER_OF:
            packed = pack_quantities(ORDERED[name])
            put_document(connection, Document("prosumer_order_quantities", keccak(packed), packed, START))


# -------------------------------------------------------------------------------- what happened


def make_events() -> list[Event]:
    """The day, step by step."""
    world = World()
    _set_up(world, START - 5 * 86_400)
    _sell(world)
    _dispatch(world)
    _intervene(world)
    _settle(world)
    _correct(world)
    return world.events


def _set_up(world: World, time: int) -> None:
    for contract in ("ClearingHouse",):
        for module in ("MeteringLedger", "AgreementRegistry", "FlexMarket", "FlexDispatch", "FlexSettlement"):
            world.tx(time, (contract, "ModuleSet", {"module": ADDRESSES[module], "allowed": True}))
    world.tx(time, ("GridRegime", "RegulatedRateSet", {"rate": 250_000}))
    connected = {"regime": ADDRESSES["GridRegime"], "dispatch": ADDRESSES["FlexDispatch"]}
    world.tx(time, ("FlexMarket", "MarketConnected", connected))
    roles = [(REGISTRAR, 7), (DSO, 1), (AGGREGATORS[1], 3), (AGGREGATORS[2], 3), (OPERATOR, 5)]
    roles += [(SILENT_OPERATOR, 5), *((account(name), 4) for name in PROSUMERS)]
    for who, role in roles:
        args = {"account": who, "role": role, "registrar": REGISTRAR, "identityCommitment": keccak(b"id")}
        world.tx(time, ("ParticipantRegistry", "ParticipantRegistered", args))
    _issue_tokens(world, time)

    args = {"congestionPointId": POINT, "dso": DSO, "capacityW": 400_000}
    world.tx(time, ("GridRegistry", "CongestionPointDeclared", args))
    for aggregator in AGGREGATORS.values():
        args = {"congestionPointId": POINT, "aggregator": aggregator}
        world.tx(time, ("GridRegistry", "AggregatorActivated", args))
    for name in PROSUMERS:
        args = {
            "connectionId": connection(name),
            "congestionPointId": POINT,
            "owner": account(name),
            "technicalUpW": 8_000,
            "technicalDownW": 8_000,
        }
        world.tx(time, ("GridRegistry", "ConnectionRegistered", args))
        args = {
            "meterId": meter(name),
            "connectionId": connection(name),
            "operator": SILENT_OPERATOR if name == "silent" else OPERATOR,
            "deviceKey": address_of(KEYS[name]),
            "fromIsp": DAY.first_isp - 960,
        }
        world.tx(time, ("MeterRegistry", "MeterRegistered", args))
    world.tx(
        time,
        ("MeteringLedger", "BondPosted", {"operator": OPERATOR, "amount": 2_000_000}),
        locked(lock_id("MeteringLedger.bondLockId", OPERATOR), OPERATOR, "MeteringLedger", 2_000_000),
    )
    for name, agreement_id in AGREEMENT_OF.items():
        terms = agreement_terms(name)
        args = {
            "agreementId": agreement_id,
            "prosumer": terms["prosumer"],
            "aggregator": terms["aggregator"],
            "version": 1,
            "terms": terms,
        }
        bond_lock = lock_id("AgreementRegistry.bondLockId", agreement_id)
        world.tx(
            time,
            ("AgreementRegistry", "AgreementRegistered", args),
            locked(bond_lock, terms["prosumer"], "AgreementRegistry", 1_000_000),
        )


def _issue_tokens(world: World, time: int) -> None:
    world.tx(time, transfer(NOBODY, TREASURY, 10**12))
    world.tx(time, ("TokenDesk", "PurchaseLimitSet", {"limitPerAccount": 10**9}))
    stock = ("TokenDesk", "Stocked", {"from": TREASURY, "tokens": 10**10})
    world.tx(time, stock, transfer(TREASURY, ADDRESSES["TokenDesk"], 10**10))
    world.tx(time, transfer(NOBODY, DSO, 10**6, "LocalCurrency"))
    bought = {"buyer": DSO, "to": DSO, "tokens": 20_000_000, "payment": 2_000}
    world.tx(
        time,
        ("TokenDesk", "TokensBought", bought),
        transfer(DSO, ADDRESSES["TokenDesk"], 2_000, "LocalCurrency"),
        transfer(ADDRESSES["TokenDesk"], ADDRESSES["ClearingHouse"], 20_000_000),
        house("Deposited", account=DSO, origin=ADDRESSES["TokenDesk"], amount=20_000_000),
    )
    for who in (*AGGREGATORS.values(), OPERATOR, *(account(name) for name in PROSUMERS)):
        deposit(world, time, who, 5_000_000)


def deposit(world: World, time: int, who: str, amount: int) -> None:
    world.tx(
        time,
        transfer(TREASURY, ADDRESSES["ClearingHouse"], amount),
        house("Deposited", account=who, origin=TREASURY, amount=amount),
    )


BUDGET, OFFER, ESCROW, BOND = (f"FlexMarket.{kind}LockId" for kind in ("budget", "offer", "escrow", "bond"))
GROUP = "FlexDispatch.groupLockId"


def _sell(world: World) -> None:
    for commitment_id in COMMITMENTS:
        row = commitment_row(commitment_id)
        args = {
            "commitmentId": commitment_id,
            "kind": 1,
            "committer": row.committer,
            "scope": row.scope,
            "method": row.method,
            "firstIsp": row.first_isp,
            "ispCount": row.isp_count,
            "root": row.root,
            "leafCount": row.leaf_count,
            "madeAt": row.made_at,
            "dataHash": row.data_hash,
        }
        world.tx(START - 55_000, ("CommitmentRegistry", "Committed", args))
    args = {
        "requestId": 1,
        "congestionPointId": POINT,
        "dso": DSO,
        "terms": REQUEST_TERMS,
        "quantitiesWh": pack_quantities(sold(4_000)),
        "requestedWh": 16_000,
        "budget": 4_800_000,
    }
    world.tx(
        START - 50_000,
        locked(lock_id(BUDGET, 1), DSO, "FlexMarket", 4_800_000),
        ("FlexMarket", "RequestPublished", args),
    )
    offers = {1: (250_000, 2_500, 500_000), 2: (280_000, 1_000, 200_000)}
    for offer_id, (price, wh, bond) in offers.items():
        args = {
            "offerId": offer_id,
            "requestId": 1,
            "aggregator": AGGREGATORS[offer_id],
            "price": price,
            "baselineCommitmentId": offer_id,
            "quantitiesWh": pack_quantities(sold(wh)),
            "offeredWh": 4 * wh,
            "bond": bond,
        }
        world.tx(
            START - 45_000,
            locked(lock_id(OFFER, offer_id), AGGREGATORS[offer_id], "FlexMarket", bond),
            ("FlexMarket", "OfferPlaced", args),
        )
    selected = []
    orders = {1: (250_000, 2_000, 2_000_000, 400_000, 100_000), 2: (280_000, 1_000, 1_120_000, 200_000, 0)}
    for order_id, (price, wh, escrow, bond, returned) in orders.items():
        aggregator = AGGREGATORS[order_id]
        selected += [
            relocked(lock_id(BUDGET, 1), lock_id(ESCROW, order_id), "FlexMarket", escrow),
            relocked(lock_id(OFFER, order_id), lock_id(BOND, order_id), "FlexMarket", bond),
            released(lock_id(OFFER, order_id), aggregator, "FlexMarket", returned),
            ("FlexMarket", "OfferClosed", {"offerId": order_id, "status": 2, "bondReturned": returned}),
            (
                "FlexMarket",
                "FlexOrdered",
                {
                    "flexOrderId": order_id,
                    "requestId": 1,
                    "offerId": order_id,
                    "aggregator": aggregator,
                    "price": price,
                    "orderedWh": pack_quantities(sold(wh)),
                    "totalWh": 4 * wh,
                    "escrow": escrow,
                    "bond": bond,
                },
            ),
        ]
    closed = {"requestId": 1, "status": 2, "orderedWh": 12_000, "budgetReturned": 1_680_000}
    world.tx(
        START - 35_000,
        *selected,
        released(lock_id(BUDGET, 1), DSO, "FlexMarket", 1_680_000),
        ("FlexMarket", "RequestClosed", closed),
    )


def _dispatch(world: World) -> None:
    world.tx(
        START - 25_000,
        ordered("failing"),
        ordered("late"),
        locked(lock_id(GROUP, 1), AGGREGATORS[1], "FlexDispatch", 1_760_000),
    )
    world.tx(
        START - 25_000,
        ordered("silent"),
        locked(lock_id(GROUP, 2), AGGREGATORS[2], "FlexDispatch", 880_000),
    )
    listed = {"flexOrderId": 1, "standby": [on_standby("standby")]}
    world.tx(START - 24_000, ("FlexReassignment", "StandbyListed", listed))


def _intervene(world: World) -> None:
    """The reading of position 72 shows the shortfall; then Orange and direct control."""
    time = START + 73 * 900 + 60
    batch = intraday_batch()
    args = {
        "operator": OPERATOR,
        "isp": INTRADAY_ISP,
        "root": batch.root,
        "leafCount": batch.leaf_count,
        "dataHash": batch.data_hash,
    }
    world.tx(time, ("MeteringLedger", "IntradayAnchored", args))
    reassigned = {
        "failedOrderId": 1,
        "replacementOrderId": 4,
        "isp": DAY.first_isp + 72,
        "shortfallWh": 600,
        "takenWh": 500,
        "totalTakenWh": pack_quantities(curve(p75=500)),
    }
    # The failing order frees down(500 Wh * 200,000 / 1000) = 100,000, the replacement may earn 110,000.
    world.tx(
        time,
        ordered("standby"),
        locked(lock_id(GROUP, 1), AGGREGATORS[1], "FlexDispatch", 10_000),
        ("FlexReassignment", "Reassigned", reassigned),
    )
    orange = {
        "congestionPointId": POINT,
        "regime": 2,
        "fromIsp": DAY.first_isp + 73,
        "untilIsp": DAY.end_isp,
        "requestId": 1,
        "reason": "offers fell short",
    }
    world.tx(time, ("GridRegime", "RegimeChanged", orange))
    opened = {
        "groupId": DIRECT_GROUP,
        "payer": DSO,
        "congestionPointId": POINT,
        "baselineCommitmentId": 3,
        "rate": 250_000,
    }
    used = {
        "congestionPointId": POINT,
        "groupId": DIRECT_GROUP,
        "dso": DSO,
        "connections": 1,
        "reason": "transformer at 120%",
    }
    world.tx(
        time + 60,
        ("FlexDispatch", "DirectGroupOpened", opened),
        ordered("direct"),
        locked(lock_id(GROUP, DIRECT_GROUP), DSO, "FlexDispatch", 250_000),
        ("GridRegime", "DirectControlUsed", used),
    )


def anchored(version: int):
    batch = day_batch(version, meter_days(version), MADE_AT[version])
    return (
        "MeteringLedger",
        "DayAnchored",
        {
            "operator": OPERATOR,
            "firstIsp": DAY.first_isp,
            "version": version,
            "ispCount": DAY.isp_count,
            "root": batch.root,
            "leafCount": batch.leaf_count,
            "dataHash": batch.data_hash,
        },
    )


def _settle(world: World) -> None:
    world.tx(END + 100, anchored(1))
    time = END + 5_000
    group, pay = lock_id(GROUP, 1), "FlexSettlement"
    world.tx(
        time,
        relocked(lock_id("AgreementRegistry.bondLockId", 1), group, pay, 280_000),
        settled("failing"),
    )
    world.tx(time, released(group, account("late"), pay, 600_000), settled("late"))
    world.tx(time, released(group, account("standby"), pay, 710_000), settled("standby"))
    direct_group = lock_id(GROUP, DIRECT_GROUP)
    world.tx(time, released(direct_group, account("direct"), pay, 250_000), settled("direct"))
    finalised = ("FlexDispatch", "GroupFinalised", {"groupId": DIRECT_GROUP, "payerReturned": 0})
    world.tx(time + 1, finalised)
    # Locked 1,770,000 and 280,000 from the bond, paid out 1,310,000.
    world.tx(time + 2, *_finalise(1, 740_000, 5_100, 1_000, 1_275_000, 150_000))
    due = END + 2 * 86_400
    world.tx(
        due,
        relocked(lock_id("AgreementRegistry.bondLockId", 4), lock_id(GROUP, 2), pay, 1_000_000),
        settled("silent", version=0),
    )
    world.tx(due + 1, *_finalise(2, 1_880_000, 0, 4_000, 0, 0))


def _finalise(order_id: int, left: int, credited: int, missing: int, paid: int, penalty: int):
    escrow, bond, total = {1: (2_000_000, 400_000, 8_000), 2: (1_120_000, 200_000, 4_000)}[order_id]
    aggregator, pay = AGGREGATORS[order_id], "FlexSettlement"
    args = {
        "flexOrderId": order_id,
        "dso": DSO,
        "aggregator": aggregator,
        "orderedWh": total,
        "creditedWh": credited,
        "missingWh": missing,
        "paid": paid,
        "penalty": penalty,
        "escrowReturned": escrow - paid,
        "bondReturned": bond - penalty,
    }
    return (
        ("FlexMarket", "FlexOrderClosed", {"flexOrderId": order_id, "status": 3}),
        released(lock_id(GROUP, order_id), aggregator, "FlexDispatch", left),
        ("FlexDispatch", "GroupFinalised", {"groupId": order_id, "payerReturned": left}),
        released(lock_id(ESCROW, order_id), aggregator, pay, paid),
        released(lock_id(ESCROW, order_id), DSO, pay, escrow - paid),
        released(lock_id(BOND, order_id), DSO, pay, penalty),
        released(lock_id(BOND, order_id), aggregator, pay, bond - penalty),
        ("FlexSettlement", "FlexOrderFinalised", args),
    )


AGGREGATOR_1_HOLDS = 5_000_000 - 500_000 + 100_000 - 1_760_000 - 10_000 + 740_000 + 1_275_000 + 250_000


def _correct(world: World) -> None:
    """The aggregator has taken its money away when the late reading is worth 80,000 more to the prosumer."""
    aggregator = AGGREGATORS[1]
    withdrawn = {"account": aggregator, "to": aggregator, "amount": AGGREGATOR_1_HOLDS}
    world.tx(
        END + 3 * 86_400,
        house("Withdrawn", **withdrawn),
        transfer(ADDRESSES["ClearingHouse"], aggregator, AGGREGATOR_1_HOLDS),
    )
    world.tx(END + 4 * 86_400, anchored(2))
    late = account("late")
    owed = {"debtor": aggregator, "creditor": late, "amount": 80_000, "total": 80_000}
    corrected = {
        "prosumerOrderId": ORDER_OF["late"],
        "groupId": 1,
        "prosumer": late,
        "version": 2,
        "verdict": verdict(CORRECTED),
        "difference": 80_000,
    }
    flex_order = {
        "flexOrderId": 1,
        "creditedWh": 5_800,
        "missingWh": 0,
        "paid": 1_450_000,
        "penalty": 180_000,
        "difference": 145_000,
    }
    world.tx(
        END + 5 * 86_400,
        ("FlexSettlement", "Owed", owed),
        ("FlexSettlement", "ProsumerCorrected", corrected),
        moved(DSO, aggregator, 145_000),
        ("FlexSettlement", "FlexOrderCorrected", flex_order),
    )
    collected = {"debtor": aggregator, "creditor": late, "amount": 80_000, "left": 0}
    world.tx(
        END + 6 * 86_400,
        moved(aggregator, late, 80_000),
        ("FlexSettlement", "OwedCollected", collected),
    )


# -------------------------------------------------------------------------------- as the auditor sees it


def answer(query: Query) -> Any:
    """Settings of the contracts and names of their locks."""
    if (query.contract, query.function) in LOCKS:
        return lock_id(f"{query.contract}.{query.function}", query.args[0])
    if query in SETTINGS:
        return SETTINGS[query]
    # Of what they do not know, contracts say zero.
    structs = ("standingOf", "termsOf")
    numbers = ("Of", "owed", "netBought", "Active")
    single = query.function.endswith(numbers) and query.function not in structs
    return 0 if single else defaultdict(int)


def replay(events: list[Event], store_path: Path) -> tuple[Model, Checks]:
    """The replay alone, without store and getters."""
    model, checks = Model(), Checks()
    with open_store(store_path, create=False) as store:
        domain = metering_domain(CHAIN_ID, ADDRESSES["MeteringLedger"])
        archive = Archive(model, read_records(store), domain)
    run = Replay(checks, archive, lambda queries: [answer(query) for query in queries], ADDRESSES)
    run.run(events, handler_of)
    return model, checks


def contract_answers(events: list[Event], store_path: Path) -> dict[Query, Any]:
    """What the contracts of the untouched day answer."""
    model, _ = replay(events, store_path)
    answers = {e.query: e.expected for e in expectations(model, events[-1].timestamp)}
    answers[Query("ClearingHouse", "totalHeld")] = model.total_held
    answers[Query("EnergyToken", "totalSupply")] = model.token.supply
    return answers


def chain_record(events: list[Event], answers: dict[Query, Any]) -> ChainRecord:
    def get(queries):
        return [answers[query] if query in answers else answer(query) for query in queries]

    return ChainRecord(CHAIN_ID, ADDRESSES, events, get, events[-1].timestamp)
