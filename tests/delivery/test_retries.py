"""Dead letters that are sent again: what goes to the outbox, what is refused, and a broker that is away."""

from collections.abc import Sequence

import asyncpg
import pytest

from connectors.errors import Transient
from connectors.kafka.security import Security
from connectors.postgres import dead_letters, retries
from connectors.postgres.retries import Wanted
from infra import dead_letters as work
from infra.cli import dead_letters as command
from infra.cli.dead_letters import Chosen
from infra.cli.errors import ExitCode, Oops
from infra.connect import Endpoints
from schemas.dead_letter import DeadLetter, Reason, dead_letter_id_of

TOPIC = "incident-reports"


def letter(
    offset: int, *, reason: Reason = "failed", partition: int = 0, key: bytes | None = b"k", kept: bool = True
) -> DeadLetter:
    value = f"{offset}".encode()
    return DeadLetter(
        dead_letter_id=dead_letter_id_of(TOPIC, key, value), topic=TOPIC, partition=partition, offset=offset,
        reason=reason, field=None, expected="something else", key=key, value=value if kept else None,
    )  # fmt: skip


GOOD = [letter(1), letter(2)]
HOPELESS = [
    letter(3, partition=-1), letter(4, reason="oversized"), letter(5, kept=False),
    letter(6, reason="missing_key", key=None),
]  # fmt: skip


async def bury(dsn: str, letters: Sequence[DeadLetter]) -> None:
    connection = await asyncpg.connect(dsn)
    await dead_letters.bury(connection, letters)
    await connection.close()


async def states(dsn: str) -> dict[int, str]:
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch('SELECT "offset", state FROM dead_letters ORDER BY 1')
    await connection.close()
    return {row["offset"]: row["state"] for row in rows}


class Broker:
    """Takes what is in the outbox, unless it is away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = False
        self.taken: list[bytes] = []
        monkeypatch.setattr(work, "publish_unsent", self.publish)

    async def publish(
        self,
        connection: asyncpg.Connection,
        brokers: Sequence[str],
        prefix: str,
        *,
        embedded: bool,
        security: Security,
    ) -> int:
        if self.away and await connection.fetchval("SELECT EXISTS (SELECT FROM outbox)"):
            raise Transient("away")
        rows = await connection.fetch("DELETE FROM outbox WHERE source = $1 RETURNING value", prefix)
        self.taken += [row["value"] for row in rows]
        return len(rows)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    return Broker(monkeypatch)


EVERY = Chosen([], Wanted(), 100)


def tell(at: work.Progress, letters: int) -> None:
    assert 0 <= at.done <= letters


def there(dsn: str) -> Endpoints:
    return Endpoints(database_url=dsn, brokers=("nowhere:1",), embedded=False)


async def test_every_open_one_is_sent_and_the_hopeless_ones_stay_open_with_a_sentence(
    dsn: str, broker: Broker
) -> None:
    await bury(dsn, [*GOOD, *HOPELESS])
    sent, hopeless = await command._retry(there(dsn), EVERY, tell)
    assert sent == (2, 2, 0)
    why = str(command._refusal(hopeless))
    assert "have it sent again mended" in why
    assert why.count("cannot be sent again") == len(HOPELESS)
    assert sorted(broker.taken) == [b"1", b"2"]
    assert await states(dsn) == {1: "retried", 2: "retried", 3: "open", 4: "open", 5: "open", 6: "open"}


@pytest.mark.parametrize("hopeless", HOPELESS)
async def test_a_hopeless_one_is_refused_and_nothing_is_sent(
    dsn: str, broker: Broker, hopeless: DeadLetter
) -> None:
    await bury(dsn, [GOOD[0], hopeless])
    ids = [str(GOOD[0].dead_letter_id), str(hopeless.dead_letter_id)]
    with pytest.raises(Oops, match="cannot be sent again") as refused:
        await command._retry(there(dsn), Chosen(ids, Wanted(), 10), tell)
    assert (refused.value.exit_code, broker.taken) == (ExitCode.INVALID, [])
    assert set((await states(dsn)).values()) == {"open"}
    connection = await asyncpg.connect(dsn)
    assert await retries.retry(connection, [hopeless.dead_letter_id], "cli:test") == 0
    await connection.close()


async def test_with_the_broker_away_the_same_command_sends_the_chosen_one_later_and_no_other(
    dsn: str, broker: Broker
) -> None:
    await bury(dsn, GOOD)
    chosen = Chosen([str(GOOD[0].dead_letter_id)], Wanted(), 10)
    broker.away = True
    with pytest.raises(Oops, match="run the same command again"):
        await command._retry(there(dsn), chosen, tell)
    assert broker.taken == []
    broker.away = False
    assert (await command._retry(there(dsn), chosen, tell))[0] == (
        1,
        0,
        1,
    )  # one that was written down before
    assert broker.taken == [b"1"]
    assert (await command._retry(there(dsn), chosen, tell))[0] == (1, 0, 0)


async def test_one_that_is_not_open_any_more_is_left_and_told_and_is_no_failure(
    dsn: str, broker: Broker
) -> None:
    """One rule for all ways of asking, so that a command can be said again."""
    await bury(dsn, GOOD)
    first = str(GOOD[0].dead_letter_id)
    chosen = Chosen([first], Wanted(), 10)
    assert (await command._retry(there(dsn), chosen, tell)) == ((1, 1, 0), [])
    told = f"{first[:8]} (1) left as it is: sent again already, see `rapid dead-letters show`."
    at, left = await command._retry(there(dsn), chosen, tell)
    assert (at, command._refusal(left)) == ((1, 0, 0), told)
    at, left = await command._correct(there(dsn), chosen, b"{}")
    assert (at, command._refusal(left)) == ((1, 0, 0), told)
    connection = await asyncpg.connect(dsn)
    await retries.discard(connection, [GOOD[1].dead_letter_id], "cli:test", "")
    await connection.close()
    both = Chosen([first, str(GOOD[1].dead_letter_id)], Wanted(), 10)
    at, left = await command._retry(there(dsn), both, tell)
    assert (at, [one.state for one in left]) == ((2, 0, 0), ["retried", "discarded"])
    assert broker.taken == [b"1"]


async def test_only_one_command_sends_at_a_time(dsn: str, broker: Broker) -> None:
    await bury(dsn, GOOD)
    other = await asyncpg.connect(dsn)
    try:
        async with work.my_turn(other):
            with pytest.raises(Oops, match="Another `rapid dead-letters retry` is at work"):
                await command._retry(there(dsn), EVERY, tell)
        assert (await command._retry(there(dsn), EVERY, tell))[0].sent == 2
    finally:
        await other.close()
