"""`rapid simulate`: invented incidents and 311 requests as files that `rapid replay` reads."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Annotated, TypeVar

import typer

from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from schemas.incident import IncidentReport
from schemas.issue import IssueReport

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

Report = TypeVar("Report", IncidentReport, IssueReport)

Days = Annotated[int, typer.Option(min=1, max=36_500, help="How many days.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same files, byte for byte.")]
Start = Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The first day.")]
Out = Annotated[Path, typer.Option(file_okay=False, help="The folder for the two files.")]
Rate = Annotated[float, typer.Option(min=0.0, help="How many times as much as in Chicago.")]
Shuffle = Annotated[bool, typer.Option("--shuffle", help="Write the rows in disorder, to try late arrivals.")]


@app.command("simulate")
def simulate(  # noqa: PLR0917 - typer calls it by name
    days: Days = 28,
    seed: Seed = 1,
    start: Start = datetime(2026, 6, 1),  # noqa: DTZ001 - a day, which typer reads as a datetime
    out: Out = Path("simulated"),
    rate: Rate = 1.0,
    shuffle: Shuffle = False,
    as_json: Json = False,
) -> None:
    """Invent incidents and 311 requests inside Chicago's real boundaries.

    Writes `victims.csv` and `service_requests.json` in the formats of the city's open data, every row marked as
    simulated. Send them with `rapid replay`. Two runs that go into one database need two seeds: their ids
    differ only by seed and day.
    """
    from infra.simulate.files import REQUESTS_FILE, VICTIMS_FILE

    counts: Counter[str] = Counter()
    try:
        _write(out, _Window(start.date(), days, seed, rate), shuffle, counts)
    except OSError as error:
        raise Oops(f"Cannot write into {out}: {error.strerror or error}.", ExitCode.INVALID) from error
    files = {"victims": str(out / VICTIMS_FILE), "requests": str(out / REQUESTS_FILE)}
    if as_json:
        print_json(
            {"seed": seed, "start": start.date(), "days": days, "files": files, "counts": dict(counts)}
        )
        return
    rows = [{"what": what, "how many": f"{count:,}"} for what, count in counts.items()]
    print_table(f"Simulated, seed {seed}: {days} days from {start.date()}", rows, "Nothing happened.")
    print(f"Written: {files['victims']} and {files['requests']}")


class _Window:
    """What is simulated."""

    def __init__(self, start: date, days: int, seed: int, rate: float) -> None:
        self.start, self.days, self.seed, self.rate = start, days, seed, rate
        if start + timedelta(days=days) > date(2199, 12, 31):
            raise Oops("The simulated time ends after 2199: choose fewer days or an earlier start.")


def _write(out: Path, window: _Window, shuffle: bool, counts: Counter[str]) -> None:
    """Both files; what they hold is counted on the way."""
    from connectors.geography.areas import Areas
    from infra.simulate.files import REQUESTS_FILE, VICTIMS_FILE, write_requests, write_victims
    from infra.simulate.generate import incident_reports, issue_reports
    from infra.simulate.places import Places

    places = Places(Areas.of_chicago())
    asked = (window.seed, window.start, window.days, window.rate, places)
    victims = _counted(incident_reports(*asked), counts, _count_victim)
    write_victims(out / VICTIMS_FILE, _watched("incidents", victims, window, shuffle))
    requests = _counted(issue_reports(*asked), counts, _count_request)
    write_requests(out / REQUESTS_FILE, _watched("requests", requests, window, shuffle))


def _watched(what: str, reports: Iterator[Report], window: _Window, shuffle: bool) -> Iterable[Report]:
    """The reports behind a progress bar, which only a terminal shows and only when it takes long."""
    shown = _with_progress(what, reports, window)
    if not shuffle:
        return shown
    rows = list(shown)
    Random(f"rapid simulate, order, {window.seed}").shuffle(rows)
    return rows


def _with_progress(what: str, reports: Iterator[Report], window: _Window) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(what, total=window.days)
        for number, report in enumerate(reports):
            if number % 500 == 0:
                progress.update(bar, completed=(report.revised_at.date() - window.start).days)
            yield report


def _counted(
    reports: Iterator[Report], counts: Counter[str], count: Callable[[Report, Counter[str], set[str]], None]
) -> Iterator[Report]:
    seen: set[str] = set()
    for report in reports:
        count(report, counts, seen)
        yield report


def _count_victim(report: IncidentReport, counts: Counter[str], seen: set[str]) -> None:
    counts["incidents"] += report.incident_number not in seen
    counts["victims"] += report.report_id not in seen
    counts["rows of victims"] += 1
    counts["unfounded rows"] += report.validity == "unfounded"
    seen.update((report.incident_number, report.report_id))


def _count_request(report: IssueReport, counts: Counter[str], seen: set[str]) -> None:
    is_new = report.request_number not in seen
    counts["requests"] += is_new
    counts["duplicate requests"] += is_new and report.duplicate
    counts["rows of requests"] += 1
    counts[f"requests: {report.category}"] += is_new
    seen.add(report.request_number)
