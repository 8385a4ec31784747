"""An MQTT broker for tests: Mosquitto, and where it cannot be installed Aedes under Node (decision 0042)."""

import getpass
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.utils.debian import find_program, may_install, need_program

HERE = Path(__file__).parent
START_S = 20
MOSQUITTO, AEDES = "mosquitto", "aedes"

_SUPERVISOR = '"$@" </dev/null & echo $!; read -r _; kill $! && wait $!'
"""Ends the broker with its standard input, so that it does not outlive a process that was killed."""


@cache
def mosquitto() -> str | None:
    """Path of Mosquitto, installed when it is missing; None where that cannot be done."""
    try:
        return need_program(MOSQUITTO, MOSQUITTO, service=MOSQUITTO)
    except RuntimeError:
        return None


def describe_brokers() -> str:
    """One line for the head of a test run; installs nothing."""
    if (found := find_program(MOSQUITTO)) is not None:
        return f"MQTT brokers: Mosquitto ({found}) and Aedes"
    if may_install():
        return "MQTT brokers: Mosquitto, to be installed when a test needs it, and Aedes"
    return "MQTT brokers: Aedes alone, Mosquitto is not installed (apt-get install mosquitto, as root)"


@dataclass(frozen=True)
class Certificates:
    """PEM files of a test authority, a server at 127.0.0.1 and a client."""

    ca: Path
    certificate: Path
    key: Path
    client_certificate: Path
    client_key: Path


@dataclass(frozen=True)
class Broker:
    kind: str
    host: str
    port: int
    pid: int

    def kill(self) -> None:
        """End it as a power cut would."""
        os.kill(self.pid, signal.SIGKILL)


def make_certificates(folder: Path) -> Certificates:
    """Certificates that are valid for an hour."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])

    def signed(name: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_ca: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        )
        if is_ca:
            unused = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
            usage = dict.fromkeys((*unused, "key_agreement", "encipher_only", "decipher_only"), False)
            usage |= {"key_cert_sign": True, "crl_sign": True}
            builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
        return builder.sign(ca_key, hashes.SHA256())

    def write(name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
        paths = folder / f"{name}.pem", folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths

    ca, _ = write("ca", signed(ca_name, ca_key, is_ca=True), ca_key)
    files = []
    for name in ("server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        files += write(name, signed(subject, key, is_ca=False), key)
    return Certificates(ca, *files)


@contextmanager
def running_broker(
    folder: Path,
    *,
    kind: str | None = None,
    port: int = 0,
    username: str | None = None,
    password: str | None = None,
    certificates: Certificates | None = None,
    forbidden: str | None = None,
    settings: Sequence[str] = (),
) -> Iterator[Broker]:
    """A broker on a free port of 127.0.0.1.

    Parameters
    ----------
    kind : str, optional
        ``mosquitto`` or ``aedes``; Mosquitto where it can be had unless given.
    username, password : str, optional
        The only credentials that it accepts; anybody may connect when they are missing.
    certificates : Certificates, optional
        TLS with the server's certificate; clients must show one of the same authority.
    forbidden : str, optional
        Topic whose subscription it refuses. With Mosquitto that takes the plugin for dynamic security.
    settings : sequence of str, optional
        More lines of Mosquitto's configuration. Without any, sessions live in memory as long as the broker, and nothing
        bounds what is in flight or queued.
    """
    port = port or _free_port()
    kind = kind or (AEDES if mosquitto() is None else MOSQUITTO)
    if kind == MOSQUITTO:
        config = _mosquitto_config(folder, port, username, password, certificates, forbidden, settings)
        command = ["/bin/sh", "-c", _SUPERVISOR, "broker", mosquitto(), "-c", str(config)]
    else:
        options = {"port": port, "username": username, "password": password, "forbidden": forbidden}
        if certificates is not None:
            options["tls"] = {name: str(getattr(certificates, name)) for name in ("ca", "certificate", "key")}
        command = ["node", str(HERE / "broker.mjs"), json.dumps(options)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        pid = int(process.stdout.readline() or 0)
        _wait_until_it_listens(kind, port, process)
        yield Broker(kind, "127.0.0.1", port, pid)
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_it_listens(kind: str, port: int, process: subprocess.Popen) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"{kind} did not start")


def _mosquitto_config(
    folder: Path,
    port: int,
    username: str | None,
    password: str | None,
    certificates: Certificates | None,
    forbidden: str | None,
    settings: Sequence[str],
) -> Path:
    lines = [f"user {getpass.getuser()}", f"listener {port} 127.0.0.1", *settings]
    if not settings:
        lines += ["persistence false", "max_queued_messages 0", "max_inflight_messages 0"]
    lines.append(f"allow_anonymous {'true' if username is None else 'false'}")
    if username is not None:
        passwords = folder / "mosquitto.passwords"
        command = [need_program(MOSQUITTO, "mosquitto_passwd"), "-b", "-c", str(passwords), username, password]
        subprocess.run(command, check=True)
        passwords.chmod(0o600)
        lines.append(f"password_file {passwords}")
    if certificates is not None:
        lines += [f"cafile {certificates.ca}", f"certfile {certificates.certificate}", f"keyfile {certificates.key}"]
        lines.append("require_certificate true")
    if forbidden is not None:
        (plugin,) = Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")
        rules = folder / "dynamic-security.json"
        rules.write_text(json.dumps(_all_but(forbidden)))
        lines += [f"plugin {plugin}", f"plugin_opt_config_file {rules}"]
    config = folder / f"mosquitto-{port}.conf"
    config.write_text("\n".join(lines) + "\n")
    return config


def _all_but(topic: str) -> dict:
    """Rules of Mosquitto's plugin for dynamic security: everybody may do everything but subscribe to ``topic``."""
    kinds = ("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe")
    return {
        "defaultACLAccess": dict.fromkeys(kinds, True),
        "anonymousGroup": "anybody",
        "groups": [{"groupname": "anybody", "roles": [{"rolename": "guest"}], "clients": []}],
        "roles": [{"rolename": "guest", "acls": [{"acltype": "subscribeLiteral", "topic": topic, "allow": False}]}],
    }
