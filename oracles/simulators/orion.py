"""A context broker over real HTTP: entities, subscriptions and notifications of NGSI v2 and NGSI-LD, as Orion answers.

One store of entities serves both interfaces. A notification that cannot be delivered is counted and forgotten.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from oracles.clock import Clock
from oracles.http_server import serving

CORE_CONTEXT = "https://uri.etsi.org/ngsi-ld/v1/ngsi-ld-core-context.jsonld"


@dataclass(slots=True)
class Attribute:
    """A value, when it was measured, and its UN/CEFACT unit code."""

    value: Any
    observed_at: datetime | None = None
    unit_code: str | None = None

    def v2(self) -> dict[str, Any]:
        """Normalised form of NGSI v2."""
        metadata: dict[str, Any] = {}
        if self.observed_at is not None:
            metadata["TimeInstant"] = {"type": "DateTime", "value": _iso(self.observed_at)}
        if self.unit_code is not None:
            metadata["unitCode"] = {"type": "Text", "value": self.unit_code}
        kind = "Number" if isinstance(self.value, int | float) else "Text"
        return {"type": kind, "value": self.value, "metadata": metadata}

    def ld(self) -> dict[str, Any]:
        """Normalised form of NGSI-LD."""
        shown: dict[str, Any] = {"type": "Property", "value": self.value}
        if self.observed_at is not None:
            shown["observedAt"] = _iso(self.observed_at)
        if self.unit_code is not None:
            shown["unitCode"] = self.unit_code
        return shown


@dataclass(slots=True)
class Subscription:
    """What was asked for, and how deliveries went."""

    body: dict[str, Any]
    ld: bool
    sent: int = 0
    last_failure: str | None = None


@dataclass
class OrionServer:
    """The broker.

    Attributes
    ----------
    entities : dict
        Type and attributes by id.
    token : str, optional
        Bearer token that requests must carry.
    broken : bool
        Answers 503 to everything.
    """

    clock: Clock
    entities: dict[str, tuple[str, dict[str, Attribute]]] = field(default_factory=dict)
    token: str | None = None
    broken: bool = False
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    seen_headers: list[dict[str, str]] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve; yields the address."""
        app = Starlette(
            routes=[
                Route(f"{api}/{what}", handler, methods=methods)
                for api in ("/v2", "/ngsi-ld/v1")
                for what, handler, methods in (
                    ("entities", self._entities, ["GET"]),
                    ("subscriptions", self._list, ["GET"]),
                    ("subscriptions", self._create, ["POST"]),
                    ("subscriptions/{id}", self._change, ["PATCH", "DELETE"]),
                )
            ]
        )

        async def guarded(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                headers = {name.decode(): value.decode() for name, value in scope["headers"]}
                self.seen_headers.append(headers)
                if self.broken:
                    return await Response(status_code=503)(scope, receive, send)
                if self.token is not None and headers.get("authorization") != f"Bearer {self.token}":
                    return await Response(status_code=401)(scope, receive, send)
            return await app(scope, receive, send)

        async with httpx.AsyncClient(timeout=30) as client, serving(guarded, "127.0.0.1", 0) as port:
            self._client = client
            yield f"http://127.0.0.1:{port}"

    async def update(self, entity_id: str, attributes: Mapping[str, Attribute]) -> list[int]:
        """Set attributes of an entity and notify who subscribed; returns the status codes, 0 for no answer."""
        kind, known = self.entities[entity_id]
        self.entities[entity_id] = kind, {**known, **attributes}
        codes = []
        for subscription in list(self.subscriptions.values()):
            if self._wanted(subscription, entity_id) and not self._expired(subscription):
                codes.append(await self._notify(subscription, entity_id))
        return codes

    async def _notify(self, subscription: Subscription, entity_id: str) -> int:
        notification = subscription.body["notification"]
        entity = self._shown(entity_id, ld=subscription.ld)
        body: dict[str, Any] = {"subscriptionId": "sub", "data": [entity]}
        if subscription.ld:
            url = notification["endpoint"]["uri"]
            info = notification["endpoint"].get("receiverInfo", [])
            headers = {entry["key"]: entry["value"] for entry in info} | {"Content-Type": "application/ld+json"}
            context = subscription.body.get("@context", CORE_CONTEXT)
            body |= {"id": f"urn:ngsi-ld:Notification:{uuid4()}", "type": "Notification", "@context": context}
        else:
            url, headers = notification["httpCustom"]["url"], notification["httpCustom"]["headers"]
        subscription.sent += 1
        try:
            response = await self._client.post(url, json=body, headers=headers)
            code = response.status_code
        except httpx.HTTPError:
            code = 0
        if not 200 <= code < 300:
            subscription.last_failure = _iso(self.clock.now())
        return code

    def _wanted(self, subscription: Subscription, entity_id: str) -> bool:
        body = subscription.body
        entities = body["entities"] if subscription.ld else body["subject"]["entities"]
        return any(entry["id"] == entity_id for entry in entities)

    def _expired(self, subscription: Subscription) -> bool:
        expires = subscription.body.get("expiresAt" if subscription.ld else "expires")
        return expires is not None and datetime.fromisoformat(expires) <= self.clock.now()

    def _shown(self, entity_id: str, *, ld: bool) -> dict[str, Any]:
        kind, attributes = self.entities[entity_id]
        shown = {name: attribute.ld() if ld else attribute.v2() for name, attribute in attributes.items()}
        return {"id": entity_id, "type": kind} | shown | ({"@context": CORE_CONTEXT} if ld else {})

    async def _entities(self, request: Request) -> Response:
        wanted = request.query_params.get("id", "").split(",")
        ld = _is_ld(request)
        return JSONResponse([self._shown(name, ld=ld) for name in wanted if name in self.entities])

    async def _list(self, request: Request) -> Response:
        ld = _is_ld(request)
        shown = []
        for name, subscription in self.subscriptions.items():
            if subscription.ld != ld:
                continue
            notification = subscription.body["notification"] | {"timesSent": subscription.sent}
            if subscription.last_failure is not None:
                notification["lastFailure"] = subscription.last_failure
            status = "expired" if self._expired(subscription) else "active"
            shown.append(subscription.body | {"id": name, "status": status, "notification": notification})
        return JSONResponse(shown)

    async def _create(self, request: Request) -> Response:
        body, ld = await request.json(), _is_ld(request)
        if ld and ("@context" in body) != (request.headers["content-type"] == "application/ld+json"):
            return JSONResponse({"type": "https://uri.etsi.org/ngsi-ld/errors/BadRequestData"}, status_code=400)
        name = f"urn:ngsi-ld:Subscription:{uuid4()}" if ld else uuid4().hex[:24]
        self.subscriptions[name] = Subscription(body, ld)
        location = f"{request.url.path}/{name}"
        return Response(status_code=201, headers={"Location": location})

    async def _change(self, request: Request) -> Response:
        name = request.path_params["id"]
        if name not in self.subscriptions:
            return Response(status_code=404)
        if request.method == "DELETE":
            del self.subscriptions[name]
        else:
            self.subscriptions[name].body.update(await request.json())
        return Response(status_code=204)


def _is_ld(request: Request) -> bool:
    return request.url.path.startswith("/ngsi-ld/")


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
