"""Takes every guard out of the contracts, one at a time, and runs the tests that must notice.

A guard is what makes a call revert and does nothing else: `if (...) revert ...`, with each alternative of its condition
for itself, a bare `revert`, a modifier of a function, and a call whose result nobody takes of a function that writes
no storage (`_requireStands(...)`, `participants.requireRole(...)`; the few that fill memory instead are taken out too).
What is decided in a variable or in assembly is not taken apart. `tests/guards.toml` names the tests of each contract
and the guards whose absence nothing can show, with the reason.

Works on a copy of the project. What was compiled without the guard is put there in the place of the artifacts and of
Brownie's builds; without the optimizer, as long as the code is not too large to deploy then.

Ends with 0 when every guard is caught or listed, with 1 when one is not, or is listed and caught; with 2 when nothing
can be said, for example because the tests fail before anything was taken out.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from offchain.chain.compile import (  # noqa: E402
    ARTIFACTS,
    CompileError,
    artifacts_of,
    check_sizes,
    read_sources,
    standard_json,
    update_artifacts,
)
from offchain.domain.errors import DomainError, FlexError  # noqa: E402

LIST = ROOT / "tests" / "guards.toml"
COPIED = ("contracts", "interfaces", "offchain", "oracles", "scripts", "tests", "brownie-config.yaml", "pyproject.toml")
LINKED = (".venv", "node_modules")
CAUGHT, MISSED, LISTED, BROKEN = "killed", "survivor", "equivalent", "does not compile"
ENDED = "ended at the limit"
TESTS_PASSED, TESTS_FAILED = "0", "1"
PYTEST = ["-x", "-q", "-m", "not long", "-p", "no:cacheprovider", "--hypothesis-profile=first-failure"]
LOADED = ["hypothesis.stateful", "tests.market.pooling"]
LOADED_WITH_BROWNIE = ["brownie", "brownie.test.plugin"]
SPARE_S, PATIENCE = 30.0, 5.0
"""Time limit of a run: so much and so many times what it takes before anything is taken out."""
FAILED_TEST = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
IMPORT = re.compile(r'^import [^;]*"(contracts/[^"]+)";', re.MULTILINE)

Node = dict[str, Any]


# ---------------------------------------------------------------------- guards of a source


@dataclass(frozen=True)
class Guard:
    """What is taken out: the bytes ``start`` .. ``end`` of the source, in whose place ``instead`` stands."""

    name: str
    line: int
    start: int
    end: int
    instead: str

    def taken_out(self, source: str) -> str:
        code = source.encode()
        return (code[: self.start] + self.instead.encode() + code[self.end :]).decode()


def guards_of(source: str, ast: Node) -> list[Guard]:
    """Guards in the order of the source; names are unique in it."""
    found = sorted(_guards_in(source.encode(), ast, "constructor"), key=lambda guard: (guard.start, guard.end))
    seen: Counter[str] = Counter()
    named = []
    for guard in found:
        seen[guard.name] += 1
        number = seen[guard.name]
        named.append(guard if number == 1 else replace(guard, name=f"{guard.name} ({number})"))
    return named


def _guards_in(code: bytes, node: Any, function: str) -> Iterator[Guard]:
    if isinstance(node, list):
        for item in node:
            yield from _guards_in(code, item, function)
    if not isinstance(node, dict):
        return
    kind = node.get("nodeType")
    if kind in ("FunctionDefinition", "ModifierDefinition"):
        function = node["name"] or node["kind"]
    if kind == "IfStatement" and _reverts(node["trueBody"]):
        yield from _conditional(code, node, function)
        yield from _guards_in(code, node.get("falseBody"), function)
    elif _is_guard(node):
        start, end = _bounds(code, node)
        instead = "" if kind == "ModifierInvocation" else "{}"
        yield Guard(f"{function}: {_text(code, node)}", _line(code, start), start, end, instead)
    else:
        for value in node.values():
            yield from _guards_in(code, value, function)


def _is_guard(node: Node) -> bool:
    kind = node.get("nodeType")
    if kind == "ModifierInvocation":
        return node.get("kind") == "modifierInvocation"
    return kind == "RevertStatement" or (kind == "ExpressionStatement" and _only_checks(node["expression"]))


def _conditional(code: bytes, node: Node, function: str) -> Iterator[Guard]:
    """A guard as a whole, or each alternative of its condition."""
    statement = node["trueBody"]
    if statement["nodeType"] == "Block":
        statement = statement["statements"][-1]
    error = _text(code, statement["errorCall"]["expression"])
    alternatives = list(_alternatives(node["condition"], True))
    if len(alternatives) > 1:
        for part, instead in alternatives:
            start, end = _bounds(code, part)
            name = f"{function}: {_text(code, part)} -> {error}"
            yield Guard(name, _line(code, start), start, end, instead)
        return
    start, end = _bounds(code, node)
    otherwise = node.get("falseBody")
    instead = "{}" if otherwise is None else code[slice(*_bounds(code, otherwise))].decode()
    name = f"{function}: {_text(code, node['condition'])} -> {error}"
    yield Guard(name, _line(code, start), start, end, instead)


def _alternatives(condition: Node, wanted: bool) -> Iterator[tuple[Node, str]]:
    """Parts of a condition each of which makes it ``wanted`` (where others let it), and what never does."""
    kind = condition["nodeType"]
    if kind == "TupleExpression":
        yield from _alternatives(condition["components"][0], wanted)
    elif kind == "UnaryOperation" and condition["operator"] == "!":
        yield from _alternatives(condition["subExpression"], not wanted)
    elif kind == "BinaryOperation" and condition["operator"] == ("||" if wanted else "&&"):
        yield from _alternatives(condition["leftExpression"], wanted)
        yield from _alternatives(condition["rightExpression"], wanted)
    elif kind == "BinaryOperation" and condition["operator"] in ("||", "&&"):
        sides = [list(_alternatives(condition[side], wanted)) for side in ("leftExpression", "rightExpression")]
        several = [part for side in sides if len(side) > 1 for part in side]
        yield from several or [(condition, str(not wanted).lower())]
    elif kind == "Conditional":
        yield from _alternatives(condition["trueExpression"], wanted)
        yield from _alternatives(condition["falseExpression"], wanted)
    else:
        yield condition, str(not wanted).lower()


def _reverts(body: Node) -> bool:
    if body["nodeType"] == "Block":
        return bool(body["statements"]) and body["statements"][-1]["nodeType"] == "RevertStatement"
    return body["nodeType"] == "RevertStatement"


def _only_checks(expression: Node) -> bool:
    """A call of a function that writes no storage, its result not taken: it can only revert, or fill memory."""
    if expression["nodeType"] != "FunctionCall" or expression["kind"] != "functionCall":
        return False
    kind = expression["expression"]["typeDescriptions"]["typeIdentifier"]
    return re.match(r"t_function_\w+?_(view|pure)\$", kind) is not None


def _bounds(code: bytes, node: Node) -> tuple[int, int]:
    """First byte, and the one after the last; with the semicolon of a statement."""
    start, length, _ = map(int, node["src"].split(":"))
    end = start + length
    return start, end + (node["nodeType"].endswith("Statement") and code[end : end + 1] == b";")


def _line(code: bytes, start: int) -> int:
    return code.count(b"\n", 0, start) + 1


def _text(code: bytes, node: Node) -> str:
    start, length, _ = map(int, node["src"].split(":"))
    return " ".join(code[start : start + length].decode().split()).removesuffix(";")


# ---------------------------------------------------------------------- compiler


class Compiler:
    """One process of the compiler for many inputs."""

    def __init__(self, root: Path):
        command = [ROOT / "scripts" / "solc-npm", "--standard-json-lines"]
        self._process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def output(self, standard_input: dict[str, Any]) -> dict[str, Any]:
        self._process.stdin.write(json.dumps(standard_input) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise DomainError("the compiler ended", hint="run make compile, which shows why")
        return json.loads(answer)

    def ast(self, path: str, source: str) -> Node:
        wanted = standard_json({path: source}, [])
        wanted["settings"]["outputSelection"] = {path: {"": ["ast"]}}
        output = self.output(wanted)
        artifacts_of(output, {path: source})
        return output["sources"][path]["ast"]

    def artifacts(self, sources: dict[str, str], *, optimized: bool) -> dict[str, dict[str, Any]]:
        wanted = standard_json(sources)
        wanted["settings"]["optimizer"]["enabled"] = optimized
        return artifacts_of(self.output(wanted), sources)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def dependants(path: str, sources: dict[str, str]) -> list[str]:
    """Sources that import one, on whatever way, and that one."""
    found = [path]
    for known in found:
        found += [other for other, text in sources.items() if other not in found and known in IMPORT.findall(text)]
    return found


# ---------------------------------------------------------------------- tests


class Copy:
    """The project in a folder of its own, where guards are taken out and tests run."""

    def __init__(self, root: Path):
        self.root = root
        self.log = root / "tests.log"
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, root / name)
        for name in LINKED:
            (root / name).symlink_to(ROOT / name)
        builds = ROOT / "build" / "contracts"
        if builds.is_dir():
            shutil.copytree(ROOT / "build", root / "build", ignore=shutil.ignore_patterns("home", "*.log"))
        self._environment = {**os.environ, "PYTHONPATH": str(root)}
        self._runners: dict[bool, subprocess.Popen] = {}

    def write_artifacts(self, artifacts: dict[str, dict[str, Any]]) -> None:
        """Puts code in the place of that of the artifacts and of Brownie's builds."""
        for name, artifact in artifacts.items():
            (self.root / ARTIFACTS.relative_to(ROOT) / f"{name}.json").write_text(
                json.dumps(artifact), encoding="utf-8"
            )
            build = self.root / "build" / "contracts" / f"{name}.json"
            if build.exists():
                code = {key: artifact[key].removeprefix("0x") for key in ("bytecode", "deployedBytecode")}
                build.write_text(json.dumps(json.loads(build.read_text(encoding="utf-8")) | code), encoding="utf-8")

    def run(self, tests: list[str], limit_s: float | None, *, brownie: bool) -> str:
        """pytest's exit code, or ``limit``."""
        if brownie not in self._runners:
            self._runners[brownie] = subprocess.Popen(
                [sys.executable, "-m", "tests.utils.forked", *(LOADED_WITH_BROWNIE if brownie else LOADED)],
                cwd=self.root,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        runner = self._runners[brownie]
        arguments = [*PYTEST, *([] if brownie else ["-p", "no:pytest-brownie"]), *tests]
        runner.stdin.write(json.dumps({"arguments": arguments, "limit_s": limit_s, "log": str(self.log)}) + "\n")
        runner.stdin.flush()
        return runner.stdout.readline().strip()

    def failed_test(self) -> str:
        found = FAILED_TEST.search(self.log.read_text(encoding="utf-8", errors="replace"))
        return found[1] if found else ""

    def close(self) -> None:
        for runner in self._runners.values():
            runner.stdin.close()
            runner.wait()


# ---------------------------------------------------------------------- contracts


@dataclass(frozen=True)
class Subject:
    """A contract as ``tests/guards.toml`` has it."""

    name: str
    source: str
    tests: list[str]
    brownie: bool
    recompiled: list[str] | None
    equivalent: dict[str, str]


def read_list() -> list[Subject]:
    with LIST.open("rb") as file:
        listed = tomllib.load(file)
    return [
        Subject(
            name,
            entry["source"],
            entry["tests"],
            entry.get("brownie", False),
            entry.get("recompiled"),
            {one["guard"]: one["reason"] for one in entry.get("equivalent", [])},
        )
        for name, entry in listed.items()
    ]


class Check:
    """Takes the guards of a contract out."""

    def __init__(self, subject: Subject, copy: Copy, compiler: Compiler, limit_s: float | None):
        self._subject, self._copy, self._compiler, self._limit_s = subject, copy, compiler, limit_s
        self._sources = read_sources()
        self._source = self._sources[subject.source]
        chosen = subject.recompiled or dependants(subject.source, self._sources)
        self._recompiled = {path: self._sources[path] for path in {subject.source: None, **dict.fromkeys(chosen)}}
        self._optimized = False
        self.guards = guards_of(self._source, compiler.ast(subject.source, self._source))

    def prepare(self) -> None:
        """Sees that the tests pass as long as nothing was taken out."""
        if self._subject.brownie:
            self._copy.run([*self._subject.tests, "--collect-only"], self._limit_s, brownie=True)  # builds all
        self._copy.write_artifacts(self._deployable())
        began = time.monotonic()
        code = self._run()
        self._limit_s = self._limit_s or SPARE_S + PATIENCE * (time.monotonic() - began)
        if code != TESTS_PASSED:
            shown = self._copy.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-15:]
            raise DomainError(
                f"{self._subject.name}: tests end with {code} before anything was taken out\n" + "\n".join(shown)
            )

    def _deployable(self) -> dict[str, dict[str, Any]]:
        try:
            artifacts = self._compiler.artifacts(self._recompiled, optimized=False)
            check_sizes(artifacts)
        except CompileError:
            self._optimized = True
            artifacts = self._compiler.artifacts(self._recompiled, optimized=True)
        return artifacts

    def _run(self) -> str:
        return self._copy.run(self._subject.tests, self._limit_s, brownie=self._subject.brownie)

    def without(self, guard: Guard) -> tuple[str, str]:
        """What becomes of the contract without a guard, and the test that noticed."""
        sources = self._recompiled | {self._subject.source: guard.taken_out(self._source)}
        try:
            self._copy.write_artifacts(self._compiler.artifacts(sources, optimized=self._optimized))
        except CompileError as refused:
            return BROKEN, refused.lines[0]
        code = self._run()
        if code == TESTS_PASSED:
            return (LISTED if guard.name in self._subject.equivalent else MISSED), ""
        if code == "limit":
            return CAUGHT, ENDED
        if code != TESTS_FAILED:
            raise DomainError(f"{self._subject.name}, {guard.name}: tests end with {code}, see {self._copy.log}")
        return CAUGHT, self._copy.failed_test()

    def restore(self) -> None:
        self._copy.write_artifacts(update_artifacts())


def check(subject: Subject, copy: Copy, compiler: Compiler, limit_s: float | None, wanted: list[str]) -> dict[str, Any]:
    """Report of a contract."""
    run = Check(subject, copy, compiler, limit_s)
    chosen = [guard for guard in run.guards if any(text in guard.name for text in wanted)]
    unknown = set(subject.equivalent) - {guard.name for guard in run.guards}
    if unknown:
        raise DomainError(f"{subject.name} has no guard {', no guard '.join(sorted(unknown))}", hint=f"see {LIST.name}")
    began = time.monotonic()
    report = []
    if chosen:
        run.prepare()
    for number, guard in enumerate(chosen, 1):
        outcome, by = run.without(guard)
        report.append({"guard": guard.name, "line": guard.line, "outcome": outcome, "by": by})
        show_progress(f"{subject.name} {number}/{len(chosen)} {guard.name}: {outcome}")
        if outcome == MISSED:
            show(f"{subject.source}:{guard.line}: {MISSED}: {guard.name}")
        elif outcome == CAUGHT and guard.name in subject.equivalent:
            show(f"{subject.source}:{guard.line}: listed as {LISTED}, but {by} fails: {guard.name}")
    if chosen:
        run.restore()
    stale = [one["guard"] for one in report if one["outcome"] == CAUGHT and one["guard"] in subject.equivalent]
    counts = Counter(one["outcome"] for one in report)
    show(f"{subject.name}: {len(report)} guards, {counts[CAUGHT]} {CAUGHT}")
    return {
        "contract": subject.name,
        "guards": len(report),
        **{outcome: counts[outcome] for outcome in (CAUGHT, LISTED, MISSED, BROKEN)},
        "listedButCaught": stale,
        "seconds": round(time.monotonic() - began, 1),
        "mutants": report,
    }


# ---------------------------------------------------------------------- command line


def show_progress(text: str) -> None:
    """One line that the next one overwrites; nothing where nobody watches."""
    if sys.stderr.isatty():
        columns = shutil.get_terminal_size().columns - 1
        print(f"\r{text[:columns]:{columns}}", end="", file=sys.stderr, flush=True)


def show(text: str) -> None:
    show_progress("")
    print("\r" * sys.stderr.isatty() + text, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contracts", nargs="*", metavar="contract", help="of tests/guards.toml (default: all)")
    parser.add_argument(
        "--guard", action="append", metavar="TEXT", help="only guards whose name has this text, or one of several"
    )
    parser.add_argument(
        "--limit",
        type=float,
        metavar="S",
        help="seconds for the tests of one guard (default: several times what they take before anything is taken out)",
    )
    parser.add_argument("--list", action="store_true", help="names the guards and takes none out")
    parser.add_argument("--json", action="store_true", help="the whole report as JSON")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the copy is removed
    subjects = {subject.name: subject for subject in read_list()}
    try:
        unknown = [name for name in options.contracts if name not in subjects]
        if unknown:
            raise DomainError(f"{LIST.name} has no {', '.join(unknown)}", hint=f"it has {', '.join(subjects)}")
        chosen = [subjects[name] for name in options.contracts or subjects]
        update_artifacts()
        with tempfile.TemporaryDirectory(prefix="guards-") as folder:
            copy, compiler = Copy(Path(folder)), Compiler(Path(folder))
            try:
                if options.list:
                    for subject in chosen:
                        for guard in Check(subject, copy, compiler, options.limit).guards:
                            print(f"{subject.source}:{guard.line}: {guard.name}")
                    return 0
                reports = [check(subject, copy, compiler, options.limit, options.guard or [""]) for subject in chosen]
            finally:
                copy.close()
                compiler.close()
    except FlexError as exc:
        show(str(exc))
        return 2
    show_progress("")
    if options.json:
        print(json.dumps(reports, indent=1))
    else:
        columns = ("guards", CAUGHT, LISTED, MISSED, BROKEN, "seconds")
        print(f"\n{'contract':22}" + "".join(f"{column:>{len(column) + 2}}" for column in columns))
        for one in reports:
            print(f"{one['contract']:22}" + "".join(f"{one[column]:>{len(column) + 2}}" for column in columns))
    return int(any(one[MISSED] or one["listedButCaught"] for one in reports))


if __name__ == "__main__":
    sys.exit(main())
