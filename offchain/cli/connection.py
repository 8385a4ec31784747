"""Options that several commands share: which node, which chain, which key."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offchain.domain.errors import DomainError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from offchain.chain.client import Chain

DEFAULT_RPC = "http://127.0.0.1:8545"
PASSWORD_VARIABLE = "GRIDPACT_KEYSTORE_PASSWORD"

RpcOption = Annotated[str, typer.Option("--rpc", envvar="GRIDPACT_RPC", help="JSON-RPC endpoint of the chain.")]
ChainIdOption = Annotated[int | None, typer.Option(help="Refuse every other chain.")]
DeploymentOption = Annotated[Path | None, typer.Option(help="Deployment file, else deployments/<chainId>.json.")]
KeystoreOption = Annotated[
    Path | None,
    typer.Option(help=f"Encrypted key file; its password is asked for or taken from {PASSWORD_VARIABLE}."),
]
DevOption = Annotated[bool, typer.Option("--dev", help="Use the first public account of a local Anvil.")]


def connect(rpc: str, chain_id: int | None) -> "Chain":
    """Connection to the node, checked to be of the expected chain."""
    from offchain.chain.client import Chain

    return Chain(rpc, expected_chain_id=chain_id)


def choose_signer(chain: "Chain", keystore: Path | None, dev: bool) -> "LocalAccount":
    """Signer by the options: key file, ``--dev``, or ``GRIDPACT_PRIVATE_KEY``."""
    from offchain.chain.anvil import MNEMONIC
    from offchain.chain.signers import KEY_VARIABLE, environment_signer, keystore_signer, mnemonic_signers

    if keystore is not None:
        password = os.environ.get(PASSWORD_VARIABLE)
        if password is None:
            password = typer.prompt(f"Password of {keystore}", hide_input=True, err=True)
        return keystore_signer(keystore, password)
    if dev:
        if not chain.is_anvil:
            raise DomainError(f"--dev is for a local Anvil, {chain.url} is something else", hint="give a key")
        return mnemonic_signers(MNEMONIC, 1)[0]
    signer = environment_signer(os.environ)
    if signer is None:
        raise DomainError(
            "no key to sign with", hint=f"set {KEY_VARIABLE}, or use --keystore, or --dev on a local Anvil"
        )
    return signer
