"""A site in one process while everything around it fails, one after the other: at the end all is on chain once.

RPC: hangs, answers for another chain, dies, comes back → the next node, then back
RPC that lies: knows no receipt, invents receipts, shows blocks of another branch → nothing lost, nothing doubled
disk full → readings wait, nothing is lost; machine's clock jumps → the site's time goes on
a hostile device: wrong signature, replayed, future, impossible, a flood → refused, counted, all others as before
"""

import asyncio
import json
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sqlalchemy import event

from offchain.chain import failover
from offchain.chain.anvil import Anvil
from offchain.chain.signatures import metering_domain
from offchain.domain.isp import isp_of
from oracles.clock import SteadyClock
from oracles.config import load_site
from oracles.normalise import Rejection
from oracles.signer import GatewayKeys
from oracles.site import Site
from oracles.sources.port import IntervalEnergy, SignedEnergy
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


def lie(mode: str, asked: dict, answer: dict) -> dict:
    """What a lying node says instead of ``answer``."""
    method = asked["method"]
    if mode == "another chain" and method == "eth_chainId":
        answer["result"] = "0x1"
    if mode == "forgets" and method == "eth_getTransactionReceipt":
        answer["result"] = None
    if mode == "invents" and method == "eth_getTransactionReceipt" and answer["result"] is None:
        answer["result"] = {
            "transactionHash": asked["params"][0],
            "blockNumber": "0x1",
            "blockHash": "0x" + "ee" * 32,
            "status": "0x1",
        }
    if mode == "another branch" and method == "eth_getBlockByNumber" and answer["result"] is not None:
        answer["result"]["hash"] = "0x" + "ee" * 32
    return answer


def lied(mode: str, asked: list | dict, answer: list | dict) -> bytes:
    """A whole answer, of one request or of many."""
    if isinstance(asked, dict):
        return json.dumps(lie(mode, asked, answer)).encode()
    by_id = {request["id"]: request for request in asked}
    return json.dumps([lie(mode, by_id[part["id"]], part) for part in answer]).encode()


class Proxy:
    """A node between us and Anvil that hangs, lies, or is down."""

    def __init__(self, target: str):
        self.mode = "good"
        self.asked = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                proxy.asked += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if proxy.mode == "hang":
                    time.sleep(1)
                if proxy.mode == "dead":
                    self.close_connection = True
                    return
                request = urllib.request.Request(target, body, {"Content-Type": "application/json"})
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(request, timeout=5) as response:
                    answer = response.read()
                if proxy.mode not in ("good", "hang"):
                    answer = lied(proxy.mode, json.loads(body), json.loads(answer))
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # the other side hangs up when it has waited long enough
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class FastSteadyClock(SteadyClock):
    """Steady clock of a machine whose time runs fast, and may be set."""

    def __init__(self):
        self.jump_s = 0.0
        began, start = time.monotonic(), DAY.first_isp * 900
        super().__init__(
            wall=lambda: start + self.jump_s + (time.monotonic() - began) * SPEED,
            steady=lambda: (time.monotonic() - began) * SPEED,
        )

    async def sleep_until(self, moment: datetime) -> None:
        while (left := (moment - self.now()).total_seconds()) > 0:
            await asyncio.sleep(min(left / SPEED, 0.5))


def fill_disk(site: Site, full: bool) -> None:
    """SQLite refuses to grow: the very error of a full disk."""

    def limit(connection):
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages if full else 1_073_741_823}")

    site.store.engine.dispose()
    if full:
        site.limit = lambda dbapi, _record: limit(dbapi)
        event.listen(site.store.engine, "connect", site.limit)
    else:
        event.remove(site.store.engine, "connect", site.limit)


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
    for mode in ("forgets", "invents", "another branch"):
        first.mode = mode
        await asyncio.sleep(1.5)
        first.mode = "good"
        await asyncio.sleep(0.5)
    for mode in ("hang", "another chain", "dead"):
        await until(lambda: site.chain.endpoints[first.url] and not alarmed(site, "chain node"))
        first.mode = mode
        asked = second.asked
        await until(lambda before=asked: second.asked > before and alarmed(site, "chain node"))
        first.mode = "good"
    for jump_s in (7_200, -7_200, 30 * 86_400):
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
            config, clock = load(tmp_path), FastSteadyClock()
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
