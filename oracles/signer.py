"""Signatures of metering devices."""

from collections.abc import Mapping
from typing import Protocol

from coincurve import PrivateKey
from eth_hash.auto import keccak

from offchain.chain.leaves import values_hash
from offchain.chain.signatures import (
    METER_DAY,
    READING,
    InvalidSignatureError,
    SigningDomain,
    TypedStruct,
    recover,
    sign,
    signing_key,
)
from offchain.chain.signers import RemoteSigner
from offchain.domain.errors import PermanentError


class DeviceSigner(Protocol):
    """Signs for devices; a secure element or a remote signer can take the place of :class:`GatewayKeys`."""

    def sign_reading(self, meter_id: bytes, isp: int, import_wh: int, export_wh: int) -> bytes:
        """Signature of one reading with the key in force at ``isp``, 65 bytes."""
        ...

    def sign_day(self, meter_id: bytes, first_isp: int, isp_count: int, values: bytes) -> bytes:
        """Signature of a packed market day with the key in force at its last ISP, 65 bytes."""
        ...


class GatewayKeys:
    """Device keys held by the gateway of a site.

    Parameters
    ----------
    domain : SigningDomain
        Of the ``MeteringLedger``, see ``offchain.chain.signatures.metering_domain``.
    secrets : mapping
        Secret key, 32 bytes, by meter id.
    """

    def __init__(self, domain: SigningDomain, secrets: Mapping[bytes, bytes]):
        self._domain = domain
        self._keys = {meter_id: signing_key(secret) for meter_id, secret in secrets.items()}

    def sign_reading(self, meter_id: bytes, isp: int, import_wh: int, export_wh: int) -> bytes:
        # ``READING.digest`` written out: this is where a busy site spends its time.
        words = (READING.type_hash, meter_id, isp.to_bytes(32), import_wh.to_bytes(32), export_wh.to_bytes(32))
        digest = keccak(b"\x19\x01" + self._domain.separator + keccak(b"".join(words)))
        return sign(digest, self._key(meter_id))

    def sign_day(self, meter_id: bytes, first_isp: int, isp_count: int, values: bytes) -> bytes:
        message = day_message(meter_id, first_isp, isp_count, values)
        return sign(METER_DAY.digest(self._domain, message), self._key(meter_id))

    def _key(self, meter_id: bytes) -> PrivateKey:
        if meter_id not in self._keys:
            raise PermanentError(f"no device key of meter {meter_id.hex()}", hint="install the key of this meter")
        return self._keys[meter_id]


class RemoteKeys:
    """Device keys that are kept elsewhere: a secure element, an HSM, a vault, each behind a remote signer.

    Every signature is checked before it is used: one that the contracts would refuse is an error here and now.

    Parameters
    ----------
    signers : mapping
        Remote signer by meter id.
    others : DeviceSigner
        Signs for the meters that have none.
    """

    def __init__(self, domain: SigningDomain, signers: Mapping[bytes, RemoteSigner], others: DeviceSigner):
        self._domain = domain
        self._signers = dict(signers)
        self._others = others

    def sign_reading(self, meter_id: bytes, isp: int, import_wh: int, export_wh: int) -> bytes:
        if meter_id not in self._signers:
            return self._others.sign_reading(meter_id, isp, import_wh, export_wh)
        return self._sign(meter_id, READING, reading_message(meter_id, isp, import_wh, export_wh))

    def sign_day(self, meter_id: bytes, first_isp: int, isp_count: int, values: bytes) -> bytes:
        if meter_id not in self._signers:
            return self._others.sign_day(meter_id, first_isp, isp_count, values)
        return self._sign(meter_id, METER_DAY, day_message(meter_id, first_isp, isp_count, values))

    def _sign(self, meter_id: bytes, struct: TypedStruct, message: Mapping) -> bytes:
        signer = self._signers[meter_id]
        v, r, s = signer.sign(struct.preimage(self._domain, message))
        signature = r.to_bytes(32) + s.to_bytes(32) + bytes((v,))
        try:
            found = recover(struct.digest(self._domain, message), signature)
        except InvalidSignatureError as exc:
            raise PermanentError(f"signer {signer.url}: no signature of its key", hint="look at the signer") from exc
        if found != signer.address:
            raise PermanentError(
                f"signer {signer.url} signed as {found} instead of {signer.address}",
                hint="it must sign the keccak-256 of what it is given",
            )
        return signature


def reading_message(meter_id: bytes, isp: int, import_wh: int, export_wh: int) -> dict:
    """Fields of ``Reading``."""
    return {"meterId": meter_id, "isp": isp, "importWh": import_wh, "exportWh": export_wh}


def day_message(meter_id: bytes, first_isp: int, isp_count: int, values: bytes) -> dict:
    """Fields of ``MeterDay``."""
    return {"meterId": meter_id, "firstIsp": first_isp, "ispCount": isp_count, "valuesHash": values_hash(values)}
