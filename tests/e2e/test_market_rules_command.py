"""``gridpact market rules`` on a chain where people are enrolled: from signing a rule to the orders placed by it."""

import json

import pytest

from offchain.chain.signers import signer
from offchain.domain.curves import pack_baseline
from offchain.domain.isp import MarketDay, isp_start
from offchain.flexibility.commitments import CommitmentKind, commit_packed
from tests.e2e.operated import Operated

FORECAST_WH = 500
"""Net consumption of every ISP."""


@pytest.fixture(scope="module")
def operated(enrolled_day, tmp_path_factory):
    return Operated(enrolled_day, tmp_path_factory.mktemp("rules"))


@pytest.fixture(scope="module")
def prosumer(operated):
    return operated.world.cast.prosumers[3]


def rules(operated, command, *arguments, key=None):
    return operated.run("rules", command, *arguments, key=key)


def write_rule(operated, **changed):
    fields = {
        "agent": f'"{operated.world.cast.relayer.address}"',
        "forecaster": f'"{operated.world.cast.aggregators[0].address}"',
        "valid_from": "2016-01-01T00:00:00Z",
        "valid_until": "2017-01-01T00:00:00+01:00",
        "share_bps": "8000",
        "green_only": "true",
        "buy_limits": "151_000",
        "sell_limits": '["never", ' + ", ".join(["90_000"] * 23) + "]",
    } | changed
    path = operated.folder / "rule.toml"
    path.write_text("\n".join(f"{name} = {value}" for name, value in fields.items() if value is not None))
    return path


def sign(operated, prosumer, path, *, wallet=None):
    out = operated.folder / "signed.json"
    arguments = (path, "--connection", "0x" + prosumer.connection_id.hex(), "--out", out)
    return rules(operated, "sign", *arguments, key=signer((wallet or prosumer.wallet).secret)), out


def test_rules_place_orders_from_a_committed_forecast(operated, prosumer):
    world = operated.world
    opened = operated.open(operated.write_terms())
    session_id = json.loads(opened.stdout)["session"]
    relayer, connection = world.cast.relayer, "0x" + prosumer.connection_id.hex()

    done, signed = sign(operated, prosumer, write_rule(operated))
    assert done.returncode == 0, done.stderr
    done = rules(operated, "register", signed, key=relayer)
    assert done.returncode == 0, done.stderr
    assert "is in force until" in done.stdout

    store = world.config.out / "store.db"
    bid = ("bid", session_id, "--connection", connection, "--store", store, "--json")
    refused = rules(operated, *bid, key=relayer)
    assert refused.returncode != 0
    assert refused.stderr.startswith("error: no forecast of meter")

    day = MarketDay.of(isp_start(operated.first_isp).date(), "UTC")
    commit_packed(
        world.suite,
        world.store,
        world.cast.aggregators[0],
        kind=CommitmentKind.FORECAST,
        method="flat@1",
        scope=world.congestion_point_id,
        day=day,
        curves={p.meter_id: pack_baseline([FORECAST_WH] * day.isp_count) for p in world.cast.prosumers},
        made_at=world.clock.now(),
    )
    shown = json.loads(rules(operated, *bid, "--dry-run").stdout)
    (order,) = shown["orders"]
    assert (order["side"], order["type"], order["limit_utoken_per_kwh"]) == ("buy", "green", 150_000)
    assert order["quantity_wh"] == 4 * FORECAST_WH * 8 // 10
    assert shown["transaction"] is None

    operated.fund({prosumer.address: shown["escrow_utoken"]})
    done = rules(operated, *bid, key=relayer)
    assert done.returncode == 0, done.stderr
    state = world.call("EnergyMarket", "bundleOf", session_id, prosumer.connection_id)
    assert (state["placed"], state["sequence"]) == (True, 1)
    again = rules(operated, *bid, key=relayer)
    assert again.returncode != 0
    assert "OwnOrdersStand" in again.stderr

    told = json.loads(rules(operated, "show", connection, "--json").stdout)
    assert (told["in_force"], told["sessions"], told["rule"]["number"]) == (True, [session_id], 1)


def test_sign_refuses_whoever_does_not_own_the_connection(operated, prosumer):
    done, _ = sign(operated, prosumer, write_rule(operated), wallet=operated.world.cast.prosumers[4].wallet)
    assert done.returncode != 0
    assert f"belongs to {prosumer.address}" in done.stderr.splitlines()[0]


def test_register_refuses_a_rule_that_was_changed_after_signing(operated):
    other = operated.world.cast.prosumers[5]
    done, signed = sign(operated, other, write_rule(operated))
    assert done.returncode == 0, done.stderr
    content = json.loads(signed.read_text())
    content["rule"]["shareBps"] += 1
    signed.write_text(json.dumps(content))
    refused = rules(operated, "register", signed, key=operated.world.cast.relayer)
    assert refused.returncode != 0
    assert "RuleSignatureInvalid" in refused.stderr
    signed.write_text("{}")
    assert "is no signed rule" in rules(operated, "register", signed, key=operated.world.cast.relayer).stderr
