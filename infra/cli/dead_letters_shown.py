"""How dead letters are printed: what comes from outside is text, never markup or a terminal's command."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from connectors.postgres.refused import SourceReport, Why, Window
from connectors.postgres.retries import Happened, Letter, Old
from infra.cli.output import print_json, print_table
from infra.cli.screen import console, fields, safe, safe_row
from infra.dead_letters import Forecast, Progress, headers_of

SHOWN_CHARACTERS: Final = 4_000
FIRST: Final = 5
"""Letters that a dry run shows of those that would not pass."""
SHORT_ID: Final = 8


class Foreseen(NamedTuple):
    """A letter and what would become of it."""

    letter: Letter
    forecast: Forecast


def readable(raw: bytes | None) -> str | None:
    """Bytes of unknown origin as text that cannot command a terminal; cut when it is long."""
    if raw is None:
        return None
    text = raw.decode("utf-8", "replace")
    shown = "".join(one if one.isprintable() or one == "\n" else f"\\x{ord(one):02x}" for one in text)
    return shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[:SHOWN_CHARACTERS]}… ({len(raw)} bytes)"


def print_letters(letters: Sequence[Letter], *, as_json: bool) -> None:
    """A line each."""
    if as_json:
        print_json([value_of(letter) for letter in letters])
    else:
        rows = [safe_row(_row(letter)) for letter in letters]
        print_table("Dead letters", rows, "There are no dead letters.")


def print_letter(letter: Letter, history: Sequence[Happened], *, as_json: bool) -> None:
    """All that is known of one, the record itself as text."""
    known = value_of(letter) | {"key": readable(letter.key), "headers": _headers(letter)}
    if as_json:
        lines = [_happened(one) for one in history]
        more = {"value": readable(letter.value), "instead": readable(letter.instead), "history": lines}
        print_json(known | more)
        return
    out = console()
    out.print(fields({name.replace("_", " "): _plain(value) for name, value in known.items()}))
    out.print(f"\n{safe(readable(letter.value) or '(no value)')}")
    if letter.instead is not None:
        out.print(f"\nsent instead:\n{safe(readable(letter.instead))}")
    if history:
        print_table("What happened to it", [safe_row(_line(one)) for one in history], "")


def _plain(value: Any) -> Any:
    return ", ".join(f"{name}={text}" for name, text in value.items()) if isinstance(value, dict) else value


def value_of(letter: Letter) -> dict[str, Any]:
    """The letter for programs, without its bytes."""
    return {
        "dead_letter_id": str(letter.dead_letter_id),
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "source": letter.source,
        "reason": letter.reason,
        "field": letter.field,
        "expected": letter.expected,
        "state": letter.state,
        "attempts": letter.attempts,
        "seen": letter.seen,
        "first_seen": letter.first_seen.isoformat(),
        "last_seen": letter.last_seen.isoformat(),
    }


def _headers(letter: Letter) -> dict[str, str]:
    return {name: (value or b"").decode() for name, value in headers_of(letter)}


def _row(letter: Letter) -> dict[str, Any]:
    return {
        "id": str(letter.dead_letter_id)[:SHORT_ID],
        "origin": f"{letter.topic}/{letter.partition}@{letter.offset}",
        "source": letter.source,
        "reason": letter.reason,
        "field": letter.field,
        "what to do": letter.expected,
        "tried": letter.attempts or None,
        "seen": f"{letter.last_seen:%Y-%m-%d %H:%M}",
    }


def _happened(one: Happened) -> dict[str, Any]:
    return one._asdict() | {"at": one.at.isoformat(), "value": readable(one.value)}


def _line(one: Happened) -> dict[str, Any]:
    what = one.what.replace("_", " ")
    return {
        "at": f"{one.at:%Y-%m-%d %H:%M:%S}",
        "what": what if one.what == "discarded" else f"{what}, attempt {one.attempt}",
        "by": one.who or "the stream",
        "reason": one.reason,
        "in words": one.why,
    }


# ---------------------------------------------------------------- before and after sending


class Tally:
    """What would become of letters, as they are looked at one after the other."""

    def __init__(self) -> None:
        self.letters = 0
        self.passing: Counter[str] = Counter()  # by the reason for which they are here
        self.unsure: Counter[str] = Counter()
        self.refused: Counter[tuple[str, str | None, str]] = Counter()
        self.first: list[Foreseen] = []

    def add(self, one: Foreseen) -> None:
        """Count one."""
        letter, forecast = one
        self.letters += 1
        if forecast.passes:
            self.passing[letter.reason] += 1
        elif forecast.passes is None:
            self.unsure[letter.reason] += 1
        else:
            self.refused[forecast.reason or "", forecast.field, forecast.expected or ""] += 1
        if not forecast.passes and len(self.first) < FIRST:
            self.first.append(one)


def print_forecast(tally: Tally, *, as_json: bool) -> None:
    """How many would pass, and what stands in the way of the others."""
    if as_json:
        print_json(_forecast_value(tally))
        return
    if not tally.letters:
        print("There is nothing to send again.")
        return
    print(f"{tally.passing.total():,} of {tally.letters:,} would pass now. Nothing was sent.")
    if tally.unsure:
        print(f"Of {tally.unsure.total():,} only trying tells: they were let in, and failed further on.")
    for reason, count in tally.passing.most_common():
        print(f"  would pass: {count:,} that were refused as {reason}")
    rows = [
        safe_row({"refused": f"{count:,}", "reason": reason, "field": field, "expected": expected})
        for (reason, field, expected), count in tally.refused.most_common()
    ]
    if rows:
        print_table("Would be refused", rows, "")
    if tally.first:
        print_table("The first of them", [safe_row(_foreseen_row(one)) for one in tally.first], "")


def _forecast_value(tally: Tally) -> dict[str, Any]:
    return {
        "letters": tally.letters,
        "would_pass": tally.passing.total(),
        "would_pass_by_reason": dict(tally.passing),
        "only_trying_tells": tally.unsure.total(),
        "would_be_refused": [
            {"reason": reason, "field": field, "expected": expected, "letters": count}
            for (reason, field, expected), count in tally.refused.most_common()
        ],
        "first": [
            value_of(one.letter)
            | {"would": {True: "pass", False: "be refused", None: "be tried"}[one.forecast.passes]}
            for one in tally.first
        ],
    }


def _foreseen_row(one: Foreseen) -> dict[str, Any]:
    letter, forecast = one
    return {
        "id": str(letter.dead_letter_id)[:SHORT_ID],
        "origin": f"{letter.topic}/{letter.partition}@{letter.offset}",
        "was refused as": letter.reason,
        "now": forecast.reason,
        "field": forecast.field,
        "expected": forecast.expected,
    }


def print_sent(at: Progress, hopeless: str | None, *, as_json: bool) -> None:
    """What a command has sent."""
    if as_json:
        print_json({"sent": at.sent, "sent_of_earlier_commands": at.before, "not_sent": at.done - at.sent})
        return
    done = [f"Sent {at.before:,} that an earlier command had written down."] if at.before else []
    done += [f"Sent {at.sent:,} again."] if at.sent else []
    done += [hopeless] if hopeless else []
    print("\n".join(done) or "There is nothing to send again.")


# ---------------------------------------------------------------- who sends what cannot be used


def print_report(reports: Sequence[SourceReport], window: Window, *, as_json: bool) -> None:
    """Who sent what could not be used, and why."""
    if as_json:
        since, until = (at.isoformat() for at in window)
        print_json({"since": since, "until": until, "sources": [report_value(one) for one in reports]})
        return
    for one in reports:
        if one.bad:
            print(f"LOOK AT {safe(one.source)}: {_share(one)} of what it sent could not be used.")
    rows = [safe_row(_report_row(one, why)) for one in reports for why in one.reasons]
    nothing = f"Nothing was refused since {window.since:%Y-%m-%d %H:%M %Z}."
    print_table(f"Refused since {window.since:%Y-%m-%d %H:%M %Z}", rows, nothing)
    if rows:
        print(
            f"Compared with {_times(window.before)}. Share: of the records of that source that were new to us."
        )


def report_value(one: SourceReport) -> dict[str, Any]:
    """A source's report for programs."""
    return {
        "source": one.source,
        "bad": one.bad,
        "refused": one.refused,
        "accepted": one.accepted,
        "share": round(one.share, 6),
        "before": one.before,
        "reasons": [why_value(why) for why in one.reasons],
    }


def why_value(why: Why) -> dict[str, Any]:
    """One reason for programs."""
    return {
        "topic": why.topic,
        "reason": why.reason,
        "records": why.records,
        "before": why.before,
        "first_at": why.first_at.isoformat(),
        "last_at": why.last_at.isoformat(),
        "example": str(why.example),
    }


def _report_row(one: SourceReport, why: Why) -> dict[str, Any]:
    return {
        "source": f"{one.source} !" if one.bad else one.source,
        "share": _share(one),
        "topic": why.topic,
        "reason": why.reason,
        "records": f"{why.records:,}",
        "before": f"{why.before:,}",
        "trend": _trend(why),
        "first": _time(why.first_at),
        "last": _time(why.last_at),
        "example": str(why.example)[:SHORT_ID],
    }


def _share(one: SourceReport) -> str:
    return f"{one.share:.1%}"


def _trend(why: Why) -> str:
    if not why.before:
        return "new"
    return f"{(why.records - why.before) / why.before:+.0%}"


def _time(at: datetime) -> str:
    return f"{at:%m-%d %H:%M:%S}"


def _times(window: Window) -> str:
    return f"{window.since:%Y-%m-%d %H:%M} to {window.until:%Y-%m-%d %H:%M}"


def print_old(found: Sequence[Old], days: int, *, as_json: bool) -> None:
    """What would be let go of."""
    if as_json:
        rows = [one._asdict() | {"oldest": one.oldest.isoformat()} for one in found]
        print_json({"days": days, "would_go": rows})
        return
    for one in found:
        print(
            f"{one.letters:,} {one.state} would go: closed more than {days} days ago, the first {_day(one.oldest)}."
        )
    if not found:
        print(f"Nothing was closed more than {days} days ago.")


def _day(at: datetime) -> str:
    return f"on {at:%Y-%m-%d}"


def window_until(now: datetime, since: datetime) -> Window:
    """From `since` to a moment after now, so that what comes this instant is counted."""
    return Window(since, now + timedelta(seconds=1))
