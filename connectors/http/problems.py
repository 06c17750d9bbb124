"""Problem documents (RFC 9457): every error of the API is one, the framework's own too."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from connectors.errors import Transient
from schemas.expected import said

log = structlog.get_logger(__name__)

PROBLEM_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1
"""What a caller is told to wait while a part of us is away."""
MOST_ERRORS: Final = 20

Headers = Mapping[str, str]


class FieldError(BaseModel):
    """One field that cannot be used, and what was expected. Never the value that was sent."""

    model_config = ConfigDict(extra="forbid")

    field: str
    expected: str


class Problem(BaseModel):
    """What went wrong, after RFC 9457."""

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)

    type: Annotated[str, Field(json_schema_extra={"format": "uri-reference"})] = "about:blank"
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    errors: list[FieldError] = []


class Refused(Exception):
    """A request ends here, with a problem document. `detail` is one sentence for the developer who reads it."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Headers | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.errors = list(errors)
        self.headers = dict(headers or {})


def invalid(field: str, expected: str) -> Refused:
    """422 for one field."""
    return Refused(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"{field} cannot be used: expected {expected}",
        errors=[FieldError(field=field, expected=expected)],
    )


def not_found(what: str) -> Refused:
    """404, the same for what is not there and for what is not the caller's."""
    return Refused(HTTPStatus.NOT_FOUND, f"There is no such {what}.")


def answer(
    status: HTTPStatus, detail: str, errors: Sequence[FieldError] = (), headers: Headers | None = None
) -> Response:
    """A problem document as a response."""
    problem = Problem(
        title=_title(status), status=status.value, detail=detail, errors=list(errors)[:MOST_ERRORS]
    )
    return JSONResponse(
        problem.model_dump(), status.value, headers=dict(headers or {}), media_type=PROBLEM_TYPE
    )


def _title(status: HTTPStatus) -> str:
    return status.phrase


def install(app: FastAPI) -> None:
    """Make every error of this app a problem document."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(Transient, _away)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unforeseen)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return answer(error.status, str(error), error.errors, error.headers)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [field_error(one) for one in error.errors()[:MOST_ERRORS]]
    return answer(HTTPStatus.UNPROCESSABLE_ENTITY, _about(errors), errors)


def about(errors: Sequence[FieldError]) -> str:
    """One sentence for one or more fields."""
    return _about(errors)


def _about(errors: Sequence[FieldError]) -> str:
    names = ", ".join(dict.fromkeys(one.field for one in errors))
    return f"This cannot be used: {names}." if names else "This cannot be used."


def field_error(error: ErrorDetails) -> FieldError:
    """A validation error of the framework as ours: which parameter, and what it should be."""
    place, *path = (str(part) for part in error["loc"])
    field = ".".join(path) or place
    return FieldError(field=field[:200], expected=said(error))


_SENTENCES: Final = {
    HTTPStatus.NOT_FOUND: "There is nothing at this address: see /v1/openapi.json for what there is.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address does not take this method: see the header Allow.",
}


async def _framework(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    return answer(status, _SENTENCES.get(status, f"{status.phrase}."), headers=error.headers)


async def _away(_: Request, error: Exception) -> Response:
    log.warning("a request could not be served", reason=str(error))
    return unavailable()


def unavailable() -> Response:
    """503: nothing was changed, and it may work in a moment."""
    return answer(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "A part of this service is away for the moment: send the same again, with the same Idempotency-Key.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


async def _gone(_: Request, error: Exception) -> Response:  # noqa: ARG001 - there is nothing in it
    """Nobody reads this: the client left in the middle of its body, which is no fault of ours to log."""
    return answer(HTTPStatus.BAD_REQUEST, "The body broke off.")


async def _unforeseen(_: Request, error: Exception) -> Response:
    """Nothing of what happened is told; it is in our log."""
    log.error("a request failed", reason=type(error).__name__)
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR, "Something unexpected happened; it was logged.")
