"""Sending and reading through the client, on a real Anvil.

send: mined; contract refuses → its error by name, nothing sent; given gas and refused → the same from the receipt;
too little gas → OutOfGas; no funds → NoFundsError; foreign nonce used meanwhile → signs anew; nonce gap → NonceGapError
send_all: order per signer; check=False → errors in receipts; eight threads → every nonce once
"""

import threading
from dataclasses import replace

import pytest
from eth_account import Account

from offchain.chain.anvil import Anvil
from offchain.chain.client import Call, Chain, Fees
from offchain.chain.errors import (
    ContractRevertedError,
    NodeUnreachableError,
    NoFundsError,
    NonceGapError,
    WrongChainError,
)
from offchain.domain.errors import DomainError
from tests.integration.probe import deploy_probe, signers

POINT = b"\x07" * 32


@pytest.fixture(scope="module", params=["batch", "auto"])
def suite(request):
    with Anvil(mining=request.param) as node:
        yield deploy_probe(Chain(node.url))


def test_chain_raises_when_the_chain_is_another(suite):
    with pytest.raises(WrongChainError, match="is chain 31337, expected chain 1"):
        Chain(suite.chain.url, expected_chain_id=1)


def test_chain_raises_when_nobody_answers():
    with pytest.raises(NodeUnreachableError, match="connection refused") as caught:
        Chain("http://127.0.0.1:1")
    assert caught.value.exit_code == 4
    assert "gridpact chain start" in caught.value.hint


def test_send_returns_a_receipt_with_events(suite):
    signer = signers()[1]
    receipt = suite.send(signer, "Probe", "place", [3])
    assert receipt.ok
    assert receipt.gas_used > 21_000
    event = suite.event(receipt, "Placed")
    assert event.args == {"by": signer.address, "price": 3}
    assert event.tx_hash == receipt.tx_hash
    assert event.timestamp == suite.chain.block(receipt.block_number)["timestamp"]


def test_send_names_the_error_and_sends_nothing_when_the_contract_refuses(suite):
    signer = signers()[1]
    before = suite.chain.request("eth_getTransactionCount", signer.address, "latest")
    with pytest.raises(ContractRevertedError) as caught:
        suite.send(signer, "Probe", "place", [5])
    assert str(caught.value) == "Probe.place reverted: PriceAboveCap(price=5, cap=4)"
    assert caught.value.arguments == {"price": 5, "cap": 4}
    assert suite.chain.request("eth_getTransactionCount", signer.address, "latest") == before


def test_send_names_the_error_when_it_was_mined(suite):
    with pytest.raises(ContractRevertedError, match=r"PriceAboveCap\(price=9, cap=4\)"):
        suite.send(signers()[1], "Probe", "place", [9], gas=200_000)


def test_send_names_out_of_gas_when_the_limit_is_too_low(suite):
    with pytest.raises(ContractRevertedError, match=r"OutOfGas\(limit=22000\)"):
        suite.send(signers()[1], "Probe", "place", [1], gas=22_000)


@pytest.mark.parametrize(
    ("function", "args", "shown"),
    [("fail", ["no"], "Error(message=no)"), ("overflow", [100], "Panic(code=17, meaning=arithmetic overflow)")],
)
def test_call_names_solidity_errors(suite, function, args, shown):
    with pytest.raises(ContractRevertedError) as caught:
        suite.call("Probe", function, args)
    assert shown in str(caught.value)


def test_call_takes_and_gives_structs_as_dicts(suite):
    quote = {"price": 7, "point": POINT, "parts": [1, 2**63]}
    assert suite.call("Probe", "echo", [quote]) == (quote, -5)
    assert suite.call("Probe", "echo", [(7, "0x" + POINT.hex(), [1, 2**63])]) == (quote, -5)


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        ("place", [], "called with 0 arguments, it takes place"),
        ("place", [-1], "arguments do not fit uint256"),
        ("plaice", [1], "Probe has no function plaice"),
        ("echo", [{"price": 1, "point": POINT, "parts": [], "cap": 3}], "has no field cap"),
    ],
)
def test_call_raises_one_line_when_arguments_do_not_fit(suite, function, args, message):
    with pytest.raises(DomainError, match=message):
        suite.call("Probe", function, args)


def test_send_raises_when_there_are_no_funds(suite):
    poor = Account.create()
    with pytest.raises(NoFundsError) as caught:
        suite.send(poor, "Probe", "place", [1], gas=100_000)
    assert caught.value.balance == 0
    assert caught.value.required > 0
    assert poor.address in caught.value.hint


def test_send_signs_anew_when_another_program_used_the_nonce(suite):
    signer = signers()[2]
    other = Chain(suite.chain.url)
    suite.send(signer, "Probe", "place", [1])
    other.send(signer, suite.prepare("Probe", "place", [2]))
    assert suite.send(signer, "Probe", "place", [3]).ok


def test_send_raises_when_a_nonce_is_missing(suite):
    signer = signers()[3]
    chain = Chain(suite.chain.url, codec=suite.codec, receipt_timeout=0.3)
    chain.nonces(signer.address).take()
    with pytest.raises(NonceGapError, match=r"transaction 1 of .* the chain expects nonce 0"):
        chain.send(signer, suite.prepare("Probe", "place", [1]))
    assert chain.send(signer, suite.prepare("Probe", "place", [1])).ok


def test_send_all_keeps_the_order_of_each_signer(suite):
    items = [(signers()[4 + i % 2], suite.prepare("Probe", "place", [i % 5])) for i in range(300)]
    receipts = suite.chain.send_all(items)
    assert [suite.event(r, "Placed").args["price"] for r in receipts] == [i % 5 for i in range(300)]
    for which in (0, 1):
        places = [(r.block_number, int(r.logs[0]["logIndex"], 16)) for r in receipts[which::2]]
        assert places == sorted(places)


def test_send_all_reports_errors_in_receipts_when_not_checked(suite):
    calls = [suite.prepare("Probe", "place", [p]) for p in (1, 8, 2)]
    calls.append(replace(calls[1], gas=200_000))
    receipts = suite.chain.send_all([(signers()[6], call) for call in calls], check=False)
    assert [r.ok for r in receipts] == [True, False, True, False]
    assert receipts[1].tx_hash is None
    assert receipts[3].tx_hash is not None
    assert receipts[3].error.arguments == {"price": 8, "cap": 4}


def test_send_uses_every_nonce_once_when_eight_threads_share_a_signer(suite):
    signer = signers()[7]
    before = suite.call("Probe", "placed")
    hashes, errors = [], []

    def work():
        try:
            hashes.extend(suite.send(signer, "Probe", "place", [1]).tx_hash for _ in range(10))
        except Exception as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(set(hashes)) == 80
    assert suite.call("Probe", "placed") == before + 80
    assert int(suite.chain.request("eth_getTransactionCount", signer.address, "latest"), 16) == 80


def test_usage_counts_transactions_gas_and_reverts(suite):
    chain = Chain(suite.chain.url, codec=suite.codec)
    chain.send(signers()[8], suite.prepare("Probe", "place", [1]))
    chain.send_all([(signers()[8], suite.prepare("Probe", "place", [9], gas=100_000))], check=False)
    usage = chain.usage["Probe", "place"]
    assert (usage.transactions, usage.reverted) == (2, 1)
    assert chain.totals().gas_used == usage.gas_used > 2 * 21_000


@pytest.mark.parametrize("priority", [7, None])
@pytest.mark.parametrize("to", ["0x" + "22" * 20, None])
def test_sign_equals_eth_account(suite, priority, to):
    signer = signers()[1]
    call = Call("Probe", "place", to, b"\x01" * 100, value=5, gas=100_000)
    signed = suite.chain.sign(signer, call, nonce=3, fees=Fees(10**9, priority))
    fields = {"chainId": 31337, "nonce": 3, "gas": 100_000, "value": 5, "data": call.data, "to": to or b""}
    if priority is None:
        fields["gasPrice"] = 10**9
    else:
        fields |= {"type": 2, "maxFeePerGas": 10**9, "maxPriorityFeePerGas": priority}
    expected = signer.sign_transaction(fields)
    assert bytes.fromhex(signed.raw[2:]) == bytes(expected.raw_transaction)
    assert bytes.fromhex(signed.tx_hash[2:]) == bytes(expected.hash)
