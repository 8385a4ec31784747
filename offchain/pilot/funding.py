"""Tokens for everybody who needs them, out of the desk."""

from collections.abc import Mapping

from eth_account.signers.local import LocalAccount

from offchain.pilot.world import World


def buy_tokens(world: World, buyer: LocalAccount, amounts: Mapping[str, int]) -> None:
    """Tokens from the desk into the ledger, by account [uToken]; the buyer pays for all of them."""
    quotes = world.suite.call_all([("TokenDesk", "quote", (amount,)) for amount in amounts.values()])
    payment, desk = sum(quote[0] for quote in quotes), world.suite.address("TokenDesk")
    world.send(world.cast.admin, "LocalCurrency", "mint", buyer.address, payment)
    world.send(buyer, "LocalCurrency", "approve", desk, payment)
    world.send_all([(buyer, "TokenDesk", "buyAndDeposit", (amount, account)) for account, amount in amounts.items()])
