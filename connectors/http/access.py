"""Who may do what: one table, one dependency. Every route of the API stands in the table exactly once."""

from http import HTTPStatus
from typing import Annotated, Any, Final, NoReturn

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from connectors.access.errors import REALM, Unauthenticated, Unavailable
from connectors.access.principal import ROLES, Principal, Role
from connectors.http.limits import Rates, address_of, too_many
from connectors.http.parts import Parts
from connectors.http.problems import RETRY_AFTER_S, Refused, not_found
from connectors.postgres.audit import Entry

_DEPARTMENTS: Final[tuple[Role, ...]] = ("department", "supervisor")
_WHO_READS_ALERTS: Final[tuple[Role, ...]] = ("department", "supervisor", "admin", "auditor")
_WHO_ACTS_ON_ALERTS: Final[tuple[Role, ...]] = ("department", "supervisor", "admin")
_WHO_DECIDES: Final[tuple[Role, ...]] = ("supervisor",)
_WHO_LOOKS_INTO_IT: Final[tuple[Role, ...]] = ("supervisor", "auditor")
_WHO_MENDS: Final[tuple[Role, ...]] = ("supervisor", "admin")

MAY: Final[dict[str, tuple[Role, ...]]] = {
    "submit_incident_reports": ("intake",),
    "submit_issue_reports": ("intake",),
    "submit_to_source": ("intake",),
    "list_sources": _WHO_DECIDES,
    "list_responses": _WHO_DECIDES,
    "read_response": _WHO_DECIDES,
    "read_life": _WHO_DECIDES,
    "explain_incident": _WHO_LOOKS_INTO_IT,
    "list_work_orders": _DEPARTMENTS,  # a department: its own, as everywhere below
    "read_work_order": _DEPARTMENTS,
    "submit_update": _DEPARTMENTS,
    "read_update": _DEPARTMENTS,
    "read_timeline": _DEPARTMENTS,
    "explain_work_order": _WHO_LOOKS_INTO_IT,
    "stream_changes": _DEPARTMENTS,
    "list_alerts": _WHO_READS_ALERTS,  # a department: those of its own orders
    "read_alert": _WHO_READS_ALERTS,
    "acknowledge_alert": _WHO_ACTS_ON_ALERTS,  # a department: those of the levels that tell it
    "unacknowledge_alert": _WHO_ACTS_ON_ALERTS,
    "snooze_alert": _WHO_ACTS_ON_ALERTS,
    "hand_over_alert": ("supervisor", "admin"),
    "list_dead_letters": _WHO_MENDS,
    "report_dead_letters": _WHO_MENDS,
    "export_work_orders_as_csv": _DEPARTMENTS,
    "export_work_orders_as_geojson": _DEPARTMENTS,
    "export_work_orders_as_ndjson": _DEPARTMENTS,
    "read_areas": ROLES,
}
"""Operation -> the roles that may do it. Routers of other modules add theirs with `allow`."""


def allow(operation: str, *roles: Role) -> None:
    """Add an operation of another router to the table. It says nothing about operations that are there already."""
    if MAY.setdefault(operation, roles) != roles:
        raise ValueError(f"{operation} is in the table with other roles")


_BEARER: Final = HTTPBearer(
    auto_error=False,
    description="An API key (`rapid keys create`), or a token of the city's identity provider.",
)


class Guard:
    """Lets a request in. One for each app: it remembers how often who asked."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._principals = Rates(parts.limits.rate_per_s)
        self._failures = Rates(parts.limits.failures_per_s)

    async def principal(self, request: Request) -> Principal:
        """Who asks, when they may do what they ask for. Raises Refused: 401, 403, 429 or 503."""
        operation: str = request.scope["endpoint"].__name__
        who = await self._authenticated(request, operation)
        wait_s = self._principals.wait_s(who.name)
        if wait_s:
            raise too_many(wait_s)
        if not who.may(*MAY[operation]):
            await self._parts.submissions.note(_attempt(who.name, operation, request))
            needed = " or ".join(MAY[operation])
            raise Refused(HTTPStatus.FORBIDDEN, f"This needs the role {needed}.")
        return who

    async def _authenticated(self, request: Request, operation: str) -> Principal:
        address = address_of(request.scope)
        wait_s = self._failures.would_wait_s(address)
        if wait_s:
            raise too_many(wait_s)
        try:
            return await self._parts.authenticate(request.headers.get("authorization"))
        except Unauthenticated as error:
            self._failures.wait_s(address)
            await self._parts.submissions.note(_attempt(f"address:{address}", operation, request))
            raise Refused(
                HTTPStatus.UNAUTHORIZED,
                str(error),
                headers={"WWW-Authenticate": getattr(error, "challenge", REALM)},
            ) from error
        except Unavailable as error:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers={"Retry-After": str(RETRY_AFTER_S)}
            ) from error


def _attempt(actor: str, operation: str, request: Request) -> Entry:
    return Entry(actor, f"http.{operation}", request.url.path[:300], "refused")


async def _principal(request: Request, _: Annotated[Any, Depends(_BEARER)]) -> Principal:
    guard: Guard = request.app.state.guard
    return await guard.principal(request)


Who = Annotated[Principal, Depends(_principal)]
"""The caller, who was let in: by the table above, by the name of the route's function."""
LetIn: Final = Depends(_principal)
"""The same, for routes that need not know who it is."""


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


Given = Annotated[Parts, Depends(_parts)]
"""What the API stands on."""


def department_of(who: Principal) -> str | None:
    """The department that limits what they see; None: a supervisor, who sees all."""
    return None if who.may("supervisor") else who.department


def speaks_for(who: Principal, parts: Parts) -> str:
    """The department whose word an update of theirs is: supervisors speak for the coordination centre."""
    return department_of(who) or parts.centre


async def not_theirs(parts: Parts, who: Principal, operation: str, what: str, name: str) -> NoReturn:
    """404 for something that is not there, or not the caller's: nobody learns which. It is in the audit trail."""
    await parts.submissions.note(Entry(who.name, f"http.{operation}", name, "refused"))
    raise not_found(what)
