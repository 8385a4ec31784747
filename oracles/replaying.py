"""Readings of another store taken into a site: after a gateway was replaced, or to drive it with a recorded year."""

from collections.abc import Callable
from pathlib import Path

from offchain.chain.record import DeploymentRecord
from offchain.chain.signatures import metering_domain
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.store import open_store
from offchain.store.readings import first_reading, last_reading, readings_between
from oracles.clock import Clock, SystemClock
from oracles.config import SiteConfig
from oracles.keys import SiteKeys
from oracles.pipeline import MeteringPipeline
from oracles.sources.port import IntervalEnergy, SignedEnergy

ISPS_AT_ONCE = 4


def replay_store(
    site: SiteConfig,
    source: Path | str,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    *,
    clock: Clock | None = None,
) -> dict[str, int]:
    """Ingest every reading that ``source`` has of the site's meters, through the same checks as on its first way.

    The daemon anchors what is new in its next batches, up to ``batching.correction_days`` back.

    Returns
    -------
    dict
        How many readings were accepted, corrected, and refused by reason.
    """
    record = DeploymentRecord.read(site.chain.deployment)
    domain = metering_domain(site.chain.chain_id, record.addresses["MeteringLedger"])
    keys = SiteKeys(site)
    own = {m.meter_id: keys.addresses[m.meter_id] for m in site.meter if m.signs_itself}
    counts = {"accepted": 0, "corrected": 0}
    with open_store(source, create=False) as old, open_store(site.store) as new:
        points = [m.point(own.get(m.meter_id)) for m in site.meter]
        pipeline = MeteringPipeline(new, points, keys.signer(domain), clock or SystemClock(), domain=domain)
        with old.read() as connection:
            first, last = first_reading(connection), last_reading(connection)
        if first is None:
            return counts
        for isp in range(first, last + 1, ISPS_AT_ONCE):
            with old.read() as connection:
                rows = readings_between(connection, isp, isp + ISPS_AT_ONCE)
            values = []
            for row in rows:
                at = max(row.belief_time, (row.isp + 1) * SECONDS_PER_ISP)
                stated = (row.meter_id, row.isp, row.import_wh, row.export_wh, at)
                values.append(SignedEnergy(*stated, row.signature) if row.meter_id in own else IntervalEnergy(*stated))
            report = pipeline.ingest(values, source="replay", limited=False)
            counts["accepted"] += len(report.accepted) - report.corrected
            counts["corrected"] += report.corrected
            for reason, count in report.rejected.items():
                counts[reason.value] = counts.get(reason.value, 0) + count
            progress("readings", isp - first + 1, last - first + 1)
        pipeline.save_rejections()
    return counts
