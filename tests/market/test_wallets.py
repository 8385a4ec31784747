"""
A trader whose account is a contract wallet (ERC-1271), spoken for by its owner's key
├── orders and rejections by signature, relayed → as of any trader, money of the wallet
├── trading rule by signature, brought by anyone → in force
└── key of another, signature of a spent sequence → InvalidSignature, RuleSignatureInvalid with the wallet's address
"""

from dataclasses import dataclass

import pytest
from coincurve import PrivateKey

from offchain.chain.signatures import APPROVAL, ENROLMENT, TRADING_RULE, participants_domain, rules_domain, sign
from tests.market.test_rules import rule_of
from tests.market.world import BUY, FAR_FUTURE, FUNDS, SELL, Trader, bundle_of
from tests.utils.evm import CHAIN_ID, reverts

BIDS = bundle_of((0, BUY, 60, 500), (0, BUY, 55, 500))
OWNER = Trader("owner of the wallet")
COMMITMENT = b"\x01" * 32


@dataclass(frozen=True)
class Wallet:
    """Stands where a :class:`Trader` does: the address is the contract's, the key its owner's."""

    address: str
    connection: bytes
    name: str = "wallet"
    key: PrivateKey = OWNER.key


@pytest.fixture
def wallet(settling):
    contract = settling.evm.deploy("ContractWallet", OWNER.address, sender=settling.admin.address)
    trader = Wallet(contract.address, OWNER.connection)
    message = {"account": trader.address, "identityCommitment": COMMITMENT, "nonce": 0, "deadline": FAR_FUTURE}
    domain = participants_domain(CHAIN_ID, settling.participants.address)
    settling.participants.registerProsumer(
        *(trader.address, COMMITMENT, FAR_FUTURE, settling.registrar.address),
        sign(APPROVAL.digest(domain, message), settling.registrar.key),
        sign(ENROLMENT.digest(domain, message), OWNER.key),
        sender=settling.outsider.address,
    )
    connection = (trader.connection, settling.area, trader.address, 5_000, 5_000)
    settling.grid.registerConnection(*connection, sender=settling.dso.address)
    settling.house.deposit(trader.address, FUNDS, sender=settling.admin.address)
    return trader


def test_wallet_places_replaces_and_rejects_by_signature(settling, wallet):
    seller = settling.traders[0]
    session = settling.open()
    first = session.signed(wallet, bundle_of((0, BUY, 60, 10)))
    session.submit_signed(first)
    assert settling.evm.event("BundleSubmitted")["trader"] == wallet.address
    session.submit_signed(session.signed(wallet, BIDS, first["bundle"]))
    assert settling.house.balanceOf(wallet.address) == FUNDS - session.market.escrowOf(session.id, BIDS)
    with reverts("InvalidSignature", 0, wallet.address):
        session.submit_signed(first)
    session.submit(seller, bundle_of((0, SELL, 40, 1_000)))
    session.close_gate()
    session.clear()
    with reverts("InvalidSignature", 0, wallet.address):
        session.reject_signed(wallet, BIDS, 1, by=seller)
    session.reject_signed(wallet, BIDS, 1)
    assert settling.evm.event("MatchRejected")["bundle"] == BIDS[8:]


def test_wallet_is_not_spoken_for_by_another_key(settling, wallet):
    session = settling.open()
    for other in (settling.traders[0], settling.outsider):
        with reverts("InvalidSignature", 0, wallet.address):
            session.submit_signed(session.signed(wallet, BIDS, by=other))
    assert session.bundle(wallet)["sequence"] == 0


def test_wallet_registers_a_trading_rule_by_signature(settling, wallet):
    rule = rule_of(settling, wallet)
    digest = TRADING_RULE.digest(rules_domain(CHAIN_ID, settling.rules.address), rule)
    with reverts("RuleSignatureInvalid", wallet.connection, wallet.address):
        settling.rules.register(rule, sign(digest, settling.traders[0].key), sender=settling.outsider.address)
    settling.rules.register(rule, sign(digest, wallet.key), sender=settling.outsider.address)
    assert settling.rules.ruleOf(wallet.connection) == (1, True)
