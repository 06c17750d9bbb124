"""What a check is, and what comes out of it."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from infra.verify.world import World

MOST_KEPT: Final = 1_000
"""Disagreements of one check that are told; of more, only how many."""


class Disagreement(NamedTuple):
    """Two places that say different things. `reference`: the order's, or what it is about where no order is."""

    reference: str
    expected: str
    found: str


class NotYet(NamedTuple):
    """What cannot be compared yet, as the remark of its check calls several of them."""

    what: str


Look: TypeAlias = Disagreement | Literal["gone"] | NotYet | None
"""What one comparison shows. None: they agree. `gone`: one of the two is kept no longer, so nothing was compared."""

GONE: Final = "gone"

Need = Literal["nothing", "drained", "topics", "seen"]


@dataclass(frozen=True, slots=True)
class Check:
    """One kind of comparison. `sentence`: what holds; `do`: what to do where it does not.

    `needs`: "drained": everything accepted is handled; "topics": that and a broker; "seen": files that were named.
    """

    name: str
    sentence: str
    do: str
    run: "Callable[[World], AsyncIterator[Look]]"
    needs: Need = "nothing"


@dataclass(slots=True)
class Outcome:
    """What one check showed. `not_done`: why it was left out."""

    check: Check
    compared: int = 0
    gone: int = 0
    not_yet: Counter[str] = field(default_factory=Counter)
    disagreeing: int = 0
    disagreements: list[Disagreement] = field(default_factory=list)
    not_done: str | None = None

    def add(self, look: Look) -> None:
        """Count one comparison; of disagreements the first `MOST_KEPT` are kept."""
        if look == GONE:
            self.gone += 1
            return
        if isinstance(look, NotYet):
            self.not_yet[look.what] += 1
            return
        self.compared += 1
        if isinstance(look, Disagreement):
            self.disagreeing += 1
            if len(self.disagreements) < MOST_KEPT:
                self.disagreements.append(look)
