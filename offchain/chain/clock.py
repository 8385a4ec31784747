"""Time of the chain: simulated on Anvil, waited for elsewhere."""

import time

from offchain.chain.client import Chain
from offchain.chain.errors import ChainError


class ChainClock:
    """Moves a chain's time forward.

    Simulated, the time of a block depends on nothing but the blocks before it: one second after its parent, or what
    :meth:`advance_to` said. So the same transactions give the same times on every run.

    Parameters
    ----------
    chain : Chain
    simulated : bool
        On Anvil only. In real time :meth:`advance_to` waits.
    poll_seconds : float
        How often to look while waiting [s].
    """

    def __init__(self, chain: Chain, *, simulated: bool, poll_seconds: float = 1):
        self._chain = chain
        self.simulated = simulated
        self._poll_seconds = poll_seconds
        if simulated:
            if not chain.is_anvil:
                raise ChainError(
                    f"time cannot be simulated on chain {chain.chain_id}",
                    hint="use Anvil, or run in real time",
                )
            chain.request("evm_setTime", self.now())  # a restarted Anvil has gone back to the time of the machine
            chain.request("anvil_setBlockTimestampInterval", 1)

    def now(self) -> int:
        """Time of the latest block [unix s]."""
        return self._chain.block()["timestamp"]

    def advance_to(self, unix: int) -> int:
        """Returns once the latest block is at ``unix`` or later; gives its time back [unix s]."""
        now = self.now()
        if self.simulated:
            if now < unix:
                self._chain.request("evm_setNextBlockTimestamp", unix)
                self._chain.request("evm_mine")
                now = unix
            return now
        while now < unix:
            time.sleep(max(self._poll_seconds, min(unix - time.time(), 60)))
            now = self.now()
        return now
