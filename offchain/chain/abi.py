"""Encodes calls and decodes results, events and errors of all contracts of a suite, by name.

Structs are dicts by field name (tuples are accepted too), bytes are ``bytes`` (hex text is accepted too),
addresses are checksummed text.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from eth_abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError
from eth_utils import keccak
from eth_utils.abi import collapse_if_tuple
from eth_utils.address import to_checksum_address

from offchain.chain.errors import ContractRevertedError
from offchain.domain.errors import DomainError

checksum = lru_cache(maxsize=65536)(to_checksum_address)
"""Checksummed address; remembers, since it costs a hash."""

_PANICS = {
    0x01: "assertion failed",
    0x11: "arithmetic overflow",
    0x12: "division by zero",
    0x21: "value outside of the enum",
    0x31: "pop of an empty array",
    0x32: "index out of bounds",
    0x41: "too much memory",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A function, event, error or constructor of an ABI."""

    name: str
    signature: str
    inputs: tuple[dict, ...]
    outputs: tuple[dict, ...] = ()
    mutability: str = ""
    input_types: tuple[str, ...] = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "input_types", types_of(self.inputs))

    @property
    def selector(self) -> bytes:
        return keccak(text=self.signature)[:4]


def types_of(parameters: Iterable[dict]) -> tuple[str, ...]:
    """ABI types with structs written out, ``(uint32,bytes32)[]``."""
    return tuple(collapse_if_tuple(parameter) for parameter in parameters)


class Codec:
    """ABIs by contract name.

    Parameters
    ----------
    abis : mapping of str to list of dict
    """

    def __init__(self, abis: Mapping[str, Sequence[dict]]):
        self._functions: dict[str, dict[str, list[Entry]]] = {}
        self._constructors: dict[str, Entry] = {}
        self._events: dict[str, dict[bytes, tuple[Entry, tuple[bool, ...]]]] = {}
        self._errors: dict[bytes, Entry] = {}
        for contract, abi in abis.items():
            functions = self._functions.setdefault(contract, {})
            events = self._events.setdefault(contract, {})
            self._constructors[contract] = Entry("constructor", "constructor()", ())
            for item in abi:
                kind = item["type"]
                if kind == "constructor":
                    self._constructors[contract] = Entry("constructor", "constructor()", tuple(item["inputs"]))
                if kind not in ("function", "event", "error"):
                    continue
                inputs = tuple(item["inputs"])
                signature = f"{item['name']}({','.join(types_of(inputs))})"
                entry = Entry(
                    item["name"],
                    signature,
                    inputs,
                    tuple(item.get("outputs", ())),
                    item.get("stateMutability", ""),
                )
                if kind == "function":
                    functions.setdefault(entry.name, []).append(entry)
                    functions.setdefault(signature, []).append(entry)
                elif kind == "error":
                    self._errors[entry.selector] = entry
                elif not item.get("anonymous"):
                    indexed = tuple(parameter["indexed"] for parameter in inputs)
                    events[keccak(text=signature)] = (entry, indexed)

    @property
    def contracts(self) -> list[str]:
        return list(self._functions)

    def function(self, contract: str, function: str, argument_count: int | None = None) -> Entry:
        """A function by name, or by signature where names are overloaded."""
        try:
            candidates = self._functions[contract].get(function, [])
        except KeyError:
            raise DomainError(f"no contract {contract}", hint=f"there are {', '.join(self.contracts)}") from None
        fitting = [e for e in candidates if argument_count is None or len(e.inputs) == argument_count]
        if len(fitting) == 1:
            return fitting[0]
        if not candidates:
            names = sorted(name for name in self._functions[contract] if "(" not in name)
            raise DomainError(f"{contract} has no function {function}", hint=f"it has {', '.join(names)}")
        if not fitting:
            raise DomainError(
                f"{contract}.{function} called with {argument_count} arguments, "
                f"it takes {' or '.join(e.signature for e in candidates)}"
            )
        raise DomainError(
            f"{contract}.{function} is overloaded",
            hint=f"name it {' or '.join(e.signature for e in fitting)}",
        )

    def selector(self, contract: str, function: str) -> bytes:
        """First four bytes of a call."""
        return self.function(contract, function).selector

    def encode_call(self, contract: str, function: str, args: Sequence[Any]) -> bytes:
        """Call data of a function."""
        entry = self.function(contract, function, len(args))
        return entry.selector + _encode(f"{contract}.{function}", entry, args)

    def encode_constructor(self, contract: str, args: Sequence[Any]) -> bytes:
        """Constructor arguments as they follow the bytecode."""
        entry = self._constructors[contract]
        if len(args) != len(entry.inputs):
            names = ", ".join(p["name"] for p in entry.inputs)
            raise DomainError(f"{contract} takes {len(entry.inputs)} arguments ({names}), {len(args)} given")
        return _encode(contract, entry, args)

    def constructor_names(self, contract: str) -> list[str]:
        return [parameter["name"].rstrip("_") for parameter in self._constructors[contract].inputs]

    def decode_result(self, contract: str, function: str, data: bytes, argument_count: int | None = None) -> Any:
        """What a function returned: nothing, one value, or a tuple of values."""
        entry = self.function(contract, function, argument_count)
        try:
            values = _decode(entry.outputs, data)
        except DecodingError as exc:
            raise DomainError(
                f"{contract}.{function} returned {len(data)} bytes that are not its result",
                hint="is the contract at this address of the same version as the artifacts?",
            ) from exc
        if not values:
            return None
        return values[0] if len(values) == 1 else tuple(values)

    def decode_call(self, contract: str, data: bytes) -> tuple[str, dict[str, Any]]:
        """Function name and arguments of call data."""
        for name, entries in self._functions[contract].items():
            for entry in entries:
                if "(" not in name and entry.selector == data[:4]:
                    return entry.name, _named(entry.inputs, _decode(entry.inputs, data[4:]))
        raise DomainError(f"{contract} has no function with selector 0x{data[:4].hex()}")

    def event_topic(self, contract: str, event: str) -> bytes:
        """First topic of the logs of an event."""
        for topic, (entry, _) in self._events[contract].items():
            if entry.name == event:
                return topic
        raise DomainError(f"{contract} has no event {event}")

    def decode_log(self, contract: str, topics: Sequence[bytes], data: bytes) -> tuple[str, dict[str, Any]] | None:
        """Event name and arguments of a log; ``None`` when the ABI does not know it.

        An indexed argument of dynamic type is its hash, which is all that the log has.
        """
        found = self._events[contract].get(topics[0]) if topics else None
        if found is None:
            return None
        entry, indexed = found
        plain = iter(_decode([p for p, i in zip(entry.inputs, indexed, strict=True) if not i], data))
        remaining = iter(topics[1:])
        values = [
            _decode_topic(parameter, next(remaining)) if is_indexed else next(plain)
            for parameter, is_indexed in zip(entry.inputs, indexed, strict=True)
        ]
        return entry.name, _named(entry.inputs, values)

    def decode_error(self, contract: str, function: str, data: bytes) -> ContractRevertedError:
        """The error that revert data stands for, known to any of the contracts."""
        shown = "0x" + data.hex()

        def reverted(name: str, args: dict[str, Any]) -> ContractRevertedError:
            return ContractRevertedError(contract, function, name, args, data=shown)

        if not data:
            return reverted("NoReason", {})
        selector, body = data[:4], data[4:]
        if selector == keccak(text="Error(string)")[:4]:
            return reverted("Error", {"message": decode(["string"], body)[0]})
        if selector == keccak(text="Panic(uint256)")[:4]:
            code = decode(["uint256"], body)[0]
            return reverted("Panic", {"code": code, "meaning": _PANICS.get(code, "unknown")})
        entry = self._errors.get(selector)
        if entry is None:
            return reverted("UnknownError", {"data": shown})
        return reverted(entry.name, _named(entry.inputs, _decode(entry.inputs, body)))


def _encode(what: str, entry: Entry, args: Sequence[Any]) -> bytes:
    try:
        values = [_plain(parameter, value) for parameter, value in zip(entry.inputs, args, strict=True)]
        return encode(entry.input_types, values)
    except (EncodingError, KeyError, TypeError, ValueError, AttributeError) as exc:
        raise DomainError(f"{what}: arguments do not fit {', '.join(entry.input_types)}: {exc}") from exc


def _plain(parameter: dict, value: Any) -> Any:
    """A value as eth_abi wants it: structs as tuples, bytes as bytes."""
    kind: str = parameter["type"]
    if kind.endswith("]"):
        inner = {**parameter, "type": kind[: kind.rindex("[")]}
        return [_plain(inner, item) for item in value]
    if kind == "tuple":
        components = parameter["components"]
        if isinstance(value, Mapping):
            unknown = set(value) - {c["name"] for c in components}
            if unknown:
                raise ValueError(f"{parameter['name']} has no field {', '.join(sorted(unknown))}")
            value = [value[c["name"]] for c in components]
        return tuple(_plain(c, item) for c, item in zip(components, value, strict=True))
    if kind.startswith("bytes") and isinstance(value, str):
        return bytes.fromhex(value.removeprefix("0x"))
    return value


def _decode(parameters: Sequence[dict], data: bytes) -> list[Any]:
    values = decode(types_of(parameters), data)
    return [_rich(parameter, value) for parameter, value in zip(parameters, values, strict=True)]


def _rich(parameter: dict, value: Any) -> Any:
    """The other way round than :func:`_plain`: structs as dicts, addresses with checksum, arrays as lists."""
    kind: str = parameter["type"]
    if kind.endswith("]"):
        inner = {**parameter, "type": kind[: kind.rindex("[")]}
        return [_rich(inner, item) for item in value]
    if kind == "tuple":
        components = parameter["components"]
        return {c["name"]: _rich(c, item) for c, item in zip(components, value, strict=True)}
    return checksum(value) if kind == "address" else value


def _decode_topic(parameter: dict, topic: bytes) -> Any:
    kind: str = parameter["type"]
    hashed = kind in ("string", "bytes", "tuple") or kind.endswith("]")
    return topic if hashed else _decode([parameter], topic)[0]


def _named(parameters: Sequence[dict], values: Sequence[Any]) -> dict[str, Any]:
    return {p["name"] or f"arg{i}": value for i, (p, value) in enumerate(zip(parameters, values, strict=True))}
