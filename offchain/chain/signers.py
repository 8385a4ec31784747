"""Who signs transactions: an account on this machine, or a signer elsewhere that keeps its key to itself.

Signing is ten times faster with coincurve, which eth-account uses if present.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import requests
from eth_account import Account
from eth_account.hdaccount import key_from_seed, seed_from_mnemonic
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from eth_utils import to_checksum_address

from offchain.domain.errors import DomainError, PermanentError, TransientError

KEY_VARIABLE = "GRIDPACT_PRIVATE_KEY"


class Signature(NamedTuple):
    """ECDSA signature; ``v`` is 27 or 28."""

    v: int
    r: int
    s: int


class TransactionSigner(Protocol):
    """What the chain client needs of a signer: an eth-account ``LocalAccount`` or a :class:`RemoteSigner`."""

    @property
    def address(self) -> str: ...


class RemoteSigner:
    """A signer behind HTTP that speaks the API of Web3Signer: ``POST /api/v1/eth1/sign/{public key}``.

    It hashes what it is given with keccak-256 and signs the hash; the key never leaves it (HSM, vault, another
    machine).

    Parameters
    ----------
    url : str
        Base address, for example ``http://127.0.0.1:9000``.
    public_key : str
        Uncompressed, 64 bytes in hex.
    """

    def __init__(self, url: str, public_key: str, *, timeout: float = 10):
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._session = requests.Session()
        try:
            key = bytes.fromhex(public_key.removeprefix("0x"))
            key = key[1:] if len(key) == 65 else key
            if len(key) != 64:
                raise ValueError
        except ValueError:
            raise DomainError("a public key is 64 bytes in hex", hint="uncompressed, 0x in front or not") from None
        self.public_key = "0x" + key.hex()
        self.address = to_checksum_address(keccak(key)[12:])

    def sign(self, preimage: bytes) -> Signature:
        """Signature of the keccak-256 of ``preimage``."""
        try:
            response = self._session.post(
                f"{self.url}/api/v1/eth1/sign/{self.public_key}",
                json={"data": "0x" + preimage.hex()},
                timeout=self._timeout,
            )
        except requests.RequestException as exc:
            raise TransientError(f"signer {self.url} does not answer", hint="is it running?") from exc
        if response.status_code == 404:
            raise PermanentError(f"signer {self.url} has no key of {self.address}", hint="load the key there")
        try:
            response.raise_for_status()
            raw = bytes.fromhex(response.text.strip().strip('"').removeprefix("0x"))
        except (requests.HTTPError, ValueError) as exc:
            raise TransientError(f"signer {self.url}: HTTP {response.status_code}, no signature") from exc
        if len(raw) != 65:
            raise PermanentError(f"signer {self.url}: signature of {len(raw)} bytes instead of 65")
        v = raw[64] if raw[64] >= 27 else raw[64] + 27
        return Signature(v, int.from_bytes(raw[:32]), int.from_bytes(raw[32:64]))


def sign_preimage(signer: TransactionSigner, preimage: bytes) -> Signature:
    """Signature of the keccak-256 of ``preimage`` by whatever kind of signer."""
    if isinstance(signer, RemoteSigner):
        return signer.sign(preimage)
    signature = signer.unsafe_sign_hash(keccak(preimage))
    return Signature(signature.v, signature.r, signature.s)


def signer(private_key: str | bytes) -> LocalAccount:
    """Account of a private key; the key itself never shows in an error."""
    try:
        return Account.from_key(private_key)
    except Exception as exc:
        raise DomainError("a private key is 32 bytes in hex", hint="64 hex digits, 0x in front or not") from exc


def mnemonic_signers(mnemonic: str, count: int, *, first: int = 0) -> list[LocalAccount]:
    """Accounts ``first`` to ``first + count - 1`` of a seed phrase, on the usual path m/44'/60'/0'/0/i."""
    try:
        seed = seed_from_mnemonic(mnemonic, "")
    except Exception as exc:
        raise DomainError("not a seed phrase", hint="12 to 24 words of the BIP-39 list") from exc
    return [Account.from_key(key_from_seed(seed, f"m/44'/60'/0'/0/{first + i}")) for i in range(count)]


def keystore_signer(path: Path, password: str) -> LocalAccount:
    """Account of an encrypted key file."""
    try:
        text = path.read_text()
    except OSError as exc:
        raise DomainError(f"key file {path}: {exc.strerror}") from exc
    try:
        return Account.from_key(Account.decrypt(text, password))
    except Exception as exc:
        raise DomainError(f"key file {path} does not open", hint="is the password right?") from exc


def environment_signer(environment: Mapping[str, str]) -> LocalAccount | None:
    """Account of ``GRIDPACT_PRIVATE_KEY``, if set."""
    key = environment.get(KEY_VARIABLE)
    return signer(key) if key else None
