"""Loads a policy from its folder of YAML files: everything is checked, and every error is told at once."""

import hashlib
from pathlib import Path
from typing import TypeVar

from infra.notify_templates import template_errors
from infra.policy.calendars import calendar_errors, calendars_of
from infra.policy.checks import CHECKS, PRIORITY_TIER
from infra.policy.document import PolicyError, read_document
from infra.policy.files import (
    FILES,
    AlertsFile,
    AreasFile,
    CategoriesFile,
    CityFile,
    DepartmentsFile,
    IncidentKindsFile,
    OncallFile,
    OrdersFile,
    PlansFile,
    PolicyFile,
    RoutingFile,
    SeverityFile,
    SlaFile,
    canonical_json,
    shape_errors,
)
from infra.policy.oncall import ONCALL_CHECKS
from infra.policy.references import Folder
from schemas.area import Area
from schemas.base import Record
from schemas.policy import Policy
from schemas.sla import Calendar, SlaPolicy

__all__ = ["SHIPPED", "PolicyError", "PolicyErrors", "load_policy"]

SHIPPED = Path(__file__).parent / "chicago"
"""The policy that comes with the product."""

VERSION_DIGITS = 12

F = TypeVar("F", bound=Record)


class PolicyErrors(Exception):
    """A policy cannot be used. `errors` holds everything that is wrong with it."""

    def __init__(self, path: Path, errors: list[PolicyError]) -> None:
        self.path = path
        self.errors = errors
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        self.sentence = (
            f"The policy in {path} has {count}, first {errors[0]}; `rapid policy check {path}` lists all."
        )
        super().__init__("\n".join([f"The policy in {path} has {count}:", *map(str, errors)]))


def load_policy(path: Path = SHIPPED) -> Policy:
    """The policy in a folder. Raises `PolicyErrors` with everything that is wrong, in order of the files."""
    errors = _folder_errors(path)
    if errors and not path.is_dir():
        raise PolicyErrors(path, errors)
    folder = {name: read_document(path / name) for name in FILES}
    errors += _document_errors(folder, path)
    if errors:
        raise PolicyErrors(path, errors)
    return _assembled(folder, calendars_of(folder["calendars.yaml"], path))


def version_of(folder: Folder, calendars: tuple[Calendar, ...]) -> str:
    """The hash of what the files say; comments, layout and the order of keys do not count.

    Holidays count as they were found: with another version of their library the same files can be another policy.
    """
    found = {calendar.code: [[day.on, day.name] for day in calendar.holidays] for calendar in calendars}
    content = canonical_json({name: document.data for name, document in folder.items()} | {"": found})
    return hashlib.sha256(content).hexdigest()[:VERSION_DIGITS]


def _folder_errors(path: Path) -> list[PolicyError]:
    """No folder, YAML in it that nobody would read (most likely a file with a mistyped name), and what is wrong
    with its templates of messages."""
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except FileNotFoundError:
        return [PolicyError(str(path), None, "", "does not exist; expected a folder with a policy")]
    except NotADirectoryError:
        return [PolicyError(str(path), None, "", "is a file; expected a folder with a policy")]
    except OSError as error:
        return [PolicyError(str(path), None, "", f"cannot be read: {error.strerror or error}")]
    strays = [name for name in names if name.endswith((".yaml", ".yml")) and name not in FILES]
    errors = [PolicyError(name, None, "", f"is unknown; expected {', '.join(FILES)}") for name in strays]
    return errors + template_errors(path)


def _document_errors(folder: Folder, path: Path) -> list[PolicyError]:
    """The errors of reading, of shape and between files, each once; by file, then by line."""
    errors: list[PolicyError] = []
    for name, document in folder.items():
        errors += document.errors
        if document.data is not None:
            errors += _not_echoing(document.errors, shape_errors(document, FILES[name]))
    for check in (*CHECKS, *ONCALL_CHECKS):
        errors += check(folder)
    errors += calendar_errors(folder["calendars.yaml"], path)
    order = {name: place for place, name in enumerate(FILES)}
    return sorted(dict.fromkeys(errors), key=lambda error: (order[error.file], error.line or 0, error.key))


def _not_echoing(reading: list[PolicyError], shape: list[PolicyError]) -> list[PolicyError]:
    """The shape errors without those that a value which could not be read leaves behind."""
    unread = {error.key for error in reading}
    return [
        error for error in shape if error.key not in unread or not error.message.endswith("found nothing")
    ]


def _assembled(folder: Folder, calendars: tuple[Calendar, ...]) -> Policy:
    """The policy of documents that are known to be right."""
    city, areas = _file(folder, CityFile), _file(folder, AreasFile)
    departments, severity = _file(folder, DepartmentsFile), _file(folder, SeverityFile)
    orders, sla = _file(folder, OrdersFile), _file(folder, SlaFile)
    plans = _file(folder, PlansFile)
    general, kinds = _file(folder, PolicyFile), _file(folder, IncidentKindsFile)
    tier_of = {number: tier.code for tier in areas.tiers for number in tier.areas}
    policy = Policy(
        version=version_of(folder, calendars),
        city=city,
        areas=tuple(
            Area(number=area.number, name=area.name, tier=tier_of.get(area.number, general.default_tier))
            for area in areas.areas
        ),
        priority_areas_since=next(tier.since for tier in areas.tiers if tier.code == PRIORITY_TIER),
        default_tier=general.default_tier,
        outside_tier=general.outside_tier,
        departments=departments.departments,
        triage_queue=departments.triage_queue,
        categories=_file(folder, CategoriesFile).categories,
        severity=severity.weights,
        near_repeat=general.near_repeat,
        linking=general.linking,
        extension=general.extension,
        priorities=severity.priorities,
        plans=plans.plans,
        response_life=plans.response_life,
        routes=_file(folder, RoutingFile).routes,
        event_kinds={kind.iucr: kind.event for kind in kinds.event_kinds},
        hold_reasons=orders.hold_reasons,
        park_hours=orders.park_hours,
        reinspect=orders.reinspect.percent,
        sla=SlaPolicy(
            calendars=calendars,
            promises=sla.promises,
            rungs=sla.rungs,
            staged=sla.staged,
            boundary=sla.boundary,
            reopen_within_hours=sla.reopen_within_hours,
            alerting=_file(folder, AlertsFile).alerting,
        ),
        oncall=_file(folder, OncallFile),
        cell_resolution=general.cell_resolution,
        site_cell_resolution=general.site_cell_resolution,
    )
    # The files' models are narrower than the policy's (they demand a source); a policy holds its own.
    return Policy.model_validate_json(policy.model_dump_json())


def _file(folder: Folder, model: type[F]) -> F:
    name = next(name for name, known in FILES.items() if known is model)
    return model.model_validate_json(canonical_json(folder[name].data))
