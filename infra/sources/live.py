"""The mapping files that are in force in a process that goes on: looked at again now and then, the last good ones kept.

A file that is new, changed or put right holds from the next dropped file or request on; one that is wrong changes
nothing, but is told of.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from infra.logging import logger
from infra.sources.load import MappingErrors, Sources, load_sources
from schemas.policy import Policy

LOOK_EVERY_S: Final = 3.0
"""How long a change stays unseen at most."""

WRONG: Final = "a mapping file is wrong: its source is left out"
WRONG_AND_KEPT: Final = "a mapping file is wrong: the last good one stays in force"

Stamp = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and time of change of everything in the folder: samples belong to their mappings."""

log = logger(__name__)


class LiveSources:
    """The mappings of a folder as they hold by now. `policy`: the one in force, by which they are checked."""

    def __init__(self, folder: Path | None, policy: Callable[[], Policy]) -> None:
        self._folder = folder
        self._policy = policy
        self._stamp: tuple[str, Stamp] | None = None
        self._told: dict[str, str] = {}
        self.found = Sources({}, {})
        self.look()

    def look(self) -> bool:
        """Read the folder again if it, or the policy, is another one; whether it was. It reads files: not for an event
        loop."""
        policy = self._policy()
        stamp = policy.version, _stamp_of(self._folder)
        if stamp == self._stamp:
            return False
        began, before, self._stamp = self._stamp is None, self.found, stamp
        self.found = self._with_kept(load_sources(self._folder, policy))
        self._tell_wrong()
        if not began:
            _tell_changes(before, self.found)
        return True

    def _with_kept(self, read: Sources) -> Sources:
        """With the last good mapping of each file that is wrong now; all of them when the folder is away."""
        right, files, wrong = dict(read.right), dict(read.files), dict(read.wrong)
        for name, errors in read.wrong.items():
            for source in self._held_by(name, errors):
                if source not in right:
                    right[source], files[source] = self.found.right[source], self.found.files[source]
                    wrong[name] = MappingErrors(errors.path, errors.errors, source)
        return Sources(right, wrong, files)

    def _held_by(self, name: str, errors: MappingErrors) -> list[str]:
        if errors.path == self._folder:
            return list(self.found.right)
        return [
            source for source, file in self.found.files.items() if file == name or source == errors.source
        ]

    def _tell_wrong(self) -> None:
        """Each mistake once, not at every look."""
        sentences = {name: errors.sentence for name, errors in self.found.wrong.items()}
        for name, sentence in sentences.items():
            if self._told.get(name) != sentence:
                kept = self.found.wrong[name].source in self.found.right
                log.error(WRONG_AND_KEPT if kept else WRONG, mapping=name, reason=sentence)
        self._told = sentences


def _tell_changes(before: Sources, now: Sources) -> None:
    for source in sorted(before.right.keys() | now.right.keys()):
        old, new = before.right.get(source), now.right.get(source)
        if new is None:
            log.info("a mapping file is gone: its source is left out", source=source)
        elif old is None or old.version != new.version:
            log.info("a mapping is in force", source=source, mapping=new.version)


def _stamp_of(folder: Path | None) -> Stamp:
    try:
        return tuple(sorted(_stamps(folder))) if folder else ()
    except OSError:
        return ()


def _stamps(folder: Path) -> Iterator[tuple[str, int, int, int]]:
    for one in folder.iterdir():
        try:
            state = one.stat()
        except FileNotFoundError:  # gone between the two, or a link to nowhere
            continue
        yield one.name, state.st_ino, state.st_size, state.st_mtime_ns
