"""`rapid`: the command line. Commands are listed here and imported only when they are called."""

import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, NamedTuple, NoReturn

import typer
from pydantic import ValidationError
from typer.core import TyperCommand, TyperGroup

from infra.cli.errors import ExitCode, Oops
from infra.settings import PREFIX, Settings
from schemas.expected import said


class Entry(NamedTuple):
    """One command: where it is, and the line that `rapid --help` shows for it.

    `attribute` is a function, or a typer.Typer with subcommands.
    """

    name: str
    module: str
    attribute: str
    summary: str
    panel: str


RUN: Final = "Run it"
USE: Final = "Use it"
MEND: Final = "Look after it"

COMMANDS: Final = (
    Entry("up", "infra.cli.up", "up", "Start everything on this machine: broker, database, workers, API.", RUN),
    Entry("down", "infra.cli.down", "down", "Stop what `rapid up` started; nothing accepted is lost.", RUN),
    Entry("status", "infra.cli.status", "status", "What is running, how much is in it, how far behind it is.", RUN),
    Entry("doctor", "infra.cli.doctor", "doctor", "Check this machine and the running system.", RUN),
    Entry("worker", "infra.cli.worker", "worker", "Run one worker in this process, against a configured Kafka.", RUN),
    Entry("courier", "infra.cli.courier", "courier", "Send webhooks, and messages about alerts to people.", RUN),
    Entry("timers", "infra.cli.timers", "timers", "Tell the workers when an order's time has come.", RUN),
    Entry("api", "infra.cli.api", "api", "Serve the REST API in this process.", RUN),
    Entry("migrate", "infra.cli.migrate", "migrate", "Bring the database's tables up to date.", RUN),
    Entry("topics", "infra.cli.topics", "app", "List or create the topics, say who may use them.", RUN),
    Entry("demo", "infra.cli.demo", "demo", "See it work, from an empty machine to work orders.", USE),
    Entry("replay", "infra.cli.replay", "replay", "Send recorded incidents and issues from files.", USE),
    Entry("ingest", "infra.cli.ingest", "app", "Take in what comes: the city's portal, dropped files.", USE),
    Entry("sources", "infra.cli.sources", "app", "Where reports come from: list, show, check a mapping file.", USE),
    Entry("simulate", "infra.cli.simulate", "app", "Write invented incidents and issues to files, for `replay`.", USE),
    Entry("orders", "infra.cli.orders", "app", "List and show work orders.", USE),
    Entry("alerts", "infra.cli.alerts", "app", "What needs attention: look, acknowledge, snooze, hand over.", USE),
    Entry("incidents", "infra.cli.incidents", "app", "List and show incidents and what became of them.", USE),
    Entry("responses", "infra.cli.responses", "app", "List and show responses: windows, made safe, closed.", USE),
    Entry("webhooks", "infra.cli.webhooks", "app", "URLs that are called when a department is told something.", USE),
    Entry("open311", "infra.cli.open311", "app", "Departments that only know 311: where their orders are filed.", USE),
    Entry("explain", "infra.cli.explain", "explain", "Why a decision was taken, from its own record.", USE),
    Entry("sla", "infra.cli.sla", "app", "When something is due and why; the calendars that say so.", USE),
    Entry("oncall", "infra.cli.oncall", "app", "Who is told of alerts now and later; who stands in for whom.", USE),
    Entry("notify", "infra.cli.notify", "app", "Messages to people about alerts: what was sent, what fails.", USE),
    Entry("areas", "infra.cli.areas", "app", "Areas: import boundaries, see where a place lies, find hot blocks.", USE),
    Entry("policy", "infra.cli.policy", "app", "Check, compare and activate policies; their history.", USE),
    Entry("schema", "infra.cli.schema", "schema", "What travels: JSON Schema of each record, AsyncAPI.", USE),
    Entry("replay-decisions", "infra.cli.replay_decisions", "replay_decisions",
          "Take recorded decisions again and compare them byte for byte.", MEND),
    Entry("verify", "infra.cli.verify", "verify", "Compare everything it holds: does it all agree?", MEND),
    Entry("dead-letters", "infra.cli.dead_letters", "app", "Records that could not be used: list, show, retry.", MEND),
    Entry("keys", "infra.cli.keys", "app", "API keys: who may enter with one.", MEND),
    Entry("audit", "infra.cli.audit", "app", "The audit trail: read it, check it.", MEND),
    Entry("db", "infra.cli.db", "app", "The address of the database.", MEND),
    Entry("bench", "infra.cli.bench", "app", "Measure how fast it is on this machine.", MEND),
)  # fmt: skip

INTRODUCTION: Final = """Rapid Response turns an incident of gun violence into the city services
that make its block safer.

Try it, on nothing but this machine:

    rapid up --detach        start broker, database and workers
    rapid status             see what runs
    rapid down               stop it

Settings are environment variables (RAPID_…) or lines of a `.env` file:
see docs/settings.md. Every command takes --help; wherever a table is
printed, --json prints the same for machines.

Exit codes: 0 done, 1 failed, 2 wrong option or file, 3 nothing is running,
4 already running, 5 port taken, 6 not found, 7 broker or database away,
8 invalid setting or policy.
"""


class Commands(TyperGroup):
    """The group of all commands. Their modules are imported when they are called, not to list them."""

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the framework's signature
        return [entry.name for entry in COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the framework's signature
        for entry in COMMANDS:
            if entry.name == cmd_name:
                return _line_of_help(entry) if self._listing else load(entry)
        return None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listing = True
        super().format_help(ctx, formatter)


def _line_of_help(entry: Entry) -> TyperCommand:
    return TyperCommand(entry.name, help=entry.summary, rich_help_panel=entry.panel)


def load(entry: Entry) -> Any:
    """Import one command. Raises Oops when its module is not there."""
    try:
        found = getattr(import_module(entry.module), entry.attribute)
    except ModuleNotFoundError as error:
        if error.name != entry.module:
            raise
        raise Oops(f"`rapid {entry.name}` is not part of this installation.") from error
    return typer.main.get_command(found if isinstance(found, typer.Typer) else _app_of(entry.name, found))


def _app_of(name: str, function: Callable[..., object]) -> typer.Typer:
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    app.command(name)(function)
    return app


app = typer.Typer(
    name="rapid", cls=Commands, help=INTRODUCTION, no_args_is_help=True, rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]}, add_completion=False,
    pretty_exceptions_enable=False,
)  # fmt: skip


@app.callback()
def _root() -> None:
    """Makes this a group; the text of the help is INTRODUCTION."""


def main() -> None:
    """The `rapid` script. Expected failures end with one sentence and their exit code, never a traceback."""
    try:
        app(prog_name="rapid")
    except Oops as oops:
        leave(str(oops), oops.exit_code)
    except ValidationError as error:
        if error.title != Settings.__name__:
            unexpected(error)
        leave(_sentence_about_settings(error), ExitCode.INVALID)
    except KeyboardInterrupt:
        leave("Interrupted.", 130)
    except BrokenPipeError:
        os._exit(0)  # whoever read our output has enough; a flush at exit would complain
    except Exception as error:  # noqa: BLE001 - the last place where a failure can be told in a sentence
        unexpected(error)


def leave(sentence: str, exit_code: int) -> NoReturn:
    """End the process with one sentence on stderr."""
    print(f"rapid: {sentence}", file=sys.stderr)
    raise SystemExit(exit_code)


def unexpected(error: Exception) -> NoReturn:
    """A failure that nobody foresaw: the traceback goes to a file, a hint to the terminal."""
    settings = _settings_or_none()
    if settings is None or settings.debug:
        raise error
    file = settings.home_folder / "logs" / "errors.log"
    hint = f"Something unexpected happened ({type(error).__name__})"
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file.open("a") as out:
            traceback.print_exception(error, file=out)
    except OSError:
        leave(f"{hint}: run it again with RAPID_DEBUG=1 to see where.", ExitCode.FAILED)
    leave(f"{hint}: the details are in {file}.", ExitCode.FAILED)


def _settings_or_none() -> Settings | None:
    try:
        return Settings()
    except ValidationError:
        return None


def _sentence_about_settings(error: ValidationError) -> str:
    """`RAPID_WORKERS: expected a whole number`, without the value: it may be a password."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = "_".join(str(part) for part in first["loc"]).upper()
    return f"{PREFIX}{where}: expected {said(first)}." if where else f"{said(first)}."


if __name__ == "__main__":
    main()
