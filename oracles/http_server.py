"""An ASGI application served inside the running event loop, until the context is left."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from offchain.domain.errors import PermanentError


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process that embeds the server."""
        yield


@asynccontextmanager
async def serving(
    app: Any, host: str, port: int, *, certificate: Path | None = None, key: Path | None = None
) -> AsyncIterator[int]:
    """Serve ``app``; yields the port, which is chosen when ``port`` is 0.

    Raises
    ------
    PermanentError
        The address cannot be listened on, or certificate or key cannot be read.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise PermanentError(f"cannot listen on {host}:{port}: {exc.strerror}", hint="is the port free?") from exc
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except OSError as exc:
        listener.close()
        raise PermanentError(f"TLS files of {host}:{port}: {exc}", hint="check certificate and key") from exc
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not running.done():
            await asyncio.sleep(0.005)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await running
        listener.close()
