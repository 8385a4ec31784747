"""Expects a custom error with its numbers, and that nothing changed."""

from contextlib import contextmanager

import brownie


def error_text(name: str, *arguments) -> str:
    """Text under which Brownie reports a custom error."""
    return f"{name}: " + ", ".join(_shown(argument) for argument in arguments)


@contextmanager
def reverts(name: str, *arguments, unchanged):
    """Expects the transaction inside to revert with a custom error and leave the contracts as they were.

    Parameters
    ----------
    name, *arguments
        The error and its fields: integers, enum members, accounts, 32-byte identifiers.
    unchanged : contract or sequence of contracts
        Whose storage is compared before and after, as a whole, by its hash.
    """
    contracts = unchanged if isinstance(unchanged, list | tuple) else [unchanged]
    before = [_storage_hash(contract) for contract in contracts]
    with brownie.reverts(error_text(name, *arguments)):
        yield
    assert [_storage_hash(contract) for contract in contracts] == before


def _storage_hash(contract) -> str:
    return brownie.web3.eth.get_proof(contract.address, [], "latest")["storageHash"].hex()


def _shown(argument) -> str:
    if isinstance(argument, bytes):
        return str(argument)
    if isinstance(argument, int):
        return str(int(argument))
    if isinstance(argument, str) and not argument.startswith("0x"):
        return argument
    return str(argument).lower()
