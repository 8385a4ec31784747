"""Evidence from the store, given out only after it was proven against the chain."""

from collections import defaultdict
from functools import lru_cache

from eth_hash.auto import keccak

from offchain.audit.model import Model
from offchain.audit.records import Records
from offchain.audit.roots import curve_root, day_root
from offchain.chain.signatures import METER_DAY, READING, SigningDomain, recover
from offchain.domain.curves import unpack_baseline, unpack_readings
from offchain.domain.errors import DomainError
from offchain.store.batches import BatchKind, MeterDayRow
from offchain.store.curves import CurveRow
from offchain.store.readings import ReadingRow

Readings = list[tuple[int, int] | None]


class Archive:
    """Looks evidence up and proves it.

    Parameters
    ----------
    model : Model
        What the events say; filled while the archive is used.
    records : Records
    domain : SigningDomain
        Of the metering ledger.
    """

    def __init__(self, model: Model, records: Records, domain: SigningDomain):
        self.model = model
        self.records = records
        self._domain = domain
        self.days: dict[tuple[str, int, int], dict[bytes, MeterDayRow]] = {
            (batch.operator, batch.first_isp, batch.version): {day.meter_id: day for day in days}
            for batch, days in records.batches
            if batch.kind == BatchKind.DAY
        }
        self._documents = {(document.kind, document.key): document.content for document in records.documents}
        self._proven_batch = lru_cache(None)(self._prove_batch)
        self._proven_commitment = lru_cache(None)(self._prove_commitment)
        self._reading_signer = lru_cache(None)(self._recover_reading)
        self._day_signer = lru_cache(None)(self._recover_day)
        self.curves: defaultdict[int, dict[bytes, CurveRow]] = defaultdict(dict)
        for commitment_id, (_, curves) in records.commitments.items():
            self.curves[commitment_id] = {curve.subject_id: curve for curve in curves}

    # -------------------------------------------------------------------------------- evidence of settlement

    def metered_day(self, operator: str, meter_id: bytes, first_isp: int, version: int) -> Readings | str:
        """Metered day of a version, or why it is no evidence."""
        day = self.days.get((operator, first_isp, version), {}).get(meter_id)
        if day is None:
            return "not in the store"
        if not self._proven_batch(operator, first_isp, version):
            return "under another root than the anchored one"
        if not self.day_signed(day):
            return "not signed by the device"
        return unpack_readings(day.values)

    def baseline(self, commitment_id: int, meter_id: bytes, pinned_hash: bytes) -> list[int] | str:
        """Committed baseline that an order pinned, or why it is no evidence."""
        curve = self.curves[commitment_id].get(meter_id)
        if curve is None:
            return "not in the store"
        if (found := keccak(curve.values)) != pinned_hash:
            return f"another curve, hash 0x{found.hex()}"
        return self.committed_curve(commitment_id, meter_id)

    def committed_curve(self, commitment_id: int, subject: bytes) -> list[int] | str:
        """Net consumption per ISP under a commitment, or why it is no evidence."""
        curve = self.curves[commitment_id].get(subject)
        if curve is None:
            return "not in the store"
        if not self._proven_commitment(commitment_id):
            return "under another root than the committed one"
        return unpack_baseline(curve.values)

    def reading(self, meter_id: bytes, isp: int) -> tuple[int, int] | str:
        """Device-signed reading of one ISP, or why it is no evidence."""
        row = self.records.readings.get(meter_id, {}).get(isp)
        if row is None:
            return "not in the store"
        if not self.reading_signed(row):
            return "not signed by the device"
        return row.import_wh, row.export_wh

    def document(self, kind: str, key: bytes) -> bytes | None:
        """Document under its hash; ``None`` when the store has none, or another content under that key."""
        content = self._documents.get((kind, key))
        return content if content is not None and keccak(content) == key else None

    # -------------------------------------------------------------------------------- signatures

    def day_signed(self, day: MeterDayRow) -> bool:
        """Whether the device signed the day with the key that was in force."""
        meter = self.model.meters.get(day.meter_id)
        return meter is not None and self._day_signer(day) == meter.key_of_day(day.first_isp, day.isp_count)

    def reading_signed(self, row: ReadingRow) -> bool:
        meter = self.model.meters.get(row.meter_id)
        return meter is not None and self._reading_signer(row) == (meter.key_at(row.isp) or "")

    def _recover_day(self, day: MeterDayRow) -> str | None:
        message = {
            "meterId": day.meter_id,
            "firstIsp": day.first_isp,
            "ispCount": day.isp_count,
            "valuesHash": keccak(day.values),
        }
        return self._recover(METER_DAY, message, day.signature)

    def _recover_reading(self, row: ReadingRow) -> str | None:
        message = {
            "meterId": row.meter_id,
            "isp": row.isp,
            "importWh": row.import_wh,
            "exportWh": row.export_wh,
        }
        return self._recover(READING, message, row.signature)

    def _recover(self, struct, message: dict, signature: bytes) -> str | None:
        try:
            return recover(struct.digest(self._domain, message), signature)
        except DomainError:
            return None

    # -------------------------------------------------------------------------------- roots

    def _prove_batch(self, operator: str, first_isp: int, version: int) -> bool:
        batch = next((b for b in self.model.batches.get((operator, first_isp), []) if b.version == version), None)
        days = self.days[operator, first_isp, version]
        return batch is not None and day_root(list(days.values())) == batch.root

    def _prove_commitment(self, commitment_id: int) -> bool:
        commitment = self.model.commitments.get(commitment_id)
        curves = self.curves[commitment_id]
        return commitment is not None and curve_root(list(curves.values())) == commitment.root
