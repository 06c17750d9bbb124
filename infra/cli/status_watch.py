"""The loop of `rapid status --watch`: look, draw, until `q` or Ctrl-C."""

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from typing import Final

from rich.console import Console
from rich.live import Live

from infra.cli.board import Screen
from infra.settings import Settings
from infra.watching.board import look_or_say_why

LOOK_EVERY_S: Final = 2.0
QUIT: Final = (b"q", b"Q", b"\x03", b"\x04", b"\x1b")


def watch(settings: Settings) -> None:
    """Show the system until somebody quits. Goes on while it is away."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_watch(settings, Console()))


async def _watch(settings: Settings, console: Console) -> None:
    screen, stop = Screen(), asyncio.Event()
    with Live(console=console, screen=True, auto_refresh=False, transient=True) as live:

        def draw() -> None:
            live.update(screen.drawn(*console.size), refresh=True)

        draw()
        with _keys(stop), _resizing(draw):
            looking = asyncio.create_task(_look(settings, screen, draw))
            await asyncio.wait(
                {looking, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED
            )
            if looking.done():
                looking.result()
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


async def _look(settings: Settings, screen: Screen, draw: Callable[[], None]) -> None:
    while True:
        screen.take(await look_or_say_why(settings))
        draw()
        await asyncio.sleep(LOOK_EVERY_S)


@contextlib.contextmanager
def _keys(stop: asyncio.Event) -> Iterator[None]:
    """Single keys reach us as they are pressed, and are not shown."""
    if not sys.stdin.isatty():
        yield
        return
    number, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(number)

    def pressed() -> None:
        if os.read(number, 16)[:1] in (*QUIT, b""):
            stop.set()

    tty.setcbreak(number)
    loop.add_reader(number, pressed)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    try:
        yield
    finally:
        loop.remove_reader(number)
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)
        termios.tcsetattr(number, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resizing(draw: Callable[[], None]) -> Iterator[None]:
    """Draw anew as soon as the terminal has another size."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, draw)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
