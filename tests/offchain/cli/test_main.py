"""app_main: FlexError → its message, hint and code; anything else → one line too; Ctrl-C → 130; --debug → raised"""

import subprocess
import sys

import pytest

from offchain.cli import main
from offchain.domain.errors import ChainError


@pytest.fixture(autouse=True)
def _no_debug(monkeypatch):
    monkeypatch.setattr(main._Mode, "debug", False)


def _exit_code(monkeypatch, error):
    def app(**_):
        raise error

    monkeypatch.setattr(main, "app", app)
    with pytest.raises(SystemExit) as caught:
        main.app_main()
    return caught.value.code


def test_app_main_prints_message_and_hint(monkeypatch, capsys):
    assert _exit_code(monkeypatch, ChainError("no node", hint="start one")) == 4
    assert capsys.readouterr().err == "error: no node\nhint: start one\n"


def test_app_main_prints_no_hint_when_there_is_none(monkeypatch, capsys):
    assert _exit_code(monkeypatch, ChainError("no node")) == 4
    assert capsys.readouterr().err == "error: no node\n"


def test_app_main_prints_one_line_when_the_error_is_unexpected(monkeypatch, capsys):
    assert _exit_code(monkeypatch, ValueError("two\nlines")) == main.UNEXPECTED
    assert capsys.readouterr().err.splitlines()[0] == "error: unexpected ValueError: two lines"


def test_app_main_ends_with_130_when_interrupted(monkeypatch):
    assert _exit_code(monkeypatch, KeyboardInterrupt()) == 130


def test_app_main_raises_when_debugging(monkeypatch):
    monkeypatch.setattr(main._Mode, "debug", True)

    def app(**_):
        raise ChainError("no node")

    monkeypatch.setattr(main, "app", app)
    with pytest.raises(ChainError):
        main.app_main()


def test_import_of_main_leaves_heavy_packages_alone():
    code = "import sys, offchain.cli.main; print(*(m for m in ('web3', 'pandas', 'numpy') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["pilot", "--seed", "-1"], "Invalid value for '--seed'"),
        (["pilot", "--sed", "1"], "No such option: --sed"),
        (["plot"], "No such command 'plot'"),
    ],
)
def test_usage_error_is_one_line_and_a_hint(arguments, fault):
    command = [sys.executable, "-m", "offchain.cli.main", *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    lines = run.stderr.splitlines()
    assert (run.returncode, run.stdout, len(lines)) == (2, "", 2)
    assert lines[0].startswith(f"error: {fault}")
    assert lines[1].startswith("hint: see `")
