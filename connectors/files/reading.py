"""What a parser is given besides the row, and what it may answer besides a report."""

from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

from schemas.policy import Policy


class Reading(NamedTuple):
    """How the rows of one installation are read: its policy, and the zone of its wall clocks."""

    policy: Policy
    zone: ZoneInfo

    @classmethod
    def by(cls, policy: Policy) -> Self:
        """The reading that this policy asks for."""
        return cls(policy, ZoneInfo(policy.city.time_zone))


class OutOfScope(NamedTuple):
    """A sound row that is not about our subject: counted by its type."""

    type: str
