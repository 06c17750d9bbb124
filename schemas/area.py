"""Areas of a city."""

from schemas.base import AreaNumber, Record, ShortText
from schemas.response import Tier


class Area(Record):
    """A community area and its tier (`priority` or another one of the policy)."""

    number: AreaNumber
    name: ShortText
    tier: Tier
