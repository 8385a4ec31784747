"""Off-chain twin of the tick book: 10,000 bids and 10,000 offers cleared and filled. Run by ``make bench``."""

import statistics

import numpy as np
from _harness import measure, record

from offchain.market.clearing import clear_orders, fills, residual_wh
from offchain.market.orders import ORDER, PriceGrid

SEED = 1
SIDE = 10_000
GRID = PriceGrid(base_price=-100_000, price_step=1_000, tick_count=1_000)


def book(rng: np.random.Generator) -> np.ndarray:
    """Bids around 0.30 and offers around 0.20 token/kWh, 0 to 5 kWh each, in random sequence."""
    orders = np.zeros(2 * SIDE, ORDER)
    orders["sell"] = np.repeat([0, 1], SIDE)
    centre = np.where(orders["sell"] == 1, 300, 400)
    orders["tick"] = np.clip(rng.normal(centre, 80), 0, GRID.tick_count - 1).astype(int)
    orders["quantity_wh"] = rng.integers(1, 5_001, 2 * SIDE)
    return rng.permutation(orders)


def main() -> None:
    orders = book(np.random.default_rng(SEED))
    result = clear_orders(GRID, orders)
    filled_wh = fills(result, orders)
    clear_wall, _ = measure(lambda: clear_orders(GRID, orders), n=200)
    wall, cpu = measure(lambda: fills(clear_orders(GRID, orders), orders), n=200)
    kept = record(
        "clearing",
        question="off-chain twin of the tick book: price, volume, class and the fill of every order",
        data=f"{SIDE:,} bids and {SIDE:,} offers on {GRID.tick_count:,} ticks, one period",
        seed=SEED,
        values=wall,
        unit="s",
        target=0.005,
        packages=("numpy",),
        more={
            "cpu_median": statistics.median(cpu),
            "clearing_alone_median": statistics.median(clear_wall),
            "class": result.kind.name,
            "volume_wh": result.volume_wh,
            "residual_wh": residual_wh(orders, filled_wh),
        },
    )
    print(f"clearing of {2 * SIDE:,} orders with fills: {1_000 * kept['median']:.2f} ms wall")


if __name__ == "__main__":
    main()
