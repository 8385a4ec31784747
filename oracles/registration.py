"""Life of a device: installed, registered, accredited, communication tested, collecting, suspended, retired.

=====================  ======================================================================================
step                   what must be seen
=====================  ======================================================================================
installed              it is in the site's configuration
registered             ``MeterRegistry`` has it, read by this operator
accredited             the key that signs for it is the registered one, its connection is active, the operator
                       holds its role and its bond
communication tested   it answered with the serial number and registers that were expected
collecting             a reading of it was accepted
suspended              the operator lost its role or bond, or somebody suspended the device here
retired                ``MeterRegistry`` has taken it out of service
=====================  ======================================================================================

A step is taken only from the one before; what is seen no longer takes the device back to where it still holds. Every
step is kept in the store with what was seen.
"""

import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from offchain.chain.contracts import Suite
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.store import Store
from offchain.store.devices import DeviceStep, latest_steps, record_step
from oracles.clock import Clock, unix

log = logging.getLogger(__name__)

METER_OPERATOR = 5
"""``IParticipantRegistry.Role.MeterOperator``."""


class DeviceState(StrEnum):
    INSTALLED = "installed"
    REGISTERED = "registered"
    ACCREDITED = "accredited"
    TESTED = "communication tested"
    COLLECTING = "collecting"
    SUSPENDED = "suspended"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class OnChain:
    """What the chain says of a meter, and of the operator that reads it."""

    operator: str
    device_key: str
    end_isp: int
    connection_active: bool
    operator_in_order: bool
    congestion_point: bytes = bytes(32)


NOBODY = "0x" + "00" * 20


def look_up(suite: Suite, operator: str, meter_ids: Iterable[bytes]) -> dict[bytes, OnChain]:
    """State of many meters on chain, in few requests."""
    meter_ids = list(meter_ids)
    has_role, bond, minimum = suite.call_all(
        [
            ("ParticipantRegistry", "hasRole", (operator, METER_OPERATOR)),
            ("MeteringLedger", "bondOf", (operator,)),
            ("MeteringLedger", "minimumBond", ()),
        ]
    )
    meters = suite.call_all([("MeterRegistry", "meter", (meter_id,)) for meter_id in meter_ids])
    connections = suite.call_all([("GridRegistry", "connection", (meter["connectionId"],)) for meter in meters])
    in_order = has_role and bond >= minimum
    return {
        meter_id: OnChain(
            meter["operator"],
            meter["deviceKey"],
            meter["endIsp"],
            connection["active"],
            in_order,
            connection["congestionPointId"],
        )
        for meter_id, meter, connection in zip(meter_ids, meters, connections, strict=True)
    }


class Objection(NamedTuple):
    """What speaks against a step, and what to do."""

    step: DeviceState
    text: str
    hint: str


def objections(seen: OnChain, operator: str, key: str | None) -> list[Objection]:
    """What speaks against each step, the earliest first; empty when the device may collect.

    Parameters
    ----------
    key : str or None
        Address of the key that the gateway signs with; ``None`` for a device that signs itself.
    """
    found = []
    if seen.operator == NOBODY:
        register = f"the operator registers it with key {key} (MeterRegistry.registerMeter)"
        return [Objection(DeviceState.REGISTERED, "not in MeterRegistry", register)]
    if seen.operator != operator:
        text = f"read by {seen.operator}, this site is {operator}"
        found.append(Objection(DeviceState.REGISTERED, text, "use the key of that operator, or correct the meter id"))
    if key is not None and seen.device_key != key:
        text = f"registered key {seen.device_key}, the gateway signs with {key}"
        replace = "restore the gateway's key file, or replace the registered key (MeterRegistry.replaceDeviceKey)"
        found.append(Objection(DeviceState.ACCREDITED, text, replace))
    if not seen.connection_active:
        text = "its connection is not active in GridRegistry"
        found.append(Objection(DeviceState.ACCREDITED, text, "ask the DSO, who took it out of service"))
    if not seen.operator_in_order:
        text = "the operator lacks its role or its bond"
        found.append(Objection(DeviceState.ACCREDITED, text, "see what is said of role and bond"))
    return found


class Registration:
    """Steps of the devices of a site."""

    def __init__(self, store: Store, operator: str, keys: Mapping[bytes, str | None], clock: Clock):
        self._store = store
        self._operator = operator
        self._keys = dict(keys)
        self._clock = clock
        self._answered: dict[bytes, str] = {}
        self._lock = threading.Lock()
        with store.read() as connection:
            self._steps = latest_steps(connection)
        for meter_id in self._keys:
            if meter_id not in self._steps:
                self._take(meter_id, DeviceState.INSTALLED, "in the configuration of the site")

    def state_of(self, meter_id: bytes) -> DeviceState:
        return DeviceState(self._steps[meter_id].state)

    @property
    def steps(self) -> dict[bytes, DeviceStep]:
        """Where every device of the site stands."""
        return {meter_id: self._steps[meter_id] for meter_id in self._keys}

    @property
    def by_hand(self) -> frozenset[bytes]:
        """Devices that somebody suspended here."""
        return frozenset(meter_id for meter_id, step in self.steps.items() if step.detail.startswith(_BY_HAND))

    def refresh(self) -> None:
        """Take up what another process wrote down, such as ``gridpact oracle suspend``."""
        with self._lock, self._store.read() as connection:
            self._steps = latest_steps(connection)

    def see_chain(self, seen: Mapping[bytes, OnChain]) -> None:
        """Take steps by what the chain says now."""
        now_isp = unix(self._clock) // SECONDS_PER_ISP
        for meter_id, state in seen.items():
            current = self.state_of(meter_id)
            if current is DeviceState.RETIRED:
                continue
            if state.operator != NOBODY and state.end_isp and state.end_isp <= now_isp:
                self._take(meter_id, DeviceState.RETIRED, f"out of service since ISP {state.end_isp}")
                continue
            against = objections(state, self._operator, self._keys[meter_id])
            if against:
                self._step_back(meter_id, current, against[0].step, against[0].text)
                continue
            if current in (DeviceState.INSTALLED, DeviceState.REGISTERED):
                if current is DeviceState.INSTALLED:
                    self._take(meter_id, DeviceState.REGISTERED, f"read by {state.operator}")
                self._accredit(meter_id, f"key {state.device_key}")
            elif current is DeviceState.SUSPENDED and meter_id not in self.by_hand:
                self._accredit(meter_id, "in order again")

    def _accredit(self, meter_id: bytes, detail: str) -> None:
        self._take(meter_id, DeviceState.ACCREDITED, detail)
        if (said := self._answered.get(meter_id)) is not None:
            self.see_probe(meter_id, said)

    def _step_back(self, meter_id: bytes, current: DeviceState, failed: DeviceState, why: str) -> None:
        if failed is DeviceState.ACCREDITED and current is DeviceState.INSTALLED:
            self._take(meter_id, DeviceState.REGISTERED, f"not accredited: {why}")
        elif current not in (DeviceState.INSTALLED, DeviceState.REGISTERED, DeviceState.SUSPENDED):
            self._take(meter_id, DeviceState.SUSPENDED, why)

    def see_probe(self, meter_id: bytes, said: str) -> None:
        """The device answered as expected."""
        self._answered[meter_id] = said
        if self.state_of(meter_id) is DeviceState.ACCREDITED:
            self._take(meter_id, DeviceState.TESTED, f"answered {said!r}" if said else "answered")

    def see_readings(self, meter_ids: Iterable[bytes], *, unasked: bool = False) -> None:
        """Readings of these devices were accepted.

        What a device sends ``unasked`` tests the communication too: there is nobody that could be probed.
        """
        for meter_id in meter_ids:
            if unasked and self.state_of(meter_id) is DeviceState.ACCREDITED:
                self._take(meter_id, DeviceState.TESTED, "sent its first values")
            if self.state_of(meter_id) is DeviceState.TESTED:
                self._take(meter_id, DeviceState.COLLECTING, "first reading accepted")

    def suspend(self, meter_id: bytes, why: str) -> None:
        """By hand; only :meth:`resume` ends it."""
        self._take(meter_id, DeviceState.SUSPENDED, _BY_HAND + why)

    def resume(self, meter_id: bytes) -> None:
        """End a suspension by hand; the chain is asked again before the device collects."""
        self._take(meter_id, DeviceState.INSTALLED, "suspension ended")

    def _take(self, meter_id: bytes, state: DeviceState, detail: str) -> None:
        step = DeviceStep(meter_id, state, unix(self._clock), detail)
        with self._lock:
            with self._store.write() as connection:
                record_step(connection, step)
            self._steps[meter_id] = step
        log.info("device %s: %s (%s)", meter_id.hex(), state, detail)


_BY_HAND = "by hand: "
