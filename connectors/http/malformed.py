"""What never becomes a request for the app is answered with a problem document too."""

import sys
from http import HTTPStatus
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from connectors.http.limits import Limits
from connectors.http.problems import answer

_SENTENCES: Final = {
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
        f"All headers together may have {Limits().header_bytes} bytes, these have more than is read."
    ),
    HTTPStatus.NOT_IMPLEMENTED: "Of the transfer encodings only chunked is known: send that, or a Content-Length.",
}
_OTHERWISE: Final = (
    "This is no HTTP/1.1 request: it has one request line, one Host, headers of a name and a value each, and a body as"
    " long as they say."
)


class ProblemProtocol(H11Protocol):
    """uvicorn's own, but for the answer to what is no HTTP.

    Uvicorn answers this itself, in plain text, and has no setting for it: the app is never asked. Its method to do so
    is the only place to change.
    """

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - its words are for its log
        """Answer, and close: nobody knows where the next request would begin."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:  # else its answer is under way, or was given
            self._answer(_status())
        self.transport.close()

    def _answer(self, status: HTTPStatus) -> None:
        response = answer(status, _SENTENCES.get(status, _OTHERWISE), headers={"Connection": "close"})
        head = h11.Response(status_code=status, reason=status.phrase.encode(), headers=response.raw_headers)
        for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")


def _status() -> HTTPStatus:
    """What h11 would answer. Uvicorn calls from its `except`, and does not hand the error on."""
    error = sys.exception()
    return HTTPStatus(error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400)
