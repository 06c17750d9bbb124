"""One attempt to reach somebody, over Apprise: e-mail, SMS, Teams, Slack, a JSON endpoint, and many more.

Apprise answers yes or no. Whether a message may have arrived all the same, and whether it is worth trying again, is
read from what it logs while it sends; of that, only codes reach our own log.
"""

import asyncio
import logging
import re
import time
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType
from apprise.common import OverflowMode
from apprise.plugins.base import NotifyBase

from connectors.notify.schedule import Answer, Ending

HEADER: Final = "X-Rapid-Notification"
"""The message's id, the same whenever it is sent: where a channel has headers."""
SHORT_BELOW: Final = 500
"""Characters: a channel that takes no more gets the short form."""
REFUSED_BY_SMTP: Final = frozenset({550, 551, 552, 553, 554, 556})
REFUSED_BY_HTTP: Final = frozenset({400, 410, 413, 415, 422})
"""This message will never be taken; other answers may have to do with the channel, or with now."""

_SMTP_CODE: Final = re.compile(r"\((\d{3}), b?['\"]")
_HTTP_CODE: Final = re.compile(r"\berror=(\d{3})\b")
_NEVER_LEFT: Final = re.compile(
    r"Connection refused|NewConnectionError|NameResolutionError|Name or service not known|No route to host"
    r"|nodename nor servname|ConnectTimeout|CERTIFICATE_VERIFY_FAILED|Temporary failure in name resolution"
    r"|Network is unreachable|STARTTLS extension not supported"
)


class Outgoing(NamedTuple):
    """A message as it goes out. `short`: for channels that take a line or two."""

    message_id: str
    subject: str
    text: str
    html: str
    short: str
    breach: bool = False


class Unusable(Exception):
    """A channel's address is none that can be used; the sentence says why, without the address."""


class Sender:
    """Sends to Apprise URLs, each attempt within `timeout_s`; never raises for a receiver's sake."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._loaded = False
        self._asset = AppriseAsset(service_timeout=0, http_redirects=False)
        self._asset.app_id, self._asset.app_desc = "Rapid Response", "Rapid Response"
        _listen_to_apprise()

    async def ready(self) -> None:
        """Load what Apprise knows of, which takes seconds: to be waited for before a lease is counted on."""
        if not self._loaded:
            await asyncio.to_thread(opened, "json://localhost")
            self._loaded = True

    async def send(self, url: str, outgoing: Outgoing) -> Answer:
        """Send once; how it ended."""
        await self.ready()
        began = time.monotonic()
        try:
            service = self._service(url, outgoing.message_id)
        except Unusable as error:
            return Answer("misconfigured", str(error))
        answer = await self._attempt(service, outgoing)
        return answer._replace(duration_ms=round((time.monotonic() - began) * 1000))

    def _service(self, url: str, message_id: str) -> NotifyBase:
        service = opened(url, self._asset)
        service.socket_connect_timeout = service.socket_read_timeout = self._timeout_s
        service.overflow_mode = OverflowMode.SPLIT
        headers = getattr(service, "headers", None)
        if isinstance(headers, dict):
            headers[HEADER] = message_id
        return service

    async def _attempt(self, service: NotifyBase, outgoing: Outgoing) -> Answer:
        body, form = _body(service, outgoing)
        sending = Apprise(asset=self._asset)
        sending.add(service)
        result = await sending.async_notify(
            body=body, title="" if body is outgoing.short else outgoing.subject, body_format=form,
            notify_type=NotifyType.WARNING if outgoing.breach else NotifyType.INFO,
            timeout=self._timeout_s * 2, log_level=logging.DEBUG,
        )  # fmt: skip
        if result:
            return Answer("delivered", "The receiver has accepted it.")
        return _failed([entry.message for entry in result.logs()], self._timeout_s)


def opened(url: str, asset: AppriseAsset | None = None) -> NotifyBase:
    """The service behind an Apprise URL. Raises Unusable."""
    try:
        service = Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    except Exception as error:  # a plugin may fail in any way over an odd URL
        raise Unusable(f"Its address cannot be read ({type(error).__name__}).") from error
    if service is None:
        raise Unusable("Its address is no Apprise URL that can be used: see docs/notify.md.")
    if len(service) != 1:
        raise Unusable(
            f"Its address names {len(service)} receivers: give each a channel of its own, so that one that fails does "
            "not repeat the message for the others."
        )
    return service


def _body(service: NotifyBase, outgoing: Outgoing) -> tuple[str, NotifyFormat]:
    """The form that suits the channel: short, rich where that is what it likes best, else plain."""
    if service.body_maxlen < SHORT_BELOW:
        return outgoing.short, NotifyFormat.TEXT
    liked: Any = service.resolve_format()
    if liked == NotifyFormat.HTML:
        return outgoing.html, NotifyFormat.HTML
    return f"{outgoing.text}\n\n{outgoing.message_id}", NotifyFormat.TEXT


def _failed(logs: Iterable[str], timeout_s: float) -> Answer:
    said = "\n".join(logs)
    if found := _SMTP_CODE.search(said):
        return _answered(int(found.group(1)), REFUSED_BY_SMTP)
    if found := _HTTP_CODE.search(said):
        return _answered(int(found.group(1)), REFUSED_BY_HTTP)
    if _NEVER_LEFT.search(said):
        return Answer("failed", "No connection could be made to the receiver.")
    if re.search(r"time[ds]? ?out|did not finish", said, re.IGNORECASE):
        return Answer("unknown", f"There was no answer within {timeout_s:g} s.")
    return Answer("unknown", "The connection broke off, or the answer could not be read.")


def _answered(code: int, refused: frozenset[int]) -> Answer:
    ending: Ending = "refused" if code in refused else "failed"
    never = ", and takes this message never" if code in refused else ""
    return Answer(ending, f"The receiver answered {code}{never}.")


def _listen_to_apprise() -> None:
    """Apprise's log is where the codes are; it names addresses, so nothing of it reaches our own. Nor do the paths that
    urllib3 logs, which may hold a token."""
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    log = logging.getLogger("apprise")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    if not log.handlers:
        log.addHandler(logging.NullHandler())
