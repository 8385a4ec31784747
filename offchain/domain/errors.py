"""Error hierarchy. Every error is one line for a person: what, where, what to do."""


class FlexError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    message : str
        What is wrong and where, in one line.
    hint : str
        What the reader can do about it; empty when nothing helps.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = ""):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class DomainError(FlexError):
    """Input that breaks a rule of the field: units, ranges, calendars."""

    exit_code = 2


class InsufficientHistoryError(DomainError):
    """Fewer similar days than a method needs."""

    def __init__(self, *, available: int, required: int, what: str = "history"):
        super().__init__(
            f"{what}: {available} days available, {required} required",
            hint="load more history or choose a method that needs less",
        )
        self.available = available
        self.required = required


class InfeasibleError(DomainError):
    """A plan that no choice of the variables can fulfil; names the constraint and the time step."""

    def __init__(self, constraint: str, *, isp: int | None = None):
        where = "" if isp is None else f" at ISP {isp}"
        super().__init__(f"infeasible: {constraint}{where}", hint="relax the constraint or add flexibility")
        self.constraint = constraint
        self.isp = isp


class AdapterError(FlexError):
    """A device, a file or another system did not do what it should."""

    exit_code = 3


class TransientError(AdapterError):
    """Worth another try: time-out, connection refused, busy."""


class PermanentError(AdapterError):
    """Not worth another try without a change: wrong register map, wrong file."""


class ChainError(FlexError):
    """The chain refused or could not be reached."""

    exit_code = 4


class AuditMismatchError(FlexError):
    """What the auditor rebuilt differs from what the chain or the store holds."""

    exit_code = 1
