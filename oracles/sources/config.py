"""What the configurations of sources share: meter ids, time zones, and secrets that are only named."""

import os
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationInfo, model_validator

from offchain.domain.errors import PermanentError


def _meter_id(value: object) -> object:
    if isinstance(value, str):
        try:
            value = bytes.fromhex(value.removeprefix("0x"))
        except ValueError as exc:
            raise ValueError("a meter id is written as 64 hexadecimal digits") from exc
    if isinstance(value, bytes) and len(value) != 32:
        raise ValueError(f"a meter id has 32 bytes, not {len(value)}")
    return value


MeterId = Annotated[bytes, BeforeValidator(_meter_id)]
"""Salted commitment to a meter's serial number: 32 bytes, hexadecimal in files."""


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as exc:
        raise ValueError(f"no time zone is called {name!r}; write it like Europe/Rome") from exc
    return name


Zone = Annotated[str, AfterValidator(_known_zone)]
"""Name of the time zone in which a system writes times without offset."""


def anchored(path: Path, info: ValidationInfo) -> Path:
    """The path as seen from the folder of the file that names it, absolute: seen again, it stays where it is."""
    folder = (info.context or {}).get("folder")
    return path if folder is None or path.is_absolute() else (folder / path).absolute()


SitePath = Annotated[Path, AfterValidator(anchored)]
"""A path that is relative to the file that names it; who validates says where that is, as context ``folder``."""


def _anchored_name(name: str, info: ValidationInfo) -> str:
    return str(anchored(Path(name), info)) if name.endswith(".toml") else name


DataName = Annotated[str, AfterValidator(_anchored_name)]
"""Name of a map or mapping that comes with the package, or the path of a .toml file as :data:`SitePath`."""


class Secret(BaseModel, extra="forbid", frozen=True):
    """Where a password or token is found; it never stands in a configuration itself.

    Attributes
    ----------
    file : Path
    env : str
        Name of an environment variable.
    credential : str
        Name of a file in the folder that ``CREDENTIALS_DIRECTORY`` names: what systemd decrypts for a unit, or a
        container is given as secrets.
    """

    file: SitePath | None = None
    env: str | None = None
    credential: str | None = Field(default=None, pattern=r"^[\w.-]+$")

    @model_validator(mode="after")
    def _one_place(self) -> "Secret":
        if (self.file, self.env, self.credential).count(None) != 2:
            raise ValueError("name either a file, an environment variable (env) or a credential")
        return self

    def read(self) -> str:
        """The secret, without surrounding blanks."""
        if self.env is not None:
            value, where = os.environ.get(self.env, ""), f"environment variable {self.env}"
        else:
            path = self.file or self._credential_file()
            where = f"file {path}"
            try:
                value = path.read_text(encoding="utf-8")
            except OSError as exc:
                raise PermanentError(
                    f"secret in {where} cannot be read: {exc.strerror}",
                    hint="make this file, readable by the user of the oracle alone",
                ) from exc
        if not value.strip():
            raise PermanentError(f"secret in {where} is empty", hint="put the password or token there")
        return value.strip()

    def _credential_file(self) -> Path:
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            raise PermanentError(
                f"no folder with credential {self.credential}: CREDENTIALS_DIRECTORY is not set",
                hint="systemd sets it for the unit; by hand name the folder that holds this file",
            )
        return Path(folder) / self.credential
