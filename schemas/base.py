"""What every schema of the system shares: a frozen, strict base and the bounded field types."""

from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha1
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

# The root of every deterministic id. Never change it: ids are derived from it.
NAMESPACE = UUID("8f6f3c1e-6f0a-5f52-9d0e-6a3f1f7b2c11")


class Record(BaseModel):
    """A value: frozen, strict, no unknown fields, and errors that never repeat the input."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", hide_input_in_errors=True, ser_json_timedelta="iso8601"
    )


_NAMESPACE_BYTES = NAMESPACE.bytes
_VARIANT = tuple("89ab"[digit % 4] for digit in range(16))  # the two highest bits of the digit become 10


@lru_cache(maxsize=16_384)  # a batch asks for the same ids again and again
def derived_id(*parts: str) -> UUID:
    """The UUIDv5 of a natural key: the same parts give the same id, today and in a replay."""
    return UUID(derived_text(":".join(parts)))


def derived_text(name: str) -> str:
    """`str(uuid5(NAMESPACE, name))` (RFC 9562, 5.5) without the objects in between: every event needs one."""
    digits = sha1(_NAMESPACE_BYTES + name.encode(), usedforsecurity=False).hexdigest()
    variant = _VARIANT[int(digits[16], 16)]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def _in_utc(at: datetime) -> datetime:
    try:
        return at if at.tzinfo is UTC else at.astimezone(UTC)
    except OverflowError as error:  # the first or the last hours of the calendar, in another zone
        raise ValueError("a moment between the years 1 and 9999 in UTC") from error


Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A moment with a zone, held in UTC."""

Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
Longitude = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
CODE_PATTERN = r"^[a-z0-9][a-z0-9_-]*$"
KEY_PATTERN = r"^[^\x00-\x1f\x7f|]+$"
TEXT_PATTERN = r"^[^\x00]*$"

Code = Annotated[str, Field(min_length=1, max_length=40, pattern=CODE_PATTERN)]
"""A code of the policy: a category, a department, a source."""
NaturalKey = Annotated[str, Field(min_length=1, max_length=80, pattern=KEY_PATTERN)]
"""An identifier given by the outside world: a case number, a request number."""
ShortText = Annotated[str, Field(min_length=1, max_length=200, pattern=TEXT_PATTERN)]
Sentence = Annotated[str, Field(min_length=1, max_length=2000, pattern=TEXT_PATTERN)]
"""Words for a person; long enough for any that holds a few short texts."""
AreaNumber = Annotated[int, Field(ge=1, le=9999)]
Version = Annotated[int, Field(ge=0)]

BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)


class Point(Record):
    """A place on earth, WGS 84 degrees."""

    lat: Latitude
    lon: Longitude
