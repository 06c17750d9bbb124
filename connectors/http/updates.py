"""Updates of work orders: the same way in as over Kafka. What comes in is published to the sender's topic."""

import asyncio
import re
import time
from http import HTTPStatus
from typing import Annotated, Final, Literal
from urllib.parse import quote
from uuid import uuid4

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from connectors.http import parameters as given
from connectors.http.access import Given, Who, department_of, not_theirs, speaks_for
from connectors.http.bodies import json_bytes, members, refusal
from connectors.http.keys import IdempotencyKey, Sent, response_of, submit
from connectors.http.openapi import REFERENCE_TEMPLATE, UPDATE_BODY, links, problems, takes
from connectors.http.orders import ETAG_PATTERN, PRIVATE, told_version
from connectors.http.parts import Parts, Value
from connectors.http.problems import FieldError, Refused, about, invalid, not_found
from connectors.postgres import http_reads
from connectors.postgres.pool import Connection
from connectors.postgres.submissions import Answer, Submission, SubmittedUpdate, digest_of
from schemas.codec import encode
from schemas.envelope import Event
from schemas.topics import updates_topic
from schemas.work_order_update import UpdateResult, WorkOrderUpdate, misfit

LONGEST_WAIT_S: Final = 10
ANSWER: Final = "reference=$response.body#/reference&update_id=$response.body#/update_id"
LOOK_FIRST_S: Final = 0.02
LOOK_EVERY_S: Final = 0.25

router = APIRouter(prefix="/v1", tags=["Work orders"])


class UpdateUnderWay(BaseModel):
    """An update that is durably ours and not yet answered."""

    update_id: str
    reference: str
    verdict: Literal["pending"] = "pending"


class _Theirs(Exception):
    """The order is not there, or another department's."""


@router.post(
    "/work-orders/{reference}/updates", status_code=HTTPStatus.ACCEPTED, response_model=UpdateUnderWay,
    openapi_extra=takes({"$ref": REFERENCE_TEMPLATE.format(model=UPDATE_BODY)}),
    responses=problems(404, body=True) | {
        200: {"model": UpdateResult, "description": "The answer, when it came within the time of Prefer: wait."},
        202: {"links": links(read_update=ANSWER)},
    },
)  # fmt: skip
async def submit_update(  # noqa: PLR0917 - the framework calls it by name
    request: Request, reference: given.Reference, parts: Given, who: Who, idempotency_key: IdempotencyKey = None,
    if_match: Annotated[str | None, Header(pattern=ETAG_PATTERN, description="The ETag of the order.")] = None,
    prefer: Annotated[str | None, Header(max_length=100, description="`wait=N`: seconds, at most 10.")] = None,
) -> Response:  # fmt: skip
    """Say what happened with an order. 202: it is durable; the Location will have the answer. The same `update_id`
    is the same update, however often it is sent."""
    raw = await json_bytes(request)
    completed = _completed(members(raw), idempotency_key, told_version(if_match))
    update = _update(completed, reference)
    submission = _submission(Sent(request, raw, who, idempotency_key), parts.centre, update)
    try:
        answer = await submit(parts, submission)
    except _Theirs:
        if department_of(who) is None:
            raise not_found("work order") from None
        await not_theirs(parts, who, "submit_update", "work order", reference)
    return await _answered(answer, parts, speaks_for(who, parts), update, wait_s_of(prefer))


def _completed(sent: Value, key: str | None, version: int | None) -> Value:
    """With an id, and with the version of If-Match."""
    if sent.get("update_id") is None:
        sent = sent | {"update_id": key or str(uuid4())}
    if version is None:
        return sent
    if sent.get("if_version") not in (None, version):
        raise invalid("if_version", "the version of If-Match, or nothing")
    return sent | {"if_version": version}


def _update(sent: Value, reference: str) -> WorkOrderUpdate:
    """Raises Refused with each member that does not fit."""
    if "reference" in sent:
        raise invalid("reference", "no member of this name: it is in the address")
    try:
        update = WorkOrderUpdate.model_validate_json(to_json(sent | {"reference": reference}))
    except ValidationError as error:
        raise refusal(error) from error
    wrong = misfit(update)
    if wrong is not None:
        errors = [FieldError(field=wrong.field, expected=wrong.expected)]
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, about(errors), errors=errors)
    return update


def _submission(sent: Sent, centre: str, update: WorkOrderUpdate) -> Submission:
    scope = department_of(sent.who)
    speaker = scope or centre

    async def check(connection: Connection) -> None:
        if await http_reads.order(connection, update.reference, scope) is not None:
            return
        try:  # what they said while it was theirs may be said again: the answer is the same
            await http_reads.update_result(connection, speaker, update.reference, update.update_id)
        except LookupError:
            raise _Theirs from None

    details = {"update_id": update.update_id, "verb": update.verb, "department": speaker}
    return Submission(
        principal=sent.who.name,
        key=sent.key,
        digest=sent.digest,
        events=[event_of(speaker, update)],
        answer=_accepted(update),
        entries=[sent.entry(update.reference, details)],
        updates=[SubmittedUpdate(speaker, update.update_id, update.reference)],
        check=check,
    )


def event_of(department: str, update: WorkOrderUpdate) -> Event:
    """The record of an update on its sender's topic. The same update has the same event id."""
    topic = updates_topic(department)
    value = encode(update)
    version = int.from_bytes(digest_of(value)[:6], "big")
    return Event(topic.name, update.reference, value, topic.type, update.update_id, version)


def _accepted(update: WorkOrderUpdate) -> Answer:
    under_way = UpdateUnderWay(update_id=update.update_id, reference=update.reference)
    location = f"/v1/work-orders/{update.reference}/updates/{quote(update.update_id, safe='')}"
    return Answer(HTTPStatus.ACCEPTED.value, {"Location": location}, under_way.model_dump_json())


def wait_s_of(prefer: str | None) -> float:
    """RFC 7240: seconds that the caller would wait. What we do not know of a Prefer is ignored, as it says."""
    found = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?(?:$|[,;\s])", prefer or "")
    return float(min(int(found[1]), LONGEST_WAIT_S)) if found else 0.0


async def _answered(
    answer: Answer, parts: Parts, department: str, update: WorkOrderUpdate, wait_s: float
) -> Response:
    """The answer of the order's writer when it comes in time, else that the update is accepted."""
    result = await _result_within(parts, department, update, wait_s) if wait_s else None
    if result is None:
        return response_of(answer)
    headers = {"Preference-Applied": f"wait={wait_s:.0f}"}
    return Response(result.model_dump_json(), headers=headers, media_type="application/json")


async def _result_within(
    parts: Parts, department: str, update: WorkOrderUpdate, wait_s: float
) -> UpdateResult | None:
    until_s, pause_s = time.monotonic() + wait_s, LOOK_FIRST_S
    while True:
        async with parts.ledger.connection() as connection:
            result = await http_reads.result_of(connection, department, update)
        left_s = until_s - time.monotonic()
        if result is not None or left_s <= 0:
            return result
        await asyncio.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, LOOK_EVERY_S)


@router.get(
    "/work-orders/{reference}/updates/{update_id:path}", response_model=UpdateUnderWay | UpdateResult,
    responses=problems(404),
)  # fmt: skip
async def read_update(
    reference: given.Reference, update_id: given.UpdateId, parts: Given, who: Who
) -> Response:
    """What became of an update: pending, or the answer. Of one's own updates only."""
    department = speaks_for(who, parts)
    try:
        async with parts.ledger.connection() as connection:
            result = await http_reads.update_result(connection, department, reference, update_id)
    except LookupError:
        await not_theirs(parts, who, "read_update", "update", f"{reference}/{update_id}")
    shown = result or UpdateUnderWay(update_id=update_id, reference=reference)
    return Response(shown.model_dump_json(), headers=PRIVATE, media_type="application/json")
