"""The OpenAPI 3.1 document: what the framework finds, and what it cannot see (problems, bodies we read)."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from connectors.http.problems import PROBLEM_TYPE, Problem
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.views import AlertHandOver, AlertRemark, AlertSnooze
from schemas.work_order_update import WorkOrderUpdate

REFERENCE_TEMPLATE: Final = "#/components/schemas/{model}"
UPDATE_BODY: Final = "WorkOrderUpdateBody"
_BODIES: Final[tuple[type[BaseModel], ...]] = (
    IncidentReport, IssueReport, WorkOrderUpdate, AlertRemark, AlertSnooze, AlertHandOver, Problem,
)  # fmt: skip

_ALWAYS: Final = (401, 403, 408, 414, 422, 429, 431, 503)
_WITH_BODY: Final = (400, 409, 413, 415)

Responses = dict[int | str, dict[str, Any]]


def problems(*statuses: int, body: bool = False) -> Responses:
    """The problems that an operation may answer with, beside those of all."""
    all_statuses = sorted({*_ALWAYS, *statuses, *(_WITH_BODY if body else ())})
    return {status: _problem(HTTPStatus(status)) for status in all_statuses}


def _problem(status: HTTPStatus) -> dict[str, Any]:
    schema = {"$ref": REFERENCE_TEMPLATE.format(model=Problem.__name__)}
    return {"description": status.phrase, "content": {PROBLEM_TYPE: {"schema": schema}}}


def links(**parameters: str) -> dict[str, Any]:
    """Where the values of a response lead: operation -> its parameters, as runtime expressions of OpenAPI."""
    return {
        operation: {
            "operationId": operation,
            "parameters": dict(pair.split("=", 1) for pair in pairs.split("&")),
        }
        for operation, pairs in parameters.items()
    }


def takes(schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """`openapi_extra` of an operation that reads this JSON."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def one_or_many(model: type[BaseModel], most: int) -> dict[str, Any]:
    """The schema of one of these, or of a batch of them."""
    one = {"$ref": REFERENCE_TEMPLATE.format(model=model.__name__)}
    return {"oneOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": most}]}


def document(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What `app.openapi` is to be; made once, at the first call."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    return openapi


def _document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, openapi_version="3.1.0", routes=app.routes)
    components = made.setdefault("components", {}).setdefault("schemas", {})
    _, ours = models_json_schema(
        [(model, "validation") for model in _BODIES], ref_template=REFERENCE_TEMPLATE
    )
    for name, schema in ours["$defs"].items():
        components.setdefault(name, schema)
    components[UPDATE_BODY] = _update_body(components[WorkOrderUpdate.__name__])
    return made


def _update_body(schema: dict[str, Any]) -> dict[str, Any]:
    """An update without its reference, which is in the address, and with an id only where the sender has one."""
    properties = {name: member for name, member in schema["properties"].items() if name != "reference"}
    return schema | {"properties": properties, "required": ["verb"], "title": UPDATE_BODY}
