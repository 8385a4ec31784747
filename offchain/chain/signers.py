"""Accounts that sign on this machine. Signing is ten times faster with coincurve, which eth-account uses if present."""

from collections.abc import Mapping
from pathlib import Path

from eth_account import Account
from eth_account.hdaccount import key_from_seed, seed_from_mnemonic
from eth_account.signers.local import LocalAccount

from offchain.domain.errors import DomainError

KEY_VARIABLE = "GRIDPACT_PRIVATE_KEY"


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
