"""Time series into the store and out of it. Run by ``make bench``."""

import tempfile
import time
from pathlib import Path

import numpy as np
from _harness import record

from offchain.store import open_store
from offchain.store.series import SeriesBlock, put_measurements, read_measurements

SEED = 1
SERIES, ISPS, RUNS = 200, 35_136, 3
TARGET_PER_S = 1_000_000


def main() -> None:
    values = np.random.default_rng(SEED).normal(size=(ISPS, SERIES))
    block = SeriesBlock(tuple(f"meter-{i:03d}" for i in range(SERIES)), 1_600_000, values)
    into, out = [], []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "store.db") as store:
            begin = time.perf_counter()
            with store.write() as connection:
                put_measurements(connection, block, quantity="net_wh", belief_time=1, source="benchmark")
            written = time.perf_counter()
            with store.read() as connection:
                back = read_measurements(connection, block.ids, "net_wh", block.first_isp, ISPS)
            into.append(values.size / (written - begin))
            out.append(values.size / (time.perf_counter() - written))
            assert np.array_equal(back.values, values)
    result = record(
        "store",
        question="seconds for a million values written to SQLite, on disk at the end (synchronous=FULL)",
        data=f"{SERIES} series, a year of quarter hours: {values.size} doubles",
        seed=SEED,
        values=[1_000_000 / rate for rate in into],
        unit="s",
        target=1_000_000 / TARGET_PER_S,
        packages=("sqlalchemy", "numpy"),
        more={"written_per_s": [round(r) for r in into], "read_per_s": [round(r) for r in out]},
    )
    print(f"written {result['written_per_s']}, read {result['read_per_s']} values/s")


if __name__ == "__main__":
    main()
