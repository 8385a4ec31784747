"""The port that every source of metered values implements."""

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
    register_bits : int
        Width of both registers; they wrap at ``2 ** register_bits``.
    faulty : bool
        Whether the meter reports a fault of itself.
    """

    meter_id: bytes
    read_at: int
    meter_clock: int | None
    import_register_wh: int
    export_register_wh: int
    register_bits: int
    faulty: bool


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
