"""Baselines over a growing history: what was committed can be recomputed at any later time.

Invariants, after every reading, gap and event:
B1  a committed baseline equals the one recomputed from the whole history, with the exclusions known at commitment;
B2  it equals the one of a party that holds the same history from a later beginning, as long as it holds enough;
B3  readings, gaps and events of the day and later do not change it.
"""

from datetime import date, timedelta

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from offchain.baseline.history import Exclusion, History
from offchain.baseline.method import BASELINE_METHODS, baseline_method
from offchain.domain.errors import InsufficientHistoryError
from offchain.domain.isp import MarketDay

FIRST = date(2016, 3, 7)  # the change of clocks and Easter lie ahead
DAY_AHEAD = sorted(name for name, method in BASELINE_METHODS.items() if not method.same_day)


class Committing(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.day = FIRST
        self.values: list[np.ndarray] = []
        self.known: list[np.ndarray] = []
        self.excluded: dict[date, Exclusion] = {}
        self.committed: list[tuple[str, MarketDay, dict[date, Exclusion], np.ndarray]] = []

    def history(self, excluded, *, skip_days: int = 0) -> History:
        first = MarketDay.of(FIRST + timedelta(skip_days)).first_isp
        skip = first - MarketDay.of(FIRST).first_isp
        return History(
            first, np.concatenate(self.values)[skip:], np.concatenate(self.known)[skip:], excluded=dict(excluded)
        )

    @rule(days=st.integers(1, 12), seed=st.integers(0, 2**32), gap=st.booleans())
    def time_passes(self, days, seed, gap):
        rng = np.random.default_rng(seed)
        for _ in range(days):
            isps = MarketDay.of(self.day).isp_count
            self.values.append(rng.integers(-400, 2_000, isps))
            self.known.append(np.ones(isps, dtype=bool))
            self.day += timedelta(1)
        if gap:
            self.known[-1][int(rng.integers(self.known[-1].size))] = False

    @precondition(lambda self: self.values)
    @rule(back=st.integers(1, 20), reason=st.sampled_from([Exclusion.EVENT, Exclusion.OUTAGE]))
    def day_is_excluded(self, back, reason):
        self.excluded[self.day - timedelta(back)] = reason

    @precondition(lambda self: self.values)
    @rule(name=st.sampled_from(DAY_AHEAD))
    def commit(self, name):
        day = MarketDay.of(self.day)
        try:
            curve = baseline_method(name).baseline(self.history(self.excluded), day)
        except InsufficientHistoryError as refusal:
            assert refusal.available < refusal.required
            return
        self.committed.append((name, day, dict(self.excluded), curve))

    @invariant()
    def inv_b1_b3_committed_baselines_are_recomputed_to_the_last_wh(self):
        for name, day, excluded, curve in self.committed[-4:]:
            assert (baseline_method(name).baseline(self.history(excluded), day) == curve).all()

    @invariant()
    def inv_b2_a_shorter_history_gives_the_same_or_is_refused(self):
        for name, day, excluded, curve in self.committed[-2:]:
            method = baseline_method(name)
            if method.least_days != method.most_days:
                continue  # looks at all that there is
            for skip_days in (1, 5):
                if MarketDay.of(FIRST + timedelta(skip_days)).first_isp >= day.first_isp:
                    continue
                try:
                    shorter = method.baseline(self.history(excluded, skip_days=skip_days), day)
                except InsufficientHistoryError:
                    continue
                assert (shorter == curve).all()


TestCommitting = Committing.TestCase
TestCommitting.settings = settings(max_examples=25, stateful_step_count=15)
