"""The ports that sources implement, and the kinds of values that they deliver.

Cumulative registers and interval energies become certified readings; observations are telemetry for control and
for the near-real-time channel, and are never settled. External values are weather and prices: inputs of forecasts and
schedules.
"""

from collections.abc import AsyncIterator
from enum import IntEnum, StrEnum
from typing import NamedTuple, Protocol


class MeterReading(NamedTuple):
    """Cumulative registers of a meter at one moment.

    Attributes
    ----------
    meter_id : bytes
        Salted commitment to the serial number, 32 bytes.
    read_at : int
        When the gateway read them [UTC s].
    meter_clock : int or None
        What the meter's own clock said [UTC s]; ``None`` when it has none.
    import_register_wh, export_register_wh : int
        Active energy taken from the grid (OBIS 1.8.0) and given to it (2.8.0) since installation [Wh].
    faulty : bool
        Whether the meter reports a fault of itself.
    modulus_wh : int or None
        Where both registers start again from zero [Wh]; ``None`` when they never do.
    """

    meter_id: bytes
    read_at: int
    meter_clock: int | None
    import_register_wh: int
    export_register_wh: int
    faulty: bool = False
    modulus_wh: int | None = None


class IntervalEnergy(NamedTuple):
    """Energy of one ISP as a device or a file states it, or as its power adds up, for devices without registers.

    Attributes
    ----------
    isp : int
        ISP index, floor(unix / 900).
    import_wh, export_wh : int
        Energy taken from the grid and given to it in that ISP [Wh].
    reported_at : int
        When it was received [UTC s]; a later report of the same ISP is a correction.
    integrated : bool
        Whether it was added up here from values of the power.
    """

    meter_id: bytes
    isp: int
    import_wh: int
    export_wh: int
    reported_at: int
    integrated: bool = False


class SignedEnergy(NamedTuple):
    """As :class:`IntervalEnergy`, signed by the device itself (EIP-712 ``Reading`` of the metering ledger)."""

    meter_id: bytes
    isp: int
    import_wh: int
    export_wh: int
    reported_at: int
    signature: bytes


class Quantity(StrEnum):
    """What an observation says, with its unit; power is positive when it is taken from the grid or by the device.

    The phase angle is the one by which the current lags behind the voltage, or that of a phasor.
    """

    ACTIVE_POWER = "active_power_w"
    REACTIVE_POWER = "reactive_power_var"
    REACTIVE_ENERGY_Q1 = "reactive_energy_q1_varh"
    REACTIVE_ENERGY_Q2 = "reactive_energy_q2_varh"
    REACTIVE_ENERGY_Q3 = "reactive_energy_q3_varh"
    REACTIVE_ENERGY_Q4 = "reactive_energy_q4_varh"
    SESSION_ENERGY = "session_energy_wh"
    VOLTAGE = "voltage_v"
    CURRENT = "current_a"
    PHASE_ANGLE = "phase_angle_deg"
    FREQUENCY = "frequency_hz"
    STATE_OF_CHARGE = "state_of_charge_percent"
    RANGE = "range_km"
    TIME_TO_FULL = "time_to_full_min"
    PLUGS_IN_USE = "plugs_in_use"
    STATUS = "status"
    TEMPERATURE = "temperature_c"
    IRRADIANCE = "irradiance_w_m2"
    WIND_SPEED = "wind_speed_m_s"
    CLOUD_COVER = "cloud_cover_percent"
    HUMIDITY = "relative_humidity_percent"
    PRECIPITATION = "precipitation_mm"
    PRICE = "price_utoken_per_kwh"


class DeviceStatus(IntEnum):
    """Value of an observation of ``Quantity.STATUS``."""

    UNAVAILABLE = 0
    AVAILABLE = 1
    CONNECTED = 2
    CHARGING = 3
    SUSPENDED = 4
    RESERVED = 5
    FAULTED = 6


class Observation(NamedTuple):
    """One value of telemetry.

    Attributes
    ----------
    device_id : str
        Name of the device in the configuration of the site.
    phase : int
        1 to 3, or 0 for the whole device.
    observed_at, received_at : int
        When it was measured by the device's clock, and when it arrived [UTC s].
    """

    device_id: str
    quantity: Quantity
    phase: int
    value: float
    observed_at: int
    received_at: int


class ExternalValue(NamedTuple):
    """Weather or a price, measured or forecast, over ``[event_start, event_end)``.

    Attributes
    ----------
    series : str
        Name in the configuration of the site: a place or a price zone.
    event_start, event_end : int
        When it holds [UTC s]; both the same for a value of a moment.
    value : float or int
        In the unit of the quantity; a price is an integer.
    belief_time : int
        Since when it was known [UTC s]: later beliefs of the same event replace earlier ones from then on.
    source : str
        Who says so.
    """

    series: str
    quantity: Quantity
    event_start: int
    event_end: int
    value: float | int
    belief_time: int
    source: str


class EventSource(Protocol):
    """Devices that speak on their own: a broker, a central system, a context broker, a file that is replayed."""

    def values(self) -> AsyncIterator[MeterReading | IntervalEnergy | SignedEnergy | Observation | ExternalValue]:
        """Values as they come, for ever or until the source is exhausted; reconnects on its own, and raises
        ``PermanentError`` only when going on is pointless (credentials refused, file malformed)."""
        ...

    def taken(self, count: int) -> None:
        """The first ``count`` of the delivered values that were not taken before are on disk. Only then does the source
        acknowledge them to who sent them: what was not taken comes again after a crash. Take what there is
        at least every second; who sends may wait for it."""
        ...

    async def probe(self) -> str:
        """Reach the other side once, without ``values``, and say what answered.
        Raises ``TransientError`` or ``PermanentError``."""
        ...


class MeterSource(Protocol):
    """One meter that can be asked. Both methods raise ``TransientError`` or ``PermanentError``."""

    @property
    def meter_id(self) -> bytes: ...

    async def probe(self) -> str:
        """Check that the right device answers and return its serial number."""
        ...

    async def read(self) -> MeterReading:
        """Read the cumulative registers now."""
        ...
