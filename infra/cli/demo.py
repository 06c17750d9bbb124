"""`rapid demo`: the main job on simulated data, in an installation of its own that is gone afterwards."""

import json
import subprocess
import time
from datetime import date
from typing import Annotated, Any, Final, NamedTuple

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from infra.cli.errors import ExitCode, Oops
from infra.cli.session import database, run
from infra.embedded.temporary import RAPID, Temporary, signals_as_interrupts, temporary

WORKERS: Final = 2
WIDTH: Final = 100
LOOK_EVERY_S: Final = 1.0
SAY_EVERY_S: Final = 5.0
"""Without a terminal, a line so often."""
STREAM_LIMIT_S: Final = 600.0

Keep = Annotated[
    bool, typer.Option("--keep", help="Leave it running, and say where; otherwise nothing is left.")
]
Days = Annotated[int, typer.Option(min=1, max=366, help="How many days of the city.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed invents the same city.")]


def demo(keep: Keep = False, days: Days = 28, seed: Seed = 5) -> None:
    """See the main job: four simulated weeks of shootings and 311 requests become work orders.

    Starts broker, database and two workers in a folder of its own, whatever the RAPID_ settings say, and ends
    and removes them again, also on Ctrl-C.
    """
    from infra.cli.demo_results import show_results  # heavy: the schemas and the policy

    console = Console(highlight=False)
    if not console.is_terminal or console.width > WIDTH:
        console.width = WIDTH
    with signals_as_interrupts(), temporary("demo", WORKERS) as there:
        console.print("[bold]Rapid Response: from a shooting to the work that makes its block safer[/]\n")
        city, start_s = _prepare(console, there, days, seed)
        seconds = _stream(console, there, city)
        show_results(console, there.settings, start_s, seconds)
        _print_what_next(console, there if keep else None)
        there.kept = keep


class City(NamedTuple):
    """What `rapid simulate` wrote."""

    files: list[str]
    rows: int
    start: date
    days: int
    counts: dict[str, int]


# -- getting ready


def _prepare(console: Console, there: Temporary, days: int, seed: int) -> tuple[City, float]:
    """Wait until the installation is ready, which takes so many seconds; the city is invented meanwhile."""
    began_s = time.monotonic()
    out = there.home.folder.parent / "city"
    with console.status(
        f"Starting broker, database and {WORKERS} workers; inventing {days} days of the city"
    ):
        simulating = _command(
            there, "simulate", "--days", str(days), "--seed", str(seed), "--out", str(out), "--json"
        )
        city = _city(json.loads(_output_of(simulating)))
        there.await_ready()
    start_s = time.monotonic() - began_s
    console.print(
        f"Broker, database and {WORKERS} workers run since {start_s:.0f} s, in a folder of their own."
    )
    console.print(
        f"Simulated, and marked so in every row: {city.days} days from {city.start}, with"
        f" {city.counts['incidents']:,} incidents and {city.counts['requests']:,} 311 requests"
        f" in {city.rows:,} rows (a revision is a row).\n"
    )
    return city, start_s


def _command(there: Temporary, *arguments: str) -> "subprocess.Popen[str]":
    """Start a `rapid` command in this installation, as a user would."""
    return subprocess.Popen(
        [*RAPID, *arguments], env=there.environment, cwd=there.home.folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def _city(said: dict[str, Any]) -> City:
    counts = said["counts"]
    return City(
        files=list(said["files"].values()),
        rows=counts.get("rows of victims", 0) + counts.get("rows of requests", 0),
        start=date.fromisoformat(said["start"]),
        days=said["days"],
        counts={"incidents": 0, "requests": 0, **counts},
    )


def _output_of(process: "subprocess.Popen[str]") -> str:
    """What the command prints. Raises Oops with its own last words; it is killed when we are interrupted."""
    try:
        output, errors = process.communicate()
    finally:
        if process.poll() is None:
            process.kill()
    if process.returncode:
        words = errors.strip().splitlines() or ["it ended without a word."]
        raise Oops(f"The demo stopped: {words[-1].removeprefix('rapid: ')}")
    return output


# -- streaming


class Look(NamedTuple):
    """One look while it streams."""

    seconds: float
    sent: int
    found: dict[str, Any]  # as `rapid status --json` has it

    @property
    def behind(self) -> int:
        """Records that no agent has handled yet, and those to be published."""
        lag: dict[str, int] = self.found["lag"]
        return sum(lag.values()) + int(self.found["outbox_waiting"])

    @property
    def handled(self) -> bool:
        """Nothing is left to do."""
        return bool(self.found["drained"]) and self.found["phase"] == "ready"


def _stream(console: Console, there: Temporary, city: City) -> float:
    """Replay the city's files and watch until everything is handled; returns the seconds it took."""
    console.print("[bold]$ rapid replay victims.csv service_requests.json[/]")
    began_s = time.monotonic()
    replaying = _command(there, "replay", *city.files, "--json")
    try:
        with _Screen(console, city.rows) as screen:
            while True:
                ended = replaying.poll() is not None
                look = _look(there, began_s)
                if look is not None:
                    screen.show(look)
                if ended and replaying.returncode:
                    _output_of(replaying)
                if ended and look is not None and look.handled:
                    break
                if time.monotonic() - began_s > STREAM_LIMIT_S:
                    raise Oops(f"Not everything was handled within {STREAM_LIMIT_S:.0f} s.")
                time.sleep(LOOK_EVERY_S)
    finally:
        replaying.kill()
        replaying.communicate()
    return time.monotonic() - began_s


def _look(there: Temporary, began_s: float) -> Look | None:
    """None while broker or database do not answer, as on a busy machine."""
    from infra.cli.status import look

    try:
        found = look(there.settings)
        sent = run(_rows_sent(there))
    except Oops as oops:
        if oops.exit_code == ExitCode.UNREACHABLE:
            return None
        raise
    return Look(time.monotonic() - began_s, sent, found)


async def _rows_sent(there: Temporary) -> int:
    """How far the replay is: it notes its position with every batch."""
    state = there.home.read_state()
    async with database(state.database_url if state else "") as connected:
        sent: int = await connected.fetchval("SELECT coalesce(sum(position), 0)::bigint FROM replays")
        return sent


class _Screen:
    """The live display; without a terminal a line every few seconds."""

    def __init__(self, console: Console, rows: int) -> None:
        self._console = console
        self._rows = rows
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._last_look: Look | None = None
        self._said_s = 0.0

    def __enter__(self) -> "_Screen":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        elif self._last_look:
            self._console.print(self._sentence(self._last_look))
        self._console.print()

    def show(self, look: Look) -> None:
        """Show this look."""
        self._last_look = look
        if self._live:
            self._live.update(self._picture(look), refresh=True)
        elif look.seconds - self._said_s >= SAY_EVERY_S:
            self._said_s = look.seconds
            self._console.print(self._sentence(look))

    def _sentence(self, look: Look) -> str:
        figures = ", ".join(f"{count:,} {what}" for what, count in self._figures(look))
        return f"{look.seconds:3.0f} s  {look.sent:,} of {self._rows:,} rows, {figures}"

    def _figures(self, look: Look) -> list[tuple[str, int]]:
        found = look.found
        return [
            ("incidents", found["incidents"]), ("responses", found["responses"]),
            ("work orders", found["work_orders"]), ("records to handle", look.behind),
        ]  # fmt: skip

    def _picture(self, look: Look) -> Group:
        sent = Table.grid(padding=(0, 2))
        sent.add_row(
            ProgressBar(total=self._rows, completed=look.sent, width=40),
            f"{look.sent:,} of {self._rows:,} rows sent", f"{look.seconds:.0f} s",
        )  # fmt: skip
        figures = Table.grid(padding=(0, 3))
        names, counts = zip(*self._figures(look), strict=True)
        figures.add_row(*(Text(f"{count:,}", style="bold", justify="right") for count in counts))
        figures.add_row(*(Text(name, style="dim", justify="right") for name in names))
        return Group(sent, figures)


# -- the end


def _print_what_next(console: Console, kept: Temporary | None) -> None:
    console.print("\n[bold]What to try next[/]")
    if kept:
        console.print(
            f"It is still running. In this shell first: [bold]export RAPID_HOME={kept.home.folder}[/]"
        )
        lines = (
            ("rapid status --watch", "what it does"),
            (
                "rapid orders list",
                "the work orders; `rapid responses list`: what asked for them, and until when",
            ),
            ("rapid explain ID", "why: an incident, issue or order, from its own decision records"),
            ("rapid down", "stop it, then remove the folder"),
        )
    else:
        lines = (
            ("make demo ARGS=--keep", "the same, and leave it running to look around"),
            (".venv/bin/rapid up --detach", "an installation that stays, in .rapid"),
            (
                ".venv/bin/rapid replay FILE…",
                "the city's own files: victims, ShotSpotter, crimes, 311 requests",
            ),
            (".venv/bin/rapid --help", "everything else; README.md tells how to send reports to the topics"),
        )
    for command, what in lines:
        console.print(f"  {command:<30} {what}", soft_wrap=True)
