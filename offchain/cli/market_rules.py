"""``gridpact market rules``: orders without asking every day, by a rule that the owner of a connection signs once."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

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
from offchain.cli.market_chain import find_session, open_suite, stamp
from offchain.cli.market_files import bytes32, not_signed, read_signed, read_toml, seconds
from offchain.cli.output import JsonOption, result
from offchain.cli.store import opened
from offchain.domain.errors import DomainError

if TYPE_CHECKING:
    from offchain.chain.contracts import Suite
    from offchain.market.trading_rules import TradingRule

app = typer.Typer(help="Trading rules: signed once, every order checked against them.", no_args_is_help=True)

SCHEMA = 1
SIGNED_BY = "rules sign"
NEVER = "never"
FIELDS = ("agent", "forecaster", "valid_from", "valid_until", "share_bps", "green_only", "buy_limits", "sell_limits")

SignedRule = Annotated[Path, typer.Argument(help="File that `gridpact market rules sign` wrote.")]


@app.command()
def sign(
    terms: Annotated[Path, typer.Argument(help=f"TOML file with {', '.join(FIELDS)}.")],
    connection: Annotated[str, typer.Option(help="Connection that the rule is for, 32 bytes in hex.")],
    out: Annotated[Path, typer.Option(help="Where the signed rule goes.")] = Path("trading-rule.json"),
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Sign a rule with the wallet of the connection's owner; anyone can register it then."""
    from offchain.chain.signatures import signing_key
    from offchain.market.trading_rules import sign_rule

    suite = open_suite(rpc, chain_id, deployment)
    connection_id = bytes32(connection, "connection")
    owner, _ = suite.call("GridRegistry", "ownerOf", (connection_id,))
    latest, _ = suite.call("TradingRules", "ruleOf", (connection_id,))
    rule = _read_terms(terms, connection_id, latest + 1)
    signer = choose_signer(suite.chain, keystore, dev)
    if signer.address != owner:
        raise DomainError(
            f"connection {connection} belongs to {owner}, not to {signer.address}", hint="sign with the owner's wallet"
        )
    signature = sign_rule(suite, signing_key(bytes(signer.key)), rule)
    signed = {"schema": SCHEMA, "rule": _as_json(rule), "signature": "0x" + signature.hex()}
    try:
        out.write_text(json.dumps(signed, indent=2) + "\n", encoding="utf-8")
    except OSError as exc:
        raise DomainError(f"{out}: {exc.strerror}") from exc
    result({"file": str(out), "number": rule.number}, f"rule {rule.number} of the connection is in {out}", as_json)


@app.command()
def register(
    rule: SignedRule,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put a signed rule into force, in the place of the one before. Anyone may."""
    from offchain.market.trading_rules import register_rule

    terms, signature = _read_signed(rule)
    suite = open_suite(rpc, chain_id, deployment)
    receipt = register_rule(suite, choose_signer(suite.chain, keystore, dev), terms, signature)
    data = {"connection": "0x" + terms.connection_id.hex(), "number": terms.number, "transaction": receipt.tx_hash}
    result(data, f"rule {terms.number} is in force until {stamp(terms.valid_until)}", as_json)


@app.command()
def bid(
    session: Annotated[int, typer.Argument(help="Number of the session.", min=1)],
    connection: Annotated[str, typer.Option(help="Connection to trade for, 32 bytes in hex.")],
    store: Annotated[str, typer.Option(help="Store with the committed forecasts, a file or a database URL.")],
    buy_brown: Annotated[
        bool, typer.Option("--buy-brown/--buy-green", help="What is bought, if the rule allows.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the orders, place nothing.")] = False,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Place the orders that the rule in force allows, from the forecast that its forecaster committed."""
    from offchain.market.orders import pack_bundle
    from offchain.market.settlement import bundle_escrow
    from offchain.market.terms import EnergyType
    from offchain.market.trading_rules import find_forecast, place_call

    suite = open_suite(rpc, chain_id, deployment)
    connection_id = bytes32(connection, "connection")
    found, (rule, meter_id) = find_session(suite, session), _in_force(suite, connection_id)
    with opened(store) as forecasts:
        forecast = find_forecast(forecasts, rule, meter_id, found.first_isp)
    green = suite.call("ProducerRegistry", "isGreen", (connection_id,))
    book = rule.orders(
        found.terms,
        found.first_isp,
        forecast.net_wh(found.terms, found.first_isp),
        buys=EnergyType.BROWN if buy_brown else EnergyType.GREEN,
        sells=EnergyType.GREEN if green else EnergyType.BROWN,
    )
    if not len(book):
        raise DomainError(
            f"the rule of connection {connection} allows no order in session {session}",
            hint="the forecast is below the smallest quantity, or no price of the session is within the limits",
        )
    rows = [_order(found.terms, *order) for order in book.tolist()]
    data: dict[str, Any] = {
        "session": session,
        "rule": rule.number,
        "commitment": forecast.commitment_id,
        "escrow_utoken": bundle_escrow(found.terms, book),
        "orders": rows,
        "transaction": None,
    }
    if not dry_run:
        call = place_call(suite, rule, session, pack_bundle(found.terms.grid, book), forecast)
        data["transaction"] = suite.chain.send(choose_signer(suite.chain, keystore, dev), call).tx_hash
    lines = [
        f"{row['side']:<4} {row['type']:<5} period {row['period']:>3} {row['quantity_wh'] / 1e3:>9.3f} kWh at "
        f"{row['limit_utoken_per_kwh'] / 1e6:>8.4f} token/kWh"
        for row in rows
    ]
    lines.append(f"{len(rows)} orders {'would be' if dry_run else 'were'} placed by rule {rule.number}")
    result(data, "\n".join(lines), as_json)


@app.command()
def show(
    connection: Annotated[str, typer.Argument(help="Connection, 32 bytes in hex.")],
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    as_json: JsonOption = False,
) -> None:
    """The latest rule of a connection, and the sessions in which it placed orders."""
    suite = open_suite(rpc, chain_id, deployment)
    connection_id = bytes32(connection, "connection")
    rule, sessions, _ = _history(suite, connection_id)
    if rule is None:
        raise DomainError(f"connection {connection} never had a trading rule", hint="`gridpact market rules sign`")
    _, in_force = suite.call("TradingRules", "ruleOf", (connection_id,))
    data = {"in_force": in_force, "sessions": sessions, "rule": _as_json(rule)}
    lines = [
        f"rule {rule.number}, {'in force' if in_force else 'revoked'}, "
        f"{stamp(rule.valid_from)} to {stamp(rule.valid_until)}",
        f"{rule.share_bps / 100:g} % of the forecast of {rule.forecaster}, brought by {rule.agent}",
        f"buys {'green energy only' if rule.green_only else 'either type'}; limits in token/kWh by hour, UTC:",
    ]
    for hour, (buy, sell) in enumerate(zip(rule.buy_limits, rule.sell_limits, strict=True)):
        lines.append(f"  {hour:02d}:00  buys up to {_price(buy):>8}  sells from {_price(sell):>8}")
    lines.append(f"placed orders in {len(sessions)} sessions")
    result(data, "\n".join(lines), as_json)


# -------------------------------------------------------------------------------- chain


class History(NamedTuple):
    """What the chain tells of a connection: latest rule, sessions that its rules traded in, latest meter."""

    rule: "TradingRule | None"
    sessions: list[int]
    meter_id: bytes | None


def _history(suite: "Suite", connection_id: bytes) -> History:
    from offchain.chain.indexer import read_events
    from offchain.market.trading_rules import TradingRule

    rule, sessions, meter_id = None, [], None
    for event in read_events(suite.chain, suite):
        if event.args.get("connectionId") == connection_id:
            match event.name:
                case "RuleRegistered":
                    rule = TradingRule.of_argument(event.args["rule"])
                case "PlacedByRule":
                    sessions.append(event.args["sessionId"])
                case "MeterRegistered":
                    meter_id = event.args["meterId"]
    return History(rule, sessions, meter_id)


def _in_force(suite: "Suite", connection_id: bytes) -> tuple["TradingRule", bytes]:
    """Rule in force of a connection, and its meter."""
    rule, _, meter_id = _history(suite, connection_id)
    name = f"connection 0x{connection_id.hex()}"
    if rule is None or not suite.call("TradingRules", "ruleOf", (connection_id,))[1]:
        raise DomainError(f"no trading rule of {name} is in force", hint="`gridpact market rules register`")
    if meter_id is None:
        raise DomainError(f"{name} has no meter", hint="its forecasts are by meter")
    return rule, meter_id


# -------------------------------------------------------------------------------- files


def _read_terms(path: Path, connection_id: bytes, number: int) -> "TradingRule":
    from offchain.chain.abi import checksum
    from offchain.market.trading_rules import ANYONE, TradingRule

    optional = {"agent": ANYONE, "green_only": False}
    given = read_toml(path, "rule", [name for name in FIELDS if name not in optional], optional)
    if type(given["share_bps"]) is not int or type(given["green_only"]) is not bool:
        raise DomainError(f"rule {path}: share_bps is a whole number, green_only true or false")
    try:
        agent, forecaster = checksum(given["agent"]), checksum(given["forecaster"])
    except (TypeError, ValueError, AttributeError) as exc:
        raise DomainError(f"rule {path}: agent and forecaster are addresses, 20 bytes in hex") from exc
    return TradingRule(
        connection_id,
        agent,
        forecaster,
        number,
        seconds(path, "rule", given, "valid_from"),
        seconds(path, "rule", given, "valid_until"),
        given["share_bps"],
        given["green_only"],
        _limits(path, "buy_limits", given["buy_limits"]),
        _limits(path, "sell_limits", given["sell_limits"]),
    )


def _limits(path: Path, name: str, given: Any) -> tuple[int | None, ...]:
    """24 limits, or one for all hours; ``"never"`` for none."""
    values = given if isinstance(given, list) else [given] * 24
    if any(value != NEVER and type(value) is not int for value in values):
        raise DomainError(
            f"rule {path}: {name} are whole numbers of uToken/kWh or {NEVER!r}",
            hint="one, or 24 by hour of the day, UTC",
        )
    return tuple(None if value == NEVER else value for value in values)


def _as_json(rule: "TradingRule") -> dict[str, Any]:
    fields = rule.as_argument()
    return fields | {"connectionId": "0x" + rule.connection_id.hex()}


def _read_signed(path: Path) -> tuple["TradingRule", bytes]:
    from offchain.market.trading_rules import TradingRule

    given = read_signed(path, "rule", SCHEMA, SIGNED_BY)
    try:
        rule = given["rule"] | {"connectionId": bytes.fromhex(given["rule"]["connectionId"].removeprefix("0x"))}
        return TradingRule.of_argument(rule), bytes.fromhex(given["signature"].removeprefix("0x"))
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise not_signed(path, "rule", exc, SIGNED_BY) from exc


def _order(terms: Any, product: int, sell: int, tick: int, quantity_wh: int) -> dict[str, Any]:
    kind, period = terms.type_and_period(product)
    return {
        "side": "sell" if sell else "buy",
        "type": kind.name.lower(),
        "period": period,
        "quantity_wh": quantity_wh,
        "limit_utoken_per_kwh": terms.grid.price(tick),
    }


def _price(limit: int | None) -> str:
    return NEVER if limit is None else f"{limit / 1e6:.4f}"
