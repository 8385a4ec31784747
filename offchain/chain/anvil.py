"""A local chain: Anvil as a child process that never outlives the program that started it."""

import atexit
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Literal

from offchain.chain.errors import NodeStartError
from offchain.chain.rpc import Rpc
from offchain.chain.toolchain import anvil_path
from offchain.domain.errors import ChainError

MNEMONIC = "test test test test test test test test test test test junk"
"""Anvil's own; its accounts are public, for local chains only."""

# The shell starts Anvil and a watcher that blocks on a pipe whose other end only the parent holds. The pipe closes when
# the parent closes it or dies, however it dies; Anvil then gets SIGTERM and writes its state before it ends.
_SUPERVISOR = """
exec 3<&0
"$@" </dev/null 3<&- & node=$!
{ read -r _ <&3; kill -TERM $node; } 2>/dev/null & watcher=$!
exec 3<&-
wait $node; code=$?
kill $watcher 2>/dev/null
exit $code
"""
_LISTENING = re.compile(r"Listening on [\d.]+:(\d+)")


def find_anvil() -> str:
    """Path of the Anvil binary: the npm package of this repository, else the one on ``PATH``.

    Raises
    ------
    NodeStartError
        There is none.
    """
    try:
        return str(anvil_path())
    except ChainError as exc:
        on_path = shutil.which("anvil")
        if on_path is None:
            raise NodeStartError(exc.message, hint=exc.hint) from exc
        return on_path


class Anvil:
    """A running Anvil; a context manager.

    Parameters
    ----------
    port : int
        0 takes a free one. A given port that is taken is an error, unless ``port_search`` allows the following ones.
    port_search : int
        How many ports after ``port`` to try.
    chain_id : int
    mnemonic : str
        Seed phrase of the funded accounts.
    accounts : int
        How many, with 10,000 ether each.
    state : path, optional
        File the chain is loaded from if it exists, and written to when it stops.
    mining : {"auto", "batch"}
        ``auto`` mines every transaction at once. ``batch`` mines on demand; :class:`~offchain.chain.client.Chain`
        asks for it after everything it sent, so that a thousand transactions share a few blocks.
    block_gas_limit : int
    timestamp : int, optional
        Time of the genesis block [unix s].
    hardfork : str, optional
    start_timeout : float
        [s].
    """

    def __init__(
        self,
        *,
        port: int = 0,
        port_search: int = 0,
        chain_id: int = 31337,
        mnemonic: str = MNEMONIC,
        accounts: int = 10,
        state: str | os.PathLike | None = None,
        mining: Literal["auto", "batch"] = "auto",
        block_gas_limit: int = 300_000_000,
        timestamp: int | None = None,
        hardfork: str | None = None,
        start_timeout: float = 30,
    ):
        self.chain_id = chain_id
        self.mnemonic = mnemonic
        self.state = None if state is None else Path(state).resolve()
        arguments = [
            *("--host", "127.0.0.1", "--chain-id", chain_id, "--mnemonic", mnemonic, "--accounts", accounts),
            *(
                "--gas-limit",
                block_gas_limit,
                "--order",
                "fifo",
                "--no-request-size-limit",
                "--color",
                "never",
            ),
        ]
        if self.state is not None:
            self.state.parent.mkdir(parents=True, exist_ok=True)
            arguments += ["--state", self.state, "--state-interval", 5]
        if mining == "batch":
            arguments.append("--no-mining")
        if timestamp is not None:
            arguments += ["--timestamp", timestamp]
        if hardfork is not None:
            arguments += ["--hardfork", hardfork]
        self._arguments = [find_anvil(), *map(str, arguments)]
        self._process: subprocess.Popen | None = None
        for candidate in range(port, port + port_search + 1):
            try:
                self.port = self._start(candidate, start_timeout)
                break
            except PortTakenError:
                if candidate == port + port_search:
                    raise
        self.url = f"http://127.0.0.1:{self.port}"
        # From here on nobody reads what Anvil would log about every request.
        rpc = Rpc(self.url)
        rpc.request("anvil_setLoggingEnabled", False)
        # A chain loaded from a state that was ahead of the clock would go on with the clock, that is backwards.
        latest = int(rpc.request("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        if latest >= time.time():
            rpc.request("evm_setTime", latest + 1)

    def _start(self, port: int, timeout: float) -> int:
        with tempfile.TemporaryFile("w+") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SUPERVISOR, "anvil", *self._arguments, "--port", str(port)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which then stops the chain in order
            )
            atexit.register(self.stop)
            deadline = time.monotonic() + timeout
            while time.monotonic() < deadline:
                # Position of the file is shared with the child, so it is read without moving it.
                text = os.pread(log.fileno(), 1 << 16, 0).decode(errors="replace")
                listening = _LISTENING.search(text)
                if listening:
                    return int(listening[1])
                if self._process.poll() is not None:
                    self.stop()
                    if "Address already in use" in text:
                        raise PortTakenError(port)
                    last = (text.strip().splitlines() or ["no output"])[-1]
                    raise NodeStartError(f"Anvil did not start: {last}", hint=self._start_hint())
                time.sleep(0.01)
        self.stop()
        raise NodeStartError(f"Anvil did not listen within {timeout:g} s")

    def _start_hint(self) -> str:
        return f"is {self.state} a state file of Anvil?" if self.state is not None and self.state.exists() else ""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, timeout: float = 30) -> None:
        """Stops the chain and waits for its state file; safe to call twice."""
        atexit.unregister(self.stop)
        process, self._process = self._process, None
        if process is None:
            return
        process.stdin.close()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def __enter__(self) -> "Anvil":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class PortTakenError(NodeStartError):
    """Another program listens on the port."""

    def __init__(self, port: int):
        super().__init__(f"port {port} is taken", hint="choose another with --port, or 0 for any free one")
        self.port = port
