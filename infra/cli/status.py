"""`rapid status`: what runs, what is in it, how far behind it is."""

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table

from connectors.postgres import activations
from infra.cli.output import Json, print_json
from infra.cli.screen import safe
from infra.cli.session import database, run
from infra.connect import Endpoints, connection
from infra.embedded.installation import incarnations
from infra.embedded.processes import Running, is_alive
from infra.embedded.state import Home, State
from infra.in_force import differs
from infra.settings import Settings
from infra.standing import Standing, standing
from infra.watching.board import readiness

Watch = Annotated[bool, typer.Option("--watch", "-w", help="A live screen; q or Ctrl-C ends it.")]


def status(as_json: Json = False, watch: Watch = False) -> None:
    """Show what is running, how much is in it and how far behind it is.

    `lag` counts the records of a topic that its agent has not handled; `drained` is true when there are none and
    nothing waits to be published: then everything that was accepted has been handled.
    """
    settings = Settings()
    console = Console()
    if as_json:
        print_json(_with_who_is_not_ready(look(settings)))
    elif watch and console.is_terminal:
        from infra.cli.status_watch import watch as live  # imported late: termios is not everywhere

        live(settings)
    else:
        whole_lines = not console.is_terminal
        console.print(_screen(_with_who_is_not_ready(look(settings))), soft_wrap=whole_lines)


def look(settings: Settings) -> dict[str, Any]:
    """The status as JSON-able values. Raises Oops when nothing runs or something does not answer."""
    there = connection(settings)
    found, active = run(_stand(there))
    state = Home(settings.home_folder).read_state() if there.embedded else None
    other = state is not None and state.file_policy not in ("", active) and active is not None
    return {
        "phase": _phase(state),
        **found.counts,
        "policy": active,
        "alerts": [*found.alerts, *([differs(settings, active)] if other and active else [])],
        "outbox_waiting": found.outbox_waiting,
        "lag": found.behind.lag,
        "oldest_unprocessed_s": _rounded(found.behind.oldest_s),
        "drained": found.drained and (state is None or state.phase == "ready"),
        "workers": [_watched(state, one) for one in (state.workers if state else []) if is_alive(one)],
        "services": [_watched(state, one) for one in (state.services if state else []) if is_alive(one)],
        "api": f"http://{state.api_address}" if state and state.api_address else None,
        "supervisor": _process(state.supervisor) if state and is_alive(state.supervisor) else None,
        "broker": {
            "addresses": list(there.brokers),
            "boot_id": there.boot_id or None,
            "embedded": there.embedded,
        },
    }


def _with_who_is_not_ready(found: dict[str, Any]) -> dict[str, Any]:
    """And what each process says of itself: one that is frozen has a pid like all others."""
    watched = [one for one in (*found["workers"], *found["services"]) if one["watch"]]
    with ThreadPoolExecutor(max_workers=max(1, len(watched))) as asking:
        said = list(asking.map(readiness, [one["watch"] for one in watched]))
    return found | {
        "not_ready": {
            one["name"]: " ".join(why.values())
            for one, (ready, why) in zip(watched, said, strict=True)
            if not ready
        }
    }


async def _stand(there: Endpoints) -> tuple[Standing, str | None]:
    """How far everything is, and the version of the policy in force."""
    async with database(there.database_url) as connected:
        known = await incarnations(there.brokers, there.security)
        active = await activations.latest(connected, "policy")
        found = await standing(connected, there.brokers, known, there.security)
        return found, active.version if active else None


def _phase(state: State | None) -> str | None:
    """None without an embedded installation; "unsupervised" when its supervisor was killed."""
    if state is None:
        return None
    return state.phase if is_alive(state.supervisor) else "unsupervised"


def _process(process: Running) -> dict[str, Any]:
    return {"name": process.name, "pid": process.pid}


def _watched(state: State | None, process: Running) -> dict[str, Any]:
    """With where it says how it is, and how often it had to be started again."""
    watch, restarts = (state.watch, state.restarts) if state else ({}, {})
    return _process(process) | {"watch": watch.get(process.name), "restarts": restarts.get(process.name, 0)}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _screen(found: dict[str, Any]) -> Group:
    waiting = [f"{name} is not ready: {why}" for name, why in found["not_ready"].items()]
    alerts = [f"[bold red]{safe(alert)}[/]" for alert in (*found["alerts"], *waiting)]
    return Group(_headline(found), *alerts, _counts(found), _lags(found))


def _headline(found: dict[str, Any]) -> str:
    workers = ", ".join(str(worker["pid"]) for worker in found["workers"])
    running = f"{len(found['workers'])} workers ({workers})" if workers else "workers run elsewhere"
    phase = found["phase"] or "configured"
    done = "[green]drained[/]: everything accepted is handled" if found["drained"] else "[yellow]working[/]"
    api = f", API {found['api']}" if found["api"] else ""
    return f"[bold]{phase}[/], broker {', '.join(found['broker']['addresses'])}{api}, {running}; {done}\n"


def _counts(found: dict[str, Any]) -> Table:
    table = _two_columns()
    for label, key in (
        ("incident reports", "incident_reports"), ("incidents", "incidents"),
        ("issue reports", "issue_reports"), ("issues", "issues"), ("issues folded as duplicates", "issues_folded"),
        ("responses", "responses"), ("work orders", "work_orders"), ("updates of departments", "updates"),
        ("updates parked, for orders that nobody knows", "parked_updates"), ("dead letters, open", "dead_letters"),
    ):  # fmt: skip
        table.add_row(label, f"{found[key]:,}")
    return table


def _lags(found: dict[str, Any]) -> Table:
    table = _two_columns()
    table.add_row("", "")
    for topic, lag in found["lag"].items():
        table.add_row(f"behind on {topic}", f"{lag:,}")
    table.add_row("waiting in the outbox", f"{found['outbox_waiting']:,}")
    oldest = found["oldest_unprocessed_s"]
    table.add_row("oldest unhandled record", "none" if oldest is None else f"{oldest:,.1f} s")
    return table


def _two_columns() -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    return table
