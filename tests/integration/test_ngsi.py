"""The context broker source over real HTTP, in NGSI v2 and NGSI-LD."""

import asyncio
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import httpx
import pytest
from pydantic import ValidationError

from offchain.domain.errors import PermanentError, TransientError
from oracles.clock import SimulatedClock
from oracles.simulators.orion import Attribute, OrionServer
from oracles.sources import ngsi_server
from oracles.sources.ngsi import NgsiConfig, NgsiSource
from oracles.sources.port import IntervalEnergy, Observation, Quantity

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
METER = sha256(b"ngsi").digest()
VERSIONS = ("v2", "ld")
CONTEXT = "https://example.org/context.jsonld"
TIME_OUT_S = 40
MAPPING = f"""
[[entity]]
id = "urn:ngsi-ld:SmartMeter:17"
type = "SmartMeter"
device_id = "meter-17"
meter_id = "{METER.hex()}"

[[entity.attribute]]
name = "P"
quantity = "active_power_w"

[entity.interval]
import = "absorbed"
export = "injected"
unit = "kWh"
stamped = "end"
"""
ENTITY = "urn:ngsi-ld:SmartMeter:17"


def config_of(folder, url, version, **more):
    (folder / "mapping.toml").write_text(MAPPING)
    (folder / "token").write_text("abc")
    settings = {
        "name": "site",
        "broker_url": url,
        "version": version,
        "mapping": folder / "mapping.toml",
        "listen_host": "127.0.0.1",
        "listen_port": _free_port(),
        "service": "terni",
        "token": {"file": folder / "token"},
        "allow_http": True,
        "expires_s": 3600,
        "check_s": 60,
        "context": CONTEXT if version == "ld" else None,
    } | more
    return NgsiConfig.model_validate({"notify_url": f"http://127.0.0.1:{settings['listen_port']}"} | settings)


def _free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def broker(folder, version, **more):
    clock = SimulatedClock(START)
    orion = OrionServer(clock, {ENTITY: ("SmartMeter", {"P": Attribute(100.0, START)})}, token="abc")
    async with asyncio.timeout(TIME_OUT_S), orion.running() as url:
        source = NgsiSource(config_of(folder, url, version, **more), clock)
        try:
            yield orion, source, clock
        finally:
            await source.aclose()


def scenario(folder, version, work, **more):
    async def run():
        async with broker(folder, version, **more) as (orion, source, clock):
            await work(orion, source, clock)

    asyncio.run(run())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("version", VERSIONS)
def test_values_come_at_once_and_with_every_notification(version, tmp_path):
    async def work(orion, source, clock):
        async with aclosing(source.values()) as stream:
            first = await anext(stream)
            assert first == Observation("meter-17", Quantity.ACTIVE_POWER, 0, 100.0, 1_777_636_800, 1_777_636_800)
            source.taken(1)
            end = START + timedelta(minutes=15)
            clock.advance_to(START + timedelta(seconds=5))
            sending = asyncio.create_task(
                orion.update(ENTITY, {"absorbed": Attribute(1.5, end), "injected": Attribute(0.25, end)})
            )
            values = [await anext(stream), await anext(stream)]
            await asyncio.sleep(0.05)
            assert not sending.done(), "no answer before the values are stored"
            source.taken(2)
            assert await sending == [204]
            assert values[1] == IntervalEnergy(METER, 1_777_636_800 // 900, 1_500, 250, 1_777_636_805)
            subscription = next(iter(orion.subscriptions.values()))
            assert subscription.ld == (version == "ld")
            assert subscription.body.get("@context") == (CONTEXT if version == "ld" else None)
        assert orion.subscriptions == {}, "unsubscribed at the end"
        tenant = "ngsild-tenant" if version == "ld" else "fiware-service"
        assert all(headers[tenant] == "terni" for headers in orion.seen_headers)

    scenario(tmp_path, version, work)


@pytest.mark.parametrize("version", VERSIONS)
def test_subscription_is_renewed_before_it_expires(version, tmp_path):
    async def work(orion, source, clock):
        async with aclosing(source.values()) as stream:
            await anext(stream)
            name = source.subscription
            key = "expiresAt" if version == "ld" else "expires"
            assert orion.subscriptions[name].body[key] == "2026-05-01T13:00:00.000Z"
            asked = len(orion.seen_headers)
            clock.advance_to(START + timedelta(minutes=29))
            await until(lambda: len(orion.seen_headers) > asked)
            await asyncio.sleep(0.05)
            assert orion.subscriptions[name].body[key] == "2026-05-01T13:00:00.000Z", "more than half is left"
            clock.advance_to(START + timedelta(minutes=31))
            await until(lambda: orion.subscriptions[name].body[key] == "2026-05-01T13:31:00.000Z")
            assert source.subscription == name

    scenario(tmp_path, version, work)


@pytest.mark.parametrize("version", VERSIONS)
def test_values_missed_are_read_when_the_subscription_was_lost(version, tmp_path):
    async def work(orion, source, clock):
        async with aclosing(source.values()) as stream:
            await anext(stream)
            orion.subscriptions.clear()
            await orion.update(ENTITY, {"P": Attribute(250.0, START)})
            clock.advance_to(START + timedelta(seconds=61))
            assert (await anext(stream)).value == 250.0
            assert list(orion.subscriptions) == [source.subscription]

    scenario(tmp_path, version, work)


@pytest.mark.parametrize("version", VERSIONS)
def test_values_missed_are_read_when_a_notification_failed(version, tmp_path, monkeypatch):
    monkeypatch.setattr(ngsi_server, "STORE_S", 0.1)

    async def work(orion, source, clock):
        async with aclosing(source.values()) as stream:
            await anext(stream)
            assert await orion.update(ENTITY, {"P": Attribute(300.0, START)}) == [503]
            assert source.refused == {"not stored in time": 1}
            assert (await anext(stream)).value == 300.0
            source.taken(2)
            clock.advance_to(START + timedelta(seconds=61))
            assert (await anext(stream)).value == 300.0, "read again, because the broker forgets it"

    scenario(tmp_path, version, work)


def test_values_go_on_when_the_broker_was_down(tmp_path):
    async def work(orion, source, clock):
        orion.broken = True
        with pytest.raises(TransientError, match="answered 503"):
            await source.probe()
        async with aclosing(source.values()) as stream:
            first = asyncio.ensure_future(anext(stream))
            asked = len(orion.seen_headers)
            await until(lambda: len(orion.seen_headers) > asked)
            orion.broken = False
            await asyncio.sleep(0.05)
            clock.advance_to(START + timedelta(seconds=61))
            assert (await first).value == 100.0

    scenario(tmp_path, "v2", work)


def test_subscription_of_an_earlier_run_is_removed(tmp_path):
    async def work(orion, source, clock):
        await source.subscribe()
        again = NgsiSource(source.config, clock)
        await again.subscribe()
        assert list(orion.subscriptions) == [again.subscription]
        await again.aclose()

    scenario(tmp_path, "v2", work)


def test_notification_is_refused_when_nobody_subscribed_it(tmp_path):
    async def work(orion, source, clock):
        async with aclosing(source.values()) as stream, httpx.AsyncClient() as client:
            await anext(stream)
            source.taken(1)
            url = f"{source.config.notify_url}/notify"
            forged = {"data": [{"id": ENTITY, "P": {"value": 1}}]}
            assert (await client.post(url, json=forged)).status_code == 401
            headers = {ngsi_server.TOKEN_HEADER: source._token}
            assert (await client.post(url, content=b"{", headers=headers)).status_code == 400
            assert (await client.post(url, json={"data": 1}, headers=headers)).status_code == 400
            assert (await client.post(url, json={"data": []}, headers=headers)).status_code == 204
            large = b" " * (5 << 20)
            assert (await client.post(url, content=large, headers=headers)).status_code == 413
            assert source.refused == {"wrong token": 1, "malformed": 2, "too large": 1}

    scenario(tmp_path, "v2", work)


@pytest.mark.parametrize("version", VERSIONS)
def test_probe_raises_when_an_entity_or_the_right_is_missing(version, tmp_path):
    async def work(orion, source, clock):
        assert await source.probe() == f"{source.where}: 1 entities"
        entities, orion.entities = orion.entities, {}
        with pytest.raises(PermanentError, match="urn:ngsi-ld:SmartMeter:17 not known"):
            await source.probe()
        orion.entities, orion.token = entities, "another"
        with pytest.raises(PermanentError, match="access refused"):
            await source.probe()

    scenario(tmp_path, version, work)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"allow_http": False}, "must begin with https"),
        ({"broker_url": "orion:1026"}, "must begin with https"),
        ({"context": CONTEXT}, "belongs to version ld"),
        ({"certificate": "c.pem"}, "needs both certificate and key"),
        ({"name": ""}, "at least 1"),
    ],
)
def test_config_is_refused_when_it_cannot_work(change, message, tmp_path):
    with pytest.raises(ValidationError, match=message):
        config_of(tmp_path, "http://orion.example:1026", "v2", **change)
