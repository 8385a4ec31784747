"""What all methods share that compare a day with similar ones before it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from offchain.baseline.history import History, check_event
from offchain.domain.errors import DomainError
from offchain.domain.isp import MarketDay


@dataclass(frozen=True)
class SimilarDayMethod(ABC):
    """A method that needs nothing but similar days, and readings of the day before an event.

    Arithmetic is over integers and for many connections at once: arrays of values have one more axis, of the
    connections, at the end. ``past`` has shape (n_days, isp_count, n_connections), latest day first, with
    ``least_days`` to ``most_days`` days; ``today`` has shape (positions before the event, n_connections);
    ``event`` is a slice of positions in the day.

    Attributes
    ----------
    name, version : str, int
        Together the identifier; a change of results is a new version.
    """

    name: str
    version: int

    same_day: ClassVar[bool] = False
    """Uses readings of the day itself, from before the event: cannot be committed a day ahead, can be gamed."""

    @property
    @abstractmethod
    def least_days(self) -> int:
        """Similar days without which there is no baseline."""

    @property
    def most_days(self) -> int:
        """Similar days that are looked at where there are as many."""
        return self.least_days

    @abstractmethod
    def expected(self, past: np.ndarray, today: np.ndarray | None, event: slice | None) -> np.ndarray:
        """Baseline of the whole day, int64 [Wh], shape (isp_count, n_connections).

        Readings of the day itself change values within the event only.
        """

    def in_event(self, past: np.ndarray, today: np.ndarray | None, event: slice) -> np.ndarray:
        """The part of :meth:`expected` within the event, shape (n_event, n_connections)."""
        return self.expected(past, today, event)[event]

    def inputs(
        self, history: History, day: MarketDay, event: range | None
    ) -> tuple[np.ndarray, np.ndarray | None, slice | None]:
        """``past``, ``today`` and ``event`` of one connection, without the axis of connections."""
        positions = None
        if event is not None:
            check_event(day, event)
            positions = slice(event.start - day.first_isp, event.stop - day.first_isp)
        if self.same_day and event is None:
            raise DomainError(
                f"{self.name}@{self.version} adjusts to readings before an event, and none was named",
                hint="give the ISPs of the event or choose a method without same-day adjustment",
            )
        past = history.similar_days(day, self.least_days, self.most_days)
        return past, history.before(day, event) if self.same_day else None, positions

    def baseline(self, history: History, day: MarketDay, event: range | None = None) -> np.ndarray:
        """See :class:`offchain.baseline.method.BaselineMethod`."""
        past, today, positions = self.inputs(history, day, event)
        return self.expected(past[:, :, None], None if today is None else today[:, None], positions)[:, 0]
