"""The audit as a whole."""

from collections.abc import Callable

from offchain.audit.archive import Archive
from offchain.audit.balances import check_balances
from offchain.audit.model import Model
from offchain.audit.ports import ChainRecord
from offchain.audit.records import read_records
from offchain.audit.replay import Replay
from offchain.audit.report import AuditReport, Checks
from offchain.audit.rules import handler_of, locks_of
from offchain.audit.stored import check_store
from offchain.chain.signatures import metering_domain
from offchain.domain.errors import ChainError
from offchain.store.database import Store

Progress = Callable[[str, int, int], None]
"""Told the stage, how much of it is done, and how much there is."""


def audit(chain: ChainRecord, store: Store, progress: Progress = lambda stage, done, total: None) -> AuditReport:
    """Rebuild everything from events and stored evidence, and compare with contracts and store.

    Parameters
    ----------
    chain : ChainRecord
    store : Store
        Readings, metered days, baselines and documents behind what the chain knows by hash.
    progress : callable

    Returns
    -------
    AuditReport
        Differences of the store come first: they tell the cause of what differs after them.
    """
    for contract in ("MeteringLedger", "ClearingHouse"):
        if contract not in chain.addresses:
            raise ChainError(f"deployment without {contract}", hint="give the deployment file of this suite")
    model, records = Model(), read_records(store)
    archive = Archive(model, records, metering_domain(chain.chain_id, chain.addresses["MeteringLedger"]))
    replayed, stored = Checks(), Checks()

    replay = Replay(replayed, archive, chain.get, chain.addresses)
    replay.prefetch(list(locks_of(chain.events)))
    total = len(chain.events)
    replay.run(chain.events, handler_of, lambda done: progress("events", done, total))

    total = sum(day.isp_count for _, days in records.batches for day in days)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("readings", done, total)

    check_store(stored, model, archive, advance)
    progress("balances", 0, 1)
    check_balances(replayed, model, chain.get, chain.timestamp, chain.addresses["ClearingHouse"])
    progress("balances", 1, 1)
    return AuditReport(
        ok=not stored.mismatches and not replayed.mismatches,
        checked=dict(stored.checked + replayed.checked),
        mismatches=stored.mismatches + replayed.mismatches,
    )
