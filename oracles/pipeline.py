"""Values in, signed readings on disk: normalise, validate, sign, store, in one transaction per call.

============================  ====================================================================
value                         becomes
============================  ====================================================================
registers                     energy of the ISP that ends at the boundary, see ``normalise.py``
energy of an ISP              a reading; another value for the same ISP later is a correction
energy signed by the device   the same with the device's signature, if it is of the registered key
observation                   telemetry in the near-real-time channel, never a reading
============================  ====================================================================

A correction replaces the reading, and the next version of the day's batch carries it. It is refused once the
signature of the old reading was published with an intraday batch: two signatures of one device that contradict each
other cost the operator its bond (``challengeContradiction``).
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import Connection

from offchain.chain.signatures import READING, InvalidSignatureError, SigningDomain, recover
from offchain.domain.errors import DomainError
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.store import Store
from offchain.store.batches import published_at
from offchain.store.readings import (
    EstimateRow,
    ReadingRow,
    RegisterState,
    correct_readings,
    insert_readings,
    load_register_states,
    load_rejections,
    readings_at,
    save_estimates,
    save_register_states,
    save_rejections,
)
from oracles.clock import Clock, unix
from oracles.estimates import fill_gap
from oracles.limits import RateLimit
from oracles.live import LiveChannel
from oracles.normalise import MeteringPoint, NormaliserSettings, Quality, Rejection, limit_wh, normalise
from oracles.signer import DeviceSigner, reading_message
from oracles.sources.port import IntervalEnergy, MeterReading, Observation, SignedEnergy

log = logging.getLogger(__name__)

Value = MeterReading | IntervalEnergy | SignedEnergy | Observation

UNKNOWN = bytes(32)
"""Stands for every meter that is not of this site in the counters, so that strangers cannot fill them."""

_ORDINARY = (Rejection.FIRST, Rejection.DUPLICATE, Rejection.OUT_OF_ORDER)


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of one poll: readings accepted and on disk (corrections among them), and rejections by reason."""

    accepted: list[ReadingRow]
    rejected: Counter[Rejection]
    corrected: int = 0


@dataclass(slots=True)
class _Work:
    """What one call has gathered before it is stored."""

    states: dict[bytes, RegisterState] = field(default_factory=dict)
    rows: list[ReadingRow] = field(default_factory=list)
    stated: list[IntervalEnergy | SignedEnergy] = field(default_factory=list)
    estimates: list[EstimateRow] = field(default_factory=list)
    rejected: Counter[Rejection] = field(default_factory=Counter)


class MeteringPipeline:
    """Turns values into stored readings.

    The register state of every meter is stored with the readings that it led to, so that a process that was
    killed goes on where it stopped, and reading the same boundary twice changes nothing.

    Parameters
    ----------
    points : iterable of MeteringPoint
        Meters that belong here; others are rejected.
    source : str
        Where the values come from unless :meth:`ingest` is told, stored with each of them.
    domain : SigningDomain or None
        Of the metering ledger; needed only for devices that sign themselves.
    live : LiveChannel or None
        Takes the observations; without it they are dropped.
    limit : RateLimit or None
        Per meter.
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
        domain: SigningDomain | None = None,
        live: LiveChannel | None = None,
        limit: RateLimit | None = None,
    ):
        self.store = store
        self.points = {point.meter_id: point for point in points}
        self._signer = signer
        self._clock = clock
        self._source = source
        self._settings = settings or NormaliserSettings()
        self._domain = domain
        self._live = live
        self._limit = limit
        self.suspended: frozenset[bytes] = frozenset()
        """Meters of which nothing is taken until they are left out of here."""
        self._troubled: dict[bytes, Rejection] = {}
        with store.read() as connection:
            self._states: dict[bytes, RegisterState] = load_register_states(connection)
            self.rejections: Counter[tuple[bytes, str]] = Counter(load_rejections(connection))
        self._unsaved_rejections: set[tuple[bytes, str]] = set()
        self._lock = threading.Lock()

    def ingest(self, values: Iterable[Value], *, source: str | None = None, limited: bool = True) -> IngestReport:
        """Accept values; everything in ``accepted`` is on disk when this returns. May be called by threads.

        When the store raises ``TransientError`` nothing was accepted and the values can be given again.

        Parameters
        ----------
        limited : bool
            Whether a meter may send too much; not for registers that are polled.
        """
        with self._lock:
            return self._ingest(values, source or self._source, limited)

    def _ingest(self, values: Iterable[Value], source: str, limited: bool) -> IngestReport:
        now = unix(self._clock)
        work = _Work()
        observations: list[Observation] = []
        for value in values:
            if isinstance(value, Observation):
                observations.append(value)
            elif (rejection := self._objection(value, now, limited)) is not None:
                self._reject(work, value.meter_id, rejection)
            elif isinstance(value, MeterReading):
                self._from_registers(work, value, now, source)
            else:
                work.stated.append(value)
        if observations and self._live is not None:
            self._live.take(observations)
        corrections: list[tuple[ReadingRow, ReadingRow]] = []
        if work.states or work.stated:
            with self.store.write() as connection:
                # With the write lock: a batch that was made meanwhile is older than what it does not have.
                if (stored_at := unix(self._clock)) != now:
                    work.rows = [row._replace(belief_time=stored_at) for row in work.rows]
                corrections = self._from_statements(connection, work, stored_at, source)
                insert_readings(connection, work.rows)
                correct_readings(connection, corrections, superseded_at=stored_at)
                save_estimates(connection, work.estimates)
                save_register_states(connection, list(work.states.values()))
            self._states.update(work.states)
        accepted = work.rows + [after for _, after in corrections]
        return IngestReport(accepted, work.rejected, len(corrections))

    def save_rejections(self) -> None:
        """Write the counters of rejected values to the store."""
        with self._lock:
            changed = {key: self.rejections[key] for key in self._unsaved_rejections}
            self._unsaved_rejections.clear()
        with self.store.write() as connection:
            save_rejections(connection, changed, now=unix(self._clock))

    def _objection(
        self, value: MeterReading | IntervalEnergy | SignedEnergy, now: int, limited: bool
    ) -> Rejection | None:
        """What speaks against a value before anything else of its meter is looked at."""
        if (point := self.points.get(value.meter_id)) is None:
            return Rejection.UNKNOWN_METER
        if value.meter_id in self.suspended:
            return Rejection.SUSPENDED
        if limited and self._limit is not None and not self._limit.allows(value.meter_id, now):
            return Rejection.FLOOD
        latest = now + self._settings.future_tolerance_s
        if isinstance(value, MeterReading):
            isp = value.read_at // SECONDS_PER_ISP
            if value.read_at > latest:
                return Rejection.FUTURE
            if point.device_key is not None:
                return Rejection.BAD_SIGNATURE
            # The boundary at which a meter leaves service still closes its last ISP.
            in_service = point.in_service(isp) or point.in_service(isp - 1)
            return None if in_service else Rejection.OUT_OF_SERVICE
        if (value.isp + 1) * SECONDS_PER_ISP > latest:
            return Rejection.FUTURE
        if not point.in_service(value.isp):
            return Rejection.OUT_OF_SERVICE
        span_s = SECONDS_PER_ISP + self._settings.boundary_tolerance_s
        if not (
            0 <= value.import_wh <= limit_wh(point.max_import_w, span_s)
            and 0 <= value.export_wh <= limit_wh(point.max_export_w, span_s)
        ):
            return Rejection.IMPLAUSIBLE
        signs_itself = point.device_key is not None
        if signs_itself != isinstance(value, SignedEnergy) or (signs_itself and not self._is_signed(value, point)):
            return Rejection.BAD_SIGNATURE
        return None

    def _is_signed(self, value: SignedEnergy, point: MeteringPoint) -> bool:
        if self._domain is None:
            raise DomainError("devices sign themselves, but the metering ledger is not known", hint="give its domain")
        message = reading_message(value.meter_id, value.isp, value.import_wh, value.export_wh)
        try:
            return recover(READING.digest(self._domain, message), value.signature) == point.device_key
        except InvalidSignatureError:
            return False

    def _from_registers(self, work: _Work, reading: MeterReading, now: int, source: str) -> None:
        meter_id = reading.meter_id
        point = self.points[meter_id]
        previous = work.states.get(meter_id) or self._states.get(meter_id)
        energy, rejection, state = normalise(point, previous, reading, self._settings)
        if state is not None:
            work.states[meter_id] = state
            if rejection is Rejection.GAP:
                work.estimates += fill_gap(point, previous, state, now=now)
        if energy is not None and not point.in_service(energy.isp):
            energy, rejection = None, Rejection.OUT_OF_SERVICE
        if energy is None:
            self._reject(work, meter_id, rejection)
            return
        self._note_recovery(meter_id)
        signature = self._signer.sign_reading(meter_id, energy.isp, energy.import_wh, energy.export_wh)
        # The driver of SQLite looks long at a flag before it finds that it is a number.
        meter_id, isp, import_wh, export_wh, quality = energy
        work.rows.append(ReadingRow(meter_id, isp, import_wh, export_wh, int(quality), signature, now, source))

    def _from_statements(
        self, connection: Connection, work: _Work, now: int, source: str
    ) -> list[tuple[ReadingRow, ReadingRow]]:
        """Add new readings to ``work`` and return the corrections, (before, after) each."""
        if not work.stated:
            return []
        stored = readings_at(connection, [(value.isp, value.meter_id) for value in work.stated])
        stored |= {(row.isp, row.meter_id): row for row in work.rows}
        new: dict[tuple[int, bytes], ReadingRow] = {}
        for value in work.stated:
            key = value.isp, value.meter_id
            held = new.get(key) or stored.get(key)
            rejection = None if held is None else self._objection_to_correction(connection, held, value)
            if rejection is not None:
                self._reject(work, value.meter_id, rejection)
                continue
            self._note_recovery(value.meter_id)
            new[key] = self._stated_row(value, now, source, corrects=key in stored)
        work.rows += [row for key, row in new.items() if key not in stored]
        return [(stored[key], row) for key, row in new.items() if key in stored]

    def _objection_to_correction(
        self, connection: Connection, held: ReadingRow, value: IntervalEnergy | SignedEnergy
    ) -> Rejection | None:
        if (held.import_wh, held.export_wh) == (value.import_wh, value.export_wh):
            return Rejection.DUPLICATE
        if value.reported_at < held.belief_time:
            return Rejection.OUT_OF_ORDER
        published = published_at(connection, held.isp)
        return Rejection.PUBLISHED if published is not None and held.belief_time <= published else None

    def _stated_row(self, value: IntervalEnergy | SignedEnergy, now: int, source: str, *, corrects: bool) -> ReadingRow:
        meter_id, isp, import_wh, export_wh, reported_at = value[:5]
        integrated = isinstance(value, IntervalEnergy) and value.integrated
        quality = Quality.INTEGRATED if integrated else Quality.STATED
        if reported_at > (isp + 1) * SECONDS_PER_ISP + self._settings.late_after_s:
            quality |= Quality.LATE
        if corrects:
            quality |= Quality.CORRECTED
        if isinstance(value, SignedEnergy):
            quality |= Quality.DEVICE_SIGNED
            signature = value.signature
        else:
            signature = self._signer.sign_reading(meter_id, isp, import_wh, export_wh)
        return ReadingRow(meter_id, isp, import_wh, export_wh, int(quality), signature, now, source)

    def _reject(self, work: _Work, meter_id: bytes, rejection: Rejection) -> None:
        """Count a rejection, and log it when it is new for the meter."""
        work.rejected[rejection] += 1
        known = UNKNOWN if rejection is Rejection.UNKNOWN_METER else meter_id
        key = known, rejection.value
        self.rejections[key] += 1
        self._unsaved_rejections.add(key)
        if rejection in _ORDINARY or self._troubled.get(known) is rejection:
            return
        self._troubled[known] = rejection
        log.warning("meter %s: no reading, %s", known.hex(), rejection)

    def _note_recovery(self, meter_id: bytes) -> None:
        if meter_id in self._troubled:
            log.info("meter %s: readings again (%s before)", meter_id.hex(), self._troubled.pop(meter_id))
