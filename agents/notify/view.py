"""What a template is given of an alert: all that may be said of it, and nothing else. Pure."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from schemas.alert import NO_CLOCK, NOBODYS, Alert
from schemas.notification import Item, ItemKind, Reason

What = Literal["overdue", "due", "no_clock", "nobodys"]
LISTED = 40
"""Alerts that one message lists by name; the others it counts."""


class Names(NamedTuple):
    """How codes of the policy are called, and where an alert is found."""

    department: Callable[[str], str]
    area: Callable[[int], str]
    link: Callable[[Alert], str | None]


class Line(NamedTuple):
    """One alert, as a template may show it."""

    what: What
    title: str  # the work, in the words that the department reads
    category: str
    work: str
    reference: str
    address: str | None  # the block
    area: str | None
    department: str  # who has it
    priority: str
    clock: str
    rung: str
    level: int
    due_at: datetime | None
    late_by: timedelta | None  # how long it has been overdue; None: it is not
    left: timedelta | None  # how long until it is due; None: it is overdue, or has no due time
    noticed_late: bool
    alert_id: str
    link: str | None
    acknowledge: str  # the command
    again: bool  # it was told before: it came back
    handed_over: bool
    correction: bool
    reasons: Sequence[Reason]
    simulated: bool


class Group(NamedTuple):
    """Alerts that are the same but for the place and the order."""

    what: What
    title: str
    category: str
    work: str
    area: str | None
    clock: str
    correction: bool
    total: int
    orders: int
    lines: Sequence[Line]  # those that are listed


class Notice(NamedTuple):
    """A notice of ours."""

    kind: ItemKind
    about: str
    people: Sequence[str]
    since: datetime | None
    waiting: int


def line_of(item: Item, now: datetime, names: Names) -> Line:
    """An alert or its correction."""
    event = item.event
    assert event is not None  # notices have views of their own
    alert = event.alert
    overdue = alert.due_at is not None and now > alert.due_at
    return Line(
        what=_what(alert, overdue), title=alert.title, category=alert.category, work=alert.work,
        reference=alert.reference, address=alert.address,
        area=names.area(alert.area) if alert.area is not None else None,
        department=names.department(alert.department), priority=alert.priority, clock=alert.clock,
        rung=alert.rung, level=alert.level, due_at=alert.due_at,
        late_by=now - alert.due_at if alert.due_at is not None and overdue else None,
        left=alert.due_at - now if alert.due_at is not None and not overdue else None,
        noticed_late=alert.late, alert_id=str(alert.alert_id), link=names.link(alert),
        acknowledge=f"rapid alerts acknowledge {alert.alert_id}",
        again=event.kind in {"fired_again", "unacknowledged", "woken", "back"},
        handed_over=event.kind == "handed_over", correction=item.kind == "correction",
        reasons=item.reasons, simulated=alert.simulated,
    )  # fmt: skip


def highest(items: Sequence[Item]) -> list[Item]:
    """What one message says of each promise: the highest point that was reached, and not each below it as well. What
    was handed over is told beside what was not, and so are corrections; notices all stay."""
    found: dict[object, Item] = {}
    for place, item in enumerate(items):
        key = _promise(item) or place
        if key not in found or _height(item) > _height(found[key]):
            found[key] = item
    return list(found.values())


def groups_of(lines: Sequence[Line], listed: int = LISTED) -> list[Group]:
    """By promise, work and area; the largest first. At most `listed` lines are shown, from the first group on."""
    found: dict[tuple[object, ...], list[Line]] = {}
    for one in lines:
        key = (one.correction, one.what, one.clock, one.category, one.work, one.area)
        found.setdefault(key, []).append(one)
    groups = []
    for same in sorted(found.values(), key=lambda same: (same[0].correction, -len(same))):
        groups.append(_group(same, max(listed, 0)))
        listed -= len(same)
    return groups


def notice_of(item: Item) -> Notice:
    """A notice of ours."""
    return Notice(item.kind, item.about or "", item.people, item.since, item.waiting)


def _promise(item: Item) -> tuple[object, ...] | None:
    if item.event is None:
        return None
    alert = item.event.alert
    return item.kind, item.event.kind == "handed_over", alert.order_id, alert.clock, alert.cycle


def _height(item: Item) -> tuple[int, datetime]:
    assert item.event is not None  # only alerts are compared
    return item.event.alert.level, item.event.alert.at


def _group(same: Sequence[Line], listed: int) -> Group:
    first = same[0]
    return Group(
        first.what, first.title, first.category, first.work, first.area, first.clock, first.correction,
        len(same), len({one.reference for one in same}), same[:listed],
    )  # fmt: skip


def _what(alert: Alert, overdue: bool) -> What:
    if alert.rung == NO_CLOCK:
        return "no_clock"
    if alert.rung == NOBODYS:
        return "nobodys"
    return "overdue" if overdue or alert.breach else "due"
