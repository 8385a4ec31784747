"""A node that changes one number of one market event in its answers: `gridpact audit` exits 1 and names it."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from offchain.chain.anvil import Anvil
from offchain.chain.contracts import suite_codec
from tests.e2e.test_tampering import gridpact_audit

WORD = 64
CHANGES = {
    # event: (contract, word of its data from the end to change the last digit of, what the audit calls it)
    "SessionFinalised": ("EnergyMarket", 0, "of a session"),
    "ProductCleared": ("EnergyMarket", 0, "result of product"),
    "BundleClaimed": ("EnergyMarket", 0, "escrow after a claim"),
    "TraderSettled": ("MarketSettlement", 0, "outcome"),
    "TransferBatch": ("EnergyCertificates", 0, "token"),
    "Released": ("ClearingHouse", 0, "money of"),
    "PlacedByRule": ("TradingRules", 1, "forecast"),
}


def topic_of(contract: str, event: str) -> str:
    codec = suite_codec()
    (topic,) = (topic for topic, (entry, _) in codec._events[contract].items() if entry.name == event)
    return "0x" + topic.hex()


def flipped(log: dict, word: int) -> dict:
    """The log with the lowest bit of one word of its data changed, words counted from the end."""
    digits = log["data"][2:]
    end = len(digits) - word * WORD
    return log | {"data": "0x" + digits[: end - 1] + f"{int(digits[end - 1], 16) ^ 1:x}" + digits[end:]}


@contextmanager
def lying_node(url: str, topic: str, word: int) -> Iterator[str]:
    """A proxy before a node that changes the last log with a topic."""

    def changed(answer):
        logs = answer.get("result")
        if isinstance(logs, list):
            positions = [i for i, log in enumerate(logs) if isinstance(log, dict) and topic in log.get("topics", [])]
            if positions:
                logs[positions[-1]] = flipped(logs[positions[-1]], word)
        return answer

    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request) as response:
                answer = json.load(response)
            answer = [changed(part) for part in answer] if isinstance(answer, list) else changed(answer)
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def node(noon, tmp_path_factory):
    copy = tmp_path_factory.mktemp("node") / "chain.state"
    copy.write_bytes((noon.folder / "chain.state").read_bytes())
    with Anvil(state=copy) as running:
        yield running.url


@pytest.mark.parametrize("event", CHANGES)
def test_audit_exits_1_when_the_node_changes_an_event(noon, node, event):
    contract, word, what = CHANGES[event]
    with lying_node(node, topic_of(contract, event), word) as url:
        done = gridpact_audit(noon.folder, "--quiet", "--json", "--rpc", url)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: ")
    found = json.loads(done.stdout)["mismatches"]
    assert any(what in mismatch["what"] for mismatch in found), found[:3]


def test_audit_exits_0_through_a_node_that_changes_nothing(noon, node):
    with lying_node(node, "0x", 0) as url:
        done = gridpact_audit(noon.folder, "--quiet", "--rpc", url)
    assert (done.returncode, done.stderr) == (0, "")
