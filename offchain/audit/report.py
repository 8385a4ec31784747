"""What an audit checked, and every difference it found."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from offchain.domain.errors import AuditMismatchError


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference: what, where, what the auditor rebuilt and what it found instead."""

    what: str
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.what} at {self.where}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Result of an audit.

    Attributes
    ----------
    ok : bool
        Nothing differs.
    checked : dict of str to int
        Number of checks by subject, in the order they were first made.
    mismatches : list of Mismatch
        Every difference, in the order of the record.
    """

    ok: bool
    checked: dict[str, int]
    mismatches: list[Mismatch]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    def raise_first(self) -> None:
        """Raise :class:`AuditMismatchError` naming the first difference, if there is one."""
        if self.mismatches:
            others = len(self.mismatches) - 1
            more = f"{others} more; --json lists all" if others else ""
            raise AuditMismatchError(str(self.mismatches[0]), hint=more)


@dataclass(slots=True)
class Checks:
    """Collects checks and differences while the audit runs."""

    checked: Counter[str] = field(default_factory=Counter)
    mismatches: list[Mismatch] = field(default_factory=list)

    def equal(self, subject: str, what: str, where: str, expected: Any, found: Any) -> bool:
        """Count one check; record a mismatch unless both are equal."""
        self.checked[subject] += 1
        if expected == found:
            return True
        self.mismatches.append(Mismatch(what, where, show(expected), show(found)))
        return False

    def holds(self, subject: str, what: str, where: str, condition: bool, expected: Any, found: Any) -> bool:
        """Count one check of a rule; record a mismatch unless it holds."""
        self.checked[subject] += 1
        if not condition:
            self.mismatches.append(Mismatch(what, where, show(expected), show(found)))
        return condition

    def passed(self, subject: str, count: int) -> None:
        """Count checks that were made in bulk and held."""
        self.checked[subject] += count

    def fail(self, subject: str, what: str, where: str, expected: Any, found: Any) -> None:
        self.holds(subject, what, where, False, expected, found)


def show(value: Any) -> str:
    """A value as a person reads it; long byte strings by their beginning."""
    if isinstance(value, bytes | bytearray):
        text = bytes(value).hex()
        return f"0x{text}" if len(text) <= 64 else f"0x{text[:16]}... ({len(value)} bytes)"
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return ", ".join(f"{key} {show(item)}" for key, item in value.items()) or "nothing"
    if isinstance(value, Sequence):
        return ", ".join(show(item) for item in value) or "nothing"
    return str(value)
