"""Reorgs deeper than the confirmations: what was final is gone, and in the end on chain again, once; the audit agrees.

blocks replaced by empty ones; chain set back to a snapshot; the node behind → nothing is believed
"""

import asyncio
import time

import pytest

from offchain.chain.anvil import Anvil
from offchain.chain.indexer import read_events
from offchain.store.batches import BatchKind, BatchStatus, batch_counts
from oracles.chainlink import DEEP_REORG
from oracles.keys import SiteKeys
from oracles.site import Site
from tests.oracles.siteworld import (
    AFTER,
    DAY,
    METER_IDS,
    FastClock,
    PatientSender,
    audited,
    count_on_chain,
    deploy,
    enrol,
    finished,
    load,
    write_site,
)

SECONDS = 8
CONFIRMATIONS = 2


async def until(what, seconds=40):
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(what):
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.1)


def confirmed(site):
    """Intraday batches that count as final."""
    with site.store.read() as connection:
        return batch_counts(connection).get((BatchKind.INTRADAY, BatchStatus.CONFIRMED), 0)


def anchored(suite):
    return sum(event.name == "IntradayAnchored" for event in read_events(suite.chain, suite))


async def replaced_by_empty_blocks(suite, site, _snapshot):
    suite.chain.request("anvil_reorg", 5 * CONFIRMATIONS, [])


async def set_back(suite, site, snapshot):
    suite.chain.request("evm_revert", snapshot)
    # A block later than the one that vanished has to be there before anything can be said.
    suite.chain.request("anvil_mine", "0x20")


@pytest.mark.parametrize("reorganise", [replaced_by_empty_blocks, set_back])
def test_site_puts_every_reading_on_chain_once_when_a_reorg_is_deeper_than_the_confirmations(tmp_path, reorganise):
    with Anvil(timestamp=AFTER) as node:
        suite = deploy(node, tmp_path)
        suite.chain.request("evm_setIntervalMining", 1)
        write_site(tmp_path, [node.url], confirmations=CONFIRMATIONS)
        enrol(suite, SiteKeys(load(tmp_path)).addresses, DAY.first_isp)
        suite.chain.request("anvil_mine", "0x20")  # all this stays

        async def main():
            config, clock = load(tmp_path), FastClock(time.time(), 86_400 / SECONDS)
            snapshot = suite.chain.request("evm_snapshot")
            site = Site(config, clock=clock, sources={"meters": PatientSender(clock, tmp_path / "progress")})
            stop = asyncio.Event()
            running = asyncio.create_task(site.run(stop))
            await until(lambda: confirmed(site) >= 12)
            before = anchored(suite)
            await reorganise(suite, site, snapshot)
            assert anchored(suite) < before - 4
            await until(lambda: any(alarm.kind == DEEP_REORG for alarm in site.alarms))
            await until(lambda: finished(config))
            await until(lambda: not any(alarm.kind == DEEP_REORG for alarm in site.alarms))
            stop.set()
            await running

        asyncio.run(main())
        assert count_on_chain(load(tmp_path), suite) == DAY.isp_count * len(METER_IDS)
        assert audited(load(tmp_path), suite)["readings"] >= DAY.isp_count * len(METER_IDS)
