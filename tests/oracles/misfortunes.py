"""What can befall a site in tests: nodes that hang, lie, die or change chain, a full disk, a clock that jumps."""

import asyncio
import json
import threading
import time
import urllib.request
from collections import Counter
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sqlalchemy import event

from oracles.clock import SteadyClock
from oracles.site import Site
from tests.oracles.siteworld import DAY

LIES = ("forgets", "invents", "another branch")
JUMPS_S = (7_200, -7_200, 30 * 86_400)


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
    """A node between us and Anvil that is ``good``, or ``hang``\\ s, lies, is ``dead``, or shows another chain.

    Parameters
    ----------
    others : str
        URLs of nodes of other chains by mode: what is asked then goes there.
    """

    def __init__(self, target: str, **others: str):
        self.mode = "good"
        self.asked: Counter[str] = Counter()
        """Requests by mode."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                mode = proxy.mode
                proxy.asked[mode] += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if mode == "hang":
                    time.sleep(1)
                if mode == "dead":
                    self.close_connection = True
                    return
                url = others.get(mode, target)
                request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(request, timeout=5) as response:
                    answer = response.read()
                if mode in (*LIES, "another chain"):
                    answer = lied(mode, json.loads(body), json.loads(answer))
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
    """Steady clock of a machine whose time runs fast, and may be set.

    The same in every process that is given the same ``began`` (``time.monotonic``), at which the market day begins.
    """

    def __init__(self, speed: float, began: float | None = None):
        self.speed = speed
        self.jump_s = 0.0
        began, start = time.monotonic() if began is None else began, DAY.first_isp * 900
        super().__init__(
            wall=lambda: start + self.jump_s + (time.monotonic() - began) * speed,
            steady=lambda: (time.monotonic() - began) * speed,
        )

    async def sleep_until(self, moment: datetime) -> None:
        while (left := (moment - self.now()).total_seconds()) > 0:
            await asyncio.sleep(min(left / self.speed, 0.5))


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
