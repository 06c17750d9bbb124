"""`rapid simulate`: invented incidents and 311 requests as files that `rapid replay` reads."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Annotated, Final, TypeVar

import typer

from infra.cli.durations import duration
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.session import run
from infra.settings import Settings
from schemas.incident import IncidentReport
from schemas.issue import IssueReport

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

Report = TypeVar("Report", IncidentReport, IssueReport)

MOST_TIMES_FASTER: Final = 1_000_000.0

Days = Annotated[int, typer.Option(min=1, max=36_500, help="How many days.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same files, byte for byte.")]
Start = Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The first day.")]
Out = Annotated[Path, typer.Option(file_okay=False, help="The folder for the two files.")]
Rate = Annotated[float, typer.Option(min=0.0, help="How many times as much as in Chicago.")]
Shuffle = Annotated[bool, typer.Option("--shuffle", help="Write the rows in disorder, to try late arrivals.")]


@app.callback(invoke_without_command=True)
def simulate(  # noqa: PLR0917 - typer calls it by name
    context: typer.Context,
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
    if context.invoked_subcommand is not None:
        return
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


def times_faster(text: str) -> float:
    """`100x` as a factor. Raises typer.BadParameter."""
    try:
        factor = float(text.strip().removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not 1.0 <= factor <= MOST_TIMES_FASTER:
        raise typer.BadParameter(f"expected a factor from 1x to {MOST_TIMES_FASTER:.0f}x, such as 100x")
    return factor


UseOption = Annotated[
    list[str] | None,
    typer.Option(
        "--use", metavar="DEPARTMENT=INTERFACE", show_default="cdot=kafka dss=rest dob=open311 cscc=webhook",
        help="Over what a department is told and answers: kafka, rest, webhook, open311; say it again for more. "
        "Only departments that are named work.",
    ),
]  # fmt: skip
For = Annotated[
    timedelta | None,
    typer.Option(
        "--for", parser=duration, metavar="DURATION", show_default=False,
        help="How long they work, such as 60s.",
    ),
]  # fmt: skip
UntilIdle = Annotated[
    bool,
    typer.Option("--until-idle", help="Until nobody has had anything to say or to hear for some seconds."),
]
Pace = Annotated[
    float,
    typer.Option(parser=times_faster, metavar="100x", help="How many times faster than in the real world."),
]
KeysFile = Annotated[
    Path | None,
    typer.Option(
        "--keys", exists=True, dir_okay=False, show_default=False,
        help='API keys as JSON, {"dss": "rapid_…", "supervisor": "rapid_…"}; without, they are made.',
    ),
]  # fmt: skip
Seen = Annotated[
    Path | None,
    typer.Option(
        "--seen", dir_okay=False, show_default=False,
        help="Write what each department saw last of each order, for `rapid verify --seen`.",
    ),
]  # fmt: skip
Received = Annotated[
    Path | None,
    typer.Option(
        file_okay=False, show_default=False, help="A folder for every byte that departments are told."
    ),
]
ApiUrl = Annotated[
    str | None,
    typer.Option("--api", metavar="URL", help="Where the REST API is.", show_default="that of `rapid up`"),
]
CrewSeed = Annotated[int, typer.Option(min=0, help="The same seed and order, the same words.")]


@app.command()
def departments(
    *,
    seed: CrewSeed = 1,
    use: UseOption = None,
    limit: For = None,
    until_idle: UntilIdle = False,
    pace: Pace = "100x",  # type: ignore[assignment]  # as one would type it
    keys: KeysFile = None,
    seen: Seen = None,
    received: Received = None,
    api: ApiUrl = None,
    as_json: Json = False,
) -> None:
    """Let invented crews do the work orders: each over its department's interface, and nothing else.

    They acknowledge, start, wait, come late, say things twice, contradict themselves, reject, close wrongly, keep
    silent; the coordination centre verifies, reopens and routes. Until Ctrl-C, unless --for or --until-idle says when.
    """
    from infra.simulate.departments.command import Asked, work

    asked = Asked(seed, use or (), limit, until_idle, pace, keys, seen, received, api)
    rows = run(work(asked, Settings(), quiet=as_json))
    if as_json:
        print_json(rows)
    else:
        print_table(f"Simulated crews, seed {seed}", rows, "Nobody worked.")


Minutes = Annotated[
    float | None,
    typer.Option(min=0.1, max=600, show_default="3, with --small 0.5", help="How long reports come in."),
]
Small = Annotated[bool, typer.Option("--small", help="A few dozen orders.")]
Kill = Annotated[
    bool, typer.Option("--kill/--no-kill", help="Kill workers, API, courier and broker meanwhile.")
]


@app.command()
def day(
    *,
    seed: CrewSeed = 1,
    minutes: Minutes = None,
    small: Small = False,
    kill: Kill = True,
    use: UseOption = None,
    as_json: Json = False,
) -> None:
    """Live through a city's day: reports come in, crews answer over all interfaces, processes are killed; do all agree?

    In an installation of its own, which is gone afterwards, whatever the RAPID_ settings say. Exit code 1 when
    `rapid verify` finds a disagreement, or in what departments were told anything of an incident.
    """
    from infra.cli.simulate_day import live

    result = live(seed, minutes, use or (), small=small, kill=kill, quiet=as_json)
    if as_json:
        print_json(result._asdict())
    if not result.agrees:
        raise typer.Exit(ExitCode.FAILED)


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
