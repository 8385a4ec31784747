"""Runs a measurement several times and keeps it as JSON, with all that is needed to compare it later."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def measure(run: Callable[[], Any], *, n: int) -> tuple[list[float], list[float]]:
    """Wall and CPU times of ``n`` runs after one that does not count [s].

    CPU time is that of this process on all its cores; other work on the machine slows only the wall time
    much.
    """
    run()
    wall, cpu = [], []
    for _ in range(n):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - wall_start)
        cpu.append(time.process_time() - cpu_start)
    return wall, cpu


def record(
    name: str,
    *,
    question: str,
    data: str,
    seed: int | None,
    values: list[float],
    unit: str,
    target: float | None = None,
    packages: tuple[str, ...] = (),
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write ``benchmarks/results/<name>.json`` and return what it holds.

    Parameters
    ----------
    question : str
        What is measured, in words.
    data : str
        On which data.
    values : list of float
        Measured values; median and spread (10th to 90th percentile, or all of fewer than ten) are kept with
        them.
    unit : str
        Unit of the values.
    target : float, optional
        Value to stay at or below.
    packages : tuple of str
        Distributions whose versions matter.
    more : dict, optional
        Further results.
    """
    ordered = sorted(values)
    cut = len(ordered) // 10
    result = {
        "question": question,
        "data": data,
        "seed": seed,
        "unit": unit,
        "n": len(values),
        "median": statistics.median(values),
        "spread": [ordered[cut], ordered[-1 - cut]],
        "target": target,
        "reached": None if target is None else statistics.median(values) <= target,
        **(more or {}),
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
        },
        "versions": {package: version(package) for package in packages},
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result
