"""What somebody should look at, until it is over. Logged once when it begins and once when it ends."""

import logging
import threading
from dataclasses import dataclass

from oracles.clock import Clock, unix

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that is wrong, since when [UTC s]."""

    kind: str
    subject: str
    text: str
    since: int


class Alarms:
    """Alarms of a site that are on; may be used by threads."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._on: dict[tuple[str, str], Alarm] = {}
        self._lock = threading.Lock()

    def __iter__(self):
        with self._lock:
            return iter(sorted(self._on.values(), key=lambda alarm: (alarm.since, alarm.kind, alarm.subject)))

    def set(self, kind: str, subject: str, text: str) -> None:
        with self._lock:
            if (kind, subject) in self._on:
                return
            self._on[kind, subject] = Alarm(kind, subject, text, unix(self._clock))
        log.error("alarm %s: %s: %s", kind, subject, text)

    def clear(self, kind: str, subject: str) -> None:
        with self._lock:
            if self._on.pop((kind, subject), None) is None:
                return
        log.info("alarm over: %s: %s", kind, subject)
