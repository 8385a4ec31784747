"""Where a context broker delivers its notifications: answered when their values are on disk."""

import asyncio
import hmac
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from oracles.sources.delivery import Delivery, Value

TOKEN_HEADER = "X-Notification-Token"
STORE_S = 20.0
"""How long a notification may wait for its values to be stored [s]."""

_MAX_BYTES = 4 << 20


def notification_app(
    delivery: Delivery, translate: Callable[[Any], Sequence[Value]], token: str, refused: Counter[str]
) -> Starlette:
    """Application with ``POST /notify``.

    Parameters
    ----------
    translate : callable
        From one entity to values.
    token : str
        What :data:`TOKEN_HEADER` must carry; the subscription tells the broker.
    refused : Counter
        Notifications that were not taken, by reason.
    """

    async def notify(request: Request) -> Response:
        if not hmac.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), token.encode()):
            refused["wrong token"] += 1
            return Response(status_code=401)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BYTES:
                refused["too large"] += 1
                return Response(status_code=413)
        try:
            entities = json.loads(body)["data"]
            values = [value for entity in entities for value in translate(entity)]
        except (ValueError, KeyError, TypeError, AttributeError):
            refused["malformed"] += 1
            return Response(status_code=400)
        if delivery.full or not await _stored(delivery, values):
            refused["not stored in time"] += 1
            return Response(status_code=503)
        return Response(status_code=204)

    return Starlette(routes=[Route("/notify", notify, methods=["POST"])])


async def _stored(delivery: Delivery, values: Sequence[Value]) -> bool:
    done = asyncio.get_running_loop().create_future()
    delivery.put(values, lambda: None if done.done() else done.set_result(None))
    try:
        await asyncio.wait_for(done, STORE_S)
    except TimeoutError:
        return False
    return True
