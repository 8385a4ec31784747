"""From prosumer orders on chain to schedules that devices hold; whether they follow them says ``feedback.py``.

What a meter has to do in a market day follows from the orders that are on chain for it now: ordered quantity less what
standby took over, UP as less net consumption, DOWN as more; direct control in an orange regime is ordered the same way,
and a command says by whom and why. Whenever that
changes (an order, a cancellation, a reassignment, a reorg that took one of them back) the whole schedule of the day is
written down as a command and sent until the device holds it.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from offchain.chain.events import Event
from offchain.domain.errors import FlexError
from offchain.domain.isp import ISPS_PER_HOUR, SECONDS_PER_ISP
from offchain.domain.units import Direction
from offchain.store import Store
from offchain.store.commands import (
    Command,
    CommandStatus,
    add_command,
    commands_covering,
    get_command,
    set_command_status,
)
from offchain.store.outbox import OutboxItem, enqueue, mark_dead, mark_done, mark_failed, open_items
from oracles.alarms import Alarms
from oracles.clock import Clock, unix
from oracles.downlink import Acknowledgement, Setpoints
from oracles.feedback import ExecutionFeedback
from oracles.orders import OrderState, orders_of
from oracles.regimes import RegimePeriod, regimes_of

log = logging.getLogger(__name__)

TOPIC = "downlink"
ACKNOWLEDGE_WITHIN_S = 60
LONGEST_PAUSE_S = 15
LONGEST_CAUSE = 64
JUDGED_FOR_S = 2 * 86_400
"""How long after its day an order is kept for readings that come late."""
FIRST_DIRECT_GROUP = 1 << 63
"""Groups from here on are direct control events, see ``IFlexDispatch``."""


class Downlink(Protocol):
    """A device that takes schedules."""

    async def send(self, setpoints: Setpoints) -> Acknowledgement:
        """Return once the device holds the schedule; safe to repeat. ``TransientError``, ``PermanentError``."""
        ...


@dataclass(slots=True)
class DeliveryReport:
    """Schedules of one pass that devices hold now, that will be tried again, and that were given up."""

    held: int = 0
    waiting: int = 0
    expired: int = 0
    delays_s: list[int] = field(default_factory=list)


class Steering:
    """Downlink of a site.

    Parameters
    ----------
    meter_ids : iterable of bytes
        Meters of this site; orders of others are ignored.
    downlinks : mapping
        Devices that take schedules, by meter id.
    """

    def __init__(
        self,
        store: Store,
        meter_ids: Iterable[bytes],
        downlinks: Mapping[bytes, Downlink],
        clock: Clock,
        alarms: Alarms,
    ):
        self._store = store
        self._meter_ids = frozenset(meter_ids)
        self._downlinks = downlinks
        self._clock = clock
        self._alarms = alarms
        self._orders: dict[int, OrderState] = {}
        self._direct: set[int] = set()
        self.feedback = ExecutionFeedback(store, clock, alarms)
        self.regimes: dict[bytes, RegimePeriod] = {}

    def learn(self, events: Sequence[Event]) -> int:
        """Take up everything that the chain says about orders now; returns how many schedules changed.

        Parameters
        ----------
        events : sequence of Event
            All of ``orders.EVENTS``, ``orders.LISTS`` and ``regimes.EVENTS`` that the chain has, oldest first; not only
            those that are new, since a reorg may have taken some back.
        """
        now = unix(self._clock)
        orders = orders_of(events, self._meter_ids).items()
        self._orders = {order_id: order for order_id, order in orders if not order.is_over(now, since_s=JUDGED_FOR_S)}
        self._note_direct_control(events)
        self.regimes = regimes_of(events)
        schedules = self._schedules(now)
        changed = 0
        with self._store.write() as connection:
            running = now // SECONDS_PER_ISP
            for meter_id, command in commands_covering(connection, running).items():
                schedules.setdefault((meter_id, command.first_isp), [0] * len(command.powers_w))
            for (meter_id, first_isp), powers_w in sorted(schedules.items()):
                held = commands_covering(connection, first_isp).get(meter_id)
                if (held.powers_w if held else (0,) * len(powers_w)) == tuple(powers_w):
                    continue
                cause = self._cause(meter_id, first_isp)
                command_id = add_command(connection, meter_id, first_isp, powers_w, cause, now=now)
                enqueue(connection, f"command:{command_id}", TOPIC, command_id, now=now)
                changed += 1
        self.feedback.learn(self._orders)
        return changed

    def _note_direct_control(self, events: Iterable[Event]) -> None:
        """Log who ordered directly and why, once, if it concerns meters of this site."""
        own = {order.terms["groupId"] for order in self._orders.values()}
        for event in events:
            group_id = event.args.get("groupId")
            if event.name == "DirectControlUsed" and group_id in own and group_id not in self._direct:
                self._direct.add(group_id)
                log.warning("direct control by %s: %s", event.args["dso"], event.args["reason"])

    def _cause(self, meter_id: bytes, first_isp: int) -> str:
        """Orders that a schedule follows from, for the record."""
        day = {
            order_id: order.terms["groupId"] >= FIRST_DIRECT_GROUP
            for order_id, order in self._orders.items()
            if (order.meter_id, order.first_isp) == (meter_id, first_isp)
        }
        words = "direct control, orders" if any(day.values()) else "orders"
        return f"{words} {', '.join(map(str, day)) or 'taken back'}"[:LONGEST_CAUSE]

    def _schedules(self, now: int) -> dict[tuple[bytes, int], list[int]]:
        """Change of net consumption [W] per ISP, by meter and first ISP of the day, of days that are not over."""
        schedules: dict[tuple[bytes, int], list[int]] = {}
        for order in self._orders.values():
            if order.is_over(now):
                continue
            count = order.end_isp - order.first_isp
            powers_w = schedules.setdefault((order.meter_id, order.first_isp), [0] * count)
            sign = -1 if order.direction is Direction.UP else 1
            for position in range(count):
                powers_w[position] += sign * order.due_wh(position) * ISPS_PER_HOUR
        return schedules

    async def deliver(self) -> DeliveryReport:
        """One pass over the schedules that devices do not hold yet."""
        report = DeliveryReport()
        now = unix(self._clock)
        with self._store.read() as connection:
            due = [
                (item, get_command(connection, item.subject_id))
                for item in open_items(connection, TOPIC)
                if item.is_due(now, LONGEST_PAUSE_S)
            ]
        by_meter: defaultdict[bytes, list[tuple[OutboxItem, Command]]] = defaultdict(list)
        for item, command in due:
            by_meter[command.meter_id].append((item, command))
        await asyncio.gather(*(self._deliver_in_turn(commands, report) for commands in by_meter.values()))
        return report

    async def _deliver_in_turn(self, commands: list[tuple[OutboxItem, Command]], report: DeliveryReport) -> None:
        """Schedules of one device, today's before tomorrow's: it takes them at one place."""
        for item, command in sorted(commands, key=lambda pair: pair[1].first_isp):
            await self._deliver(item, command, report)

    async def _deliver(self, item: OutboxItem, command: Command, report: DeliveryReport) -> None:
        now = unix(self._clock)
        subject = command.meter_id.hex()
        if command.status is not CommandStatus.OPEN:
            self._close(item, command, command.status, now)
            return
        if command.end_isp * SECONDS_PER_ISP <= now:
            self._close(item, command, CommandStatus.EXPIRED, now, "the day was over before the device answered")
            report.expired += 1
            return
        try:
            if command.meter_id not in self._downlinks:
                raise FlexError("no device takes schedules at this meter", hint="add its setpoint registers")
            await self._downlinks[command.meter_id].send(
                Setpoints(command.meter_id, command.first_isp, command.powers_w)
            )
        except FlexError as error:
            pause_s = max(1, round(min(2**item.attempts, LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)))
            with self._store.write() as connection:
                mark_failed(connection, item.id, str(error), next_attempt=now + pause_s)
            report.waiting += 1
            if now - command.received_at >= ACKNOWLEDGE_WITHIN_S:
                self._alarms.set("schedule not acknowledged", subject, str(error))
            return
        done = unix(self._clock)
        with self._store.write() as connection:
            # An order may have replaced it while it was being written; then the newer one follows at once.
            if get_command(connection, command.id).status is CommandStatus.OPEN:
                set_command_status(connection, command.id, CommandStatus.HELD, acknowledged_at=done)
            mark_done(connection, item.id, now=done)
        self._alarms.clear("schedule not acknowledged", subject)
        report.held += 1
        report.delays_s.append(done - command.received_at)

    def _close(self, item: OutboxItem, command: Command, status: CommandStatus, now: int, detail: str = "") -> None:
        with self._store.write() as connection:
            if status is CommandStatus.EXPIRED:
                set_command_status(connection, command.id, status, detail)
                mark_dead(connection, item.id, detail)
            else:
                mark_done(connection, item.id, now=now)
