"""Who is told of an alert: people and their channels, the roles of each level, and who has a role when.

The rules are in docs/oncall.md; `agents/sla/oncall.py` answers by them. People here are mailboxes and phones of a
desk as much as persons: a policy needs no private name or address.
"""

from datetime import date
from typing import Annotated, Final, Literal

from pydantic import Field

from schemas.alert import Level
from schemas.base import AreaNumber, Code, Instant, Record, Sentence, ShortText
from schemas.sla import WEEKDAYS, SpanText, Weekday

LEVELS: Final = (1, 2, 3, 4)
TOP: Final = LEVELS[-1]
"""Above it is nobody."""
NOBODY: Final = "nobody"
"""What people write for an override that leaves a role to nobody; no person has this code."""

WALL_TIME_PATTERN = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
ENV_PATTERN = r"^[A-Z][A-Z0-9_]{0,79}$"

WallTime = Annotated[str, Field(pattern=WALL_TIME_PATTERN)]
"""A time of day in some zone, `08:00`. In a gap it moves forward by the gap; when ambiguous, it is the first."""
Language = Literal["en", "es"]
Scope = Literal["city", "department", "area"]
"""A role is had once in the city, or once for each department, or once for each area."""

# ---------------------------------------------------------------- people


class Channel(Record):
    """A way to reach somebody. One of the two: an Apprise URL, or the environment variable that holds it."""

    code: Code
    url: ShortText | None = None  # only what is no secret
    url_env: Annotated[str, Field(pattern=ENV_PATTERN)] | None = None


class QuietSpan(Record):
    """Hours of a day; `22:00-07:00` ends on the next. `days`: on which it begins."""

    hours: SpanText
    days: tuple[Weekday, ...] = WEEKDAYS


class QuietHours(Record):
    """When messages wait until the quiet hours end, in the person's zone."""

    spans: tuple[QuietSpan, ...]
    from_level: Level  # messages of this level and above do not wait


class Digest(Record):
    """What is collected and told at once, at a wall time of the person's zone."""

    every: Literal["day", "week"]
    at: WallTime
    on: Weekday = "mon"  # of a weekly one
    up_to_level: Level  # messages of this level and below are collected


class Person(Record):
    """Somebody who can be told: a person, or the mailbox of a desk."""

    code: Code
    name: ShortText
    time_zone: ShortText  # IANA name
    language: Language = "en"
    channels: tuple[Code, ...]  # every message goes to each of them
    quiet: QuietHours | None = None
    digest: Digest | None = None


# ---------------------------------------------------------------- roles


class Role(Record):
    """What somebody is for. A level can have several roles: all of them are told."""

    code: Code
    name: ShortText
    level: Level
    scope: Scope


class Rotation(Record):
    """Members in turn: the first from `hand_over` on the day `starts`, each for so many days, then again.

    Turns are counted from there in both directions, so that a rotation has somebody at every time.
    """

    members: tuple[Code, ...]
    starts: date
    hand_over: WallTime
    time_zone: ShortText  # IANA name; a hand-over at 08:00 stays at 08:00 on its clocks
    turn_days: Annotated[int, Field(ge=1, le=366)]


class Holder(Record):
    """Who has a role: persons at all times, or a rotation. All that hold for the same place are told.

    One that names departments (or areas) holds for these, one that names none for all that no other names.
    """

    role: Code
    departments: tuple[Code, ...] = ()  # of a role with the scope department
    areas: tuple[AreaNumber, ...] = ()  # of a role with the scope area
    persons: tuple[Code, ...] = ()
    rotation: Rotation | None = None


class OncallPolicy(Record):
    """Who is told, as the policy says it. A policy that was stored before there were alerts has nobody."""

    channels: tuple[Channel, ...] = ()
    persons: tuple[Person, ...] = ()
    roles: tuple[Role, ...] = ()
    holders: tuple[Holder, ...] = ()

    def channel(self, code: str) -> Channel | None:
        """The channel with this code."""
        return next((one for one in self.channels if one.code == code), None)

    def person(self, code: str) -> Person | None:
        """The person with this code."""
        return next((one for one in self.persons if one.code == code), None)

    def role(self, code: str) -> Role | None:
        """The role with this code."""
        return next((one for one in self.roles if one.code == code), None)

    def roles_of(self, level: int) -> tuple[Role, ...]:
        """The roles that a level tells."""
        return tuple(role for role in self.roles if role.level == level)


# ---------------------------------------------------------------- exceptions


class Override(Record):
    """Somebody else has a role for a while, or explicitly nobody. Of several, the newest (highest id) holds."""

    override_id: Annotated[int, Field(ge=1)]
    role: Code
    department: Code | None = None  # None: for all departments
    area: AreaNumber | None = None  # None: for all areas
    person: Code | None  # None: nobody
    since: Instant
    until: Instant  # no longer at this instant
    by: ShortText
    why: Sentence
    made_at: Instant


# ---------------------------------------------------------------- answers


class Shift(Record):
    """Who has a role from when until when."""

    since: Instant
    until: Instant
    people: tuple[Person, ...]  # none: a gap
    override: Override | None = None  # the one that says so


class Climb(Record):
    """A role had nobody, so that the level above was told as well."""

    role: Code | None  # None: the level has no role
    level: Level
    to_level: Level | None  # None: there is no level above
    because: Sentence


class Recipients(Record):
    """Whom to tell of an alert: the people of its level and, for each role that had nobody, of the levels above."""

    people: tuple[Person, ...]  # each once
    level: Level  # the highest that was asked
    climbed: tuple[Climb, ...] = ()
