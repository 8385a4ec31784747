"""
Guards of contracts, found and taken out
├── guards_of: alternatives of a condition one by one, modifiers, calls that only check, bare reverts; nothing else
├── taken_out: leaves a source that compiles
└── main: killed, survivor, listed though a test fails; unknown contract, unknown guard, failing tests → 2
"""

import importlib.util
import json

import pytest

from offchain.chain.compile import standard_json
from offchain.chain.toolchain import ROOT

spec = importlib.util.spec_from_file_location("check_guards", ROOT / "scripts" / "check_guards.py")
check_guards = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_guards)

SOURCE = """// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;
// Wärme
contract Meter {
    error Refused(uint256 why);
    uint256 private _wh;
    modifier whenOpen() {
        if (_wh == 1) revert Refused(1);
        _;
    }
    constructor() { _wh = 2; }
    function first(uint256 a, uint256 b) external whenOpen returns (uint256) {
        if (a == 0 || (b > 1 && (a > 5 || a < 3)) || !(b < 9 && a < 9)) revert Refused(2);
        if (a > 7) {
            revert Refused(3);
        } else if (b == 4) revert Refused(4);
        else _wh = b;
        if (b == 5) _check(b);
        else if (b == 6) revert Refused(6);
        if (a == 6 ? b == 2 : b == 3) revert Refused(7);
        _add(a);
        for (uint256 i = 0; i < a; ++i) {
            if (i == 4) revert Refused(8);
            if (i == 4) revert Refused(8);
        }
        if (b < a) return 1;
        revert Refused(9);
    }
    function _check(uint256 b) private view returns (uint256) {
        return _wh - b;
    }
    function _add(uint256 a) private returns (uint256) {
        _wh += a;
        return _wh;
    }
}
"""
GUARD = "joinSigned: block.timestamp > signed.deadline -> SignatureExpired"


@pytest.fixture(scope="module")
def compiler():
    compiler = check_guards.Compiler(ROOT)
    yield compiler
    compiler.close()


def test_guards_of_finds_each_alternative_and_nothing_else(compiler):
    found = check_guards.guards_of(SOURCE, compiler.ast("contracts/Meter.sol", SOURCE))
    assert [guard.name for guard in found] == [
        "whenOpen: _wh == 1 -> Refused",
        "first: whenOpen",
        "first: a == 0 -> Refused",
        "first: a > 5 -> Refused",
        "first: a < 3 -> Refused",
        "first: b < 9 -> Refused",
        "first: a < 9 -> Refused",
        "first: a > 7 -> Refused",
        "first: b == 4 -> Refused",
        "first: _check(b)",
        "first: b == 6 -> Refused",
        "first: b == 2 -> Refused",
        "first: b == 3 -> Refused",
        "first: i == 4 -> Refused",
        "first: i == 4 -> Refused (2)",
        "first: revert Refused(9)",
    ]
    lines = SOURCE.splitlines()
    assert [lines[guard.line - 1].strip()[:20] for guard in found][:3] == [
        "if (_wh == 1) revert",
        "function first(uint2",
        "if (a == 0 || (b > 1",
    ]
    changed = {guard.name: guard.taken_out(SOURCE) for guard in found}
    assert "false || (b > 1" in changed["first: a == 0 -> Refused"]
    assert "!(b < 9 && true)" in changed["first: a < 9 -> Refused"]
    assert "external  returns" in changed["first: whenOpen"]
    assert "        if (b == 5) {}\n        else if" in changed["first: _check(b)"]
    for source in changed.values():
        assert compiler.artifacts({"contracts/Meter.sol": source}, optimized=False)["Meter"]["bytecode"] != "0x"


def test_compiler_answers_each_line_of_many(compiler):
    good, bad = (standard_json({"a.sol": text}) for text in (SOURCE, "contract {"))
    answers = [compiler.output(wanted) for wanted in (good, bad, good)]
    assert [any(e["severity"] == "error" for e in a.get("errors", [])) for a in answers] == [False, True, False]
    assert answers[0]["contracts"] == answers[2]["contracts"]


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """Writes the list of contracts."""

    def write(**contracts):
        text = "".join(
            f'[{name}]\nsource = "contracts/market/PoolRelay.sol"\ntests = ["{tests}"]\n'
            + (f'[[{name}.equivalent]]\nguard = "{equivalent}"\nreason = "none"\n' if equivalent else "")
            for name, (tests, equivalent) in contracts.items()
        )
        path = tmp_path / "guards.toml"
        path.write_text(text)
        monkeypatch.setattr(check_guards, "LIST", path)

    return write


def test_main_tells_killed_from_survivor_from_equivalent(listed, capsys):
    notice, other = "tests/market/test_pool_steps.py", "tests/market/test_relay.py"
    listed(Noticed=(notice, ""), Missed=(other, ""), Listed=(other, GUARD), Stale=(notice, GUARD))
    assert check_guards.main(["--guard", "deadline", "--json"]) == 1
    told = capsys.readouterr()
    reports = {one["contract"]: one for one in json.loads(told.out)}
    outcomes = {name: [mutant["outcome"] for mutant in one["mutants"]] for name, one in reports.items()}
    assert outcomes == {"Noticed": ["killed"], "Missed": ["survivor"], "Listed": ["equivalent"], "Stale": ["killed"]}
    assert reports["Noticed"]["mutants"][0]["by"].startswith(notice)
    assert reports["Stale"]["listedButCaught"] == [GUARD] and not reports["Listed"]["listedButCaught"]
    assert f"survivor: {GUARD}" in told.err


def test_main_ends_with_2_when_nothing_can_be_said(listed, capsys):
    listed(Known=("tests/market/test_relay.py", "no such guard"))
    for arguments, why in ((["Unknown"], "has no Unknown"), (["Known"], "Known has no guard no such guard")):
        assert check_guards.main(arguments) == 2
        assert why in capsys.readouterr().err
    listed(Known=("tests/market/no_such_test.py", ""))
    assert check_guards.main(["Known"]) == 2
    assert "before anything was taken out" in capsys.readouterr().err
