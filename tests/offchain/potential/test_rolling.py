"""Orders that come while a battery runs: what was accepted stays deliverable to the end.

Invariants, after every order and every quarter hour that passes:
F1  the battery keeps to its limits, simulated step by step;
F2  what was accepted and is still to come is deliverable by an envelope made from its charge now;
F3  a margin that is offered now can be accepted now.
"""

from dataclasses import replace

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from offchain.domain.units import Direction
from offchain.potential.storage import Battery
from tests.offchain.potential import simulations
from tests.offchain.potential.test_delivery import ISPS, batteries


class RollingBattery(RuleBasedStateMachine):
    @initialize(battery=batteries(), direction=st.sampled_from(Direction))
    def begin(self, battery, direction):
        self.battery: Battery = battery
        self.direction = direction
        self.ordered = np.zeros(ISPS, dtype=np.int64)
        self.original, self.accepted = battery, []

    @precondition(lambda self: len(self.ordered) > 0)
    @rule(data=st.data())
    def order_arrives(self, data):
        envelope = self.battery.envelope(self.direction)
        start = data.draw(st.integers(0, len(self.ordered) - 1))
        isps = data.draw(st.integers(1, len(self.ordered) - start))
        share = data.draw(st.sampled_from([0.1, 0.5, 1.0]))
        wanted = self.ordered.copy()
        wanted[start : start + isps] += int(envelope.sustained_wh(start, isps) * share)
        if envelope.deliverable(wanted):
            self.ordered = wanted
        else:
            assert self.ordered.any()  # on its own it would have been

    @precondition(lambda self: len(self.ordered) > 1)
    @rule()
    def quarter_hour_passes(self):
        ordered = int(self.ordered[0])
        net = int(self.battery.plan_wh[0]) + (-ordered if self.direction is Direction.UP else ordered)
        battery = self.battery
        stored = battery.stored_wh + (net * battery.charging if net > 0 else net / battery.discharging)
        self.accepted.append(ordered)
        self.battery = replace(battery, stored_wh=stored, plan_wh=battery.plan_wh[1:])
        self.ordered = self.ordered[1:]

    @invariant()
    def inv_f1_the_battery_keeps_its_limits(self):
        if hasattr(self, "battery"):
            everything = np.concatenate([np.array(self.accepted, dtype=np.int64), self.ordered])
            moved = simulations.battery(self.original, self.direction, everything)
            assert (moved == everything).all()

    @invariant()
    def inv_f2_what_was_accepted_stays_deliverable(self):
        if hasattr(self, "battery"):
            assert self.battery.envelope(self.direction).deliverable(self.ordered)

    @invariant()
    def inv_f3_offered_margins_can_be_accepted(self):
        if hasattr(self, "battery"):
            envelope = self.battery.envelope(self.direction)
            for n in np.flatnonzero(envelope.margin_wh)[:3]:
                alone = np.zeros(len(self.ordered), dtype=np.int64)
                alone[n] = envelope.margin_wh[n]
                assert envelope.deliverable(alone)


TestRollingBattery = RollingBattery.TestCase
TestRollingBattery.settings = settings(max_examples=50, stateful_step_count=25)
