"""Files that the commands of the energy market read: terms in TOML, what somebody signed in JSON."""

import json
import tomllib
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offchain.domain.errors import DomainError

if TYPE_CHECKING:
    from offchain.market.terms import SessionTerms


def read_toml(path: Path, what: str, required: Collection[str], optional: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a file; those that may be left out have the values of ``optional`` then."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise DomainError(f"{what} {path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise DomainError(f"{what} {path} is not TOML: {exc}") from exc
    known = (*required, *optional)
    if unknown := sorted(given.keys() - set(known)):
        raise DomainError(f"{what} {path}: unknown field {unknown[0]}", hint=f"one of {', '.join(known)}")
    if missing := [name for name in required if name not in given]:
        left_out = f"only {', '.join(optional)} may be left out" if optional else "all fields are needed"
        raise DomainError(f"{what} {path}: {missing[0]} is missing", hint=left_out)
    return {**optional, **given}


def read_signed(path: Path, what: str, schema: int, made_by: str) -> dict[str, Any]:
    """Content of a file that another command wrote."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != schema:
            raise ValueError(f"schema {content['schema']}")
        return content
    except OSError as exc:
        raise DomainError(f"{what} {path}: {exc.strerror}") from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise not_signed(path, what, exc, made_by) from exc


def not_signed(path: Path, what: str, why: Exception, made_by: str) -> DomainError:
    return DomainError(f"{path} is no signed {what}: {why}", hint=f"`gridpact market {made_by}` writes one")


def whole_numbers(path: Path, what: str, given: Mapping[str, Any], names: Collection[str]) -> None:
    """Refuse the first of these fields that is no integer of at most 64 bits, as the contracts take them."""
    for name in names:
        if type(given[name]) is not int or not -(2**63) <= given[name] < 2**63:
            raise DomainError(f"{what} {path}: {name} is {given[name]!r}, not a whole number of at most 64 bits")


def seconds(path: Path, what: str, given: Mapping[str, Any], name: str) -> int:
    """A time of a file [UTC s], refused without its zone."""
    moment = given[name]
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise DomainError(f"{what} {path}: {name} is no time with a zone", hint="for example 2026-11-21T00:00:00+01:00")
    return int(moment.timestamp())


def in_hex(text: Any, what: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except (ValueError, AttributeError) as exc:
        raise DomainError(f"{what} {text!r} is not hex") from exc


def bytes32(text: Any, what: str) -> bytes:
    value = in_hex(text, what)
    if len(value) != 32:
        raise DomainError(f"{what} {text!r} is not 32 bytes in hex")
    return value


def read_session_terms(path: Path) -> "SessionTerms":
    from dataclasses import fields

    from offchain.market.terms import SessionTerms

    optional = {"congestion_point_id": ""}
    required = [field.name for field in fields(SessionTerms) if field.name not in optional]
    given = read_toml(path, "terms", required, optional)
    whole_numbers(path, "terms", given, required)
    if negative := [name for name in required if given[name] < 0 and name != "base_price"]:
        raise DomainError(f"terms {path}: {negative[0]} is below zero", hint="only base_price may be negative")
    area = given["congestion_point_id"]
    given["congestion_point_id"] = bytes32(area, "congestion_point_id") if area else bytes(32)
    return SessionTerms(**given)


def delivery_isp(delivery: str) -> int:
    """First ISP of a delivery that an option names by its time."""
    from offchain.domain.isp import SECONDS_PER_ISP, isp_of

    try:
        moment = datetime.fromisoformat(delivery)
    except ValueError as exc:
        raise DomainError(f"{delivery!r} is not a time", hint="for example 2026-11-21T00:00+01:00") from exc
    isp = isp_of(moment)
    if moment.timestamp() != isp * SECONDS_PER_ISP:
        raise DomainError(f"{delivery} is not at a quarter hour")
    return isp
