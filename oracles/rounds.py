"""Many small requests to many devices: bounded concurrency, and a retry never delays those that answer."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from offchain.domain.errors import FlexError, TransientError

Key = TypeVar("Key")
Result = TypeVar("Result")

MAX_DELAY_S = 5.0


async def in_rounds(
    jobs: Mapping[Key, Callable[[], Awaitable[Result]]],
    *,
    concurrency: int,
    attempts: int,
    delay_s: float,
    once: Iterable[Key] = (),
) -> tuple[dict[Key, Result], dict[Key, FlexError]]:
    """Run all jobs, then those again that failed for a passing reason.

    Parameters
    ----------
    jobs : mapping
        What to call, by device.
    concurrency, attempts : int
        Calls at the same time, and rounds at most.
    delay_s : float
        Pause before the second round [s]; doubles with every round, with jitter, up to ``MAX_DELAY_S``.
    once : iterable
        Devices that get one attempt only, after all others: known to be down.

    Returns
    -------
    results, errors : dict, dict
        Every device is in one of them.
    """
    results: dict[Key, Result] = {}
    errors: dict[Key, FlexError] = {}
    single = frozenset(once)

    async def work(queue: list[Key]) -> None:
        while queue:
            key = queue.pop()
            try:
                results[key] = await jobs[key]()
                errors.pop(key, None)
            except FlexError as error:
                errors[key] = error

    pending = sorted(jobs, key=lambda key: key not in single)  # taken from the end
    for attempt in range(attempts):
        if attempt:
            await asyncio.sleep(min(delay_s * 2 ** (attempt - 1), MAX_DELAY_S) * random.uniform(0.5, 1.0))
        await asyncio.gather(*(work(pending) for _ in range(min(concurrency, len(pending)))))
        pending = [key for key, e in errors.items() if isinstance(e, TransientError) and key not in single]
        if not pending:
            break
    return results, errors
