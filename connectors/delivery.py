"""What the loop needs of the outside: a ledger in a database, a publisher, and facts about the log."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from schemas.dead_letter import DeadLetter
from schemas.envelope import Event, Headers


class RawRecord(Protocol):
    """One record as the broker's client gives it."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class RecordBatch(NamedTuple):
    """One polled batch of one partition, in the order of its offsets; never empty."""

    topic: str
    partition: int
    run: int  # which `Feed.begin` it belongs to: what was polled before a seek is of an older run
    records: Sequence[RawRecord]

    @property
    def first_offset(self) -> int:
        """Offset of the first record."""
        return self.records[0].offset

    @property
    def last_offset(self) -> int:
        """Offset of the last record: it stands for the batch in the driver's bookkeeping."""
        return self.records[-1].offset


class FenceKey(NamedTuple):
    """Whose progress, in which partition."""

    consumer: str
    topic: str
    partition: int

    @property
    def source(self) -> str:
        """How outbox rows name the partition whose records led to them."""
        return f"{self.consumer}/{self.topic}/{self.partition}"


class Claim(NamedTuple):
    """A partition taken over: only transactions that carry this epoch may move its fence."""

    key: FenceKey
    incarnation: str
    epoch: int
    next_offset: int


class OutboxRow(NamedTuple):
    """An event that is committed and has to be published; rows of one source are published by `seq`."""

    seq: int
    topic: str
    key: bytes
    value: bytes
    headers: Headers


class Position(NamedTuple):
    """Where the broker put a record; `offset` is -1 when it only says that it has it already."""

    partition: int
    offset: int


class Incarnations(dict[str, str]):
    """The incarnation of each topic whose rows are kept, as asked at `asked_s` (monotonic seconds)."""

    asked_s: float = 0.0


class Ledger(Protocol):
    """Fences, outbox and dead letters. Every method raises Transient when the database is away."""

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A transaction on one connection; database errors leave it as Transient or Permanent."""
        ...

    async def claim(self, key: FenceKey, incarnation: str) -> Claim:
        """Raise the epoch; a new incarnation of the log starts a new fence at offset 0."""
        ...

    async def restart(self, claim: Claim) -> Claim:
        """Start the fence again at offset 0, because the log ends before it. Raises Fenced."""
        ...

    async def advance(self, connection: Any, claim: Claim, next_offset: int) -> int:
        """Lock the fence for this transaction, move it forward, and return where it stood. Raises Fenced; Outdated when
        something else was put in force than this process decides by."""
        ...

    async def add(self, connection: Any, source: str, events: Sequence[Event]) -> list[OutboxRow]:
        """Write events to the outbox, in this order. Raises Permanent for one that no broker would take."""
        ...

    async def bury(self, connection: Any, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Keep dead letters, and return each under the id of the letter that it is: what was sent again and failed
        again is the same one, open again."""
        ...

    async def unsent(self, source: str) -> list[OutboxRow]:
        """What this source committed and nobody published, by seq."""
        ...

    async def incarnations(self, rows: Sequence[OutboxRow]) -> Incarnations:
        """What `settle` wants to know of the log as it was before the rows were published."""
        ...

    async def settle(
        self, rows: Sequence[OutboxRow], positions: Sequence[Position], incarnations: Incarnations
    ) -> bool:
        """Note the broker's answers; rows and positions are parallel.

        False: it was replaced by an empty one since `incarnations` were asked. Nothing is noted, publish again.
        """
        ...


class Publisher(Protocol):
    """Publishes outbox rows."""

    async def publish(self, rows: Sequence[OutboxRow]) -> list[Position]:
        """Send in order and wait for the broker's answer to each. Raises Transient or Permanent."""
        ...


class Log(Protocol):
    """Facts about the topics of the broker. Raises Transient when it is away."""

    async def cluster_id(self) -> str:
        """The cluster's id as it is now; a broker without a disk has another one after each start."""
        ...

    async def incarnation(self, topic: str) -> str:
        """What changes when a topic was deleted and made again, or its broker lost everything.

        It begins with the cluster's id and a slash, and may be some moments old.
        """
        ...

    async def end_offset(self, topic: str, partition: int) -> int:
        """The offset that the next record of the partition will get."""
        ...


class Feed(Protocol):
    """The driver's side of the loop: where a partition is read from, and what may be committed."""

    async def begin(self, topic: str, partition: int, offset: int) -> int:
        """Read a partition from this offset on (0: from the beginning of the log) and return the new run.

        Raises Transient when that is not possible now, also because the partition was just revoked.
        """
        ...

    def complete(self, batch: RecordBatch) -> None:
        """Everything of this batch is done. Ignored when the batch is of an older run."""
        ...


NO_LETTERS: Final[Mapping[str, int]] = MappingProxyType({})


class Moment(NamedTuple):
    """Something that has just happened to a lane, for who watches: at most a few for each batch, none for a record.

    `offset`: one past the last record that it is about. `letters`: dead letters by reason. `seconds`: how long the
    transaction took. `error` is one of few words, `why` a sentence without a value in it.
    """

    what: Literal[
        "claiming", "claimed", "polled", "began", "applied", "published", "done", "failed", "closed"
    ]
    offset: int = 0
    records: int = 0
    events: int = 0
    letters: Mapping[str, int] = NO_LETTERS
    seconds: float = 0.0
    error: Literal["", "away", "refused", "fenced"] = ""
    why: str = ""


Watch: TypeAlias = Callable[[str, FenceKey, Moment], None]
"""Is told of an agent's lane. Returns at once and never raises."""
