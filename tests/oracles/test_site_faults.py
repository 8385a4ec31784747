"""A site in one process while everything around it fails, one after the other: at the end all is on chain once.

RPC: hangs, answers for another chain, dies, comes back → the next node, then back
disk full → readings wait, nothing is lost; machine's clock jumps → the site's time goes on
"""

import asyncio
import threading
import time
import urllib.request
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sqlalchemy import event

from offchain.chain import failover
from offchain.chain.anvil import Anvil
from oracles.clock import SteadyClock
from oracles.site import Site
from tests.oracles.siteworld import (
    AFTER,
    DAY,
    METER_IDS,
    PatientSender,
    count_on_chain,
    deploy,
    finished,
    load,
    write_site,
)

SECONDS = 20
SPEED = 86_400 / SECONDS


class Proxy:
    """A node between us and Anvil that hangs, lies about its chain, or is down."""

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
                if proxy.mode == "lie" and b"eth_chainId" in body:
                    answer = answer.replace(b'"0x7a69"', b'"0x1"')
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


async def misfortunes(site: Site, clock: FastSteadyClock, proxies: list[Proxy], seen: set[str]) -> None:
    """What happens to the site while its day passes."""
    first, second = proxies
    for mode in ("hang", "lie", "dead"):
        await asyncio.sleep(1.5)
        first.mode = mode
        asked = second.asked
        await asyncio.sleep(1.5)
        assert second.asked > asked
        seen |= {alarm.kind for alarm in site.alarms}
        first.mode = "good"
    for jump_s in (7_200, -7_200, 30 * 86_400):
        clock.jump_s = jump_s
        await asyncio.sleep(0.5)
        assert clock.jumped
        clock.jump_s = 0
        await asyncio.sleep(0.2)
    fill_disk(site, True)
    await asyncio.sleep(1.5)
    seen |= {alarm.kind for alarm in site.alarms}
    fill_disk(site, False)
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
        seen: set[str] = set()

        async def main() -> None:
            config, clock = load(tmp_path), FastSteadyClock()
            site = Site(config, clock=clock, sources={"meters": PatientSender(clock, tmp_path / "progress")})
            stop = asyncio.Event()
            running = asyncio.create_task(site.run(stop))
            await asyncio.sleep(1)
            await misfortunes(site, clock, proxies, seen)
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
        assert {"chain node", "store"} <= seen
        assert count_on_chain(load(tmp_path), suite) == DAY.isp_count * len(METER_IDS)
