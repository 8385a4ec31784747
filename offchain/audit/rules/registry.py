"""Participants, grid, meters, modules and tokens: who may act, and on what."""

from offchain.audit.model import (
    NOBODY,
    CongestionPoint,
    Connection,
    Meter,
    Role,
    Standing,
    StaticLight,
)
from offchain.audit.replay import Replay, at
from offchain.chain.events import Event
from offchain.domain.isp import SECONDS_PER_ISP

SUBJECT = "registries"


def participant_registered(replay: Replay, event: Event) -> None:
    account, role = event.args["account"], Role(event.args["role"])
    where = at(event, account)
    model = replay.model
    standing = model.standings.get(account, Standing.UNKNOWN)
    replay.rule(
        SUBJECT,
        "standing before registration",
        where,
        standing in (Standing.UNKNOWN, Standing.ACTIVE),
        "unknown or active",
        standing.name.lower(),
    )
    replay.rule(SUBJECT, "role given twice", where, role not in model.roles[account], "a new role", role.name)
    if role is not Role.REGISTRAR:  # registrars are appointed by governance
        replay.require_role(SUBJECT, event.args["registrar"], Role.REGISTRAR, where)
    model.standings[account] = Standing.ACTIVE
    model.roles[account].add(role)


def participant_status_changed(replay: Replay, event: Event) -> None:
    account, wanted = event.args["account"], Standing(event.args["status"])
    where = at(event, account)
    current = replay.find(replay.model.standings, account, "participant")
    replay.rule(
        SUBJECT,
        "change of standing",
        where,
        current is not Standing.REVOKED and wanted is not Standing.UNKNOWN and wanted is not current,
        f"a change from {current.name.lower()}",
        wanted.name.lower(),
    )
    if Role.REGISTRAR not in replay.model.roles[account]:
        replay.require_role(SUBJECT, event.args["by"], Role.REGISTRAR, where)
    replay.model.standings[account] = wanted


def congestion_point_declared(replay: Replay, event: Event) -> None:
    point_id, dso = event.args["congestionPointId"], event.args["dso"]
    where = at(event, f"congestion point 0x{point_id.hex()}")
    known = point_id in replay.model.congestion_points
    replay.rule(SUBJECT, "congestion point declared twice", where, not known, "a new one", "one that exists")
    replay.require_role(SUBJECT, dso, Role.DSO, where)
    replay.model.congestion_points[point_id] = CongestionPoint(dso, event.args["capacityW"])


def congestion_point_withdrawn(replay: Replay, event: Event) -> None:
    _point(replay, event).active = False


def aggregator_activated(replay: Replay, event: Event) -> None:
    point, aggregator = _point(replay, event), event.args["aggregator"]
    where = at(event, aggregator)
    replay.require_role(SUBJECT, aggregator, Role.AGGREGATOR, where)
    replay.rule(SUBJECT, "aggregator activated", where, point.active, "an active congestion point", "withdrawn")
    point.aggregators.add(aggregator)


def aggregator_deactivated(replay: Replay, event: Event) -> None:
    _point(replay, event).aggregators.discard(event.args["aggregator"])


def connection_registered(replay: Replay, event: Event) -> None:
    connection_id, owner = event.args["connectionId"], event.args["owner"]
    where = at(event, f"connection 0x{connection_id.hex()}")
    point = _point(replay, event)
    replay.rule(SUBJECT, "congestion point of a connection", where, point.active, "an active one", "withdrawn")
    known = connection_id in replay.model.connections
    replay.rule(SUBJECT, "connection registered twice", where, not known, "a new one", "one that exists")
    replay.require_role(SUBJECT, owner, Role.PROSUMER, where)
    replay.model.connections[connection_id] = Connection(
        owner, event.args["congestionPointId"], event.args["technicalUpW"], event.args["technicalDownW"]
    )


def connection_moved(replay: Replay, event: Event) -> None:
    connection, target = _connection(replay, event), _point(replay, event)
    source = replay.find(replay.model.congestion_points, connection.congestion_point_id, "congestion point")
    where = at(event, f"connection 0x{event.args['connectionId'].hex()}")
    replay.rule(SUBJECT, "DSO of a moved connection", where, source.dso == target.dso, source.dso, target.dso)
    connection.congestion_point_id = event.args["congestionPointId"]


def connection_decommissioned(replay: Replay, event: Event) -> None:
    _connection(replay, event).active = False


def static_light_set(replay: Replay, event: Event) -> None:
    _connection(replay, event).light = StaticLight(event.args["light"])


def meter_registered(replay: Replay, event: Event) -> None:
    meter_id, operator, first = event.args["meterId"], event.args["operator"], event.args["fromIsp"]
    where = at(event, f"meter 0x{meter_id.hex()}")
    connection = _connection(replay, event)
    model = replay.model
    replay.require_role(SUBJECT, operator, Role.METER_OPERATOR, where)
    replay.rule(SUBJECT, "connection of a meter", where, connection.active, "an active one", "decommissioned")
    replay.rule(SUBJECT, "meter registered twice", where, meter_id not in model.meters, "a new one", "one that exists")
    before = model.meters.get(connection.meter_id)
    now = event.timestamp // SECONDS_PER_ISP
    replay.rule(
        SUBJECT,
        "second meter of a connection",
        where,
        before is None or 0 < before.end_isp <= min(now, first),
        "the meter before it to be out of service",
        f"first ISP {first}",
    )
    model.meters[meter_id] = Meter(event.args["connectionId"], operator, [(first, event.args["deviceKey"])])
    connection.meter_id = meter_id


def device_key_replaced(replay: Replay, event: Event) -> None:
    meter, first = _meter(replay, event), event.args["fromIsp"]
    where = at(event, f"meter 0x{event.args['meterId'].hex()}")
    from_isp, key = meter.keys[-1]
    replay.checks.equal(SUBJECT, "device key replaced", where, key, event.args["oldKey"])
    replay.rule(
        SUBJECT,
        "start of a device key",
        where,
        first > from_isp and first >= event.timestamp // SECONDS_PER_ISP and not meter.end_isp,
        f"after ISP {from_isp}, not in the past",
        first,
    )
    meter.keys.append((first, event.args["newKey"]))


def meter_decommissioned(replay: Replay, event: Event) -> None:
    meter, end = _meter(replay, event), event.args["endIsp"]
    where = at(event, f"meter 0x{event.args['meterId'].hex()}")
    replay.rule(
        SUBJECT,
        "end of a meter",
        where,
        not meter.end_isp and end >= event.timestamp // SECONDS_PER_ISP,
        "in service, not in the past",
        end,
    )
    meter.end_isp = end


def module_set(replay: Replay, event: Event) -> None:
    modules = replay.model.modules[event.contract]
    if event.args["allowed"]:
        modules.add(event.args["module"])
    else:
        modules.discard(event.args["module"])


def paused(replay: Replay, event: Event) -> None:
    replay.model.paused[event.contract] = event.timestamp


def unpaused(replay: Replay, event: Event) -> None:
    since = replay.find(replay.model.paused, event.contract, "pause of")
    replay.model.past_paused_seconds[event.contract] += event.timestamp - since
    del replay.model.paused[event.contract]


def token_transfer(replay: Replay, event: Event) -> None:
    token = replay.model.token
    source, target, amount = event.args["from"], event.args["to"], event.args["value"]
    where = at(event, f"{source} to {target}")
    if source == NOBODY:
        replay.rule("tokens", "second issue of energy tokens", where, token.supply == 0, "one issue", amount)
        token.supply += amount
    else:
        held = token.balances[source]
        replay.rule("tokens", "transfer", where, held >= amount, f"at most {held}", amount)
        token.balances[source] -= amount
    token.balances[target] += amount
    payment_transfer(replay, event)


def payment_transfer(replay: Replay, event: Event) -> None:
    """Noted for the desk's transactions; who else holds payment tokens is not the suite's matter."""
    replay.money.tokens[event.contract, event.args["from"]] -= event.args["value"]
    replay.money.tokens[event.contract, event.args["to"]] += event.args["value"]


def tokens_bought(replay: Replay, event: Event) -> None:
    tokens, buyer = event.args["tokens"], event.args["to"]
    where = at(event, buyer)
    model = replay.model
    model.net_bought[buyer] += tokens
    replay.rule(
        "tokens",
        "standing of a buyer",
        where,
        model.standings.get(buyer) is Standing.ACTIVE,
        "active",
        model.standings.get(buyer),
    )
    bought = model.net_bought[buyer]
    replay.rule(
        "tokens",
        "tokens bought",
        where,
        bought <= model.purchase_limit,
        f"at most {model.purchase_limit}",
        bought,
    )
    due = -(-tokens * _par(replay) // 10**6)
    replay.checks.equal("tokens", "payment for tokens", where, due, event.args["payment"])
    replay.money.desk_tokens -= tokens
    replay.money.desk_payment += due


def tokens_sold(replay: Replay, event: Event) -> None:
    tokens, seller = event.args["tokens"], event.args["seller"]
    due = tokens * _par(replay) // 10**6
    replay.checks.equal("tokens", "payment for tokens", at(event, seller), due, event.args["payment"])
    replay.model.net_bought[seller] = max(replay.model.net_bought[seller] - tokens, 0)
    replay.money.desk_tokens += tokens
    replay.money.desk_payment -= due


def stocked(replay: Replay, event: Event) -> None:
    replay.money.desk_tokens += event.args["tokens"]


def purchase_limit_set(replay: Replay, event: Event) -> None:
    replay.model.purchase_limit = event.args["limitPerAccount"]


def _par(replay: Replay) -> int:
    """Payment units for one energy token."""
    return replay.setting("TokenDesk", "quote", 10**6)[0]


def _point(replay: Replay, event: Event) -> CongestionPoint:
    return replay.find(replay.model.congestion_points, event.args["congestionPointId"], "congestion point")


def _connection(replay: Replay, event: Event) -> Connection:
    return replay.find(replay.model.connections, event.args["connectionId"], "connection")


def _meter(replay: Replay, event: Event) -> Meter:
    return replay.find(replay.model.meters, event.args["meterId"], "meter")


HANDLERS = {
    ("ParticipantRegistry", "ParticipantRegistered"): participant_registered,
    ("ParticipantRegistry", "ParticipantStatusChanged"): participant_status_changed,
    ("GridRegistry", "CongestionPointDeclared"): congestion_point_declared,
    ("GridRegistry", "CongestionPointWithdrawn"): congestion_point_withdrawn,
    ("GridRegistry", "AggregatorActivated"): aggregator_activated,
    ("GridRegistry", "AggregatorDeactivated"): aggregator_deactivated,
    ("GridRegistry", "ConnectionRegistered"): connection_registered,
    ("GridRegistry", "ConnectionMoved"): connection_moved,
    ("GridRegistry", "ConnectionDecommissioned"): connection_decommissioned,
    ("GridRegistry", "StaticLightSet"): static_light_set,
    ("MeterRegistry", "MeterRegistered"): meter_registered,
    ("MeterRegistry", "DeviceKeyReplaced"): device_key_replaced,
    ("MeterRegistry", "MeterDecommissioned"): meter_decommissioned,
    ("EnergyToken", "Transfer"): token_transfer,
    ("LocalCurrency", "Transfer"): payment_transfer,
    ("TokenDesk", "TokensBought"): tokens_bought,
    ("TokenDesk", "TokensSold"): tokens_sold,
    ("TokenDesk", "Stocked"): stocked,
    ("TokenDesk", "PurchaseLimitSet"): purchase_limit_set,
}
