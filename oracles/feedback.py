"""Who follows its orders: what ordered meters delivered of what was due, and an alarm for who does not.

An order pins the hash of the baseline that it is measured by, and the contract had the curve itself brought and proven
against its commitment when it was issued (decision 0003). So the curve stands in the call data of that transaction, and
is known by its hash there, whoever sent it: an aggregator, a wallet contract or a relayer around its call.
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from eth_hash.auto import keccak

from offchain.domain.curves import unpack_baseline
from offchain.domain.units import BPS, delivered_wh
from offchain.store import Store
from offchain.store.documents import Document, get_document, put_document
from offchain.store.readings import ReadingRow, readings_at
from oracles.alarms import Alarms
from oracles.clock import Clock, unix
from oracles.orders import OrderState

BASELINE_DOCUMENT = "order_baseline"
"""Packed baseline of an order, under the hash that its terms pin."""
BASELINE_BYTES_PER_ISP = 4
NOT_FOLLOWING, NO_BASELINE = "device does not follow", "baseline unknown"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a meter delivered of what was due in one ISP [Wh], less than zero when it went the other way."""

    order_id: int
    meter_id: bytes
    isp: int
    due_wh: int
    delivered_wh: int


class ExecutionFeedback:
    """Deliveries of a site's meters; may be used by threads."""

    def __init__(self, store: Store, clock: Clock, alarms: Alarms):
        self._store = store
        self._clock = clock
        self._alarms = alarms
        self._orders: Mapping[int, OrderState] = {}
        self._baselines: dict[bytes, list[int]] = {}
        self._searched: set[str] = set()
        self._lock = threading.Lock()

    def learn(self, orders: Mapping[int, OrderState]) -> None:
        """Take up the orders that there are now; what is on disk of those that are new is judged."""
        with self._lock:
            before, self._orders = self._orders, orders
            ordered = {order.meter_id for order in orders.values()}
            for order in before.values():
                if order.meter_id not in ordered:
                    for kind in (NOT_FOLLOWING, NO_BASELINE):
                        self._alarms.clear(kind, order.meter_id.hex())
            pinned = {order.terms["baselineHash"] for order in orders.values()}
            self._baselines = {key: curve for key, curve in self._baselines.items() if key in pinned}
            with self._store.read() as connection:
                for key in pinned - self._baselines.keys():
                    if (found := get_document(connection, BASELINE_DOCUMENT, key)) is not None:
                        self._baselines[key] = unpack_baseline(found.content)
            self._judge({order.meter_id for order_id, order in orders.items() if order_id not in before})

    def unproven(self) -> list[str]:
        """Hashes of the transactions that should show the baselines that are not known yet."""
        with self._lock:
            wanted = {tx for order in self._without_baseline() for tx in order.proven_in}
            return sorted(wanted - self._searched)

    def prove(self, call_data: Mapping[str, bytes]) -> int:
        """Find baselines in the call data of transactions, by hash; returns how many.

        An alarm is on for meters whose transaction shows none: a contract made it up on the way.
        """
        with self._lock:
            found: dict[bytes, bytes] = {}
            meters: set[bytes] = set()
            for order in self._without_baseline():
                key, length = order.terms["baselineHash"], BASELINE_BYTES_PER_ISP * order.terms["ispCount"]
                curves = (bytes_under(key, length, call_data[tx]) for tx in order.proven_in if tx in call_data)
                if (curve := next(filter(None, curves), None)) is not None:
                    found[key] = curve
                    meters.add(order.meter_id)
            now = unix(self._clock)
            with self._store.write() as connection:
                for key, curve in found.items():
                    put_document(connection, Document(BASELINE_DOCUMENT, key, curve, now))
            self._baselines |= {key: unpack_baseline(curve) for key, curve in found.items()}
            self._searched |= call_data.keys()
            for order in self._without_baseline():
                if self._searched.issuperset(order.proven_in):
                    text = "the transaction of its order does not show it; whether the device follows is not known"
                    self._alarms.set(NO_BASELINE, order.meter_id.hex(), text)
            self._judge(meters)
            return len(found)

    def see(self, rows: Iterable[ReadingRow]) -> None:
        """Judge the meters of readings that have just been accepted and for which something was due."""
        with self._lock:
            isps: dict[bytes, list[int]] = {}
            for row in rows:
                isps.setdefault(row.meter_id, []).append(row.isp)
            self._judge(
                {
                    order.meter_id
                    for order in self._orders.values()
                    for isp in isps.get(order.meter_id, ())
                    if order.first_isp <= isp < order.end_isp and order.due_wh(isp - order.first_isp)
                }
            )

    def deliveries(self, meter_ids: Iterable[bytes] | None = None) -> list[Delivery]:
        """What ordered meters (all when ``None``) delivered so far, by ISP; without reading or baseline, nothing."""
        wanted = None if meter_ids is None else frozenset(meter_ids)
        due = [
            (order_id, order, position, due_wh, baseline_wh[position])
            for order_id, order in self._orders.items()
            if (baseline_wh := self._baselines.get(order.terms["baselineHash"])) is not None
            and (wanted is None or order.meter_id in wanted)
            for position in range(order.end_isp - order.first_isp)
            if (due_wh := order.due_wh(position))
        ]
        with self._store.read() as connection:
            rows = readings_at(connection, [(order.first_isp + pos, order.meter_id) for _, order, pos, _, _ in due])
        found = []
        for order_id, order, position, due_wh, expected_wh in due:
            isp = order.first_isp + position
            if (row := rows.get((isp, order.meter_id))) is not None:
                delivered = delivered_wh(order.direction, expected_wh, row.import_wh - row.export_wh)
                found.append(Delivery(order_id, order.meter_id, isp, due_wh, delivered))
        return sorted(found, key=lambda delivery: (delivery.isp, delivery.meter_id))

    def _without_baseline(self) -> list[OrderState]:
        return [order for order in self._orders.values() if order.terms["baselineHash"] not in self._baselines]

    def _judge(self, meter_ids: set[bytes]) -> None:
        """Alarms by the last ISP of each meter, so that readings that come late change nothing about it."""
        if not meter_ids:
            return
        for delivery in {delivery.meter_id: delivery for delivery in self.deliveries(meter_ids)}.values():
            subject = delivery.meter_id.hex()
            tolerated_wh = delivery.due_wh * self._orders[delivery.order_id].terms["toleranceBps"] // BPS
            if delivery.delivered_wh + tolerated_wh >= delivery.due_wh:
                self._alarms.clear(NOT_FOLLOWING, subject)
                continue
            of = f"{delivery.delivered_wh} of {delivery.due_wh} Wh"
            self._alarms.set(NOT_FOLLOWING, subject, f"{of} in ISP {delivery.isp}, order {delivery.order_id}")


def bytes_under(key: bytes, length: int, call_data: bytes) -> bytes | None:
    """ABI-encoded bytes of a length in call data whose keccak-256 is ``key``, however deep they are wrapped."""
    head = length.to_bytes(32)
    start = call_data.find(head)
    while start >= 0:
        content = call_data[start + 32 : start + 32 + length]
        if keccak(content) == key:
            return content
        start = call_data.find(head, start + 1)
    return None
