"""Time of the test chain, to the second."""

import brownie

SECONDS_PER_ISP = 900


def at(timestamp: int) -> None:
    """Gives the next block exactly this time [Unix s]; not earlier than the latest block."""
    response = brownie.web3.provider.make_request("evm_setNextBlockTimestamp", [timestamp])
    assert "error" not in response, response


def move_to(timestamp: int) -> None:
    """Mines a block at this time [Unix s], for views and for calls whose second does not matter."""
    at(timestamp)
    brownie.chain.mine()


def next_wednesday() -> int:
    """First ISP of the next Wednesday (UTC) at least three days ahead."""
    day = brownie.chain[-1].timestamp // 86_400 + 3
    while (day + 4) % 7 != 3:
        day += 1
    return day * 96
