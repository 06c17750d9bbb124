"""City-service issues: what a 311 system said (a report) and the issue that its requests are about."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import (
    AreaNumber,
    Code,
    Instant,
    NaturalKey,
    Point,
    Record,
    ShortText,
    Version,
    derived_id,
)

RequestStatus = Literal["open", "completed", "canceled"]


class IssueReport(Record):
    """One revision of one service request."""

    source: Code
    request_number: NaturalKey
    category: Code  # a category of the policy
    service_code: ShortText | None = None  # the source's own code or type
    status: RequestStatus
    created_at: Instant
    revised_at: Instant
    closed_at: Instant | None = None
    duplicate: bool = False
    parent_number: NaturalKey | None = None
    address: ShortText | None = None
    published_area: AreaNumber | None = None
    published_area_name: ShortText | None = None
    ward: ShortText | None = None
    beat: ShortText | None = None
    point: Point | None = None
    simulated: bool = False

    @property
    def key(self) -> str:
        """The Kafka key."""
        return f"{self.source}:{self.request_number}"


class IssuePhase(Record):
    """What we held to be true of an issue from one revision on."""

    since: Instant
    status: RequestStatus
    created_at: Instant
    folded: bool  # a duplicate: its parent stands for it
    category: Code
    address: ShortText | None
    published_area: AreaNumber | None
    published_area_name: ShortText | None
    point: Point | None


class Issue(Record):
    """One issue, folded from all revisions of its request and of the duplicates that name it as parent."""

    issue_id: UUID
    source: Code
    request_number: NaturalKey
    version: Version  # report revisions known, the duplicates' included
    status: RequestStatus
    category: Code
    created_at: Instant
    closed_at: Instant | None
    folded_into: UUID | None  # the parent issue, when this request is a duplicate
    covers: Annotated[tuple[NaturalKey, ...], Field(min_length=1)]  # its own number and its duplicates'
    known_by: Literal["own_report", "duplicates"]
    phases: Annotated[tuple[IssuePhase, ...], Field(min_length=1)]
    void_phases: tuple[IssuePhase, ...] = ()  # what some reports alone would say; held for no time at all
    simulated: bool

    @property
    def now(self) -> IssuePhase:
        """The phase that holds now."""
        return self.phases[-1]

    @property
    def ever(self) -> tuple[IssuePhase, ...]:
        """All that it may ever have been held to be, whichever reports came first; the last one holds now."""
        return (*self.void_phases, *self.phases)


def issue_id_of(source: str, request_number: str) -> UUID:
    """The id of the issue with this request number."""
    return derived_id("issue", source, request_number)
