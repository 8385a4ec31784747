"""Weather and prices from outside: a file or an HTTP service behind one interface, in CSV or JSON by a mapping.

Every value has an event time, the time since when it was known (belief time) and a source, so that a forecast can be
judged by what was known when it was made.
"""

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
from pydantic import BaseModel, Field, model_validator

from offchain.domain.errors import TransientError
from oracles.clock import Clock, unix
from oracles.sources.config import DataName, Secret, SitePath, Zone
from oracles.sources.external_mapping import ExternalMapping
from oracles.sources.feeds import Document, Feed, FileFeed, HttpFeed
from oracles.sources.port import ExternalValue, Quantity
from oracles.sources.tabular import load_mapping

log = logging.getLogger(__name__)


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
    mapping: DataName
    file: SitePath | None = None
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
