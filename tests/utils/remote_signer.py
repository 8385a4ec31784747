"""A signer as a process of its own that speaks the eth1 API of Web3Signer.

``GET /upcheck`` answers ``OK``, ``GET /api/v1/eth1/publicKeys`` the public keys. ``POST /api/v1/eth1/sign/{key}`` with
``{"data": "0x..."}`` answers the signature of the keccak-256 of the data as hex text: r, s, v (27 or 28); 404 for a key
that it has not, 400 for data that are no hex.

Usage: ``python remote_signer.py PORT_FILE KEY_FILE...``; each key file has 32 bytes in hex, the port goes to its file.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from coincurve import PrivateKey
from eth_hash.auto import keccak

SIGN = "/api/v1/eth1/sign/"


def public_key(secret: bytes) -> str:
    """Identifier of a key: its uncompressed public key without the leading 04."""
    return "0x" + PrivateKey(secret).public_key.format(compressed=False)[1:].hex()


def signature(secret: bytes, data: bytes) -> str:
    raw = PrivateKey(secret).sign_recoverable(keccak(data), hasher=None)
    return "0x" + raw[:64].hex() + bytes((raw[64] + 27,)).hex()


class Handler(BaseHTTPRequestHandler):
    keys: dict[str, bytes]

    def do_GET(self) -> None:
        if self.path == "/upcheck":
            self._answer(200, "OK")
        elif self.path == "/api/v1/eth1/publicKeys":
            self._answer(200, json.dumps(list(self.keys)), "application/json")
        else:
            self._answer(404, "")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        secret = self.keys.get(self.path.removeprefix(SIGN))
        if not self.path.startswith(SIGN) or secret is None:
            self._answer(404, "Public Key not found")
            return
        try:
            data = bytes.fromhex(json.loads(body)["data"].removeprefix("0x"))
        except (ValueError, KeyError, AttributeError):
            self._answer(400, "Bad request format")
            return
        self._answer(200, self.sign(secret, data))

    def sign(self, secret: bytes, data: bytes) -> str:
        return signature(secret, data)

    def _answer(self, status: int, text: str, kind: str = "text/plain") -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """A signer says nothing about what it signs."""


def main(port_file: Path, key_files: list[Path]) -> None:
    secrets = [bytes.fromhex(path.read_text()) for path in key_files]
    Handler.keys = {public_key(secret): secret for secret in secrets}
    port = int(port_file.read_text()) if port_file.exists() else 0
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    port_file.write_text(str(server.server_port))
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
