"""Meter ids, secrets and paths as configurations name them."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from offchain.domain.errors import PermanentError
from oracles.sources.config import MeterId, Secret, SitePath


class Site(BaseModel):
    meter: MeterId = bytes(32)
    path: SitePath = Path("x")
    secret: Secret | None = None


@pytest.mark.parametrize("text", ["ab" * 32, "0x" + "AB" * 32])
def test_meter_id_is_read_from_hexadecimal(text):
    assert Site(meter=text).meter == b"\xab" * 32


@pytest.mark.parametrize(
    ("value", "message"), [("zz", "64 hexadecimal digits"), ("ab", "32 bytes, not 1"), (5, "bytes")]
)
def test_meter_id_is_refused_when_it_is_none(value, message):
    with pytest.raises(ValidationError, match=message):
        Site(meter=value)


def test_paths_are_relative_to_the_file_that_names_them(tmp_path):
    site = Site.model_validate({"path": "a/b", "secret": {"file": "password"}}, context={"folder": tmp_path})
    assert site.path == tmp_path / "a/b" and site.secret.file == tmp_path / "password"
    assert Site.model_validate({"path": "/a"}, context={"folder": tmp_path}).path == Path("/a")
    assert Site(path="a").path == Path("a")


def test_secret_is_read_from_file_or_environment(tmp_path, monkeypatch):
    (tmp_path / "password").write_text(" right \n")
    monkeypatch.setenv("SITE_PASSWORD", "right")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    secrets = Secret(file=tmp_path / "password"), Secret(env="SITE_PASSWORD"), Secret(credential="password")
    assert {secret.read() for secret in secrets} == {"right"}


def test_secret_raises_without_saying_it_when_it_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "empty").write_text("\n")
    monkeypatch.delenv("SITE_PASSWORD", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    for secret, message in [
        (Secret(file=tmp_path / "empty"), "is empty"),
        (Secret(file=tmp_path / "none"), "cannot be read"),
        (Secret(env="SITE_PASSWORD"), "environment variable SITE_PASSWORD is empty"),
        (Secret(credential="operator"), "no folder with credential operator: CREDENTIALS_DIRECTORY is not set"),
    ]:
        with pytest.raises(PermanentError, match=message):
            secret.read()


@pytest.mark.parametrize("secret", [{}, {"file": "a", "env": "B"}, {"env": "B", "credential": "c"}])
def test_secret_is_refused_when_it_has_no_one_place(secret):
    with pytest.raises(ValidationError, match="either a file, an environment variable"):
        Secret(**secret)
