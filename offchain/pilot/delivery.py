"""The day itself: devices follow orders, meters are read, what fails is reassigned (LL-UC08, LL-UC09)."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from offchain.chain.signatures import metering_domain
from offchain.domain.curves import pack_quantities, unpack_baseline
from offchain.domain.isp import ISPS_PER_HOUR, isp_start
from offchain.domain.units import BPS, Direction
from offchain.flexibility.commitments import CommittedCurves
from offchain.flexibility.orders import OrderBook, ProsumerOrder
from offchain.flexibility.reassigning import reassign, shortfall_wh
from offchain.optimisation.direct_control import ControllableConnection, plan_direct_control
from offchain.pilot.planning import DayAhead
from offchain.pilot.world import World
from offchain.store.batches import Batch
from oracles.batching import Batcher
from oracles.clock import SimulatedClock
from oracles.coordinator import EndpointCoordinator
from oracles.downlink import ModbusDownlink, Setpoints, dispatch
from oracles.gateway import SiteGateway
from oracles.normalise import MeteringPoint
from oracles.pipeline import MeteringPipeline
from oracles.signer import GatewayKeys
from oracles.simulators.modbus_meters import Fault, ModbusMeterSimulator
from oracles.sources.modbus import ModbusEndpoint, ModbusMeterSource
from oracles.sources.register_map import REFERENCE_MAP

log = logging.getLogger(__name__)

ORANGE, GREEN = 2, 0
REASSIGN_FROM_WH = 100
"""Smallest shortfall in an ISP beyond the tolerance that an aggregator reassigns [Wh]."""


@dataclass
class Delivery:
    """What happened on the day.

    Attributes
    ----------
    faults : dict
        Meter id to what was wrong with its device or meter.
    shortfalls : int
        Readings that showed a shortfall beyond the tolerance.
    direct_group_id : int or None
        Direct control of the DSO, if the market fell short.
    direct_wh : ndarray
        Ordered directly per ISP [Wh].
    """

    faults: dict[bytes, str] = field(default_factory=dict)
    shortfalls: int = 0
    direct_group_id: int | None = None
    direct_wh: np.ndarray | None = None


def run_day(world: World, ahead: DayAhead, book: OrderBook, at_isp: Callable[[int], None]) -> Delivery:
    """Live through the delivery day in simulated time, with real protocols.

    Parameters
    ----------
    at_isp : callable
        Called at the beginning of every ISP with its position, when all before it are read.
    """
    return asyncio.run(_Site(world, ahead, book, at_isp).live())


class _Site:
    """Meters and devices of the grid, the gateway that reads them, the box that steers them."""

    def __init__(self, world: World, ahead: DayAhead, book: OrderBook, at_isp: Callable[[int], None]):
        self.world, self.ahead, self.book, self.at_isp = world, ahead, book, at_isp
        self.result = Delivery(direct_wh=np.zeros(world.day.isp_count, dtype=np.int64))
        cast, day = world.cast, world.day
        self.meter_ids = [p.meter_id for p in cast.prosumers]
        self.position = {meter_id: i for i, meter_id in enumerate(self.meter_ids)}
        self.natural_wh = world.scenario.net_wh(day)
        self.flexible_wh = {
            direction: world.scenario.by_connection(world.scenario.flexible_wh(day, direction))
            for direction in Direction
        }
        self.clock = SimulatedClock(isp_start(day.first_isp))
        self.simulator = ModbusMeterSimulator(self.meter_ids, clock=self.clock, seed=world.config.seed)
        domain = metering_domain(world.chain.chain_id, world.suite.address("MeteringLedger"))
        self.keys = GatewayKeys(domain, {p.meter_id: p.device.secret for p in cast.prosumers})
        self.silent_from: dict[bytes, int] = {}

    async def live(self) -> Delivery:
        self._draw_faults()
        day = self.world.day
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.simulator)
            sources, downlinks = await self._connect(stack)
            gateway = self._gateway(sources)
            await gateway.read_boundary()
            down = range(*(self.world.config.faults.oracle_down or (0, 0)))
            for position, isp in enumerate(day.isps):
                self._start_isp(position)
                await self._steer(isp, position, downlinks)
                self._pass_time(isp, position)
                if position in down:
                    # What was in the memory of a stopped oracle is lost; what it accepted is in the store.
                    gateway = self._gateway(sources)
                else:
                    report = await gateway.read_boundary()
                    self._watch(report.ingest.accepted)
                if position == self._last_needed():
                    self._close_regime()
                self.world.progress("metering the day", position + 1, day.isp_count)
        return self.result

    # ------------------------------------------------------------------ site

    def _gateway(self, sources: list[list[ModbusMeterSource]]) -> SiteGateway:
        pipeline = MeteringPipeline(self.world.store, self._points(), self.keys, self.clock)
        return SiteGateway([EndpointCoordinator(s) for s in sources], pipeline, self.clock)

    async def _connect(
        self, stack: AsyncExitStack
    ) -> tuple[list[list[ModbusMeterSource]], dict[bytes, ModbusDownlink]]:
        """One endpoint per server, one source per meter, one downlink per device."""
        endpoints: dict[tuple[str, int], ModbusEndpoint] = {}
        sources: dict[tuple[str, int], list[ModbusMeterSource]] = {}
        downlinks = {}
        for meter_id in self.meter_ids:
            host, port, unit_id = self.simulator.address_of(meter_id)
            if (host, port) not in endpoints:
                endpoints[host, port] = await stack.enter_async_context(ModbusEndpoint(host, port))
            endpoint = endpoints[host, port]
            source = ModbusMeterSource(endpoint, unit_id, meter_id, REFERENCE_MAP, self.clock)
            sources.setdefault((host, port), []).append(source)
            downlinks[meter_id] = ModbusDownlink(endpoint, unit_id, meter_id, REFERENCE_MAP, self.clock)
        return list(sources.values()), downlinks

    def _points(self) -> list[MeteringPoint]:
        """Plausibility limits: what all devices of a connection take and give at once, half as much again."""
        points = []
        for meter_id, connection in zip(self.meter_ids, self.world.scenario.connections, strict=True):
            assets = [self.world.scenario.assets[i] for i in connection.assets]
            peak_w = round(1.5 * sum(a.max_import_w + a.max_export_w for a in assets)) + 10_000
            points.append(MeteringPoint(meter_id, peak_w, peak_w))
        return points

    def _draw_faults(self) -> None:
        """The seeded few among those with an order that fall short, fail, or lose their meter."""
        rng = np.random.default_rng([self.world.config.seed, 4])
        faults = self.world.config.faults
        ordered = sorted({order.meter_id for order in self.book.orders.values()})
        drawn = [ordered[i] for i in rng.permutation(len(ordered))]
        total = len(drawn)
        for meter_id in _take(drawn, faults.short, total):
            self.simulator.meters[meter_id].follow_bps = int(rng.integers(BPS // 5, BPS * 3 // 5))
            self.result.faults[meter_id] = "falls short"
        for meter_id in _take(drawn, faults.failing, total):
            self.simulator.meters[meter_id].follow_bps = 0
            self.result.faults[meter_id] = "does not follow"
        for meter_id in _take(drawn, faults.silent, total):
            window = self._window(meter_id)
            self.silent_from[meter_id] = window[len(window) // 2]
            self.result.faults[meter_id] = "meter silent from the middle of the delivery"
        for meter_id in _take(drawn, faults.dead, total):
            self.silent_from[meter_id] = 0
            self.result.faults[meter_id] = "meter dead all day"

    def _window(self, meter_id: bytes) -> list[int]:
        """Positions at which a meter has an order."""
        return sorted(
            {
                p
                for order in self.book.orders.values()
                if order.meter_id == meter_id
                for p, q in enumerate(order.quantities_wh())
                if q
            }
        )

    # ------------------------------------------------------------------ one ISP

    def _start_isp(self, position: int) -> None:
        # A second into the ISP, so that what happens "now" belongs to it.
        self.world.clock.advance_to(self.world.time_of(position * 900 + 1))
        for meter_id, start in self.silent_from.items():
            if start == position:
                self.simulator.set_fault(meter_id, Fault.OFFLINE)
        if position == 0 and self.ahead.uncovered_wh.any():
            self._control_directly()
        self.at_isp(position)

    async def _steer(self, isp: int, position: int, downlinks: dict[bytes, ModbusDownlink]) -> None:
        """Each home's energy manager brings net consumption to the baseline less (UP) what was ordered."""
        setpoints = []
        for meter_id, quantity_wh, direction, baseline_wh in self._due(position):
            change_wh = self._change_wh(meter_id, position, quantity_wh, direction, baseline_wh)
            if change_wh:
                setpoints.append(Setpoints(meter_id, isp, [change_wh * ISPS_PER_HOUR]))
        if setpoints:
            # A device whose meter does not answer does not hear either: it is in the second result.
            await dispatch(downlinks, setpoints, attempts=1)

    def _due(self, position: int) -> list[tuple[bytes, int, Direction, int]]:
        """Meter, due quantity, direction and baseline of everybody with an order now."""
        due: dict[bytes, tuple[int, Direction, int]] = {}
        for order in self.book.orders.values():
            quantity_wh = order.quantities_wh()[position]
            if quantity_wh:
                baseline_wh = unpack_baseline(self._baseline(order))[position]
                due[order.meter_id] = (quantity_wh, Direction(order.terms["direction"]), baseline_wh)
        return [(meter_id, *rest) for meter_id, rest in due.items()]

    def _change_wh(
        self, meter_id: bytes, position: int, quantity_wh: int, direction: Direction, baseline_wh: int
    ) -> int:
        """Change of net consumption that reaches the target, within what the devices can do [Wh]."""
        column = self.position[meter_id]
        natural_wh = int(self.natural_wh[position, column])
        able_wh = int(self.flexible_wh[direction][position, column])
        if direction is Direction.UP:
            return -min(max(natural_wh - (baseline_wh - quantity_wh), 0), able_wh)
        return min(max(baseline_wh + quantity_wh - natural_wh, 0), able_wh)

    def _pass_time(self, isp: int, position: int) -> None:
        for meter_id, column in self.position.items():
            net_wh = int(self.natural_wh[position, column])
            self.simulator.set_interval(meter_id, isp, max(net_wh, 0), max(-net_wh, 0))
        self.clock.advance_to(isp_start(isp + 1))
        self.world.clock.advance_to(self.world.time_of((position + 1) * 900))

    def _watch(self, readings: Sequence) -> None:
        """Check what was just read against the orders; hand on what is missing."""
        by_meter = {reading.meter_id: reading for reading in readings}
        for order_id in sorted(self.book.orders):
            order = self.book.orders[order_id]
            reading = by_meter.get(order.meter_id)
            if reading is None or order.terms["agreementId"] == 0:
                continue
            missing_wh = shortfall_wh(order, self._baseline(order), reading)
            if not missing_wh:
                continue
            self.result.shortfalls += 1
            if missing_wh < REASSIGN_FROM_WH or order.group_id not in self.ahead.standby:
                continue
            aggregator, _ = self.ahead.flex_orders[order.group_id]
            reassign(
                self.world.suite,
                self.world.cast.aggregators[aggregator],
                lambda order_id=order_id: self.book.orders[order_id],
                reading,
                self._baseline(order),
                self.ahead.standby[order.group_id],
                lambda receipt: self.book.add(self.world.suite, [receipt], at=self.world.clock.now()),
            )

    # ------------------------------------------------------------------ direct control

    def _control_directly(self) -> None:
        """Orange: what the market left open is ordered from connections within their technical limits."""
        world, ahead, day = self.world, self.ahead, self.world.day
        direction = ahead.need.direction
        need_wh = ahead.uncovered_wh.copy()
        need_wh[:2] = 0  # what has begun cannot be ordered any more
        ordered = {order.meter_id for order in self.book.orders.values()}
        possible = self.flexible_wh[direction] if direction is Direction.DOWN else self._curtailable_wh()
        connections = [
            ControllableConnection(f"{i:06d}", possible[:, i])
            for i, meter_id in enumerate(self.meter_ids)
            if meter_id not in ordered
        ]
        plan = plan_direct_control(need_wh, connections)
        if not plan.curves_wh:
            return
        reason = f"market left {int(need_wh.sum())} Wh open at {ahead.need.element}"
        world.send(
            world.cast.dso,
            "GridRegime",
            "setRegime",
            world.congestion_point_id,
            ORANGE,
            day.end_isp,
            ahead.request_id,
            reason,
        )
        committed = ahead.committed[-1]
        orders = []
        for key, curve in plan.curves_wh.items():
            prosumer = world.cast.prosumers[int(key)]
            orders.append(
                {
                    "connectionId": prosumer.connection_id,
                    "quantitiesWh": pack_quantities(curve),
                    "baselineWh": committed.packed[prosumer.meter_id],
                    "baselineProof": committed.proofs[prosumer.meter_id],
                }
            )
            self.result.direct_wh += curve
        receipt = world.send(
            world.cast.dso,
            "GridRegime",
            "orderDirect",
            world.congestion_point_id,
            committed.commitment_id,
            orders,
            reason,
        )
        self.book.add(world.suite, [receipt], at=world.clock.now())
        self.result.direct_group_id = world.suite.event(receipt, "DirectGroupOpened").args["groupId"]

    def _curtailable_wh(self) -> np.ndarray:
        """What the DSO can take off per connection and ISP: expected flexible use within the limits."""
        expected = np.maximum(self.ahead.forecast.expected_wh, 0).astype(np.int64)
        return np.minimum(expected, self.flexible_wh[Direction.UP])

    def _last_needed(self) -> int | None:
        """Last position for which flexibility was requested."""
        needed = [] if self.ahead.need is None else np.flatnonzero(self.ahead.need.quantity_wh)
        return int(needed[-1]) if len(needed) else None

    def _close_regime(self) -> None:
        """Green again once the congestion is over, unless the regime ends by itself just now."""
        world = self.world
        if world.call("GridRegime", "regimeOf", world.congestion_point_id) != GREEN:
            world.send(
                world.cast.dso,
                "GridRegime",
                "setRegime",
                world.congestion_point_id,
                GREEN,
                0,
                0,
                "congestion is over",
            )

    def _baseline(self, order: ProsumerOrder) -> bytes:
        return baselines_of(self.world, self.ahead, order).packed[order.meter_id]


def baselines_of(world: World, ahead: DayAhead, order: ProsumerOrder) -> CommittedCurves:
    """Committed baselines of an order: its aggregator's, or the DSO's for direct orders."""
    agreement_id = order.terms["agreementId"]
    return ahead.committed[world.member_of[agreement_id][1] if agreement_id else -1]


def close_day(world: World) -> Batch:
    """Close the metered day: sign every meter-day, build the batch, hand it to the outbox.

    The next version when readings came in or changed since.
    """
    cast = world.cast
    domain = metering_domain(world.chain.chain_id, world.suite.address("MeteringLedger"))
    keys = GatewayKeys(domain, {p.meter_id: p.device.secret for p in cast.prosumers})
    meter_ids = [p.meter_id for p in cast.prosumers]
    return Batcher(world.store, cast.operator.address, meter_ids, keys, clock_of(world)).close_day(world.day)


def clock_of(world: World) -> SimulatedClock:
    """Clock of the oracles, at the time of the chain."""
    return SimulatedClock(datetime.fromtimestamp(world.clock.now(), UTC))


def _take(drawn: list[bytes], share: float, total: int) -> list[bytes]:
    """The next few of a drawn list, which shrinks: a share of ``total``, see :class:`Faults`."""
    count = round(share * total)
    taken, drawn[:] = drawn[:count], drawn[count:]
    return taken
