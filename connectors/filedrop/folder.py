"""The folder of one source: who drops a file in incoming/ finds it in processed/ or failed/, with a report beside it.

    incoming/ ──rename──► working/ ──rename──► processed/ or failed/

A rename is atomic: of two that pick up the same file one gets it. What stands in working/ was begun and not ended.
"""

import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

INCOMING, WORKING, PROCESSED, FAILED = "incoming", "working", "processed", "failed"
REPORT: Final = ".report.json"
UNFINISHED: Final = (".part", ".partial", ".tmp", ".filepart", ".crdownload", "~")
"""How senders call what they still write."""

_TOKEN: Final = re.compile(r"^[0-9a-f]{12}\.(?=.)")
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f/\\\udc80-\udcff]")
_LONGEST_NAME_BYTES: Final = 180


class Size(NamedTuple):
    """What tells that a file is still being written."""

    size: int
    changed_ns: int


@dataclass
class Folder:
    """The folder of one source. It remembers what it saw at its last look."""

    path: Path
    seen: dict[str, tuple[Size, float]] = field(default_factory=dict)  # since when it looks like that

    def make(self) -> None:
        """Make what is missing. Raises OSError."""
        for name in (INCOMING, WORKING, PROCESSED, FAILED):
            (self.path / name).mkdir(mode=0o770, parents=True, exist_ok=True)

    def begun(self) -> list[Path]:
        """Files that were picked up and not put away: the first one to be begun first."""
        return [self.path / WORKING / name for name, _ in _files(self.path / WORKING)]

    def waiting(self) -> list[str]:
        """Names of files that are there and not being called unfinished, the oldest first."""
        return [name for name, _ in _files(self.path / INCOMING)]

    def settled(self, now_s: float, settle_s: float) -> list[str]:
        """Names of files that have looked the same for `settle_s` seconds, the oldest first."""
        found = _files(self.path / INCOMING)
        self.seen = {name: self._since(name, size, now_s) for name, size in found}
        return [name for name, _ in found if now_s - self.seen[name][1] >= settle_s]

    def pick(self, name: str) -> Path | None:
        """Take a file over, for us alone; None when somebody else was faster. Raises OSError."""
        working = self.path / WORKING / f"{uuid4().hex[:12]}.{_safe(name)}"
        try:
            (self.path / INCOMING / name).rename(working)
        except FileNotFoundError:
            return None
        return working

    def put_away(self, working: Path, *, failed: bool, report: dict[str, Any]) -> Path:
        """Move a file to where it stays, its report first: a file that is there has one. Raises OSError."""
        folder = self.path / (FAILED if failed else PROCESSED)
        place = _free(folder, given_name(working), working.name)
        content = report | {"file": place.name, "picked_up_as": working.name}
        draft = folder / f".{place.name}{REPORT}.part"
        draft.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        draft.replace(_report_of(place))
        working.rename(place)
        return place

    def _since(self, name: str, size: Size, now_s: float) -> tuple[Size, float]:
        known = self.seen.get(name)
        return known if known is not None and known[0] == size else (size, now_s)


def given_name(working: Path) -> str:
    """What the file was called when it was dropped."""
    return _TOKEN.sub("", working.name)


def _files(folder: Path) -> list[tuple[str, Size]]:
    """Plain files that are not called unfinished, the oldest first. Links are left alone: they could lead anywhere."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower().endswith(UNFINISHED):
                continue
            try:
                state = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(state.st_mode):
                found.append((entry.name, Size(state.st_size, state.st_mtime_ns)))
    return sorted(found, key=lambda one: (one[1].changed_ns, one[0]))


def _safe(name: str) -> str:
    """The name without what could not be stored or printed, and short enough for a report beside it."""
    clean = _UNSAFE.sub("_", name)
    stem, suffix = os.path.splitext(clean)  # noqa: PTH122 - a name, not a path
    room = _LONGEST_NAME_BYTES - len(suffix.encode())
    return stem.encode()[: max(room, 1)].decode(errors="ignore") + suffix[:_LONGEST_NAME_BYTES]


def _free(folder: Path, name: str, picked_up_as: str) -> Path:
    """A place that nothing has, or only our own report of an attempt that was killed."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
    number = 1
    while True:
        place = folder / (name if number == 1 else f"{stem}-{number}{suffix}")
        if not place.exists() and _reported(place) in (None, picked_up_as):
            return place
        number += 1


def _report_of(place: Path) -> Path:
    return place.with_name(place.name + REPORT)


def _reported(place: Path) -> str | None:
    try:
        found = json.loads(_report_of(place).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return ""
    return str(found.get("picked_up_as")) if isinstance(found, dict) else ""
