"""Meters, metered days and the ledger that they are anchored in."""

from dataclasses import dataclass
from typing import NamedTuple

import brownie
from brownie.network.account import LocalAccount
from brownie.network.contract import ProjectContract
from brownie.network.transaction import TransactionReceipt
from coincurve import PrivateKey
from eth_hash.auto import keccak

from offchain.chain.leaves import meter_day_leaf, values_hash
from offchain.chain.merkle import MerkleTree
from offchain.chain.signatures import METER_DAY, READING, SigningDomain, address_of, metering_domain, sign
from offchain.domain.curves import pack_readings
from tests.utils import system

ISPS = 96
CHALLENGE_WINDOW = 3_600
"""Challenge window of the ledger [s]."""
MINIMUM_BOND = 1_000_000
"""Smallest bond of a meter operator [uToken]."""
CHALLENGE_PENALTY = 400_001
"""Most that a challenge takes from a bond [uToken]; the smallest bond pays two and a half times."""
CHALLENGE_REWARD = 160_000
"""What of it the challenger gets: four tenths, down."""
FORFEIT_TO = "0x" + "f0" * 20
"""Account that gets the rest."""
DATA_HASH = keccak(b"data set")
CONNECTION_LIMIT_W = 10_000


class MeterDay(NamedTuple):
    """``IMeteringLedger.MeterDay``."""

    meter_id: bytes
    first_isp: int
    isp_count: int
    values: bytes
    signature: bytes

    @property
    def leaf(self) -> bytes:
        return meter_day_leaf(self.meter_id, self.first_isp, self.isp_count, values_hash(self.values))


class Reading(NamedTuple):
    """``IMeteringLedger.Reading``."""

    meter_id: bytes
    isp: int
    import_wh: int
    export_wh: int
    signature: bytes


@dataclass(frozen=True)
class Device:
    """A meter and the key that it signs with."""

    meter_id: bytes
    key: PrivateKey

    @classmethod
    def named(cls, name: str) -> "Device":
        return cls(system.id_of(f"meter {name}"), PrivateKey(keccak(f"device {name}".encode())))

    @property
    def address(self) -> str:
        return address_of(self.key)

    def day(self, domain: SigningDomain, first_isp: int, values: bytes, isp_count: int = ISPS) -> MeterDay:
        """A day that this device signed."""
        message = {
            "meterId": self.meter_id,
            "firstIsp": first_isp,
            "ispCount": isp_count,
            "valuesHash": values_hash(values),
        }
        signature = sign(METER_DAY.digest(domain, message), self.key)
        return MeterDay(self.meter_id, first_isp, isp_count, values, signature)

    def reading(self, domain: SigningDomain, isp: int, import_wh: int, export_wh: int) -> Reading:
        """A reading that this device signed."""
        message = {"meterId": self.meter_id, "isp": isp, "importWh": import_wh, "exportWh": export_wh}
        signature = sign(READING.digest(domain, message), self.key)
        return Reading(self.meter_id, isp, import_wh, export_wh, signature)


def readings_of(seed: int = 0, isp_count: int = ISPS) -> list[tuple[int, int] | None]:
    """Readings of one day (import Wh, export Wh), all different, one missing at position 7."""
    readings: list[tuple[int, int] | None] = [(seed + 100 + p, seed + 2 * p) for p in range(isp_count)]
    readings[7] = None
    return readings


@dataclass(frozen=True)
class Site:
    """A ledger, a bonded operator and its meters; one market day is over."""

    ledger: ProjectContract
    domain: SigningDomain
    device: Device
    other_device: Device
    foreign_device: Device
    """Meter of another operator."""
    first_isp: int
    """Market day that has just ended."""

    def day(self, seed: int = 0, device: Device | None = None) -> MeterDay:
        return (device or self.device).day(self.domain, self.first_isp, pack_readings(readings_of(seed)))

    def reading(self, position: int, import_wh: int, export_wh: int) -> Reading:
        return self.device.reading(self.domain, self.first_isp + position, import_wh, export_wh)

    def anchor(self, days: list[MeterDay], operator: LocalAccount, first_isp: int | None = None) -> MerkleTree:
        """Anchors days as one batch and gives their tree."""
        tree = MerkleTree([day.leaf for day in days])
        first_isp = self.first_isp if first_isp is None else first_isp
        self.ledger.anchorDay(first_isp, ISPS, tree.root, len(days), DATA_HASH, {"from": operator})
        return tree

    def window_end(self, operator: LocalAccount) -> int:
        """First second at which the latest batch cannot be challenged any more."""
        return self.ledger.batch(operator, self.first_isp)["anchoredAt"] + CHALLENGE_WINDOW


def deploy_ledger(admin: LocalAccount, authority, participants, meters, house) -> ProjectContract:
    return system.deploy(
        admin,
        "MeteringLedger",
        authority,
        participants,
        meters,
        house,
        CHALLENGE_WINDOW,
        MINIMUM_BOND,
        CHALLENGE_PENALTY,
        FORFEIT_TO,
    )


def deploy_commitments(admin: LocalAccount, authority, participants) -> ProjectContract:
    return system.deploy(admin, "CommitmentRegistry", authority, participants)


def open_site(core: system.Core, actors: system.Actors) -> Site:
    """Ledger as module of the clearing house, three connections with meters, two operators, one bonded."""
    ledger = deploy_ledger(actors.admin, core.authority, core.participants, core.meters, core.house)
    system.govern(core.authority, ledger, actors)
    core.house.setModule(ledger, True, {"from": actors.admin})
    point = system.id_of("congestion point of the site")
    core.grid.declareCongestionPoint(point, 400_000, {"from": actors.dso})
    first_isp = system.current_isp() - ISPS
    names = ("device", "other_device", "foreign_device")
    devices = [Device.named(name) for name in names]
    operators = (actors.meter_operator, actors.meter_operator, actors.other_meter_operator)
    for name, device, operator in zip(names, devices, operators, strict=True):
        connection = system.id_of(f"connection of {name}")
        core.grid.registerConnection(
            connection, point, actors.prosumer, CONNECTION_LIMIT_W, CONNECTION_LIMIT_W, {"from": actors.dso}
        )
        core.meters.registerMeter(device.meter_id, connection, device.address, first_isp - ISPS, {"from": operator})
    for operator in (actors.meter_operator, actors.other_meter_operator):
        system.fund(core, actors, operator, 2 * MINIMUM_BOND)
    ledger.postBond(MINIMUM_BOND, {"from": actors.meter_operator})
    return Site(ledger, metering_domain(brownie.chain.id, ledger.address), *devices, first_isp)


def timestamp_of(transaction: TransactionReceipt) -> int:
    return brownie.chain[transaction.block_number].timestamp
