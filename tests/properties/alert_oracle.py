"""Which alerts there must be, the slow and obvious way: from what is written down of one order, and from nothing else.

It shares nothing with the agents. It plays back who was heard when; at each of these times, and at each time at which
somebody looked, it lays out the whole life of the order anew as it was known then, counts working time day by day, and
asks which points of the ladder were reached.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from schemas.alert import AlertEvent
from schemas.policy import Policy
from schemas.promise import PromiseLine
from schemas.sla import WEEKDAYS, Calendar, RungTerms
from schemas.work_order_update import LedgerEntry

TICK = timedelta(microseconds=1)
DAY = timedelta(days=1)
NEVER = datetime(1, 1, 1, tzinfo=UTC)
Key = tuple[str, int, str]
"""Clock, cycle, rung."""

# ---------------------------------------------------------------- working time, day by day


@dataclass
class Hours:
    """A calendar. Nothing is compiled: each day is looked up when it is walked over."""

    calendar: Calendar
    days: dict[date, list[tuple[datetime, datetime]]] = field(default_factory=dict)

    def of_day(self, day: date) -> list[tuple[datetime, datetime]]:
        if day not in self.days:
            spans = [span.split("-") for span in self.spans(day)]
            found = [(self.instant(day, opens), self.instant(day, closes)) for opens, closes in spans]
            self.days[day] = [(start, end) for start, end in found if start < end]
        return self.days[day]

    def spans(self, day: date) -> tuple[str, ...]:
        for special in self.calendar.exceptions:
            if special.on == day:
                return special.hours
        if any(holiday.on == day for holiday in self.calendar.holidays):
            return ()
        return self.calendar.hours.get(WEEKDAYS[day.weekday()], ())

    def instant(self, day: date, text: str) -> datetime:
        hours, minutes = map(int, text.split(":"))
        wall = datetime.combine(day, time()) + timedelta(hours=hours, minutes=minutes)
        return wall.replace(tzinfo=ZoneInfo(self.calendar.time_zone), fold=0).astimezone(UTC)

    def dates(self, at: datetime) -> Iterator[date]:
        """The dates from an instant on."""
        day = at.astimezone(ZoneInfo(self.calendar.time_zone)).date()
        return (day + number * DAY for number in range(20_000))

    def after(self, at: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The working intervals from an instant on."""
        for day in self.dates(at - DAY):
            for start, end in self.of_day(day):
                if end > at:
                    yield max(start, at), end

    def worked(self, since: datetime, until: datetime) -> timedelta:
        total = timedelta()
        for start, end in self.after(since):
            if start >= until:
                break
            total += min(end, until) - start
        return total

    def some_days_later(self, at: datetime, days: int) -> datetime:
        """The same wall time so many working days later, or the end of that day's hours."""
        zone = ZoneInfo(self.calendar.time_zone)
        wall = at.astimezone(zone)
        working = [day for day in self.dates_within(at, days) if self.of_day(day)]
        same = wall.replace(
            year=working[days - 1].year, month=working[days - 1].month, day=working[days - 1].day, fold=0
        ).astimezone(UTC)
        hours = self.of_day(working[days - 1])
        return same if any(start <= same < end for start, end in hours) else hours[-1][1]

    def dates_within(self, at: datetime, days: int) -> list[date]:
        """Enough dates after an instant's to hold so many working days."""
        dates = self.dates(at)
        next(dates)
        return [next(dates) for _ in range(days * 3 + 30)]


_KNOWN_HOURS: dict[tuple[str, str], Hours] = {}


def hours_of(policy: Policy, code: str) -> Hours:
    """The calendar with this code in this version of the policy."""
    if (policy.version, code) not in _KNOWN_HOURS:
        (calendar,) = [one for one in policy.sla.calendars if one.code == code]
        _KNOWN_HOURS[policy.version, code] = Hours(calendar)
    return _KNOWN_HOURS[policy.version, code]


# ---------------------------------------------------------------- clocks, as spans of time in which they ran


class Target(NamedTuple):
    """What was promised, from when on."""

    since: datetime
    budget: str
    hours: Hours


@dataclass
class Span:
    """A time in which a clock ran. `until`: None while it does."""

    since: datetime
    until: datetime | None
    hours: Hours

    def intervals(self) -> Iterator[tuple[datetime, datetime]]:
        for start, end in self.hours.after(self.since):
            if self.until is not None and start >= self.until:
                return
            yield start, end if self.until is None else min(end, self.until)


@dataclass
class Clock:
    """One cycle of one clock."""

    name: str
    cycle: int
    begun: datetime
    targets: list[Target]
    spans: list[Span] = field(default_factory=list)
    later: list[Target] = field(default_factory=list)  # what was promised anew when it had ended
    ended: datetime | None = None
    result: str | None = None
    was_due: datetime | None = None  # when it ended

    @property
    def runs(self) -> bool:
        return bool(self.spans) and self.spans[-1].until is None

    def run(self, at: datetime) -> None:
        if self.ended is None and not self.runs:
            self.spans.append(Span(at, None, self.targets[-1].hours))

    def stop(self, at: datetime) -> None:
        if self.runs:
            self.spans[-1].until = at

    def end(self, at: datetime, result: str) -> None:
        if self.ended is None:
            due = self.was_due = self.due()
            self.stop(at)
            self.ended = at
            self.result = "late" if result == "done" and due is not None and at > due else result
            self.result = "met" if self.result == "done" else self.result

    def promise(self, target: Target) -> None:
        """Another budget: what was consumed stays consumed."""
        if self.ended is not None:
            self.later.append(target)
            return
        self.targets.append(target)
        if self.runs:
            self.stop(target.since)
            self.run(target.since)

    def reach(self, length: timedelta, rolls: bool) -> datetime | None:
        """When so much was consumed; None: never, as it stands. `rolls`: when more begins to be consumed."""
        total = timedelta()
        for span in self.spans:
            for start, end in span.intervals():
                enough = total + (end - start) > length if rolls else total + (end - start) >= length
                if enough:
                    return start + (length - total)
                total += end - start
        return None

    def budget(self) -> tuple[timedelta, bool]:
        """The budget as working time, and whether it ends on an opening and not on the closing before."""
        target = self.targets[-1]
        number, unit = _length(target.budget)
        if unit != "wd":
            return timedelta(**{unit: number}), False
        due = target.hours.some_days_later(self.begun, number)
        worked = target.hours.worked(self.begun, due)
        plain = Clock("", 1, self.begun, [], [Span(self.begun, None, target.hours)])
        return worked, plain.reach(worked, rolls=False) != due

    def due(self) -> datetime | None:
        return self.reach(*self.budget())

    def point(self, terms: RungTerms) -> datetime | None:
        """When this point of the ladder was or will be reached, with what is promised now, or was at the end."""
        length, rolls = self.budget()
        if terms.percent is not None:
            length = length * terms.percent / 100
        else:
            due = self.due()
            assert terms.after_breach is not None
            number, unit = _length(terms.after_breach)
            if unit != "wd":
                length += timedelta(**{unit: number})
            elif due is None:
                return None
            else:
                hours = self.targets[-1].hours
                length += hours.worked(due, hours.some_days_later(due, number))
        at = self.reach(length, rolls)
        since = self.targets[-1].since
        if at is None or len(self.targets) == 1 or since == self.ended:  # ended as it was promised anew
            return at
        return max(at, since)

    def has_reached(self, terms: RungTerms, now: datetime) -> bool:
        at, end = self.point(terms), now if self.ended is None else min(now, self.ended)
        if at is None:
            return False
        return end > at if is_breach(terms) else end >= at


def is_breach(terms: RungTerms) -> bool:
    return terms.percent in (None, 100)


def _length(text: str) -> tuple[int, str]:
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "wd", "wd": "wd"}
    digits = "".join(one for one in text if one.isdigit())
    return int(digits), units[text[len(digits) :]]


# ---------------------------------------------------------------- the life of an order, as it is known


class Known(NamedTuple):
    """What is known at some time. Only what was not refused counts."""

    entries: Sequence[LedgerEntry]
    lines: Sequence[PromiseLine]


OPEN = ("new", "acknowledged", "in_progress", "on_hold", "reopened")
DONE = ("resolved", "verified")
CENTRES = ("verify", "cancel", "route")
ANYBODYS = ("reopen", "note", "photo")


@dataclass
class Life:
    """Everything that happened, one thing after the other, by when it happened."""

    known: Known
    policies: Mapping[str, Policy]
    owner: str
    triage_queue: str
    state: str = "new"
    acknowledged: bool = False
    reason: str | None = None
    stages: list[str] = field(default_factory=list)
    rejected_by: set[str] = field(default_factory=set)
    duplicate_of: str | None = None
    heard_of: dict[str, int] = field(default_factory=dict)
    asked: bool = True
    clocks: dict[str, list[Clock]] = field(default_factory=dict)  # by name: its cycles
    done: set[str] = field(default_factory=set)  # clocks that ended with the work, and go on with it
    unasked: set[str] = field(default_factory=set)  # clocks that ended because nothing asked for the work
    line: PromiseLine = field(init=False)

    def __post_init__(self) -> None:
        first, *others = self.known.lines
        self.line = first
        self._begin(None, first.at)
        happened: list[tuple[Any, LedgerEntry | PromiseLine]] = [
            ((one.at, one.seq, 0, 0), one) for one in self.known.entries
        ]
        happened += [((one.at, one.entries, 1, one.seq), one) for one in others]
        for _, one in sorted(happened, key=lambda pair: pair[0]):
            if isinstance(one, PromiseLine):
                self._ours(one)
            else:
                self._theirs(one)

    # -- our side

    def _ours(self, line: PromiseLine) -> None:
        match line.kind:
            case "withdrawn":
                self.asked = False
                self.unasked = self._end(self._running(), line.at, "cancelled")
            case "asked_again":
                self.asked = True
                names, self.unasked = self.unasked, set()
                if self.state in DONE:
                    self.done |= names
                elif self.state != "cancelled":
                    self._again(names, line.at)
            case "retargeted":
                self.line = line
                for name, cycles in self.clocks.items():
                    target = self._target(name, line.at)
                    if target is not None:
                        cycles[-1].promise(target)
                    elif cycles[-1].ended is None:
                        cycles[-1].end(line.at, "cancelled")
                self._begin(None, line.at)

    def _target(self, name: str, at: datetime) -> Target | None:
        for terms in self.line.clocks:
            if terms.clock == name:
                policy = self.policies[self.line.policy_version]
                return Target(at, terms.budget, hours_of(policy, terms.calendar))
        return None

    def _begin(self, after: str | None, at: datetime) -> None:
        for terms in self.line.clocks:
            if terms.after == after and terms.clock not in self.clocks and terms.clock not in self.stages:
                target = self._target(terms.clock, at)
                assert target is not None
                clock = Clock(terms.clock, 1, at, [target])
                self.clocks[terms.clock] = [clock]
                if not (self.state == "on_hold" and terms.clock != "acknowledge" and self._is_listed()):
                    clock.run(at)

    def _is_listed(self) -> bool:
        pinned = self.policies[self.known.lines[0].policy_version]
        return self.reason in {one.code for one in pinned.hold_reasons}

    # -- their side

    def _theirs(self, entry: LedgerEntry) -> None:
        before, owner, acknowledged = self.state, self.owner, self.acknowledged
        reason, stages = self.reason, len(self.stages)
        if entry.link is not None:
            self._word(entry)
        elif self._may(entry):
            self._do(entry)
        at = entry.at
        if self.owner != owner:
            self._renew(at)
        elif self.acknowledged and not acknowledged:
            self._end({"acknowledge"}, at, "done")
        self._hold(before, reason, at)
        for stage in self.stages[stages:]:
            if any(terms.after == stage for terms in self.line.clocks):
                self._end({stage}, at, "done")
            else:  # the last of the work: it goes on when the work does
                self.done |= self._end({stage}, at, "done")
            self._begin(stage, at)
        self._close(before, at)

    def _may(self, entry: LedgerEntry) -> bool:
        assert entry.update is not None
        return entry.update.verb in (*CENTRES, *ANYBODYS) or entry.department == self.owner

    def _word(self, entry: LedgerEntry) -> None:
        link = entry.link
        assert link is not None
        if link.kind == "is_duplicate" or self.heard_of.get(link.other, -1) >= link.version:
            return
        self.heard_of[link.other] = link.version
        if link.kind == "original_cancelled" and self.duplicate_of == link.other and self.state in DONE:
            self.state, self.duplicate_of = "reopened", None

    def _do(self, entry: LedgerEntry) -> None:
        update = entry.update
        assert update is not None
        follows = self._follows(update.verb)
        if update.verb == "complete" and (update.stage in self.stages or self.state not in OPEN):
            return
        if update.verb == "complete" and update.stage is not None:
            self.stages.append(update.stage)
        if follows is None:
            return
        self.state = follows
        self.reason = update.reason if follows == "on_hold" else None
        self.acknowledged = self.acknowledged or follows not in ("new", "cancelled")
        if update.verb == "resolve":
            self.duplicate_of = update.duplicate_of
        if update.verb == "reopen":
            self.duplicate_of = None
        if update.verb in ("reject", "route"):
            self._hand_on(update.verb, update.to_department)

    def _follows(self, verb: str) -> str | None:
        """The state that follows; None: none, it stays."""
        if self.state == "cancelled":
            return None
        if self.state in DONE:
            return {"verify": "verified" if self.state == "resolved" else None, "reopen": "reopened"}.get(
                verb
            )
        fresh = self.state in ("new", "reopened")
        return {
            "acknowledge": "acknowledged" if fresh else None,
            "start": "in_progress" if self.state != "in_progress" else None,
            "hold": "on_hold",
            "resume": "in_progress" if self.state == "on_hold" else None,
            "complete": "in_progress" if fresh or self.state == "acknowledged" else None,
            "resolve": "resolved",
            "reject": "new",
            "route": "new",
            "cancel": "cancelled",
        }.get(verb)

    def _hand_on(self, verb: str, to: str | None) -> None:
        if verb == "reject":
            self.rejected_by.add(self.owner)
        nobody = to is None or (verb == "reject" and to in self.rejected_by)
        self.owner = self.triage_queue if nobody or to is None else to
        self.acknowledged = False

    # -- what that does to clocks

    def _clock(self, name: str) -> Clock:
        return self.clocks[name][-1]

    def _running(self) -> set[str]:
        """The clocks that have not ended; some may be on hold."""
        return {name for name in self.clocks if self._clock(name).ended is None}

    def _clamped(self, name: str, at: datetime) -> datetime:
        """What happened before a clock began counts as of its beginning."""
        return max(at, self.clocks[name][0].begun)

    def _end(self, names: set[str], at: datetime, result: str) -> set[str]:
        ended = names & self._running()
        for name in ended:
            self._clock(name).end(self._clamped(name, at), result)
        self.done -= names
        self.unasked -= names
        return ended

    def _again(self, names: Iterable[str], at: datetime) -> None:
        for name in names:
            clock, at_of = self._clock(name), self._clamped(name, at)
            if clock.ended is None:
                continue
            pinned = self.policies[self.known.lines[0].policy_version].sla
            if at_of - clock.ended > timedelta(hours=pinned.reopen_within_hours):
                self._next_cycle(clock, at_of)
            else:
                clock.ended = clock.result = None
                clock.targets, clock.later = [*clock.targets, *clock.later], []
                clock.run(at_of)

    def _next_cycle(self, clock: Clock, at: datetime) -> None:
        target = [*clock.targets, *clock.later][-1]._replace(since=at)
        fresh = Clock(clock.name, clock.cycle + 1, at, [target])
        fresh.run(at)
        self.clocks[clock.name].append(fresh)

    def _renew(self, at: datetime) -> None:
        """Another department has the whole time to acknowledge it."""
        if "acknowledge" in self.clocks:
            self.done.discard("acknowledge")
            self.unasked.discard("acknowledge")
            at = self._clamped("acknowledge", at)
            clock = self._clock("acknowledge")
            clock.end(at, "cancelled")
            self._next_cycle(clock, at)

    def _hold(self, before: str, reason: str | None, at: datetime) -> None:
        others = self._running() - {"acknowledge"}
        if self.state == "on_hold" and (before, reason) != ("on_hold", self.reason) and self._is_listed():
            for name in others:
                self._clock(name).stop(self._clamped(name, at))
        if before == "on_hold" and self.state not in ("on_hold", "cancelled", *DONE):
            for name in others:
                self._clock(name).run(self._clamped(name, at))

    def _close(self, before: str, at: datetime) -> None:
        if self.state == "cancelled":
            self._end(self._running(), at, "cancelled")
        elif self.state in DONE and before not in DONE:
            self.done |= self._end(self._running(), at, "cancelled" if self.duplicate_of else "done")
        elif before in DONE and self.state not in DONE:
            names, self.done = self.done, set()
            if self.asked:
                self._again(names, at)
            else:
                self.unasked |= names

    @property
    def is_closed(self) -> bool:
        return not self.asked or self.state in (*DONE, "cancelled")

    def all_clocks(self) -> list[Clock]:
        return [clock for cycles in self.clocks.values() for clock in cycles]


NOTHING = Known((), ())

# ---------------------------------------------------------------- the ladder


class Happened(NamedTuple):
    """One event of one alert."""

    at: datetime
    clock: str
    cycle: int
    rung: str
    seq: int
    kind: str
    true_at: datetime
    late: bool
    state: str
    level: int


@dataclass
class Alert:
    """One rung that was reached."""

    true_at: datetime
    level: int
    late: bool
    department: str
    state: str = "open"
    until: datetime | None = None
    seq: int = 0


class Told(NamedTuple):
    """All that is written down of one order."""

    entries: Sequence[LedgerEntry]  # its whole ledger
    lines: Sequence[PromiseLine]
    commands: Sequence[AlertEvent]  # events of alerts that people made
    department: str  # whose it is, if nothing was ever said of it
    looks: Sequence[datetime] = ()  # when somebody looked at it, beside those who were heard


@dataclass
class Oracle:
    """Plays back one order."""

    told: Told
    policies: Mapping[str, Policy]
    triage_queue: str
    alerts: dict[Key, Alert] = field(default_factory=dict)
    events: list[Happened] = field(default_factory=list)
    now: datetime = NEVER
    life: Life | None = None
    known: Known = NOTHING

    def run(self) -> list[Happened]:
        """Everything that happened to its alerts, in order."""
        known = Known((), ())
        heard = _heard(self.told)
        commands = [one.at for one in self.told.commands]
        for at in sorted({*heard, *self.told.looks, *commands}):
            self.now = at
            if known.lines:
                self._look(known)
            if self.now in heard:
                known = heard[self.now]
                if known.lines:
                    self._look(known)
            for one in self.told.commands:
                if one.at == at:
                    self._take(one)
        return self.events

    def next_at(self) -> datetime | None:
        """When somebody has to look again."""
        if self.life is None:
            return None
        rungs = self.policies[self.life.line.policy_version].sla.rungs
        running = [clock for clock in self.life.all_clocks() if clock.ended is None]
        points = [
            at + TICK if is_breach(terms) else at
            for clock in running
            for terms in rungs
            if (at := clock.point(terms)) is not None
        ]
        quiet = [self._quiet_until(alert) for alert in self.alerts.values()]
        return min((at for at in [*points, *quiet] if at is not None and at > self.now), default=None)

    def _look(self, known: Known) -> None:
        self.known = known
        self.life = life = Life(known, self.policies, self._first_owner(), self.triage_queue)
        rungs = self.policies[life.line.policy_version].sla.rungs
        reached = {
            (clock.name, clock.cycle, terms.name): (clock, place, terms)
            for clock in life.all_clocks()
            for place, terms in enumerate(rungs)
            if clock.has_reached(terms, self.now)
        }
        was_quiet = self._come_back()
        self._correct(life, reached)
        self._fire(reached, was_quiet)
        self._unowned(life)
        self._move(life.owner)

    def _first_owner(self) -> str:
        counting = [one for one in self.told.entries if one.verdict != "refused"]
        return counting[0].owner if counting else self.told.department

    def _say(self, key: Key, kind: str, state: str) -> None:
        alert = self.alerts[key]
        alert.state, alert.seq = state, alert.seq + 1
        self.events.append(
            Happened(self.now, *key, alert.seq, kind, alert.true_at, alert.late, state, alert.level)
        )

    def _policy(self) -> Policy:
        says = [line for line in self.known.lines if line.kind in ("promised", "retargeted")]
        return self.policies[says[-1].policy_version]

    # -- acknowledged and snoozed

    def _come_back(self) -> list[tuple[Key, datetime]]:
        """Alerts of which nobody took care any longer, and since when."""
        back = []
        for key, alert in self.alerts.items():
            until = self._quiet_until(alert)
            if until is not None and until <= self.now:
                back.append((key, until))
                self._say(key, "woken" if alert.state == "snoozed" else "unacknowledged", "open")
        return back

    def _quiet_until(self, alert: Alert) -> datetime | None:
        if alert.state == "snoozed":
            return alert.until
        if alert.state != "acknowledged":
            return None
        silence = timedelta(minutes=self._policy().sla.alerting.unacknowledge_after_minutes)
        said = [one.handled_at or one.received_at for one in self.known.entries if one.update is not None]
        last_heard = max([self.known.lines[0].handled_at, *said])
        assert alert.until is not None
        return max(alert.until, last_heard + silence)

    def _take(self, event: AlertEvent) -> None:
        key = event.alert.clock, event.alert.cycle, event.alert.rung
        alert = self.alerts[key]
        assert event.kind == "nobody_there" or alert.state in ("open", "acknowledged", "snoozed"), event
        state = {"acknowledged": "acknowledged", "snoozed": "snoozed", "nobody_there": alert.state}
        if event.kind in ("acknowledged", "snoozed"):
            alert.until = event.alert.until
        self._say(key, event.kind, state.get(event.kind, "open"))

    # -- rungs

    def _correct(self, life: Life, reached: Mapping[Key, Any]) -> None:
        clocks = {(one.name, one.cycle): one for one in life.all_clocks()}
        for key, alert in self.alerts.items():
            if key[0] == "order" or alert.state == "withdrawn":
                continue
            clock = clocks.get(key[:2])
            if key not in reached:
                self._say(key, "withdrawn", "withdrawn")
            elif alert.state in ("open", "acknowledged", "snoozed") and clock and clock.ended is not None:
                self._say(key, "over", "over")

    def _fire(
        self, reached: Mapping[Key, tuple[Clock, int, RungTerms]], was_quiet: Sequence[tuple[Key, datetime]]
    ) -> None:
        points = [(clock.point(terms), place, key) for key, (clock, place, terms) in reached.items()]
        for at, place, key in sorted(points):
            clock, _, terms = reached[key]
            others = [one for (name, cycle, _), (_, one, _) in reached.items() if (name, cycle) == key[:2]]
            old = self.alerts.get(key)
            assert at is not None
            if old is None or old.state == "withdrawn":
                fires_at = at + TICK if is_breach(terms) else at
                self._fire_one(key, at, fires_at, terms, clock, place < max(others), was_quiet)
            elif old.state == "over" and place == max(others) and clock.ended is None:
                assert self.life is not None
                old.department = self.life.owner
                self._say(key, "back", "open")

    def _fire_one(
        self, key: Key, at: datetime, fires_at: datetime, terms: RungTerms, clock: Clock, higher: bool,
        was_quiet: Sequence[tuple[Key, datetime]],
    ) -> None:  # fmt: skip
        old = self.alerts.get(key)
        assert self.life is not None
        late_after_s = self.policies[self.life.line.policy_version].sla.alerting.late_after_s
        late = self.now - fires_at > timedelta(seconds=late_after_s)
        quiet = [one for one, alert in self.alerts.items() if alert.state in ("acknowledged", "snoozed")]
        quiet += [one for one, until in was_quiet if until > fires_at]
        silenced = any(one[:2] == key[:2] and self.alerts[one].level >= terms.level for one in quiet)
        self.alerts[key] = Alert(at, terms.level, late, self.life.owner, seq=old.seq if old else 0)
        if clock.ended is not None or higher:
            self._say(key, "superseded", "recorded")
        elif silenced:
            self._say(key, "silenced", "recorded")
        else:
            self._say(key, "fired_again" if old else "fired", "open")

    # -- the order itself

    def _unowned(self, life: Life) -> None:
        key: Key = ("order", 1, "nobodys")
        alert, wanted = self.alerts.get(key), life.owner == self.triage_queue and not life.is_closed
        if wanted and alert is None:
            self.alerts[key] = Alert(self.now, 1, late=False, department=life.owner)
            self._say(key, "fired", "open")
        elif alert is not None and wanted and alert.state == "over":
            alert.department = life.owner
            self._say(key, "back", "open")
        elif alert is not None and not wanted and alert.state in ("open", "acknowledged", "snoozed"):
            self._say(key, "over", "over")

    def _move(self, owner: str) -> None:
        """Somebody else has the order now: of each clock the last point that needs attention is told there."""
        attention = ("open", "acknowledged", "snoozed")
        moved = [
            key for key, one in self.alerts.items() if one.state in attention and one.department != owner
        ]
        for key in moved:
            later = [self.alerts[one].true_at for one in moved if one[0] == key[0]]
            if self.alerts[key].true_at == max(later):
                self.alerts[key].department = owner
                self._say(key, "back", "open")
            else:
                self._say(key, "over", "over")


def _heard(told: Told) -> dict[datetime, Known]:
    """What was known once each was heard: those with the same time were heard at once."""
    heard: dict[datetime, Known] = {}
    times = {one.handled_at for one in told.entries if one.handled_at and one.verdict != "refused"}
    for at in sorted(times | {one.handled_at for one in told.lines}):
        heard[at] = Known(
            [e for e in told.entries if (e.handled_at or e.received_at) <= at and e.verdict != "refused"],
            [line for line in told.lines if line.handled_at <= at],
        )
    return heard
