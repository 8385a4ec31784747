"""A site in one process while everything around it fails, one after the other: at the end all is on chain once.

RPC: hangs, answers for another chain, dies, comes back → the next node, then back
RPC that lies: knows no receipt, invents receipts, shows blocks of another branch → nothing lost, nothing doubled
disk full → readings wait, nothing is lost; machine's clock jumps → the site's time goes on
a hostile device: wrong signature, replayed, future, impossible, a flood → refused, counted, all others as before
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256

from offchain.chain import failover
from offchain.chain.anvil import Anvil
from offchain.chain.signatures import metering_domain
from offchain.domain.isp import isp_of
from oracles.config import load_site
from oracles.normalise import Rejection
from oracles.signer import GatewayKeys
from oracles.site import Site
from oracles.sources.port import IntervalEnergy, SignedEnergy
from tests.oracles.misfortunes import JUMPS_S, LIES, FastSteadyClock, Proxy, fill_disk
from tests.oracles.siteworld import (
    AFTER,
    DAY,
    METER_IDS,
    FastClock,
    PatientSender,
    count_on_chain,
    deploy,
    energy_wh,
    finished,
    load,
    write_site,
)

SECONDS = 28
SPEED = 86_400 / SECONDS


async def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.05)


def alarmed(site: Site, kind: str) -> bool:
    return kind in {alarm.kind for alarm in site.alarms}


async def misfortunes(site: Site, clock: FastSteadyClock, proxies: list[Proxy]) -> None:
    """What happens to the site while its day passes."""
    first, second = proxies
    fill_disk(site, True)
    await until(lambda: alarmed(site, "store"))
    fill_disk(site, False)
    for mode in LIES:
        first.mode = mode
        await asyncio.sleep(1.5)
        first.mode = "good"
        await asyncio.sleep(0.5)
    for mode in ("hang", "another chain", "dead"):
        await until(lambda: site.chain.endpoints[first.url] and not alarmed(site, "chain node"))
        first.mode = mode
        asked = second.asked.total()
        await until(lambda before=asked: second.asked.total() > before and alarmed(site, "chain node"))
        first.mode = "good"
    for jump_s in JUMPS_S:
        clock.jump_s = jump_s
        await asyncio.sleep(0.5)
        assert clock.jumped
        clock.jump_s = 0
        await asyncio.sleep(0.2)
    first.mode = second.mode = "dead"
    await asyncio.sleep(2)
    first.mode = second.mode = "good"


def test_site_puts_every_reading_on_chain_once_when_everything_fails_around_it(tmp_path, monkeypatch):
    monkeypatch.setattr(failover, "RECHECK_S", 0.2)
    with Anvil(timestamp=AFTER) as node:
        suite = deploy(node, tmp_path)
        suite.chain.request("evm_setIntervalMining", 1)
        proxies = [Proxy(node.url), Proxy(node.url)]
        write_site(tmp_path, [proxy.url for proxy in proxies])

        async def main() -> None:
            config, clock = load(tmp_path), FastSteadyClock(SPEED)
            site = Site(config, clock=clock, sources={"meters": PatientSender(clock, tmp_path / "progress")})
            stop = asyncio.Event()
            running = asyncio.create_task(site.run(stop))
            await asyncio.sleep(1)
            await misfortunes(site, clock, proxies)
            for _ in range(300):
                if finished(config):
                    break
                await asyncio.sleep(0.2)
            stop.set()
            await running

        try:
            asyncio.run(main())
        finally:
            for proxy in proxies:
                proxy.stop()
        assert count_on_chain(load(tmp_path), suite) == DAY.isp_count * len(METER_IDS)


class Forger:
    """A device of the site that sends what it should not: of another key, again, too early, too much, too often."""

    def __init__(self, domain):
        self._forged = GatewayKeys(domain, {METER_IDS[0]: sha256(b"forger").digest()})

    def values(self, now_isp: int) -> list:
        """A few of each kind, and a flood; all of them of meters 0 and 1 and of a stranger."""
        own, other = METER_IDS[:2]
        past = now_isp - 2
        at = past * 900 + 900
        message = (own, past, 5, 5)
        again = IntervalEnergy(own, past, *energy_wh(0, past), at)
        return [
            SignedEnergy(*message, at, self._forged.sign_reading(*message)),
            SignedEnergy(other, past, 5, 5, at, bytes(65)),
            again,
            IntervalEnergy(own, now_isp + 40, 1, 1, (now_isp + 41) * 900),
            IntervalEnergy(other, past, 10**9, 0, at),
            IntervalEnergy(other, past, -1, 0, at),
            IntervalEnergy(sha256(b"stranger").digest(), past, 1, 1, at),
            *[again] * 3_000,
        ]


def test_site_puts_every_reading_on_chain_once_when_a_device_is_hostile(tmp_path):
    with Anvil(timestamp=AFTER) as node:
        suite = deploy(node, tmp_path)
        suite.chain.request("evm_setIntervalMining", 1)
        path = write_site(tmp_path, [node.url], extra="[limits]\nvalues_per_minute = 60\nburst = 100")
        counted: Counter[str] = Counter()

        async def main() -> None:
            config, clock = load_site(path), FastClock(time.time(), 86_400 / 10)
            site = Site(config, clock=clock, sources={"meters": PatientSender(clock, tmp_path / "progress")})
            forger = Forger(metering_domain(31337, suite.address("MeteringLedger")))
            stop = asyncio.Event()
            running = asyncio.create_task(site.run(stop))
            while not finished(config):
                if DAY.first_isp + 4 < (isp := isp_of(clock.now())) < DAY.end_isp:
                    await site._store_values("hostile", forger.values(isp), True)
                await asyncio.sleep(0.5)
            counted.update({reason: n for (_, reason), n in site.pipeline.rejections.items()})
            assert not set(METER_IDS[2:]) & {meter_id for meter_id, _ in site.pipeline.rejections}
            stop.set()
            await running

        asyncio.run(asyncio.wait_for(main(), 90))
        reasons = (Rejection.BAD_SIGNATURE, Rejection.DUPLICATE, Rejection.FUTURE, Rejection.IMPLAUSIBLE)
        assert all(counted[reason] for reason in (*reasons, Rejection.UNKNOWN_METER)), counted
        assert counted[Rejection.FLOOD] > 5_000, counted
        assert count_on_chain(load(tmp_path), suite) == DAY.isp_count * len(METER_IDS)
