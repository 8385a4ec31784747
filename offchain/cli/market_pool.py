"""``gridpact market pool``: post-delivery pools and the bilateral trades of their members."""

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offchain.cli.connection import (
    DEFAULT_RPC,
    ChainIdOption,
    DeploymentOption,
    DevOption,
    KeystoreOption,
    RpcOption,
    choose_signer,
)
from offchain.cli.market_chain import open_suite, stamp
from offchain.cli.market_files import bytes32, in_hex, not_signed, read_signed, read_toml, seconds, whole_numbers
from offchain.cli.output import JsonOption, columns, note, result
from offchain.domain.errors import DomainError

if TYPE_CHECKING:
    from offchain.chain.contracts import Suite
    from offchain.market.pool import PoolTerms, Trade
    from offchain.market.pool_replay import PoolRecord
    from offchain.market.replay import SessionRecord

app = typer.Typer(help="Pools of what members have left after delivery.", no_args_is_help=True)
trade_app = typer.Typer(help="Bilateral trades between members of a pool.", no_args_is_help=True)
app.add_typer(trade_app, name="trade")

SCHEMA = 1
SIGNED_BY = "pool trade sign"
MECHANISMS = ("mid-market-rate", "intermediate-rate", "supply-demand-ratio", "tick-book")
PoolArgument = Annotated[int, typer.Argument(help="Number of the pool.", min=1)]
TradeArgument = Annotated[Path, typer.Argument(help="File that `gridpact market pool trade sign` wrote.")]

_TIMES = ("delivery", "join_by", "trade_by", "report_by")
_NUMBERS = ("retail_price", "feed_in_price", "isps_per_period", "period_count", "budget")
_PARAMETERS = ("retail_weight_bps", "compensation", "price_step")
"""Of the mechanisms, in the order of the terms."""
_OPTIONAL = {"retail_weight_bps": 5_000, "compensation": 0, "price_step": 0, "congestion_point_id": ""}
_TRADE = ("pool", "seller", "buyer", "price", "type", "valid_until", "quantities_wh")


@app.command("open")
def open_(
    terms: Annotated[Path, typer.Argument(help=f"TOML file with mechanism, {', '.join((*_TIMES, *_NUMBERS))}.")],
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Open a pool as its market operator."""
    from offchain.market.pool_operating import open_pool

    wanted = _terms(terms)
    suite = open_suite(rpc, chain_id, deployment)
    pool_id = open_pool(suite, choose_signer(suite.chain, keystore, dev), wanted)
    result({"pool": pool_id}, f"pool {pool_id} can be joined until {stamp(wanted.join_by)}", as_json)


@app.command()
def join(
    pool: PoolArgument,
    connection: Annotated[str, typer.Option(help="Connection of the signer, 32 bytes in hex.")],
    deposit: Annotated[int, typer.Option(help="Locked until the payment, uToken.", min=0)],
    buy_limit: Annotated[int | None, typer.Option(help="Tick book: highest price for buying, uToken/kWh.")] = None,
    sell_limit: Annotated[int | None, typer.Option(help="Tick book: lowest price for selling, uToken/kWh.")] = None,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Join a pool with a connection of one's own."""
    suite = open_suite(rpc, chain_id, deployment)
    connection_id = bytes32(connection, "connection")
    grid = _find(suite, pool).terms.grid
    # Without a limit: what the supplier charges and pays outside of the pool.
    buy_tick = grid.tick_count - 1 if buy_limit is None else grid.tick(buy_limit)
    sell_tick = 0 if sell_limit is None else grid.tick(sell_limit)
    signer = choose_signer(suite.chain, keystore, dev)
    suite.send(signer, "PostDeliveryPool", "join", (pool, connection_id, deposit, buy_tick, sell_tick))
    data = {
        "pool": pool,
        "connection": "0x" + connection_id.hex(),
        "buy_limit_utoken_per_kwh": grid.price(buy_tick),
        "sell_limit_utoken_per_kwh": grid.price(sell_tick),
    }
    result(data, f"connection {connection} is a member of pool {pool}", as_json)


@app.command("list")
def list_(
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    as_json: JsonOption = False,
) -> None:
    """All pools and where they stand."""
    suite = open_suite(rpc, chain_id, deployment)
    now = suite.chain.block()["timestamp"]
    _, pools = _replay(suite)
    rows = [
        {
            "pool": pool.id,
            "state": _state(pool, now),
            "mechanism": MECHANISMS[pool.terms.mechanism],
            "delivery": stamp(pool.terms.delivery_start),
            "members": len(pool.members),
            "trades": len(pool.trades),
        }
        for pool in pools.values()
    ]
    text = columns(rows) if rows else "no pool was opened yet"
    result(rows, text, as_json)


@app.command()
def show(
    pool: PoolArgument,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Members, trades and prices of a pool."""
    suite = open_suite(rpc, chain_id, deployment)
    record = _find(suite, pool)
    data = _summary(record, suite.chain.block()["timestamp"])
    lines = [f"{name.replace('_', ' '):<14} {value}" for name, value in data.items() if not isinstance(value, list)]
    lines += [
        f"{row['delivery']:<26} demand {row['demand_wh'] / 1e3:>9.3f} kWh at {_price(row['buyers_utoken_per_kwh'])}  "
        f"surplus {row['surplus_wh'] / 1e3:>9.3f} kWh at {_price(row['sellers_utoken_per_kwh'])} token/kWh"
        for row in data["periods"]
    ]
    lines += [
        f"{row['connection'][:18]}…  {row['state']:<9} net {_money(row['net_utoken'])}" for row in data["member_list"]
    ]
    result(data, "\n".join(lines), as_json)


@app.command()
def run(
    pool: PoolArgument,
    store: Annotated[str | None, typer.Option(help="Store with metered days, a file or a database URL.")] = None,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take every step of a pool that its time allows: report, fix prices, pay, close. Anyone may."""
    from contextlib import nullcontext

    from offchain.market.pool_operating import advance_pool
    from offchain.store import open_store

    suite = open_suite(rpc, chain_id, deployment)
    signer = choose_signer(suite.chain, keystore, dev)
    steps: list[str] = []
    with open_store(store, create=False) if store is not None else nullcontext() as opened:
        while True:
            sessions, pools = _replay(suite)
            done = advance_pool(suite, signer, sessions, _known(pools, pool), opened)
            if not done:
                break
            steps += done
            for step in done if not as_json else ():
                note(step)
    state = _state(_known(pools, pool), suite.chain.block()["timestamp"])
    result({"pool": pool, "steps": steps, "state": state}, f"pool {pool}: {state}", as_json)


# -------------------------------------------------------------------------------- trades


@trade_app.command("sign")
def sign_(
    trade: Annotated[Path, typer.Argument(help=f"TOML file with {', '.join(_TRADE)}; or a file signed before.")],
    out: Annotated[Path, typer.Option(help="Where the signed trade goes.")] = Path("trade.json"),
    cancellation: Annotated[bool, typer.Option("--cancel", help="Sign its end.")] = False,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Sign a trade as one of its parties; the other party signs the file that comes out."""
    from offchain.chain.signatures import signing_key
    from offchain.market.pool_operating import sign_cancellation, sign_trade
    from offchain.market.pool_replay import trade_id_of

    content = _draft(trade) if trade.suffix == ".toml" else read_signed(trade, "trade", SCHEMA, SIGNED_BY)
    agreed = _trade_of(trade, content)
    suite = open_suite(rpc, chain_id, deployment)
    signer = choose_signer(suite.chain, keystore, dev)
    connections = {"seller": agreed.seller_connection_id, "buyer": agreed.buyer_connection_id}
    accounts = {
        party: suite.call("PostDeliveryPool", "memberOf", (agreed.pool_id, connection_id))["account"]
        for party, connection_id in connections.items()
    }
    parties = [party for party, account in accounts.items() if account == signer.address]
    if not parties:
        raise DomainError(
            f"{signer.address} is no party of the trade",
            hint=f"seller {accounts['seller']}, buyer {accounts['buyer']}, as they joined pool {agreed.pool_id}",
        )
    make = sign_cancellation if cancellation else sign_trade
    signature = "0x" + make(suite, signing_key(bytes(signer.key)), agreed).hex()
    field = "cancellation" if cancellation else "signatures"
    content[field] = content.get(field, {}) | dict.fromkeys(parties, signature)
    try:
        out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as exc:
        raise DomainError(f"{out}: {exc.strerror}") from exc
    missing = [party for party in connections if party not in content[field]]
    data = {"file": str(out), "trade": "0x" + trade_id_of(agreed).hex(), "missing": missing}
    result(data, f"{out}: signed" + (f", the {missing[0]} has to sign too" if missing else " by both"), as_json)


@trade_app.command()
def register(
    trade: TradeArgument,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Register a trade that both parties signed. Anyone may."""
    from offchain.market.pool_operating import register_trade

    _bring(register_trade, "signatures", "is registered", trade, rpc, chain_id, deployment, keystore, dev, as_json)


@trade_app.command()
def cancel(
    trade: TradeArgument,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take back a trade whose end both parties signed. Anyone may."""
    from offchain.market.pool_operating import cancel_trade

    _bring(cancel_trade, "cancellation", "is cancelled", trade, rpc, chain_id, deployment, keystore, dev, as_json)


def _bring(step, field, done, path, rpc, chain_id, deployment, keystore, dev, as_json) -> None:
    from offchain.market.pool_replay import trade_id_of

    content = read_signed(path, "trade", SCHEMA, SIGNED_BY)
    agreed, given = _trade_of(path, content), content.get(field, {})
    if missing := [party for party in ("seller", "buyer") if party not in given]:
        raise DomainError(f"{path}: the {missing[0]} has not signed", hint="`gridpact market pool trade sign`")
    signatures = [in_hex(given[party], f"signature of the {party}") for party in ("seller", "buyer")]
    suite = open_suite(rpc, chain_id, deployment)
    step(suite, choose_signer(suite.chain, keystore, dev), agreed, *signatures)
    trade_id = "0x" + trade_id_of(agreed).hex()
    result({"trade": trade_id, "pool": agreed.pool_id}, f"trade {trade_id} {done}", as_json)


# -------------------------------------------------------------------------------- chain


def _replay(suite: "Suite") -> tuple[dict[int, "SessionRecord"], dict[int, "PoolRecord"]]:
    from offchain.chain.indexer import read_events
    from offchain.market.pool_replay import replay_pools
    from offchain.market.replay import replay_sessions

    events = list(read_events(suite.chain, suite))
    return replay_sessions(events), replay_pools(events)


def _find(suite: "Suite", pool_id: int) -> "PoolRecord":
    return _known(_replay(suite)[1], pool_id)


def _known(pools: dict[int, "PoolRecord"], pool_id: int) -> "PoolRecord":
    if pool_id not in pools:
        raise DomainError(f"there is no pool {pool_id}", hint=f"{len(pools)} were opened; `gridpact market pool list`")
    return pools[pool_id]


def _state(pool: "PoolRecord", now: int) -> str:
    """Where a pool stands, in words."""
    terms = pool.terms
    if pool.residual is not None:
        return "closed"
    if now <= terms.join_by:
        return "open for members"
    if now < terms.reports_from:
        return "waiting for delivery" if now > terms.trade_by else "open for trades"
    waiting = len(pool.members) - len(pool.reported) if pool.surplus_price is None else 0
    if waiting and now <= terms.report_by:
        return f"{waiting} members to report"
    if pool.open:
        return f"{len(pool.open)} members to pay"
    return "paid"


def _summary(pool: "PoolRecord", now: int) -> dict[str, Any]:
    from offchain.domain.isp import SECONDS_PER_ISP
    from offchain.market.orders import unpack_bundle

    terms = pool.terms
    sums = [[0, 0] for _ in range(terms.period_count)]
    for member in pool.reported:
        for period, sell, _, energy_wh in (
            unpack_bundle(terms.grid, member.position).tolist() if member.position else ()
        ):
            sums[period][sell] += energy_wh
    periods = []
    for period, (demand_wh, surplus_wh) in enumerate(sums):
        cleared = pool.results.get(period)
        prices = pool.shared_prices[period] if pool.prices else (cleared.price,) * 2 if cleared else (None, None)
        if demand_wh or surplus_wh:
            first = terms.first_isp + period * terms.isps_per_period
            periods.append(
                {
                    "delivery": stamp(first * SECONDS_PER_ISP),
                    "demand_wh": demand_wh,
                    "surplus_wh": surplus_wh,
                    "buyers_utoken_per_kwh": prices[0],
                    "sellers_utoken_per_kwh": prices[1],
                }
            )
    return {
        "pool": pool.id,
        "state": _state(pool, now),
        "operator": pool.operator,
        "mechanism": MECHANISMS[terms.mechanism],
        "delivery": f"{stamp(terms.delivery_start)} to {stamp(terms.delivery_end)}",
        "join_by": stamp(terms.join_by),
        "trade_by": stamp(terms.trade_by),
        "report_by": stamp(terms.report_by),
        "retail_price": terms.retail_price,
        "feed_in_price": terms.feed_in_price,
        "surplus_price": pool.surplus_price,
        "traded_wh": sum(trade.energy_wh for trade in pool.trades.values()),
        "residual": pool.residual,
        "periods": periods,
        "member_list": [
            {
                "connection": "0x" + member.connection_id.hex(),
                "account": member.account,
                "state": member.state.name.lower(),
                "net_utoken": member.net,
                "payout_utoken": member.payout,
            }
            for member in pool.members.values()
        ],
    }


def _price(price: int | None) -> str:
    return "       -" if price is None else f"{price / 1e6:>8.4f}"


def _money(amount: int | None) -> str:
    return "-" if amount is None else f"{amount / 1e6:.6f} token"


# -------------------------------------------------------------------------------- files


def _terms(path: Path) -> "PoolTerms":
    from offchain.domain.isp import SECONDS_PER_ISP
    from offchain.market.pool import Mechanism, PoolTerms

    given = read_toml(path, "terms", ("mechanism", *_TIMES, *_NUMBERS), _OPTIONAL)
    if given["mechanism"] not in MECHANISMS:
        raise DomainError(f"terms {path}: mechanism {given['mechanism']!r}", hint=f"one of {', '.join(MECHANISMS)}")
    times = {name: seconds(path, "terms", given, name) for name in _TIMES}
    first_isp, off = divmod(times["delivery"], SECONDS_PER_ISP)
    if off:
        raise DomainError(f"terms {path}: delivery is not at a quarter hour")
    whole_numbers(path, "terms", given, (*_NUMBERS, *_PARAMETERS))
    area = given["congestion_point_id"]
    return PoolTerms(
        mechanism=Mechanism(MECHANISMS.index(given["mechanism"])),
        **{name: given[name] for name in ("retail_price", "feed_in_price", *_PARAMETERS)},
        first_isp=first_isp,
        **{name: given[name] for name in ("isps_per_period", "period_count", "budget")},
        **{name: times[name] for name in ("join_by", "trade_by", "report_by")},
        congestion_point_id=bytes32(area, "congestion_point_id") if area else bytes(32),
    )


def _draft(path: Path) -> dict[str, Any]:
    """A trade that nobody signed yet, as it is kept in a file."""
    given = read_toml(path, "trade", _TRADE, {})
    quantities = given["quantities_wh"]
    if not isinstance(quantities, list) or any(type(value) is not int for value in quantities):
        raise DomainError(f"trade {path}: quantities_wh are whole numbers of Wh, one for each delivery period")
    if given["type"] not in ("green", "brown"):
        raise DomainError(f"trade {path}: type {given['type']!r}", hint="green or brown")
    valid_until = seconds(path, "trade", given, "valid_until")
    return {"schema": SCHEMA, "trade": given | {"valid_until": valid_until, "salt": secrets.randbits(128)}}


def _trade_of(path: Path, content: dict[str, Any]) -> "Trade":
    """The trade of a file that was read."""
    from offchain.market.pool import Trade
    from offchain.market.terms import EnergyType

    try:
        given = content["trade"]
        return Trade(
            int(given["pool"]),
            bytes32(given["seller"], "seller"),
            bytes32(given["buyer"], "buyer"),
            int(given["price"]),
            EnergyType[given["type"].upper()],
            int(given["valid_until"]),
            int(given["salt"]),
            tuple(given["quantities_wh"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise not_signed(path, "trade", exc, SIGNED_BY) from exc
