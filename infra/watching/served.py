"""The watch port of a process: /livez, /readyz, /metrics, served by a thread of its own.

A thread, because a loop that no longer turns could not say so itself. The server is the standard library's, the
metrics' form is prometheus_client's, which knows Prometheus' text and OpenMetrics.
"""

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from infra.watching import metrics as m
from infra.watching.metrics import Metrics
from infra.watching.pulse import Pulse

LOOK_S: Final = 0.2
ANSWER_S: Final = 5.0
"""A client that is slower than that is let go."""
MOST_AT_ONCE: Final = 16
"""Connections; what comes on top waits in the system's queue."""

Start = Callable[[str, list[tuple[str, str]]], Any]


class _Handler(WSGIRequestHandler):
    timeout = ANSWER_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Nobody wants a line for each look."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._room = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Unlike the library's, it does not look its own name up, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._room.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of our business."""


class Port:
    """What is asked of a process and answered from its pulse and metrics. `before` is called when metrics are."""

    def __init__(
        self, name: str, pulse: Pulse, metrics: Metrics, before: Callable[[], None] = lambda: None
    ) -> None:
        self._name = name
        self._before = before
        self._pulse = pulse
        self._metrics = metrics
        self._metrics_app: Any = make_wsgi_app(metrics.registry)

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return _say(start, HTTPStatus.METHOD_NOT_ALLOWED, {"error": "Only GET is answered here."})
        if path == "/metrics":
            self._note()
            found: Iterable[bytes] = self._metrics_app(environ, start)
            return found
        if path in ("/livez", "/readyz"):
            return self._health(path, start)
        known = "There are /livez, /readyz and /metrics."
        return _say(start, HTTPStatus.NOT_FOUND, {"error": known})

    def _health(self, path: str, start: Start) -> Iterable[bytes]:
        dead = self._pulse.dead()
        wrong = self._pulse.not_ready() if path == "/readyz" else ({"loop": dead} if dead else {})
        word = "ready" if path == "/readyz" else "live"
        said = {"process": self._name, word: not wrong, "not_" + word: wrong}
        return _say(start, HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK, said)

    def _note(self) -> None:
        self._before()
        wrong = self._pulse.not_ready()
        for part in self._pulse.parts:
            self._metrics.set(m.READY, part not in wrong, part)


def _say(start: Start, status: HTTPStatus, said: dict[str, Any]) -> Iterable[bytes]:
    body = json.dumps(said, indent=2).encode() + b"\n"
    kind = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start(f"{status.value} {status.phrase}", kind)
    return [body]


@contextlib.contextmanager
def served(host: str, port: int, app: Port) -> Iterator[int]:
    """Serve meanwhile; yields the port. Raises OSError when it cannot be had."""
    server = _Server((host, port))
    server.set_app(app)
    thread = threading.Thread(target=server.serve_forever, args=(LOOK_S,), name="watch port", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
