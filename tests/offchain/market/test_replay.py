"""Sessions rebuilt from events."""

from dataclasses import asdict

import pytest

from offchain.chain.events import Event
from offchain.market.clearing import Clearing, ClearingClass
from offchain.market.replay import pack_result, replay_sessions, unpack_result
from tests.offchain.market.session import TERMS

CONNECTION, TRADER, OPERATOR = b"\x01" * 32, "0x" + "22" * 20, "0x" + "33" * 20
BUNDLE = bytes.fromhex("0000000f000003e8")


def event(name: str, contract: str = "EnergyMarket", **args) -> Event:
    return Event(contract, "0x", name, {"sessionId": 1} | args, 1, "0x", "0x", 0, 0)


def opened() -> Event:
    arguments = {"operator": OPERATOR, "firstIsp": 1_000, "scheduleId": 0, "terms": asdict(TERMS)}
    return event("SessionOpened", "MarketSessions", **arguments)


def submitted(bundle: bytes = BUNDLE, sequence: int = 1) -> Event:
    arguments = {"connectionId": CONNECTION, "trader": TRADER, "sequence": sequence, "bundle": bundle, "escrow": 7}
    return event("BundleSubmitted", **arguments)


def test_replay_keeps_the_bundle_that_stands():
    session = replay_sessions([opened(), submitted(), submitted(b"", 2)])[1]
    assert session.standing == []
    assert session.bundles[CONNECTION].sequence == 2


def test_replay_follows_a_bundle_to_its_settlement():
    outcome = dict.fromkeys(
        (
            *("boughtWh", "soldWh", "injectedGreenWh", "injectedBrownWh", "coveredWh", "shortageWh", "surplusWh"),
            *("guarantee", "receipts", "charges", "surplusPayment", "greenReward", "payout"),
        ),
        3,
    )
    settled = event("TraderSettled", "MarketSettlement", connectionId=CONNECTION, metered=True, outcome=outcome)
    claimed = event("BundleClaimed", connectionId=CONNECTION, released=5, escrow=2)
    closed = event("SessionClosed", operator=OPERATOR, residual=9)
    session = replay_sessions([opened(), submitted(), claimed, settled, closed])[1]
    record = session.bundles[CONNECTION]
    assert (record.released, record.escrow, record.outcome.payout, session.residual) == (5, 2, 3, 9)
    assert (record.paid, record.corrected) == (3, None)
    newest = event("TraderCorrected", "MarketCorrections", connectionId=CONNECTION, outcome=outcome | {"payout": 0})
    record = replay_sessions([opened(), submitted(), claimed, settled, closed, newest])[1].bundles[CONNECTION]
    assert (record.paid, record.outcome.payout) == (0, 3)


def test_replay_passes_over_events_of_other_contracts():
    assert replay_sessions([event("SessionOpened", "Somebody")]) == {}


@pytest.mark.parametrize(
    "result",
    [
        Clearing(ClearingClass.NONE),
        Clearing(ClearingClass.EXACT, TERMS.grid.price(3) + 5_000, 10, 3, 4, 3, 4),
        Clearing(ClearingClass.MARGINAL_SELLER, TERMS.grid.price(40), 2**70, 40, 40, 40, 40, 2**63, 2**64 - 1),
    ],
)
def test_unpack_result_reads_every_field(result):
    assert unpack_result(TERMS.grid, pack_result(result)) == result


def test_replay_keeps_the_provisional_result_beside_the_final_one():
    first = Clearing(ClearingClass.EXACT, TERMS.grid.price(3), 10, 3, 3, 3, 3)
    final = Clearing(ClearingClass.NONE)
    session = replay_sessions(
        [
            opened(),
            event("ProductCleared", product=2, isFinal=False, result=pack_result(first)),
            event("ProductCleared", product=2, isFinal=True, result=pack_result(final)),
        ]
    )[1]
    assert (session.provisional[2], session.results[2]) == (first, final)
