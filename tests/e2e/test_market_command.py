"""``gridpact market`` on a chain where people are enrolled: a session from opening to closing, by commands.

Time is moved by the test; everything else is what an operator or a script would call.
"""

import json
from datetime import UTC, datetime

import pytest

from offchain.domain.isp import SECONDS_PER_ISP
from offchain.market.operating import relay_bundles, signed_bundle
from offchain.market.orders import orders, pack_bundle
from offchain.market.settlement import bundle_escrow
from offchain.market.terms import EnergyType
from offchain.pilot.trading import Trader, _fund
from tests.e2e.operated import AT_150, Operated


@pytest.fixture(scope="module")
def operated(enrolled_day, tmp_path_factory):
    return Operated(enrolled_day, tmp_path_factory.mktemp("terms"))


def test_market_runs_a_session_from_opening_to_closing(operated):
    world, times = operated.world, operated.times
    earlier = operated.json("list")  # other tests use this chain too
    opened = operated.open(operated.write_terms())
    session = len(earlier) + 1
    assert (opened.returncode, json.loads(opened.stdout)) == (0, {"session": session})

    terms, brown = operated.terms, operated.terms.product(EnergyType.BROWN, 0)
    books = [orders([(brown, side, AT_150, 1_000)]) for side in (1, 0)]
    traders = [
        Trader(prosumer, pack_bundle(terms.grid, book), bundle_escrow(terms, book))
        for prosumer, book in zip(world.cast.prosumers, books, strict=False)
    ]
    _fund(world, traders)
    relay_bundles(
        world.suite,
        world.cast.relayer,
        session,
        [
            signed_bundle(
                world.suite,
                trader.prosumer.wallet,
                session_id=session,
                connection_id=trader.prosumer.connection_id,
                bundle=trader.bundle,
                deadline=times.gate_closure,
            )
            for trader in traders
        ],
    )
    relayer = world.cast.relayer

    def run(until: int) -> dict:
        world.clock.advance_to(until)
        return operated.json("run", session, key=relayer)

    assert run(0) == {"session": session, "steps": [], "state": "open for orders"}
    assert run(times.gate_closure + 1)["steps"] == ["cleared 1 product"]
    assert operated.json("show", session)["state"] == "acceptance window"
    ended = run(times.accept_by + 1)
    assert ended["steps"][-2:] == ["finalised the auction", "returned spare escrow of 2 bundles"]
    assert ended["state"] == "matched"
    (matched,) = operated.json("show", session)["matched"]
    assert (matched["type"], matched["price_utoken_per_kwh"], matched["volume_wh"]) == ("brown", 150_000, 1_000)
    assert run(times.delivery_end)["state"] == "2 bundles to settle"
    closed = run(times.settle_by)
    assert closed["steps"] == ["settled 2 bundles without readings", "closed the session"]
    assert closed["state"] == "closed"
    assert run(0)["steps"] == []
    assert [row["state"] for row in operated.json("list")[len(earlier) :]] == ["closed"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"fee_rat": 1}, "unknown field fee_rat"),
        ({"fee_rate": None}, "fee_rate is missing"),
        ({"fee_rate": 1.5}, "fee_rate is 1.5, not a whole number"),
        ({"acceptance_seconds": 10**6}, "ends after delivery begins"),
    ],
)
def test_open_names_what_is_wrong_with_the_terms(operated, changed, words):
    done = operated.open(operated.write_terms(**changed))
    assert done.returncode != 0
    assert words in done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) <= 2


def test_open_refuses_whoever_is_no_market_operator(operated):
    delivery = datetime.fromtimestamp(operated.first_isp * SECONDS_PER_ISP, UTC).isoformat()
    done = operated.run("open", operated.write_terms(), "--delivery", delivery, key=operated.world.cast.relayer)
    assert done.returncode != 0
    assert "MissingRole" in done.stderr


@pytest.mark.parametrize("delivery", ["tomorrow", "2026-11-22T00:00", "2026-11-22T00:07+01:00"])
def test_open_refuses_a_delivery_that_is_no_quarter_hour(operated, delivery):
    done = operated.run("open", operated.write_terms(), "--delivery", delivery, key=operated.world.cast.relayer)
    assert done.returncode != 0
    assert done.stderr.startswith("error: ")


def test_show_names_a_session_that_was_never_opened(operated):
    done = operated.run("show", 99)
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == "error: there is no session 99"
