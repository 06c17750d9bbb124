"""A mail server on a real socket: it does what its script says, then accepts, and remembers what it accepted."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, NamedTuple

from aiosmtpd.smtp import SMTP

from connectors.notify.sender import HEADER
from tests.webhooks.receiver import until

ACCEPTED = "250 accepted"
Behaviour = Callable[[], Awaitable[str]]
"""What the server answers to the message; it may take its time."""


class Mail(NamedTuple):
    """One mail that arrived whole. `answer`: what the server said to it."""

    to: str
    message: EmailMessage
    answer: str

    @property
    def message_id(self) -> str:
        return str(self.message[HEADER])

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])

    @property
    def html(self) -> str:
        return self._part("html")

    @property
    def text(self) -> str:
        return self._part("plain")

    def _part(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        assert part is not None
        return str(part.get_content())


class MailServer:
    """`script` holds the answers to the next messages, one each; `refusing` is said to every recipient instead."""

    def __init__(self) -> None:
        self.script: deque[str | Behaviour] = deque()
        self.always: str = ACCEPTED
        self.seen: list[Mail] = []
        self.port = 0

    def url(self, to: str = "desk@example.org") -> str:
        return f"mailto://127.0.0.1:{self.port}/{to}?from=rapid@example.org"

    @property
    def accepted(self) -> list[Mail]:
        return [mail for mail in self.seen if mail.answer.startswith("250")]

    async def until(self, count: int) -> None:
        """Until so many mails were accepted."""
        await until(lambda: len(self.accepted) >= count)

    async def until_seen(self, count: int) -> None:
        """Until so many mails were tried."""
        await until(lambda: len(self.seen) >= count)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        message = message_from_bytes(envelope.content, policy=policy.default)
        does = self.script.popleft() if self.script else self.always
        place = len(self.seen)
        answer = does if isinstance(does, str) else ACCEPTED  # a slow one has taken it before it says so
        self.seen.insert(place, Mail(envelope.rcpt_tos[0], message, answer))
        return does if isinstance(does, str) else await does()


@asynccontextmanager
async def mail_server(port: int = 0) -> AsyncIterator[MailServer]:
    """A mail server that listens, until it is left."""
    made = MailServer()
    loop = asyncio.get_running_loop()
    sessions: set[SMTP] = set()

    def session() -> SMTP:
        opened = SMTP(made, hostname="localhost", loop=loop)
        sessions.add(opened)
        return opened

    server = await loop.create_server(session, "127.0.0.1", port)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for one in sessions:
            if one.transport is not None:
                one.transport.close()
        await server.wait_closed()
