"""Runs a pilot day: setting the stage, the day before, the day, settlement, audit."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from eth_hash.auto import keccak

from offchain.audit import ChainRecord, audit
from offchain.chain.anvil import Anvil
from offchain.chain.client import Chain, Receipt
from offchain.chain.clock import ChainClock
from offchain.chain.contracts import Suite
from offchain.chain.deployment import Deployment, Web3Executor
from offchain.chain.indexer import read_events
from offchain.domain.errors import ChainError, PermanentError
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.domain.units import UTOKEN
from offchain.flexibility.metered_days import ProvenDay, proven_days
from offchain.flexibility.orders import OrderBook, ProsumerOrder
from offchain.flexibility.settling import correct_orders, missing_from, settle_missing, settle_orders
from offchain.grid.power_flow import PowerFlow
from offchain.grid.scenario import load_scenario
from offchain.pilot.cast import commitment, make_cast
from offchain.pilot.config import PilotConfig
from offchain.pilot.delivery import Delivery, baselines_of, clock_of, close_day, run_day
from offchain.pilot.enrolment import enrol
from offchain.pilot.intraday import Intraday
from offchain.pilot.planning import BASELINE, DayAhead, plan_day, require_history
from offchain.pilot.results import PilotResult, collect
from offchain.pilot.world import Progress, World
from offchain.store import open_store
from offchain.store.batches import BatchStatus, get_batch
from oracles.anchoring import ChainAnchor
from oracles.publisher import Publisher

STATE, DEPLOYMENT, STORE = "chain.state", "deployment.json", "store.db"


def run_pilot(config: PilotConfig, progress: Progress = lambda stage, done, total: None) -> PilotResult:
    """Live through one day and audit it.

    Leaves chain state, deployment file and store in ``config.out``, so that anybody can audit the day again.

    Parameters
    ----------
    config : PilotConfig
    progress : callable
        Told the stage, how much of it is done, and how much there is.
    """
    with PilotDay(config, progress) as pilot:
        pilot.enrol()
        pilot.plan()
        pilot.deliver()
        pilot.settle()
        return pilot.audit()


class PilotDay:
    """A pilot day stage by stage; a context manager that holds chain and store.

    The stages run in order: :meth:`enrol`, :meth:`plan`, :meth:`deliver`, :meth:`settle`, :meth:`audit`. What comes in
    after settlement is taken up by :meth:`correct`.
    """

    def __init__(self, config: PilotConfig, progress: Progress = lambda stage, done, total: None):
        self.config = config
        self._progress = progress
        self._started = time.monotonic()
        self._stack = ExitStack()
        self._node: Anvil | None = None

    def __enter__(self) -> Self:
        config, out = self.config, self.config.out
        try:
            out.mkdir(parents=True, exist_ok=True)
            self._progress("loading the grid", 0, 1)
            scenario = load_scenario(config.scenario, seed=config.seed, day=config.day, cache_dir=out.parent / "grids")
            require_history(scenario)
            # Only now, when the day is known to be possible: what lies there may be somebody's evidence.
            for name in (STATE, DEPLOYMENT, STORE, f"{STORE}-wal", f"{STORE}-shm"):
                (out / name).unlink(missing_ok=True)
        except OSError as error:
            raise PermanentError(f"folder {out}: {error.strerror}", hint="choose another with --out") from error
        self._progress("loading the grid", 1, 1)
        midnight = scenario.day.first_isp * SECONDS_PER_ISP
        with self._stack as stack:
            self._node = Anvil(state=out / STATE, timestamp=midnight + config.timetable.setup)
            stack.callback(self._stop_chain)
            store = stack.enter_context(open_store(out / STORE))
            chain = Chain(self._node.url)
            cast = make_cast(config.seed, [c.id for c in scenario.connections], aggregators=config.aggregators)
            for sender in cast.senders:
                chain.request("anvil_setBalance", sender.address, hex(10**24))
            clock = ChainClock(chain, simulated=True)
            suite = _deploy(chain, cast, config, out / DEPLOYMENT, self._progress)
            point = commitment(config.seed, f"congestion point {scenario.congestion_point}")
            self.world = World(
                config, scenario, PowerFlow.of(scenario), cast, chain, suite, clock, store, self._progress, point
            )
            self.book = OrderBook(store)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def enrol(self) -> None:
        """Participants, connections, meters, money, agreements."""
        self._progress("enrolling", 0, 1)
        enrol(self.world, keccak(BASELINE.encode()))
        self._progress("enrolling", 1, 1)

    def plan(self) -> None:
        """The day before: from the forecast to the prosumer orders."""
        self._progress("planning the day", 0, 1)
        self.ahead = plan_day(self.world, self.book)
        self._progress("planning the day", 1, 1)

    def deliver(self) -> None:
        """The day itself."""
        intraday = Intraday(self.world, self.ahead, self.book)
        self.delivery = run_day(self.world, self.ahead, self.book, intraday.at)

    def settle(self) -> None:
        """Anchor the metered day, settle every order, finalise every group."""
        self._progress("settling", 0, 1)
        _settle(self.world, self.ahead, self.delivery, self.book)
        self._progress("settling", 1, 1)

    def correct(self) -> list[Receipt]:
        """After settlement: anchor what came in or changed since, settle the difference."""
        metered = _anchor(self.world)
        self.world.clock.advance_to(self.world.clock.now() + self.config.challenge_window_s + 1)
        orders, baselines = self.book.orders.values(), _baselines(self.world, self.ahead)
        return correct_orders(self.world.suite, self.world.cast.relayer, orders, metered, baselines)

    def audit(self) -> PilotResult:
        """Rebuild the day from events and store, and collect its figures."""
        world = self.world
        events = read_events(world.chain, world.suite)
        record = ChainRecord(
            chain_id=world.chain.chain_id,
            addresses=world.suite.addresses,
            events=events,
            get=world.suite.call_all,
            timestamp=world.chain.block()["timestamp"],
        )
        report = audit(record, world.store, lambda stage, done, total: self._progress(f"auditing {stage}", done, total))
        seconds = time.monotonic() - self._started
        return collect(world, self.ahead, self.delivery, self.book, events, report, seconds)

    def restart_chain(self) -> None:
        """Stop the node and start it again where it was, at the same address."""
        port = self._node.port
        self._node.stop()
        self._node = Anvil(state=self.config.out / STATE, port=port)
        self.world.clock = ChainClock(self.world.chain, simulated=True)

    def _stop_chain(self) -> None:
        self._node.stop()


def _deploy(chain: Chain, cast, config: PilotConfig, path: Path, progress: Progress) -> Suite:
    given = {
        "token_issue": 1_000_000 * UTOKEN,
        "desk_stock": 200_000 * UTOKEN,
        "purchase_limit": 100_000 * UTOKEN,
        "challenge_window_seconds": config.challenge_window_s,
        "minimum_bond": config.prices.operator_bond,
        "challenge_penalty": config.prices.challenge_penalty,
        "bond_hold_seconds": config.bond_hold_s,
        "regulated_rate": config.prices.regulated_rate,
        "readings_due_seconds": config.readings_due_s,
        "settle_by_seconds": config.settle_by_s,
        "correction_seconds": config.correction_s,
    }
    executor = Web3Executor(chain, cast.admin)
    record = Deployment(
        executor,
        given,
        path=path,
        report=lambda number, total, title: progress("deploying", number, total),
    ).run()
    return Suite.open(chain, record)


def _settle(world: World, ahead: DayAhead, delivery: Delivery, book: OrderBook) -> None:
    """Anchor the metered day, settle every order, finalise every group; anybody can but for the anchoring."""
    world.clock.advance_to(world.day.end_isp * SECONDS_PER_ISP + SECONDS_PER_ISP)
    metered = _anchor(world)
    world.clock.advance_to(world.clock.now() + world.config.challenge_window_s + 1)
    if book.orders:
        _settle_flexibility(world, ahead, delivery, book, metered)
    ahead.market.settle(metered)


def _settle_flexibility(
    world: World, ahead: DayAhead, delivery: Delivery, book: OrderBook, metered: dict[bytes, ProvenDay]
) -> None:
    cast, suite = world.cast, world.suite
    baselines = _baselines(world, ahead)
    _, left = settle_orders(suite, cast.relayer, book.orders.values(), metered, baselines)
    if left:
        world.clock.advance_to(missing_from(suite, left, metered))
        settle_missing(suite, cast.relayer, left, metered, baselines)
    world.send_all([(cast.relayer, "FlexSettlement", "finalise", (order_id,)) for order_id in ahead.flex_orders])
    if delivery.direct_group_id is not None:
        world.send(cast.relayer, "FlexSettlement", "finaliseDirect", delivery.direct_group_id)


def _anchor(world: World) -> dict[bytes, ProvenDay]:
    """Close the metered day and anchor it; its meter-days with their proofs."""
    batch = close_day(world)
    publisher = Publisher(world.store, ChainAnchor(world.suite, world.cast.operator), clock_of(world))
    while (report := publisher.publish()).sent or report.waiting:
        continue
    with world.store.read() as connection:
        if get_batch(connection, batch.id).status is not BatchStatus.CONFIRMED:
            raise ChainError(f"metered day {world.day.day} was not anchored", hint="see the outbox of the store")
    return proven_days(world.store, batch.id)


def _baselines(world: World, ahead: DayAhead) -> Callable[[ProsumerOrder], bytes]:
    return lambda order: baselines_of(world, ahead, order).packed[order.meter_id]
