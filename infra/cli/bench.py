"""`rapid bench`: how fast it is on this machine."""

import asyncio
import os
import platform
import signal
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.status import Status

from infra.cli.output import Json, print_json, print_table

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

INCIDENTS_PER_S: Final = 1_000
ORDERS_PER_S: Final = 3_000
P99_MS: Final = 250
WARM_UP_INCIDENTS: Final = 300

Incidents = Annotated[int, typer.Option(min=100, max=200_000, help="Incidents that are sent at once.")]
Requests = Annotated[float, typer.Option(min=0.0, max=100.0, help="Service requests for each incident.")]
Rate = Annotated[float, typer.Option(min=1.0, max=10_000.0, help="Incidents a second of the steady part.")]
Seconds = Annotated[float, typer.Option(min=1.0, max=3_600.0, help="How long the steady part is.")]
Workers = Annotated[int, typer.Option("--workers", "-w", min=1, max=64, help="Worker processes.")]
Partitions = Annotated[int, typer.Option(min=1, max=64, help="Partitions of each topic.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed, the same load.")]


@app.callback()
def _root() -> None:
    """Measure how fast it is on this machine."""


@app.command("pipeline")
def pipeline(  # noqa: PLR0917 - typer calls it by name
    incidents: Incidents = 20_000,
    requests: Requests = 0.5,
    rate: Rate = 100.0,
    seconds: Seconds = 15.0,
    workers: Workers = 2,
    partitions: Partitions = 2,
    seed: Seed = 1,
    as_json: Json = False,
) -> None:
    """Measure the whole path, report to department topic.

    Starts an installation of its own in a temporary folder; yours is not touched. Sends simulated reports at once
    and waits until they are handled, then sends at a steady rate and measures how long each incident takes. Beside
    it, aiokafka alone moves the same bytes through the same broker.
    """
    asked = {
        "incidents": incidents, "requests_per_incident": requests, "rate": rate, "seconds": seconds,
        "workers": workers, "partitions": partitions, "seed": seed,
    }  # fmt: skip
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # told to stop, it ends what it started
    with Console(stderr=True, quiet=as_json).status("Inventing reports") as status:
        found = _measure(asked, status)
    if as_json:
        print_json(found)
    else:
        _print(found)


@app.command("api")
def api(
    orders: Annotated[int, typer.Option(min=1_000, max=2_000_000, help="Orders in the database.")] = 100_000,
    requests: Annotated[int, typer.Option(min=100, max=1_000_000, help="Requests of each kind.")] = 3_000,
    connections: Annotated[int, typer.Option(min=1, max=200, help="Requests under way at once.")] = 8,
    streams: Annotated[int, typer.Option(min=1, max=900, help="Listeners to the stream of changes.")] = 500,
    as_json: Json = False,
) -> None:
    """Measure the REST API: get, list, update, the stream of changes.

    Starts a database full of invented orders, a broker and one API process in a temporary folder; yours are not
    touched. Beside it, asyncpg alone reads the same rows.
    """
    from infra.bench.api import Asked, measure
    from infra.logging import configure

    configure("WARNING")  # on stderr: what is printed is the figures
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # told to stop, it ends what it started
    asked = Asked(orders, requests, connections, streams)
    with Console(stderr=True, quiet=as_json).status("Starting") as status:
        measured = measure(asked, lambda text: status.update(f"Measuring: {text}"))
    found = {"asked": asdict(asked), "machine": _machine(), "measured": measured}
    if as_json:
        print_json(found)
    else:
        _print_api(found)


@app.command("sla")
def sla(
    questions: Annotated[
        int, typer.Option(min=100, max=1_000_000, help="Due dates that are asked for.")
    ] = 5_000,
    timers: Annotated[
        int, typer.Option(min=0, max=5_000_000, help="Timers that are armed; 0: none.")
    ] = 50_000,
    seed: Seed = 1,
    as_json: Json = False,
) -> None:
    """Measure promises: due dates, clocks, timers.

    Due dates beside the library businesstimedelta, the same questions to both; timers beside plain polling with SKIP
    LOCKED, on a database and a broker of its own in a temporary folder.
    """
    from infra.bench.sla import measure
    from infra.bench.timers import measure_alone
    from infra.logging import configure

    configure("WARNING")  # on stderr: what is printed is the figures
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # told to stop, it ends what it started
    with Console(stderr=True, quiet=as_json).status("Measuring") as status:
        found = {
            "asked": {"questions": questions, "timers": timers, "seed": seed},
            "machine": _machine(),
            **measure(questions, 10 * questions, seed, lambda text: status.update(f"Measuring: {text}")),
        }
        if timers:
            status.update("Measuring: timers")
            found["timers"] = asyncio.run(measure_alone(timers))._asdict()
    if as_json:
        print_json(found)
    else:
        _print_sla(found)


def _print_sla(found: dict[str, Any]) -> None:
    rows = [
        ("due dates", found["ours_per_s"], found["businesstimedelta_per_s"], "half an hour to a week of work"),
        ("due dates a year of work away", found["ours_a_year_away_per_s"],
         found["businesstimedelta_a_year_away_per_s"], "2,000 hours"),
        ("clocks folded", found["folds_per_s"], None, f"of {found['events_of_a_clock']} events each"),
    ]  # fmt: skip
    shown = [
        {"what": what, "ours/s": f"{ours:,.0f}", "businesstimedelta/s": "" if theirs is None else f"{theirs:,.0f}",
         "times": "" if theirs is None else f"{ours / theirs:,.0f}", "of": of}
        for what, ours, theirs, of in rows
    ]  # fmt: skip
    machine = found["machine"]
    load = ", ".join(str(one) for one in machine["load_1_5_15_min"])
    print_table(f"Promises, one process, {machine['cores']} cores, load {load}", shown, "")
    for one in found["compared"]:
        why = "; ".join(f"{count} by rule {rule}" for rule, count in one["rules"].items())
        print(
            f"{one['hours']}: {one['questions']:,} answers compared, {one['differ']:,} differ{why and f': {why}'}."
        )
    if "timers" in found:
        timers = found["timers"]
        print(
            f"Timers, {found['asked']['timers']:,}: armed {timers['armed_per_s']:,.0f}/s, nudged "
            f"{timers['nudged_per_s']:,.0f}/s; plain SKIP LOCKED polling {timers['plain_polling_per_s']:,.0f}/s."
        )


def _print_api(found: dict[str, Any]) -> None:
    asked, machine = found["asked"], found["machine"]
    load = ", ".join(str(one) for one in machine["load_1_5_15_min"])
    rows = [
        {
            "what": name if name != "stream" else f"an event to all of {one['listeners']} streams",
            "per second": f"{one['per_s']:,.0f}" if "per_s" in one else "",
            "p50": f"{one['p50_ms']:,.1f} ms",
            "p99": f"{one['p99_ms']:,.1f} ms",
        }
        for name, one in found["measured"].items()
    ]
    print_table(
        f"{asked['orders']:,} orders, {asked['connections']} requests at once, {machine['cores']} cores, load {load}",
        rows, "",
    )  # fmt: skip


def _measure(asked: dict[str, Any], status: Status) -> dict[str, Any]:
    from infra.bench.load import make_load
    from infra.bench.stage import installation

    steady_incidents = round(asked["rate"] * asked["seconds"])
    whole = make_load(
        WARM_UP_INCIDENTS + asked["incidents"] + steady_incidents,
        asked["requests_per_incident"],
        asked["seed"],
    )
    parts = _parts(whole, asked["incidents"])
    status.update("Starting an installation")
    with installation(asked["workers"], {"partitions": str(asked["partitions"])}) as state:
        return {
            "asked": asked,
            "machine": _machine(),
            **asyncio.run(_run(state, parts, asked["rate"], status)),
        }


def _parts(whole: Any, incidents: int) -> tuple[Any, Any, Any]:
    """What warms up, what comes at once, what comes steadily."""
    warm_up, rest = whole.split(WARM_UP_INCIDENTS)
    burst, steady = rest.split(incidents)
    return warm_up, burst, steady


async def _run(state: Any, parts: Sequence[Any], rate: float, status: Status) -> dict[str, Any]:
    from infra.bench.bare import run_bare
    from infra.bench.pipeline import bench

    def tell(text: str) -> None:
        status.update(f"Measuring: {text}")

    warm_up, load, steady = parts
    async with bench(state, tell) as there:
        await there.burst(warm_up)
        burst = await there.burst(load)
        gentle = await there.steady(steady, rate)
    tell("aiokafka alone")
    bare = await run_bare(state.broker_address, list(burst.published))
    return {
        "burst": _burst(burst),
        "steady": _steady(gentle),
        "bare": _bare(bare),
        "targets": _targets(burst, gentle),
    }


def _burst(burst: Any) -> dict[str, Any]:
    s = burst.seconds
    return {
        **asdict(burst),
        "reports_per_s": burst.reports / s,
        "incidents_per_s": burst.incidents / s,
        "orders_per_s": burst.orders / s,
        "order_snapshots_per_s": burst.order_snapshots / s,
    }


def _steady(steady: Any) -> dict[str, Any]:
    from infra.bench.pipeline import percentile

    found = asdict(steady)
    latencies = found.pop("latencies_s")
    found["latency_ms"] = {
        "p50": _ms(percentile(latencies, 0.5)),
        "p99": _ms(percentile(latencies, 0.99)),
        "max": _ms(percentile(latencies, 1.0)),
    }
    return found


def _bare(bare: Any) -> dict[str, Any]:
    return {
        **asdict(bare),
        "records_in_per_s": bare.records_in / bare.seconds,
        "records_out_per_s": bare.records_out / bare.seconds,
    }


def _targets(burst: Any, steady: Any) -> dict[str, bool]:
    from infra.bench.pipeline import percentile

    p99 = _ms(percentile(steady.latencies_s, 0.99))
    return {
        f"{INCIDENTS_PER_S} incidents/s": burst.incidents / burst.seconds >= INCIDENTS_PER_S,
        f"{ORDERS_PER_S} orders/s": burst.order_snapshots / burst.seconds >= ORDERS_PER_S,
        f"p99 {P99_MS} ms": p99 is not None and p99 <= P99_MS,
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_1_5_15_min": [round(one, 1) for one in os.getloadavg()],
    }


def _print(found: dict[str, Any]) -> None:
    burst, steady, bare = found["burst"], found["steady"], found["bare"]
    rows = [
        ("reports/s", f"{burst['reports_per_s']:,.0f}", f"{burst['reports']:,} in {burst['seconds']:.1f} s"),
        ("incidents/s", f"{burst['incidents_per_s']:,.0f}", f"{burst['incidents']:,}; target {INCIDENTS_PER_S:,}"),
        ("order snapshots/s", f"{burst['order_snapshots_per_s']:,.0f}",
         f"{burst['order_snapshots']:,} on work-orders; target {ORDERS_PER_S:,}"),
        ("distinct orders/s", f"{burst['orders_per_s']:,.0f}", f"{burst['orders']:,}"),
        *((f"latency {name}", f"{value:,.0f} ms" if value is not None else "none",
           f"at {steady['rate']:.0f} incidents/s; {steady['with_order']:,} of {steady['incidents']:,} led to an order")
          for name, value in steady["latency_ms"].items()),
        ("memory of a worker", ", ".join(f"{mb:.0f}" for mb in steady["memory_mb"]) + " MB", "resident, at the end"),
        ("aiokafka alone", f"{bare['records_in_per_s']:,.0f} in/s, {bare['records_out_per_s']:,.0f} out/s",
         f"{bare['records_in']:,} in, {bare['records_out']:,} out in {bare['seconds']:.1f} s, one process"),
    ]  # fmt: skip
    print_table(_title(found), [{"measure": a, "figure": b, "of what": c} for a, b, c in rows], "")
    _print_cpu(burst)
    missed = [name for name, met in found["targets"].items() if not met]
    print(f"Targets missed: {', '.join(missed)}." if missed else "Every target is met.")


def _title(found: dict[str, Any]) -> str:
    machine, asked = found["machine"], found["asked"]
    load = ", ".join(str(one) for one in machine["load_1_5_15_min"])
    return f"{asked['workers']} workers on {machine['cores']} cores, whose load was {load} before"


def _print_cpu(burst: dict[str, Any]) -> None:
    """Where the time of the burst went; what others used meanwhile is what makes two runs differ."""
    used = dict(burst["cpu_s"])
    machine = used.pop("machine")
    used["others on this machine"] = max(0.0, machine - sum(used.values()))
    rows = [{"processor time": name, "seconds": f"{value:.1f}"} for name, value in used.items()]
    print_table(f"In the {burst['seconds']:.1f} s of the burst", rows, "")
