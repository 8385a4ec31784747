"""The daemon of a site: collects, batches, publishes, steers, until it is told to stop.

Each task runs by itself and is started again when it fails, so that what one cannot do leaves the others alone: with no
chain readings are collected, with a full disk they wait in memory, with a dead meter the others are read.
"""

import asyncio
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

from offchain.chain.record import DeploymentRecord
from offchain.chain.signatures import metering_domain
from offchain.domain.errors import FlexError, TransientError
from offchain.domain.isp import SECONDS_PER_ISP, MarketDay, isp_of, isp_start
from offchain.store import open_store
from offchain.store.batches import BatchKind, recent_batches
from offchain.store.readings import first_reading
from oracles.alarms import Alarms
from oracles.batching import Batcher
from oracles.chainlink import ChainLink
from oracles.clock import Clock, SteadyClock, unix
from oracles.config import CHAIN_ID_FIELD, SiteConfig
from oracles.external import store_external
from oracles.gateway import SiteGateway
from oracles.keys import SiteKeys, open_operator
from oracles.limits import RateLimit
from oracles.live import LiveChannel
from oracles.pipeline import IngestReport, MeteringPipeline, Value
from oracles.power import PowerIntegration, PowerMeter
from oracles.regimes import RegimePeriod
from oracles.registration import DeviceState, Registration
from oracles.serving import serving
from oracles.sources.port import EventSource, ExternalValue
from oracles.steering import Steering
from oracles.wiring import Devices, open_devices

log = logging.getLogger(__name__)

INTAKE_AT_ONCE = 2_000
INTAKE_WITHIN_S = 0.2
"""Values of an event source that are stored in one transaction, and how long the first of them may wait."""
LONGEST_PAUSE_S = 60.0
INTRADAY_PATIENCE_ISPS = 4
"""How long an ISP without any reading is waited for; what comes later is in the batch of the day."""
PROBE_EVERY_S = 300
LOOK_UP_EVERY_S = 600
HOUSEKEEPING_S = 60
POWER_EVERY_S = 10
POLLED = "polled"


class Site:
    """One site. Make it, :meth:`run` it once.

    Parameters
    ----------
    config : SiteConfig
    clock : Clock, optional
        Default is the machine's, steadied.
    sources : mapping, optional
        Event sources beside those of the configuration, by name.
    """

    def __init__(
        self, config: SiteConfig, *, clock: Clock | None = None, sources: Mapping[str, EventSource] | None = None
    ):
        self.config = config
        self.clock = clock or SteadyClock()
        self.alarms = Alarms(self.clock)
        record = DeploymentRecord.read(config.chain.deployment)
        record.require_chain(config.chain.chain_id, CHAIN_ID_FIELD)
        domain = metering_domain(config.chain.chain_id, record.addresses["MeteringLedger"])
        keys = SiteKeys(config)
        addresses = keys.addresses
        self.operator = open_operator(config.operator)
        self.points = [m.point(addresses[m.meter_id] if m.signs_itself else None) for m in config.meter]
        self.store = open_store(config.store)
        signer = keys.signer(domain)
        limit = config.limits
        self.live = LiveChannel(
            self.store,
            self.clock,
            retention_s=config.live.retention_s,
            limit=RateLimit(limit.values_per_minute, limit.burst),
        )
        self.pipeline = MeteringPipeline(
            self.store,
            self.points,
            signer,
            self.clock,
            domain=domain,
            live=self.live,
            limit=RateLimit(limit.values_per_minute, limit.burst),
        )
        meter_ids = [point.meter_id for point in self.points]
        self.batcher = Batcher(self.store, self.operator.address, meter_ids, signer, self.clock, points=self.points)
        self.chain = ChainLink(config, record, self.operator, self.store, self.clock, self.alarms)
        self.power = PowerIntegration(
            self.store,
            [
                PowerMeter(point, m.power_of, m.power_pause_s)
                for m, point in zip(config.meter, self.points, strict=True)
                if m.power_of is not None
            ],
            self.clock,
        )
        self.registration = Registration(self.store, self.operator.address, addresses, self.clock)
        self.pipeline.suspended = self.registration.by_hand
        self.steering: Steering | None = None
        self.accepted: Counter[str] = Counter()
        self.corrected = 0
        self.restarts: Counter[str] = Counter()
        self.last_boundary: int | None = None
        self.chain_seen_at: int | None = None
        self.congestion_points: frozenset[bytes] = frozenset()
        self.port: int | None = None
        self._sources = dict(sources or {})
        self._open_days: set[MarketDay] = set()
        self._days_lock = threading.Lock()
        self._next_isp: int | None = None
        self._open_isps: set[int] = set()

    # ------------------------------------------------------------------ running

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; then finish what has begun, write everything down and return."""
        async with AsyncExitStack() as stack:
            stack.callback(self.store.close)
            devices = await stack.enter_async_context(open_devices(self.config, self.clock))
            devices.events |= self._sources
            devices.unlimited |= self._sources.keys()
            self.steering = Steering(self.store, self.registration.steps, devices.downlinks, self.clock, self.alarms)
            self.port = await stack.enter_async_context(serving(self))
            gateway = SiteGateway(devices.coordinators, self.pipeline, self.clock, on_boundary=self._polled)
            tasks = {
                "batching": lambda: self._every("batching", self.config.batching.every_s, self._close_periods),
                "publishing": lambda: self._every("publishing", self.config.publishing.every_s, self._publish),
                "following": lambda: self._every("following", self.config.publishing.every_s, self._follow),
                "downlink": lambda: self._every("downlink", 1, self.steering.deliver),
                "live": lambda: self._every("live", self.config.live.save_every_s, self._save_live),
                "registration": lambda: self._every("registration", LOOK_UP_EVERY_S, self._look_up),
                "housekeeping": lambda: self._every("housekeeping", HOUSEKEEPING_S, self._keep_house),
            }
            if devices.coordinators:
                tasks["polling"] = gateway.run
                tasks["probing"] = lambda: self._every("probing", PROBE_EVERY_S, lambda: self._probe(devices))
            if self.power.meters:
                tasks["power"] = lambda: self._every("power", POWER_EVERY_S, self._integrate)
            for name, source in devices.events.items():
                limited = name not in devices.unlimited
                tasks[f"source {name}"] = partial(self._take_in, name, source, limited)
            running = [asyncio.create_task(self._keep_running(name, work)) for name, work in tasks.items()]
            log.info("site %s runs: %d meters", self.config.name, len(self.points))
            try:
                await stop.wait()
            finally:
                log.info("site %s stops", self.config.name)
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
                await self._write_down(gateway)

    async def _write_down(self, gateway: SiteGateway) -> None:
        """What is still in memory goes to the store; the chain gets a last chance to take what waits."""
        last = (gateway.flush, self._save_live, self._save_rejections, self._close_periods, self._publish)
        for work in last:
            try:
                await asyncio.wait_for(work(), timeout=20)
            except (FlexError, TimeoutError) as error:
                log.warning("at the end: %s", error or "no answer in time")

    async def _keep_running(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run a task for ever; after a failure again, later each time."""
        failures = 0
        while True:
            started = time.monotonic()
            try:
                await work()
                return
            except FlexError as error:
                self.alarms.set("failing", name, str(error))
            except Exception:
                log.exception("task %s failed unexpectedly", name)
                self.alarms.set("failing", name, "unexpected error, see the log")
            self.restarts[name] += 1
            failures = 1 if time.monotonic() - started > LONGEST_PAUSE_S else failures + 1
            await asyncio.sleep(min(0.5 * 2**failures, LONGEST_PAUSE_S) * random.uniform(0.5, 1.0))

    async def _every(self, name: str, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            await work()
            self.alarms.clear("failing", name)
            await asyncio.sleep(seconds)

    # ------------------------------------------------------------------ values

    def _polled(self, report: IngestReport, failures: Mapping[bytes, FlexError]) -> None:
        self.last_boundary = isp_of(self.clock.now())
        for meter_id, error in failures.items():
            self.alarms.set("meter does not answer", meter_id.hex(), str(error))
        self._stored(report, POLLED)

    def _stored(self, report: IngestReport, source: str) -> None:
        """What follows from readings that are on disk."""
        self.accepted[source] += len(report.accepted)
        self.corrected += report.corrected
        for row in report.accepted:
            self.alarms.clear("meter does not answer", row.meter_id.hex())
        changed = {self._day_of(isp) for isp in {row.isp for row in report.accepted}}
        with self._days_lock:
            self._open_days |= changed
        self.registration.see_readings({row.meter_id for row in report.accepted}, unasked=source != POLLED)
        if self.steering is not None:
            self.steering.feedback.see(report.accepted)

    async def _take_in(self, name: str, source: EventSource, limited: bool) -> None:
        """Values of one event source into the store, acknowledged when they are there."""
        queue: asyncio.Queue[Value] = asyncio.Queue(maxsize=INTAKE_AT_ONCE)
        reader = asyncio.create_task(_fill(queue, source))
        try:
            while True:
                values = await _gather(queue, reader)
                if not values:
                    await reader  # raises what ended it
                    return
                await self._store_values(name, values, limited)
                self.alarms.clear("failing", f"source {name}")
                source.taken(len(values))
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _store_values(self, name: str, values: list[Value], limited: bool) -> None:
        pause_s = 0.5
        while True:
            try:
                report = await asyncio.to_thread(self._ingest, name, values, limited)
            except TransientError as error:
                self.alarms.set("store", "readings", str(error))
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            else:
                self.alarms.clear("store", "readings")
                await asyncio.to_thread(self._stored, report, name)
                return

    def _ingest(self, name: str, values: list[Value | ExternalValue], limited: bool) -> IngestReport:
        external = [value for value in values if isinstance(value, ExternalValue)]
        if external:
            store_external(self.store, external)
        own = (value for value in values if not isinstance(value, ExternalValue))
        return self.pipeline.ingest(own, source=name, limited=limited)

    async def _integrate(self) -> None:
        await self._save_live()
        if energies := await asyncio.to_thread(self.power.energies):
            await self._store_values("power", energies, False)

    async def _save_live(self) -> None:
        await asyncio.to_thread(self.live.save)

    async def _save_rejections(self) -> None:
        await asyncio.to_thread(self.pipeline.save_rejections)

    # ------------------------------------------------------------------ batches and chain

    def _day_of(self, isp: int) -> MarketDay:
        return MarketDay.of(isp_start(isp).astimezone(self.config.zone).date(), self.config.time_zone)

    async def _close_periods(self) -> None:
        await asyncio.to_thread(self.close_periods)

    def close_periods(self) -> None:
        """Put everything that is over and not in a batch yet into one."""
        now, config = unix(self.clock), self.config.batching
        if self._next_isp is None:
            self._resume(now)
        if config.intraday:
            while (self._next_isp + 1) * SECONDS_PER_ISP + config.isp_grace_s <= now:
                self._open_isps.add(self._next_isp)
                self._next_isp += 1
            for isp in sorted(self._open_isps):
                if self.batcher.close_isp(isp) is not None or isp < now // SECONDS_PER_ISP - INTRADAY_PATIENCE_ISPS:
                    self._open_isps.discard(isp)
        oldest = self._day_of(now // SECONDS_PER_ISP).day - timedelta(days=config.correction_days)
        with self._days_lock:
            over = {d for d in self._open_days if d.end_isp * SECONDS_PER_ISP + config.day_grace_s <= now}
            self._open_days -= over  # what comes in while they are closed puts them back
        for day in sorted(over, key=lambda day: day.first_isp):
            if day.day < oldest:
                self.alarms.set("too late", str(day.day), "readings came after the days of correction were over")
                continue
            try:
                self.batcher.close_day(day)
            except FlexError:
                with self._days_lock:
                    self._open_days.add(day)
                raise

    def _resume(self, now: int) -> None:
        """After a start: days that may have something new, and the first ISP without a batch."""
        running = now // SECONDS_PER_ISP
        today = self._day_of(running)
        with self.store.read() as connection:
            known = recent_batches(connection, self.operator.address, running - 96 * 7)
            first = first_reading(connection)
        back = [today.day - timedelta(days=days) for days in range(self.config.batching.correction_days + 1)]
        with self._days_lock:
            for day in (MarketDay.of(day, self.config.time_zone) for day in back):
                if first is not None and day.end_isp > first:
                    self._open_days.add(day)
        closed = [b.first_isp for b in known if b.kind is BatchKind.INTRADAY]
        self._next_isp = max(closed) + 1 if closed else running if first is None else max(first, running - 96)

    async def _publish(self) -> None:
        report = await asyncio.to_thread(self.chain.publish)
        self.chain_seen_at = unix(self.clock)
        if report.confirmed:
            first_isp = unix(self.clock) // SECONDS_PER_ISP - 96 * (self.config.batching.correction_days + 2)
            await asyncio.to_thread(self.chain.reconcile, first_isp)

    async def _follow(self) -> None:
        events = await asyncio.to_thread(self.chain.follow)
        await asyncio.to_thread(self.steering.learn, events)
        feedback = self.steering.feedback
        if unproven := feedback.unproven():
            shown = await asyncio.to_thread(self.chain.call_data, unproven)
            await asyncio.to_thread(feedback.prove, shown)

    # ------------------------------------------------------------------ devices and order in the house

    def regimes(self) -> dict[bytes, RegimePeriod]:
        """Regime of each congestion point that has meters of this site, where the DSO has ever set one."""
        known = {} if self.steering is None else self.steering.regimes
        return {point: period for point, period in known.items() if point in self.congestion_points}

    async def _look_up(self) -> None:
        seen = await asyncio.to_thread(self.chain.look_up, list(self.registration.steps))
        self.congestion_points = frozenset(
            state.congestion_point for state in seen.values() if any(state.congestion_point)
        )
        await asyncio.to_thread(self.registration.see_chain, seen)

    async def _probe(self, devices: Devices) -> None:
        """Ask every meter who it is; another one in its place is not read, until it is put right."""
        steps = self.registration.steps
        retired = {meter_id for meter_id, step in steps.items() if step.state == DeviceState.RETIRED}
        resting = retired | self.registration.by_hand
        wrong = set()
        for meter_id, source in devices.meters.items():
            if meter_id in resting:
                continue
            try:
                said = await source.probe()
            except TransientError:
                continue  # the next poll says so
            except FlexError as error:
                wrong.add(meter_id)
                self.alarms.set("wrong meter", meter_id.hex(), str(error))
            else:
                self.alarms.clear("wrong meter", meter_id.hex())
                self.registration.see_probe(meter_id, said)
        for coordinator in devices.coordinators:
            coordinator.paused = wrong | resting

    def _refresh_devices(self) -> None:
        self.registration.refresh()
        self.pipeline.suspended = self.registration.by_hand

    async def _keep_house(self) -> None:
        await asyncio.to_thread(self._refresh_devices)
        await self._save_rejections()
        if isinstance(self.clock, SteadyClock):
            if self.clock.jumped:
                self.alarms.set("clock", "machine", "it jumped; the site goes on without it until the chain agrees")
            else:
                self.alarms.clear("clock", "machine")


async def _fill(queue: asyncio.Queue, source: EventSource) -> None:
    async for value in source.values():
        await queue.put(value)


async def _gather(queue: asyncio.Queue, reader: asyncio.Task) -> list[Value]:
    """Values that have come: the first as soon as it is there, more for a short while; none when no more will come."""
    values: list[Value] = []
    deadline = None
    while len(values) < INTAKE_AT_ONCE:
        if not queue.empty():
            values.append(queue.get_nowait())
            deadline = deadline or time.monotonic() + INTAKE_WITHIN_S
            continue
        left_s = None if deadline is None else deadline - time.monotonic()
        if left_s is not None and left_s <= 0:
            break
        if reader.done():
            break
        getter = asyncio.create_task(queue.get())
        await asyncio.wait({getter, reader}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if getter.done():
            values.append(getter.result())
            deadline = deadline or time.monotonic() + INTAKE_WITHIN_S
        else:
            getter.cancel()
            await asyncio.gather(getter, return_exceptions=True)
    return values
