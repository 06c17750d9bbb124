"""What `rapid oncall` is asked: the policy and overrides that hold, and roles, places, people and times as typed."""

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import typer

from agents.sla.calendar import FIRST_YEAR, LAST_YEAR
from connectors.postgres import oncall, readmodels
from infra.cli.errors import ExitCode, Oops
from infra.cli.session import database, run
from infra.connect import database_url
from infra.oncall.calendar import LONGEST
from infra.policy.load import SHIPPED, PolicyErrors, load_policy
from infra.settings import Settings
from schemas.oncall import LEVELS, NOBODY, TOP, Override, Role
from schemas.policy import Policy, folded


class Known(NamedTuple):
    """What answers are made of."""

    policy: Policy
    overrides: tuple[Override, ...]

    @property
    def zone(self) -> ZoneInfo:
        """Times are told on the city's clocks."""
        return ZoneInfo(self.policy.city.time_zone)


class Place(NamedTuple):
    """The department or area that a role is asked for; neither: a role of the city."""

    department: str | None = None
    area: int | None = None

    def __str__(self) -> str:
        return self.department or (f"area {self.area}" if self.area else "")


def known_of(path: Path | None) -> Known:
    """The policy in use: the newest that was stored, or as the settings say when that one names nobody."""
    if path is not None:
        return Known(_loaded(path), ())
    settings = Settings()
    stored = run(_newest(settings))
    if stored is not None and stored.oncall.roles:
        return Known(stored, ())
    return Known(_loaded(settings.policy or SHIPPED), ())


def _loaded(path: Path) -> Policy:
    try:
        return load_policy(path)
    except PolicyErrors as errors:
        raise Oops(errors.sentence, ExitCode.INVALID) from errors


async def _newest(settings: Settings) -> Policy | None:
    async with database(database_url(settings)) as connected:
        return await readmodels.newest_policy(connected)


def overrides_of(path: Path | None, since: datetime, until: datetime) -> tuple[Override, ...]:
    """Those that hold at some time within; a policy's folder alone has none."""
    return run(_within(since, until)) if path is None else ()


async def _within(since: datetime, until: datetime) -> tuple[Override, ...]:
    async with database(database_url(Settings())) as connected:
        return await oncall.within(connected, since, until)


def moment_of(text: str | None, zone: ZoneInfo) -> datetime:
    """A time as typed, of the zone unless it names one; None: now. Raises typer.BadParameter."""
    if text is None:
        return datetime.now(UTC).replace(microsecond=0)
    try:
        at = datetime.fromisoformat(text.strip())
        found = (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        found = None
    if found is None or not FIRST_YEAR <= found.year <= LAST_YEAR:
        raise typer.BadParameter(
            f"expected a time such as 2026-07-02T08:00 or 2026-07-02T13:00Z, found {text!r}"
        )
    return found


def span_of(since: str | None, until: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """From when until when an override holds; not all of it is past. Raises typer.BadParameter."""
    begins, ends = moment_of(since, zone), moment_of(until, zone)
    if not begins < ends <= begins + LONGEST:
        raise typer.BadParameter(
            f"expected a time after --from and at most {LONGEST.days} days later, found {until!r}",
            param_hint="--until",
        )
    if ends <= datetime.now(UTC):
        raise typer.BadParameter(f"expected a time to come, found {until!r}", param_hint="--until")
    return begins, ends


def by_level(known: Known) -> list[Role]:
    """The roles, those of the lowest level first."""
    return [role for level in LEVELS for role in known.policy.oncall.roles_of(level)]


def _role(known: Known, code: str) -> Role:
    role = known.policy.oncall.role(code)
    if role is None:
        codes = ", ".join(one.code for one in by_level(known)) or "none"
        raise Oops(f"There is no role {code}: choose from {codes}.", ExitCode.NOT_FOUND)
    return role


def the_place_of(known: Known, code: str, department: str | None, area: str | None) -> tuple[Role, Place]:
    """A role and the one place that it is asked for."""
    role, place = exception_of(known, code, department, area)
    if role.scope == "department" and place.department is None:
        raise typer.BadParameter(
            f"each department has its own {role.code}: say which", param_hint="--department"
        )
    if role.scope == "area" and place.area is None:
        raise typer.BadParameter(f"each area has its own {role.code}: say which", param_hint="--area")
    return role, place


def exception_of(known: Known, code: str, department: str | None, area: str | None) -> tuple[Role, Place]:
    """A role and where; no place is everywhere."""
    role = _role(known, code)
    place = Place(department_of(known, department), area_of(known, area))
    for given, scope in ((place.department, "department"), (place.area, "area")):
        if given is not None and role.scope != scope:
            raise typer.BadParameter(
                f"the role {role.code} is not one of a {scope}: leave it out", param_hint=f"--{scope}"
            )
    return role, place


def department_of(known: Known, code: str | None) -> str | None:
    """The code, if the policy has it. Raises Oops."""
    if code is not None and known.policy.department(code) is None:
        codes = ", ".join(one.code for one in known.policy.departments)
        raise Oops(f"There is no department {code}: choose from {codes}.", ExitCode.NOT_FOUND)
    return code


def area_of(known: Known, text: str | None) -> int | None:
    """The number of an area by number or name. Raises Oops."""
    if text is None:
        return None
    digits = text.isascii() and text.isdigit() and len(text) <= 4
    found = known.policy.area(int(text)) if digits else known.policy.area_by_name(text)
    if found is None:
        raise Oops(f"There is no area {text}: expected a number or a name of the policy.", ExitCode.NOT_FOUND)
    return found.number


def person_of(known: Known, role: Role, text: str) -> str | None:
    """A person by code or name; None: nobody, which the top level cannot be left to. Raises Oops."""
    if folded(text) == NOBODY:
        if role.level == TOP:
            raise Oops(f"The role {role.code} is of level {TOP}, above which is nobody: name a person.")
        return None
    for person in known.policy.oncall.persons:
        if folded(text) in (person.code, folded(person.name)):
            return person.code
    codes = ", ".join(person.code for person in known.policy.oncall.persons)
    raise Oops(f"There is no person {text}: choose from {codes}, or {NOBODY}.", ExitCode.NOT_FOUND)


def why_of(text: str) -> str:
    """The reason as typed. Raises typer.BadParameter."""
    why = text.strip()
    if not 0 < len(why) <= 200 or not why.isprintable():
        raise typer.BadParameter("expected 1 to 200 printable characters", param_hint="--why")
    return why
