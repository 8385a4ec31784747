"""Documents of others: a file that another program writes, or an HTTP service."""

import asyncio
import logging
import random
import ssl
from collections.abc import Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

import httpx

from offchain.domain.errors import PermanentError, TransientError
from oracles.clock import Clock, unix
from oracles.sources.config import Secret

# The library logs every address, with the secrets that stand in it.
logging.getLogger("httpx").setLevel(logging.WARNING)

MAX_BYTES = 32 * 2**20
"""Longest answer that is read."""

MAX_DELAY_S = 30.0
"""Longest pause before another attempt [s]."""

_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_REFUSED = {401, 403, 407}


class Document(NamedTuple):
    """A document as it was fetched, its name for errors, and when what it says was published [UTC s]."""

    data: bytes
    name: str
    published_at: int


class Feed(Protocol):
    """Where documents come from."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    async def fetch(self) -> Document | None:
        """The document, or ``None`` when it is the one of the last time."""
        ...

    def forget(self) -> None:
        """Fetch the document next time even if it is the one of the last time."""
        ...


class FileFeed:
    """A file that another program writes."""

    def __init__(self, path: Path):
        self.path = path
        self._seen: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        return str(self.path)

    async def fetch(self) -> Document | None:
        try:
            stat = self.path.stat()
            if self._seen == (stat.st_mtime_ns, stat.st_size):
                return None
            data = await asyncio.to_thread(self.path.read_bytes)
        except OSError as exc:
            raise TransientError(
                f"{self.path}: {exc.strerror}", hint="check the path; the file may come later"
            ) from exc
        self._seen = stat.st_mtime_ns, stat.st_size
        return Document(data, self.name, int(stat.st_mtime))

    def forget(self) -> None:
        self._seen = None


class HttpFeed:
    """A document of an HTTP service.

    Answers are cached by ETag and date of modification: what has not changed is neither sent nor read again. Requests
    that fail for a passing reason are repeated with growing pauses, and as late as the service asks for.

    Parameters
    ----------
    params, headers : mapping
        ``{today}`` and ``{tomorrow}`` stand for local dates (with a format: ``{today:%Y%m%d}``), ``{secret}`` for the
        secret; it appears in no error and no log.
    attempts : int
        Requests at most in one :meth:`fetch`.
    delay_s : float
        Pause before the second attempt [s]; doubles with every further one.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        secret: Secret | None = None,
        zone: str = "UTC",
        timeout_s: float = 10.0,
        attempts: int = 3,
        delay_s: float = 1.0,
    ):
        self.url = url
        self.clock = clock
        self.params = dict(params or {})
        self.headers = dict(headers or {})
        self.secret = secret
        self.zone = zone
        self.timeout_s = timeout_s
        self.attempts = attempts
        self.delay_s = delay_s
        self._name = _without_query(url)
        self._cached_for: httpx.QueryParams | None = None
        self._validators: dict[str, str] = {}

    @property
    def name(self) -> str:
        return self._name

    async def fetch(self) -> Document | None:
        today = self.clock.now().astimezone(ZoneInfo(self.zone)).date()
        fields = {"today": today, "tomorrow": today + timedelta(days=1)}
        if self.secret is not None:
            fields["secret"] = self.secret.read()
        params = httpx.QueryParams({key: text.format(**fields) for key, text in self.params.items()})
        headers = {key: text.format(**fields) for key, text in self.headers.items()}
        if self._cached_for != params:
            self._validators = {}
        # A secret does not follow to where another address sends it.
        follow = self.secret is None
        async with httpx.AsyncClient(timeout=self.timeout_s, follow_redirects=follow, verify=_trusted()) as client:
            for attempt in range(1, self.attempts + 1):
                try:
                    response, data = await self._get(client, params, headers | self._validators)
                    break
                except _RetryLaterError as error:
                    if attempt == self.attempts:
                        raise TransientError(f"{self.name}: {error}", hint="is the service up?") from error
                    pause_s = self.delay_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
                    await asyncio.sleep(min(max(pause_s, error.after_s), MAX_DELAY_S))
        if response.status_code == httpx.codes.NOT_MODIFIED:
            return None
        self._cached_for = params
        answered = response.headers
        names = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}
        self._validators = {names[key]: answered[key] for key in names if key in answered}
        return Document(data, self.name, self._published_at(answered.get("Last-Modified")))

    def forget(self) -> None:
        self._validators = {}

    async def _get(
        self, client: httpx.AsyncClient, params: httpx.QueryParams, headers: Mapping[str, str]
    ) -> tuple[httpx.Response, bytes]:
        try:
            async with client.stream("GET", self.url, params=params or None, headers=headers) as response:
                status = response.status_code
                if status in _REFUSED:
                    raise PermanentError(f"{self.name}: refused with status {status}", hint="check the secret")
                if status in _RETRIED:
                    raise _RetryLaterError(f"status {status}", _seconds(response.headers.get("Retry-After")))
                if status not in (httpx.codes.OK, httpx.codes.NOT_MODIFIED):
                    raise TransientError(
                        f"{self.name}: status {status}", hint="check address and parameters; there may be no data yet"
                    )
                data = bytearray()
                async for chunk in response.aiter_bytes():
                    data += chunk
                    if len(data) > MAX_BYTES:
                        raise TransientError(f"{self.name}: more than {MAX_BYTES // 2**20} MiB", hint="ask for less")
                return response, bytes(data)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
            raise PermanentError(f"{self.name}: not an address", hint="it starts with https:// or http://") from exc
        except httpx.TimeoutException as exc:
            raise _RetryLaterError(f"no answer within {self.timeout_s:g} s") from exc
        except httpx.TransportError as exc:
            raise _RetryLaterError(f"no connection ({type(exc).__name__})") from exc
        except httpx.HTTPError as exc:
            raise TransientError(f"{self.name}: {type(exc).__name__}", hint="is the address right?") from exc

    def _published_at(self, last_modified: str | None) -> int:
        now = unix(self.clock)
        try:
            return now if last_modified is None else int(parsedate_to_datetime(last_modified).timestamp())
        except ValueError:
            return now


def _without_query(url: str) -> str:
    """Address as errors name it: what comes after the question mark may be secret, and so may user and password."""
    try:
        parts = httpx.URL(url)
        return str(parts.copy_with(query=None, username=None, password=None))
    except httpx.InvalidURL as exc:
        raise PermanentError("url is not an address", hint="it starts with https:// or http://") from exc


@cache
def _trusted() -> ssl.SSLContext:
    """Certificates of the machine; reading them takes longer than a request."""
    return httpx.create_ssl_context()


class _RetryLaterError(Exception):
    """A request that is worth another attempt, not before ``after_s`` seconds."""

    def __init__(self, reason: str, after_s: float = 0.0):
        super().__init__(reason)
        self.after_s = after_s


def _seconds(retry_after: str | None) -> float:
    """Seconds of a Retry-After header; dates, which are rare, count as none."""
    return float(retry_after) if retry_after is not None and retry_after.isdigit() else 0.0
