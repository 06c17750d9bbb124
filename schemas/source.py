"""Where reports come from, and how well: what a supervisor is told of each source."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Instant, Record, ShortText

SourceWay = Literal["webhook", "folder", "rest", "portal", "replay", "intake"]
"""How reports come in. `intake`: all that the stream took in of this source, whichever way it came; a producer on Kafka
is seen here alone."""

Count = Annotated[int, Field(ge=0)]


class SourceLine(Record):
    """One way in of one source. `lag_s`: the age of the newest revision that was seen."""

    source: ShortText
    way: SourceWay
    what: ShortText  # a mapping file, a dataset, a topic
    configured: bool  # by a mapping file or by the settings; else it was only seen
    last_success_at: Instant | None
    newest_at: Instant | None
    lag_s: Count | None
    accepted_24h: Count
    refused_24h: Count
    problem: str | None  # the last one that still stands, in a sentence
    problem_at: Instant | None


class SourceLines(Record):
    """All of them."""

    items: tuple[SourceLine, ...]
