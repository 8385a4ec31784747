"""Several nodes of one chain behind one connection: the first that works answers."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from offchain.chain.errors import NodeUnreachableError, WrongChainError
from offchain.chain.rpc import Rpc
from offchain.domain.errors import ChainError

log = logging.getLogger(__name__)

Result = TypeVar("Result")

RECHECK_S = 60
"""A node behind a load balancer may change its chain while we talk to it."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0


@dataclass(slots=True)
class _Endpoint:
    """A node and how it is doing; times are of a clock that never goes back [s]."""

    rpc: Rpc
    checked_at: float | None = None
    failures: int = 0
    down_until: float = 0
    trouble: ChainError | None = None


class FailoverRpc:
    """As :class:`~offchain.chain.rpc.Rpc`, over several nodes in order of preference.

    A node that does not answer, or answers for another chain, is left alone for a while that doubles with every
    failure (with jitter, a minute at most); on every return to a node, and once a minute, its chain id is checked.

    Parameters
    ----------
    urls : sequence of str
        HTTP endpoints, the preferred one first.
    chain_id : int
        Of the only chain that counts.
    timeout : float
        For one answer of one node [s].
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        chain_id: int,
        timeout: float = 10,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._chain_id = chain_id
        self._clock = clock
        self._endpoints = [_Endpoint(Rpc(url, timeout=timeout)) for url in urls]
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """All endpoints, as errors name them."""
        return ", ".join(endpoint.rpc.url for endpoint in self._endpoints)

    @property
    def healthy(self) -> dict[str, bool]:
        """Whether each endpoint worked when it was last tried, by URL."""
        return {endpoint.rpc.url: endpoint.trouble is None for endpoint in self._endpoints}

    def request(self, method: str, *params: Any) -> Any:
        """Result of one request; errors as of :meth:`Rpc.request`, and ``WrongChainError``."""
        return self._first(lambda rpc: rpc.request(method, *params))

    def batch(self, requests_: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Results of many requests, all from the same node."""
        return self._first(lambda rpc: rpc.batch(requests_))

    def batch_everywhere(self, requests_: Sequence[tuple[str, Sequence[Any]]]) -> list[list[Any]]:
        """Results of many requests by every node that answers now; for what one node alone is not believed."""
        results = list(self._answers(self._endpoints, lambda rpc: rpc.batch(requests_)))
        if not results:
            raise self._nobody()
        return results

    def _first(self, ask: Callable[[Rpc], Result]) -> Result:
        usable = (e for e in self._endpoints if e.trouble is None or self._clock() >= e.down_until)
        for result in self._answers(usable, ask):
            return result
        raise self._nobody()

    def _answers(self, endpoints: Iterable[_Endpoint], ask: Callable[[Rpc], Result]) -> Iterator[Result]:
        for endpoint in endpoints:
            try:
                self._check(endpoint)
                result = ask(endpoint.rpc)
            except (NodeUnreachableError, WrongChainError) as error:
                self._failed(endpoint, error)
                continue
            self._worked(endpoint)
            yield result

    def _check(self, endpoint: _Endpoint) -> None:
        if endpoint.checked_at is not None and self._clock() - endpoint.checked_at < RECHECK_S:
            return
        answer = endpoint.rpc.request("eth_chainId")
        try:
            actual = int(answer, 16)
        except (TypeError, ValueError):
            raise NodeUnreachableError(endpoint.rpc.url, f"its chain id is {answer!r}") from None
        if actual != self._chain_id:
            raise WrongChainError(expected=self._chain_id, actual=actual, where=endpoint.rpc.url)
        endpoint.checked_at = self._clock()

    def _failed(self, endpoint: _Endpoint, error: ChainError) -> None:
        with self._lock:
            if endpoint.trouble is None:
                log.warning("%s", error)
            pause_s = min(FIRST_PAUSE_S * 2**endpoint.failures, LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)
            endpoint.failures = min(endpoint.failures + 1, 16)
            endpoint.down_until = self._clock() + pause_s
            endpoint.checked_at = None
            endpoint.trouble = error

    def _worked(self, endpoint: _Endpoint) -> None:
        if endpoint.trouble is None:
            return
        with self._lock:
            log.info("chain node %s answers again", endpoint.rpc.url)
            endpoint.failures = 0
            endpoint.trouble = None

    def _nobody(self) -> ChainError:
        troubles = [endpoint.trouble for endpoint in self._endpoints if endpoint.trouble is not None]
        if troubles and all(isinstance(trouble, WrongChainError) for trouble in troubles):
            return troubles[0]
        last = "; ".join(trouble.message for trouble in troubles if trouble is not None)
        return NodeUnreachableError(self.url, last or "none could be tried")
