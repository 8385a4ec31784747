"""Smart Meter Extension: what its topics, its snapshot and values such as ``004.280k`` mean.

A meter publishes each quantity as ``<prefix>/<logical device>/<OBIS code>/-2`` with the formatted value as payload,
for example ``BBB6038/SMX/LD01/1-1-32-7-0-255/-2`` and ``238.638``, and may publish all at once as a JSON snapshot on
``<prefix>``. ``-9`` is the same value unformatted and is not read. Source: eDREAM D2.5, Annex IV.

=====================  ============  =======================================
OBIS (C.D.E)           phases        meaning
=====================  ============  =======================================
32, 52, 72 .7.0        1, 2, 3       voltage
31, 51, 71 .7.0        1, 2, 3       current
16, 36, 56, 76 .7.0    0, 1, 2, 3    active power, taken from the grid positive
3, 23, 43, 63 .7.0     0, 1, 2, 3    reactive power
14.7.0                 0             frequency
1.8.0, 2.8.0           0             import and export register ("received" and "delivered": by the customer)
5, 6, 7, 8 .8.0        0             reactive energy of quadrants 1 to 4
1.0.0                  0             clock of the meter, UTC
=====================  ============  =======================================

A payload says nothing about when it was measured. The clock object dates the values that follow it, each once; in a
snapshot ``.SERVER_TIME`` does (UTC, unlike ``.REQUEST_TIME``). Values without either are refused, unless the meter is
configured to be dated by arrival. As registers are cumulative, a refused round loses no energy: the next one brings it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field

from oracles.sources.config import MeterId
from oracles.sources.delivery import Value
from oracles.sources.first_of_isp import FirstOfIsp, read_moment
from oracles.sources.port import MeterReading, Observation, Quantity

MODULUS_WH = 10**9
"""The device shows six digits of kWh before the point: registers start again at a million kWh."""

PAIR_S = 5
"""How far apart import and export of one reading may arrive when nothing dates them [s]: the period of the device."""

_IMPORT, _EXPORT, _CLOCK = "1-8-0", "2-8-0", "1-0-0"

_OBIS: dict[str, tuple[Quantity, int]] = {
    f"{code}-0": (quantity, phase)
    for quantity, codes in {
        Quantity.VOLTAGE: {"32-7": 1, "52-7": 2, "72-7": 3},
        Quantity.CURRENT: {"31-7": 1, "51-7": 2, "71-7": 3},
        Quantity.ACTIVE_POWER: {"16-7": 0, "36-7": 1, "56-7": 2, "76-7": 3},
        Quantity.REACTIVE_POWER: {"3-7": 0, "23-7": 1, "43-7": 2, "63-7": 3},
        Quantity.FREQUENCY: {"14-7": 0},
        Quantity.REACTIVE_ENERGY_Q1: {"5-8": 0},
        Quantity.REACTIVE_ENERGY_Q2: {"6-8": 0},
        Quantity.REACTIVE_ENERGY_Q3: {"7-8": 0},
        Quantity.REACTIVE_ENERGY_Q4: {"8-8": 0},
    }.items()
    for code, phase in codes.items()
}

OBIS_OF_NAME: dict[str, str] = (
    {f"Rms Voltage L{phase}-N": f"{12 + 20 * phase}-7-0" for phase in (1, 2, 3)}
    | {f"Rms Current L{phase}-N": f"{11 + 20 * phase}-7-0" for phase in (1, 2, 3)}
    | {f"Active Power Phase L{phase}": f"{16 + 20 * phase}-7-0" for phase in (1, 2, 3)}
    | {f"Fundamental Reactive Power Phase L{phase}": f"{3 + 20 * phase}-7-0" for phase in (1, 2, 3)}
    | {f"Q{quadrant} Reactive Energy": f"{4 + quadrant}-8-0" for quadrant in (1, 2, 3, 4)}
    | {
        "Active Power 3-Phase": "16-7-0",
        "Fundamental Reactive Power 3-Phase": "3-7-0",
        "Frequency": "14-7-0",
        "Received Active Energy": _IMPORT,
        "Delivered Active Energy": _EXPORT,
    }
)
"""OBIS code (C-D-E) of a name in the snapshot."""

_PREFIX = {"": Decimal(1), "m": Decimal("0.001"), "k": Decimal(1000), "M": Decimal(10**6), "G": Decimal(10**9)}
_NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*([mkMG]?)(Wh|VArh|VAr|varh|var|VA|W|V|A|Hz|%)?", re.ASCII)


def number(text: str, unit: str = "") -> Decimal:
    """Value of a formatted number in its unit without prefix.

    Parameters
    ----------
    text : str
        Such as ``988.267``, ``004.280k`` or ``12.5 kWh``.
    unit : str
        Unit when the text names none, such as ``kWh``.

    Raises
    ------
    ValueError
        Not a number, ``n/a`` included; or a bare prefix before a unit that has one itself.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a number: {text!r}")
    digits, prefix, own_unit = match.groups()
    if own_unit is None and unit[:1] == "k":
        if prefix:
            raise ValueError(f"{text!r} of {unit} may mean two things")
        prefix = "k"
    return Decimal(digits) * _PREFIX[prefix]


class SmxMeter(BaseModel, extra="forbid", frozen=True):
    """One meter behind an SMX.

    Attributes
    ----------
    prefix : str
        Topic below which it publishes, such as ``BBB6038/SMX``.
    device_id : str
        Its name at the site.
    meter_id : bytes, optional
        When given, its registers become meter readings.
    dated_by : str
        ``meter`` (clock object or snapshot), or ``arrival`` for a device that publishes no time.
    """

    prefix: str = Field(min_length=1, pattern=r"^[^+#]*[^+#/]$")
    device_id: str = Field(min_length=1)
    meter_id: MeterId | None = None
    dated_by: Literal["meter", "arrival"] = "meter"

    @property
    def topics(self) -> list[str]:
        """What to subscribe to."""
        return [self.prefix, f"{self.prefix}/", f"{self.prefix}/+/+/-2"]


class SmxDecoder:
    """Messages of one meter to values.

    Attributes
    ----------
    refused : Counter
        Messages that brought nothing, by reason.
    """

    def __init__(self, meter: SmxMeter):
        self.meter = meter
        self.refused: Counter[str] = Counter()
        self._clock: int | None = None
        self._dated: set[str] = set()
        self._first = FirstOfIsp()
        self._registers: dict[str, tuple[int, int]] = {}

    def forget(self) -> None:
        """Begin anew on a new connection: what the broker sends again may follow another clock message."""
        self._clock = None
        self._dated.clear()
        self._registers.clear()

    def decode(self, topic: str, payload: bytes, received_at: int) -> list[Value]:
        """Values of one message that arrived at ``received_at`` [UTC s]."""
        try:
            parts = topic.removeprefix(self.meter.prefix).strip("/").split("/")
            if parts == [""]:
                return self._snapshot(orjson.loads(payload), received_at)
            code = "-".join(parts[1].split("-")[2:5])
            text = payload.decode("ascii")
            if code == _CLOCK:
                self._clock = _utc(text)
                self._dated.clear()
                return []
            if code in self._dated:
                self._clock = None
            self._dated.add(code)
            unit = "kWh" if "-8-" in code else ""
            return self._values([(code, number(text, unit))], self._clock, received_at)
        except (ValueError, IndexError, TypeError, AttributeError):
            self.refused["malformed"] += 1
            return []

    def _snapshot(self, snapshot: Mapping[str, Any], received_at: int) -> list[Value]:
        measured_at = _utc(snapshot[".SERVER_TIME"]) if ".SERVER_TIME" in snapshot else None
        numbers = []
        for name, code in OBIS_OF_NAME.items():
            entry = snapshot.get(name, {"value": "n/a"})
            if entry["value"] == "n/a":
                continue
            try:
                numbers.append((code, number(str(entry["value"]), entry.get("unit", ""))))
            except ValueError:
                self.refused["malformed"] += 1  # a broken sensor does not keep the registers back
        return self._values(numbers, measured_at, received_at)

    def _values(self, numbers: Iterable[tuple[str, Decimal]], measured_at: int | None, received_at: int) -> list[Value]:
        if measured_at is None and self.meter.dated_by == "meter":
            self.refused["undated"] += 1
            return []
        at = received_at if measured_at is None else measured_at
        values: list[Value] = []
        for code, value in numbers:
            if code in _OBIS:
                quantity, phase = _OBIS[code]
                values.append(Observation(self.meter.device_id, quantity, phase, float(value), at, received_at))
            elif code in (_IMPORT, _EXPORT) and self.meter.meter_id is not None:
                self._registers[code] = int(value), at
                values += self._reading(self.meter.meter_id, measured_at, received_at)
        return values

    def _reading(self, meter_id: bytes, measured_at: int | None, received_at: int) -> list[MeterReading]:
        if len(self._registers) < 2:
            return []
        (import_wh, import_at), (export_wh, export_at) = self._registers[_IMPORT], self._registers[_EXPORT]
        if abs(import_at - export_at) > (PAIR_S if measured_at is None else 0):
            return []
        self._registers.clear()
        read_at = received_at if measured_at is None else read_moment(measured_at, received_at)
        reading = MeterReading(meter_id, read_at, measured_at, import_wh, export_wh, modulus_wh=MODULUS_WH)
        return [reading] if self._first.admits(reading) else []


def _utc(text: str) -> int:
    moment = datetime.fromisoformat(text.strip())
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
