"""The local chain as a child process.

free port → listens; taken port → PortTakenError, or the next with search; state file → goes on where it was;
parent killed → nothing left; binary missing → one line with a hint; broken state file → NodeStartError
"""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from offchain.chain import anvil as anvil_module
from offchain.chain.anvil import Anvil, PortTakenError, find_anvil
from offchain.chain.client import Chain
from offchain.chain.clock import ChainClock
from offchain.chain.errors import NodeStartError, NodeUnreachableError
from offchain.chain.toolchain import ROOT
from offchain.domain.errors import ChainError
from tests.integration.probe import deploy_probe, signers

CHILD = """
import sys, time
from offchain.chain.anvil import Anvil
node = Anvil(state=sys.argv[1])
print(node.port, flush=True)
time.sleep(60)
"""


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _gone(port: int, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while _listens(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_start_listens_and_stop_leaves_nothing():
    with Anvil() as node:
        assert node.running
        assert Chain(node.url, expected_chain_id=31337).is_anvil
    assert not node.running
    assert _gone(node.port)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_start_leaves_nothing_when_the_parent_is_killed(tmp_path, ending):
    state = tmp_path / "state.json"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(state)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    port = int(child.stdout.readline())
    assert _listens(port)
    os.kill(child.pid, ending)
    child.wait(10)
    assert _gone(port)
    deadline = time.monotonic() + 10
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert state.exists()


def test_start_raises_when_the_port_is_taken():
    with Anvil() as first, pytest.raises(PortTakenError, match=f"port {first.port} is taken"):
        Anvil(port=first.port)


def test_start_takes_the_next_port_when_it_may_search():
    with Anvil() as first, Anvil(port=first.port, port_search=20) as second:
        assert first.port < second.port <= first.port + 20
        assert Chain(second.url).block_number() == 0


def test_start_goes_on_where_it_was_when_it_has_a_state_file(tmp_path):
    state = tmp_path / "state.json"
    start = 1_462_000_000
    with Anvil(state=state, mining="batch", timestamp=start) as node:
        chain = Chain(node.url)
        clock = ChainClock(chain, simulated=True)
        suite = deploy_probe(chain)
        suite.send(signers()[1], "Probe", "place", [3])
        clock.advance_to(start + 5_000)
        block = chain.block()
    with Anvil(state=state, mining="batch") as node:
        chain = Chain(node.url)
        assert chain.block() == block
        clock = ChainClock(chain, simulated=True)
        again = type(suite)(chain, suite.addresses, codec=suite.codec)
        assert again.call("Probe", "placed") == 1
        again.send(signers()[1], "Probe", "place", [3])
        assert again.call("Probe", "placed") == 2
        assert start + 5_000 < clock.now() < start + 5_010


def test_start_keeps_time_rising_when_the_state_is_ahead_of_the_clock(tmp_path):
    state = tmp_path / "state.json"
    ahead = int(time.time()) + 1_000_000
    with Anvil(state=state) as node:
        ChainClock(Chain(node.url), simulated=True).advance_to(ahead)
    with Anvil(state=state) as node:
        chain = Chain(node.url)
        chain.request("evm_mine")
        assert chain.block()["timestamp"] > ahead


def test_start_raises_when_the_state_file_is_broken(tmp_path):
    state = tmp_path / "state.json"
    state.write_text("not a state")
    with pytest.raises(NodeStartError, match="did not start") as caught:
        Anvil(state=state)
    assert "state.json" in caught.value.hint


def test_find_anvil_raises_one_line_when_there_is_none(monkeypatch):
    def missing():
        raise ChainError("no Anvil for this platform", hint="run make setup")

    monkeypatch.setattr(anvil_module, "anvil_path", missing)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NodeStartError, match="no Anvil") as caught:
        find_anvil()
    assert caught.value.hint == "run make setup"


def test_chain_raises_when_the_node_is_gone():
    with Anvil() as node:
        chain = Chain(node.url)
    with pytest.raises(NodeUnreachableError, match="connection refused"):
        chain.block_number()


def test_advance_to_is_exact_and_deterministic_when_simulated():
    start = 1_462_000_000
    with Anvil(mining="batch", timestamp=start) as node:
        clock = ChainClock(Chain(node.url), simulated=True)
        assert clock.advance_to(start + 900) == start + 900
        assert clock.advance_to(start) == start + 900
        clock._chain.request("evm_mine")
        assert clock.now() == start + 901


def test_advance_to_waits_when_real():
    with Anvil() as node:
        chain = Chain(node.url)
        clock = ChainClock(chain, simulated=False, poll_seconds=0.1)
        target = clock.now() + 2
        chain.request("evm_setIntervalMining", 1)
        assert clock.advance_to(target) >= target
