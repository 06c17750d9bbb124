"""What a department says about an order, how it is answered, and the ledger that keeps both."""

from typing import Annotated, Final, Literal, NamedTuple
from uuid import UUID

from pydantic import Field

from schemas.base import Code, Instant, NaturalKey, Record, Sentence, ShortText, Version
from schemas.dead_letter import Unreadable
from schemas.work_order import ClockName, DepartmentState, OrderKey, Outcome, Reference

Verb = Literal[
    "acknowledge", "start", "hold", "resume", "complete", "resolve", "verify", "reopen", "reject", "cancel", "route",
    "note", "photo", "assign", "estimate",
]  # fmt: skip
Verdict = Literal["accepted", "ignored", "refused"]
"""`accepted`: it counts. `ignored`: it changes nothing now, and counts should an earlier one arrive late.
`refused`: it never counts; `because` says what to do."""

PhotoLink = Annotated[str, Field(max_length=500, pattern=r"^https://[^\s\x00-\x1f\"<>]+$")]


class WorkOrderUpdate(Record):
    """One update, as a department sends it to `work-order-updates.<department>` or to the API.

    Which members a verb needs, and which it may have, is in `MEMBERS`.
    """

    update_id: NaturalKey  # the sender's own: the same id is the same update, however often it is sent
    reference: Reference
    verb: Verb
    at: Instant | None = None  # when it happened; None: when it reached us
    if_version: Version | None = None  # refused unless this is the version that the department was told last
    reason: Code | None = None  # hold: one of the policy's
    stage: ClockName | None = None  # complete: which stage of the work is done
    outcome: Outcome | None = None
    duplicate_of: Reference | None = None
    to_department: Code | None = None
    text: Sentence | None = None
    photo: PhotoLink | None = None
    crew: ShortText | None = None
    estimate: Instant | None = None  # when the work is expected to be done
    by: ShortText | None = None  # who says so, in the department's own words


class UnreadableUpdate(Unreadable):
    """A record that is no `WorkOrderUpdate`, and still says which update it is: its sender can be answered."""

    update_id: NaturalKey
    reference: Reference


class Members(NamedTuple):
    """Members of an update beside those that every one may have."""

    needs: tuple[str, ...] = ()
    may_have: tuple[str, ...] = ()


ALWAYS: Final = ("update_id", "reference", "verb", "at", "if_version", "text", "by")
MEMBERS: Final[dict[Verb, Members]] = {
    "acknowledge": Members(may_have=("crew", "estimate")),
    "start": Members(may_have=("crew", "estimate")),
    "hold": Members(needs=("reason",), may_have=("estimate",)),
    "resume": Members(may_have=("estimate",)),
    "complete": Members(needs=("stage",), may_have=("photo",)),
    "resolve": Members(needs=("outcome",), may_have=("duplicate_of", "photo")),
    "verify": Members(may_have=("photo",)),
    "reopen": Members(needs=("text",)),
    "reject": Members(needs=("text",), may_have=("to_department",)),
    "cancel": Members(needs=("text",)),
    "route": Members(needs=("to_department",)),
    "note": Members(needs=("text",)),
    "photo": Members(needs=("photo",)),
    "assign": Members(needs=("crew",)),
    "estimate": Members(needs=("estimate",)),
}


class Misfit(NamedTuple):
    """A member that does not fit the update's verb."""

    field: str
    expected: str


def misfit(update: WorkOrderUpdate) -> Misfit | None:
    """The first member that is missing for the verb, or that the verb has no use for; None: all fit."""
    members = MEMBERS[update.verb]
    for name in members.needs:
        if getattr(update, name) is None:
            return Misfit(name, f"this member, which the verb {update.verb} requires")
    for name in sorted(update.model_fields_set - {*ALWAYS, *members.needs, *members.may_have}):
        if getattr(update, name) is not None:
            return Misfit(name, f"no {name}: the verb {update.verb} has no use for it")
    if (update.outcome == "duplicate_of") != (update.duplicate_of is not None):
        return Misfit("duplicate_of", "the original's reference, together with the outcome duplicate_of")
    if update.duplicate_of == update.reference:
        return Misfit("duplicate_of", "another order: none is a duplicate of itself")
    return None


class UpdateCommand(Record):
    """An update on its way to its order's one writer: re-keyed, and with its sender, which its topic tells."""

    order_key: OrderKey
    department: Code
    received_at: Instant
    update: WorkOrderUpdate


LinkKind = Literal["is_duplicate", "original_resolved", "original_reopened", "original_cancelled"]


class Link(Record):
    """A word between two orders of which one is a duplicate of the other. `order_key` is the addressee's.

    `is_duplicate`: `other` was resolved as a duplicate of the addressee. The others tell how the addressee's original
    stands: resolved with this outcome, open again, or cancelled, so that the duplicate is to be done after all.
    """

    order_key: OrderKey
    reference: Reference  # the addressee
    kind: LinkKind
    other: Reference
    version: Version  # of the other order: of two words from it, the later holds
    outcome: Outcome | None = None
    at: Instant


class LedgerEntry(Record):
    """One line of an order's ledger: an update or a link with the verdict on it. Never changed, never deleted."""

    order_id: UUID
    seq: Annotated[int, Field(ge=1)]  # 1, 2, 3 … of this order, as they were handled
    department: Code  # who sent it
    owner: Code  # whose order it was then
    at: Instant  # when it happened
    received_at: Instant
    handled_at: Instant | None = None  # when the order's writer took it up; None: before orders had promises
    update: WorkOrderUpdate | None
    link: Link | None
    verdict: Verdict
    rule: ShortText
    because: Sentence


class UpdateResult(Record):
    """The answer to one update, for its sender: nothing of the incident can be in it."""

    update_id: NaturalKey
    reference: Reference
    verdict: Verdict
    rule: ShortText
    because: Sentence
    state: DepartmentState | None  # of the order afterwards, None where it is not the sender's
    version: Version | None  # that the department was told last


class ServiceRequestNews(Record):
    """What a 311 system is told of a request that an order covers. The public may read it."""

    request_number: NaturalKey
    reference: Reference
    status: Literal["open", "closed"]
    outcome: Outcome | None
    version: Version
