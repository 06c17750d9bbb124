"""Alerts to try templates with: every branch that the shipped ones have. Pure, and of no real order."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from agents.notify.view import Names
from schemas.alert import NO_CLOCK, NOBODYS, Alert, AlertEvent, AlertEventKind, alert_id_of
from schemas.notification import Item, ItemKind, Reason, Template
from schemas.work_order import order_id_of, order_key_of, reference_of

NOW: Final = datetime(2026, 11, 24, 21, 30, tzinfo=UTC)
NAMES: Final = Names(
    department=lambda code: f"Department {code.upper()}",
    area=lambda number: {25: "Austin", 26: "West Garfield Park"}.get(number, str(number)),
    link=lambda alert: f"https://rapid.example/alerts/{alert.alert_id}",
)
MARKUP: Final = "<bench>"
"""In a sample's title: rich messages must escape it."""
NO_LINKS: Final = NAMES._replace(link=lambda _: None)


class Sample(NamedTuple):
    """What a template is tried with."""

    items: tuple[Item, ...]
    now: datetime = NOW
    names: Names = NAMES


def alert(number: int = 1, **changes: Any) -> Alert:
    """An alert of an invented order: 3 h overdue, unless told otherwise."""
    key = order_key_of("street_light", "fix", f"sample-{number}")
    order_id = order_id_of(key)
    values: dict[str, Any] = {
        "order_id": order_id, "order_key": key, "reference": reference_of(order_id.int), "department": "cdot",
        "category": "street_light", "work": "fix", "priority": "high", "title": "Repair street light",
        "address": f"{4000 + number} W WEST END AVE", "area": 25, "clock": "resolve", "cycle": 1,
        "rung": "breach", "level": 2, "breach": True, "at": NOW - timedelta(hours=3),
        "due_at": NOW - timedelta(hours=3), "fired_at": NOW - timedelta(minutes=1), "late": False,
        "because": "The time to resolve it is over.", "state": "open", "simulated": False,
    }  # fmt: skip
    values |= changes
    values["alert_id"] = alert_id_of(order_id, values["clock"], values["cycle"], values["rung"])
    return Alert.model_validate(values)


def event(of: Alert, kind: AlertEventKind = "fired", seq: int = 1, at: datetime = NOW) -> AlertEvent:
    """What happened to it."""
    return AlertEvent(alert=of, seq=seq, kind=kind, at=at, because=of.because)


def item(
    of: Alert | None = None, kind: ItemKind = "alert", event_kind: AlertEventKind = "fired", *reasons: Reason
) -> Item:
    """What a notification says of it."""
    of = of or alert()
    return Item(kind=kind, level=of.level, event=event(of, event_kind), reasons=reasons)


def _notice(kind: ItemKind, **values: Any) -> Item:
    return Item(kind=kind, level=3, **values)


_SOON: Final = alert(2, rung="soon", breach=False, level=1, due_at=NOW + timedelta(hours=26, minutes=5))
_NOBODY: Final = Reason(kind="nobody", name="Dispatcher of the department")
_UNREACHABLE: Final = Reason(kind="unreachable", name="Sam Sample")
_ALL: Final = (
    item(),
    item(_SOON),
    item(alert(3, clock="acknowledge", address=None)),
    item(alert(4, clock="notify_owner", category="vacant_lot", title="Clean vacant lot", area=None)),
    item(alert(5, clock="abate", category="vacant_lot", title="Clean vacant lot", address=None, area=None)),
    item(alert(6, clock="inspect", work="inspect", category="graffiti", title="Inspect the block for graffiti")),
    item(alert(7, rung=NO_CLOCK, due_at=None, breach=False, level=3)),
    item(alert(8, clock="order", rung=NOBODYS, due_at=None, breach=False, level=1)),
    item(alert(9, due_at=None)),
    item(alert(10, rung="soon", breach=False, due_at=None)),
    item(alert(11, late=True, simulated=True, category="other", title=f"Paint {MARKUP} & rail")),
    item(alert(12), "alert", "handed_over"),
    item(alert(13), "alert", "unacknowledged"),
    item(alert(14), "alert", "fired", _NOBODY, _UNREACHABLE),
)  # fmt: skip
_STORM: Final = tuple(item(alert(number)) for number in range(1, 61))
_CORRECTION: Final = item(alert(15, category="other", title=f"Paint {MARKUP}"), "correction", "withdrawn")
_CORRECTIONS: Final = tuple(item(alert(number), "correction", "withdrawn") for number in range(1, 61))

SAMPLES: Final[Mapping[Template, tuple[Sample, ...]]] = {
    "alert": (*(Sample((one,)) for one in _ALL), Sample((_ALL[0],), names=NO_LINKS)),
    "alerts": (Sample(_STORM), Sample(_ALL), Sample(_ALL, names=NO_LINKS)),
    "digest": (
        Sample((*_ALL, _CORRECTION)), Sample(_STORM), Sample((item(_SOON),)),
        Sample(_ALL, names=NO_LINKS),
    ),
    "correction": (Sample((_CORRECTION,)), Sample(_CORRECTIONS), Sample((_CORRECTION,), names=NO_LINKS)),
    "notice": (
        Sample((_notice("channel_dead", about="desk-mail", people=("Sam Sample",), since=NOW, waiting=3),)),
        Sample(tuple(_notice("channel_dead", about=f"mail-{n}", people=("Sam",), since=NOW) for n in range(5))),
        Sample(tuple(_notice("channel_back", about=f"mail-{n}", since=NOW) for n in range(5))),
        Sample((_notice("channel_back", about="desk-mail", since=NOW),)),
        Sample((_notice("template_failed", about="templates/alert.en.txt:3"),)),
    ),
}  # fmt: skip
