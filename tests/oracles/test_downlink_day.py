"""From orders on chain to devices and back, through the daemon of a site, with every protocol that takes schedules.

dispatch of an aggregator → Modbus registers, OCPP charging profile; direct control in orange → MQTT
each acknowledged within a minute of its block; readings → who follows is left alone, who does not is an alarm
until it does, /orders says how much; the regime is on /regimes and /metrics; a deaf device → held when it hears again
orders are issued eight days ahead; the site takes the baselines from their transactions
"""

import asyncio
import json
import socket
import time
import urllib.request
from datetime import UTC, date, datetime
from pathlib import Path

from offchain.chain.anvil import Anvil
from offchain.domain.isp import MarketDay, isp_start
from offchain.domain.units import BPS
from offchain.store import open_store
from offchain.store.commands import CommandStatus, commands_covering
from offchain.store.outbox import open_items
from offchain.store.readings import readings_of_isp
from oracles.clock import unix
from oracles.keys import SiteKeys
from oracles.registration import DeviceState
from oracles.simulators.modbus_meters import ModbusMeterSimulator
from oracles.simulators.mqtt_device import MqttDeviceSimulator
from oracles.simulators.ocpp_charge_points import SimulatedChargePoint
from oracles.simulators.smx_meters import SmxPublisher, SmxState
from oracles.site import Site
from oracles.steering import TOPIC
from tests.oracles.flexday import FlexDay
from tests.oracles.siteworld import METER_IDS, deploy, enrol, load, write_site
from tests.utils.broker import running_broker

DAY = MarketDay.of(date(2016, 5, 20))
HEATER, CHARGER, BATTERY = METER_IDS[:3]
BASELINE_WH = 1_500
ISP = DAY.first_isp + 44
ORDERED = {44: 500, 45: 500}


class MovableClock:
    """The machine's time, somewhere else, and further whenever the test says so; the chain's time goes with it."""

    def __init__(self, start: int):
        self._offset_s = start - time.time()
        self.suite = None

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self._offset_s, UTC)

    async def sleep_until(self, moment: datetime) -> None:
        while (left := (moment - self.now()).total_seconds()) > 0:
            await asyncio.sleep(min(left, 0.05))

    def pass_time(self, seconds: float) -> None:
        self._offset_s += seconds
        self.suite.chain.request("evm_increaseTime", round(seconds))
        self.suite.chain.request("evm_mine")


async def until(what, seconds=30):
    deadline = time.monotonic() + seconds
    while not (found := await asyncio.to_thread(what)):
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.1)
    return found


def fetch(site, path):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{site.port}{path}", timeout=5) as response:
        return response.read().decode()


def devices_toml(heater, broker, ocpp_port):
    host, port, unit_id = heater.address_of(HEATER)
    return f"""
[[device]]
kind = "modbus"
host = "{host}"
port = {port}
unit_id = {unit_id}
meter_id = "{HEATER.hex()}"
timeout_s = 5

[[device]]
kind = "ocpp"
host = "127.0.0.1"
port = {ocpp_port}
sessions_file = "ocpp.db"
[[device.charge_points]]
id = "CP1"
device_id = "evse"
password = {{ file = "password" }}
meters = {{ 1 = "{CHARGER.hex()}" }}
steered = {{ 1 = {{ reference_w = 6000, max_w = 11000 }} }}

[[device]]
kind = "mqtt"
host = "{broker.host}"
port = {broker.port}
client_id = "site"
timeout_s = 2
smx = [{{ prefix = "home/SMX", device_id = "home", meter_id = "{BATTERY.hex()}" }}]
steered = [{{ topic = "home/battery", meter_id = "{BATTERY.hex()}" }}]
"""


class Homes:
    """Three homes of which each draws its baseline, less what its device makes of its schedule."""

    def __init__(self, heater, charger, battery, publisher):
        self.heater, self.charger, self.battery, self.publisher = heater, charger, battery, publisher
        self.battery_wh = 1_000_000

    def live_through(self, isp: int) -> None:
        """All that happens in an ISP; registers are as at its end."""
        self.heater.set_interval(HEATER, isp, BASELINE_WH, 0)
        limit_w = self.charger.limit(1, isp_start(isp))
        self.charger.connectors[1].import_wh += round(min(limit_w, 6_000) / 4)
        self.battery_wh += self.battery.net_wh(isp, BASELINE_WH)

    async def report(self, boundary: int) -> None:
        """What the charge point and the SMX send at a boundary; Modbus is polled."""
        await self.charger.measure(1)
        state = SmxState(import_wh=self.battery_wh)
        at = isp_start(boundary)
        await asyncio.to_thread(self.publisher.publish, "home/SMX", state, measured_at=at)


def held(site, meter_id, cause):
    """The schedule of a meter once its device holds it."""
    with site.store.read() as connection:
        command = commands_covering(connection, ISP).get(meter_id)
    ok = command is not None and command.status is CommandStatus.HELD and cause in command.cause
    return command if ok else None


def alarms(site, kind):
    return {alarm.subject for alarm in site.alarms if alarm.kind == kind}


async def live(folder, node, suite, clock, broker, heater):
    async with asyncio.timeout(150):
        port = free_port()
        write_site(folder, [node.url], devices=devices_toml(heater, broker, port), confirmations=1)
        config = load(folder)
        site = Site(config, clock=clock)
        stop = asyncio.Event()
        running = asyncio.create_task(site.run(stop))
        await until(lambda: site.port)
        try:
            with (
                MqttDeviceSimulator(broker.host, broker.port, "home/battery", follow_bps=BPS // 5) as battery,
                SmxPublisher(broker.host, broker.port) as publisher,
            ):
                url = f"ws://127.0.0.1:{port}/ocpp"
                password = config.device[1].charge_points[0].password.read()
                async with SimulatedChargePoint(url, "CP1", password, version="1.6", clock=clock) as charger:
                    homes = Homes(heater, charger, battery, publisher)
                    await steer(site, suite, clock, homes)
        finally:
            stop.set()
            await running


async def steer(site, suite, clock, homes):
    flex = await asyncio.to_thread(sell_days_before, site, suite, clock)
    at = await asyncio.to_thread(flex.dispatch_both)
    for meter_id in (HEATER, CHARGER):
        command = await until(lambda m=meter_id: held(site, m, "orders"))
        assert at <= command.received_at <= command.acknowledged_at <= at + 60
    assert [homes.heater.meters[HEATER].setpoints_w[isp] for isp in (ISP - 1, ISP, ISP + 1)] == [0, -2_000, -2_000]
    assert [homes.charger.limit(1, isp_start(isp)) for isp in (ISP - 1, ISP, ISP + 2)] == [11_000, 4_000, 11_000]

    # On the day the market has left something open: direct control of the third home, whose device is deaf at first.
    clock.pass_time((ISP - 2) * 900 + 600 - unix(clock))
    homes.battery.deaf = True
    at = await asyncio.to_thread(flex.control_directly, 2, ORDERED, "transformer overloaded")
    await until(lambda: any("did not repeat" in (error or "") for error in open_errors(site)))
    assert held(site, BATTERY, "") is None
    homes.battery.deaf = False
    command = await until(lambda: held(site, BATTERY, "direct control"))
    assert at <= command.received_at <= command.acknowledged_at <= at + 60
    assert homes.battery.setpoints_w[ISP] == -2_000
    await site._look_up()
    (regime,) = json.loads(await asyncio.to_thread(fetch, site, "/regimes")).values()
    assert (regime["regime"], regime["reason"]) == ("orange", "transformer overloaded")
    metrics = await asyncio.to_thread(fetch, site, "/metrics")
    assert 'gridpact_oracle_grid_regime{congestion_point="' in metrics

    # Delivery: the third home follows a fifth of its order, then all of it.
    for isp in (ISP - 1, ISP, ISP + 1):
        clock.pass_time((isp + 1) * 900 - 4 - unix(clock))
        if isp == ISP + 1:
            homes.battery.follow_bps = BPS
        homes.live_through(isp)
        await clock.sleep_until(isp_start(isp + 1))
        await homes.report(isp + 1)
        if isp >= ISP:
            delivered = await until(lambda i=isp: readings_at(site, i))
            assert [BASELINE_WH - delivered[m] for m in METER_IDS[:3]] == [500, 500, 100 if isp == ISP else 500]
            expected = {BATTERY.hex()} if isp == ISP else set()
            await until(lambda e=expected: alarms(site, "device does not follow") == e)
    assert alarms(site, "schedule not acknowledged") == alarms(site, "baseline unknown") == set()
    said = json.loads(await asyncio.to_thread(fetch, site, "/orders"))
    assert [(d["isp"], d["due_wh"], d["delivered_wh"]) for d in said if d["meter_id"] == "0x" + BATTERY.hex()] == [
        (ISP, 500, 100),
        (ISP + 1, 500, 500),
    ]
    assert len(said) == 6
    # Of all ways in, asked and unasked.
    assert {site.registration.state_of(meter_id) for meter_id in METER_IDS[:3]} == {DeviceState.COLLECTING}


def sell_days_before(site, suite, clock):
    """A market day on which the aggregator sold two thirds of what the DSO asked for."""
    connections = enrol(suite, SiteKeys(site.config).addresses, DAY.first_isp - 1_000)
    # Aggregator and DSO keep their baselines to themselves; the site has what the chain shows.
    others = open_store(Path(site.config.store).with_name("others.db"))
    flex = FlexDay(suite, others, DAY, METER_IDS, connections, BASELINE_WH)
    agreements = [flex.agree(connections[home]) for home in range(2)]
    sold = {position: 2 * wh for position, wh in ORDERED.items()}
    flex_order_id = flex.sell({p: 3 * wh for p, wh in ORDERED.items()}, sold, clock.pass_time)
    parts = {(agreements[0], HEATER): ORDERED, (agreements[1], CHARGER): ORDERED}
    flex.dispatch_both = lambda: flex.dispatch(flex_order_id, parts)
    return flex


def readings_at(site, isp):
    """Import of the three homes in an ISP [Wh], when all of them are there."""
    with site.store.read() as connection:
        found = {row.meter_id: row.import_wh for row in readings_of_isp(connection, isp)}
    return found if found.keys() >= set(METER_IDS[:3]) else None


def open_errors(site):
    with site.store.read() as connection:
        return [item.last_error for item in open_items(connection, TOPIC)]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_site_brings_orders_and_direct_control_to_devices_and_says_who_follows(tmp_path):
    clock = MovableClock((DAY.first_isp - 8 * 96) * 900)
    with Anvil(timestamp=unix(clock)) as node, running_broker(tmp_path) as broker:
        suite = clock.suite = deploy(node, tmp_path)
        suite.chain.request("evm_setIntervalMining", 1)

        async def main():
            async with ModbusMeterSimulator(METER_IDS, clock=clock) as heater:
                await live(tmp_path, node, suite, clock, broker, heater)

        asyncio.run(main())
