"""Weather and prices from outside: a file or an HTTP service behind one interface, in CSV or JSON by a mapping.

Every value has an event time, the time since when it was known (belief time) and a source, so that a forecast can be
judged by what was known when it was made. Mappings are TOML (``mappings/``); of a JSON document:

.. code-block:: toml

    format = "json"
    records = "data"                # path to a list of records, "" for the document itself; or
    columns = "hourly"              # path to an object of lists of the same length
    zone = "UTC"                    # of times without an offset
    duration_s = 3600               # of every event
    time = { path = "start", format = "unix_ms" }       # or "unix", "iso8601", a strptime format
    belief_time = { path = "issued" }                   # without it: last modification, else time of receipt

    [[values]]
    path = "price"
    quantity = "price_utoken_per_kwh"
    unit = "EUR/MWh"
    covers = "after"                # the time starts the event; "before" ends it; "moment" is all of it

A CSV mapping has ``format = "csv"``, ``delimiter`` and so on as in ``csv_file``, and ``column`` in place of ``path``.
"""

import asyncio
import io
import json
import logging
import random
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Protocol
from zoneinfo import ZoneInfo

import httpx
from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from offchain.domain.errors import PermanentError, TransientError
from oracles.clock import Clock, unix
from oracles.sources.config import Secret, Zone
from oracles.sources.csv_file import (
    BadLine,
    CsvLayout,
    LineError,
    TimeColumns,
    exact_number,
    instants,
    load_mapping,
    log_bad_lines,
)
from oracles.sources.port import ExternalValue, Quantity
from oracles.sources.units import unit_factor

log = logging.getLogger(__name__)

# The library logs every address, with the secrets that stand in it.
logging.getLogger("httpx").setLevel(logging.WARNING)

MAX_BYTES = 32 * 2**20
"""Longest answer that is read."""

MAX_DELAY_S = 30.0
"""Longest pause before another attempt [s]."""

_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_REFUSED = {401, 403, 407}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Value(_Model):
    quantity: Quantity
    unit: str | None = None
    covers: Literal["after", "before", "moment"] = "after"

    @model_validator(mode="after")
    def _unit_fits(self) -> "_Value":
        unit_factor(self.quantity, self.unit)
        return self

    def event(self, time: int, duration_s: int) -> tuple[int, int]:
        """Start and end of the event of ``time`` [UTC s]."""
        match self.covers:
            case "after":
                return time, time + duration_s
            case "before":
                return time - duration_s, time
        return time, time

    def converted(self, number: Fraction) -> float | int:
        """Value in the unit of the quantity; prices are integers."""
        value = number * unit_factor(self.quantity, self.unit)
        return round(value) if self.quantity is Quantity.PRICE else float(value)


class CsvValue(_Value):
    """A column of values."""

    column: str


class JsonValue(_Value):
    """Values at a path."""

    path: str


class JsonTime(_Model):
    """Times at a path."""

    path: str
    format: str = "iso8601"


class Parsed(NamedTuple):
    """Values without series and source, and the lines or records that do not count."""

    values: list[tuple[_Value, int, Fraction, int | None]]
    bad: list[BadLine]


class CsvMapping(CsvLayout):
    """Layout of a CSV file with external values."""

    format: Literal["csv"]
    time: TimeColumns
    belief_time: TimeColumns | None = None
    duration_s: int = Field(ge=0)
    values: tuple[CsvValue, ...] = Field(min_length=1)

    def parse(self, data: bytes, name: str) -> Parsed:
        """Values of a document; empty cells are no values."""
        beliefs = [] if self.belief_time is None else self.belief_time.names
        needed = [*self.time.names, *beliefs, *(value.column for value in self.values)]
        first_belief, first_value = len(self.time.names), len(self.time.names) + len(beliefs)
        rows, bad = [], []
        file = io.StringIO(data.decode(self.encoding, errors="replace"), newline="")
        for number, cells in self.lines(file, name, needed):
            try:
                if cells is None:
                    raise LineError("too few columns")
                belief = None
                if self.belief_time is not None:
                    belief = self.belief_time.local(cells[first_belief:first_value])
                texts = zip(self.values, cells[first_value:], strict=True)
                numbers = [(value, Fraction(self.number(text, value.column))) for value, text in texts if text]
                rows.append((number, self.time.local(cells[:first_belief]), belief, numbers))
            except LineError as error:
                bad.append(BadLine(number, str(error)))
        return _placed(rows, bad, self.zone)


class JsonMapping(_Model):
    """Layout of a JSON document with external values."""

    format: Literal["json"]
    records: str | None = None
    columns: str | None = None
    zone: Zone = "UTC"
    time: JsonTime
    belief_time: JsonTime | None = None
    duration_s: int = Field(ge=0)
    values: tuple[JsonValue, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_shape(self) -> "JsonMapping":
        if (self.records is None) == (self.columns is None):
            raise ValueError("give either records or columns")
        return self

    def parse(self, data: bytes, name: str) -> Parsed:
        """Values of a document; ``null`` is no value, and what lacks the path of a value has none."""
        try:
            document = json.loads(data, parse_float=Decimal)
        except (ValueError, RecursionError) as exc:
            raise TransientError(f"{name}: not JSON ({exc})", hint="does the address give data or a web page?") from exc
        try:
            records = self._records(document)
        except LineError as error:
            raise TransientError(f"{name}: {error}", hint="check the mapping; there may be no data yet") from error
        rows, bad = [], []
        for number, record in enumerate(records, start=1):
            try:
                time = _moment(self.time, record)
                belief = None if self.belief_time is None else _moment(self.belief_time, record)
                found = ((value, _at(record, value.path, missing=None)) for value in self.values)
                numbers = [(value, _number(raw, value.path)) for value, raw in found if raw is not None]
                rows.append((number, time, belief, numbers))
            except LineError as error:
                bad.append(BadLine(number, str(error)))
        return _placed(rows, bad, self.zone)

    def _records(self, document: Any) -> Sequence[Any]:
        if self.records is not None:
            records = _at(document, self.records)
            if not isinstance(records, list):
                raise LineError(f"{self.records or 'the document'} is not a list")
            return records
        columns = _at(document, self.columns)
        times = [self.time.path, *([] if self.belief_time is None else [self.belief_time.path])]
        lists = {path: _at(columns, path) for path in times}
        asked = {value.path: _at(columns, value.path, missing=None) for value in self.values}
        lists |= {path: values for path, values in asked.items() if values is not None}
        if len(lists) == len(times):
            raise LineError(f"there is none of {', '.join(asked)}")
        lengths = {len(values) if isinstance(values, list) else None for values in lists.values()}
        if len(lengths) != 1 or None in lengths:
            raise LineError(f"{', '.join(lists)} are not lists of the same length")
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


_RAISE = object()


def _at(document: Any, path: str, missing: Any = _RAISE) -> Any:
    """What is at a path: names and list positions with dots between them; a name may contain dots itself."""
    if path == "":
        return document
    if isinstance(document, dict) and path in document:
        return document[path]
    found = document
    for part in path.split("."):
        if isinstance(found, dict) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        elif missing is _RAISE:
            raise LineError(f"there is no {path!r}")
        else:
            return missing
    return found


def _moment(time: JsonTime, record: Any) -> datetime:
    raw = _at(record, time.path)
    if isinstance(raw, bool) or not isinstance(raw, str | int | Decimal):
        raise LineError(f"{time.path} {raw!r} is not a time")
    return TimeColumns(column=time.path, format=time.format).local([str(raw)])


def _number(raw: Any, name: str) -> Fraction:
    if isinstance(raw, bool) or not isinstance(raw, str | int | Decimal):
        raise LineError(f"{name} is not a number")
    return Fraction(exact_number(raw, name))


def _placed(rows: list[tuple[int, datetime, datetime | None, list]], bad: list[BadLine], zone: str) -> Parsed:
    """Settle local times: one that comes twice in the night is the first and the second in the order of the rows."""
    tz = ZoneInfo(zone)
    rows_at: dict[datetime, list[int]] = defaultdict(list)
    for index, (_, time, _, _) in enumerate(rows):
        rows_at[time].append(index)
    values = []
    for index, (number, time, belief, numbers) in enumerate(rows):
        moments, same = instants(time, tz), rows_at[time]
        if not moments:
            bad.append(BadLine(number, f"{time} does not exist in {zone}: clocks went forward"))
        elif len(moments) != len(same) and len(moments) > 1:
            bad.append(BadLine(number, f"{time} comes twice in {zone}, and {len(same)} times in the document"))
        else:
            moment = moments[same.index(index)] if len(moments) > 1 else moments[0]
            known = None if belief is None else instants(belief, tz)
            if known == []:
                bad.append(BadLine(number, f"belief time {belief} does not exist in {zone}"))
                continue
            values += [(value, moment, amount, known and known[-1]) for value, amount in numbers]
    return Parsed(values, sorted(bad))


class ExternalMapping(RootModel[Annotated[CsvMapping | JsonMapping, Field(discriminator="format")]]):
    """A mapping of either format."""

    def values(self, data: bytes, name: str, series: str, source: str, belief_time: int) -> list[ExternalValue]:
        """Values of a document in the order of their events; the bad ones are logged.

        Parameters
        ----------
        belief_time : int
            Of values that do not say it themselves [UTC s].
        """
        parsed = self.root.parse(data, name)
        log_bad_lines(Path(name), parsed.bad)
        found = [
            ExternalValue(
                series,
                value.quantity,
                *value.event(time, self.root.duration_s),
                value.converted(amount),
                belief_time if belief is None else belief,
                source,
            )
            for value, time, amount, belief in parsed.values
        ]
        return sorted(found, key=lambda value: (value.event_start, value.quantity))


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


class ExternalSource:
    """External values of one feed (implements ``EventSource``).

    Each consumer gets everything first and then only what is new: a value that was said before keeps its earlier
    belief time.

    Parameters
    ----------
    every_s : float or None
        How often to ask [s]; ``None`` asks once and ends.
    """

    def __init__(
        self,
        feed: Feed,
        mapping: ExternalMapping,
        clock: Clock,
        *,
        series: str,
        source: str,
        every_s: float | None = 3_600.0,
    ):
        self.feed = feed
        self.mapping = mapping
        self.clock = clock
        self.series = series
        self.source = source
        self.every_s = every_s
        self._said: dict[tuple[Quantity, int, int], tuple[float | int, int]] = {}

    async def probe(self) -> str:
        """Fetch once and say how much there is."""
        self.feed.forget()
        document = await self.feed.fetch()
        values = [] if document is None else self._values(document)
        if not values:
            raise TransientError(f"{self.feed.name}: no values", hint="check the mapping; there may be no data yet")
        first, last = (datetime.fromtimestamp(value.event_start, UTC).isoformat() for value in (values[0], values[-1]))
        return f"{len(values)} values from {first} to {last}"

    async def values(self) -> AsyncIterator[ExternalValue]:
        lost = False
        self._said.clear()
        self.feed.forget()
        while True:
            try:
                document = await self.feed.fetch()
                found = [] if document is None else self._new(self._values(document))
            except TransientError as error:
                if self.every_s is None:
                    raise
                if not lost:
                    log.warning("%s of %s lost: %s", self.series, self.source, error)
                lost, found = True, []
            else:
                if lost:
                    log.info("%s of %s is back", self.series, self.source)
                lost = False
            for value in found:
                yield value
            if self.every_s is None:
                return
            await self.clock.sleep_until(self.clock.now() + timedelta(seconds=self.every_s))

    def taken(self, count: int) -> None:
        """Nothing to acknowledge: the feed says it again to the next consumer."""

    def _values(self, document: Document) -> list[ExternalValue]:
        values = self.mapping.values(
            document.data, document.name, self.series, self.source, belief_time=document.published_at
        )
        now = unix(self.clock)  # what is here was known by now, whatever another clock says
        return [value._replace(belief_time=min(value.belief_time, now)) for value in values]

    def _new(self, values: list[ExternalValue]) -> list[ExternalValue]:
        said, new = {}, []
        for value in values:
            key = value.quantity, value.event_start, value.event_end
            before = self._said.get(key)
            if before is None or before[0] != value.value:
                new.append(value)
                said[key] = value.value, value.belief_time
            else:
                said[key] = before
        self._said = said
        return new


class ExternalSourceConfig(BaseModel, extra="forbid", frozen=True):
    """Weather or prices out of a ``file`` or from a ``url``, laid out as ``mapping`` says.

    ``series`` names the place or price zone; ``source_name`` who says so (host or file without it).
    """

    series: str = Field(min_length=1)
    mapping: str
    file: Path | None = None
    url: str | None = None
    params: dict[str, str] = {}
    headers: dict[str, str] = {}
    secret: Secret | None = None
    source_name: str | None = None
    zone: Zone = "UTC"
    every_s: float | None = Field(default=3_600, ge=10)
    timeout_s: float = Field(default=10, gt=0, le=120)
    attempts: int = Field(default=3, ge=1, le=10)

    @model_validator(mode="after")
    def _one_feed(self) -> "ExternalSourceConfig":
        if (self.file is None) == (self.url is None):
            raise ValueError("give either file or url")
        if self.url is not None and not self.url.startswith(("https://", "http://")):
            raise ValueError("url must start with https:// or http://")
        if self.secret is not None and not self._encrypted_or_here():
            raise ValueError("a secret is sent to https:// only, or to this machine")
        if self.file is not None and (self.params or self.headers or self.secret):
            raise ValueError("params, headers and secret are for a url")
        fields = {"today": datetime.now(UTC), "tomorrow": datetime.now(UTC)} | ({"secret": ""} if self.secret else {})
        for name, text in (self.params | self.headers).items():
            try:
                text.format(**fields)
            except (KeyError, IndexError, ValueError) as exc:
                raise ValueError(
                    f"{name}: {text!r} may hold {{today}}, {{tomorrow}} and, with a secret, {{secret}}"
                ) from exc
        return self

    def _encrypted_or_here(self) -> bool:
        url = httpx.URL(self.url or "")
        return url.scheme == "https" or url.host in ("127.0.0.1", "::1", "localhost")

    def load(self) -> ExternalMapping:
        """The mapping."""
        return load_mapping(self.mapping, ExternalMapping)

    def source(self, clock: Clock) -> ExternalSource:
        """The source."""
        if self.file is not None:
            feed: Feed = FileFeed(self.file)
        else:
            feed = HttpFeed(
                self.url,
                clock,
                params=self.params,
                headers=self.headers,
                secret=self.secret,
                zone=self.zone,
                timeout_s=self.timeout_s,
                attempts=self.attempts,
            )
        name = self.source_name or (self.file.name if self.file is not None else httpx.URL(self.url).host)
        return ExternalSource(feed, self.load(), clock, series=self.series, source=name, every_s=self.every_s)
