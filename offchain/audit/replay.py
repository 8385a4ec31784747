"""Replays the events of the suite into a model; checks that each was allowed and moved the money it should.

Two ledgers are kept for every transaction: what the clearing house says it moved, and what the rules say the
transaction had to move. They must agree account by account and lock by lock.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

from offchain.audit.archive import Archive
from offchain.audit.model import Role
from offchain.audit.ports import Getter, Query
from offchain.audit.report import Checks
from offchain.chain.events import Event

K = TypeVar("K")
V = TypeVar("V")
Account = str | bytes
"""Free balance of an account (address) or a lock (id)."""


Handler = Callable[["Replay", Event], None]


class Debt(NamedTuple):
    """What a debtor owes a creditor from the corrections of a contract."""

    contract: str
    debtor: str
    creditor: str


class UnknownReferenceError(Exception):
    """An event is about something that no event made known."""


@dataclass(slots=True)
class Movements:
    """Money of one transaction: balance changes by account, and debts that were recorded."""

    found: Counter[Account] = field(default_factory=Counter)
    due: Counter[Account] = field(default_factory=Counter)
    owed_found: list[tuple[Debt, int]] = field(default_factory=list)
    owed_due: list[tuple[Debt, int]] = field(default_factory=list)
    """Changes of debts, negative when they were set off or collected [uToken]."""
    deposited: int = 0
    """Deposits minus withdrawals [uToken]."""
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Changes of token balances by (token contract, holder)."""
    desk_tokens: int = 0
    """Energy tokens that the desk should have got, negative when it should have given them [uToken]."""
    desk_payment: int = 0
    """Payment units that the desk should have got."""
    certificates_found: Counter[tuple[int, str]] = field(default_factory=Counter)
    certificates_due: Counter[tuple[int, str]] = field(default_factory=Counter)
    """Certificates of energy by (token id, holder)."""
    injected_found: dict[tuple[int, bytes], list[int]] = field(default_factory=dict)
    """Delivered energy by product that was recorded, by (session, connection) [Wh]."""
    injected_due: dict[tuple[int, bytes], list[int]] = field(default_factory=dict)
    by_rule: dict[tuple[int, bytes], int] = field(default_factory=dict)
    """Forecast commitments of orders that a trading rule places, by (session, connection), until the orders come."""


class Replay:
    """One pass over the events.

    Parameters
    ----------
    checks : Checks
    archive : Archive
        Stored evidence: metered days, baselines, readings.
    get : Getter
        Settings of the contracts and names of their locks; balances are not asked for here.
    addresses : mapping of str to str
        Address by contract name.
    """

    def __init__(self, checks: Checks, archive: Archive, get: Getter, addresses: Mapping[str, str]):
        self.checks = checks
        self.archive = archive
        self.addresses = addresses
        self.model = archive.model
        self.money = Movements()
        self.lock_names: dict[bytes, str] = {}
        self._get = get
        self._answers: dict[Query, Any] = {}

    # -------------------------------------------------------------------------------- run

    def run(
        self,
        events: Sequence[Event],
        handler_of: Callable[[Event], Handler | None],
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Replay all events into the model; ``progress`` is told how many are done."""
        done = 0
        for transaction in _transactions(events):
            self.money = Movements()
            for event in transaction:
                handler = handler_of(event)
                if handler is None:
                    self.checks.fail("events", "event without a rule", at(event), "a known event", event.name)
                    continue
                try:
                    handler(self, event)
                    self.checks.passed("events", 1)
                except UnknownReferenceError as exc:
                    self.checks.fail("events", "event about something never recorded", at(event), exc, "nothing")
                except (KeyError, IndexError, ValueError) as exc:
                    # Only a record that contradicts itself comes here: an honest event fits those before it.
                    shown = f"{type(exc).__name__}: {exc}"
                    self.checks.fail("events", "event that fits nothing before it", at(event), "sense", shown)
            self._settle_transaction(transaction[-1])
            done += len(transaction)
            progress(done)

    def _settle_transaction(self, last: Event) -> None:
        money, where = self.money, f"block {last.block_number}, transaction {_hex(last.tx_hash)}"
        for account in money.found.keys() | money.due.keys():
            self.checks.equal(
                "payments",
                f"money of {self.name_of(account)}",
                where,
                money.due[account],
                money.found[account],
            )
            if isinstance(account, bytes):
                self.model.locks[account] += money.found[account]
            else:
                self.model.balances[account] += money.found[account]
        self.model.total_held += money.deposited
        if money.owed_found or money.owed_due:
            self.checks.equal("payments", "debts recorded", where, sorted(money.owed_due), sorted(money.owed_found))
        for debt, amount in money.owed_found:
            self.model.owed[debt] += amount
        for token_id, holder in money.certificates_found.keys() | money.certificates_due.keys():
            self.checks.equal(
                "certificates",
                f"token {token_id} of {holder}",
                where,
                money.certificates_due[token_id, holder],
                money.certificates_found[token_id, holder],
            )
            self.model.certificates[token_id, holder] += money.certificates_found[token_id, holder]
        for session_id, connection_id in money.injected_found.keys() | money.injected_due.keys():
            key = session_id, connection_id
            self.checks.equal(
                "certificates",
                f"injection of connection 0x{connection_id.hex()} in session {session_id}",
                where,
                money.injected_due.get(key, []),
                money.injected_found.get(key, []),
            )
        if money.by_rule:
            self.checks.fail("trading rules", "placed by a rule", where, "its orders", "none")
        self._check_tokens(where)

    def _check_tokens(self, where: str) -> None:
        """Tokens may also be given to house and desk unasked, so they get at least what the rules say."""
        money = self.money
        house = money.tokens["EnergyToken", self.addresses.get("ClearingHouse", "")]
        if house or money.deposited:
            self.checks.holds(
                "tokens",
                "tokens of the clearing house",
                where,
                house >= money.deposited,
                money.deposited,
                house,
            )
        if money.desk_tokens:
            desk = money.tokens["EnergyToken", self.addresses.get("TokenDesk", "")]
            self.checks.holds(
                "tokens",
                "energy tokens of the desk",
                where,
                desk >= money.desk_tokens,
                money.desk_tokens,
                desk,
            )
        if money.desk_payment and "LocalCurrency" in self.addresses:
            desk = money.tokens["LocalCurrency", self.addresses.get("TokenDesk", "")]
            self.checks.holds(
                "tokens", "reserve of the desk", where, desk >= money.desk_payment, money.desk_payment, desk
            )

    # -------------------------------------------------------------------------------- for the rules

    def rule(self, subject: str, what: str, where: str, condition: bool, expected: Any, found: Any) -> bool:
        return self.checks.holds(subject, what, where, condition, expected, found)

    def find(self, things: Mapping[K, V], key: K, what: str) -> V:
        """Something that an earlier event must have made known."""
        try:
            return things[key]
        except KeyError:
            shown = key.hex() if isinstance(key, bytes) else key
            raise UnknownReferenceError(f"{what} {shown}") from None

    def require_role(self, subject: str, account: str, role: Role, where: str) -> None:
        self.rule(
            subject,
            f"role of {account}",
            where,
            self.model.has_role(account, role),
            f"active {role.name.lower()}",
            f"{self.model.standings.get(account, 'unknown')} {sorted(self.model.roles[account])}",
        )

    def pay(self, source: Account, target: Account, amount: int) -> None:
        """Say that the transaction has to move ``amount`` [uToken]."""
        self.money.due[source] -= amount
        self.money.due[target] += amount

    def expected_balance(self, account: Account) -> int:
        """What an account or lock holds at this point of the transaction by the rules [uToken]."""
        before = self.model.locks[account] if isinstance(account, bytes) else self.model.balances[account]
        return before + self.money.due[account]

    def recorded_debt(self, debt: Debt) -> int:
        """What is owed at this point of the transaction by the events [uToken]."""
        return self.model.owed[debt] + sum(amount for other, amount in self.money.owed_found if other == debt)

    def expected_debt(self, debt: Debt) -> int:
        """What is owed at this point of the transaction by the rules [uToken]."""
        return self.model.owed[debt] + sum(amount for other, amount in self.money.owed_due if other == debt)

    def setting(self, contract: str, function: str, *args: int) -> Any:
        """A constant of a contract."""
        return self._ask(Query(contract, function, args))

    def lock(self, contract: str, function: str, key: int | str) -> bytes:
        """Id of a lock; two matters never share one."""
        query = Query(contract, function, (key,))
        lock_id = self._ask(query)
        name = self.lock_names.setdefault(lock_id, str(query))
        if name != str(query):
            self.checks.fail("payments", "lock of two matters", str(query), "a lock of its own", name)
        return lock_id

    def name_of(self, account: Account) -> str:
        if isinstance(account, bytes):
            return f"lock {self.lock_names.get(account, '0x' + account.hex())}"
        return account

    def prefetch(self, queries: Sequence[Query]) -> None:
        """Ask for many answers at once."""
        new = [query for query in dict.fromkeys(queries) if query not in self._answers]
        self._answers.update(zip(new, self._get(new), strict=True))

    def _ask(self, query: Query) -> Any:
        if query not in self._answers:
            self.prefetch([query])
        return self._answers[query]


def at(event: Event, thing: str = "") -> str:
    """Where something happened, for a person."""
    return f"{event.contract}.{event.name}{' of ' if thing else ''}{thing} (block {event.block_number})"


def _transactions(events: Sequence[Event]) -> Iterator[list[Event]]:
    for _, group in groupby(events, key=lambda event: (event.block_number, event.tx_hash)):
        yield list(group)


def _hex(value: Any) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
