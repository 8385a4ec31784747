"""What docs/operations gives to an engineer works: site file of the guide, systemd unit, container file.

unit: systemd takes every line of it; its command, with its paths moved, runs the daemon until SIGTERM
container file: every source is there, its packages are pinned, its health check and entry point work; long: the
image is built and runs the daemon as its own user until SIGTERM
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from offchain.chain.anvil import Anvil
from oracles.config import load_site
from tests.oracles.siteworld import deploy, write_site
from tests.utils.debian import need_program

ROOT = Path(__file__).parents[2]
OPERATIONS = ROOT / "docs" / "operations"
UNIT = OPERATIONS / "gridpact-oracle@.service"
INSTALLED = "/opt/gridpact/bin/gridpact"

OPTIONS = {
    "Unit": {"Description", "Wants", "After", "StartLimitIntervalSec"},
    "Service": {
        *("Type", "User", "Group", "WorkingDirectory", "ExecStart", "LoadCredentialEncrypted", "Restart", "RestartSec"),
        *("TimeoutStopSec", "KillSignal", "ReadWritePaths", "UMask", "RemoveIPC", "NoNewPrivileges", "LockPersonality"),
        *(f"Protect{what}" for what in ("System", "Home", "Proc", "Clock", "Hostname", "ControlGroups")),
        *(f"ProtectKernel{what}" for what in ("Logs", "Modules", "Tunables")),
        *("PrivateTmp", "PrivateDevices", "CapabilityBoundingSet", "SystemCallArchitectures", "SystemCallFilter"),
        *(f"Restrict{what}" for what in ("AddressFamilies", "Namespaces", "Realtime", "SUIDSGID")),
    },
    "Install": {"WantedBy"},
}
"""Where each option belongs, from systemd.unit(5), systemd.service(5) and systemd.exec(5)."""


def unit_lines():
    """(section, option, value) of every line."""
    section, found = "", []
    for line in UNIT.read_text().splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
        elif line and not line.startswith("#"):
            option, value = line.split("=", 1)
            found.append((section, option, value))
    return found


def test_unit_has_only_options_that_systemd_knows(tmp_path):
    unknown = [(section, option) for section, option, _ in unit_lines() if option not in OPTIONS.get(section, ())]
    assert unknown == []
    if shutil.which("systemd-analyze") is None:
        return  # what is above holds everywhere; where systemd is, it decides
    text = UNIT.read_text()
    assert INSTALLED in text
    program = tmp_path / "gridpact"  # no space in its path, whatever the path of the interpreter
    program.symlink_to(sys.executable)
    (tmp_path / UNIT.name).write_text(text.replace(INSTALLED, str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / UNIT.name)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_until_healthy(port, process):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with opener.open(f"http://127.0.0.1:{port}/health", timeout=5) as response:
                return json.loads(response.read())
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"not healthy, {process.poll()}")


def instructions():
    """(instruction, rest) of every line of the container file."""
    lines = (OPERATIONS / "Containerfile").read_text().splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line and not line.startswith("#")]


def only(name):
    (value,) = [rest for instruction, rest in instructions() if instruction == name]
    return value


def test_unit_and_container_run_the_daemon_until_they_are_told_to_stop(tmp_path):
    settings = {option: value for _, option, value in unit_lines()}
    command = shlex.split(settings["ExecStart"])
    entry = json.loads(only("ENTRYPOINT"))
    assert (command[0], entry[0]) == (INSTALLED, "gridpact")
    assert command[1:-1] == entry[1:-1] == ["oracle", "run", "--config"]
    assert (settings["KillSignal"], only("STOPSIGNAL")) == ("SIGTERM", "SIGTERM")
    program = [sys.executable, "-m", "offchain.cli.main"]
    with Anvil() as node:
        deploy(node, tmp_path)
        path, port = write_site(tmp_path, [node.url]), free_port()
        path.write_text(path.read_text().replace("port = 0", f"port = {port}"))
        moved = str(tmp_path / command[-1].replace("%i", "site").removeprefix("/etc/gridpact/"))
        process = subprocess.Popen(
            [*program, *command[1:-1], moved],
            cwd=tmp_path,
            stderr=subprocess.DEVNULL,
            umask=int(settings["UMask"], 8),
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        try:
            assert wait_until_healthy(port, process)["ok"]
            check = json.loads(only("HEALTHCHECK").split(" CMD ")[1])
            check = [sys.executable, *(part.replace("127.0.0.1:8787", f"127.0.0.1:{port}") for part in check[1:])]
            assert subprocess.run(check, timeout=60).returncode == 0
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(int(settings["TimeoutStopSec"])) == 0
        assert subprocess.run(check, timeout=60, stderr=subprocess.DEVNULL).returncode != 0
        assert (tmp_path / "site.db").stat().st_mode & 0o077 == 0


def test_container_file_copies_what_is_there_and_installs_what_is_pinned():
    copies = [rest.split() for name, rest in instructions() if name == "COPY"]
    sources = [part for parts in copies if not parts[0].startswith("--from") for part in parts[:-1]]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {project["readme"], *project["license-files"], "pyproject.toml", "constraints.txt"} <= set(sources)
    (extras,) = [m[1] for name, rest in instructions() if name == "RUN" if (m := re.search(r"/src\[(.*?)\]", rest))]
    wanted = project["dependencies"] + [r for e in extras.split(",") for r in project["optional-dependencies"][e]]
    pinned = {
        line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    assert {re.split(r"[\[<>=]", requirement)[0].lower() for requirement in wanted} <= pinned


def test_guide_has_a_site_file_that_is_read(tmp_path):
    (text,) = re.findall(r"## site\.toml\n\n```toml\n(.*?)```", (OPERATIONS / "oracle.md").read_text(), re.DOTALL)
    (tmp_path / "site.toml").write_text(text)
    site = load_site(tmp_path / "site.toml")
    assert [device.kind for device in site.device] == ["modbus"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The container file's daemon as a command: what to run, given a site's folder and arguments.

    In an image where Buildah can be had (no daemon, no registry), else from its RUN steps in a virtual environment.
    """
    folder = tmp_path_factory.mktemp("image")
    try:
        buildah = need_program("buildah", "buildah")
        mmdebstrap = need_program("mmdebstrap", "mmdebstrap")
    except RuntimeError:
        yield _in_a_virtual_environment(folder)
        return
    command = [buildah, "--root", folder / "storage", "--runroot", folder / "run", "--storage-driver", "vfs"]
    try:
        yield _in_an_image([str(part) for part in command], mmdebstrap, folder)
    finally:
        shutil.rmtree(folder)  # gigabytes


def _in_an_image(buildah, mmdebstrap, folder):
    def run(*command, **more):
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=1_800, **more)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3_000:]
        return done.stdout.strip()

    base, build = "localhost/debian-python", [*buildah, "bud", "--isolation", "chroot", "--format", "docker"]
    packages = "python3,python3-venv,ca-certificates"
    run(mmdebstrap, "--variant=minbase", f"--include={packages}", "bookworm", folder / "base.tar")
    (folder / "Containerfile").write_text("FROM scratch\nADD base.tar /\n")
    run(*build, "-t", base, "-f", folder / "Containerfile", folder)
    trusted = Path("/etc/ssl/certs")  # a package index may be signed by an authority that only this machine knows
    volumes = ["--volume", f"{trusted}:{trusted}:ro"] if trusted.is_dir() else []
    run(*build, *volumes, "--build-arg", f"BASE={base}", "-f", OPERATIONS / "Containerfile", "-t", "oracle", ROOT)
    container = run(*buildah, "from", "--pull-never", "localhost/oracle")
    (user,) = re.findall(r"^RUN useradd --system --uid (\d+)", (OPERATIONS / "Containerfile").read_text(), re.MULTILINE)

    def command(site, *arguments):
        for path in (site, *site.iterdir()):
            os.chown(path, int(user), 0)
        return [*buildah, "run", "--isolation", "chroot", "-v", f"{site}:/site", container, "--", *arguments]

    return command


def _in_a_virtual_environment(folder):
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            *parts, target = rest.split()
            for part in parts:
                moved = folder / target.lstrip("/") / ("" if target.endswith("/") else ".")
                moved.mkdir(parents=True, exist_ok=True)
                if (ROOT / part).is_dir():
                    shutil.copytree(ROOT / part, moved, dirs_exist_ok=True)
                else:
                    shutil.copy(ROOT / part, moved)
        elif name == "RUN" and not rest.startswith("useradd"):
            step = re.sub(r"(?<![\w.])/(src|opt)\b", rf"{folder}/\1", rest)
            subprocess.run(step, shell=True, check=True, cwd=folder, timeout=1_500)
    program = folder / "opt" / "gridpact" / "bin"

    def command(site, *arguments):
        return [str(program / arguments[0]), *(part.replace("/site/", f"{site}/") for part in arguments[1:])]

    return command


def descendants(pid):
    """Processes below one, by its name in /proc; the last is the innermost."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(") ", 1)[1].split()[1])
    found = [child for child, parent in sorted(parents.items()) if parent == pid]
    return found + [below for child in found for below in descendants(child)]


@pytest.mark.long
def test_image_runs_the_daemon_as_its_own_user_until_it_is_told_to_stop(installed, tmp_path):
    entry = json.loads(only("ENTRYPOINT"))
    # What this process has set for itself, such as the hash that it found here, says nothing of the installation.
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with Anvil() as node:
        deploy(node, tmp_path)
        path, port = write_site(tmp_path, [node.url]), free_port()
        path.write_text(path.read_text().replace("port = 0", f"port = {port}"))
        none = [*entry[:-1], "/site/none.toml"]
        done = subprocess.run(
            installed(tmp_path, *none), capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300
        )
        assert "none.toml: No such file" in done.stderr
        assert done.returncode == 2
        process = subprocess.Popen(
            installed(tmp_path, *entry), stderr=subprocess.DEVNULL, cwd=tmp_path, env=environment
        )
        try:
            assert wait_until_healthy(port, process)["ok"]
            check = json.loads(only("HEALTHCHECK").split(" CMD ")[1].replace("127.0.0.1:8787", f"127.0.0.1:{port}"))
            assert subprocess.run(installed(tmp_path, *check), env=environment, timeout=300).returncode == 0
        finally:
            os.kill([process.pid, *descendants(process.pid)][-1], signal.SIGTERM)
            assert process.wait(90) == 0
