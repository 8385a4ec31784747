"""``gridpact oracle`` as an engineer uses it, on a real chain and a real Modbus server.

check: nothing registered → says what is missing; all there → ok, exit 0; faults one at a time → named with a hint
replay, run, SIGTERM: a recorded day is anchored; health, metrics; data and proofs lead to what is on chain
keys: in no log and in no error, encrypted on disk
"""

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from eth_hash.auto import keccak

from offchain.chain.anvil import MNEMONIC, Anvil
from offchain.chain.indexer import read_events
from offchain.chain.leaves import meter_day_leaf
from offchain.chain.merkle import verify
from offchain.chain.signers import mnemonic_signers
from offchain.cli.main import app_main
from offchain.domain.curves import unpack_readings
from offchain.domain.isp import MarketDay, isp_of, isp_start
from offchain.store import open_store
from offchain.store.devices import steps_of
from offchain.store.readings import ReadingRow, insert_readings, readings_of_isp
from oracles.checks import require_clock
from oracles.clock import SimulatedClock, SystemClock
from oracles.config import load_site
from oracles.keys import SiteKeys, device_secret
from oracles.simulators.modbus_meters import ModbusMeterSimulator
from oracles.site import Site
from oracles.sources.port import Observation, Quantity
from tests.oracles.siteworld import METER_IDS, PASSWORD, deploy, energy_wh, enrol, load, write_site

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def simulator():
    """Modbus server with a meter for each of the site."""
    ready, over = threading.Event(), threading.Event()
    found = {}

    async def serve():
        async with ModbusMeterSimulator(METER_IDS, clock=SystemClock()) as running:
            found["it"] = running
            ready.set()
            while not over.is_set():
                await asyncio.sleep(0.05)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait(10)
    yield found["it"]
    over.set()
    thread.join(10)


@pytest.fixture(scope="module")
def world(tmp_path_factory, simulator):
    """Chain, suite and site file of a site whose meters are not registered yet."""
    folder = tmp_path_factory.mktemp("site")
    with Anvil() as node:
        suite = deploy(node, folder)
        devices = ""
        for number, meter_id in enumerate(METER_IDS, start=1):
            host, port, unit_id = simulator.address_of(meter_id)
            devices += f'[[device]]\nkind = "modbus"\nhost = "{host}"\nport = {port}\nunit_id = {unit_id}\n'
            devices += f'meter_id = "{meter_id.hex()}"\nserial = "GP{number:014d}"\n'
        write_site(folder, [node.url], devices=devices, confirmations=0)
        for path in folder.iterdir():
            path.chmod(0o600)
        yield suite, folder


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def oracle(folder, *arguments):
    """The command in this process: a new one for each would spend its time on imports."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gridpact", "oracle", *arguments])
        try:
            app_main()
            code = 0
        except SystemExit as exc:
            code = exc.code or 0
    assert_no_secret(folder, out.getvalue() + err.getvalue())
    return Done(code, out.getvalue(), err.getvalue())


def assert_no_secret(folder, text):
    """No password and no key in a text, however it is written."""
    gateway = sha256(b"gateway").digest()
    keys = [gateway, bytes(mnemonic_signers(MNEMONIC, 2)[1].key), *(device_secret(gateway, m) for m in METER_IDS)]
    for secret in [PASSWORD, *(key.hex() for key in keys), *(str(int.from_bytes(key)) for key in keys)]:
        assert secret.lower() not in text.lower()


def test_check_says_what_is_missing_when_nothing_is_registered(world):
    _, folder = world
    done = oracle(folder, "check", "--json")
    findings = json.loads(done.stdout)
    assert done.returncode == 1
    wrong = [finding for finding in findings if not finding["ok"]]
    assert len(wrong) == len(METER_IDS)
    assert all("not in MeterRegistry" in finding["text"] for finding in wrong)
    own = [finding for finding in findings if "GP0000" in finding["text"]]
    assert len(own) == len(METER_IDS)  # every device answered with its serial number


@pytest.fixture(scope="module")
def registered(world):
    """The site with all meters registered."""
    suite, folder = world
    yesterday = MarketDay.of((datetime.now(UTC) - timedelta(days=1)).date())
    enrol(suite, SiteKeys(load(folder)).addresses, yesterday.first_isp)
    return suite, folder, yesterday


def test_check_is_content_when_all_is_registered(registered):
    _, folder, _ = registered
    done = oracle(folder, "check")
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ checks, 0 wrong", done.stdout)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('kind = "modbus"', 'kind = "modbuss"', "wrong.toml:"),
        ("chain_id = 31337", "chain_id = 5", "chain.chain_id of the site file is chain 5, expected chain 31337"),
        ("http://127", "http://no-such-host.invalid/127", "no chain node answers at"),
        ('keystore = "operator.json"', 'keystore = "gateway.json"', "is not a meter operator in good standing"),
        ('keystore = "operator.json"', 'keystore = "gateway.json"', ", this site is 0x"),
        (
            '[gateway]\nkeystore = "gateway.json"',
            '[gateway]\nkeystore = "operator.json"',
            ", the gateway signs with 0x",
        ),
        ('serial = "GP00000000000001"', 'serial = "GP00000000000009"', "another meter was installed"),
        ('file = "password"', 'file = "passwort"', "cannot be read"),
        ("port = 0", "prot = 0", "did you mean port?"),
        ("unit_id = 2\n", "unit_id = 99\n", "unit 99: device failure"),
        ('store = "site.db"', 'store = "nowhere/site.db"', "unable to open database file"),
        ("unit_id = 1\n", 'unit_id = 1\ndevice_id = "a"\ntelemetry_every_s = 4\n', "or leave telemetry_every_s out"),
    ],
)
def test_check_names_the_fault_when_something_is_wrong(registered, old, new, says):
    _, folder, _ = registered
    text = (folder / "site.toml").read_text()
    assert old in text
    (folder / "wrong.toml").write_text(text.replace(old, new, 1))
    done = oracle(folder, "check", "--config", "wrong.toml")
    assert done.returncode == 1
    assert says in done.stdout
    lines = done.stdout.splitlines()
    for line, after in pairwise(lines):
        if line.startswith("WRONG  ") and not line.startswith("WRONG  configuration"):
            assert "→ " in after, f"says not what to do: {line}"


def test_check_says_when_a_meter_is_out_of_service_on_chain_and_not_in_the_site_file(registered):
    suite, folder, _ = registered
    operator = mnemonic_signers(MNEMONIC, 2)[1]
    before = suite.chain.request("evm_snapshot")
    end_isp = isp_of(datetime.now(UTC))
    suite.send(operator, "MeterRegistry", "decommissionMeter", (METER_IDS[0], end_isp))
    try:
        done = oracle(folder, "check")
        assert "out of service on chain since " + isp_start(end_isp).isoformat() in done.stdout
        assert done.returncode == 1
        text = (folder / "site.toml").read_text()
        first = f'meter_id = "{METER_IDS[0].hex()}"\nmax_import_w'
        assert first in text
        until = isp_start(end_isp).isoformat()
        (folder / "until.toml").write_text(text.replace(first, f"in_service_until = {until}\n{first}"))
        (folder / "until.toml").chmod(0o600)
        assert oracle(folder, "check", "--config", "until.toml").returncode == 0
    finally:
        suite.chain.request("evm_revert", before)


def test_check_goes_on_and_names_each_fault_when_several_things_are_wrong(registered):
    _, folder, _ = registered
    text = (folder / "site.toml").read_text()
    first = text.index("[[device]]")
    second = text.index("[[device]]", first + 1)
    text = text[:first] + text[second:]  # nobody reads the first meter
    text = text.replace('keystore = "operator.json"', 'keystore = "none.json"')
    text += f"""
[[device]]
kind = "csv"
path = "none.csv"
mapping = "ternii"
meters = {{ IT01 = "{METER_IDS[1].hex()}" }}
[[device]]
kind = "mqtt"
host = "127.0.0.1"
port = 9
client_id = "x"
steered = [{{ topic = "a", meter_id = "{METER_IDS[2].hex()}" }}]
"""
    (folder / "wrong.toml").write_text(text)
    done = oracle(folder, "check", "--config", "wrong.toml", "--json")
    wrong = {finding["subject"]: finding["text"] for finding in json.loads(done.stdout) if not finding["ok"]}
    assert wrong.keys() == {
        *("operator key", "device 6:csv", "device 7:mqtt"),
        f"meter {METER_IDS[0].hex()[:12]}",
    }
    assert "none.json" in wrong["operator key"]
    assert "ternii" in wrong["device 6:csv"]
    assert wrong["device 7:mqtt"] == "mqtt 127.0.0.1:9: connection refused"
    assert wrong[f"meter {METER_IDS[0].hex()[:12]}"] == "no device reads it"


def test_check_warns_when_others_may_read_a_key(registered):
    _, folder, _ = registered
    (folder / "gateway.json").chmod(0o644)
    done = oracle(folder, "check")
    (folder / "gateway.json").chmod(0o600)
    assert "gateway.json can be read by others" in done.stdout


def fetch(url):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as response:
        return response.read()


def wait_for(what, seconds=40):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.2)
    raise AssertionError("not in time")


def test_run_anchors_a_replayed_day_and_serves_its_data_when_started(registered):
    suite, folder, day = registered
    with open_store(folder / "recorded.db") as recorded, recorded.write() as connection:
        rows = [
            ReadingRow(m, isp, *energy_wh(n, isp), 0, b"\0" * 65, (isp + 1) * 900, "old gateway")
            for isp in day.isps
            for n, m in enumerate(METER_IDS)
        ]
        insert_readings(connection, rows)
    replayed = oracle(folder, "replay", "recorded.db", "--json", "--quiet")
    assert json.loads(replayed.stdout) == {"accepted": 96 * len(METER_IDS), "corrected": 0}

    port = free_port()
    text = (folder / "site.toml").read_text().replace("port = 0\n", f"port = {port}\n")
    (folder / "run.toml").write_text(text)
    log = (folder / "log.json").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "offchain.cli.main", "oracle", "run", "--config", "run.toml"],
        cwd=folder,
        stderr=log,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        (event,) = wait_for(lambda: [e for e in read_events(suite.chain, suite) if e.name == "DayAnchored"])
        base = f"http://127.0.0.1:{port}"

        def confirmed():
            batches = json.loads(fetch(base + "/batches"))
            return [b["root"] for b in batches if (b["kind"], b["status"]) == ("day", "confirmed")]

        assert wait_for(confirmed) == ["0x" + event.args["root"].hex()]
        data = fetch(f"{base}/data/{event.args['dataHash'].hex()}")
        assert keccak(data) == event.args["dataHash"]
        for number, meter_id in enumerate(METER_IDS):
            proof = json.loads(fetch(f"{base}/proofs/{event.args['root'].hex()}/{meter_id.hex()}"))
            values = bytes.fromhex(proof["values"][2:])
            leaf = meter_day_leaf(meter_id, day.first_isp, day.isp_count, keccak(values))
            assert verify(event.args["root"], leaf, [bytes.fromhex(p[2:]) for p in proof["proof"]])
            assert unpack_readings(values) == [energy_wh(number, isp) for isp in day.isps]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(f"{base}/data/{'00' * 32}")
        with pytest.raises(urllib.error.HTTPError, match="400"):
            fetch(f"{base}/data/zz")
        metrics = fetch(base + "/metrics").decode()
        assert 'gridpact_oracle_batches{kind="day",status="confirmed"} 1.0' in metrics
        assert 'gridpact_oracle_chain_node_up{url="' + suite.chain.url in metrics
        health = json.loads(fetch(base + "/health"))
        assert (health["ok"], health["alarms"]) == (True, [])
        wait_for(lambda: state_of(folder) >= {"installed", "registered", "accredited", "communication tested"})
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    log.seek(0)
    lines = [json.loads(line) for line in log.read().splitlines()]
    assert {"timestamp", "level", "logger", "event", "site"} <= lines[0].keys()
    assert lines[-1]["event"] == "site test stops"
    assert_no_secret(folder, (folder / "log.json").read_text())

    said = json.loads(oracle(folder, "status", "--json").stdout)
    assert said["batches"]["day batches confirmed"] == 1
    assert {d["state"] for d in said["devices"].values()} == {"communication tested"}
    assert "day batches confirmed" in oracle(folder, "status").stdout


def free_port():
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def state_of(folder):
    """Steps that every device has taken."""
    with open_store(folder / "site.db") as store, store.read() as connection:
        return set.intersection(*({step.state for step in steps_of(connection, m)} for m in METER_IDS))


def test_run_does_not_begin_when_the_clock_is_behind_the_chain(tmp_path):
    with Anvil(timestamp=int(time.time()) + 3_600) as node:
        write_site(tmp_path, [node.url])
        command = [Path(sys.executable).with_name("gridpact"), "oracle", "run"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 3
        assert re.search(r"clock of this machine is 3\d\d\d s behind the latest block", done.stderr), done.stderr
    require_clock(load(tmp_path))  # nobody answers: nothing can be said


def test_suspend_and_resume_change_the_state_when_asked(registered):
    _, folder, _ = registered
    short = METER_IDS[0].hex()[:10]
    running = Site(load(folder))
    try:
        for command, state, suspended in (("suspend", "suspended", {METER_IDS[0]}), ("resume", "installed", set())):
            why = ["meter is exchanged"] if suspended else []
            assert state in oracle(folder, command, short, *why).stderr
            asyncio.run(running._keep_house())
            assert running.pipeline.suspended == suspended
            assert running.registration.state_of(METER_IDS[0]) == state
            started = Site(load(folder))
            assert started.pipeline.suspended == suspended
            started.store.close()
    finally:
        running.store.close()
    assert oracle(folder, "resume", "").returncode == 2


def test_site_makes_readings_of_a_device_that_only_tells_its_power(registered):
    _, folder, _ = registered
    meter = f'meter_id = "{METER_IDS[0].hex()}"\n'
    text = (folder / "site.toml").read_text().replace("site.db", "power.db").split("[[device]]")[0]
    (folder / "power.toml").write_text(text.replace(meter, meter + 'power_of = "battery"\n'))
    isp = 1_626_400
    now = datetime.fromtimestamp(isp * 900 + 1_000, UTC)
    site = Site(load_site(folder / "power.toml"), clock=SimulatedClock(now))
    values = [
        Observation("battery", Quantity.ACTIVE_POWER, 0, -2_000.0, at, at)
        for at in range(isp * 900 - 10, isp * 900 + 951, 10)
    ]

    async def work():
        await site._store_values("battery", values, True)
        await site._integrate()
        await site._integrate()

    asyncio.run(work())
    with site.store.read() as connection:
        (row,) = readings_of_isp(connection, isp)
    site.store.close()
    assert (row.meter_id, row.import_wh, row.export_wh, row.source) == (METER_IDS[0], 0, 500, "power")
    assert site.accepted == {"battery": 0, "power": 1}


def test_keys_shows_addresses_only_and_new_key_never_overwrites(registered):
    _, folder, _ = registered
    said = json.loads(oracle(folder, "keys", "--json").stdout)
    assert said["operator"] == mnemonic_signers(MNEMONIC, 2)[1].address
    assert said["meters"].keys() == {m.hex() for m in METER_IDS}
    made = oracle(folder, "new-key", "new.json", "--password-file", "password")
    assert re.search(r"0x[0-9a-fA-F]{40}", made.stdout)
    assert (folder / "new.json").stat().st_mode & 0o777 == 0o600
    assert json.loads((folder / "new.json").read_text())["version"] == 3
    assert "keys are never overwritten" in oracle(folder, "new-key", "new.json", "--password-file", "password").stderr
