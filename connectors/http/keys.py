"""Idempotency-Key on writes: the same request under the same key is done once and answered the same."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final, NamedTuple

from fastapi import Header, Request
from fastapi.responses import Response

from connectors.access.principal import Principal
from connectors.http.parts import Parts
from connectors.http.problems import Refused
from connectors.postgres.audit import Entry
from connectors.postgres.submissions import Answer, InFlight, KeyReused, Submission, digest_of

KEY_PATTERN: Final = r"^[!-{}~]{1,80}$"
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=KEY_PATTERN,
        description="Any text of your own, new for each request: sent again under the same key, a request is done "
        "once, and answered as the first time, for 24 hours.",
    ),
]
RETRY_S: Final = 1


class Sent(NamedTuple):
    """A write as it came in: the request, its body, who sent it, and under which key."""

    request: Request
    raw: bytes
    who: Principal
    key: str | None

    @property
    def digest(self) -> bytes:
        """What tells this request from another under the same key."""
        if_match = self.request.headers.get("if-match", "")
        return digest_of(self.request.method, self.request.url.path, if_match, self.raw)

    def entry(self, subject: str, details: Mapping[str, Any]) -> Entry:
        """The line for the audit trail."""
        operation: str = self.request.scope["endpoint"].__name__
        return Entry(self.who.name, f"http.{operation}", subject, "done", details)


async def submit(parts: Parts, submission: Submission) -> Answer:
    """Make it durable. Raises Refused: 409 or 422 for a key that is taken."""
    try:
        return await parts.submissions.submit(submission)
    except InFlight as error:
        raise Refused(
            HTTPStatus.CONFLICT,
            "A request with this Idempotency-Key is being worked on: send it again in a moment.",
            headers={"Retry-After": str(RETRY_S)},
        ) from error
    except KeyReused as error:
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "This Idempotency-Key was used for another request: take a new key for a new request.",
        ) from error


def response_of(given: Answer) -> Response:
    """An answer as a response."""
    return Response(given.body, given.status, headers=given.headers, media_type="application/json")
