"""Compiles ``contracts/`` and ``interfaces/`` into ``offchain/chain/artifacts/<ContractName>.json``.

Running code deploys and calls from these files alone; Brownie compiles the same sources with the same
settings (``brownie-config.yaml``) for its tests. A second run without a change returns at once.

An artifact has ``contractName``, ``abi``, ``bytecode`` and ``deployedBytecode`` (``0x`` and hex, ``0x`` alone
for interfaces and abstract contracts), ``linkReferences``, ``sourceHash`` (of all sources and settings) and
``compiler``.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from offchain.chain.toolchain import ROOT, SETUP_HINT
from offchain.domain.errors import ChainError, FlexError

SOLC_VERSION = "0.8.30"
EVM_VERSION = "cancun"
OPTIMIZER_RUNS = 800
REMAPPINGS = ["@openzeppelin=node_modules/@openzeppelin"]
MAX_DEPLOYED_BYTES = 24_576
"""Limit of EIP-170 [bytes]."""

ARTIFACTS = ROOT / "offchain" / "chain" / "artifacts"
SOURCE_FOLDERS = ("contracts", "interfaces")
OUTPUTS = ["abi", "evm.bytecode.object", "evm.bytecode.linkReferences", "evm.deployedBytecode.object"]


class CompileError(ChainError):
    """The compiler refused a source; ``lines`` has one line per error."""

    def __init__(self, lines: list[str]):
        super().__init__("\n".join(lines))
        self.lines = lines


def read_sources(root: Path = ROOT) -> dict[str, str]:
    """Solidity sources of the project by their path from the repository root."""
    paths = sorted(path for folder in SOURCE_FOLDERS for path in (root / folder).rglob("*.sol"))
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def source_hash(sources: dict[str, str], evm_version: str, runs: int, root: Path = ROOT) -> str:
    """SHA-256 of everything that the artifacts depend on."""
    package = root / "node_modules" / "@openzeppelin" / "contracts" / "package.json"
    if not package.exists():
        raise ChainError(f"OpenZeppelin Contracts not found in {root / 'node_modules'}", hint=SETUP_HINT)
    library = json.loads(package.read_text(encoding="utf-8"))["version"]
    inputs = [SOLC_VERSION, evm_version, runs, REMAPPINGS, library, sources]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def compile_contracts(
    sources: dict[str, str], *, evm_version: str = EVM_VERSION, runs: int = OPTIMIZER_RUNS, root: Path = ROOT
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Compiles sources.

    Parameters
    ----------
    sources : dict of str to str
        Solidity source by path from ``root``.
    evm_version : str
        Newest hard fork whose opcodes may be used.
    runs : int
        How often the optimizer expects each opcode to run.

    Returns
    -------
    artifacts : dict of str to dict
        Artifact by contract name.
    warnings : list of str
        One line per warning about our sources.

    Raises
    ------
    CompileError
        A source does not compile, or two contracts share a name.
    """
    standard_input = standard_json(sources, evm_version=evm_version, runs=runs)
    try:
        run = subprocess.run(
            [ROOT / "scripts" / "solc-npm", "--standard-json"],
            input=json.dumps(standard_input),
            capture_output=True,
            encoding="utf-8",
            cwd=root,
        )
    except OSError as exc:
        raise ChainError(f"compiler does not start: {exc}", hint="install Node 20 or newer, then make setup") from exc
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise ChainError(f"compiler ended with {run.returncode}: {reason}", hint=SETUP_HINT)
    output = json.loads(run.stdout)

    digest = source_hash(sources, evm_version, runs, root)
    compiler = {"solc": SOLC_VERSION, "evmVersion": evm_version, "optimizerRuns": runs}
    artifacts = artifacts_of(output, sources, sourceHash=digest, compiler=compiler)
    messages = output.get("errors", [])
    return artifacts, [_one_line(m, sources) for m in messages if m.get("sourceLocation", {}).get("file") in sources]


def standard_json(
    sources: dict[str, str],
    selected: Iterable[str] | None = None,
    *,
    evm_version: str = EVM_VERSION,
    runs: int = OPTIMIZER_RUNS,
) -> dict[str, Any]:
    """Input of the compiler; ``selected`` names the sources whose contracts are wanted, all if left out."""
    return {
        "language": "Solidity",
        "sources": {path: {"content": content} for path, content in sources.items()},
        "settings": {
            "evmVersion": evm_version,
            "optimizer": {"enabled": True, "runs": runs},
            "remappings": REMAPPINGS,
            "outputSelection": {path: {"*": OUTPUTS} for path in (sources if selected is None else selected)},
        },
    }


def artifacts_of(output: dict[str, Any], sources: dict[str, str], **about: Any) -> dict[str, dict[str, Any]]:
    """Artifact by contract name from the compiler's output, each with what is said ``about`` all of them.

    Raises
    ------
    CompileError
        A source does not compile, or two contracts share a name.
    """
    errors = [_one_line(m, sources) for m in output.get("errors", []) if m["severity"] == "error"]
    if errors:
        raise CompileError(errors)
    artifacts: dict[str, dict[str, Any]] = {}
    origin: dict[str, str] = {}
    for path, contracts in output.get("contracts", {}).items():
        for name, contract in contracts.items():
            if name in artifacts:
                raise CompileError([f"{path}: {name} is already the name of a contract in {origin[name]}"])
            origin[name] = path
            bytecode = contract["evm"]["bytecode"]
            artifacts[name] = {
                "contractName": name,
                "abi": contract["abi"],
                "bytecode": "0x" + bytecode["object"],
                "deployedBytecode": "0x" + contract["evm"]["deployedBytecode"]["object"],
                "linkReferences": bytecode["linkReferences"],
                **about,
            }
    return artifacts


def _one_line(message: dict[str, Any], sources: dict[str, str]) -> str:
    """Compiler message as ``path:line:column: Kind: what``; the compiler counts in bytes."""
    location = message.get("sourceLocation")
    text = f"{message['type']}: {' '.join(message['message'].split())}"
    if location is None:
        return text
    if location["file"] not in sources:
        return f"{location['file']}: {text}"
    before = sources[location["file"]].encode()[: location["start"]].decode()
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return f"{location['file']}:{line}:{column}: {text}"


def deployed_size(artifact: dict[str, Any]) -> int:
    """Size of the deployed code [bytes]."""
    return len(artifact["deployedBytecode"]) // 2 - 1


def check_sizes(artifacts: dict[str, dict[str, Any]]) -> None:
    """Refuses contracts that no chain would deploy."""
    too_large = [
        f"{name}: deployed code of {deployed_size(artifact)} bytes exceeds {MAX_DEPLOYED_BYTES}"
        for name, artifact in artifacts.items()
        if deployed_size(artifact) > MAX_DEPLOYED_BYTES
    ]
    if too_large:
        raise CompileError(too_large)


def write_artifacts(artifacts: dict[str, dict[str, Any]], folder: Path = ARTIFACTS) -> None:
    """Writes one file per contract, whole or not at all, and removes those of contracts that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, artifact in artifacts.items():
        partial = folder / f".{name}.{os.getpid()}"
        partial.write_text(json.dumps(artifact, indent=1) + "\n", encoding="utf-8")
        partial.replace(folder / f"{name}.json")
    for path in folder.glob("*.json"):
        if path.stem not in artifacts:
            path.unlink(missing_ok=True)


def read_artifacts(folder: Path = ARTIFACTS) -> dict[str, dict[str, Any]]:
    """Artifacts on disk by contract name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def update_artifacts(*, evm_version: str = EVM_VERSION, runs: int = OPTIMIZER_RUNS) -> dict[str, dict[str, Any]]:
    """Artifacts of the present sources, compiled when anything changed since they were written."""
    sources = read_sources()
    digest = source_hash(sources, evm_version, runs)
    stamp = ARTIFACTS / "sources.sha256"
    if stamp.exists() and stamp.read_text() == digest:
        return read_artifacts()
    stamp.unlink(missing_ok=True)
    artifacts, warnings = compile_contracts(sources, evm_version=evm_version, runs=runs)
    print(*warnings, sep="\n", end="\n" if warnings else "", file=sys.stderr)
    write_artifacts(artifacts)
    stamp.write_text(digest)
    return artifacts


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m offchain.chain.compile", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", action="store_true", help="print the deployed size of every contract")
    parser.add_argument("--runs", type=int, default=OPTIMIZER_RUNS, help="optimizer runs (default %(default)s)")
    parser.add_argument(
        "--evm-version",
        default=EVM_VERSION,
        help="another than %(default)s is compiled as a check and not written, for example paris",
    )
    options = parser.parse_args(arguments)
    try:
        if options.evm_version == EVM_VERSION:
            artifacts = update_artifacts(runs=options.runs)
        else:
            artifacts, _ = compile_contracts(read_sources(), evm_version=options.evm_version, runs=options.runs)
        if options.sizes:
            for name in sorted(artifacts, key=lambda n: (-deployed_size(artifacts[n]), n)):
                size = deployed_size(artifacts[name])
                if size:
                    print(f"{name:32} {size:6,} bytes {size / MAX_DEPLOYED_BYTES:6.1%}")
        check_sizes(artifacts)
    except FlexError as exc:
        print(exc, file=sys.stderr)
        return exc.exit_code
    print(f"{len(artifacts)} contracts, libraries and interfaces for {options.evm_version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
