"""Requests to another company's web service: one table from what can go wrong to our errors."""

import ssl
from typing import Any

import httpx

from offchain.domain.errors import PermanentError, TransientError


async def request(client: httpx.AsyncClient, method: str, url: str, where: str, **more: Any) -> httpx.Response:
    """Send a request and return a successful answer.

    Parameters
    ----------
    where : str
        How errors name the service; addresses may carry what does not belong in a log.

    Raises
    ------
    TransientError
        Not reachable, no answer in time, or it has trouble of its own (408, 429, 5xx).
    PermanentError
        It refuses the request.
    """
    try:
        response = await client.request(method, url, **more)
    except httpx.TimeoutException as exc:
        raise TransientError(f"{where}: no answer in time") from exc
    except httpx.ConnectError as exc:
        hint = "check its certificate and ca" if _is_tls(exc) else "check address and network"
        raise TransientError(f"{where}: no connection", hint=hint) from exc
    except httpx.HTTPError as exc:
        raise TransientError(f"{where}: connection broken") from exc
    code = response.status_code
    if response.is_success:
        return response
    if code in (401, 403):
        raise PermanentError(f"{where}: access refused ({code})", hint="check the token and its rights")
    if code in (408, 429) or code >= 500:
        raise TransientError(f"{where}: answered {code}")
    raise PermanentError(f"{where}: answered {code}", hint="check address and ids")


def json_of(response: httpx.Response, where: str) -> Any:
    """Body of an answer that must be JSON."""
    try:
        return response.json()
    except ValueError as exc:
        raise PermanentError(f"{where}: the answer is not JSON", hint="check the address") from exc


def _is_tls(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
