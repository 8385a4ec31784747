"""Compiler wrapper and compile step on small sources, against the real compiler."""

import json
import os
import subprocess

import pytest
import yaml

from offchain.chain import compile as compiling
from offchain.chain import toolchain
from offchain.domain.errors import ChainError

WRAPPER = toolchain.ROOT / "scripts" / "solc-npm"
HEAD = "// SPDX-License-Identifier: Apache-2.0\npragma solidity ^0.8.24;\n"


@pytest.fixture
def project(tmp_path):
    """Folder with the layout of the repository and its npm packages; writes sources."""
    root = tmp_path / "a project"
    root.mkdir()
    (root / "node_modules").symlink_to(toolchain.ROOT / "node_modules")

    def write(**sources):
        for path, body in sources.items():
            file = root / (path.replace("__", "/") + ".sol")
            file.parent.mkdir(exist_ok=True)
            file.write_text(HEAD + body)
        return root

    return write


def compile_in(root, **options):
    return compiling.compile_contracts(compiling.read_sources(root), root=root, **options)


def ask_compiler(*arguments, imported, cwd):
    source = {"a.sol": {"content": f'{HEAD}import "{imported}";'}}
    settings = {"outputSelection": {"*": {"*": ["abi"]}}}
    standard_input = json.dumps({"language": "Solidity", "sources": source, "settings": settings})
    command = [WRAPPER, "--standard-json", *arguments]
    run = subprocess.run(command, input=standard_input, cwd=cwd, capture_output=True, text=True, check=True)
    return [error["message"] for error in json.loads(run.stdout).get("errors", [])]


def test_compile_contracts_resolves_imports_when_written_in_house_style(project):
    root = project(
        interfaces__IMeter="interface IMeter { function wh() external view returns (uint256); }",
        contracts__Two="library Two { function two() internal pure returns (uint256) { return 2; } }",
        contracts__Meter="""
            import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
            import {IMeter} from "interfaces/IMeter.sol";
            import {Two} from "contracts/Two.sol";
            contract Meter is IMeter, Pausable {
                function wh() external pure returns (uint256) { return Two.two(); }
            }
        """,
    )
    artifacts, warnings = compile_in(root)
    assert sorted(artifacts) == ["IMeter", "Meter", "Two"]
    assert warnings == []
    assert artifacts["IMeter"]["bytecode"] == "0x"
    assert compiling.deployed_size(artifacts["Meter"]) > 50
    assert {item["name"] for item in artifacts["Meter"]["abi"]} >= {"wh", "paused", "Paused"}


def test_compile_contracts_names_every_fault_in_one_line_when_source_is_wrong(project):
    root = project(contracts__Wrong="contract Wrong {\n  uint8 a = 256;\n  uint8 b = 257;\n}")
    with pytest.raises(compiling.CompileError) as raised:
        compile_in(root)
    assert [line.split(": ")[:2] for line in raised.value.lines] == [
        ["contracts/Wrong.sol:4:13", "TypeError"],
        ["contracts/Wrong.sol:5:13", "TypeError"],
    ]


def test_compile_contracts_counts_columns_in_characters_when_source_has_wide_characters(project):
    root = project(contracts__Wide="contract Wide { /* \N{EURO SIGN}\N{EURO SIGN} */ uint8 a = 256; }")
    with pytest.raises(compiling.CompileError, match=r"^contracts/Wide.sol:3:36: "):
        compile_in(root)


def test_compile_contracts_refuses_when_two_contracts_share_a_name(project):
    root = project(contracts__A="contract Same {}", interfaces__B="interface Same {}")
    with pytest.raises(compiling.CompileError, match=r"Same is already the name of a contract in"):
        compile_in(root)


def test_compile_contracts_refuses_cancun_opcode_when_compiled_for_paris(project):
    root = project(contracts__Copy="contract Copy { constructor() { assembly { mcopy(0, 0, 0) } } }")
    assert "Copy" in compile_in(root)[0]
    with pytest.raises(compiling.CompileError, match="mcopy"):
        compile_in(root, evm_version="paris")


def test_check_sizes_refuses_when_deployed_code_exceeds_limit():
    artifacts = {"Fits": {"deployedBytecode": "0x" + "00" * 24_576}}
    compiling.check_sizes(artifacts)
    artifacts["Large"] = {"deployedBytecode": "0x" + "00" * 24_577}
    with pytest.raises(compiling.CompileError, match=r"^Large: deployed code of 24577 bytes exceeds 24576$"):
        compiling.check_sizes(artifacts)


def test_write_artifacts_removes_file_when_contract_is_gone(tmp_path):
    compiling.write_artifacts({"Old": {}, "Kept": {}}, tmp_path)
    compiling.write_artifacts({"Kept": {"abi": []}}, tmp_path)
    assert compiling.read_artifacts(tmp_path) == {"Kept": {"abi": []}}


def test_source_hash_differs_when_anything_that_matters_differs():
    hashes = {
        compiling.source_hash({"a.sol": "x"}, "cancun", 800),
        compiling.source_hash({"a.sol": "y"}, "cancun", 800),
        compiling.source_hash({"a.sol": "x"}, "paris", 800),
        compiling.source_hash({"a.sol": "x"}, "cancun", 200),
    }
    assert len(hashes) == 4


def test_source_hash_says_run_setup_when_npm_packages_are_missing(tmp_path):
    with pytest.raises(ChainError, match="make setup"):
        compiling.source_hash({}, "cancun", 800, tmp_path)


def test_brownie_config_has_the_settings_of_the_compile_step_when_read():
    config = yaml.safe_load((toolchain.ROOT / "brownie-config.yaml").read_text())["compiler"]
    assert config == {
        "evm_version": compiling.EVM_VERSION,
        "solc": {
            "version": compiling.SOLC_VERSION,
            "optimizer": {"enabled": True, "runs": compiling.OPTIMIZER_RUNS},
            "remappings": compiling.REMAPPINGS,
        },
    }


def test_wrapper_reports_missing_file_when_import_does_not_exist(tmp_path):
    assert any("File not found." in m for m in ask_compiler(imported="nowhere.sol", cwd=tmp_path))


def test_wrapper_reads_outside_only_when_path_is_allowed(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside.sol").write_text(HEAD)
    outside = (tmp_path / "outside.sol").as_posix()
    refused = ask_compiler(imported=outside, cwd=inside)
    assert any("outside of allowed directories" in message for message in refused)
    assert ask_compiler("--allow-paths", str(tmp_path), imported=outside, cwd=inside) == []


def test_wrapper_reads_from_base_path_when_given(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "b.sol").write_text(HEAD)
    assert ask_compiler("--base-path", "base", imported="b.sol", cwd=tmp_path) == []


def test_wrapper_refuses_when_option_is_unknown():
    run = subprocess.run([WRAPPER, "--bin"], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr == "Error: unrecognised option '--bin'\n"


def test_prepare_brownie_drops_builds_when_interface_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(toolchain, "ROOT", tmp_path)
    monkeypatch.setattr(toolchain, "anvil_path", lambda: tmp_path / "bin" / "anvil")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    interface = tmp_path / "interfaces" / "IMeter.sol"
    built = tmp_path / "build" / "contracts" / "Meter.json"
    for path in (interface, built):
        path.parent.mkdir(parents=True)

    interface.write_text("interface IMeter {}")
    toolchain.prepare_brownie()
    built.parent.mkdir(parents=True, exist_ok=True)
    built.write_text("{}")
    toolchain.prepare_brownie()
    assert built.exists()
    interface.write_text("interface IMeter { error Late(); }")
    toolchain.prepare_brownie()
    assert not built.exists()


def test_anvil_path_says_run_setup_when_package_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(toolchain, "ROOT", tmp_path)
    with pytest.raises(ChainError, match="make setup"):
        toolchain.anvil_path()
