"""``gridpact market pool`` on a chain where people are enrolled: from opening a pool to its payments, by commands."""

import json
from datetime import UTC, datetime

import pytest

from offchain.chain.signers import signer
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.market.pool_operating import join_signed, signed_joining
from tests.e2e.operated import MARKET_DAY_ISPS, Operated, anchor_day

ISPS = 4
DEPOSIT = 1_000_000
READINGS = ([(0, 600), (0, 500), (0, 0), (0, 0)], [(900, 0), (0, 0), (300, 0), (0, 0)])
"""Of the seller, who sells 1,000 Wh of 1,100, and of the buyer."""


@pytest.fixture(scope="module")
def operated(enrolled_day, tmp_path_factory):
    return Operated(enrolled_day, tmp_path_factory.mktemp("pool"))


def pool(operated, *arguments, key=None):
    return operated.run("pool", *arguments, key=key)


def told(operated, *arguments, key=None):
    done = pool(operated, *arguments, "--json", key=key)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def iso(unix: int) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat()


def write_toml(operated, name: str, fields: dict) -> str:
    path = operated.folder / name
    path.write_text("\n".join(f"{key} = {value}" for key, value in fields.items() if value is not None))
    return str(path)


def terms(operated, **changed) -> str:
    start = operated.first_isp * SECONDS_PER_ISP
    fields = {
        "mechanism": '"mid-market-rate"',
        "delivery": iso(start),
        "join_by": iso(start),
        "trade_by": iso(start + 3_600),
        "report_by": iso(start + 7 * 86_400),
        "retail_price": 300_000,
        "feed_in_price": 80_000,
        "isps_per_period": 2,
        "period_count": 2,
        "budget": 100_000,
    }
    return write_toml(operated, "pool.toml", fields | changed)


def draft(operated, pool_id: int, parties, **changed) -> str:
    seller, buyer = ("0x" + party.connection_id.hex() for party in parties)
    fields = {
        "pool": pool_id,
        "seller": f'"{seller}"',
        "buyer": f'"{buyer}"',
        "price": 150_000,
        "type": '"brown"',
        "valid_until": iso(operated.first_isp * SECONDS_PER_ISP + 3_600),
        "quantities_wh": [1_000, 0],
    }
    return write_toml(operated, "trade.toml", fields | changed)


def test_pool_runs_from_opening_to_closing(operated):
    world, cast = operated.world, operated.world.cast
    parties = cast.prosumers[6:8]
    keys = [signer(party.wallet.secret) for party in parties]
    operated.fund({party.address: 3 * DEPOSIT for party in parties})
    operated.fund({cast.market_operator.address: 100_000})
    pool_id = told(operated, "open", terms(operated), key=cast.market_operator)["pool"]
    joining = ("join", pool_id, "--connection", "0x" + parties[0].connection_id.hex(), "--deposit", 0)
    assert "NotOwnerOf" in pool(operated, *joining, key=cast.relayer).stderr
    joinings = [
        signed_joining(
            world.suite,
            party.wallet,
            pool_id=pool_id,
            connection_id=party.connection_id,
            deposit=DEPOSIT,
            limits=(0, 0),
            deadline=world.clock.now() + 600,
        )
        for party in parties
    ]
    join_signed(world.suite, cast.relayer, pool_id, joinings)
    assert told(operated, "list")[-1] | {"delivery": ""} == {
        "pool": pool_id,
        "state": "open for members",
        "mechanism": "mid-market-rate",
        "delivery": "",
        "members": 2,
        "trades": 0,
    }

    signed = operated.folder / "signed.json"
    first = told(operated, "trade", "sign", draft(operated, pool_id, parties), "--out", signed, key=keys[0])
    assert first["missing"] == ["buyer"]
    refused = pool(operated, "trade", "register", signed, key=cast.relayer)
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (2, f"error: {signed}: the buyer has not signed")
    assert "is no party of the trade" in pool(operated, "trade", "sign", signed, key=cast.relayer).stderr
    both = told(operated, "trade", "sign", signed, "--out", signed, key=keys[1])
    assert both["missing"] == []
    assert told(operated, "trade", "register", signed, key=cast.relayer)["trade"] == first["trade"]
    assert "TradeInState" in pool(operated, "trade", "register", signed, key=cast.relayer).stderr

    again = operated.folder / "again.json"
    told(operated, "trade", "sign", draft(operated, pool_id, parties, price=1), "--out", again, key=keys[0])
    told(operated, "trade", "sign", again, "--out", again, key=keys[1])
    told(operated, "trade", "register", again, key=cast.relayer)
    for key in keys:
        told(operated, "trade", "sign", again, "--out", again, "--cancel", key=key)
    told(operated, "trade", "cancel", again, key=cast.relayer)
    assert told(operated, "list")[-1]["trades"] == 1

    start = operated.first_isp * SECONDS_PER_ISP
    world.clock.advance_to(start + 1)
    assert told(operated, "run", pool_id, key=cast.relayer) == {
        "pool": pool_id,
        "steps": [],
        "state": "open for trades",
    }
    world.clock.advance_to(start + ISPS * SECONDS_PER_ISP + 1)
    nothing = [(0, 0)] * (MARKET_DAY_ISPS - ISPS)
    days = {party: [*readings, *nothing] for party, readings in zip(parties, READINGS, strict=True)}
    anchor_day(world, operated.first_isp, days)
    store = world.config.out / "store.db"
    assert told(operated, "show", pool_id)["state"] == "2 members to report"
    world.clock.advance_to(world.clock.now() + world.call("MeteringLedger", "challengeWindow"))
    done = told(operated, "run", pool_id, "--store", store, key=cast.relayer)
    assert done["steps"] == ["reported 2 members", "fixed the prices", "paid 2 members", "closed the pool"]
    assert done["state"] == "closed"

    shown = told(operated, "show", pool_id)
    # 100 Wh are left of the seller's 1,100, and of the buyer's 1,000; nobody lacks them. Then 300 Wh are short.
    assert [(p["demand_wh"], p["surplus_wh"]) for p in shown["periods"]] == [(0, 200), (300, 0)]
    assert [(p["buyers_utoken_per_kwh"], p["sellers_utoken_per_kwh"]) for p in shown["periods"]] == [
        (300_000, 80_000),
        (300_000, 80_000),
    ]
    assert [m["net_utoken"] for m in shown["member_list"]] == [8_000, 8_000 - 90_000]
    assert pool(operated, "show", pool_id).stdout.count("token") > 3


def test_show_names_a_pool_that_was_never_opened(operated):
    done = pool(operated, "show", 99)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: there is no pool 99")
