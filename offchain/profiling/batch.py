"""The same analysis for many prosumers: one whose data is unusable never stops the others."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from offchain.domain.errors import DomainError

Data = TypeVar("Data")
Result = TypeVar("Result")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Batch(Generic[Result]):
    """Results by prosumer, and why there is none for the others."""

    results: dict[str, Result]
    unusable: dict[str, str]


@dataclass(frozen=True)
class _Guarded(Generic[Data, Result]):
    compute: Callable[[Data], Result]

    def __call__(self, data: Data) -> tuple[Result | None, str]:
        try:
            return self.compute(data), ""
        except DomainError as exc:
            return None, str(exc)


def for_each(
    data: Mapping[str, Data],
    compute: Callable[[Data], Result],
    *,
    workers: int = 1,
    stage: str = "prosumers",
    progress: Progress = lambda stage, done, total: None,
) -> Batch[Result]:
    """Apply ``compute`` to the data of each prosumer.

    Parameters
    ----------
    compute : callable
        Raises :class:`DomainError` for data it cannot use. With ``workers`` above 1 it must be picklable (a
        function of a module, or a :func:`functools.partial` of one).
    workers : int
        Processes; the result does not depend on it.
    """
    guarded = _Guarded(compute)
    if workers == 1:
        return _gather(data, map(guarded, data.values()), stage, progress)
    with ProcessPoolExecutor(workers) as pool:
        chunk = max(1, len(data) // (8 * workers))
        return _gather(data, pool.map(guarded, data.values(), chunksize=chunk), stage, progress)


def _gather(
    ids: Iterable[str], outcomes: Iterable[tuple[Result | None, str]], stage: str, progress: Progress
) -> Batch[Result]:
    names = list(ids)
    results, unusable = {}, {}
    for done, (prosumer, (result, fault)) in enumerate(zip(names, outcomes, strict=True), start=1):
        if fault:
            unusable[prosumer] = fault
        else:
            results[prosumer] = result
        progress(stage, done, len(names))
    return Batch(results, unusable)
