"""Is a site ready? Every connection and every permission is tried, and what is wrong is said with what to do."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from offchain.chain.client import Chain
from offchain.chain.contracts import Suite
from offchain.chain.record import DeploymentRecord
from offchain.chain.signers import sign_preimage
from offchain.domain.errors import ChainError, FlexError, TransientError
from offchain.domain.isp import SECONDS_PER_ISP, isp_start
from offchain.store import open_store
from oracles.clock import SystemClock, unix
from oracles.config import CHAIN_ID_FIELD, ConfigError, SiteConfig, load_site, meters_of
from oracles.keys import SiteKeys, open_operator, too_open, try_signer
from oracles.registration import METER_OPERATOR, look_up, objections
from oracles.wiring import open_devices

LOWEST_BALANCE_TRANSACTIONS = 100
"""A warning when the operator cannot pay for so many anchorings."""
ANCHOR_GAS = 120_000
LARGEST_CLOCK_ERROR_S = 60
CLOCK_TIMEOUT_S = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check; ``hint`` says what to do when it is not ok."""

    ok: bool
    subject: str
    text: str
    hint: str = ""


def check_site(path: Path, progress: Callable[[str], None] = lambda _: None) -> list[Finding]:
    """All checks of a site file, in the order in which a site is set up."""
    try:
        site = load_site(path)
    except ConfigError as error:
        return [Finding(False, "configuration", problem) for problem in error.problems]
    findings = [Finding(True, "configuration", f"{path}: {len(site.meter)} meters, {len(site.device)} devices")]
    faults: set[tuple[str, str]] = set()
    for name, check in (("keys", _keys), ("store", _store), ("chain", _chain), ("devices", _devices)):
        progress(name)
        for finding in _tried(name, check, site):
            fault = finding.text, finding.hint
            if finding.ok or fault not in faults:  # a key that does not open keeps more than one check from working
                findings.append(finding)
            if not finding.ok:
                faults.add(fault)
    return findings


def _tried(subject: str, check: Callable[..., list[Finding]], *arguments: object) -> list[Finding]:
    """Findings of one check; what ends it is a finding too, and the checks after it go on."""
    try:
        return check(*arguments)
    except FlexError as error:
        return [Finding(False, subject, error.message, error.hint)]


def _keys(site: SiteConfig) -> list[Finding]:
    findings = _tried("operator key", _operator_key, site)
    findings += _tried("device keys", _device_keys, site)
    files = [key for key in (site.operator.key, site.gateway, *(m.key for m in site.meter)) if key is not None]
    paths = [path for key in files for path in (key.keystore, key.password.file) if path is not None]
    return findings + [
        Finding(False, "keys", f"{path} can be read by others", f"chmod 600 {path}") for path in too_open(paths)
    ]


def _operator_key(site: SiteConfig) -> list[Finding]:
    operator = open_operator(site.operator)
    sign_preimage(operator, b"gridpact oracle check")
    return [Finding(True, "operator key", operator.address)]


def _device_keys(site: SiteConfig) -> list[Finding]:
    return [Finding(True, "device keys", f"of {len(SiteKeys(site).addresses)} meters"), *_remote_keys(site)]


def _remote_keys(site: SiteConfig) -> list[Finding]:
    """Whether the signer of each meter that has one can sign for it."""
    findings = []
    for meter in site.meter:
        if meter.signer is not None:
            short = meter.meter_id.hex()[:12]
            try:
                try_signer(meter.signer)
            except FlexError as error:
                findings.append(Finding(False, "device keys", f"meter {short}: {error.message}", error.hint))
    return findings


def _store(site: SiteConfig) -> list[Finding]:
    with open_store(site.store) as store:
        with store.write():
            pass
        return [Finding(True, "store", f"{store.name} can be written")]


def _chain(site: SiteConfig) -> list[Finding]:
    config, findings = site.chain, []
    record = DeploymentRecord.read(config.deployment)
    record.require_chain(config.chain_id, CHAIN_ID_FIELD)
    suite = None
    for url in config.urls():
        try:
            chain = Chain(url, expected_chain_id=config.chain_id, timeout=config.timeout_s)
            found = Suite.open(chain, record)
        except FlexError as error:
            findings.append(Finding(False, "chain", error.message, error.hint))
            continue
        findings.append(Finding(True, "chain", f"{chain.url}: chain {chain.chain_id}, block {chain.block_number()}"))
        suite = suite or found
    if suite is not None:
        findings += _clock(suite)
        findings += _tried("operator", _operator, site, suite)
        findings += _tried("meters", _meters, site, suite)
    return findings


def _clock(suite: Suite) -> list[Finding]:
    behind_s = unix(SystemClock()) - suite.chain.block()["timestamp"]
    ok = behind_s > -LARGEST_CLOCK_ERROR_S
    text = f"the latest block is {behind_s} s old by the clock of this machine"
    return [Finding(ok, "clock", text, "" if ok else "set this machine's clock (NTP)")]


def require_clock(site: SiteConfig) -> None:
    """Refuse to begin with a clock that is behind the chain; when no node answers, nothing can be said.

    Values of devices would be refused as from the future, and who was told that they arrived does not send them again.

    Raises
    ------
    TransientError
        It is behind.
    """
    config = site.chain
    try:
        timeout_s = min(config.timeout_s, CLOCK_TIMEOUT_S)
        chain = Chain(config.urls(), expected_chain_id=config.chain_id, timeout=timeout_s)
        behind_s = chain.block()["timestamp"] - unix(SystemClock())
    except ChainError:
        return
    if behind_s > LARGEST_CLOCK_ERROR_S:
        raise TransientError(
            f"the clock of this machine is {behind_s} s behind the latest block",
            hint="set it (NTP); nothing is collected until it is right",
        )


def _operator(site: SiteConfig, suite: Suite) -> list[Finding]:
    address = open_operator(site.operator).address
    has_role, bond, minimum = suite.call_all(
        [
            ("ParticipantRegistry", "hasRole", (address, METER_OPERATOR)),
            ("MeteringLedger", "bondOf", (address,)),
            ("MeteringLedger", "minimumBond", ()),
        ]
    )
    register = (
        "a registrar registers it (ParticipantRegistry.registerOrganisation, role 5) or reinstates it (setStatus)"
    )
    fees = suite.chain.fees()
    needed = LOWEST_BALANCE_TRANSACTIONS * ANCHOR_GAS * fees.maximum
    balance = suite.chain.balance(address)
    return [
        Finding(
            has_role,
            "role",
            f"{address} {'is' if has_role else 'is not'} a meter operator in good standing",
            "" if has_role else register,
        ),
        Finding(
            bond >= minimum,
            "bond",
            f"{bond} of {minimum} uToken",
            "" if bond >= minimum else "MeteringLedger.postBond; needs a deposit in the clearing house",
        ),
        Finding(
            balance >= needed,
            "gas",
            f"{balance} wei, {LOWEST_BALANCE_TRANSACTIONS} anchorings may cost {needed}",
            "" if balance >= needed else f"send at least {needed - balance} wei to {address}",
        ),
    ]


def _meters(site: SiteConfig, suite: Suite) -> list[Finding]:
    operator = open_operator(site.operator).address
    addresses = SiteKeys(site).addresses
    now_isp = unix(SystemClock()) // SECONDS_PER_ISP
    in_service = {meter.meter_id for meter in site.meter if meter.point().in_service(now_isp)}
    findings = []
    for meter_id, seen in look_up(suite, operator, addresses).items():
        subject = f"meter {meter_id.hex()[:12]}"
        # What the operator lacks is said once, beside role and bond.
        found = objections(replace(seen, operator_in_order=True), operator, addresses[meter_id])
        findings += [Finding(False, subject, text, hint) for _, text, hint in found]
        if not found and 0 < seen.end_isp <= now_isp and meter_id in in_service:
            text = f"out of service on chain since {isp_start(seen.end_isp).isoformat()}"
            findings.append(Finding(False, subject, text, "give its [[meter]] this moment as in_service_until"))
        elif not found:
            findings.append(Finding(True, subject, f"registered with key {seen.device_key}"))
    return findings


def _devices(site: SiteConfig) -> list[Finding]:
    findings = []
    for number, device in enumerate(site.device, start=1):
        alone = site.model_copy(update={"device": (device,)})
        findings += _tried(f"device {number}:{device.kind}", asyncio.run, _probe_all(alone, number))
    if not any(device.kind == "ngsi" for device in site.device):  # its mapping names them
        read = set().union(*(meters_of(device) for device in site.device))
        findings += [
            Finding(False, f"meter {meter.meter_id.hex()[:12]}", "no device reads it", "add its [[device]]")
            for meter in site.meter
            if meter.meter_id not in read
        ]
    return findings


async def _probe_all(site: SiteConfig, number: int) -> list[Finding]:
    """Ask one device, and all meters behind it, who they are."""
    findings = []
    async with open_devices(site, SystemClock()) as devices:
        named = {f"meter {meter_id.hex()[:12]}": source for meter_id, source in devices.meters.items()}
        named |= {f"device {number}:{name.split(':')[1]}": source for name, source in devices.events.items()}
        for name, source in named.items():
            try:
                said = await source.probe()
            except FlexError as error:
                findings.append(Finding(False, name, error.message, error.hint))
            else:
                findings.append(Finding(True, name, f"answers {said!r}" if said else "answers"))
    return findings
