"""
TypedStruct
├── encoding is no EIP-712 type → DomainError
├── message with a field missing, too many or of a wrong type → DomainError that names the field
└── else → digest of eth_account, for every type that is signed and for the EIP's own example
sign, recover
├── signature of other length, high s, v not 27 or 28, without a key → InvalidSignatureError
└── else → address of the key, equal to eth_account
"""

import contextlib
import time
from dataclasses import replace
from pathlib import Path

import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from offchain.chain import signatures
from offchain.chain.signatures import (
    AGREEMENT,
    APPROVAL,
    AVAILABILITY,
    ENROLMENT,
    METER_DAY,
    NOTICE,
    READING,
    InvalidSignatureError,
    SigningDomain,
    TypedStruct,
    address_of,
    agreements_domain,
    metering_domain,
    participants_domain,
    recover,
    sign,
    signing_key,
)
from offchain.domain.errors import DomainError

CONTRACT = "0x" + "c0" * 20
DOMAIN = metering_domain(31337, CONTRACT)
SECRET = bytes(31) + b"\x07"
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

words = st.binary(min_size=32, max_size=32)
secrets = st.integers(1, ORDER - 1).map(lambda secret: secret.to_bytes(32))


def values_of(kind: str):
    if kind == "bytes32":
        return words
    if kind == "address":
        return st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
    if kind == "bool":
        return st.booleans()
    return st.integers(0, 2 ** int(kind.removeprefix("uint")) - 1)


def messages_of(struct: TypedStruct):
    nested = struct._structs
    fields = {n: messages_of(nested[k]) if k in nested else values_of(k) for k, n in struct.members}
    return st.fixed_dictionaries(fields)


def reference_digest(domain: SigningDomain, struct: TypedStruct, message) -> bytes:
    """Digest by ``eth_account``."""
    types = {
        each.name: [{"name": name, "type": kind} for kind, name in each.members]
        for each in (struct, *struct._structs.values())
    }
    signable = encode_typed_data(
        {
            "name": domain.name,
            "version": domain.version,
            "chainId": domain.chain_id,
            "verifyingContract": domain.verifying_contract,
        },
        types,
        message,
    )
    return signatures.keccak(b"\x19" + signable.version + signable.header + signable.body)


@pytest.mark.parametrize(
    "struct", [METER_DAY, READING, APPROVAL, ENROLMENT, AGREEMENT, NOTICE, AVAILABILITY], ids=lambda s: s.name
)
@given(st.data())
def test_digest_equals_eth_account(struct, data):
    message = data.draw(messages_of(struct))
    assert struct.digest(DOMAIN, message) == reference_digest(DOMAIN, struct, message)


def test_digest_equals_the_example_of_eip_712():
    """``Mail`` example of EIP-712: nested structs, strings, and its published hashes."""
    mail = TypedStruct("Mail(Person from,Person to,string contents)Person(string name,address wallet)")
    domain = SigningDomain("Ether Mail", "1", 1, "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC")
    message = {
        "from": {"name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"},
        "to": {"name": "Bob", "wallet": "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"},
        "contents": "Hello, Bob!",
    }
    assert domain.separator.hex() == "f2cee375fa42b42143804025fc449deafd50cc031ca257e0b194a650a912090f"
    assert mail.hash(message).hex() == "c52c0ee5d84264471806290a3f2c4cecfc5490626bf912d01f240d7a274b371e"
    digest = mail.digest(domain, message)
    assert digest.hex() == "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"
    assert recover(digest, sign(digest, signing_key(signatures.keccak(b"cow")))) == (
        "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"
    )


def test_digest_equals_eth_account_when_arrays_bytes_and_negative_numbers_are_signed():
    struct = TypedStruct("Curve(int32[] netWh,Point[2] ends,bytes note,bytes4 code)Point(int256 at,bool last)")
    message = {
        "netWh": [-1, 0, 2**31 - 1],
        "ends": [{"at": -(2**255), "last": False}, {"at": 5, "last": True}],
        "note": b"\x00\x01",
        "code": b"\x01\x02\x03\x04",
    }
    assert struct.digest(DOMAIN, message) == reference_digest(DOMAIN, struct, message)


def test_hash_is_the_same_when_bytes_come_as_hexadecimal_text():
    message = {"meterId": b"\x0a" * 32, "firstIsp": 1, "ispCount": 96, "valuesHash": b"\x0b" * 32}
    as_text = message | {"meterId": "0x" + "0a" * 32, "valuesHash": "0b" * 32}
    assert METER_DAY.hash(message) == METER_DAY.hash(as_text)


def test_nested_type_hash_holds_only_what_the_struct_refers_to():
    outer = TypedStruct("A(B b,D d)B(C[] c)C(uint8 x)D(uint8 y)")
    assert outer._structs["B"].encoding == "B(C[] c)C(uint8 x)"
    assert outer._structs["D"].encoding == "D(uint8 y)"


def test_types_are_those_of_the_interfaces():
    """The very strings stand in the interfaces' documentation; terms in the order of the struct."""
    interfaces = Path(__file__).parents[3] / "interfaces"
    text = "".join(path.read_text() for path in interfaces.glob("*.sol")).replace("\n/// ", "")
    text = text.replace("\n    /// ", "")
    for struct in (METER_DAY, READING, APPROVAL, ENROLMENT, NOTICE):
        assert struct.encoding in text.replace(", ", ",")
    body = (interfaces / "IAgreementRegistry.sol").read_text().split("struct Terms {")[1].split("}")[0]
    lines = [line.strip() for line in body.splitlines()]
    fields = [tuple(line.rstrip(";").split(" ")) for line in lines if line and not line.startswith("/")]
    assert AGREEMENT._structs["Terms"].members == fields


@pytest.mark.parametrize("other", ["name", "version", "chain_id", "verifying_contract"])
def test_digest_differs_when_the_domain_differs(other):
    changed = {
        "name": "gridpact.other",
        "version": "2",
        "chain_id": 1,
        "verifying_contract": "0x" + "c1" * 20,
    }[other]
    domain = replace(DOMAIN, **{other: changed})
    message = {"meterId": bytes(32), "isp": 1, "importWh": 2, "exportWh": 3}
    assert READING.digest(domain, message) != READING.digest(DOMAIN, message)


def test_domains_are_one_per_contract():
    domains = [make(1, CONTRACT) for make in (participants_domain, metering_domain, agreements_domain)]
    assert len({domain.separator for domain in domains}) == 3


@pytest.mark.parametrize("encoding", ["", "MeterDay", "A(uint8 x", "A(uint8 x) B(uint8 y)", "A(uint8 x)B"])
def test_typed_struct_fails_when_the_encoding_is_no_type(encoding):
    with pytest.raises(DomainError, match="not an EIP-712 type"):
        TypedStruct(encoding)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"isp": -1}, "Reading.isp is not a uint32: -1"),
        ({"isp": 2**32}, "Reading.isp is not a uint32: 4294967296"),
        ({"isp": "1"}, "Reading.isp is not a uint32: '1'"),
        ({"isp": 1.5}, "Reading.isp is not a uint32: 1.5"),
        ({"meterId": bytes(31)}, "Reading.meterId is not a bytes32"),
        ({"meterId": "0xzz"}, "Reading.meterId is not a bytes32: '0xzz'"),
        ({"meterId": 32}, "Reading.meterId is not a bytes32: 32"),
        ({"meterId": None}, "Reading.meterId is not a bytes32: None"),
        ({"extra": 1}, "Reading has the fields meterId, isp, importWh, exportWh"),
    ],
)
def test_hash_fails_when_a_value_does_not_fit(change, complaint):
    message = {"meterId": bytes(32), "isp": 1, "importWh": 2, "exportWh": 3} | change
    with pytest.raises(DomainError) as caught:
        READING.hash(message)
    assert str(caught.value).startswith(complaint)


def test_hash_fails_when_a_field_has_another_name():
    with pytest.raises(DomainError, match="Reading without importWh"):
        READING.hash({"meterId": bytes(32), "isp": 1, "import": 2, "exportWh": 3})


@given(words, secrets)
def test_sign_and_recover_equal_eth_account(digest, secret):
    signature = sign(digest, signing_key(secret))
    account = Account.from_key(secret)
    assert signature == bytes(account.unsafe_sign_hash(digest).signature)
    assert recover(digest, signature) == account.address == address_of(signing_key(secret))


@given(words, words, secrets)
def test_recover_gives_another_address_when_the_digest_differs(digest, other, secret):
    if digest == other:
        return
    key = signing_key(secret)
    with contextlib.suppress(InvalidSignatureError):
        assert recover(other, sign(digest, key)) != address_of(key)


@pytest.mark.parametrize("size", [0, 64, 66])
def test_recover_fails_when_the_signature_has_another_length(size):
    with pytest.raises(InvalidSignatureError, match=f"{size} bytes instead of 65"):
        recover(bytes(32), bytes(size))


def test_recover_fails_when_s_is_in_the_upper_half():
    signature = sign(b"\x01" * 32, signing_key(SECRET))
    twin = signature[:32] + (ORDER - int.from_bytes(signature[32:64])).to_bytes(32) + bytes((55 - signature[64],))
    with pytest.raises(InvalidSignatureError, match="upper half"):
        recover(b"\x01" * 32, twin)


@pytest.mark.parametrize("v", [0, 1, 26, 29, 255])
def test_recover_fails_when_v_is_not_27_or_28(v):
    signature = sign(b"\x01" * 32, signing_key(SECRET))
    with pytest.raises(InvalidSignatureError, match=f"v = {v}"):
        recover(b"\x01" * 32, signature[:64] + bytes((v,)))


def test_recover_fails_when_no_key_can_have_signed():
    with pytest.raises(InvalidSignatureError, match="no key"):
        recover(b"\x01" * 32, bytes(64) + b"\x1b")


@pytest.mark.parametrize("secret", [b"", bytes(32), ORDER.to_bytes(32), b"\x01" * 33])
def test_signing_key_fails_when_the_secret_is_none(secret):
    with pytest.raises(DomainError, match="not a secp256k1 secret"):
        signing_key(secret)


def test_sign_makes_2000_meter_days_a_second():
    key: PrivateKey = signing_key(SECRET)
    started = time.perf_counter()
    for first_isp in range(500):
        message = {"meterId": bytes(32), "firstIsp": first_isp, "ispCount": 96, "valuesHash": bytes(32)}
        sign(METER_DAY.digest(DOMAIN, message), key)
    assert time.perf_counter() - started < 500 / 2000
