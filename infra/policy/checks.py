"""What must hold between the files of a policy. One small function for each rule, all listed in `CHECKS`.

The checks read the plain documents and pass over what has the wrong shape, so that one mistyped number does
not hide the errors that stand elsewhere. A reference into a file that could not be read is not judged.
"""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from typing import Any, get_args
from zoneinfo import ZoneInfo

from infra.policy.document import Document, Keys, found
from infra.policy.references import Errors, Folder, are_numbers, codes, each, unique, unknown
from schemas.incident import IncidentKind
from schemas.policy import NOBODY_OWNS_IT, OWNER_OF_CATEGORY, WORKS, area_name_key, folded
from schemas.response import PRIORITIES
from schemas.sla import STAGES

PRIORITY_TIER = "priority"
NO_RESPONSE = "not_gun_violence"
TELLING = re.compile(
    r"\b(shoot\w*|shot\w*|gun\w*|firearm\w*|homicid\w*|murder\w*|victim\w*|violen\w*|kill\w*|crim\w*|incident\w*"
    r"|police|weapon\w*|assault\w*|robber\w*|injur\w*|emergenc\w*)\b",
    re.IGNORECASE,
)
"""Words that would tell a department, or the public that reads Open311, of an incident."""


def check_time_zone(folder: Folder) -> Errors:
    """The time zone is one that Python knows."""
    city = folder["city.yaml"]
    for keys, name in city.texts("time_zone"):
        try:
            ZoneInfo(name)
        except (LookupError, ValueError, OSError):
            yield city.error(keys, f"expected an IANA time zone such as America/Chicago, found {found(name)}")


def check_extent(folder: Folder) -> Errors:
    """The rectangle is the right way up."""
    city = folder["city.yaml"]
    for low, high in (("min_lat", "max_lat"), ("min_lon", "max_lon")):
        least, most = city.get("extent", low), city.get("extent", high)
        if are_numbers(least, most) and least >= most:
            yield city.error(("extent", low), f"expected less than {high} ({most}), found {least}")


def check_unique(folder: Folder) -> Errors:
    """What identifies something does so once. Names and 311 codes regardless of case."""
    yield from unique(folder["areas.yaml"], each(folder["areas.yaml"], "areas", "number"), lambda v: v)
    yield from unique(folder["areas.yaml"], each(folder["areas.yaml"], "areas", "name"), area_name_key)
    yield from unique(folder["areas.yaml"], each(folder["areas.yaml"], "tiers", "code"), folded)
    for file, rows, field in (
        ("departments.yaml", "departments", "code"),
        ("departments.yaml", "departments", "source_names"),
        ("categories.yaml", "categories", "code"),
        ("categories.yaml", "categories", "sr_codes"),
        ("categories.yaml", "categories", "sr_types"),
        ("categories.yaml", "categories", "open311_codes"),
        ("plans.yaml", "plans", "name"),
        ("routing.yaml", "routes", "name"),
        ("orders.yaml", "hold_reasons", "code"),
        ("calendars.yaml", "calendars", "code"),
        ("sla.yaml", "promises", "name"),
        ("sla.yaml", "rungs", "name"),
        ("sla.yaml", "rungs", "percent"),
        ("oncall.yaml", "channels", "code"),
        ("oncall.yaml", "persons", "code"),
        ("oncall.yaml", "roles", "code"),
        ("incident_kinds.yaml", "event_kinds", "iucr"),
        ("severity.yaml", "priorities", "priority"),
    ):
        yield from unique(folder[file], each(folder[file], rows, field), folded)


def check_not_empty(folder: Folder) -> Errors:
    """A policy has areas, departments, categories, plans and priorities."""
    for file, key in (
        ("areas.yaml", "areas"),
        ("departments.yaml", "departments"),
        ("categories.yaml", "categories"),
        ("plans.yaml", "plans"),
        ("severity.yaml", "priorities"),
    ):
        if folder[file].get(key) == []:
            yield folder[file].error((key,), "expected at least one, found an empty list")
    for keys, plan in folder["plans.yaml"].rows("plans"):
        for field in ("kinds", "tiers"):
            if plan.get(field) == []:
                yield folder["plans.yaml"].error((*keys, field), "expected at least one, found an empty list")


def check_tiers(folder: Folder) -> Errors:
    """There is a priority tier, tiers name areas that exist, and no area is in two."""
    areas = folder["areas.yaml"]
    numbers = {number for _, number in each(areas, "areas", "number")}
    if isinstance(areas.get("tiers"), list) and PRIORITY_TIER not in codes(areas, "tiers", "code"):
        yield areas.error(("tiers",), f"expected a tier with the code {PRIORITY_TIER}")
    listed = [entry for entry in each(areas, "tiers", "areas") if isinstance(entry[1], int)]
    for keys, number in listed:
        if numbers and number not in numbers:
            yield areas.error(keys, f"expected the number of an area, found {number}")
    yield from unique(areas, listed, lambda value: value)


def check_tier_references(folder: Folder) -> Errors:
    """Plans, weights and the default tiers name tiers that exist, and every tier has a weight."""
    tiers = _tiers(folder)
    if tiers is None:
        return
    plans, severity = folder["plans.yaml"], folder["severity.yaml"]
    yield from unknown(plans, each(plans, "plans", "tiers"), tiers, "a tier")
    weights = severity.get("weights", "tier")
    if isinstance(weights, dict):
        named = [(("weights", "tier", tier), tier) for tier in weights]
        yield from unknown(severity, named, tiers, "a tier")
        for tier in sorted(tiers - weights.keys()):
            yield severity.error(("weights", "tier"), f"gives the tier {tier} no weight; 0 is a weight")


def check_kind_weights(folder: Folder) -> Errors:
    """Every kind of incident has a weight."""
    severity = folder["severity.yaml"]
    weights = severity.get("weights", "kind")
    if isinstance(weights, dict):
        for kind in get_args(IncidentKind):
            if kind not in weights:
                yield severity.error(("weights", "kind"), f"gives {kind} no weight; 0 is a weight")


def check_priorities(folder: Folder) -> Errors:
    """The priorities cover every severity: all are there, lowest first, from 0 on, strictly rising."""
    severity = folder["severity.yaml"]
    steps = list(severity.rows("priorities"))
    if not steps:
        return
    names = [step.get("priority") for _, step in steps]
    for missing in (name for name in PRIORITIES if name not in names):
        yield severity.error(("priorities",), f"has no step for {missing}")
    if set(names) == set(PRIORITIES) and len(names) == len(PRIORITIES) and names != list(PRIORITIES):
        yield severity.error(("priorities",), f"expected the order {', '.join(PRIORITIES)}")
    froms: list[tuple[Keys, Any]] = [(keys, step.get("from_severity")) for keys, step in steps]
    if are_numbers(froms[0][1]) and froms[0][1] != 0:
        yield severity.error(
            (*froms[0][0], "from_severity"),
            f"expected 0, so that every severity has one, found {froms[0][1]}",
        )
    for (_, before), (keys, step) in pairwise(froms):
        if are_numbers(before, step) and step <= before:
            yield severity.error((*keys, "from_severity"), f"expected more than {before}, found {step}")


def check_categories(folder: Folder) -> Errors:
    """Every category is owned by a department that exists."""
    categories, departments = folder["categories.yaml"], folder["departments.yaml"]
    known = codes(departments, "departments", "code")
    yield from unknown(categories, each(categories, "categories", "department"), known, "a department")
    routed = {code for _, code in each(folder["routing.yaml"], "routes", "categories")}
    for keys, category in categories.rows("categories"):
        if category.get("department") is None and category.get("code") not in routed:
            yield categories.error((*keys, "department"), "is missing: nobody owns this category")


def check_triage_queue(folder: Folder) -> Errors:
    """The triage queue is a department."""
    departments = folder["departments.yaml"]
    known = codes(departments, "departments", "code")
    yield from unknown(departments, departments.texts("triage_queue"), known, "a department")


def check_orders(folder: Folder) -> Errors:
    """Re-inspection is drawn for departments that exist; a reason to wait tells of no incident."""
    orders = folder["orders.yaml"]
    known = codes(folder["departments.yaml"], "departments", "code")
    drawn = orders.get("reinspect", "percent")
    for code in drawn if known and isinstance(drawn, dict) else ():
        if code not in known:
            keys = ("reinspect", "percent", code)
            yield orders.error(keys, f"expected the code of a department, found {found(code)}")
    for place, name in each(orders, "hold_reasons", "name"):
        if isinstance(name, str) and (telling := TELLING.search(name)):
            yield orders.error(
                place, f"expected words that tell of no incident, found {found(telling.group())}"
            )


def check_titles(folder: Folder) -> Errors:
    """What a department reads tells of no incident."""
    categories = folder["categories.yaml"]
    for keys, _ in categories.rows("categories"):
        for field in ("name", "fix_title", "inspect_title"):
            for place, title in categories.texts(*keys, field):
                if telling := TELLING.search(title):
                    yield categories.error(
                        place, f"expected words that tell of no incident, found {found(telling.group())}"
                    )


def check_plans(folder: Folder) -> Errors:
    """Plans name categories that exist and kinds that call for a response, once for each kind and tier."""
    plans = folder["plans.yaml"]
    known = codes(folder["categories.yaml"], "categories", "code")
    for field in ("fixes", "inspections"):
        yield from unknown(plans, each(plans, "plans", field), known, "a category")
        for keys, _ in plans.rows("plans"):
            yield from unique(plans, plans.texts(*keys, field), folded)
    for keys, kind in each(plans, "plans", "kinds"):
        if kind == NO_RESPONSE:
            yield plans.error(keys, f"expected a kind with a plan; {NO_RESPONSE} never has one")


def check_plans_do_not_overlap(folder: Folder) -> Errors:
    """At most one plan holds for a kind and a tier."""
    plans = folder["plans.yaml"]
    first: dict[tuple[str, str], str] = {}
    for keys, plan in plans.rows("plans"):
        for _, kind in plans.texts(*keys, "kinds"):
            for _, tier in plans.texts(*keys, "tiers"):
                here = str(plan.get("name"))
                if (kind, tier) in first:
                    yield plans.error(keys, f"{here} overlaps {first[kind, tier]} for {kind} in tier {tier}")
                else:
                    first[kind, tier] = here


def check_routes(folder: Folder) -> Errors:
    """Routing rules name departments, categories and areas that exist, and no reserved name."""
    routing = folder["routing.yaml"]
    departments = codes(folder["departments.yaml"], "departments", "code")
    categories = codes(folder["categories.yaml"], "categories", "code")
    numbers = {number for _, number in each(folder["areas.yaml"], "areas", "number")}
    yield from unknown(routing, each(routing, "routes", "department"), departments, "a department")
    yield from unknown(routing, each(routing, "routes", "categories"), categories, "a category")
    for keys, number in each(routing, "routes", "areas"):
        if numbers and number not in numbers:
            yield routing.error(keys, f"expected the number of an area, found {found(number)}")
    for keys, name in each(routing, "routes", "name"):
        if name in (OWNER_OF_CATEGORY, NOBODY_OWNS_IT):
            yield routing.error(keys, f"expected another name; {name} is what routing calls its own rule")


def check_resolutions(folder: Folder) -> Errors:
    """The cell of a site is smaller than the cell of what is near."""
    policy = folder["policy.yaml"]
    near, site = policy.get("cell_resolution"), policy.get("site_cell_resolution")
    if are_numbers(near, site) and site <= near:
        yield policy.error(
            ("site_cell_resolution",), f"expected more than cell_resolution ({near}), found {site}"
        )


def check_linking(folder: Folder) -> Errors:
    """A source has one rank, a kind is in one group and calls for a response."""
    policy = folder["policy.yaml"]
    sources, kinds = (list(_nested(policy, "linking", field)) for field in ("ranks", "kinds"))
    yield from unique(policy, sources, folded)
    yield from unique(policy, kinds, folded)
    planned = {kind for _, kind in each(folder["plans.yaml"], "plans", "kinds")}
    for keys, kind in kinds:
        if planned and kind in get_args(IncidentKind) and kind not in planned:
            yield policy.error(keys, f"expected a kind that a plan is for, found {found(kind)}")


def check_extension(folder: Folder) -> Errors:
    """What a window may be extended to is no less than the longest window of a plan."""
    policy, plans = folder["policy.yaml"], folder["plans.yaml"]
    days = [days for _, days in each(plans, "plans", "window_days") if are_numbers(days)]
    most = policy.get("extension", "most_days")
    if days and are_numbers(most) and most < max(days):
        yield policy.error(
            ("extension", "most_days"),
            f"expected at least the longest window of a plan ({max(days)}), found {most}",
        )


def check_promises(folder: Folder) -> Errors:
    """Promises name categories and calendars that exist; every clock has what it needs."""
    sla = folder["sla.yaml"]
    categories = codes(folder["categories.yaml"], "categories", "code")
    calendars = codes(folder["calendars.yaml"], "calendars", "code")
    yield from unknown(sla, each(sla, "promises", "categories"), categories, "a category")
    yield from unknown(sla, sla.texts("staged"), categories, "a category")
    for keys, promise in sla.rows("promises"):
        known: list[str] = []
        for place, terms in sla.rows(*keys, "clocks"):
            yield from unknown(sla, sla.texts(*place, "calendar"), calendars, "a calendar")
            after = terms.get("after")
            if isinstance(after, str) and after not in known:
                expected = f"a clock that stands before ({', '.join(known) or 'none does'})"
                yield sla.error((*place, "after"), f"expected {expected}, found {found(after)}")
            known.append(str(terms.get("clock")))
        yield from unique(
            sla, [((*place, "clock"), t.get("clock")) for place, t in sla.rows(*keys, "clocks")], folded
        )
        yield from _clocks_errors(sla, keys, promise, set(known))


def check_every_work_has_one_promise(folder: Folder) -> Errors:
    """Each category, kind of work and priority has a promise, and one only."""
    sla = folder["sla.yaml"]
    first: dict[tuple[str, ...], str] = {}
    for keys, promise in sla.rows("promises"):
        fields = [[text for _, text in sla.texts(*keys, field)] for field in PROMISED_BY]
        for one in product(*fields):
            if one in first:
                yield sla.error(keys, f"{promise.get('name')} overlaps {first[one]} for {', '.join(one)}")
            first.setdefault(one, str(promise.get("name")))
    categories = folder["categories.yaml"]
    for keys, code in each(categories, "categories", "code") if first else ():
        missing = [" ".join(one) for one in product(WORKS, PRIORITIES) if (code, *one) not in first]
        if missing:
            yield categories.error(keys, f"{code} has no promise in sla.yaml for {', '.join(missing)}")


def check_rungs(folder: Folder) -> Errors:
    """Each rung is a share of the budget or a length after the breach; shares rise, and one is the breach."""
    sla = folder["sla.yaml"]
    last: Any = 0
    for keys, rung in sla.rows("rungs"):
        if ("percent" in rung) == ("after_breach" in rung):
            yield sla.error(keys, "expected either percent or after_breach")
        percent: Any = rung.get("percent")
        if are_numbers(percent):
            if percent < last:
                yield sla.error((*keys, "percent"), f"expected more than {last}, found {percent}")
            last = percent
    if isinstance(sla.get("rungs"), list) and last != 100:
        yield sla.error(("rungs",), "expected a rung at 100 percent, the breach, last of the shares")


PROMISED_BY = ("categories", "work", "priorities")


def _clocks_errors(sla: Document, keys: Keys, promise: dict[str, Any], clocks: set[str]) -> Errors:
    """Which clocks a promise needs: the stages for what is fixed in stages, else its one end; always the answer."""
    if not isinstance(promise.get("clocks"), list):
        return
    staged = {code for _, code in sla.texts("staged")}
    of = {code for _, code in sla.texts(*keys, "categories")}
    fix = set(STAGES) if of & staged else {"resolve"}
    ends = fix if promise.get("work") == "fix" else {"inspect"}
    for name in sorted({"acknowledge", *ends} - clocks):
        yield sla.error((*keys, "clocks"), f"has no clock {name}")
    for name in sorted((clocks - ends) & {"resolve", *STAGES}):
        yield sla.error((*keys, "clocks"), f"has the clock {name}, which this work never ends")
    if of & staged and of - staged and promise.get("work") == "fix":
        yield sla.error((*keys, "categories"), "names categories that are fixed in stages and others")


CHECKS: tuple[Callable[[Folder], Errors], ...] = (
    check_time_zone,
    check_extent,
    check_unique,
    check_not_empty,
    check_tiers,
    check_tier_references,
    check_kind_weights,
    check_priorities,
    check_categories,
    check_triage_queue,
    check_orders,
    check_titles,
    check_plans,
    check_plans_do_not_overlap,
    check_routes,
    check_resolutions,
    check_linking,
    check_extension,
    check_promises,
    check_every_work_has_one_promise,
    check_rungs,
)


def _nested(document: Document, *keys: str) -> Iterator[tuple[Keys, str]]:
    """The texts of a list of lists, each with the way to it."""
    rows = document.get(*keys)
    for number in range(len(rows) if isinstance(rows, list) else 0):
        yield from document.texts(*keys, number)


def _tiers(folder: Folder) -> set[str] | None:
    """Every tier of the policy; None when a file that names tiers could not be read."""
    areas, policy = folder["areas.yaml"], folder["policy.yaml"]
    if areas.data is None or policy.data is None:
        return None
    defaults = (policy.get("default_tier"), policy.get("outside_tier"))
    return codes(areas, "tiers", "code") | {tier for tier in defaults if isinstance(tier, str)}
