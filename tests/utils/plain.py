"""What Brownie gives back, as plain Python: identifiers as bytes, structs and events as dictionaries."""

from brownie.convert.datatypes import HexString, ReturnValue


def plain(value):
    """A value from a contract; 32-byte words as bytes, structs as dictionaries by field."""
    if isinstance(value, HexString):
        return bytes(value)
    if isinstance(value, ReturnValue):
        return {name: plain(field) for name, field in value.dict().items()}
    return value


def event(tx, name: str) -> dict:
    """All fields of the one event ``name`` of a transaction."""
    (found,) = (item for item in tx.events if item.name == name)
    return {field: plain(value) for field, value in found.items()}
