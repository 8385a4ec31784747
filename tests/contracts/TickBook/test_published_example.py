"""Day-ahead auction with a published outcome: 27 orders, 995 MWh at 37.5 EUR/MWh.

P. Pinson, "Renewables in Electricity Markets" (course 31761), Technical University of Denmark, lecture on
day-ahead markets: 15 supply offers, 12 demand offers, DirtyPower the marginal seller with 55 of 100 MWh.
"""

from offchain.market import clearing as twin
from offchain.market.clearing import Clearing, ClearingClass
from offchain.market.orders import PriceGrid, orders

SUPPLY = [  # MWh, EUR/MWh
    (120, 0),
    (50, 0),
    (200, 15),
    (400, 30),
    (60, 32.5),
    (50, 34),
    (60, 36),
    (100, 37.5),
    (70, 39),
    (50, 40),
    (70, 60),
    (45, 70),
    (50, 100),
    (60, 150),
    (50, 200),
]
DEMAND = [
    (250, 200),
    (300, 110),
    (120, 100),
    (80, 90),
    (40, 85),
    (70, 75),
    (60, 65),
    (45, 40),
    (30, 38),
    (35, 31),
    (25, 24),
    (10, 16),
]
SOLD = [120, 50, 200, 400, 60, 50, 60, 55, 0, 0, 0, 0, 0, 0, 0]
BOUGHT = [250, 300, 120, 80, 40, 70, 60, 45, 30, 0, 0, 0]
MWH = 1_000_000
PER_MWH = 1_000
"""1 EUR/MWh in uToken/kWh, a token being a euro."""
GRID = PriceGrid(base_price=-50_000, price_step=500, tick_count=1_000)


def test_auction_clears_as_published(book):
    sides = (1, SUPPLY), (0, DEMAND)
    rows = [(0, sell, GRID.tick(int(eur * PER_MWH)), mwh * MWH) for sell, side in sides for mwh, eur in side]
    packed = orders(rows)
    session = book.open(GRID)
    book.place(session, packed.tobytes())
    book.clear(session)
    result = book.result(session)
    price = GRID.tick(37_500)
    assert result == twin.clear_orders(GRID, packed)
    assert result == Clearing(
        ClearingClass.MARGINAL_SELLER, 37_500, 995 * MWH, price, GRID.tick(38_000), price, price, 55 * MWH, 100 * MWH
    )
    assert book.fills(session, packed.tobytes()) == [mwh * MWH for mwh in SOLD + BOUGHT]
