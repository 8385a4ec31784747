"""shortfall_wh and reassign.

shortfall: outside the day, nothing due, within the tolerance, beyond it, other way round, part taken over, DOWN
candidates: in the order given, without those that no baseline was committed of
reassign: until the contract says enough, nobody left, too late; no list → nothing; any other revert
"""

import pytest

from offchain.chain.errors import ContractRevertedError
from offchain.domain.curves import pack_baseline
from offchain.flexibility.commitments import CommittedCurves
from offchain.flexibility.reassigning import EXHAUSTED, candidates, reassign, shortfall_wh
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


LIST = ({"agreementId": 11, "meterId": meter(11), "baselineHash": b"h" * 32},)


def test_candidates_bring_baseline_and_proof_of_the_meters_that_have_one():
    baselines = CommittedCurves(1, {meter(2): b"curve"}, {meter(2): [b"proof"]})
    found = candidates([11, 12], {11: meter(1), 12: meter(2)}, baselines)
    assert found == [{"agreementId": 12, "baselineWh": b"curve", "baselineProof": [b"proof"]}]


class Standby:
    """The reassigning contract: takes over so often, then says why not."""

    def __init__(self, able, end="NoStandbyLeft"):
        self.able, self.end = able, end

    def __call__(self, contract, function, args):
        if not self.able:
            return ContractRevertedError(contract, function, self.end, {})
        self.able -= 1
        return []


def run(contract, standby=LIST):
    suite, records = RecordingSuite(contract), []
    count = reassign(suite, None, lambda: order(1), reading(5_000), BASELINE, standby, records.append)
    return count, suite, records


@pytest.mark.parametrize("end", EXHAUSTED)
def test_reassign_ends_when_the_contract_says_so(end):
    count, suite, records = run(Standby(0, end))
    assert (count, records) == (0, [])
    assert len(suite.sent) == 1


def test_reassign_goes_on_while_somebody_takes_over():
    count, suite, records = run(Standby(2))
    assert count == len(records) == 2
    assert [call[:2] for call in suite.sent] == [("FlexReassignment", "reassign")] * 3


def test_reassign_sends_nothing_when_there_is_no_standby():
    count, suite, _ = run(Standby(1), standby=())
    assert (count, suite.sent) == (0, [])


def test_reassign_raises_when_the_contract_refuses_for_another_reason():
    with pytest.raises(ContractRevertedError, match="InvalidDeviceSignature"):
        run(Standby(0, "InvalidDeviceSignature"))


def test_reassign_brings_the_signed_reading_and_the_list():
    _, suite, _ = run(Standby(0))
    terms, evidence = suite.sent[0][2]
    assert terms == order(1).terms
    assert evidence["reading"] == {
        "meterId": meter(1),
        "isp": DAY.first_isp + 40,
        "importWh": 5_000,
        "exportWh": 0,
        "signature": b"s" * 65,
    }
    assert (evidence["baselineWh"], evidence["standby"]) == (BASELINE, LIST)
