"""Programs that tests need and that come as Debian packages: looked for, else installed where the user may."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSTALL_S = 600
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
"""Servers are in directories that a user's PATH leaves out."""

NO_SERVICES = Path("/usr/sbin/policy-rc.d")
"""While it is there and ends with 101, packages start none of their services."""


def find_program(*names: str) -> str | None:
    """Path of the first program that there is."""
    return next((path for name in names if (path := shutil.which(name, path=PATH))), None)


def may_install() -> bool:
    """Whether this user can install Debian packages on this machine."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def need_program(package: str, *names: str, service: str | None = None) -> str:
    """Path of a program; installs its package when there is none and the user may.

    Parameters
    ----------
    package : str
        Debian's package; ``names`` are what its program may be called.
    service : str, optional
        Service that the package would start now and with the machine, and that shall not run.

    Raises
    ------
    RuntimeError
        No such program, and no way to install it.
    """
    if (found := find_program(*names)) is None and may_install():
        with _alone():
            if (found := find_program(*names)) is None:
                _install(package, service)
                found = find_program(*names)
    if found is None:
        raise RuntimeError(f"no {names[0]} on this machine (install it: apt-get install {package}, as root)")
    return found


def _install(package: str, service: str | None) -> None:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": INSTALL_S, "check": False}
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
            subprocess.run(["apt-get", "-o", "DPkg::Lock::Timeout=120", *command], env=environment, **quiet)
    if service is not None and shutil.which("systemctl"):
        subprocess.run(["systemctl", "disable", service], **quiet)


@contextmanager
def _alone() -> Iterator[None]:
    """Test processes beside this one wait instead of failing on the locks of apt."""
    with open(Path(tempfile.gettempdir()) / "gridpact-tests-apt.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _no_services() -> Iterator[None]:
    if NO_SERVICES.exists():  # the administrator's own rule
        yield
        return
    NO_SERVICES.write_text("#!/bin/sh\nexit 101\n")
    NO_SERVICES.chmod(0o755)
    try:
        yield
    finally:
        NO_SERVICES.unlink()
