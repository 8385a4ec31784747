"""A whole site for tests: a chain with the suite and a bonded meter operator, key files, a site file, a fast clock."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path

from eth_account import Account
from eth_hash.auto import keccak

from offchain.audit import audit
from offchain.audit.source import Evidence, open_evidence
from offchain.chain.anvil import MNEMONIC, Anvil
from offchain.chain.client import Chain
from offchain.chain.contracts import Suite
from offchain.chain.deployment import Deployment, Web3Executor
from offchain.chain.indexer import read_events
from offchain.chain.signatures import APPROVAL, ENROLMENT, participants_domain, sign, signing_key
from offchain.chain.signers import mnemonic_signers
from offchain.domain.curves import unpack_readings
from offchain.domain.isp import SECONDS_PER_ISP, MarketDay
from offchain.flexibility.metered_days import proven_days
from offchain.store import open_store
from offchain.store.batches import BatchKind, BatchStatus, meter_days_of, recent_batches
from oracles.config import SiteConfig, load_site
from oracles.sources.port import IntervalEnergy

DAY = MarketDay.of(date(2016, 5, 20))
BOND = 100_000_000
METER_OPERATOR = 5
PASSWORD = "correct horse battery staple"
METER_IDS = [sha256(b"site meter %d" % number).digest() for number in range(6)]
AFTER = (DAY.end_isp + 200) * SECONDS_PER_ISP


def deploy(node: Anvil, folder: Path) -> Suite:
    """Suite with one meter operator (second account) that has posted its bond; writes ``deployment.json``."""
    admin, operator, registrar = mnemonic_signers(MNEMONIC, 3)
    chain = Chain(node.url)
    record = Deployment(Web3Executor(chain, admin), {"minimum_bond": BOND}, path=folder / "deployment.json").run()
    suite = Suite.open(chain, record)
    payment = suite.call("TokenDesk", "quote", (BOND,))[0]
    suite.send(admin, "ParticipantRegistry", "registerRegistrar", (registrar.address, keccak(b"registrar")))
    organisation = (operator.address, METER_OPERATOR, keccak(b"operator"))
    suite.send(registrar, "ParticipantRegistry", "registerOrganisation", organisation)
    suite.send(admin, "LocalCurrency", "mint", (operator.address, payment))
    suite.send(operator, "LocalCurrency", "approve", (suite.address("TokenDesk"), payment))
    suite.send(operator, "TokenDesk", "buyAndDeposit", (BOND, operator.address))
    suite.send(operator, "MeteringLedger", "postBond", (BOND,))
    return suite


def write_key(path: Path, secret: bytes) -> None:
    """Key file as a wallet writes it; one round of its key derivation, to be quick."""
    path.write_text(json.dumps(Account.encrypt(secret, PASSWORD, kdf="pbkdf2", iterations=1)))


def write_site(
    folder: Path, endpoints: list[str], *, devices: str = "", extra: str = "", confirmations: int = 2
) -> Path:
    """Site file with key files beside it."""
    write_key(folder / "operator.json", bytes(mnemonic_signers(MNEMONIC, 2)[1].key))
    write_key(folder / "gateway.json", sha256(b"gateway").digest())
    (folder / "password").write_text(PASSWORD + "\n")
    meters = "\n".join(
        f'[[meter]]\nmeter_id = "{meter_id.hex()}"\nmax_import_w = 20_000\nmax_export_w = 20_000'
        for meter_id in METER_IDS
    )
    path = folder / "site.toml"
    path.write_text(f"""\
name = "test"
time_zone = "Europe/Berlin"
store = "site.db"

[chain]
endpoints = {json.dumps(endpoints)}
chain_id = 31337
deployment = "deployment.json"
confirmations = {confirmations}
timeout_s = 0.5

[operator.key]
keystore = "operator.json"
password = {{ file = "password" }}

[gateway]
keystore = "gateway.json"
password = {{ file = "password" }}

[batching]
intraday = true
isp_grace_s = 900
day_grace_s = 0
every_s = 0.1

[publishing]
every_s = 0.1
bump_after_s = 5

[operation]
port = 0
{extra}
{meters}

{devices}
""")
    return path


def energy_wh(number: int, isp: int) -> tuple[int, int]:
    return (number * 31 + isp * 17) % 1_000, (number + isp) % 7


class FastClock:
    """Time that runs so many times as fast as the machine's, the same in every process that is given the same start."""

    def __init__(self, started: float, speed: float, start: int = DAY.first_isp * SECONDS_PER_ISP):
        self.started, self.speed, self.start = started, speed, start

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.start + (time.time() - self.started) * self.speed, UTC)

    async def sleep_until(self, moment: datetime) -> None:
        while (left := (moment - self.now()).total_seconds()) > 0:
            await asyncio.sleep(min(left / self.speed, 0.5))


class PatientSender:
    """Meters that state the energy of each ISP when it is over, and again until they know that it is on disk.

    What is known is kept in a file, as a meter or a broker with a persistent session keeps it.
    """

    def __init__(self, clock: FastClock, progress: Path):
        self._clock, self._progress = clock, progress
        self._sent: list[int] = []
        self._sending = DAY.first_isp

    async def values(self) -> AsyncIterator[IntervalEnergy]:
        isp = int(self._progress.read_text()) if self._progress.exists() else DAY.first_isp
        while isp < DAY.end_isp:
            self._sending = isp
            await self._clock.sleep_until(datetime.fromtimestamp((isp + 1) * SECONDS_PER_ISP, UTC))
            for number, meter_id in enumerate(METER_IDS):
                self._sent.append(isp)
                yield IntervalEnergy(meter_id, isp, *energy_wh(number, isp), (isp + 1) * SECONDS_PER_ISP)
            isp += 1
        self._sending = isp
        await asyncio.Event().wait()

    def taken(self, count: int) -> None:
        del self._sent[:count]
        known = self._sent[0] if self._sent else self._sending
        part = self._progress.with_suffix(".part")
        part.write_text(str(known))
        part.replace(self._progress)  # a kill leaves the old word or the new one

    async def probe(self) -> str:
        return "here"


def finished(site: SiteConfig) -> bool:
    """Whether the whole day is on chain, as the store knows it."""
    with open_store(site.store) as store, store.read() as connection:
        batches = recent_batches(connection, _operator(), DAY.first_isp)
        days = [b for b in batches if (b.kind, b.first_isp) == (BatchKind.DAY, DAY.first_isp)]
        if not days or any(batch.status is not BatchStatus.CONFIRMED for batch in batches):
            return False
        return all(b"\xff" * 8 not in day.values for day in meter_days_of(connection, days[-1].id))


def _operator() -> str:
    return mnemonic_signers(MNEMONIC, 2)[1].address


def count_on_chain(site: SiteConfig, suite: Suite) -> int:
    """Count the readings that the chain has, each by its proof; every one must be there exactly once."""
    events = read_events(suite.chain, suite)
    # On a slow machine the fast clock comes to the end of the next day too.
    days = [e.args for e in events if e.name == "DayAnchored" and e.args["firstIsp"] == DAY.first_isp]
    isps = [e.args for e in events if e.name == "IntradayAnchored"]
    assert [args["version"] for args in days] == list(range(1, len(days) + 1))
    assert len({args["root"] for args in days}) == len(days)  # nothing was anchored twice
    assert len({args["isp"] for args in isps}) == len(isps)
    assert {args["isp"] for args in isps} <= set(DAY.isps)
    last = suite.call("MeteringLedger", "batch", (_operator(), DAY.first_isp))
    assert (last["root"], last["version"]) == (days[-1]["root"], len(days))
    counted = 0
    with open_store(site.store) as store:
        store.verify()
        with store.read() as connection:
            (batch,) = [b for b in recent_batches(connection, _operator(), 0) if b.root == last["root"]]
        assert batch.data_hash == days[-1]["dataHash"]
        for number, meter_id in enumerate(METER_IDS):
            day, proof = proven_days(store, batch.id)[meter_id]
            values = unpack_readings(day.values)
            assert values == [energy_wh(number, isp) for isp in DAY.isps]
            assert proof
            counted += sum(value is not None for value in values)
    return counted


def audited(site: SiteConfig, suite: Suite) -> dict[str, int]:
    """What the audit of chain and store has checked; it must find nothing wrong."""
    evidence = Evidence(Path(site.store), site.chain.deployment, rpc=suite.chain.url)
    with open_evidence(evidence) as (chain, records):
        report = audit(chain, records)
    assert report.ok, report.mismatches[:3]
    return report.checked


def load(folder: Path) -> SiteConfig:
    return load_site(folder / "site.toml")


def enrol(suite: Suite, keys: dict[bytes, str], from_isp: int) -> list[bytes]:
    """Register a meter with its key for each of ``keys``, at connections of a prosumer below one congestion point.

    Accounts 3 and 4 of the chain are the DSO and the prosumer. Returns the connections.
    """
    operator, registrar, dso, prosumer = mnemonic_signers(MNEMONIC, 4, first=1)
    domain = participants_domain(suite.chain.chain_id, suite.address("ParticipantRegistry"))
    suite.send(registrar, "ParticipantRegistry", "registerOrganisation", (dso.address, 1, keccak(b"dso")))
    message = {
        "account": prosumer.address,
        "identityCommitment": keccak(b"prosumer"),
        "nonce": 0,
        "deadline": 2**40,
    }
    signatures = [
        sign(struct.digest(domain, message), signing_key(bytes(account.key)))
        for struct, account in ((APPROVAL, registrar), (ENROLMENT, prosumer))
    ]
    arguments = (prosumer.address, message["identityCommitment"], 2**40, registrar.address, *signatures)
    suite.send(operator, "ParticipantRegistry", "registerProsumer", arguments)
    point = keccak(b"congestion point")
    suite.send(dso, "GridRegistry", "declareCongestionPoint", (point, 400_000))
    connections = []
    for meter_id, key in keys.items():
        connections.append(keccak(b"connection" + meter_id))
        suite.send(dso, "GridRegistry", "registerConnection", (connections[-1], point, prosumer.address, 5_000, 5_000))
        suite.send(operator, "MeterRegistry", "registerMeter", (meter_id, connections[-1], key, from_isp))
    return connections
