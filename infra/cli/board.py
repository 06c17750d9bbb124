"""`rapid status --watch` as a screen: drawn from looks, for terminals from 80 columns on."""

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from rich.align import Align
from rich.console import RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from infra.watching.board import STAGES, Board, Happened, Process, Unseen

BARS: Final = " ▁▂▃▄▅▆▇█"
REMEMBERED: Final = 240
"""Looks whose flow is drawn."""
TITLE: Final = "RAPID RESPONSE"
BORDER: Final = "grey37"
WIDE: Final = 150
"""Columns from which on what happened stands beside the rest."""
OLD_S: Final = 30.0
CHROME: Final = 4
"""Lines that are neither of the panels on top nor of what has happened: head, foot, a border above and below."""
COMMON: Final = "order"
OPEN_LINES: Final = 8
_STYLES: Final = {"order": "green", "alert": "bold yellow", "dead letter": "red", "restart": "bold red"}
_PHASES: Final = {"ready": "black on green", "configured": "black on green"}


class Screen:
    """What was seen so far, and the screen that follows from it. Pure: it is given looks."""

    def __init__(self) -> None:
        self._board: Board | None = None
        self._unseen: Unseen | None = None
        self._flows: dict[str, deque[float]] = {stage: deque(maxlen=REMEMBERED) for stage in STAGES}

    def take(self, seen: Board | Unseen) -> None:
        """One more look."""
        if isinstance(seen, Unseen):
            self._unseen = seen
            return
        before, self._board, self._unseen = self._board, seen, None
        if before is not None and seen.looked_s > before.looked_s:
            for stage in seen.handled:
                flow = self._flows.setdefault(stage, deque(maxlen=REMEMBERED))
                flow.append(_rate(before, seen, stage))

    def drawn(self, width: int, height: int) -> RenderableType:
        """As it fits into a terminal of this size."""
        board = self._board
        if board is None:
            why = self._unseen.why if self._unseen else "Looking …"
            return Layout(Panel(Align.center(Text(why), vertical="middle"), title=TITLE, border_style=BORDER))
        root = Layout()
        if width >= WIDE:
            beside = Layout()
            beside.split_column(*self._left(board, width * 3 // 5))
            body, shown = Layout(), _latest(pick(board.latest, height - CHROME))
            body.split_row(Layout(beside, ratio=3), Layout(shown, ratio=2))
            root.split_column(self._head(board), body, _foot(board))
        else:
            left = self._left(board, width)
            room = height - sum(one.size or 0 for one in left) - CHROME
            rows = [*left, Layout(_latest(pick(board.latest, room)), minimum_size=3)]
            root.split_column(self._head(board), *rows, _foot(board))
        return root

    def _left(self, board: Board, width: int) -> list[Layout]:
        below = Layout(size=max(len(board.processes) + 1, OPEN_LINES) + 2)
        below.split_row(Layout(_processes(board.processes), ratio=5), Layout(_open(board), ratio=4))
        return [Layout(self._flow(board, width), size=len(self._flows) + 3), below]

    def _head(self, board: Board) -> Layout:
        phase = board.phase
        head = Table.grid(expand=True)
        head.add_column()
        head.add_column(justify="right")
        said = Text.assemble((f" {TITLE} ", "bold white on dark_blue"), "  ")
        said.append(f" {phase} ", _PHASES.get(phase, "black on yellow"))
        said.append_text(self._state(board))
        head.add_row(said, Text(f"{board.at.astimezone():%Y-%m-%d %H:%M:%S %Z} ", "bold"))
        return Layout(head, size=1)

    def _state(self, board: Board) -> Text:
        if self._unseen is not None:
            old_s = (self._unseen.at - board.at).total_seconds()
            return Text(f"  not seen for {old_s:.0f} s: {self._unseen.why}", "bold red")
        if board.standing.drained:
            return Text("  all is handled", "green")
        return Text("  working", "yellow")

    def _flow(self, board: Board, width: int) -> Panel:
        table = Table(box=None, expand=True, padding=(0, 1), header_style="dim")
        for name, justify in (("stage", "left"), ("records/s", "right"), ("", "left"), ("behind", "right")):
            table.add_column(name, justify=justify, no_wrap=True, ratio=1 if not name else None)  # type: ignore[arg-type]
        room = max(8, width - 40)
        for stage, flow in self._flows.items():
            lag = board.lag.get(stage, 0)
            behind = Text(f"{lag:,}", "yellow" if lag else "dim")
            rate = flow[-1] if flow else 0.0
            table.add_row(Text(stage, "bold"), f"{rate:,.0f}", Text(sparkline(flow, room), "cyan"), behind)
        oldest = board.standing.behind.oldest_s
        said = "" if oldest is None else f"oldest unhandled record {age(oldest)}"
        return Panel(table, title="flow", title_align="left", subtitle=said, subtitle_align="right",
                     border_style=BORDER, padding=0)  # fmt: skip


def _rate(before: Board, now: Board, stage: str) -> float:
    """Records a second; 0 after a log that began anew."""
    handled = now.handled.get(stage, 0) - before.handled.get(stage, 0)
    return max(0, handled) / (now.looked_s - before.looked_s)


def sparkline(values: Sequence[float], room: int) -> str:
    """The last values as bars, the highest of them as a full one; something is never drawn as nothing."""
    shown = list(values)[-room:]
    most = max(shown, default=0.0)
    return "".join(BARS[max(1, round(value / most * 8)) if value else 0] for value in shown).rjust(room)


def age(seconds: float) -> str:
    """`42 s`, `13 min`, `5 h`, `3 d`."""
    for limit_s, unit_s, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def _processes(processes: Sequence[Process]) -> Panel:
    table = Table(box=None, expand=True, padding=(0, 1), header_style="dim")
    table.add_column("process", ratio=1, no_wrap=True, overflow="ellipsis")
    for name, characters in (("pid", 7), ("age", 6), ("restarts", 8)):
        table.add_column(name, justify="right", no_wrap=True, min_width=characters)
    for one in processes:
        table.add_row(
            _process(one),
            str(one.pid),
            age(one.age_s),
            Text(str(one.restarts), "red" if one.restarts else "dim"),
        )
    if not processes:
        table.add_row(Text("they run elsewhere", "dim"))
    return Panel(table, title="processes", title_align="left", border_style=BORDER, padding=0)


def _process(one: Process) -> Text:
    """With a mark: green ready, yellow it does not say, red not ready (the last line says why)."""
    style = "yellow" if one.ready is None else "green" if one.ready else "bold red"
    return Text.assemble(("● ", style), (one.name, "" if one.ready else style))


def _open(board: Board) -> Panel:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column()
    table.add_column(justify="right", style="bold")
    counts, waits = board.standing.counts, board.waiting
    old = f", {age(waits.age_s)}" if waits.rows else ""
    for name, value, wrong in (
        ("open orders", f"{board.orders:,}", False),
        ("alerts", f"{board.alerts:,}", board.alerts > 0),
        ("alerts nobody has seen", f"{board.alerts_unseen:,}", board.alerts_unseen > 0),
        ("dead letters", f"{counts['dead_letters']:,}", counts["dead_letters"] > 0),
        ("outbox", f"{waits.rows:,}{old}", waits.age_s > OLD_S),
        ("updates parked", f"{counts['parked_updates']:,}", False),
        ("incidents", f"{counts['incidents']:,}", False),
        ("issues", f"{counts['issues']:,}", False),
    ):
        table.add_row(f" {name}", Text(f"{value} ", "bold yellow" if wrong else "bold"))
    return Panel(table, title="open", title_align="left", border_style=BORDER, padding=0)


def pick(latest: Sequence[Happened], room: int) -> list[Happened]:
    """As many as there is room for: what is rare keeps half of it, however many orders are opened."""
    rare = [one for one in latest if one.what != COMMON]
    kept = rare[: max(room // 2, room - (len(latest) - len(rare)))]
    common = [one for one in latest if one.what == COMMON][: max(0, room - len(kept))]
    return sorted([*kept, *common], reverse=True)


def _latest(latest: Sequence[Happened]) -> Panel:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for one in latest:
        what = Text(one.what, _STYLES.get(one.what, ""))
        table.add_row(f" {_time(one.at)}", what, Text(printable(one.says)))
    if not latest:
        table.add_row("", Text("nothing yet", "dim"), "")
    return Panel(table, title="latest", title_align="left", border_style=BORDER, padding=0)


def _time(at: datetime) -> str:
    return f"{at.astimezone():%H:%M:%S}"


def printable(text: str) -> str:
    """Without a terminal's commands: some of it came from outside."""
    return "".join(one if one.isprintable() else " " for one in text)


def _foot(board: Board) -> Layout:
    wrong = [*board.standing.alerts, *map(_why, (one for one in board.processes if one.ready is False))]
    if wrong:
        return Layout(Text(f" {printable(wrong[0])}", "bold red", no_wrap=True, overflow="ellipsis"), size=1)
    brokers = ", ".join(board.there.brokers)
    api = f"  API http://{board.api}" if board.api else ""
    return Layout(Text(f" q quits  broker {brokers}{api}", "dim", no_wrap=True, overflow="ellipsis"), size=1)


def _why(one: Process) -> str:
    return f"{one.name}: {' '.join(one.not_ready.values())}"
