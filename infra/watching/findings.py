"""What `rapid doctor` says of facts: pure. A judgement has a level, a sentence, and what to do if it is not well."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from connectors.kafka.admin import config_of
from connectors.postgres.migrate import Migration
from infra.watching.world import Waiting
from schemas.topics import Topic

Level = Literal["ok", "warn", "fail", "unknown"]
"""`unknown`: it could not be looked at, because nothing runs or what it needs is away."""

NAMED: Final = 3
SKEW_WARN_S: Final = 2.0
SKEW_FAIL_S: Final = 30.0
OUTBOX_WARN_S: Final = 60.0
OUTBOX_FAIL_S: Final = 300.0
LAG_WARN_S: Final = 60.0
LAG_FAIL_S: Final = 600.0
LETTERS_FAIL: Final = 100
KEY_ENDS: Final = timedelta(days=14)


class Finding(NamedTuple):
    """One thing that was looked at. `fix`: what to do, empty when it is well."""

    check: str
    level: Level
    said: str
    fix: str = ""


def disk(free_bytes: int, least_bytes: int, where: str) -> Finding:
    """Room for the database and the logs."""
    said = f"{free_bytes / 1e9:.1f} GB are free at {where}"
    fix = f"make room there, or move RAPID_HOME; {least_bytes / 1e9:g} GB (RAPID_LEAST_DISK_BYTES) are the least"
    if free_bytes < least_bytes:
        return Finding("disk", "fail", said, fix)
    return Finding("disk", "warn", said, fix) if free_bytes < 2 * least_bytes else Finding("disk", "ok", said)


def migrations(files: Sequence[Migration], applied: Mapping[int, str]) -> Finding:
    """The tables against what this version has. `applied`: checksums by number."""
    missing = [one for one in files if one.number not in applied]
    changed = [one for one in files if applied.get(one.number, one.checksum) != one.checksum]
    unknown = sorted(applied.keys() - {one.number for one in files})
    if changed:
        fix = "restore the file as it was released, and put the change into a migration of its own"
        return Finding("migrations", "fail", f"{changed[0].name} was changed after it was applied", fix)
    if missing:
        said = f"{len(missing)} of {len(files)} are not applied, first {missing[0].name}"
        return Finding("migrations", "fail", said, "run `rapid migrate`, or start again with `rapid up`")
    if unknown:
        said = f"the database has {', '.join(map(str, unknown[:NAMED]))}, which this version does not know"
        return Finding("migrations", "warn", said, "run the version that applied them, or a later one")
    return Finding("migrations", "ok", f"all {len(files)} are applied")


def topics(
    wanted: Sequence[Topic],
    partitions: Mapping[str, int],
    configs: Mapping[str, Mapping[str, str]],
    copies: int,
) -> list[Finding]:
    """The broker's topics against schemas/topics.py and RAPID_PARTITIONS."""
    missing = [topic.name for topic in wanted if topic.name not in partitions]
    there = [topic for topic in wanted if topic.name in partitions]
    found = []
    if missing:
        said = f"{_names(missing)} {_is(missing)} missing on the broker"
        found.append(Finding("topics", "fail", said, "run `rapid topics create`"))
    found += _of_partitions(there, partitions)
    found += [
        one for topic in there if (one := _of_config(topic, configs.get(topic.name), copies)) is not None
    ]
    said = f"all {len(wanted)} are there, with their partitions and settings"
    return found or [Finding("topics", "ok", said)]


def _of_partitions(there: Sequence[Topic], partitions: Mapping[str, int]) -> list[Finding]:
    found = []
    fewer = [one for one in there if partitions[one.name] < one.partitions]
    more = [one for one in there if partitions[one.name] > one.partitions]
    for level, those, word in (("fail", fewer, "fewer"), ("warn", more, "more")):
        if those:
            first = those[0]
            said = (
                f"{_names([one.name for one in those])} {_has([one.name for one in those])} {word} partitions than "
                f"RAPID_PARTITIONS: {partitions[first.name]}, not {first.partitions}"
            )
            fix = (
                "set RAPID_PARTITIONS to what is there; or, with all workers stopped and everything handled, delete "
                "the topic and run `rapid topics create`: a key keeps its order only as long as the number stays"
            )
            found.append(Finding("topics", level, said, fix))  # type: ignore[arg-type] # of the literals above
    return found


def _of_config(topic: Topic, is_set: Mapping[str, str] | None, copies: int) -> Finding | None:
    if not is_set:  # this broker does not tell
        return None
    wanted = config_of(topic, copies)
    wrong = {name: value for name, value in wanted.items() if is_set.get(name, value) != value}
    if not wrong:
        return None
    name, value = next(iter(wrong.items()))
    level: Level = "fail" if name == "cleanup.policy" else "warn"
    fix = f"set it on the broker: kafka-configs --alter --topic {topic.name} --add-config {name}={value}"
    return Finding("topics", level, f"{topic.name} has {name}={is_set[name]}, and should have {value}", fix)


def clocks(skew_s: float, round_trip_s: float) -> Finding:
    """The database's clock against ours. `skew_s`: how far it is ahead, as well as the way there and back can tell."""
    sure_s = max(0.0, abs(skew_s) - round_trip_s / 2)
    ahead = "ahead of" if skew_s > 0 else "behind"
    said = f"the database's clock is {abs(skew_s):.3f} s {ahead} this machine's (within {round_trip_s / 2:.3f} s)"
    fix = (
        "let one time service (chrony, systemd-timesyncd) set both clocks: promises and timers go by the database's, "
        "reports from the future are refused by the workers'"
    )
    if sure_s > SKEW_FAIL_S:
        return Finding("clocks", "fail", said, fix)
    return Finding("clocks", "warn", said, fix) if sure_s > SKEW_WARN_S else Finding("clocks", "ok", said)


def outbox(waits: Waiting) -> Finding:
    """Events that are committed and not yet published."""
    said = f"{waits.rows:,} events wait to be published, the oldest for {waits.age_s:,.0f} s"
    fix = "see whether the broker answers (below) and what the workers and the API say in their logs (`tried again`)"
    if waits.age_s > OUTBOX_FAIL_S:
        return Finding("outbox", "fail", said, fix)
    if waits.age_s > OUTBOX_WARN_S:
        return Finding("outbox", "warn", said, fix)
    return Finding("outbox", "ok", said if waits.rows else "nothing waits to be published")


def lag(behind: Mapping[str, int], oldest_s: float | None) -> Finding:
    """Records that were not handled."""
    if oldest_s is None or not any(behind.values()):
        return Finding("lag", "ok", "everything that came in is handled")
    topic, records = max(behind.items(), key=lambda one: one[1])
    said = f"the oldest unhandled record waits for {oldest_s:,.0f} s; most wait in {topic}: {records:,}"
    fix = "see which worker is not ready (`rapid status --watch`); run more of them (`rapid up --workers`)"
    level: Level = "fail" if oldest_s > LAG_FAIL_S else "warn" if oldest_s > LAG_WARN_S else "ok"
    return Finding("lag", level, said, "" if level == "ok" else fix)


def dead_letters(last_hour: Sequence[tuple[str, str, int]]) -> Finding:
    """Of the last hour: topic, reason, how many, the most first."""
    total = sum(count for _, _, count in last_hour)
    if not total:
        return Finding("dead letters", "ok", "none in the last hour")
    topic, reason, count = last_hour[0]
    said = f"{total:,} in the last hour, most of {topic}: {reason.replace('_', ' ')} ({count:,})"
    fix = f"what was expected: `rapid dead-letters list --topic {topic}`; tell the sender, or mend it and retry them"
    return Finding("dead letters", "fail" if total >= LETTERS_FAIL else "warn", said, fix)


def processes(said: Sequence[tuple[str, bool | None, Mapping[str, str]]]) -> list[Finding]:
    """What each process says of itself: ready, and why not. None: it does not say."""
    found = []
    for name, ready, why in said:
        if ready is False:
            first = " ".join(why.values()) or "It is not ready."
            fix = f"look into its log (logs/{name}.log in RAPID_HOME); `rapid up` starts again what has died"
            found.append(Finding("processes", "fail", f"{name}: {first}", fix))
    return found or [Finding("processes", "ok", f"all {len(said)} are ready")]


def keys(rows: Sequence[Mapping[str, Any]], now: datetime) -> Finding:
    """API keys that hold: name and end of each."""
    ending = sorted((row["expires_at"], row["name"]) for row in rows if row["expires_at"] is not None)
    soon = [(at, name) for at, name in ending if now <= at < now + KEY_ENDS]
    if soon:
        at, name = soon[0]
        said = f"the API key of {name} ends on {at.astimezone(UTC):%Y-%m-%d}, {len(soon)} within two weeks"
        return Finding("keys", "warn", said, "give its holder a new one: `rapid keys create`")
    return Finding("keys", "ok", f"{len(rows)} API keys hold" if rows else "there are no API keys")


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _is(those: Sequence[str]) -> str:
    return "is" if len(those) == 1 else "are"


def _has(those: Sequence[str]) -> str:
    return "has" if len(those) == 1 else "have"
