"""Programs that come as Debian packages.

there already → its path, nothing runs
not there: user may not → error that says what to install; user may → installed, none of its services starts, now or
with the machine; the rule that keeps them from it is the administrator's, or gone afterwards
"""

import pytest

from tests.utils import debian
from tests.utils.debian import need_program


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of root without the program: what ran on it, with the services' rule at that moment."""
    there, ran = {"apt-get", "systemctl"}, []

    def run(command, **_):
        rule = debian.NO_SERVICES
        ran.append((command[0], command[-1], rule.read_text() if rule.exists() else None))
        if command[0] == "apt-get" and "install" in command:
            there.add("mosquitto")

    monkeypatch.setattr(debian, "NO_SERVICES", tmp_path / "policy-rc.d")
    monkeypatch.setattr(debian.os, "geteuid", lambda: 0)
    monkeypatch.setattr(debian.subprocess, "run", run)
    monkeypatch.setattr(debian.shutil, "which", lambda name, path=None: f"/usr/bin/{name}" if name in there else None)
    return there, ran


def test_need_program_runs_nothing_when_it_is_there(machine):
    there, ran = machine
    there.add("google-chrome")
    assert need_program("chromium", "chromium", "google-chrome") == "/usr/bin/google-chrome"
    assert ran == []


def test_need_program_says_what_to_install_when_the_user_may_not(machine, monkeypatch):
    monkeypatch.setattr(debian.os, "geteuid", lambda: 1000)
    with pytest.raises(RuntimeError, match=r"no mosquitto on this machine \(install it: apt-get install mosquitto, as"):
        need_program("mosquitto", "mosquitto")
    assert machine[1] == []


def test_need_program_says_what_to_install_when_installing_failed(machine):
    with pytest.raises(RuntimeError, match="apt-get install chromium"):
        need_program("chromium", "chromium")


def test_need_program_starts_no_service_when_it_installs(machine):
    assert need_program("mosquitto", "mosquitto", service="mosquitto") == "/usr/bin/mosquitto"
    forbids = "#!/bin/sh\nexit 101\n"
    assert machine[1] == [
        ("apt-get", "update", forbids),
        ("apt-get", "mosquitto", forbids),
        ("systemctl", "mosquitto", None),
    ]
    assert not debian.NO_SERVICES.exists()


def test_need_program_leaves_the_rule_of_the_administrator_alone(machine):
    debian.NO_SERVICES.write_text("#!/bin/sh\nexit 0\n")
    need_program("mosquitto", "mosquitto")
    assert {rule for _, _, rule in machine[1]} == {"#!/bin/sh\nexit 0\n"}
    assert debian.NO_SERVICES.exists()
