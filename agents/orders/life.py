"""Pure: the life of an order. One table says what may follow what; the rest folds a ledger by it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple

from schemas.base import Instant
from schemas.policy import Policy
from schemas.work_order import ClockName, Life, Outcome
from schemas.work_order_update import LedgerEntry, Link, Verb, WorkOrderUpdate

Next = Life | Literal["same"]
"""The state that follows; `same`: it is so already, or past that: the update changes nothing."""

_WORKING: Final[Mapping[Verb, Next]] = {
    "hold": "on_hold", "resolve": "resolved", "reject": "new", "route": "new", "cancel": "cancelled",
    "note": "same", "photo": "same", "assign": "same", "estimate": "same", "complete": "same",
}  # fmt: skip
_DONE: Final[Mapping[Verb, Next]] = {
    "acknowledge": "same", "start": "same", "resume": "same", "resolve": "same", "reopen": "reopened",
    "note": "same", "photo": "same",
}  # fmt: skip

TABLE: Final[Mapping[Life, Mapping[Verb, Next]]] = {
    "new":          {**_WORKING, "acknowledge": "acknowledged", "start": "in_progress", "resume": "same",
                     "complete": "in_progress"},
    "acknowledged": {**_WORKING, "acknowledge": "same", "start": "in_progress", "resume": "same",
                     "complete": "in_progress"},
    "in_progress":  {**_WORKING, "acknowledge": "same", "start": "same", "resume": "same"},
    "on_hold":      {**_WORKING, "acknowledge": "same", "start": "in_progress", "resume": "in_progress"},
    "reopened":     {**_WORKING, "acknowledge": "acknowledged", "start": "in_progress", "resume": "same",
                     "reopen": "same", "complete": "in_progress"},
    "resolved":     {**_DONE, "verify": "verified"},
    "verified":     {**_DONE, "verify": "same"},
    "cancelled":    {"cancel": "same", "note": "same", "photo": "same"},
}  # fmt: skip
"""State × verb → what follows. A verb that is not in a state's row is refused there."""

NOTED: Final[frozenset[Verb]] = frozenset({"note", "photo", "assign", "estimate", "complete"})
"""Verbs that may change no state and yet count."""
STARTS: Final[frozenset[Verb]] = frozenset({"start", "resume", "complete", "resolve"})
"""Verbs that say that somebody has started: such an order does not end with its last cause."""
OF_CENTRE: Final[frozenset[Verb]] = frozenset({"verify", "cancel", "route"})
"""Only the coordination centre decides these."""
OF_BOTH: Final[frozenset[Verb]] = frozenset({"reopen", "note", "photo"})
"""The owner and the centre may say these; everything else is the owner's."""
HANDS_ON: Final[frozenset[Verb]] = frozenset({"reject", "route"})
"""Verbs that make it another department's."""
CLOSED: Final[frozenset[str]] = frozenset({"resolved", "verified", "cancelled", "void"})
"""States in which nothing is to be done. What is asked for then opens the site's next order."""


class Original(NamedTuple):
    """What another order said last of itself, as one that this one is or was a duplicate of."""

    version: int
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Lived:
    """What a ledger adds up to; `department`: whose the order is by then."""

    state: Life
    department: str
    started: bool = False
    rejected_by: tuple[str, ...] = ()
    acknowledged_at: Instant | None = None
    resolved_at: Instant | None = None
    cancelled_at: Instant | None = None
    outcome: Outcome | None = None
    hold_reason: str | None = None
    crew: str | None = None
    estimate: Instant | None = None
    stages: tuple[ClockName, ...] = ()  # those that are done
    duplicate_of: str | None = None
    duplicates: tuple[str, ...] = ()
    originals: Mapping[str, Original] = field(default_factory=dict)  # whenever they were heard of
    drawn_by: Instant | None = None  # when we heard that it is resolved: re-inspection is drawn by it

    @property
    def original_outcome(self) -> Outcome | None:
        """Its original's, once that is resolved."""
        original = self.originals.get(self.duplicate_of) if self.duplicate_of else None
        return original.outcome if original else None


_CLOSED_BY_WORK: Final[tuple[Life, ...]] = ("resolved", "verified")

Effect = Literal["counts", "same", "refused"]


def live(entries: Iterable[LedgerEntry], department: str, policy: Policy) -> Lived:
    """The fold of a ledger, by when things happened; of two at the same instant, the one handled first."""
    lived = Lived("new", department)
    for entry in sorted(entries, key=lambda entry: (entry.at, entry.seq)):
        lived, _ = step(lived, entry, policy)
    return lived


def effect_of(
    entry: LedgerEntry, entries: Iterable[LedgerEntry], department: str, policy: Policy
) -> tuple[Effect, Lived]:
    """What an entry does at its own time, given all others, and what the order was just before it."""
    earlier = [one for one in entries if (one.at, one.seq) < (entry.at, entry.seq)]
    before = live(earlier, department, policy)
    return step(before, entry, policy)[1], before


def step(lived: Lived, entry: LedgerEntry, policy: Policy) -> tuple[Lived, Effect]:
    """The order after one entry, and what that did."""
    if entry.link is not None:
        return _linked(lived, entry.link)
    assert entry.update is not None
    update = entry.update
    following = TABLE[lived.state].get(update.verb)
    if following is None or _contradicts(lived, update) or _not_theirs(lived, entry, update):
        return lived, "refused"
    if update.stage is not None and update.stage in lived.stages:
        return lived, "same"
    if following == "same":
        after = _noted(lived, update) if update.verb in NOTED else lived
        return after, "counts" if update.verb in NOTED else "same"
    return _changed(_noted(lived, update), following, entry, update, policy), "counts"


def _contradicts(lived: Lived, update: WorkOrderUpdate) -> bool:
    """Another outcome than the one that it has, or another original: somebody is mistaken, so it is reopened first."""
    if update.verb != "resolve" or lived.state not in _CLOSED_BY_WORK:
        return False
    return (update.outcome, update.duplicate_of) != (lived.outcome, lived.duplicate_of)


def _not_theirs(lived: Lived, entry: LedgerEntry, update: WorkOrderUpdate) -> bool:
    """The owner's to say, and it was another's then: somebody who is heard of late had handed it on before."""
    return update.verb not in OF_CENTRE | OF_BOTH and entry.department != lived.department


def _noted(lived: Lived, update: WorkOrderUpdate) -> Lived:
    after = replace(lived, crew=update.crew or lived.crew, estimate=update.estimate or lived.estimate)
    return replace(after, stages=(*after.stages, update.stage), started=True) if update.stage else after


def _changed(
    lived: Lived, following: Life, entry: LedgerEntry, update: WorkOrderUpdate, policy: Policy
) -> Lived:
    after = replace(
        lived, state=following, started=lived.started or update.verb in STARTS,
        hold_reason=update.reason if following == "on_hold" else None,
    )  # fmt: skip
    if following != "new" and after.acknowledged_at is None and following != "cancelled":
        after = replace(after, acknowledged_at=entry.at)  # who starts has seen it
    match update.verb:
        case "resolve":
            return replace(
                after, resolved_at=entry.at, outcome=update.outcome, duplicate_of=update.duplicate_of,
                drawn_by=entry.received_at,
            )  # fmt: skip
        case "reopen":
            return _reopened(after)
        case "cancel":
            return replace(after, cancelled_at=entry.at)
        case "reject" | "route":
            return _handed_on(after, update, policy)
    return after


def _reopened(lived: Lived) -> Lived:
    return replace(lived, state="reopened", resolved_at=None, outcome=None, duplicate_of=None, drawn_by=None)


def _handed_on(lived: Lived, update: WorkOrderUpdate, policy: Policy) -> Lived:
    """To the department that was named, unless that has rejected it too: then to the triage queue. Nobody there has
    started."""
    rejected_by = lived.rejected_by
    if update.verb == "reject":
        rejected_by = (*rejected_by, lived.department)
    there = update.to_department
    if there is None or (there in rejected_by and update.verb == "reject"):
        there = policy.triage_queue
    return replace(
        lived,
        department=there,
        started=False,
        rejected_by=rejected_by,
        acknowledged_at=None,
        crew=None,
        estimate=None,
    )


def _linked(lived: Lived, link: Link) -> tuple[Lived, Effect]:
    if link.kind == "is_duplicate":
        if link.other in lived.duplicates:
            return lived, "same"
        return replace(lived, duplicates=(*lived.duplicates, link.other)), "counts"
    known = lived.originals.get(link.other)
    if known is not None and known.version >= link.version:
        return lived, "same"
    originals = {**lived.originals, link.other: Original(link.version, link.outcome)}
    after = replace(lived, originals=originals)
    orphan = lived.duplicate_of == link.other and lived.state in _CLOSED_BY_WORK
    if orphan and link.kind == "original_cancelled":  # nobody does it there, and nobody has started here
        after = replace(_reopened(after), started=False)
    return after, "counts"
