"""One signer, one locked queue of nonces."""

import threading
from collections.abc import Callable


class NonceQueue:
    """Hands out the nonces of one signer in order.

    Held (``with queue:``) from taking nonces until the node has accepted what was signed with them, so that the
    transactions of several threads reach the node in the order of their nonces.

    Parameters
    ----------
    fetch : callable
        Next nonce by the node, pending transactions included.
    """

    def __init__(self, fetch: Callable[[], int]):
        self._fetch = fetch
        self._lock = threading.RLock()
        self._next: int | None = None

    def __enter__(self) -> "NonceQueue":
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def take(self) -> int:
        """Next nonce; asks the node only the first time and after :meth:`reset`."""
        with self._lock:
            nonce = self._fetch() if self._next is None else self._next
            self._next = nonce + 1
            return nonce

    def reset(self) -> None:
        """Forgets what was handed out, after the node refused something or the chain was rewound."""
        with self._lock:
            self._next = None
