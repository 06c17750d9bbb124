"""Who has a role, and whom an alert tells. Pure: the policy, the overrides and the time are arguments.

Intervals are half open. A hand-over is a wall time: at 08:00 it stays at 08:00, whatever the clocks of its zone do.
No alert is dropped because a role has nobody: it goes to the next level at once and says so.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from schemas.oncall import (
    TOP,
    Climb,
    Holder,
    OncallPolicy,
    Override,
    Person,
    Recipients,
    Role,
    Rotation,
    Shift,
)

_DAY = timedelta(days=1)


class _Place(NamedTuple):
    """What an alert is about, as far as roles care."""

    department: str | None
    area: int | None


class _Standing(NamedTuple):
    """Who has a role at an instant; `because`: why nobody has it."""

    people: tuple[Person, ...]
    override: Override | None
    because: str


def on_call(
    role: str, at: datetime, *, department: str | None = None, area: int | None = None, oncall: OncallPolicy,
    overrides: Iterable[Override] = (),
) -> tuple[Person, ...]:  # fmt: skip
    """Who has a role at an instant; none: nobody, or there is no such role."""
    known = oncall.role(role)
    if known is None:
        return ()
    return _standing(known, at, _Place(department, area), oncall, overrides).people


def whom_to_tell(
    level: int, at: datetime, *, department: str | None = None, area: int | None = None, oncall: OncallPolicy,
    overrides: Iterable[Override] = (),
) -> Recipients:  # fmt: skip
    """Whom an alert of this level tells. What a role has nobody for goes up at once, beside what others are told.

    At the top, where nothing is above, an override cannot silence: its regular holders are told in spite of it.
    """
    place, known = _Place(department, area), tuple(overrides)
    people: list[Person] = []
    climbed: list[Climb] = []
    for here in range(level, TOP + 1):
        asked = _asked(here, at, place, oncall, known)
        people += asked.people
        climbed += asked.climbed
        if not asked.climbed:
            break
    if not people:
        people += _regular(at, place, oncall)
    return Recipients(people=_once(people), level=here, climbed=tuple(climbed))


def whom_to_hand(
    to: str, level: int, at: datetime, *, department: str | None = None, area: int | None = None,
    oncall: OncallPolicy, overrides: Iterable[Override] = (),
) -> Recipients:  # fmt: skip
    """Whom an alert of this level tells that was handed over to a person or to a role.

    A role that has nobody goes to the level above it; what is neither a person nor a role, to the alert's own level.
    """
    person, role, known = oncall.person(to), oncall.role(to), tuple(overrides)
    if person is not None:
        return Recipients(people=(person,), level=level)
    if role is None:
        back = Climb(role=None, level=level, to_level=level, because=f"{to} is neither a person nor a role.")
        told = whom_to_tell(level, at, department=department, area=area, oncall=oncall, overrides=known)
        return told.model_copy(update={"climbed": (back, *told.climbed)})
    standing = _standing(role, at, _Place(department, area), oncall, known)
    if standing.people:
        return Recipients(people=standing.people, level=role.level)
    climb = _climb(role.code, role.level, standing.because)
    above = whom_to_tell(
        min(role.level + 1, TOP), at, department=department, area=area, oncall=oncall, overrides=known
    )
    return above.model_copy(update={"climbed": tuple(dict.fromkeys((climb, *above.climbed)))})


def schedule(
    role: str, since: datetime, until: datetime, *, department: str | None = None, area: int | None = None,
    oncall: OncallPolicy, overrides: Iterable[Override] = (),
) -> tuple[Shift, ...]:  # fmt: skip
    """Who has a role from when until when, without holes: a gap is a shift of nobody. Nothing: no such role."""
    known = oncall.role(role)
    if known is None or since >= until:
        return ()
    place = _Place(department, area)
    applying = [one for one in overrides if _applies(one, known, place)]
    changes = {since, until}.union(
        *((one.since, one.until) for one in applying),
        *(_hand_overs(one.rotation, since, until) for one in _holders(known, place, oncall) if one.rotation),
    )
    edges = sorted(at for at in changes if since <= at <= until)
    shifts = [
        Shift(since=start, until=end, people=standing.people, override=standing.override)
        for start, end in pairwise(edges)
        for standing in [_standing(known, start, place, oncall, applying)]
    ]
    return tuple(_joined(shifts))


# ---------------------------------------------------------------- levels


class _Asked(NamedTuple):
    people: tuple[Person, ...]
    climbed: tuple[Climb, ...]


def _asked(
    level: int, at: datetime, place: _Place, oncall: OncallPolicy, overrides: Sequence[Override]
) -> _Asked:
    """The people of a level, and its roles that have nobody."""
    roles = oncall.roles_of(level)
    if not roles:
        return _Asked((), (_climb(None, level, f"The policy has no role of level {level}."),))
    standings = [(role, _standing(role, at, place, oncall, overrides)) for role in roles]
    return _Asked(
        tuple(person for _, standing in standings for person in standing.people),
        tuple(_climb(role.code, level, one.because) for role, one in standings if not one.people),
    )


def _climb(role: str | None, level: int, because: str) -> Climb:
    return Climb(role=role, level=level, to_level=level + 1 if level < TOP else None, because=because)


def _regular(at: datetime, place: _Place, oncall: OncallPolicy) -> tuple[Person, ...]:
    """The people of the top level as if there were no overrides."""
    return _asked(TOP, at, place, oncall, ()).people


def _once(people: Iterable[Person]) -> tuple[Person, ...]:
    return tuple({person.code: person for person in people}.values())


# ---------------------------------------------------------------- one role


def _standing(
    role: Role, at: datetime, place: _Place, oncall: OncallPolicy, overrides: Iterable[Override]
) -> _Standing:
    override = _newest(role, at, place, overrides)
    if override is not None:
        return _overridden(role, override, oncall)
    holders = _holders(role, place, oncall)
    codes = [code for holder in holders for code in _codes(holder, at)]
    people = _once(person for person in map(oncall.person, codes) if person is not None)
    return _Standing(people, None, "" if people else _why_nobody(role, place, holders, codes))


def _overridden(role: Role, override: Override, oncall: OncallPolicy) -> _Standing:
    number = override.override_id
    if override.person is None:
        return _Standing((), override, f"{role.name}: override {number} leaves it to nobody.")
    person = oncall.person(override.person)
    if person is None:
        because = f"{role.name}: override {number} names {override.person}, whom the policy does not know."
        return _Standing((), override, because)
    return _Standing((person,), override, "")


def _why_nobody(role: Role, place: _Place, holders: Sequence[Holder], codes: Sequence[str]) -> str:
    of = {
        "city": "",
        "department": f" of the department {place.department or '(none)'}",
        "area": f" of the area {place.area or '(none)'}",
    }[role.scope]
    if not holders:
        return f"{role.name}{of}: nobody holds it."
    if codes:
        return f"{role.name}{of}: {', '.join(codes)} is not among the persons of the policy."
    return f"{role.name}{of}: whoever holds it is nobody."


def _newest(role: Role, at: datetime, place: _Place, overrides: Iterable[Override]) -> Override | None:
    holding = (one for one in overrides if _applies(one, role, place) and one.since <= at < one.until)
    return max(holding, key=lambda one: one.override_id, default=None)


def _applies(override: Override, role: Role, place: _Place) -> bool:
    """Whether the override is about this role here; without a department or area it is about all of them."""
    if override.role != role.code:
        return False
    if role.scope == "department":
        return override.department in (None, place.department)
    return role.scope == "city" or override.area in (None, place.area)


def _holders(role: Role, place: _Place, oncall: OncallPolicy) -> list[Holder]:
    """Those that name the place; else those that name none."""
    of_role = [holder for holder in oncall.holders if holder.role == role.code]
    if role.scope == "city":
        return of_role
    if role.scope == "department":
        named = [holder for holder in of_role if place.department in holder.departments]
        return named or [holder for holder in of_role if not holder.departments]
    named = [holder for holder in of_role if place.area in holder.areas]
    return named or [holder for holder in of_role if not holder.areas]


def _codes(holder: Holder, at: datetime) -> tuple[str, ...]:
    if holder.rotation is None:
        return holder.persons
    member = member_at(holder.rotation, at)
    return holder.persons if member is None else (*holder.persons, member)


# ---------------------------------------------------------------- rotations


def instant_of(day: date, wall_time: str, zone: ZoneInfo) -> datetime:
    """The instant of a wall time `08:00`. In a gap it moves forward by the gap, when ambiguous it is the first.

    Both is what `fold=0` means (PEP 495): the offset from before the change.
    """
    return datetime.combine(day, time.fromisoformat(wall_time), zone).astimezone(UTC)


def member_at(rotation: Rotation, at: datetime) -> str | None:
    """Whose turn it is; None: the rotation has no members."""
    turn = _days_begun(rotation, at) // rotation.turn_days
    return rotation.members[turn % len(rotation.members)] if rotation.members else None


def _days_begun(rotation: Rotation, at: datetime) -> int:
    """The number of the last day whose hand-over time has come; 0: the day it starts, negative before.

    A clock that is set back over midnight, or forward by a day, can make that another than the local date's.
    """
    zone = _zone(rotation.time_zone)
    today = at.astimezone(zone).date()
    day = next(
        day
        for day in (today + _DAY * ahead for ahead in (1, 0, -1, -2, -3))
        if instant_of(day, rotation.hand_over, zone) <= at
    )
    return (day - rotation.starts).days


def _hand_overs(rotation: Rotation, since: datetime, until: datetime) -> Iterator[datetime]:
    """The instants within at which a turn begins."""
    zone = _zone(rotation.time_zone)
    turn = _days_begun(rotation, since) // rotation.turn_days
    while True:
        begins = instant_of(rotation.starts + _DAY * rotation.turn_days * turn, rotation.hand_over, zone)
        if begins > until:
            return
        yield begins
        turn += 1


def _joined(shifts: Iterable[Shift]) -> Iterator[Shift]:
    """Shifts of the same people for the same reason that follow one another, as one."""
    last: Shift | None = None
    for shift in shifts:
        if last is not None and (last.people, last.override) == (shift.people, shift.override):
            last = last.model_copy(update={"until": shift.until})
            continue
        if last is not None:
            yield last
        last = shift
    if last is not None:
        yield last


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
