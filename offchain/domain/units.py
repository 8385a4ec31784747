"""Units and the only rounding functions of settlement (twin of ``contracts/clearinghouse/Money.sol``).

Energy is integer Wh, power integer W, money integer micro-token (uToken, 6 decimals), prices integer
micro-token per kWh. No float takes part in settlement.
"""

from enum import IntEnum

WH_PER_KWH = 1_000
UTOKEN = 1_000_000
"""Micro-tokens per token."""
BPS = 10_000
"""Basis points per one."""
SECONDS_PER_HOUR = 3_600


class Direction(IntEnum):
    """Direction of flexibility, seen from the net consumption of a connection.

    UP lowers net consumption below the baseline (more injection), DOWN raises it.
    """

    UP = 0
    DOWN = 1


def cost_down(energy_wh: int, price_utoken_per_kwh: int) -> int:
    """Money for energy, rounded toward zero: for whoever receives [uToken].

    Both arguments are non-negative integers; equals ``Money.costDown`` in Solidity to the last digit.
    """
    return energy_wh * price_utoken_per_kwh // WH_PER_KWH


def cost_up(energy_wh: int, price_utoken_per_kwh: int) -> int:
    """Money for energy, rounded away from zero: for whoever pays or reserves [uToken]."""
    return -(-energy_wh * price_utoken_per_kwh // WH_PER_KWH)


def share_down(amount: int, share_bps: int) -> int:
    """``amount`` times a share in basis points, rounded toward zero (twin of ``Money.shareDown``)."""
    return amount * share_bps // BPS


def delivered_wh(direction: Direction, baseline_net_wh: int, metered_net_wh: int) -> int:
    """Energy delivered in ``direction`` in one ISP [Wh]; negative when the connection moved the other way."""
    difference = baseline_net_wh - metered_net_wh
    return difference if direction is Direction.UP else -difference
