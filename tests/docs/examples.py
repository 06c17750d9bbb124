"""Examples in the docs: what is marked with `<!-- run -->` is run, and must show what the page shows.

    <!-- run -->
    ```console
    $ rapid policy check        a line that starts with $ is a command; > continues it
    policy: 77 areas, …         what it prints; … stands for anything, also for lines
    ```

A ```python block is run as a program. The blocks of a page run in order and share one RAPID_HOME.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

WILDCARD: Final = "…"
_BLOCK: Final = re.compile(r"^<!-- run -->\n+```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    """One command of a page and what it should print; `expected` is None where that does not matter."""

    page: Path
    line: int
    command: str | None  # for the shell; None: `program` is for Python
    program: str
    expected: str | None


def read(page: Path) -> Iterator[Example]:
    """The examples of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for block in _BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(2)) + 1
        if block[1] == "python":
            yield Example(page, first, None, block[2], None)
        else:
            yield from _commands(page, first, block[2])


def matches(expected: str, actual: str) -> bool:
    """Whether the output is as shown: blanks at the ends of lines and … aside."""
    pattern = ".*?".join(re.escape(part) for part in _trimmed(expected).split(WILDCARD))
    return re.fullmatch(pattern, _trimmed(actual), re.DOTALL) is not None


def _commands(page: Path, first: int, block: str) -> Iterator[Example]:
    for part in re.finditer(r"^\$ (.*\n(?:> .*\n)*)((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
        command = re.sub(r"^> ", "", part[1], flags=re.MULTILINE).rstrip()
        yield Example(page, first + block.count("\n", 0, part.start()), command, "", part[2])


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
