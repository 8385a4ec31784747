"""FailoverRpc: works → preferred answers; dead, slow, other chain, nonsense → next; recovered → back; none → error"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from offchain.chain import failover
from offchain.chain.client import Chain
from offchain.chain.errors import NodeUnreachableError, WrongChainError
from offchain.chain.failover import FailoverRpc
from offchain.chain.rpc import RpcError, shown_url
from offchain.domain.errors import DomainError

CHAIN_ID = 77


class Node:
    """A node that answers ``eth_chainId`` and ``who``, and misbehaves on demand."""

    def __init__(self, name):
        self.name = name
        self.chain_id = hex(CHAIN_ID)
        self.mode = "good"
        self.asked = 0
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                node.asked += 1
                if node.mode == "hang":
                    time.sleep(1)
                if node.mode == "broken":
                    self.send_error(502)
                    return
                answer = [node.answer(r) for r in body] if isinstance(body, list) else node.answer(body)
                payload = b"<html>" if node.mode == "nonsense" else json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, request):
        reply = {"jsonrpc": "2.0", "id": request["id"]}
        if request["method"] == "fail":
            return reply | {"error": {"code": -32000, "message": "no"}}
        return reply | {"result": self.chain_id if request["method"] == "eth_chainId" else self.name}

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Time:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def nodes():
    nodes = [Node("first"), Node("second")]
    yield nodes
    for node in nodes:
        node.stop()


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def rpc(nodes, clock):
    return FailoverRpc([node.url for node in nodes], chain_id=CHAIN_ID, timeout=0.3, clock=clock)


def test_request_is_answered_by_the_preferred_node_when_all_work(rpc, nodes):
    assert rpc.request("who") == "first"
    assert rpc.batch([("who", []), ("who", [])]) == ["first", "first"]
    assert nodes[1].asked == 0
    assert rpc.healthy == {nodes[0].url: True, nodes[1].url: True}


@pytest.mark.parametrize("mode", ["hang", "broken", "nonsense", "wrong chain", "no chain id", "dead"])
def test_request_is_answered_by_the_next_node_when_the_first_misbehaves(rpc, nodes, mode):
    first = nodes[0]
    if mode == "dead":
        first.server.server_close()
    elif mode == "wrong chain":
        first.chain_id = hex(1)
    elif mode == "no chain id":
        first.chain_id = None
    else:
        first.mode = mode
    assert rpc.request("who") == "second"
    assert rpc.batch([("who", [])]) == ["second"]
    assert rpc.healthy[first.url] is False


def test_batch_everywhere_asks_every_node_that_answers_and_raises_when_none_does(rpc, nodes):
    assert rpc.batch_everywhere([("who", [])]) == [["first"], ["second"]]
    nodes[0].mode = "broken"
    assert rpc.batch_everywhere([("who", [])]) == [["second"]]
    nodes[1].mode = "broken"
    with pytest.raises(NodeUnreachableError):
        rpc.batch_everywhere([("who", [])])


def test_request_leaves_a_failed_node_alone_for_longer_each_time_when_it_stays_away(rpc, nodes, clock):
    nodes[0].mode = "broken"
    asked = []
    for _ in range(600):
        clock.now += 1
        assert rpc.request("who") == "second"
        asked.append(nodes[0].asked)
    assert 10 <= nodes[0].asked <= 30
    assert asked[-1] - asked[-120] <= 5


def test_request_goes_back_and_checks_the_chain_when_the_preferred_node_returns(rpc, nodes, clock):
    nodes[0].mode = "broken"
    rpc.request("who")
    nodes[0].mode, nodes[0].chain_id = "good", hex(1)
    clock.now += failover.LONGEST_PAUSE_S
    assert rpc.request("who") == "second"  # it came back as another chain
    nodes[0].chain_id = hex(CHAIN_ID)
    clock.now += failover.LONGEST_PAUSE_S
    assert rpc.request("who") == "first"


def test_request_moves_on_when_a_node_changes_chain_while_it_works(rpc, nodes, clock):
    assert rpc.request("who") == "first"
    nodes[0].chain_id = hex(1)
    clock.now += failover.RECHECK_S + 1
    assert rpc.request("who") == "second"


def test_request_raises_what_the_node_says_when_it_answers_with_an_error(rpc, nodes):
    with pytest.raises(RpcError, match="no"):
        rpc.request("fail")
    assert nodes[1].asked == 0


def test_request_names_every_trouble_when_no_node_works(rpc, nodes):
    nodes[0].mode, nodes[1].chain_id = "broken", hex(1)
    with pytest.raises(NodeUnreachableError) as caught:
        rpc.request("who")
    assert "HTTP 502" in str(caught.value)
    assert "is chain 1, expected chain 77" in str(caught.value)
    nodes[0].mode, nodes[0].chain_id = "good", hex(1)


def test_request_raises_wrong_chain_when_all_nodes_are_of_another_chain(rpc, nodes):
    for node in nodes:
        node.chain_id = hex(1)
    with pytest.raises(WrongChainError):
        rpc.request("who")


def test_chain_needs_its_id_when_there_are_several_endpoints(nodes):
    with pytest.raises(DomainError, match="several endpoints"):
        Chain([node.url for node in nodes])
    assert Chain([node.url for node in nodes], expected_chain_id=CHAIN_ID).chain_id == CHAIN_ID


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/v3/SECRET", "http://127.0.0.1:9?key=SECRET", "http://user:SECRET@127.0.0.1:9"]
)
def test_access_key_of_an_endpoint_is_shown_nowhere(url, caplog):
    other = url.replace("SECRET", "ANOTHER")
    rpc = FailoverRpc([url, other], chain_id=CHAIN_ID)
    with pytest.raises(NodeUnreachableError) as caught:
        rpc.request("who")
    assert len(rpc.healthy) == 2  # told apart all the same
    for text in (str(caught.value), rpc.url, caplog.text, *rpc.healthy):
        assert "127.0.0.1:9" in text
        assert "SECRET" not in text and "ANOTHER" not in text


@pytest.mark.parametrize("url", ["http://127.0.0.1:8545", "https://node.example", "http://[::1]:8545"])
def test_endpoint_without_a_key_is_shown_as_it_is(url):
    assert (shown_url(url), shown_url(url + "/")) == (url, url)
