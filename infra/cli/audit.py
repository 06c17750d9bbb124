"""`rapid audit`: who did or tried what, and whether the trail of it is whole."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from connectors.postgres import audit
from connectors.postgres.audit import AuditRow, Head, Verdict
from infra.cli.durations import moment
from infra.cli.errors import Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.screen import safe_row, short_time
from infra.cli.session import database, run
from infra.connect import database_url
from infra.settings import Settings

app = typer.Typer(help="The audit trail: read it, and check that it is whole.", no_args_is_help=True)

MOST_ROWS = 100_000

ByActor = Annotated[
    str | None, typer.Option("--actor", help="Who: key:ID, oidc:SUBJECT, cli:USER.", show_default=False)
]
OfSubject = Annotated[
    str | None,
    typer.Option("--subject", help="What it was done to, such as WO-… or a key's id.", show_default=False),
]
Since = Annotated[
    str | None,
    typer.Option("--since", help="A date, a time, or how long ago (24h).", show_default=False),
]
Limit = Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="How many at most.")]
Expect = Annotated[
    str | None,
    typer.Option(
        "--expect", metavar="SEQ:HASH", help="A head that was written down earlier.", show_default=False
    ),
]


@app.command("list")
def list_rows(
    *,
    actor: ByActor = None,
    subject: OfSubject = None,
    since: Since = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """What was done or refused, the newest first."""
    begin = moment(since, datetime.now(UTC)) if since else None
    found = [_as_json(row) for row in run(_rows(actor, subject, begin, limit))]
    if as_json:
        print_json(found)
        return
    print_table(
        "Audit trail", [_row(row) for row in found], "There is nothing of the kind in the audit trail."
    )
    if len(found) == limit:
        print(f"The newest {limit}: say --limit for more.")


@app.command()
def verify(expect: Expect = None, as_json: Json = False) -> None:
    """Check the whole chain; exit code 1 names the first row that does not fit.

    Whoever owns the database could make the chain anew. So write the head that is printed down elsewhere, and give it
    to --expect later.
    """
    verdict = run(_verify(_head(expect) if expect else None))
    if as_json:
        print_json({"whole": verdict.broken is None, "head": str(verdict.head), "broken": verdict.broken})
    if verdict.broken:
        raise Oops(f"The audit trail is not whole. {verdict.broken}")
    if not as_json:
        print(f"The audit trail is whole: {verdict.head.seq} rows. To write down elsewhere: {verdict.head}")


def _head(text: str) -> Head:
    try:
        return Head.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--expect") from error


async def _rows(actor: str | None, subject: str | None, since: datetime | None, limit: int) -> list[AuditRow]:
    async with database(database_url(Settings())) as connected:
        return await audit.rows(connected, actor=actor, subject=subject, since=since, limit=limit)


async def _verify(expected: Head | None) -> Verdict:
    async with database(database_url(Settings())) as connected:
        return await audit.verify(connected, expected)


def _as_json(row: AuditRow) -> dict[str, Any]:
    return {
        "seq": row.seq, "at": row.at.isoformat(), "actor": row.actor, "action": row.action, "subject": row.subject,
        "outcome": row.outcome, "details": _details(row.details), "hash": row.hash.hex(),
    }  # fmt: skip


def _details(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # somebody tampered with it: `verify` says so, here it is shown
        return text


def _row(row: dict[str, Any]) -> dict[str, Any]:
    details = row["details"]
    said = json.dumps(details, ensure_ascii=False) if details else None
    return safe_row(row | {"at": short_time(row["at"]), "details": said, "hash": row["hash"][:12]})
