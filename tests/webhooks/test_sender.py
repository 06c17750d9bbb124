"""One attempt, against real sockets: within its time and bounds, to the checked address and nowhere else."""

import asyncio
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from connectors.webhooks.guard import Borders, Resolve, parse_networks, parse_ports, resolve_by_system
from connectors.webhooks.schedule import Answer, is_delivered
from connectors.webhooks.sender import Sender, Timeouts, trusted_authorities
from tests.webhooks.receiver import answering, endless, hanging, hanging_up, receiving, saying, until

LOCAL = Borders(parse_networks("127.0.0.1/32"), plain_http=True, ports=parse_ports("any"))
QUICK = Timeouts(connect_s=1.0, total_s=1.0)
BODY = '{"data":{"version":1}}'


def sender(
    borders: Borders = LOCAL, resolve: Resolve = resolve_by_system, timeouts: Timeouts = QUICK,
    trusted: ssl.SSLContext | None = None,
) -> Sender:  # fmt: skip
    return Sender(borders, timeouts, resolve, trusted or trusted_authorities(None))


def names(*answers: Sequence[str]) -> Resolve:
    """A name server that answers one after the other, and the last for ever."""
    left = list(answers)

    async def resolve(host: str, port: int) -> Sequence[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


async def test_body_and_headers_arrive_as_they_are_and_host_is_the_urls() -> None:
    async with receiving() as receiver:
        url = receiver.url("receiver.example")
        answer = await sender(resolve=names(["127.0.0.1"])).send(url, BODY, {"webhook-id": "msg_1"})
    assert (answer.kind, answer.status) == ("answered", 204)
    (got,) = receiver.received
    assert (got.path, got.body) == ("/hook", BODY)
    assert got.headers["host"] == f"receiver.example:{receiver.port}"
    assert got.headers["webhook-id"] == "msg_1"


async def test_a_receiver_that_hangs_costs_no_more_than_the_timeout() -> None:
    release = asyncio.Event()
    async with receiving() as receiver:
        receiver.always = hanging(release)
        answer = await sender(timeouts=Timeouts(1.0, 0.3)).send(receiver.url(), BODY, {})
        release.set()
    assert answer == Answer("timed_out", None, None, "There was no answer within 0.3 s.", answer.duration_ms)
    assert 300 <= answer.duration_ms < 3000


async def test_a_name_server_that_hangs_is_within_the_timeout() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    answer = await sender(resolve=resolve, timeouts=Timeouts(1.0, 0.2)).send("http://x.example/", BODY, {})
    assert answer.kind == "timed_out"


async def test_a_redirect_is_not_followed() -> None:
    async with receiving() as receiver:
        receiver.always = answering(307, "Location: http://127.0.0.1:1/")
        answer = await sender().send(receiver.url(), BODY, {})
        assert len(receiver.received) == 1
    assert answer.status == 307
    assert not is_delivered(answer)
    assert "redirects are not followed" in answer.sentence


async def test_an_endless_body_is_not_read_and_the_status_counts() -> None:
    async with receiving() as receiver:
        receiver.always = endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536)
        answer = await sender(timeouts=Timeouts(1.0, 5.0)).send(receiver.url(), BODY, {})
        assert answer.status == 200
        await until(lambda: not receiver.open)  # we hung up: the receiver notices


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"x" * 4000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65_536),
    ],
    ids=["headers without end", "one header without end"],
)
async def test_headers_are_bounded(start: bytes, piece: bytes) -> None:
    async with receiving() as receiver:
        receiver.always = endless(start, piece)
        answer = await sender(timeouts=Timeouts(1.0, 10.0)).send(receiver.url(), BODY, {})
    assert answer.kind == "bad_answer"


async def test_what_is_no_http_is_a_failure() -> None:
    async with receiving() as receiver:
        receiver.script.extend([saying(b"220 smtp ready\r\n"), hanging_up])
        assert (await sender().send(receiver.url(), BODY, {})).kind == "bad_answer"
        assert (await sender().send(receiver.url(), BODY, {})).kind == "bad_answer"


async def test_nobody_listens_and_a_name_that_is_not_there() -> None:
    async with receiving() as receiver:
        url = receiver.url()
    assert (await sender().send(url, BODY, {})).kind == "unreachable"

    async def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError("not known")

    answer = await sender(resolve=resolve).send("http://x.example/", BODY, {})
    assert (answer.kind, answer.sentence) == ("unreachable", "The host's name could not be resolved.")


async def test_the_next_address_is_tried_when_no_connection_stands() -> None:
    borders = LOCAL._replace(allow=parse_networks("127.0.0.0/8"))
    async with receiving() as receiver:  # listens on 127.0.0.1 alone
        url = receiver.url("x.example")
        answer = await sender(borders, names(["127.9.9.9", "127.0.0.1"])).send(url, BODY, {})
    assert answer.status == 204


async def test_a_rebound_name_never_reaches_the_private_address() -> None:
    """The first answer is allowed, every later one is not; and what was checked is what is called."""
    borders = LOCAL._replace(allow=parse_networks("127.0.0.1/32"))
    resolve = names(["127.0.0.1"], ["127.0.0.2"])
    async with receiving() as receiver:
        posting = sender(borders, resolve)
        url = receiver.url("rebinding.example")
        assert (await posting.send(url, BODY, {})).status == 204
        assert (await posting.send(url, BODY, {})).kind == "refused_address"
        assert len(receiver.received) == 1


async def test_the_name_is_asked_for_once_per_attempt() -> None:
    asked = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    async with receiving() as receiver:
        await sender(resolve=resolve).send(receiver.url("x.example"), BODY, {})
    assert asked == [("x.example", receiver.port)]


async def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy, receiving() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
        assert (await sender().send(receiver.url(), BODY, {})).status == 204
        assert (len(proxy.received), len(receiver.received)) == (0, 1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of receiver.example with its key, in one PEM file; it vouches for itself."""
    file = tmp_path_factory.mktemp("tls") / "receiver.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", f"{file}.key", "-out", file, "-days", "2", "-subj", "/CN=receiver",
         "-addext", "subjectAltName=DNS:receiver.example"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return file


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, f"{certificate}.key")
    return context


async def test_tls_is_checked_against_the_urls_name_not_the_address(
    tls: ssl.SSLContext, certificate: Path
) -> None:
    named: list[Any] = []
    tls.sni_callback = lambda _socket, name, _context: named.append(name)
    async with receiving(tls) as receiver:
        posting = sender(resolve=names(["127.0.0.1"]), trusted=trusted_authorities(str(certificate)))
        good = await posting.send(receiver.url("receiver.example", "https"), BODY, {})
        other = await posting.send(receiver.url("other.example", "https"), BODY, {})
    assert good.status == 204
    assert other.kind == "unreachable"
    assert "the certificate is not valid" in other.sentence
    assert named == ["receiver.example", "other.example"]


async def test_an_unknown_authority_is_not_trusted(tls: ssl.SSLContext) -> None:
    async with receiving(tls) as receiver:
        answer = await sender(resolve=names(["127.0.0.1"])).send(
            receiver.url("receiver.example", "https"), BODY, {}
        )
    assert answer.kind == "unreachable"
    assert receiver.received == []
