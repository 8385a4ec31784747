"""Signatures of metering devices."""

from collections.abc import Mapping
from typing import Protocol

from offchain.chain.leaves import values_hash
from offchain.chain.signatures import METER_DAY, READING, SigningDomain, sign, signing_key
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
        message = {"meterId": meter_id, "isp": isp, "importWh": import_wh, "exportWh": export_wh}
        return self._sign(meter_id, READING.digest(self._domain, message))

    def sign_day(self, meter_id: bytes, first_isp: int, isp_count: int, values: bytes) -> bytes:
        message = {
            "meterId": meter_id,
            "firstIsp": first_isp,
            "ispCount": isp_count,
            "valuesHash": values_hash(values),
        }
        return self._sign(meter_id, METER_DAY.digest(self._domain, message))

    def _sign(self, meter_id: bytes, digest: bytes) -> bytes:
        if meter_id not in self._keys:
            raise PermanentError(f"no device key of meter {meter_id.hex()}", hint="install the key of this meter")
        return sign(digest, self._keys[meter_id])
