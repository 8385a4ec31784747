"""Where the programs of ``node_modules`` are: Anvil, and the compiler as py-solc-x and Brownie look for it.

``python -m offchain.chain.toolchain brownie run deploy`` runs Brownie with them; ``tests/brownie_plugin.py``
does the same for the contract tests. Nothing here imports Brownie.
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path

from offchain.domain.errors import ChainError

ROOT = Path(__file__).resolve().parents[2]
"""Top of the repository."""

SETUP_HINT = "run make setup"


def anvil_path() -> Path:
    """Native Anvil of the npm package: unlike npm's wrapper script it is itself the child that is ended."""
    found = sorted((ROOT / "node_modules" / "@foundry-rs").glob("anvil-*/bin/anvil*"))
    if not found:
        raise ChainError(f"no Anvil for this platform in {ROOT / 'node_modules'}", hint=SETUP_HINT)
    return found[0]


def prepare_brownie() -> None:
    """Sets this process up for Brownie: Anvil on PATH, the compiler, no stale builds."""
    os.environ["PATH"] = f"{anvil_path().parent}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ["SOLCX_BINARY_PATH"] = str(ROOT / ".venv" / "solcx")
    _drop_stale_builds()


def _drop_stale_builds() -> None:
    """Removes Brownie's builds when an interface changed.

    Brownie compares a contract with its own source only: after a change of an interface it would go on with
    contracts compiled against the old one.
    """
    build = ROOT / "build"
    digest = hashlib.sha256()
    for path in sorted((ROOT / "interfaces").rglob("*.sol")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    stamp = build / "interfaces.sha256"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    for folder in ("contracts", "interfaces"):
        shutil.rmtree(build / folder, ignore_errors=True)
    build.mkdir(exist_ok=True)
    stamp.write_text(digest.hexdigest())


def main() -> None:
    """Replaces this process by a command of the virtual environment, for example ``brownie``."""
    if len(sys.argv) < 2:
        raise SystemExit("usage: python -m offchain.chain.toolchain <command> [arguments]")
    prepare_brownie()
    command = Path(sys.executable).with_name(sys.argv[1])
    if not command.exists():
        raise SystemExit(f"no command {sys.argv[1]} in {command.parent} ({SETUP_HINT})")
    os.chdir(ROOT)
    os.execv(command, [str(command), *sys.argv[2:]])


if __name__ == "__main__":
    main()
