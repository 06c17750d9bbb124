"""Pure: what a city's endpoint says of a request, as what the department says of its order.

Open311 knows two statuses. `closed` means that nobody works on it any more, not that anything was fixed; only the
notes can say that, and only phrases that are listed are believed. An order is filed under a description that the
public may read: the work, and our reference, nothing else.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from connectors.open311.model import text
from connectors.open311.parameters import w3_moment
from schemas.base import Record, derived_id
from schemas.work_order import DepartmentWorkOrder, Outcome
from schemas.work_order_update import Verb, WorkOrderUpdate

Meaning = Outcome | Literal["note"]
"""What a closing note comes to; `note`: nothing was done, so the order stays open and the note is passed on."""
Phrases = Sequence[tuple[str, Meaning]]

UNEXPLAINED: Final[Meaning] = "inspected"
"""A request that is closed without a phrase that is known: somebody looked. Never `fixed`."""
PHRASES: Final[tuple[tuple[str, Meaning], ...]] = (
    ("duplicate", "note"),
    ("cancel", "note"),
    ("no such address", "no_such_address"),
    ("address not found", "no_such_address"),
    ("found working", "found_working"),
    ("found in working", "found_working"),
    ("contractor", "contractor_maintained"),
    ("private property", "private_property"),
    ("no access", "no_access"),
    ("unable to access", "no_access"),
    ("not found", "not_found"),
    ("repaired", "fixed"),
    ("fixed", "fixed"),
    ("replaced", "fixed"),
    ("restored", "fixed"),
    ("graffiti removed", "fixed"),
    ("lot cleaned", "fixed"),
    ("secured", "fixed"),
)
"""What is believed where an endpoint has no phrases of its own; the first that fits counts."""
IN_PROGRESS: Final = frozenset({"in_progress", "in progress", "started", "work in progress", "underway"})
MOST_TEXT: Final = 1_900
_NEGATED: Final = re.compile(
    r"\b(not|no|never|without|unable|cannot|can't|couldn't|could not|wasn't|isn't|to be|will be|needs?|scheduled)\b"
)
_SENTENCE: Final = re.compile(r"[.;!?\n]+")


class Seen(Record):
    """What an endpoint said of a request."""

    status: Literal["open", "closed"]
    notes: str | None = None
    updated: str | None = None  # as it was written: it makes the ids of what we say of it
    expected: str | None = None
    state: str | None = None  # an extension: finer than the status
    parent: str | None = None  # an extension: the request that this one repeats


class Said(NamedTuple):
    """What follows from a change: updates in their order; `follow`: the request to be followed from now on."""

    updates: tuple[WorkOrderUpdate, ...]
    follow: str | None = None


class Request(NamedTuple):
    """A request at an endpoint, and the order that it was filed for."""

    department: str
    reference: str
    number: str


class Malformed(ValueError):
    """An answer that cannot be used; one sentence."""


def seen_of(request: Mapping[str, Any]) -> Seen:
    """What is said of a request in one member of the answer. Raises Malformed."""
    status = str(request.get("status", "")).strip().lower()
    if status not in ("open", "closed"):
        raise Malformed("The answer has a request whose status is neither open nor closed.")
    more = request.get("extended_attributes")
    extended: Mapping[str, Any] = more if isinstance(more, Mapping) else {}
    return Seen(
        status="open" if status == "open" else "closed",
        notes=_words(request.get("status_notes"), MOST_TEXT),
        updated=_words(request.get("updated_datetime"), 60),
        expected=_words(request.get("expected_datetime"), 60),
        state=_words(extended.get("state") or extended.get("status"), 60),
        parent=_words(extended.get("parent_service_request_id"), 80),
    )


def _words(value: object, most: int) -> str | None:
    """A text of a stranger's: bounded, on one line."""
    if value is None or isinstance(value, Mapping | list | bool):
        return None
    found = " ".join((text(str(value)[: most * 4]) or "").split())
    return re.sub(r"[\x00-\x1f\x7f]", "", found)[:most] or None


def description_of(order: DepartmentWorkOrder) -> str:
    """What the public may read of an order: the work and its reference. No reason, no priority, no time."""
    return f"{order.title} ({order.reference})"


def says(request: Request, before: Seen | None, after: Seen, phrases: Phrases, now: datetime) -> Said:
    """What follows from what the endpoint says now, given what it said before (None: nothing yet)."""
    say = _Speaker(request, after, now)
    if before is None:
        say.add("acknowledge")
    elif before.status == "closed" and after.status == "open":
        say.add("reopen", text=after.notes or "The request was opened again.")
    if after.status == "closed" and (before is None or before.status == "open"):
        return Said(tuple(say.closed(phrases)), after.parent)
    if after.status == "open":
        say.working(before)
    elif before is not None and after.notes and after.notes != before.notes:
        say.add("note", text=after.notes)
    return Said(tuple(say.updates))


class _Speaker:
    """Makes updates of one change; each has an id that the same change gives again."""

    def __init__(self, request: Request, seen: Seen, now: datetime) -> None:
        self._request = request
        self._seen = seen
        self._at = _moment(seen.updated, now)
        self.updates: list[WorkOrderUpdate] = []

    def add(self, verb: Verb, **members: Any) -> None:
        seen, said = self._seen, repr(sorted(members.items()))
        name = derived_id("open311-update", *self._request, verb, seen.status, seen.updated or "", said)
        update = WorkOrderUpdate(
            update_id=f"open311-{name}", reference=self._request.reference, verb=verb, at=self._at,
            by=f"311 request {self._request.number}", **members,
        )  # fmt: skip
        self.updates.append(update)

    def closed(self, phrases: Phrases) -> list[WorkOrderUpdate]:
        """The closure. A note that nothing was done leaves the order open; people read it in the timeline."""
        notes = self._seen.notes
        meaning = meaning_of(notes, phrases)
        if meaning == "note":
            self.add("note", text=f"The request was closed: {notes}")
        else:
            self.add("resolve", outcome=meaning, text=notes or "The request was closed without a word.")
        return self.updates

    def working(self, before: Seen | None) -> None:
        """News of a request that is open: somebody has started, when it will be done, what else is said."""
        seen = self._seen
        if _has_started(seen) and not (before and _has_started(before)):
            self.add("start")
        expected = w3_moment(seen.expected or "")
        if expected is not None and seen.expected != (before and before.expected):
            self.add("estimate", estimate=expected)
        if seen.notes and seen.notes != (before and before.notes) and not _is_reopened(before):
            self.add("note", text=seen.notes)


def _is_reopened(before: Seen | None) -> bool:
    return before is not None and before.status == "closed"


def _has_started(seen: Seen) -> bool:
    return any((words or "").lower().rstrip(".") in IN_PROGRESS for words in (seen.state, seen.notes))


def _moment(written: str | None, now: datetime) -> datetime | None:
    """When it happened, by the endpoint's clock; None where that is ahead of ours, or not a time."""
    at = w3_moment(written or "")
    return at.astimezone(UTC) if at is not None and at <= now else None


def meaning_of(notes: str | None, phrases: Phrases) -> Meaning:
    """What a closing note comes to. A sentence that denies or only promises does not say that it is fixed."""
    sentences = [one.strip().lower() for one in _SENTENCE.split(notes or "") if one.strip()]
    for phrase, meaning in phrases:
        for sentence in sentences:
            if phrase.lower() in sentence and not (meaning == "fixed" and _NEGATED.search(sentence)):
                return meaning
    return UNEXPLAINED
