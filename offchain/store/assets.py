"""Assets: which device belongs to whom, with its properties, since when, known since when and from where."""

import json
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from offchain.store.database import insert_ignore
from offchain.store.tables import assets


class Asset(NamedTuple):
    """An asset as it is from ``valid_from`` on [UTC s]; attributes carry their unit in the name."""

    asset_id: str
    valid_from: int
    belief_time: int
    source: str
    prosumer: str
    kind: str
    attributes: dict[str, Any]


def put_asset(connection: Connection, asset: Asset) -> bool:
    """Store an asset or a change of it; ``False`` when that was known."""
    row = asset._asdict() | {"attributes": json.dumps(asset.attributes, sort_keys=True)}
    return insert_ignore(connection, assets, [row]) == 1


def assets_at(connection: Connection, moment: int, *, known_at: int | None = None) -> list[Asset]:
    """Assets as they were at a moment [UTC s], after what was known at ``known_at``; by id."""
    query = select(*(assets.c[name] for name in Asset._fields)).where(assets.c.valid_from <= moment)
    if known_at is not None:
        query = query.where(assets.c.belief_time <= known_at)
    query = query.order_by(assets.c.asset_id, assets.c.valid_from, assets.c.belief_time, assets.c.source)
    latest = {row.asset_id: row for row in connection.execute(query)}
    return [Asset(*row)._replace(attributes=json.loads(row.attributes)) for row in latest.values()]
