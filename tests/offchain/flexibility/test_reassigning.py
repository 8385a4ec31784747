"""shortfall_wh and reassign.

shortfall: outside the day, nothing due, within the tolerance, beyond it, other way round, part taken over, DOWN
reassign: right guess; wrong guess → next one that the contract names; nobody left; enough; any other revert
"""

import pytest

from offchain.chain.errors import ContractRevertedError
from offchain.domain.curves import pack_baseline
from offchain.flexibility.commitments import CommittedCurves
from offchain.flexibility.reassigning import EXHAUSTED, reassign, shortfall_wh
from offchain.store.readings import ReadingRow
from tests.offchain.flexibility.conftest import DAY, RecordingSuite, curve, meter, order

BASELINE = pack_baseline([5_000] * DAY.isp_count)


def reading(net_wh, position=40):
    return ReadingRow(meter(1), DAY.first_isp + position, max(net_wh, 0), max(-net_wh, 0), 0, b"s" * 65, 1, "modbus")


@pytest.mark.parametrize(
    ("net_wh", "missing_wh"),
    [(4_000, 0), (3_000, 0), (4_100, 0), (4_101, 1), (5_000, 900), (9_000, 900), (-2_000, 0)],
)
def test_shortfall_wh_is_what_is_missing_beyond_the_tolerance(net_wh, missing_wh):
    assert shortfall_wh(order(1), BASELINE, reading(net_wh)) == missing_wh


@pytest.mark.parametrize(("net_wh", "missing_wh"), [(6_000, 0), (5_900, 0), (5_899, 1), (4_000, 900)])
def test_shortfall_wh_looks_the_other_way_when_down(net_wh, missing_wh):
    assert shortfall_wh(order(1, direction=1), BASELINE, reading(net_wh)) == missing_wh


def test_shortfall_wh_leaves_out_what_was_taken_over():
    assert shortfall_wh(order(1, taken=curve({40: 600})), BASELINE, reading(5_000)) == 300


@pytest.mark.parametrize("position", [39, -1, DAY.isp_count])
def test_shortfall_wh_is_zero_when_nothing_was_due(position):
    assert shortfall_wh(order(1), BASELINE, reading(9_000, position)) == 0


class Dispatch:
    """The reassigning contract: a merit order of standby, each good for so much."""

    def __init__(self, next_ones, end="NoStandbyLeft"):
        self.next_ones, self.end = list(next_ones), end

    def __call__(self, contract, function, args):
        index = args[1]["standbyIndex"]
        if not self.next_ones:
            return ContractRevertedError(contract, function, self.end, {})
        if index != self.next_ones[0]:
            return ContractRevertedError(contract, function, "WrongStandby", {"expected": self.next_ones[0]})
        self.next_ones.pop(0)
        return []


def run(dispatch, standby=(11, 12, 13)):
    suite, records = RecordingSuite(dispatch), []
    meters = {agreement: meter(agreement) for agreement in standby}
    baselines = CommittedCurves(
        1,
        {meter(1): BASELINE} | {m: b"baseline" + m for m in meters.values()},
        {m: [b"proof" + m] for m in meters.values()},
    )
    count = reassign(suite, None, lambda: order(1), reading(5_000), baselines, list(standby), meters, records.append)
    return count, suite, records


@pytest.mark.parametrize("end", EXHAUSTED)
def test_reassign_ends_when_the_contract_says_so(end):
    count, suite, records = run(Dispatch([], end))
    assert (count, records) == (0, [])
    assert len(suite.sent) == 1


def test_reassign_goes_on_with_the_same_one_while_it_can_take():
    count, suite, records = run(Dispatch([0, 0]))
    assert count == len(records) == 2
    assert [args[1]["standbyIndex"] for _, _, args in suite.sent] == [0, 0, 0]


def test_reassign_follows_the_contract_when_the_guess_was_wrong():
    count, suite, _ = run(Dispatch([1, 2]))
    assert count == 2
    tried = [(args[1]["standbyIndex"], args[1]["standbyBaselineWh"]) for _, _, args in suite.sent]
    assert tried[:2] == [(0, b"baseline" + meter(11)), (1, b"baseline" + meter(12))]


def test_reassign_stops_when_the_list_is_at_its_end():
    count, suite, _ = run(Dispatch([3]))
    assert count == 0
    assert len(suite.sent) == 1


def test_reassign_sends_nothing_when_there_is_no_standby():
    count, suite, _ = run(Dispatch([0]), standby=())
    assert (count, suite.sent) == (0, [])


def test_reassign_raises_when_the_contract_refuses_for_another_reason():
    with pytest.raises(ContractRevertedError, match="InvalidDeviceSignature"):
        run(Dispatch([], "InvalidDeviceSignature"))


def test_reassign_brings_the_signed_reading():
    _, suite, _ = run(Dispatch([]))
    terms, evidence = suite.sent[0][2]
    assert terms == order(1).terms
    assert evidence["reading"] == {
        "meterId": meter(1),
        "isp": DAY.first_isp + 40,
        "importWh": 5_000,
        "exportWh": 0,
        "signature": b"s" * 65,
    }
    assert evidence["baselineWh"] == BASELINE
