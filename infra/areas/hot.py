"""Shootings for hot blocks: from a file of the city, or from the incidents that we hold; and blocks made areas."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from agents.hotblocks import COUNTED, HotBlocks, Shooting, because
from agents.intake.fold import IncidentInputs, fold_incident
from connectors.files.datasets import read_row, recognise
from connectors.files.errors import FileProblem, RowDefect
from connectors.files.reading import Reading
from connectors.files.rows import rows_of
from connectors.geography.block_shapes import block_shape
from connectors.geography.boundaries import Boundaries
from connectors.postgres.pool import Connection
from schemas.area import AreaLayer, Boundary
from schemas.incident import Incident, IncidentReport
from schemas.policy import Policy
from schemas.response import TriageDecision

# Incidents that occurred in a span of time and follow no other one, with the triage decision that stands.
_INCIDENTS: Final = """
SELECT i.body, d.output FROM incidents i
LEFT JOIN LATERAL (SELECT rule, output FROM decisions
  WHERE stage = 'triage' AND subject = i.incident_id ORDER BY version DESC LIMIT 1) d ON true
WHERE i.occurred_at < $2 AND i.occurred_until >= $1 AND i.validity = 'valid' AND i.kind = ANY($3::text[])
  AND coalesce(d.rule, '') <> 'linked'
ORDER BY i.number"""


class Read(NamedTuple):
    """What a file held. `defects`: rows that could not be used."""

    shootings: Sequence[Shooting]
    defects: int


def of_file(path: Path, policy: Policy, boundaries: Boundaries) -> Read:
    """The shootings of a file of the city: one for each case, however many victims it names. Raises FileProblem."""
    source, reading = recognise(path), Reading.by(policy)
    if not issubclass(source.dataset.topic.schema, IncidentReport):
        raise FileProblem(f"{path} holds {source.dataset.name}: expected victims, crimes or alerts.")
    reports: dict[str, list[IncidentReport]] = defaultdict(list)
    defects = 0
    for row in rows_of(path, source.dataset.columns):
        try:
            report = read_row(source, row, reading)
        except RowDefect:
            defects += 1
            continue
        if isinstance(report, IncidentReport):
            reports[report.incident_number].append(report)
    incidents = [fold_incident(IncidentInputs(reports=tuple(some))) for some in reports.values()]
    return Read(_shootings(incidents, {}, policy, boundaries), defects)


async def of_database(
    connection: Connection, since: datetime, until: datetime, policy: Policy, boundaries: Boundaries
) -> list[Shooting]:
    """The shootings that we hold."""
    rows = await connection.fetch(_INCIDENTS, since, until, list(COUNTED))
    incidents = [Incident.model_validate_json(row["body"]) for row in rows]
    placed = {
        incident.number: TriageDecision.model_validate_json(row["output"]).location.area
        for incident, row in zip(incidents, rows, strict=True)
        if row["output"]
    }
    return _shootings(incidents, placed, policy, boundaries)


def _shootings(
    incidents: Iterable[Incident], placed: Mapping[str, int | None], policy: Policy, boundaries: Boundaries
) -> list[Shooting]:
    """`placed`: the area of incidents that triage has placed."""
    chosen = [one for one in incidents if one.validity == "valid" and one.kind in COUNTED]
    published = [policy.published_area_of(one.now) for one in chosen]
    located = boundaries.locate(
        [one.now.point for one in chosen], published, [one.occurred_at for one in chosen]
    )
    return [
        Shooting(
            one.number,
            one.occurred_at,
            one.now.block,
            said or placed.get(one.number) or location.area,
            one.now.point,
        )
        for one, said, location in zip(chosen, published, located, strict=True)
    ]


def as_layer(found: HotBlocks, name: str, tier: str, valid_from: datetime, source: str) -> AreaLayer:
    """The blocks as areas with a tier, numbered as they are listed. Those without any coordinates are left out."""
    return AreaLayer(
        kind="block",
        name=name,
        valid_from=valid_from,
        tier=tier,
        source=source,
        boundaries=tuple(
            Boundary(
                number=place, name=block.block, shape=block_shape(block.points), because=because(block, found)
            )
            for place, block in enumerate(found.blocks, start=1)
            if block.points
        ),
    )
