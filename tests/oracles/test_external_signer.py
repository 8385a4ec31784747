"""Keys that are kept elsewhere: a signer process that speaks the API of Web3Signer.

a site whose operator and one meter sign there → every reading on chain once, also when the signer dies meanwhile
check: right → ok; signer down, key not loaded, another public key → named
signs as somebody else, garbage, no answer → an error here, never a signature that the chain refuses
"""

import asyncio
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from hashlib import sha256
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from offchain.chain.anvil import MNEMONIC, Anvil
from offchain.chain.signatures import METER_DAY, READING, metering_domain, recover
from offchain.chain.signers import RemoteSigner, mnemonic_signers
from offchain.domain.errors import PermanentError, TransientError
from offchain.store import open_store
from offchain.store.batches import BatchKind, meter_days_of, recent_batches
from offchain.store.readings import readings_of_meter
from oracles.checks import check_site
from oracles.signer import GatewayKeys, RemoteKeys, day_message, reading_message
from oracles.site import Site
from tests.oracles.siteworld import (
    AFTER,
    DAY,
    METER_IDS,
    FastClock,
    PatientSender,
    count_on_chain,
    deploy,
    finished,
    load,
    write_site,
)
from tests.utils import remote_signer

ROOT = Path(__file__).parents[2]
SECONDS = 10
METER_SECRET = sha256(b"secure element").digest()
DOMAIN = metering_domain(31337, "0x" + "11" * 20)


@contextmanager
def signer_process(folder, secrets):
    """The signer, on the same port each time."""
    files = []
    for number, secret in enumerate(secrets):
        files.append(folder / f"signer-{number}.key")
        files[-1].write_text(secret.hex())
    port_file = folder / "signer.port"
    arguments = [sys.executable, remote_signer.__file__, str(port_file), *map(str, files)]
    process = subprocess.Popen(arguments, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        deadline = time.monotonic() + 20
        while not port_file.exists() or not port_file.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port_file.read_text()}"
    finally:
        process.kill()
        process.wait()


def write_remote_site(folder, node_url, signer_url, operator_secret, **changed):
    """Site file whose operator and first meter sign elsewhere."""
    path = write_site(folder, [node_url])
    text = path.read_text()
    old = '[operator.key]\nkeystore = "operator.json"\npassword = { file = "password" }\n'
    assert old in text
    keys = {"operator": remote_signer.public_key(operator_secret), "meter": remote_signer.public_key(METER_SECRET)}
    keys |= changed
    text = text.replace(old, f'[operator.signer]\nurl = "{signer_url}"\npublic_key = "{keys["operator"]}"\n')
    first = f'meter_id = "{METER_IDS[0].hex()}"\n'
    own = f'signer = {{ url = "{signer_url}", public_key = "{keys["meter"]}" }}\n'
    path.write_text(text.replace(first, first + own, 1))
    return path


@pytest.fixture(scope="module")
def operator_secret():
    return bytes(mnemonic_signers(MNEMONIC, 2)[1].key)


def test_site_puts_every_reading_on_chain_once_when_keys_are_elsewhere_and_the_signer_dies(tmp_path, operator_secret):
    secrets = [operator_secret, METER_SECRET]
    with Anvil(timestamp=AFTER) as node:
        suite = deploy(node, tmp_path)
        suite.chain.request("evm_setIntervalMining", 1)

        async def main():
            with signer_process(tmp_path, secrets) as url:
                write_remote_site(tmp_path, node.url, url, operator_secret)
                config, clock = load(tmp_path), FastClock(time.time(), 86_400 / SECONDS)
                site = Site(config, clock=clock, sources={"meters": PatientSender(clock, tmp_path / "progress")})
                stop = asyncio.Event()
                running = asyncio.create_task(site.run(stop))
                await asyncio.sleep(3)
            while not any(alarm.kind == "store" and "does not answer" in alarm.text for alarm in site.alarms):
                await asyncio.sleep(0.1)
            with signer_process(tmp_path, secrets):
                deadline = time.monotonic() + 60
                while not await asyncio.to_thread(finished, config):
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.2)
                stop.set()
                await running
            return config

        config = asyncio.run(main())
        assert count_on_chain(config, suite) == DAY.isp_count * len(METER_IDS)
        domain = metering_domain(31337, suite.address("MeteringLedger"))
    address = RemoteSigner("http://unused", config.meter[0].signer.public_key).address
    with open_store(config.store) as store, store.read() as connection:
        rows = readings_of_meter(connection, METER_IDS[0], DAY.first_isp, DAY.end_isp)
        days = [batch for batch in recent_batches(connection, operator_of(), 0) if batch.kind is BatchKind.DAY]
        (day,) = [d for d in meter_days_of(connection, days[-1].id) if d.meter_id == METER_IDS[0]]
    messages = [reading_message(row.meter_id, row.isp, row.import_wh, row.export_wh) for row in rows]
    signers = {recover(READING.digest(domain, m), row.signature) for m, row in zip(messages, rows, strict=True)}
    message = day_message(METER_IDS[0], day.first_isp, day.isp_count, day.values)
    assert signers == {recover(METER_DAY.digest(domain, message), day.signature)} == {address}


def operator_of():
    return mnemonic_signers(MNEMONIC, 2)[1].address


def test_check_names_the_fault_when_a_signer_is_not_as_it_should_be(tmp_path, operator_secret):
    other = remote_signer.public_key(sha256(b"other").digest())

    def wrong(signer_url, **changed):
        write_remote_site(tmp_path, "http://127.0.0.1:9", signer_url, operator_secret, **changed)
        for name in ("operator.json", "gateway.json", "password"):
            (tmp_path / name).chmod(0o600)
        return [
            f.text
            for f in check_site(tmp_path / "site.toml")
            if not f.ok and f.subject in ("operator key", "device keys", "configuration")
        ]

    (tmp_path / "deployment.json").write_text("{}")
    with signer_process(tmp_path, [operator_secret, METER_SECRET]) as url:
        assert wrong(url) == []
        (text,) = wrong(url, operator=other)
        assert "has no key of 0x" in text
        (text,) = wrong(url, meter=other)
        assert f"meter {METER_IDS[0].hex()[:12]}" in text and "has no key of 0x" in text
        (text,) = wrong(url, operator="0x1234")
        assert "operator.signer.public_key" in text
    assert "does not answer" in wrong(url)[0]


class Misbehaving(remote_signer.Handler):
    """A signer that does what ``answer`` says instead of signing."""

    answer = staticmethod(remote_signer.signature)

    def sign(self, secret, data):
        return type(self).answer(secret, data)


@pytest.fixture
def keys():
    """Keys of one meter at a signer in this process, and the class that decides what it answers."""
    handler = type("Handler", (Misbehaving,), {"keys": {remote_signer.public_key(METER_SECRET): METER_SECRET}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    signer = RemoteSigner(url, remote_signer.public_key(METER_SECRET), timeout=0.5)
    yield RemoteKeys(DOMAIN, {METER_IDS[0]: signer}, GatewayKeys(DOMAIN, {METER_IDS[1]: METER_SECRET})), handler
    server.shutdown()
    server.server_close()


def sign(keys, meter_id=METER_IDS[0]):
    return keys.sign_reading(meter_id, DAY.first_isp, 100, 3)


def test_keys_sign_like_the_gateway_when_the_signer_is_right(keys):
    remote, _ = keys
    own = GatewayKeys(DOMAIN, dict.fromkeys(METER_IDS[:2], METER_SECRET))
    for meter_id in METER_IDS[:2]:  # the second one is signed for by the gateway
        assert sign(remote, meter_id) == sign(own, meter_id)
        assert remote.sign_day(meter_id, 0, 96, b"\0" * 768) == own.sign_day(meter_id, 0, 96, b"\0" * 768)


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (lambda _, data: remote_signer.signature(sha256(b"other").digest(), data), PermanentError, "signed as 0x"),
        (lambda secret, data: remote_signer.signature(secret, data + b"!"), PermanentError, "signed as 0x"),
        (lambda *_: "0x1234", PermanentError, "signature of 2 bytes instead of 65"),
        (lambda *_: "locked", TransientError, "no signature"),
        (lambda *_: "0x" + "00" * 65, PermanentError, "no signature of its key"),
        (lambda secret, data: time.sleep(1) or "", TransientError, "does not answer"),
    ],
    ids=["other key", "other data", "short", "no hex", "zeros", "hangs"],
)
def test_keys_raise_when_the_signer_misbehaves(keys, answer, error, says):
    remote, handler = keys
    handler.answer = staticmethod(answer)
    with pytest.raises(error, match=says):
        sign(remote)
