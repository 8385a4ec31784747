"""Time of the test chain, to the second: what a test sets, and a second for every block after it.

Never the time of the machine: it runs on while a busy machine does something else.
"""

from itertools import pairwise

import brownie

SECONDS_PER_ISP = 900

_given: set[int] = set()


def steady() -> None:
    """Every block comes a second after the one before, unless :func:`at` says when."""
    _request("anvil_setBlockTimestampInterval", 1)


def at(timestamp: int) -> None:
    """Gives the next block exactly this time [Unix s]; not earlier than the latest block."""
    _request("evm_setNextBlockTimestamp", timestamp)
    _given.add(timestamp)


def assert_steady(first_block: int) -> None:
    """Every block after ``first_block`` has a time that was given, or comes a second after the one before."""
    blocks = [brownie.chain[number].timestamp for number in range(first_block, len(brownie.chain))]
    for before, after in pairwise(blocks):
        assert after == before + 1 or after in _given, f"block {after - before} s after the one before"


def _request(method: str, argument: int) -> None:
    response = brownie.web3.provider.make_request(method, [argument])
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
