"""Registers in, signed readings on disk: normalise, validate, sign, store, in one transaction per poll."""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from offchain.store import Store
from offchain.store.readings import (
    ReadingRow,
    RegisterState,
    insert_readings,
    load_register_states,
    save_register_states,
)
from oracles.clock import Clock, unix
from oracles.normalise import MeteringPoint, NormaliserSettings, Rejection, normalise
from oracles.signer import DeviceSigner
from oracles.sources.port import MeterReading

log = logging.getLogger(__name__)

_ORDINARY = (Rejection.FIRST, Rejection.DUPLICATE, Rejection.OUT_OF_ORDER)


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of one poll: readings accepted and on disk, and rejections by reason."""

    accepted: list[ReadingRow]
    rejected: Counter[Rejection]


class MeteringPipeline:
    """Turns polls into stored readings.

    The register state of every meter is stored with the readings that it led to, so that a process that was
    killed goes on where it stopped, and reading the same boundary twice changes nothing.

    Parameters
    ----------
    points : iterable of MeteringPoint
        Meters that belong here; others are rejected.
    source : str
        Where the values come from, stored with each of them.
    """

    def __init__(
        self,
        store: Store,
        points: Iterable[MeteringPoint],
        signer: DeviceSigner,
        clock: Clock,
        *,
        source: str = "modbus",
        settings: NormaliserSettings | None = None,
    ):
        self.store = store
        self.points = {point.meter_id: point for point in points}
        self._signer = signer
        self._clock = clock
        self._source = source
        self._settings = settings or NormaliserSettings()
        self._troubled: dict[bytes, Rejection] = {}
        with store.read() as connection:
            self._states: dict[bytes, RegisterState] = load_register_states(connection)

    def ingest(self, readings: Iterable[MeterReading]) -> IngestReport:
        """Accept a poll; everything in ``accepted`` is on disk when this returns.

        When the store raises ``TransientError`` nothing of the poll was accepted and it can be given again.
        """
        belief_time = unix(self._clock)
        states: dict[bytes, RegisterState] = {}
        rows: list[ReadingRow] = []
        rejected: Counter[Rejection] = Counter()
        for reading in readings:
            meter_id = reading.meter_id
            if (point := self.points.get(meter_id)) is None:
                rejected[Rejection.UNKNOWN_METER] += 1
                continue
            previous = states.get(meter_id) or self._states.get(meter_id)
            energy, rejection, state = normalise(point, previous, reading, self._settings)
            if state is not None:
                states[meter_id] = state
            if energy is None:
                rejected[rejection] += 1
                self._note_trouble(meter_id, rejection)
                continue
            if meter_id in self._troubled:
                log.info("meter %s: readings again (%s before)", meter_id.hex(), self._troubled.pop(meter_id))
            signature = self._signer.sign_reading(meter_id, energy.isp, energy.import_wh, energy.export_wh)
            rows.append(ReadingRow(*energy, signature, belief_time, self._source))
        if states:
            with self.store.write() as connection:
                insert_readings(connection, rows)
                save_register_states(connection, states.values())
            self._states.update(states)
        return IngestReport(rows, rejected)

    def _note_trouble(self, meter_id: bytes, rejection: Rejection) -> None:
        """Log a rejection when it is new for the meter; the counters of the report tell the rest."""
        if rejection in _ORDINARY or self._troubled.get(meter_id) is rejection:
            return
        self._troubled[meter_id] = rejection
        log.warning("meter %s: no reading, %s", meter_id.hex(), rejection)
