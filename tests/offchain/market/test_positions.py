"""Bundles that are netted together: their window, and the order in which the contract wants them."""

from dataclasses import replace

from offchain.market.positions import EVERYWHERE, overlapping, session_window, window_of
from offchain.market.replay import BundleRecord, SessionRecord
from offchain.market.settlement import FinalRates
from tests.offchain.market.session import TERMS

CONNECTION, AREA, OTHER_AREA = b"c" * 32, b"a" * 32, b"b" * 32
MIDNIGHT = 20_000 * 96


def session(number: int, first_isp: int, isps: int, periods: int, area: bytes = AREA, bundle=b"12345678"):
    terms = replace(TERMS, isps_per_period=isps, period_count=periods, congestion_point_id=area)
    record = BundleRecord(CONNECTION, "trader", 1, bundle, 0)
    return SessionRecord(number, "operator", first_isp, terms, bundles={CONNECTION: record})


def window(*sessions: SessionRecord, of: int = 1):
    by_id = {record.id: record for record in sessions}
    return session_window(by_id, by_id[of], CONNECTION, AREA)


def ids(found) -> list[int]:
    return [held.session.id for held in found.held]


def test_session_window_is_the_delivery_when_nothing_overlaps():
    found = window(session(1, MIDNIGHT, 4, 24), session(2, MIDNIGHT + 96, 4, 24))
    assert (found.first_isp, found.end_isp, ids(found)) == (MIDNIGHT, MIDNIGHT + 96, [1])
    assert found.held[0].as_argument() == {"sessionId": 1, "bundle": b"12345678"}


def test_session_window_grows_to_whole_periods_and_what_they_touch():
    hourly, early, late = session(2, MIDNIGHT, 4, 24), session(1, MIDNIGHT + 8, 2, 1), session(3, MIDNIGHT + 10, 2, 1)
    found = window(hourly, early, late)
    assert (found.first_isp, found.end_isp, ids(found)) == (MIDNIGHT + 8, MIDNIGHT + 12, [1, 2, 3])
    assert found.end_seconds == (MIDNIGHT + 12) * 900


def test_session_window_leaves_out_cancelled_bundles_and_other_areas():
    cancelled = session(2, MIDNIGHT, 4, 24, bundle=b"")
    elsewhere = session(3, MIDNIGHT, 4, 24, OTHER_AREA)
    assert ids(window(session(1, MIDNIGHT, 4, 24), cancelled, elsewhere)) == [1]


def test_session_window_goes_by_the_area_of_the_connection_when_the_session_has_none():
    anywhere = session(1, MIDNIGHT, 4, 24, EVERYWHERE)
    found = window(anywhere, session(2, MIDNIGHT, 4, 24), session(3, MIDNIGHT, 4, 24, OTHER_AREA))
    assert ids(found) == [2, 1]


def test_window_of_stands_in_the_order_of_days_then_area_then_opening():
    sessions = [
        session(1, MIDNIGHT + 96, 4, 1),
        session(2, MIDNIGHT + 92, 4, 2, EVERYWHERE),
        session(3, MIDNIGHT + 92, 4, 1),
        session(4, MIDNIGHT + 96, 4, 1, EVERYWHERE),
        session(5, MIDNIGHT + 40, 4, 20),
    ]
    found = window_of({s.id: s for s in sessions}, CONNECTION, AREA, MIDNIGHT + 92, MIDNIGHT + 100)
    assert ids(found) == [3, 5, 2, 1, 4]


def test_window_is_final_when_all_auctions_have_ended():
    first, second = session(1, MIDNIGHT, 4, 24), session(2, MIDNIGHT, 2, 2)
    first.rates = FinalRates(0, 0)
    assert not window(first, second).is_final
    second.rates = FinalRates(0, 0)
    assert window(first, second).is_final


def test_overlapping_names_sessions_of_the_same_hours_and_area():
    sessions = [
        session(5, MIDNIGHT + 48, 2, 8),
        session(1, MIDNIGHT, 4, 24),
        session(2, MIDNIGHT + 96, 4, 24),
        session(3, MIDNIGHT + 32, 2, 8, OTHER_AREA),
        session(4, MIDNIGHT + 32, 2, 8, EVERYWHERE),
    ]
    by_id = {record.id: record for record in sessions}

    def of(number):
        return [other.id for other in overlapping(by_id, by_id[number])]

    assert {number: of(number) for number in by_id} == {1: [4, 5], 2: [], 3: [4], 4: [1, 3], 5: [1]}
