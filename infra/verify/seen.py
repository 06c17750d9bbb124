"""What crews hold, from files with one order per line, beside what their departments were told."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from infra.cli.errors import ExitCode, Oops
from infra.verify.compare import members, same
from infra.verify.report import Disagreement, Look
from infra.verify.spool import Spool
from infra.verify.world import PAGE_ROWS, Read, World
from schemas.work_order import DepartmentWorkOrder

NO_VERSION: Final = '{"version":0}'
MEMBERS: Final = frozenset(DepartmentWorkOrder.model_fields)

# What some departments were told last of some orders; the feed has it of former owners too.
_TOLD: Final = """
SELECT DISTINCT ON (f.audience, f.subject) f.audience, f.subject, f.body
FROM unnest($1::text[], $2::text[]) AS s(department, reference)
JOIN feed f ON f.audience = s.department AND f.subject = s.reference AND f.kind = 'work-order'
ORDER BY f.audience, f.subject, f.version DESC"""

_THEIRS: Final = """
SELECT reference, department, department_body FROM work_orders
WHERE department = ANY($1::text[]) AND department_body IS NOT NULL ORDER BY order_id"""


class Line(NamedTuple):
    """One order as a crew holds it."""

    department: str
    reference: str
    members: Mapping[str, Any]


async def seen(world: World) -> AsyncIterator[Look]:
    """Each line beside what that department was told; and each order of those departments is in a line."""
    with Spool() as spool:
        departments: set[str] = set()
        for page in _pages(_lines(world.seen)):
            departments |= {line.department for line in page}
            told = await _told(world, page)
            for line in page:
                spool.add(Read(line.department, line.reference, line.reference, NO_VERSION, b""))
                yield _line(line, told.get((line.department, line.reference)))
        async for row in world.rows(_THEIRS, sorted(departments)):
            if spool.last(row["department"], row["reference"]) is None:
                yield Disagreement(row["reference"], f"{row['department']} holding it", "not in the files")


def _line(line: Line, told: Mapping[str, Any] | None) -> Look:
    if told is None:
        expected = f"nothing: {line.department} was never told of it"
        return Disagreement(line.reference, expected, f"{line.department} holds it")
    differing = (
        same(line.reference, f"{name} as {line.department} was told:", told.get(name), value)
        for name, value in line.members.items()
    )
    return next(filter(None, differing), None)


async def _told(world: World, lines: Sequence[Line]) -> dict[tuple[str, str], Mapping[str, Any]]:
    departments, references = [one.department for one in lines], [one.reference for one in lines]
    rows = await world.connection.fetch(_TOLD, departments, references)
    return {(row["audience"], row["subject"]): members(row["body"] or "") for row in rows}


def _pages(lines: Iterator[Line]) -> Iterator[list[Line]]:
    page: list[Line] = []
    for line in lines:
        page.append(line)
        if len(page) == PAGE_ROWS:
            yield page
            page = []
    if page:
        yield page


def _lines(files: Sequence[Path]) -> Iterator[Line]:
    for file in files:
        with file.open(encoding="utf-8", errors="replace") as text:
            for number, line in enumerate(text, 1):
                if line.strip():
                    yield line_of(line, f"{file.name}, line {number}")


def line_of(text: str, where: str) -> Line:
    """One line. Raises Oops where it is no order: then nothing can be said of the file."""
    try:
        value = json.loads(text)
        department, reference = value["department"], value["reference"]
    except (ValueError, KeyError, TypeError):
        department = reference = value = None
    if not isinstance(department, str) or not isinstance(reference, str):
        raise Oops(
            f"{where}: expected a JSON object with a department and a reference, as in "
            '{"department":"cdot","reference":"WO-…","version":2,"state":"new"}.',
            ExitCode.INVALID,
        )
    return Line(department, reference, {name: value[name] for name in sorted(MEMBERS & value.keys())})
