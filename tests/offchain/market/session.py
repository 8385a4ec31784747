"""Sessions and books for the tests of the market."""

from dataclasses import replace

from hypothesis import strategies as st

from offchain.market.orders import orders
from offchain.market.terms import SessionTerms

TERMS = SessionTerms(
    base_price=-50_000,
    price_step=10_000,
    tick_count=41,
    min_quantity_wh=10,
    isps_per_period=4,
    period_count=3,
    gate_lead_seconds=7_200,
    acceptance_seconds=3_600,
    readings_due_seconds=86_400,
    settlement_seconds=86_400,
    fee_rate=1_000,
    rejection_fee_rate=2_000,
    guarantee_rate=200_000,
    shortage_price=300_000,
    shortage_penalty_rate=50_000,
    surplus_price=80_000,
    green_reward_rate=20_000,
    brown_penalty_rate=15_000,
    surplus_budget=50_000,
    reward_budget=10_000,
)

rates = st.one_of(st.just(0), st.integers(1, 500_000))


@st.composite
def sessions(draw) -> SessionTerms:
    """Terms with any rates and budgets."""
    names = (
        *("fee_rate", "guarantee_rate", "shortage_price", "shortage_penalty_rate"),
        *("surplus_price", "green_reward_rate", "brown_penalty_rate", "surplus_budget", "reward_budget"),
    )
    return replace(
        TERMS,
        base_price=draw(st.sampled_from([-200_000, -50_000, 0])),
        price_step=draw(st.sampled_from([1, 7_777, 10_000])),
        min_quantity_wh=draw(st.sampled_from([1, 10])),
        **{name: draw(rates) for name in names},
    )


def bundles(terms: SessionTerms, *, largest_wh: int = 3_000):
    """Bundles of up to six orders on few ticks, so that ties and rationing are common."""
    order = st.tuples(
        st.integers(0, terms.product_count - 1),
        st.integers(0, 1),
        st.sampled_from([0, 4, 5, 6, 20, 40]),
        st.integers(terms.min_quantity_wh, largest_wh),
    )
    return st.lists(order, min_size=1, max_size=6).map(orders)
