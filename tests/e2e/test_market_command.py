"""``gridpact market`` on a chain where people are enrolled: a session from opening to closing, by commands.

Time is moved by the test; everything else is what an operator or a script would call.
"""

import json
from datetime import UTC, datetime

import pytest

from offchain.domain.isp import SECONDS_PER_ISP
from offchain.market.orders import orders
from offchain.market.terms import EnergyType
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
    seller, buyer = world.cast.prosumers[:2]
    books = {p: orders([(brown, side, AT_150, 1_000)]) for p, side in ((seller, 1), (buyer, 0))}
    operated.trade(session, terms, operated.first_isp, books)
    relayer = world.cast.relayer

    def run(until: int) -> dict:
        world.clock.advance_to(until)
        return operated.json("run", session, key=relayer)

    assert run(0) == {"session": session, "steps": [], "state": "open for orders", "waits_for": []}
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
        ({"fee_rate": -1}, "fee_rate is below zero"),
        ({"fee_rate": 2**63}, "not a whole number of at most 64 bits"),
        ({"congestion_point_id": "here"}, "congestion_point_id 'here' is not hex"),
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
