import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from offchain.audit import AuditReport, audit
from offchain.store import open_store
from tests.offchain.audit import world


class Case:
    """The day, to be falsified: events, getters and store are copies of their own."""

    def __init__(self, events, answers, store: Path):
        self.events = list(events)
        self.answers = dict(answers)
        self.store = store

    def audit(self) -> AuditReport:
        with open_store(self.store, create=False) as store:
            return audit(world.chain_record(self.events, self.answers), store)

    def sql(self, statement: str, *parameters) -> None:
        with open_store(self.store, create=False) as store, store.write() as connection:
            connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
            assert connection.exec_driver_sql(statement, parameters).rowcount > 0, "nothing was falsified"


@pytest.fixture(scope="session")
def day(tmp_path_factory) -> tuple:
    """Events, answers of the contracts, and the store of the untouched day."""
    store = tmp_path_factory.mktemp("audit") / "store.db"
    world.write_store(store)
    events = world.make_events()
    return events, world.contract_answers(events, store), store


@pytest.fixture
def case(day, tmp_path) -> Case:
    events, answers, store = day
    shutil.copyfile(store, tmp_path / "store.db")
    return Case(events, answers, tmp_path / "store.db")


@pytest.fixture
def assert_found(case) -> Callable[[str, str], AuditReport]:
    """Audits the case; some difference must say ``what`` about ``where``."""

    def check(what: str, where: str = "") -> AuditReport:
        report = case.audit()
        assert not report.ok
        assert any(what in m.what and where in m.where for m in report.mismatches), report.mismatches[:5]
        return report

    return check
