"""A local chain with a small contract, for tests of the chain client."""

from functools import cache

from eth_account.signers.local import LocalAccount

from offchain.chain.abi import Codec
from offchain.chain.anvil import MNEMONIC
from offchain.chain.client import Call, Chain
from offchain.chain.compile import compile_contracts
from offchain.chain.contracts import Suite
from offchain.chain.signers import mnemonic_signers

SOURCE = """
// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

contract Probe {
    struct Quote { uint32 price; bytes32 point; uint64[] parts; }
    event Placed(address indexed by, uint256 price);
    event Quoted(string indexed label, Quote quote, bytes data);
    error PriceAboveCap(uint256 price, uint256 cap);
    uint256 public placed;

    function place(uint256 price) external {
        if (price > 4) revert PriceAboveCap(price, 4);
        placed++;
        emit Placed(msg.sender, price);
    }
    function quote(Quote calldata given, bytes calldata data) external { emit Quoted("label", given, data); }
    function echo(Quote calldata given) external pure returns (Quote memory, int72) { return (given, -5); }
    function fail(string calldata why) external pure { require(false, why); }
    function overflow(uint8 a) external pure returns (uint8) { return a + 200; }
}
"""


@cache
def probe_artifact() -> dict:
    artifacts, _ = compile_contracts({"contracts/Probe.sol": SOURCE})
    return artifacts["Probe"]


@cache
def probe_codec() -> Codec:
    return Codec({"Probe": probe_artifact()["abi"]})


@cache
def signers(count: int = 10) -> tuple[LocalAccount, ...]:
    """Funded accounts of a local chain."""
    return tuple(mnemonic_signers(MNEMONIC, count))


def deploy_probe(chain: Chain) -> Suite:
    """The probe on a chain."""
    chain.codec = probe_codec()
    creation = Call("Probe", "constructor", None, bytes.fromhex(probe_artifact()["bytecode"][2:]))
    receipt = chain.send(signers()[0], creation)
    return Suite(
        chain,
        {"Probe": receipt.contract_address},
        codec=probe_codec(),
        first_block=receipt.block_number,
    )
