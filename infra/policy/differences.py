"""Pure: in what two policies differ, in words, grouped as people think of it. Addresses of people are never told."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from schemas.policy import Policy

ANOTHER: Final = "another address"
"""What is said of a channel's URL: some hold a token where nobody would look for one."""
_SECRET: Final = frozenset({"url"})
_MOST_LISTED: Final = 12
_KEYS: Final = ("code", "number", "name", "clock", "priority", "rung", "on", "role", "date")
"""What tells the rows of a list apart: the first of these that all of them have, each with another value."""


class Change(NamedTuple):
    """One difference. `field`: "" when the whole subject is new (`old` None) or gone (`new` None)."""

    group: str
    subject: str
    field: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        if not self.field:
            return f"{self.subject} is {'new' if self.old is None else 'gone'}"
        place = f"{self.subject}: {self.field}" if self.subject else self.field
        if self.old is None:
            return f"{place} now {self.new}"
        return f"{place} no longer {self.old}" if self.new is None else f"{place} {self.old} → {self.new}"


class _Part(NamedTuple):
    """Where something stands in a policy, the group that it is told in, and what a row of it is called."""

    group: str
    path: tuple[str, ...]
    row: str = ""


_PARTS: Final = (
    _Part("City", ("city",)),
    _Part("Areas", ("areas",), "area"),
    _Part("Areas", ("priority_areas_since",)),
    _Part("Areas", ("default_tier",)),
    _Part("Areas", ("outside_tier",)),
    _Part("Incidents", ("event_kinds",), "IUCR code"),
    _Part("Incidents", ("near_repeat",), "near repeat"),
    _Part("Severity", ("severity",)),
    _Part("Severity", ("priorities",), "priority"),
    _Part("Plans", ("plans",), "plan"),
    _Part("Categories", ("categories",), "category"),
    _Part("Departments", ("departments",), "department"),
    _Part("Departments", ("triage_queue",)),
    _Part("Routes", ("routes",), "route"),
    _Part("Orders", ("hold_reasons",), "reason to wait"),
    _Part("Orders", ("park_hours",)),
    _Part("Orders", ("reinspect",), "re-inspected percent of"),
    _Part("Promises", ("sla", "promises"), "promise"),
    _Part("Promises", ("sla", "staged")),
    _Part("Promises", ("sla", "boundary")),
    _Part("Promises", ("sla", "reopen_within_hours")),
    _Part("Calendars", ("sla", "calendars"), "calendar"),
    _Part("Alerts", ("sla", "rungs"), "rung"),
    _Part("Alerts", ("sla", "alerting")),
    _Part("People on call", ("oncall", "persons"), "person"),
    _Part("People on call", ("oncall", "channels"), "channel"),
    _Part("People on call", ("oncall", "roles"), "role"),
    _Part("People on call", ("oncall", "holders"), "holders of"),
    _Part("Cells", ("cell_resolution",)),
    _Part("Cells", ("site_cell_resolution",)),
)
OTHER: Final = "Other"
"""The group of what a policy says and this table does not know."""


def differences(old: Policy, new: Policy) -> list[Change]:
    """Everything in which they differ but the version, grouped, in the order of a policy's files."""
    before, after = (policy.model_dump(mode="json", exclude={"version"}) for policy in (old, new))
    changes = [change for part in _PARTS for change in _part(part, before, after)]
    known = {part.path[0] for part in _PARTS}
    for name in sorted((before.keys() | after.keys()) - known):
        changes += _rows(_Part(OTHER, (name,), _words(name)), before.get(name), after.get(name))
    for name in ("sla", "oncall"):
        known = {part.path[1] for part in _PARTS if part.path[0] == name}
        for field in sorted((before[name].keys() | after[name].keys()) - known):
            part = _Part(OTHER, (name, field), _words(field))
            changes += _rows(part, before[name].get(field), after[name].get(field))
    return changes


def by_group(changes: Sequence[Change]) -> dict[str, list[Change]]:
    """The changes of each group, groups in their order."""
    groups: dict[str, list[Change]] = {}
    for change in changes:
        groups.setdefault(change.group, []).append(change)
    return groups


def _part(part: _Part, before: Any, after: Any) -> Iterator[Change]:
    for key in part.path:
        before, after = (before or {}).get(key), (after or {}).get(key)
    yield from _rows(part, before, after)


def _rows(part: _Part, before: Any, after: Any) -> Iterator[Change]:
    """Rows that are new, gone, or have other values."""
    if before == after:
        return
    key = _key_of(before, after)
    if key is not None:
        yield from _keyed(part, _by(key, before), _by(key, after))
        if _order(key, before, after):
            yield Change(part.group, "", f"order of {part.row}s", *_order(key, before, after))
    elif part.row and isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _keyed(part, before, after)
    else:
        yield from _leaves(
            part.group, "", (() if isinstance(before, dict) else (part.path[-1],)), before, after
        )


def _keyed(part: _Part, before: Mapping[Any, Any], after: Mapping[Any, Any]) -> Iterator[Change]:
    for key in [*before, *(key for key in after if key not in before)]:
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        subject = f"{part.row} {_called(key, new if isinstance(new, dict) else old)}".strip()
        plain = not isinstance(old, (dict, list)) and not isinstance(new, (dict, list))
        if plain:
            yield Change(part.group, "", subject, _shown(old), _shown(new))
        elif old is None or new is None:
            yield Change(part.group, subject, "", *(None if one is None else "there" for one in (old, new)))
        else:
            yield from _leaves(part.group, subject, (), old, new)


def _called(key: Any, row: Any) -> str:
    name = row.get("name") if isinstance(row, dict) else None
    return f"{key} ({name})" if name and name != key else str(key)


def _leaves(group: str, subject: str, at: tuple[str, ...], old: Any, new: Any) -> Iterator[Change]:
    """What differs below a row, down to single values; lists of plain values are told by what came and went."""
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _leaves(group, subject, (*at, str(key)), old.get(key), new.get(key))
        return
    key = _key_of(old, new)
    if key is not None:
        before, after = _by(key, old), _by(key, new)
        for one in [*before, *(one for one in after if one not in before)]:
            yield from _leaves(group, subject, (*at, str(one)), before.get(one), after.get(one))
        return
    yield Change(group, subject, _words(" ".join(at)), *_values(at, old, new))


def _values(at: tuple[str, ...], old: Any, new: Any) -> tuple[str | None, str | None]:
    if at and at[-1] in _SECRET:
        return ("an address" if old else None), (ANOTHER if old and new else "an address" if new else None)
    if isinstance(old, list) and isinstance(new, list) and not any(isinstance(x, dict) for x in (*old, *new)):
        gone = [one for one in old if one not in new]
        came = [one for one in new if one not in old]
        if gone or came:
            return _some(gone) or None, _some(came) or None
    return _shown(old), _shown(new)


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return _some(value) or "none"
    if isinstance(value, dict):
        return ", ".join(
            f"{_words(str(key))} {_shown(one)}"
            for key, one in value.items()
            if one is not None and key not in _SECRET
        )
    return f"{value:g}" if isinstance(value, float) else str(value)


def _some(values: Sequence[Any]) -> str:
    listed = ", ".join(str(_shown(one)) for one in values[:_MOST_LISTED])
    return f"{listed} and {len(values) - _MOST_LISTED} more" if len(values) > _MOST_LISTED else listed


def _key_of(old: Any, new: Any) -> str | None:
    """What tells the rows of two lists apart; None: they are no lists of rows, or nothing does."""
    rows = [*(old or ()), *(new or ())] if isinstance(old, list) and isinstance(new, list) else []
    if not rows or not all(isinstance(row, dict) for row in rows):
        return None
    return next((key for key in _KEYS if _tells_apart(key, old) and _tells_apart(key, new)), None)


def _tells_apart(key: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    values = [row.get(key) for row in rows]
    return all(isinstance(one, (str, int)) for one in values) and len(set(values)) == len(values)


def _by(key: str, rows: Sequence[Mapping[str, Any]]) -> dict[Any, Mapping[str, Any]]:
    return {row[key]: row for row in rows}


def _order(key: str, old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The rows that both have, as each has them, where that is another order; rules are tried in theirs."""
    both = {row[key] for row in old} & {row[key] for row in new}
    before, after = ([row[key] for row in rows if row[key] in both] for rows in (old, new))
    return () if before == after else (_some(before), _some(after))


def _words(name: str) -> str:
    return name.replace("_", " ")
