"""Contract tests: a block comes a second after the one before, however long the machine takes for it."""

import time

import brownie


def test_block_times_do_not_follow_the_machine(core):
    before = brownie.chain[-1].timestamp
    time.sleep(1.1)
    brownie.chain.mine(2)
    assert [block.timestamp - before for block in (brownie.chain[-2], brownie.chain[-1])] == [1, 2]
