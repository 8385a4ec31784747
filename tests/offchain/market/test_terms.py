"""Products and times of a session."""

from dataclasses import replace

import pytest

from offchain.domain.errors import DomainError
from offchain.market.terms import EnergyType, SessionTimes
from tests.offchain.market.session import TERMS


def test_product_numbers_brown_books_before_green_ones():
    products = [TERMS.product(kind, period) for kind in EnergyType for period in range(3)]
    assert products == list(range(6))
    assert [TERMS.type_and_period(p) for p in (2, 3)] == [(EnergyType.BROWN, 2), (EnergyType.GREEN, 0)]


def test_product_refuses_a_period_outside_the_session():
    with pytest.raises(DomainError, match="period 3 is outside the session of 3"):
        TERMS.product(EnergyType.GREEN, 3)


def test_session_times_follow_each_other():
    times = SessionTimes.of(TERMS, 1_000)
    assert times == SessionTimes(892_800, 896_400, 900_000, 910_800, 997_200, 1_083_600)


@pytest.mark.parametrize("changed", [{"period_count": 0}, {"period_count": 129}, {"isps_per_period": 0}])
def test_session_terms_refuse_what_has_no_delivery(changed):
    with pytest.raises(DomainError, match="session of"):
        replace(TERMS, **changed)


def test_session_terms_refuse_an_acceptance_window_after_delivery_began():
    with pytest.raises(DomainError, match="7201 s ends after delivery begins"):
        replace(TERMS, acceptance_seconds=7_201)


def test_session_terms_leave_a_week_for_corrections():
    """Readings count for 30 days."""
    day = 86_400
    replace(TERMS, readings_due_seconds=20 * day, settlement_seconds=3 * day)
    with pytest.raises(DomainError, match="settlement ends 1987201 s after delivery"):
        replace(TERMS, readings_due_seconds=20 * day, settlement_seconds=3 * day + 1)
