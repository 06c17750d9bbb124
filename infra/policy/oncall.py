"""What must hold of oncall.yaml, above all: every role of the ladder has somebody, everywhere, at every time.

A rotation has somebody at every time, and overrides end by themselves; so what holds of the file always holds.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

from infra.policy.document import Document, Keys, found
from infra.policy.references import Errors, Folder, codes, each, unique, unknown
from schemas.oncall import LEVELS, NOBODY, TOP
from schemas.policy import folded

FILE: Final = "oncall.yaml"
PLAIN_SCHEMES: Final = frozenset({
    "mailto", "mailtos", "json", "jsons", "xml", "xmls", "form", "forms", "syslog", "rsyslog",
})  # fmt: skip
"""Apprise URLs that can be without a secret. In all others it is part of the path, as in slack://TOKEN/…"""
SECRET_QUERY: Final = re.compile(r"pass|pwd|token|secret|key|auth|cookie", re.IGNORECASE)
INSTEAD: Final = "use url_env, the name of an environment variable that holds the URL"


def check_channels(folder: Folder) -> Errors:
    """A channel has a URL or the variable that holds it, and no secret stands in the policy."""
    file = folder[FILE]
    for keys, channel in file.rows("channels"):
        if ("url" in channel) == ("url_env" in channel):
            yield file.error(keys, "expected either url or url_env")
        for place, url in file.texts(*keys, "url"):
            problem = _problem_with(url)
            if problem:
                yield file.error(place, problem)


def check_people(folder: Folder) -> Errors:
    """Who can be told has a zone and a channel; quiet hours are some; no code is both a person's and a role's."""
    file = folder[FILE]
    known = codes(file, "channels", "code")
    yield from unknown(file, each(file, "persons", "channels"), known, "a channel")
    for keys, person in file.rows("persons"):
        yield from _zone_errors(file, (*keys, "time_zone"))
        yield from unique(file, file.texts(*keys, "channels"), folded)
        if person.get("channels") == []:
            yield file.error((*keys, "channels"), "expected at least one, found an empty list")
        for place, span in file.rows(*keys, "quiet", "spans"):
            hours = span.get("hours")
            if isinstance(hours, str) and hours[:5] == hours[6:]:
                yield file.error(
                    (*place, "hours"),
                    f"expected hours that end at another time than they begin, found {found(hours)}",
                )
    roles = codes(file, "roles", "code")
    for keys, code in each(file, "persons", "code"):
        if code == NOBODY:
            yield file.error(keys, f"expected another code; {NOBODY} is what an override says for nobody")
        if code in roles:
            yield file.error(keys, f"expected a code that no role has, found {found(code)}")


def check_levels(folder: Folder) -> Errors:
    """Each level of the ladder has a role."""
    file = folder[FILE]
    if not isinstance(file.get("roles"), list):
        return
    given = {level for _, level in each(file, "roles", "level")}
    for level in LEVELS:
        if level not in given:
            yield file.error(
                ("roles",), f"has no role of level {level}; every level of the ladder tells somebody"
            )


def check_holders(folder: Folder) -> Errors:
    """Holders name roles, people and places that exist, and places of the kind that the role is for."""
    file = folder[FILE]
    persons, roles = codes(file, "persons", "code"), codes(file, "roles", "code")
    departments = codes(folder["departments.yaml"], "departments", "code")
    areas = {number for _, number in each(folder["areas.yaml"], "areas", "number")}
    yield from unknown(file, each(file, "holders", "role"), roles, "a role")
    yield from unknown(file, each(file, "holders", "persons"), persons, "a person")
    yield from unknown(file, each(file, "holders", "departments"), departments, "a department")
    for keys, number in each(file, "holders", "areas"):
        if areas and number not in areas:
            yield file.error(keys, f"expected the number of an area, found {found(number)}")
    for keys, holder in file.rows("holders"):
        yield from unique(file, file.texts(*keys, "persons"), folded)
        yield from _rotation_errors(file, keys, holder, persons)
        yield from _scope_errors(file, keys, holder)


def check_every_role_is_held(folder: Folder) -> Errors:
    """Every role has somebody, in every department or area that it is had in; at the top even where there is none."""
    file = folder[FILE]
    if not isinstance(file.get("holders"), list):
        return
    places: dict[str, list[Any]] = {
        "department": [code for _, code in each(folder["departments.yaml"], "departments", "code")],
        "area": [number for _, number in each(folder["areas.yaml"], "areas", "number")],
    }
    for keys, role in file.rows("roles"):
        yield from _held_errors(file, keys, role, places.get(str(role.get("scope")), []))


ONCALL_CHECKS: tuple[Callable[[Folder], Errors], ...] = (
    check_channels,
    check_people,
    check_levels,
    check_holders,
    check_every_role_is_held,
)


# ---------------------------------------------------------------- channels


def _problem_with(url: str) -> str | None:
    """What is wrong with a URL in the policy; the sentence never repeats it."""
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return "is no URL; expected one such as mailto://mail.example.org?to=desk@example.org"
    if not parts.scheme or "://" not in url:
        return "is no URL; expected one such as mailto://mail.example.org?to=desk@example.org"
    if password is not None:
        return f"holds a password; {INSTEAD}"
    if parts.scheme.lower() not in PLAIN_SCHEMES:
        return f"is of the kind {found(parts.scheme)}, whose URLs hold a secret; {INSTEAD}"
    if any(SECRET_QUERY.search(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        return f"holds a password or a key in its query; {INSTEAD}"
    return None


# ---------------------------------------------------------------- holders


def _zone_errors(file: Document, keys: Keys) -> Errors:
    for place, name in file.texts(*keys):
        try:
            ZoneInfo(name)
        except (LookupError, ValueError, OSError):
            yield file.error(
                place, f"expected an IANA time zone such as America/Chicago, found {found(name)}"
            )


def _rotation_errors(file: Document, keys: Keys, holder: dict[str, Any], persons: set[str]) -> Errors:
    rotation = holder.get("rotation")
    if rotation is None and not holder.get("persons"):
        yield file.error(keys, "holds nobody: expected persons or a rotation")
    if not isinstance(rotation, dict):
        return
    place = (*keys, "rotation")
    yield from _zone_errors(file, (*place, "time_zone"))
    yield from unknown(file, file.texts(*place, "members"), persons, "a person")
    if rotation.get("members") == []:
        yield file.error((*place, "members"), "expected at least one, found an empty list")


def _scope_errors(file: Document, keys: Keys, holder: dict[str, Any]) -> Errors:
    roles = [role for _, role in file.rows("roles") if role.get("code") == holder.get("role")]
    scope = roles[0].get("scope") if roles else None
    for field, wanted in (("departments", "department"), ("areas", "area")):
        if holder.get(field) and scope is not None and scope != wanted:
            yield file.error(
                (*keys, field), f"expected no {field}: the role {holder.get('role')} has the scope {scope}"
            )


def _held_errors(file: Document, keys: Keys, role: dict[str, Any], places: Iterable[Any]) -> Errors:
    code, scope = role.get("code"), role.get("scope")
    held = [
        holder for _, holder in file.rows("holders") if holder.get("role") == code and _has_somebody(holder)
    ]
    if not held:
        yield file.error(keys, f"nobody has the role {code}: expected a holder for it")
        return
    field = "departments" if scope == "department" else "areas"
    if scope == "city" or any(not holder.get(field) for holder in held):
        return
    named = [place for holder in held for place in _listed(holder.get(field))]
    missing = [str(place) for place in places if place not in named]
    if missing:
        yield file.error(
            keys, f"nobody has the role {code} in the {field} {_some(missing)}: expected a holder"
        )
    elif role.get("level") == TOP:
        yield file.error(
            keys,
            f"the role {code} is of level {TOP}, above which is nobody: expected a holder without {field}",
        )


def _has_somebody(holder: dict[str, Any]) -> bool:
    rotation = holder.get("rotation")
    return bool(holder.get("persons")) or bool(isinstance(rotation, dict) and rotation.get("members"))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
