import numpy as np
import pytest

from offchain.domain.errors import DomainError
from offchain.optimisation.selection import Offer, select_offers

REQUEST = np.array([1_000, 2_000])


def plain(selection):
    return {name: curve.tolist() for name, curve in selection.ordered_wh.items()}


def test_select_offers_takes_the_dear_one_partly_when_the_cheap_is_short():
    offers = [Offer("dear", np.array([1_000, 2_000]), 300), Offer("cheap", np.array([800, 800]), 200)]
    selection = select_offers(REQUEST, offers)
    assert plain(selection) == {"cheap": [800, 800], "dear": [200, 1_200]}
    assert not selection.uncovered_wh.any()


def test_select_offers_reports_uncovered_when_offers_are_short():
    selection = select_offers(REQUEST, [Offer("a", np.array([1_500, 500]), 200)])
    assert plain(selection) == {"a": [1_000, 500]}
    assert selection.uncovered_wh.tolist() == [0, 1_500]


def test_select_offers_ignores_an_offer_when_above_the_cap():
    selection = select_offers(REQUEST, [Offer("a", REQUEST, 201)], price_cap_utoken_per_kwh=200)
    assert plain(selection) == {} and selection.uncovered_wh.tolist() == REQUEST.tolist()


def test_select_offers_reports_all_uncovered_when_there_is_no_offer():
    assert select_offers(REQUEST, []).uncovered_wh.tolist() == REQUEST.tolist()


def test_select_offers_takes_the_lower_id_when_prices_are_equal():
    offers = [Offer("b", REQUEST, 200), Offer("a", REQUEST, 200)]
    assert plain(select_offers(REQUEST, offers)) == {"a": REQUEST.tolist()}


def test_select_offers_keeps_least_quantity_when_an_offer_has_one():
    offers = [
        Offer("cheap", np.array([800, 2_000]), 200),
        Offer("block", np.array([1_000, 2_000]), 300, min_total_wh=1_500),
    ]
    selection = select_offers(REQUEST, offers)
    assert selection.ordered_wh["block"].sum() == 1_500
    assert not selection.uncovered_wh.any()


def test_select_offers_raises_with_offer_when_day_has_other_length():
    with pytest.raises(DomainError, match="offer a: 3 values for 2 ISPs"):
        select_offers(REQUEST, [Offer("a", np.array([1, 2, 3]), 200)])


def test_select_offers_leaves_an_offer_when_its_least_exceeds_the_request():
    selection = select_offers(REQUEST, [Offer("block", np.array([9_000, 9_000]), 1, min_total_wh=3_001)])
    assert plain(selection) == {}
