"""An MQTT broker for tests: Mosquitto when it is installed, else Aedes under Node (decision 0042)."""

import getpass
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HERE = Path(__file__).parent
START_S = 20


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
    host: str
    port: int
    process: subprocess.Popen


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
    port: int = 0,
    username: str | None = None,
    password: str | None = None,
    certificates: Certificates | None = None,
    forbidden: str | None = None,
) -> Iterator[Broker]:
    """A broker on a free port of 127.0.0.1 that keeps sessions in memory until it ends.

    Parameters
    ----------
    username, password : str, optional
        The only credentials that it accepts; anybody may connect when they are missing.
    certificates : Certificates, optional
        TLS with the server's certificate; clients must show one of the same authority.
    forbidden : str, optional
        Topic that nobody may subscribe to. Mosquitto would accept the subscription and deliver nothing, so that this
        is always Aedes.
    """
    port = port or _free_port()
    if shutil.which("mosquitto") and forbidden is None:
        process = _mosquitto(folder, port, username, password, certificates)
    else:
        process = _aedes(port, username, password, certificates, forbidden)
    try:
        yield Broker("127.0.0.1", port, process)
    finally:
        process.terminate()
        process.wait(10)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _aedes(
    port: int, username: str | None, password: str | None, certificates: Certificates | None, forbidden: str | None
) -> subprocess.Popen:
    options = {"port": port, "username": username, "password": password, "forbidden": forbidden}
    if certificates is not None:
        options["tls"] = {name: str(getattr(certificates, name)) for name in ("ca", "certificate", "key")}
    process = subprocess.Popen(
        ["node", str(HERE / "broker.mjs"), json.dumps(options)],
        stdin=subprocess.PIPE,  # its end ends the broker, even when this process is killed
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("the broker did not start: is the npm package aedes installed?")
    return process


def _mosquitto(
    folder: Path, port: int, username: str | None, password: str | None, certificates: Certificates | None
) -> subprocess.Popen:
    lines = [f"user {getpass.getuser()}", f"listener {port} 127.0.0.1", "persistence false"]
    lines += ["max_queued_messages 0", "max_inflight_messages 0"]
    lines.append(f"allow_anonymous {'true' if username is None else 'false'}")
    if username is not None:
        passwords = folder / "mosquitto.passwords"
        subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), username, password], check=True)
        passwords.chmod(0o600)
        lines.append(f"password_file {passwords}")
    if certificates is not None:
        lines += [f"cafile {certificates.ca}", f"certfile {certificates.certificate}", f"keyfile {certificates.key}"]
        lines.append("require_certificate true")
    config = folder / f"mosquitto-{port}.conf"
    config.write_text("\n".join(lines) + "\n")
    process = subprocess.Popen(["mosquitto", "-c", str(config)], stderr=subprocess.DEVNULL)
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.05)
    process.kill()
    raise RuntimeError("Mosquitto did not start")
