"""Simulated reports, in memory and in the order in which they become known. The same seed, the same reports.

A day's cases and requests are drawn, each with all its later revisions; a heap lets every revision out when
its time has come. What would be known only after the window's end is left out, as in any file downloaded then.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from random import Random
from typing import Any, Final, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from connectors.geography.areas import Areas
from infra.simulate import weights
from infra.simulate.places import Place, Places
from infra.simulate.streets import block_of_address, moved
from schemas.incident import IncidentReport
from schemas.issue import IssueReport

ZONE: Final = ZoneInfo("America/Chicago")
MOST_REMEMBERED: Final = 500  # earlier cases and requests that later ones may repeat
TRIES: Final = 8  # to find one of them that is still open

Report = TypeVar("Report", IncidentReport, IssueReport)


def incident_reports(
    seed: int, start: date, days: int, rate: float = 1.0, places: Places | None = None
) -> Iterator[IncidentReport]:
    """Victims' rows with their revisions, oldest knowledge first; `rate` multiplies how many cases there are.

    Ids start with `SIM` and hold seed and day. Give `places` when you have them: building takes 0.3 s.
    """
    cases = _Cases(seed, rate, places or Places(Areas.of_chicago()))
    return _as_known(start, days, cases.of_day)


def issue_reports(
    seed: int, start: date, days: int, rate: float = 1.0, places: Places | None = None
) -> Iterator[IssueReport]:
    """311 requests with their revisions, oldest knowledge first; `rate` multiplies how many there are.

    Ids start with `SIM` and hold seed and day. Give `places` when you have them: building takes 0.3 s.
    """
    requests = _Requests(seed, rate, places or Places(Areas.of_chicago()))
    return _as_known(start, days, requests.of_day)


def _as_known(start: date, days: int, of_day: Callable[[date], Iterable[Report]]) -> Iterator[Report]:
    """Each report when it is known, until the window ends. No report of a day is known before that day."""
    waiting: list[tuple[datetime, int, Report]] = []
    pushed = 0
    for day in (start + timedelta(days=n) for n in range(days)):
        for report in of_day(day):
            heapq.heappush(waiting, (report.revised_at, pushed, report))
            pushed += 1
        midnight = _instant(day + timedelta(days=1), 0)
        while waiting and waiting[0][0] < midnight:
            yield heapq.heappop(waiting)[2]


class _Spot(NamedTuple):
    """Where and when an earlier case was."""

    at: datetime
    place: Place


class _Cases:
    """Draws the cases of one day after the other."""

    def __init__(self, seed: int, rate: float, places: Places) -> None:
        self.seed, self.rate, self.places = seed, rate, places
        self.chance = Random(f"rapid simulate, incidents, {seed}")
        self.areas = _Wheel(_by_area(places))
        self.earlier: deque[_Spot] = deque(maxlen=MOST_REMEMBERED)

    def of_day(self, day: date) -> Iterator[IncidentReport]:
        """The reports of all cases of a day, not yet in order."""
        for number in range(_poisson(self.chance, self.rate * _cases_on(day))):
            yield from self._case(day, number)

    def _case(self, day: date, number: int) -> Iterator[IncidentReport]:
        occurred_at = _instant(day, _HOURS_OF_CASES.draw(self.chance), self.chance.randrange(60))
        place = self._place(occurred_at)
        self.earlier.append(_Spot(occurred_at, place))
        first = self._first_report(f"SIM{self.seed}-{day:%y%m%d}{number:03d}", occurred_at, place)
        later = self._later(first, place)
        for victim in range(1, _VICTIMS.draw(self.chance) + 1):
            yield from self._victim(first, later, victim)

    def _place(self, at: datetime) -> Place:
        if self.chance.random() < weights.NEAR_REPEAT:
            since = at - timedelta(days=weights.NEAR_REPEAT_DAYS)
            recent = [spot.place for spot in self.earlier if since <= spot.at < at]
            if recent:
                return self.places.near(self.chance.choice(recent), weights.NEAR_REPEAT_M, self.chance)
        return self.places.anywhere_in(self.areas.draw(self.chance), self.chance)

    def _first_report(self, case: str, occurred_at: datetime, place: Place) -> IncidentReport:
        """What the first victim's row says first: minutes to hours after the shots, as a live feed would."""
        chance = self.chance
        return IncidentReport(
            source="cpd",
            report_id=f"{case}-#1",
            incident_number=case,
            occurred_at=occurred_at,
            revised_at=_after(occurred_at, minutes=chance.uniform(5, 120)),
            event="assault",
            gunshot_injury=True,
            location_type=_LOCATION_TYPES.draw(chance),
            simulated=True,
            **self._where(place),
        )

    def _where(self, place: Place) -> dict[str, Any]:
        """Published place: on the block, shifted, sometimes incomplete; the area's name is of the true one."""
        chance = self.chance
        shift = chance.gauss(0, weights.PUBLISHED_SHIFT_M), chance.gauss(0, weights.PUBLISHED_SHIFT_M)
        has_point = chance.random() >= weights.WITHOUT_POINT
        has_block = chance.random() >= weights.WITHOUT_BLOCK
        return {
            "published_area_name": self.places.names.get(place.area),
            "point": moved(place.address.point, *shift) if has_point else None,
            "block": block_of_address(place.address.text) if has_block else None,
        }

    def _later(self, first: IncidentReport, place: Place) -> list[dict[str, Any]]:
        """What changes later for all victims of a case, in order of time."""
        chance, changes = self.chance, list[dict[str, Any]]()
        if chance.random() < weights.MOVED:
            elsewhere = self.places.near(place, 600, chance)
            changes.append({"revised_at": _hours_later(chance, first, 48), **self._where(elsewhere)})
        if chance.random() < weights.UNFOUNDED:
            changes.append({"revised_at": _hours_later(chance, first, 96), "validity": "unfounded"})
        return sorted(changes, key=lambda change: change["revised_at"])

    def _victim(
        self, first: IncidentReport, later: Sequence[dict[str, Any]], victim: int
    ) -> Iterator[IncidentReport]:
        """One victim's row and its revisions: each repeats all that is known by then."""
        offence = _OFFENCES.draw(self.chance) if victim == 1 else weights.ASSAULT
        dies_later = offence == weights.HOMICIDE and self.chance.random() < weights.DIES_LATER
        known = weights.ASSAULT if dies_later else offence
        row = first.model_copy(update={"report_id": f"{first.incident_number}-#{victim}", **_says(known)})
        changes = [*later]
        if dies_later:
            changes.append({"revised_at": _hours_later(self.chance, first, 72), **_says(offence)})
        yield row
        for change in sorted(changes, key=lambda change: change["revised_at"]):
            row = row.model_copy(update=change)
            yield row


class _Open(NamedTuple):
    """An earlier request that somebody may report again."""

    report: IssueReport
    closed_at: datetime


class _Requests:
    """Draws the requests of one day after the other."""

    def __init__(self, seed: int, rate: float, places: Places) -> None:
        self.seed, self.rate, self.places = seed, rate, places
        self.chance = Random(f"rapid simulate, requests, {seed}")
        self.areas = _Wheel(_mixed(places.land(), _by_area(places)))
        self.earlier = {kind.code: deque[_Open](maxlen=MOST_REMEMBERED) for kind in weights.REQUEST_TYPES}

    def of_day(self, day: date) -> Iterator[IssueReport]:
        """The reports of all requests of a day, not yet in order."""
        number = 0
        for kind in weights.REQUEST_TYPES:
            for _ in range(_poisson(self.chance, self.rate * _requests_on(day, kind))):
                yield from self._request(day, number, kind)
                number += 1

    def _request(self, day: date, number: int, kind: weights.RequestType) -> Iterator[IssueReport]:
        chance = self.chance
        name = f"SIM{day:%y}-{self.seed}-{day:%j}{number:05d}"
        hour, minute = _HOURS_OF_REQUESTS.draw(chance), chance.randrange(60)
        created_at = _instant(day, hour, minute, chance.randrange(60))
        closed_at = _after(created_at, minutes=chance.expovariate(1 / (kind.days_open * 24 * 60)) + 30)
        opened, closed_at = self._opened(name, kind, created_at, closed_at)
        if not opened.duplicate:
            self.earlier[kind.code].append(_Open(opened, closed_at))
        yield opened
        status = "canceled" if chance.random() < weights.CANCELED else "completed"
        yield opened.model_copy(update={"status": status, "closed_at": closed_at, "revised_at": closed_at})

    def _opened(
        self, name: str, kind: weights.RequestType, created_at: datetime, closed_at: datetime
    ) -> tuple[IssueReport, datetime]:
        """The request as it is opened, and when it will be closed: a duplicate with its parent."""
        if self.chance.random() >= weights.DUPLICATE:
            return self._new(name, kind, created_at), closed_at
        if self.chance.random() < weights.PARENT_UNKNOWN:
            return self._repeats(self._new(name, kind, created_at), f"{name}-EARLIER"), closed_at
        parent = self._open_one(kind, created_at)
        if parent is None:
            return self._new(name, kind, created_at), closed_at
        again = parent.report.model_copy(
            update={
                "request_number": name,
                "created_at": created_at,
                "revised_at": _seconds_later(created_at),
            }
        )
        return self._repeats(again, parent.report.request_number), parent.closed_at

    def _open_one(self, kind: weights.RequestType, at: datetime) -> _Open | None:
        """An earlier request of the type that is still open, and stays so for a minute; a few are tried."""
        earlier, still = self.earlier[kind.code], at + timedelta(minutes=1)
        for _ in range(min(len(earlier), TRIES)):
            found = earlier[self.chance.randrange(len(earlier))]
            if found.report.created_at < at and still < found.closed_at:
                return found
        return None

    def _repeats(self, report: IssueReport, parent: str) -> IssueReport:
        return report.model_copy(update={"duplicate": True, "parent_number": parent})

    def _new(self, name: str, kind: weights.RequestType, created_at: datetime) -> IssueReport:
        chance = self.chance
        place = self.places.anywhere_in(self.areas.draw(chance), chance)
        located = chance.random() >= weights.WITHOUT_COORDINATES
        addressed = chance.random() >= weights.WITHOUT_ADDRESS
        return IssueReport(
            source="311",
            request_number=name,
            category=kind.category,
            service_code=kind.code,
            status="open",
            created_at=created_at,
            revised_at=_seconds_later(created_at),
            address=place.address.text if addressed else None,
            published_area=place.area if located else None,
            point=place.address.point if located else None,
            simulated=True,
        )


class _Wheel:
    """Draws one of several things by their weights."""

    def __init__(self, weight_of: Mapping[Any, float]) -> None:
        self.things = list(weight_of)
        self.sums = [0.0]
        for weight in weight_of.values():
            self.sums.append(self.sums[-1] + weight)
        del self.sums[0]

    def draw(self, chance: Random) -> Any:
        return chance.choices(self.things, cum_weights=self.sums)[0]


_HOURS_OF_CASES: Final = _Wheel(dict(enumerate(weights.CASES_BY_HOUR)))
_HOURS_OF_REQUESTS: Final = _Wheel(dict(enumerate(weights.REQUESTS_BY_HOUR)))
_VICTIMS: Final = _Wheel(weights.VICTIMS_PER_CASE)
_OFFENCES: Final = _Wheel(weights.OFFENCES)
_LOCATION_TYPES: Final = _Wheel(weights.PLACES)


def _says(offence: weights.Offence) -> dict[str, Any]:
    return {"event": offence.event, "gunshot_injury": offence.gunshot}


def _by_area(places: Places) -> dict[int, float]:
    """Area number -> share of the cases."""
    counts = {area: weights.CASES_BY_AREA.get(area, weights.CASES_ELSEWHERE) for area in places.areas.shapes}
    return {area: count / sum(counts.values()) for area, count in counts.items()}


def _mixed(land: Mapping[int, float], cases: Mapping[int, float]) -> dict[int, float]:
    share = weights.LAND_SHARE
    return {area: share * land[area] + (1 - share) * cases[area] for area in land}


def _cases_on(day: date) -> float:
    """Cases expected on a day, by month and weekday."""
    month = weights.CASES_BY_MONTH[day.month - 1] * 12 / sum(weights.CASES_BY_MONTH)
    weekday = weights.CASES_BY_WEEKDAY[day.weekday()] * 7 / sum(weights.CASES_BY_WEEKDAY)
    return weights.CASES_PER_YEAR / 365.25 * month * weekday


def _requests_on(day: date, kind: weights.RequestType) -> float:
    return 0.0 if kind.code == "SCP" and day.month not in weights.WEED_MONTHS else kind.per_day


def _poisson(chance: Random, mean: float) -> int:
    """A Poisson number: Knuth's product for small means (TAOCP 3.4.1), the normal approximation above."""
    if mean > 60:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count


def _instant(day: date, hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime.combine(day, time(hour, minute, second), tzinfo=ZONE).astimezone(UTC)


def _after(at: datetime, *, minutes: float) -> datetime:
    """So much later, to the second, but never in the hour that comes twice in autumn: the city's files write
    wall clocks without an offset, so its second occurrence could not be read back."""
    later = (at + timedelta(minutes=minutes)).replace(microsecond=0)
    return later + timedelta(hours=1) if later.astimezone(ZONE).fold else later


def _hours_later(chance: Random, report: IncidentReport, mean: float) -> datetime:
    return _after(report.revised_at, minutes=30 + chance.expovariate(1 / (mean * 60)))


_seconds_later = partial(_after, minutes=3 / 60)  # the portal's rows: 1 to 4 s
