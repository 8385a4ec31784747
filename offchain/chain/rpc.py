"""JSON-RPC over a persistent HTTP session, single and in batches."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import requests
from web3.exceptions import Web3Exception
from web3.providers.rpc import HTTPProvider

from offchain.chain.errors import NodeUnreachableError

BATCH_REQUESTS = 200
BATCH_BYTES = 1_000_000
"""Largest batch: nodes limit the number of requests and the size of a body."""


class RpcError(Exception):
    """The node answered with an error object."""

    def __init__(self, error: dict[str, Any]):
        super().__init__(error.get("message", "no message"))
        self.code: int = error.get("code", 0)
        self.message: str = error.get("message", "no message")
        self.data: Any = error.get("data")


def shown_url(url: str) -> str:
    """A URL as it may stand in a log: access keys are in user, path or query, of which a short hash remains."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname
    where = f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")
    if not any((parts.username, parts.password, parts.path.strip("/"), parts.query)):
        return where
    return f"{where}/~{sha256(url.encode()).hexdigest()[:6]}"


class Rpc:
    """Connection to one node; may be shared by threads, each of which gets its own session.

    Parameters
    ----------
    url : str
        HTTP endpoint.
    timeout : float
        For one answer [s].

    Attributes
    ----------
    url : str
        The endpoint as :func:`shown_url` shows it.
    """

    def __init__(self, url: str, *, timeout: float = 30):
        self.url = shown_url(url)
        # Repeating is up to the caller: whoever repeats a transaction must know that it is one.
        kwargs: dict[str, Any] = {"timeout": timeout}
        if urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1"):
            kwargs["proxies"] = {"no_proxy": "*"}  # a proxy of the environment cannot know our loopback
        self._provider = HTTPProvider(url, request_kwargs=kwargs, exception_retry_configuration=None)

    def request(self, method: str, *params: Any) -> Any:
        """Result of one request.

        Raises
        ------
        RpcError
            The node answered with an error.
        NodeUnreachableError
            It did not answer.
        """
        response = self._guard(self._provider.make_request, method, list(params))
        return _result(response, raise_error=True)

    def batch(self, requests_: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Results of many requests in their order; an :class:`RpcError` object where the node answered with one."""
        results: list[Any] = []
        part: list[tuple[str, list[Any]]] = []
        size = 0
        for method, params in requests_:
            weight = sum(len(p) if isinstance(p, str) else len(str(p)) for p in params)
            if part and (len(part) == BATCH_REQUESTS or size + weight > BATCH_BYTES):
                results += self._send_batch(part)
                part, size = [], 0
            part.append((method, list(params)))
            size += weight
        if part:
            results += self._send_batch(part)
        return results

    def batch_everywhere(self, requests_: Sequence[tuple[str, Sequence[Any]]]) -> list[list[Any]]:
        """As :meth:`batch`, of every node that answers: here of the only one."""
        return [self.batch(requests_)]

    def _send_batch(self, part: list[tuple[str, list[Any]]]) -> list[Any]:
        responses = self._guard(self._provider.make_batch_request, part)
        if isinstance(responses, dict):  # the node refused the batch as a whole
            raise RpcError(responses["error"])
        return [_result(response, raise_error=False) for response in responses]

    def _guard(self, function: Any, *args: Any) -> Any:
        try:
            return function(*args)
        except requests.HTTPError as exc:
            reason = f"HTTP {exc.response.status_code}"
        except requests.Timeout:
            reason = "no answer in time"
        except requests.ConnectionError:
            reason = "connection refused"
        except requests.RequestException as exc:
            reason = type(exc).__name__  # its words may hold the whole address
        except (ValueError, Web3Exception):
            reason = "the answer is not JSON-RPC"
        raise NodeUnreachableError(self.url, reason)


def _result(response: dict[str, Any], *, raise_error: bool) -> Any:
    if response.get("error") is None:
        return response.get("result")
    error = RpcError(response["error"])
    if raise_error:
        raise error
    return error
