"""Keys of a site: encrypted on disk, in memory only while the daemon runs, never in a log.

The gateway has one secret. The key of each meter is derived from it, so that a site has one file to protect whatever
the number of its meters: ``HMAC-SHA256(secret, "gridpact.device.v1" + meter id)``. A meter that brings a key of its own
names its own file; a device that signs itself shows its key to nobody.
"""

import hmac
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from eth_account import Account

from offchain.chain.signatures import SigningDomain, address_of, signing_key
from offchain.chain.signers import RemoteSigner, TransactionSigner, keystore_signer
from offchain.domain.errors import DomainError, PermanentError
from oracles.config import KeyFile, MeterConfig, OperatorConfig, SignerConfig, SiteConfig
from oracles.signer import DeviceSigner, GatewayKeys, RemoteKeys

_CONTEXT = b"gridpact.device.v1"


def device_secret(gateway_secret: bytes, meter_id: bytes) -> bytes:
    """Secret of the key that the gateway signs with for a meter, 32 bytes."""
    return hmac.digest(gateway_secret, _CONTEXT + meter_id, "sha256")


def open_operator(config: OperatorConfig) -> TransactionSigner:
    """Who signs the operator's transactions."""
    if config.signer is not None:
        return RemoteSigner(config.signer.url, config.signer.public_key)
    return keystore_signer(config.key.keystore, config.key.password.read())


def try_signer(config: SignerConfig) -> None:
    """Let a signer elsewhere sign something that means nothing."""
    RemoteSigner(config.url, config.public_key).sign(b"gridpact oracle check")


def open_key_file(config: KeyFile) -> bytes:
    """The secret in an encrypted key file, 32 bytes."""
    return bytes(keystore_signer(config.keystore, config.password.read()).key)


class SiteKeys:
    """Everything that signs for the meters of a site."""

    def __init__(self, site: SiteConfig):
        gateway = None if site.gateway is None else open_key_file(site.gateway)
        self._secrets = {m.meter_id: _secret_of(m, gateway) for m in site.meter if m.signer is None}
        self._remote = {
            m.meter_id: RemoteSigner(m.signer.url, m.signer.public_key) for m in site.meter if m.signer is not None
        }

    def __repr__(self) -> str:
        return f"SiteKeys(of {len(self.addresses)} meters)"

    @property
    def addresses(self) -> dict[bytes, str]:
        """Address of each meter's key: what the operator registers."""
        own = {meter_id: address_of(signing_key(secret)) for meter_id, secret in self._secrets.items()}
        return own | {meter_id: signer.address for meter_id, signer in self._remote.items()}

    def signer(self, domain: SigningDomain) -> DeviceSigner:
        own = GatewayKeys(domain, self._secrets)
        return RemoteKeys(domain, self._remote, own) if self._remote else own


def _secret_of(meter: MeterConfig, gateway: bytes | None) -> bytes:
    if meter.key is not None:
        return open_key_file(meter.key)
    return device_secret(gateway, meter.meter_id)


def create_key_file(path: Path, password: str) -> str:
    """Make a new secret, write it encrypted, readable by its owner only, and return its address."""
    if len(password) < 12:
        raise DomainError("a password of fewer than 12 characters", hint="take a long one from a generator")
    account = Account.from_key(secrets.token_bytes(32))
    content = json.dumps(Account.encrypt(account.key, password))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise DomainError(f"key file {path} exists", hint="keys are never overwritten; give another name") from None
    except OSError as exc:
        raise PermanentError(f"key file {path}: {exc.strerror}", hint="check the folder") from exc
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return account.address


def too_open(paths: Iterable[Path]) -> list[Path]:
    """Files that others than their owner may read."""
    return [path for path in paths if path.exists() and path.stat().st_mode & 0o077]
