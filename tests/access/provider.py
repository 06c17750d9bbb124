"""An identity provider on a socket whose keys the test holds: it can sign what a real one never would."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "rapid-response"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def jwk(key: PrivateKey, key_id: str | None = None, **more: Any) -> dict[str, Any]:
    public: Any = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        described = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        described = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        described = OKPAlgorithm.to_jwk(public, as_dict=True)
    described.pop("key_ops", None)
    return described | ({"kid": key_id} if key_id else {}) | more


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def segment(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Provider:
    """What it answers can be changed while it runs; `asked` counts how often its keys were."""

    def __init__(self, url: str, key: PrivateKey) -> None:
        self.url = url
        self.key = key
        self.discovery: Any = {"issuer": url, "jwks_uri": f"{url}/keys"}
        self.keys: Any = {"keys": [jwk(key, "first")]}
        self.status = 200
        self.asked = 0

    def answer(self, path: str) -> bytes | None:
        if path == "/keys":
            self.asked += 1
        answers = {"/keys": self.keys, "/.well-known/openid-configuration": self.discovery}
        found = answers.get(path)
        return found if isinstance(found, bytes | None) else json.dumps(found).encode()

    def claims(self, **changed: Any) -> dict[str, Any]:
        """What a good token says; a value of None leaves the claim out."""
        now = int(time.time())
        good = {
            "iss": self.url, "aud": AUDIENCE, "sub": "anna", "iat": now, "exp": now + 300, "roles": ["supervisor"]
        }  # fmt: skip
        return {name: value for name, value in (good | changed).items() if value is not None}

    def token(
        self, *, key: Any = None, algorithm: str = "RS256", key_id: str | None = "first", **changed: Any
    ) -> str:
        headers = {"kid": key_id} if key_id else {}
        return jwt.encode(self.claims(**changed), key or self.key, algorithm=algorithm, headers=headers)


@contextmanager
def provider(key: PrivateKey) -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = running.answer(self.path)
            self.send_response(running.status if body is not None else 404)
            self.send_header("content-length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running = Provider(f"http://127.0.0.1:{server.server_port}", key)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
