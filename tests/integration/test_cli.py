"""The command line as a process, against a real Anvil.

chain start → prints where it is, stops without a trace; deploy → asks, --yes sends, --json is JSON;
status → verified; errors → one line, a hint, their exit code, no traceback unless --debug
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from offchain.chain.anvil import Anvil
from offchain.chain.toolchain import ROOT

COMMAND = [sys.executable, "-m", "offchain.cli.main"]
STEPS = 82
"""Transactions of a deployment: 29 contracts, and what each may do."""


def _run(*args, **environment):
    return subprocess.run(
        [*COMMAND, *map(str, args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        input="n\n",
        env=os.environ | environment,
        timeout=120,
    )


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def node():
    with Anvil() as node:
        yield node


@pytest.fixture(scope="module")
def deployment(node, tmp_path_factory):
    path = tmp_path_factory.mktemp("deployments") / "31337.json"
    done = _run("deploy", "--rpc", node.url, "--dev", "--yes", "--json", "--out", path)
    assert done.returncode == 0, done.stderr
    assert f"[{STEPS}/{STEPS}]" in done.stderr
    return json.loads(done.stdout)


def test_deploy_prints_json(deployment):
    assert deployment["chain_id"] == 31337
    assert deployment["transactions"] == STEPS
    assert len(deployment["contracts"]) == 29


def test_deploy_verifies_when_everything_is_there(node, deployment):
    done = _run("deploy", "--rpc", node.url, "--dev", "--out", deployment["file"])
    assert done.returncode == 0
    assert "already deployed, verified" in done.stdout


def test_deploy_sends_nothing_when_the_answer_is_no(node, tmp_path):
    path = tmp_path / "31337.json"
    done = _run("deploy", "--rpc", node.url, "--dev", "--out", path)
    assert done.returncode == 1
    assert "create FlexSettlement" in done.stderr
    assert not path.exists()


def test_status_verifies_the_deployment(node, deployment):
    done = _run("chain", "status", "--rpc", node.url, "--deployment", deployment["file"], "--json")
    status = json.loads(done.stdout)
    assert status["chain_id"] == 31337
    assert status["deployment"]["contracts"] == deployment["contracts"]


@pytest.mark.parametrize(
    ("args", "environment", "code", "error", "hint"),
    [
        (["chain", "status", "--rpc", "http://127.0.0.1:1"], {}, 4, "no chain node answers", "gridpact chain start"),
        (["chain", "status", "--chain-id", "1"], {}, 4, "is chain 31337, expected chain 1", "same chain"),
        (["chain", "status", "--deployment", "/no/file"], {}, 4, "no deployment file /no/file", "gridpact deploy"),
        (["deploy", "--yes"], {}, 2, "no key to sign with", "GRIDPACT_PRIVATE_KEY"),
        (["deploy", "--yes"], {"GRIDPACT_PRIVATE_KEY": "0x12"}, 2, "32 bytes in hex", "64 hex digits"),
        (["deploy", "--yes"], {"GRIDPACT_PRIVATE_KEY": "11" * 32}, 4, "has 0 wei", "send at least"),
        (["deploy", "--dev", "--parameters", "/no/file"], {}, 2, "parameter file /no/file", ""),
        (["deploy", "--keystore", "/no/file"], {"GRIDPACT_KEYSTORE_PASSWORD": "x"}, 2, "key file /no/file", ""),
    ],
)
def test_error_is_one_line_with_a_hint(node, tmp_path, args, environment, code, error, hint):
    out = ["--out", tmp_path / "out.json"] if args[0] == "deploy" else []
    environment = {"GRIDPACT_RPC": node.url, "GRIDPACT_PRIVATE_KEY": ""} | environment
    done = _run(*args, *out, **environment)
    assert done.returncode == code
    lines = done.stderr.strip().splitlines()
    failure = [line for line in lines if line.startswith("error: ")]
    assert len(failure) == 1
    assert error in failure[0]
    assert any(line.startswith("hint: ") and hint in line for line in lines) or not hint
    assert "Traceback" not in done.stderr


def test_error_shows_a_traceback_when_debugging():
    done = _run("--debug", "chain", "status", "--rpc", "http://127.0.0.1:1")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "NodeUnreachableError" in done.stderr


@pytest.mark.parametrize(("ending", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_chain_start_leaves_nothing_when_it_is_stopped(ending, code):
    process = subprocess.Popen(
        [*COMMAND, "chain", "start", "--port", "0", "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    text = ""
    while not text.endswith("}\n") or text.count("{") != text.count("}"):
        text += process.stdout.readline()
    port = int(json.loads(text)["url"].rsplit(":", 1)[1])
    process.send_signal(ending)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in errors
    deadline = time.monotonic() + 10
    while _listens(port):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_help_loads_nothing_that_takes_time():
    script = (
        "import runpy, sys\n"
        "sys.argv = ['gridpact', '--help']\n"
        "try:\n"
        "    runpy.run_module('offchain.cli.main', run_name='__main__')\n"
        "finally:\n"
        "    print('loaded', *sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    for name in ("deploy", "chain", "pilot", "audit"):
        assert name in done.stdout
    loaded = {module.partition(".")[0] for module in done.stderr.partition("loaded")[2].split()}
    assert "typer" in loaded
    assert not loaded & {"numpy", "pandas", "sklearn", "lightgbm", "pandapower", "web3", "eth_account", "sqlalchemy"}


def test_interrupt_ends_a_loop_that_loses_a_cancellation():
    script = (
        "import asyncio, os, signal\n"
        "from offchain.cli.main import interrupt\n"
        "async def work():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    for _ in range(100):\n"
        "        try:\n"
        "            await asyncio.sleep(0.001)\n"
        "        except asyncio.CancelledError:\n"
        "            pass\n"
        "signal.signal(signal.SIGINT, interrupt)\n"
        "asyncio.run(work())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stderr.strip().endswith("KeyboardInterrupt")
    # Without the handler the loop goes on to its end.
    lost = script.replace("signal.signal(signal.SIGINT, interrupt)\n", "")
    assert subprocess.run([sys.executable, "-c", lost], cwd=ROOT, timeout=120).returncode == 0
