"""Bodies in: the right type, the right encoding, JSON of the right shape; each error names its field."""

import re
from collections.abc import Mapping
from email.message import Message
from http import HTTPStatus
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json

from connectors.http.problems import FieldError, Refused, about
from schemas.expected import ALLOWED, expectation
from schemas.repeated import ONCE, repeated

JSON_TYPE: Final = "application/json"
_PLAIN_KEY: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]{0,59}$")

T = TypeVar("T")


async def json_bytes(request: Request) -> bytes:
    """The body, when it says that it is JSON in UTF-8, and is. Raises Refused: 400, 413 or 415."""
    _check_type(request.headers)
    raw = await request.body()
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "The body is not UTF-8.") from error
    return raw


def _check_type(headers: Mapping[str, str]) -> None:
    sent = Message()
    sent["Content-Type"] = headers.get("content-type", "")
    charset = sent.get_param("charset", "utf-8")
    is_json = sent.get_content_type() == JSON_TYPE and str(charset).lower() in ("utf-8", "utf8")
    if not is_json or headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Send {JSON_TYPE} in UTF-8, not compressed.",
            headers={"Accept": JSON_TYPE},
        )


def parsed(adapter: TypeAdapter[T], raw: bytes) -> T:
    """The value of a body. Raises Refused: 400 when it is not JSON or has a member twice, 422 with each field that does
    not fit."""
    once(raw)
    try:
        return adapter.validate_json(raw)
    except ValidationError as error:
        raise refusal(error) from error


def once(raw: bytes) -> None:
    """Raises Refused, 400, when an object of the body has a member twice."""
    name = repeated(raw)
    if name is not None:
        errors = [FieldError(field=name, expected=ONCE)]
        raise Refused(HTTPStatus.BAD_REQUEST, about(errors), errors=errors)


def members(raw: bytes) -> dict[str, Any]:
    """The members of a body that is one JSON object. Raises Refused."""
    once(raw)
    try:
        found = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise _not_json() from error
    if not isinstance(found, dict):
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "The body must be one JSON object.")
    return found


def refusal(error: ValidationError) -> Refused:
    """What the sender of this is told."""
    found = error.errors(include_url=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return _not_json()
    errors = [_field_error(one) for one in found]
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, about(errors), errors=errors)


def _not_json() -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, "The body is not JSON, or is nested too deeply.")


def _field_error(error: ErrorDetails) -> FieldError:
    """Where, with what looks like data instead of a member's name left out; what was sent is never repeated."""
    parts = [str(part) if isinstance(part, int) or _PLAIN_KEY.match(part) else "?" for part in error["loc"]]
    return FieldError(field=".".join(parts)[:200] or "body", expected=_expectation(error))


def _expectation(error: ErrorDetails) -> str:
    found = expectation(error)
    return f"{found}; see its schema in /v1/openapi.json" if found == ALLOWED else found
