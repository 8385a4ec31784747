"""HTTP of a running site: health, metrics, telemetry, and the data behind the roots with proofs.

=====================================  ========================================================================
``/health``                            200 and ``ok``, or 503 and the alarms that are on
``/metrics``                           Prometheus
``/live``, ``/live/{device}``          latest telemetry
``/regimes``                           regime of the congestion points of the site, and why
``/orders``                            what ordered meters delivered of what was due, by ISP
``/batches``                           batches of the last days
``/data/{data hash}``                  bytes whose keccak-256 is the data hash on chain
``/proofs/{root}/{meter id}``          a meter's values, its signature and its Merkle proof
=====================================  ========================================================================

Reads only, without login: it listens on the loopback unless told otherwise; whoever opens it puts a proxy with TLS and
login in front.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from offchain.domain.errors import DomainError, PermanentError
from offchain.store.batches import Batch, recent_batches
from oracles.clock import unix
from oracles.evidence import Evidence
from oracles.metrics import registry_of

if TYPE_CHECKING:
    from oracles.site import Site

SHOWN_DAYS = 8


@asynccontextmanager
async def serving(site: "Site") -> AsyncIterator[int]:
    """Serve a site while the block runs; gives the port."""
    runner = web.AppRunner(application(site), access_log=None, shutdown_timeout=2)
    await runner.setup()
    operation = site.config.operation
    listener = web.TCPSite(runner, operation.host, operation.port)
    try:
        await listener.start()
    except OSError as exc:
        await runner.cleanup()
        raise PermanentError(
            f"cannot listen on {operation.host}:{operation.port}: {exc.strerror}",
            hint="choose another operation.port; is the daemon running already?",
        ) from exc
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def application(site: "Site") -> web.Application:
    """The routes of a site."""
    registry = registry_of(site)
    evidence = Evidence(site.store)

    async def health(_request: web.Request) -> web.Response:
        state = health_of(site)
        return web.json_response(state, status=200 if state["ok"] else 503)

    async def metrics(_request: web.Request) -> web.Response:
        text = await asyncio.to_thread(generate_latest, registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def live(request: web.Request) -> web.Response:
        values = site.live.latest(request.match_info.get("device"))
        return web.json_response([value._asdict() for value in values])

    async def regimes(_request: web.Request) -> web.Response:
        now_isp = unix(site.clock) // 900
        found = {
            "0x" + point.hex(): {
                "regime": period.at(now_isp).name.lower(),
                "until_isp": period.until_isp,
                "reason": period.reason,
            }
            for point, period in site.regimes().items()
        }
        return web.json_response(found)

    async def orders(_request: web.Request) -> web.Response:
        found = [] if site.steering is None else await asyncio.to_thread(site.steering.feedback.deliveries)
        return web.json_response(
            [
                {
                    "order_id": delivery.order_id,
                    "meter_id": "0x" + delivery.meter_id.hex(),
                    "isp": delivery.isp,
                    "due_wh": delivery.due_wh,
                    "delivered_wh": delivery.delivered_wh,
                }
                for delivery in found
            ]
        )

    async def batches(_request: web.Request) -> web.Response:
        first_isp = unix(site.clock) // 900 - 96 * SHOWN_DAYS
        with site.store.read() as connection:
            found = recent_batches(connection, site.operator.address, first_isp)
        return web.json_response([_batch_json(batch) for batch in found])

    async def data(request: web.Request) -> web.StreamResponse:
        found = await asyncio.to_thread(evidence.data_behind, _bytes32(request, "hash"))
        if found is None:
            raise web.HTTPNotFound(text="no batch has this data hash")
        response = web.StreamResponse(headers={"X-Batch-Root": "0x" + found.batch.root.hex()})
        response.content_type, response.content_length = "application/octet-stream", found.size
        await response.prepare(request)
        while part := await asyncio.to_thread(next, found.parts, b""):
            await response.write(part)
        await response.write_eof()
        return response

    async def proof(request: web.Request) -> web.Response:
        found = await asyncio.to_thread(evidence.prove, _bytes32(request, "root"), _bytes32(request, "meter"))
        if found is None:
            raise web.HTTPNotFound(text="this meter has nothing under this root")
        return web.json_response(
            _batch_json(found.batch)
            | {
                "meter_id": "0x" + found.meter_id.hex(),
                "values": "0x" + found.values.hex(),
                "signature": "0x" + found.signature.hex(),
                "proof": ["0x" + sibling.hex() for sibling in found.siblings],
            }
        )

    app = web.Application(middlewares=[_errors])
    app.router.add_get("/health", health)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/live", live)
    app.router.add_get("/live/{device}", live)
    app.router.add_get("/regimes", regimes)
    app.router.add_get("/orders", orders)
    app.router.add_get("/batches", batches)
    app.router.add_get("/data/{hash}", data)
    app.router.add_get("/proofs/{root}/{meter}", proof)
    return app


def health_of(site: "Site") -> dict:
    """How a site is doing: ``ok`` when nothing needs a person."""
    alarms = [
        {"kind": alarm.kind, "subject": alarm.subject, "text": alarm.text, "since": alarm.since}
        for alarm in site.alarms
    ]
    return {
        "ok": not alarms,
        "site": site.config.name,
        "meters": len(site.points),
        "readings_accepted": sum(site.accepted.values()),
        "last_boundary": site.last_boundary,
        "chain_seen_at": site.chain_seen_at,
        "alarms": alarms,
    }


@web.middleware
async def _errors(request: web.Request, handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except DomainError as error:
        return web.json_response({"title": error.message, "detail": error.hint, "status": 409}, status=409)


def _bytes32(request: web.Request, name: str) -> bytes:
    text = request.match_info[name].removeprefix("0x")
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 32:
        raise web.HTTPBadRequest(text=f"{name} must be 32 bytes in hex")
    return value


def _batch_json(batch: Batch) -> dict:
    return {
        "kind": batch.kind,
        "operator": batch.operator,
        "first_isp": batch.first_isp,
        "isp_count": batch.isp_count,
        "version": batch.version,
        "root": "0x" + batch.root.hex(),
        "leaf_count": batch.leaf_count,
        "data_hash": "0x" + batch.data_hash.hex(),
        "status": batch.status,
        "tx": batch.tx,
    }
