"""Context brokers (FIWARE Orion): NGSI v2 and NGSI-LD subscriptions as a source.

A broker forgets a notification that it could not deliver. The source therefore reads all entities once when it begins,
and again whenever the broker reports a failed delivery or has lost the subscription. The subscription ends by itself
some time after the source is gone, and is renewed while it is there.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Literal

import httpx
from pydantic import BaseModel, Field, field_validator, model_validator

from offchain.domain.errors import PermanentError, TransientError
from oracles.clock import Clock, unix
from oracles.http_server import serving
from oracles.sources.config import Secret, SitePath
from oracles.sources.delivery import Delivery, Value
from oracles.sources.http_client import json_of, request
from oracles.sources.ngsi_entities import EntityTranslator, load_mapping
from oracles.sources.ngsi_server import TOKEN_HEADER, notification_app

log = logging.getLogger(__name__)

_CHUNK = 50
"""Entities per request, so that addresses stay short."""

_PAGE = 1000
_CONTEXT_REL = "http://www.w3.org/ns/json-ld#context"


class NgsiConfig(BaseModel, extra="forbid", frozen=True):
    """A context broker and how it reaches us.

    Attributes
    ----------
    name : str
        Of this source; by it subscriptions of an earlier run are found and removed.
    broker_url : str
        Such as ``https://orion.example:1026``.
    version : str
        ``v2`` or ``ld``.
    mapping : Path
        TOML file, see ``ngsi_entities``.
    listen_host, listen_port : str, int
        Where notifications are received.
    notify_url : str
        How the broker reaches that address, without path.
    service, service_path : str, optional
        Fiware-Service and Fiware-ServicePath; the first is the tenant of NGSI-LD.
    context : str, optional
        Address of the @context of NGSI-LD, when attribute names are not of the core one.
    token : Secret, optional
        Sent to the broker as bearer token.
    allow_http : bool
        Whether addresses may be without TLS, for networks that are closed.
    certificate, key : Path, optional
        Of the address that receives notifications.
    expires_s, check_s : int
        How long the subscription outlives the source, and how often it is looked at [s].
    """

    name: str = Field(min_length=1, max_length=64)
    broker_url: str
    version: Literal["v2", "ld"] = "v2"
    mapping: SitePath
    listen_host: str = "0.0.0.0"
    listen_port: int = Field(ge=0, le=65535)
    notify_url: str
    service: str | None = None
    service_path: str | None = None
    context: str | None = None
    token: Secret | None = None
    allow_http: bool = False
    certificate: SitePath | None = None
    key: SitePath | None = None
    timeout_s: float = Field(default=10.0, gt=0)
    expires_s: int = Field(default=86_400, ge=60)
    check_s: int = Field(default=60, ge=1)
    max_unstored: int = Field(default=10_000, ge=1)

    @field_validator("broker_url", "notify_url")
    @classmethod
    def _address(cls, url: str) -> str:
        if httpx.URL(url).scheme not in ("http", "https"):
            raise ValueError("the address must begin with https://")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _consistent(self) -> "NgsiConfig":
        if not self.allow_http and any(not url.startswith("https://") for url in (self.broker_url, self.notify_url)):
            raise ValueError("addresses must begin with https://; allow_http = true for a closed network")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("TLS needs both certificate and key")
        if self.context is not None and self.version == "v2":
            raise ValueError("context belongs to version ld")
        return self

    def source(self, clock: Clock) -> "NgsiSource":
        """The source."""
        return NgsiSource(self, clock)


class NgsiSource:
    """Entities of one context broker (implements ``EventSource``).

    Attributes
    ----------
    subscription : str or None
        Id of the subscription while there is one.
    """

    def __init__(self, config: NgsiConfig, clock: Clock):
        self.config = config
        self.clock = clock
        self.where = f"ngsi {httpx.URL(config.broker_url).netloc.decode()}"
        self.subscription: str | None = None
        self._translator = EntityTranslator(load_mapping(config.mapping))
        self._refused: Counter[str] = Counter()
        self._delivery = Delivery(config.max_unstored)
        self._token = secrets.token_urlsafe(24)
        self._description = f"gridpact {config.name}"
        self._api = "/v2" if config.version == "v2" else "/ngsi-ld/v1"
        self._expires_at = 0
        self._last_failure: str | None = None
        self._client = httpx.AsyncClient(timeout=config.timeout_s, headers=self._headers())

    @property
    def refused(self) -> Counter[str]:
        """Notifications and attributes that brought nothing, by reason."""
        return self._refused + self._translator.refused

    async def values(self) -> AsyncIterator[Value]:
        app = notification_app(self._delivery, self._translated, self._token, self._refused)
        config = self.config
        listening = serving(app, config.listen_host, config.listen_port, certificate=config.certificate, key=config.key)
        async with listening:
            keeper = asyncio.create_task(self._keep())
            try:
                async for value in self._delivery.values():
                    yield value
            finally:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
                await self.unsubscribe()

    def taken(self, count: int) -> None:
        self._delivery.taken(count)

    async def probe(self) -> str:
        """Read all entities; all must be there."""
        found = {entity.get("id") for entity in await self._entities()}
        if missing := sorted(self._translator.entities.keys() - found):
            raise PermanentError(f"{self.where}: {', '.join(missing)} not known", hint="check the ids of the mapping")
        return f"{self.where}: {len(found)} entities"

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def subscribe(self) -> None:
        """Subscribe, and remove what an earlier run left behind."""
        for old in await self._subscriptions():
            if old.get("description") == self._description:
                await self._send("DELETE", f"/subscriptions/{old['id']}")
        response = await self._send("POST", "/subscriptions", json=self._body())
        self.subscription = response.headers["Location"].rpartition("/")[2]
        self._last_failure = None
        log.info("%s: subscribed to %d entities", self.where, len(self._translator.entities))

    async def unsubscribe(self) -> None:
        """End the subscription; one that cannot be ended now expires."""
        if self.subscription is None:
            return
        subscription, self.subscription = self.subscription, None
        try:
            await self._send("DELETE", f"/subscriptions/{subscription}")
        except (TransientError, PermanentError) as error:
            log.warning("%s; the subscription expires in %d s at most", error, self.config.expires_s)

    async def _keep(self) -> None:
        """Keep a working subscription, and read the entities when something may have been missed."""
        broken = False
        while True:
            try:
                if await self._missed():
                    await self._delivery.room()
                    for entity in await self._entities():
                        self._delivery.put(self._translated(entity))
                if broken:
                    log.info("%s: answers again", self.where)
                broken = False
            except TransientError as error:
                if not broken:
                    log.warning("%s; trying again every %d s", error, self.config.check_s)
                broken = True
            except Exception as error:
                self._delivery.fail(error)
                return
            await self.clock.sleep_until(self.clock.now() + timedelta(seconds=self.config.check_s))

    async def _missed(self) -> bool:
        """Make sure that the subscription works; whether notifications may have been missed."""
        if self.subscription is None:
            await self.subscribe()
            return True
        state = await self._state(self.subscription)
        if state is None or state.get("status") == "expired":
            log.warning("%s: the subscription is gone, subscribing again", self.where)
            self.subscription = None
            await self.subscribe()
            return True
        if self._expires_at - unix(self.clock) < self.config.expires_s / 2 or state.get("status") in (
            "failed",
            "paused",
        ):
            await self._renew(self.subscription)
        failure = state.get("notification", {}).get("lastFailure")
        missed = failure is not None and failure != self._last_failure
        self._last_failure = failure
        return missed

    async def _state(self, subscription: str) -> dict[str, Any] | None:
        for known in await self._subscriptions():
            if known["id"] == subscription:
                return known
        return None

    async def _subscriptions(self) -> list[dict[str, Any]]:
        response = await self._send("GET", "/subscriptions", params={"limit": _PAGE})
        return list(json_of(response, self.where))

    async def _renew(self, subscription: str) -> None:
        key = "expires" if self.config.version == "v2" else "expiresAt"
        change: dict[str, Any] = {key: self._expiry()}
        if self.config.version == "v2":
            change["status"] = "active"
        else:
            change["isActive"] = True
        await self._send("PATCH", f"/subscriptions/{subscription}", json=change)

    async def _entities(self) -> list[dict[str, Any]]:
        """All mapped entities as they are now."""
        ids = sorted(self._translator.entities)
        found: list[dict[str, Any]] = []
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            params = {"id": ",".join(chunk), "limit": _CHUNK}
            response = await self._send("GET", "/entities", params=params)
            found += json_of(response, self.where)
        return found

    def _translated(self, entity: dict[str, Any]) -> list[Value]:
        return self._translator.values(entity, unix(self.clock))

    async def _send(
        self, method: str, path: str, *, json: dict[str, Any] | None = None, params: dict[str, Any] | None = None
    ) -> httpx.Response:
        """One request; in NGSI-LD the @context stands in the body of a subscription, else in a link."""
        headers = {}
        if self.config.version == "ld":
            headers["Accept"] = "application/ld+json"
            if json is not None and "@context" in json:
                headers["Content-Type"] = "application/ld+json"
            elif self.config.context is not None:
                headers["Link"] = f'<{self.config.context}>; rel="{_CONTEXT_REL}"; type="application/ld+json"'
        url = f"{self.config.broker_url}{self._api}{path}"
        return await request(self._client, method, url, self.where, json=json, params=params, headers=headers)

    def _expiry(self) -> str:
        expires = self.clock.now() + timedelta(seconds=self.config.expires_s)
        self._expires_at = int(expires.timestamp())
        return expires.strftime("%Y-%m-%dT%H:%M:%S.000Z")

    def _body(self) -> dict[str, Any]:
        entities = [{"id": entry.id, "type": entry.type} for entry in self._translator.entities.values()]
        names = sorted({name for entry in self._translator.entities.values() for name in entry.attributes})
        url = f"{self.config.notify_url}/notify"
        if self.config.version == "v2":
            return {
                "description": self._description,
                "subject": {"entities": entities, "condition": {"attrs": names}},
                "notification": {
                    "httpCustom": {"url": url, "headers": {TOKEN_HEADER: self._token}},
                    "attrs": [*names, "TimeInstant", "dateObserved"],
                    "attrsFormat": "normalized",
                },
                "expires": self._expiry(),
            }
        body = {
            "type": "Subscription",
            "description": self._description,
            "entities": entities,
            "watchedAttributes": names,
            "notification": {
                "attributes": names,
                "format": "normalized",
                "endpoint": {
                    "uri": url,
                    "accept": "application/ld+json",
                    "receiverInfo": [{"key": TOKEN_HEADER, "value": self._token}],
                },
            },
            "expiresAt": self._expiry(),
        }
        return body if self.config.context is None else body | {"@context": self.config.context}

    def _headers(self) -> dict[str, str]:
        config = self.config
        headers: dict[str, str] = {}
        if config.service is not None:
            headers["Fiware-Service" if config.version == "v2" else "NGSILD-Tenant"] = config.service
        if config.service_path is not None and config.version == "v2":
            headers["Fiware-ServicePath"] = config.service_path
        if config.token is not None:
            headers["Authorization"] = f"Bearer {config.token.read()}"
        return headers
