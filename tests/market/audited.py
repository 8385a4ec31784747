"""A market whose every event is kept, with the evidence behind it: audited as it is, or with something changed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from offchain.audit.archive import Archive
from offchain.audit.balances import check_balances
from offchain.audit.model import Model
from offchain.audit.ports import Query
from offchain.audit.records import Records
from offchain.audit.replay import Replay
from offchain.audit.report import Checks
from offchain.audit.rules import handler_of
from offchain.chain.events import Event
from offchain.chain.signatures import metering_domain
from offchain.market.batches import BATCH_DOCUMENT
from offchain.store.batches import Batch, BatchKind, BatchStatus, MeterDayRow
from offchain.store.curves import CommitmentRow, CurveRow
from offchain.store.documents import Document
from tests.market.settling import SettlingWorld
from tests.utils.evm import CHAIN_ID, Deployed, LocalEvm


class RecordingEvm(LocalEvm):
    """Keeps all events; every call that made one is a transaction of its own."""

    def __init__(self, now: int):
        super().__init__(now)
        self.history: list[Event] = []
        self.deployed: dict[str, Deployed] = {}
        self._transaction = 0

    def deploy(self, name: str, *arguments, sender: str) -> Deployed:
        self._transaction += 1
        self.deployed[name] = super().deploy(name, *arguments, sender=sender)
        return self.deployed[name]

    def call(self, contract: Deployed, function: str, arguments: tuple, sender: str) -> Any:
        self._transaction += 1
        return super().call(contract, function, arguments, sender)

    def _record(self, address: str, name: str, arguments: dict[str, Any]) -> None:
        number = self._transaction
        tx = f"0x{number:064x}"
        index = len(self.history)
        self.history.append(Event(self._names[address], address, name, arguments, number, tx, tx, index, self.now))

    @contextmanager
    def rolled_back(self) -> Iterator[None]:
        before = len(self.history)
        with super().rolled_back():
            yield
        del self.history[before:]


class AuditedWorld(SettlingWorld):
    make_evm = RecordingEvm

    def __init__(self):
        super().__init__()
        self.anchored: list[list[dict[str, Any]]] = []
        """Days of every batch, in the order of their anchoring."""
        self.forecasts: list[dict[str, Any]] = []
        self.documents: list[bytes] = []

    def anchor(self, session, readings, **day):
        evidence = super().anchor(session, readings, **day)
        self.anchored.append([proven["day"] for proven in evidence.values()])
        return evidence

    def commit_forecast(self, session, net_wh):
        forecasts = super().commit_forecast(session, net_wh)
        self.forecasts = list(forecasts.values())
        return forecasts

    def events(self, name: str) -> list[Event]:
        return [event for event in self.evm.history if event.name == name]

    def get(self, queries: Sequence[Query]) -> list[Any]:
        found = []
        for contract, function, arguments in queries:
            found.append(getattr(self.evm.deployed[contract], function)(*arguments))
        return found

    def records(self) -> Records:
        """Evidence as a store would hold it."""
        batches = []
        for number, (event, days) in enumerate(zip(self.events("DayAnchored"), self.anchored, strict=True), start=1):
            args = event.args
            fields = (args["firstIsp"], args["ispCount"], args["version"], args["root"], len(days))
            batch = Batch(
                number, BatchKind.DAY, args["operator"], *fields, args["dataHash"], BatchStatus.CONFIRMED, None, 0
            )
            rows = [
                MeterDayRow(d["meterId"], d["firstIsp"], d["ispCount"], batch.version, d["values"], d["signature"])
                for d in days
            ]
            batches.append((batch, rows))
        commitments = {}
        for event in self.events("Committed"):
            args = event.args
            first, count = args["firstIsp"], args["ispCount"]
            number = args["commitmentId"]
            curves = [
                CurveRow("forecast", "any@1", f["meterId"], first, count, f["values"], 0, number, position)
                for position, f in enumerate(f for f in self.forecasts if f["commitmentId"] == number)
            ]
            row = CommitmentRow(
                *(number, "forecast", args["committer"], args["scope"], args["method"], first, count),
                *(args["root"], len(curves), args["madeAt"], args["dataHash"], None),
            )
            commitments[number] = (row, curves)
        documents = [
            Document(BATCH_DOCUMENT, event.args["dataHash"], content, 0)
            for event, content in zip(self.events("BatchProposed"), self.documents, strict=False)
        ]
        return Records(batches, {}, commitments, documents)

    def audit(self, *, events: Sequence[Event] | None = None, get=None, records: Records | None = None) -> Checks:
        """Checks of events and getters; those of the store alone are left out."""
        checks, model = Checks(), Model()
        addresses = {name: contract.address for name, contract in self.evm.deployed.items()}
        domain = metering_domain(CHAIN_ID, addresses["MeteringLedger"])
        archive = Archive(model, records or self.records(), domain)
        self.audited_model = model
        replay = Replay(checks, archive, get or self.get, addresses)
        replay.run(self.evm.history if events is None else events, handler_of)
        check_balances(checks, model, get or self.get, self.evm.now, addresses["ClearingHouse"])
        return checks

    def changed(self, name: str, which: int = 0, **arguments: Any) -> list[Event]:
        """All events, with arguments of one of them changed."""
        target = self.events(name)[which]
        for argument, value in arguments.items():
            assert target.args[argument] != value, "nothing is changed"
        other = replace(target, args=dict(target.args) | arguments)
        return [other if event is target else event for event in self.evm.history]

    def without(self, name: str, number: int = 0) -> list[Event]:
        target = self.events(name)[number]
        return [event for event in self.evm.history if event is not target]
