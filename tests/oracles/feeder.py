"""Process for the kill test: ingests one day of registers and closes it, and says what is on disk.

Usage: ``python feeder.py STORE FIRST_BOUNDARY``; prints a boundary once it is stored, ``closed`` at the end.
"""

import sys
from datetime import date
from hashlib import sha256

from offchain.chain.signatures import metering_domain
from offchain.domain.isp import MarketDay, isp_start
from offchain.store import open_store
from oracles.batching import Batcher
from oracles.clock import SimulatedClock
from oracles.normalise import MeteringPoint
from oracles.pipeline import MeteringPipeline
from oracles.signer import GatewayKeys
from oracles.sources.port import MeterReading

DAY = MarketDay.of(date(2016, 5, 20))
OPERATOR = "0x" + "22" * 20
METER_IDS = [sha256(b"meter %d" % number).digest() for number in range(40)]


def energy_wh(number: int, isp: int) -> int:
    return (number * 31 + isp * 17) % 1_000


def register_wh(number: int, boundary: int) -> int:
    return sum(energy_wh(number, isp) for isp in range(DAY.first_isp, boundary))


def main(path: str, first_boundary: int) -> None:
    clock = SimulatedClock(isp_start(first_boundary))
    secrets = {meter_id: sha256(meter_id).digest() for meter_id in METER_IDS}
    signer = GatewayKeys(metering_domain(31337, "0x" + "11" * 20), secrets)
    with open_store(path) as store:
        points = [MeteringPoint(meter_id, 10_000, 10_000) for meter_id in METER_IDS]
        pipeline = MeteringPipeline(store, points, signer, clock)
        batcher = Batcher(store, OPERATOR, METER_IDS, signer, clock)
        for boundary in range(first_boundary, DAY.end_isp + 1):
            clock.advance_to(isp_start(boundary))
            now = boundary * 900
            pipeline.ingest(
                MeterReading(meter_id, now, now, register_wh(number, boundary), 0, False, 2**32)
                for number, meter_id in enumerate(METER_IDS)
            )
            if boundary > DAY.first_isp:
                batcher.close_isp(boundary - 1)
            print(boundary, flush=True)
        batcher.close_day(DAY)
        print("closed", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
