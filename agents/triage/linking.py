"""Pure: which incidents are one event, told by several sources, and which of them leads.

An incident *follows* when a valid one of a better-ranked source lies near it in place and time, of a kind that may be
the same event: of those the one of the best rank leads, then the nearest in time, in metres, the lowest id. Only the
two have to be looked at, so that it does not matter which is heard of first; and one that several could lead follows
in any case, so that each of these knows of it without looking further.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from agents.near import distance_m
from agents.triage.neighbour import Neighbour
from schemas.policy import Linking
from schemas.response import Tie

MOST_NAMED = 3


def could_follow(one: Neighbour, other: Neighbour, linking: Linking) -> bool:
    """Whether the other is a better source's word of the same event, as both stand now."""
    if one.validity != "valid" or other.validity != "valid" or one.simulated != other.simulated:
        return False
    if one.point is None or other.point is None or not set(one.sources).isdisjoint(other.sources):
        return False
    rank, leading = linking.rank_of(one.sources), linking.rank_of(other.sources)
    return (
        rank is not None
        and leading is not None
        and leading < rank
        and linking.are_compatible(one.kind, other.kind)
        and abs(one.occurred_at - other.occurred_at) <= timedelta(minutes=linking.minutes)
        and distance_m(one.point, other.point) <= linking.radius_m
    )


def leader_of(one: Neighbour, others: Iterable[Neighbour], linking: Linking) -> Neighbour | None:
    """The one that it follows; None: it is an event of its own."""
    leaders = [other for other in others if could_follow(one, other, linking)]
    return min(leaders, key=lambda leader: _nearness(one, leader, linking), default=None)


def followers_of(one: Neighbour, others: Sequence[Neighbour], linking: Linking) -> list[Neighbour]:
    """Those that follow this one, as far as can be seen from it."""
    following = [other for other in others if could_follow(other, one, linking)]
    return [
        other
        for other in following
        if leader_of(other, [one, *(leader for leader in others if leader is not other)], linking) is one
    ]


def are_one_event(one: Neighbour, other: Neighbour, linking: Linking | None) -> bool:
    """Whether one of the two follows because of the other."""
    return linking is not None and (could_follow(one, other, linking) or could_follow(other, one, linking))


def events_of(neighbours: Sequence[Neighbour], linking: Linking | None) -> list[Neighbour]:
    """One for each event: those that follow no other of these."""
    if linking is None:
        return list(neighbours)
    return [
        one
        for one in neighbours
        if not any(could_follow(one, other, linking) for other in neighbours if other is not one)
    ]


def tie(one: Neighbour, other: Neighbour) -> Tie:
    """The other as this one is tied to it. Both have a place."""
    assert one.point is not None
    assert other.point is not None
    assert other.number is not None
    return Tie(
        incident_id=other.incident_id,
        number=other.number,
        sources=other.sources,
        metres=round(distance_m(one.point, other.point)),
        seconds=round(abs(one.occurred_at - other.occurred_at).total_seconds()),
    )


def why_linked(one: Neighbour, leader: Tie, linking: Linking) -> str:
    """Who leads, how near, and by which ranks and limits."""
    rank, leading = linking.rank_of(one.sources), linking.rank_of(leader.sources)
    assert rank is not None
    assert leading is not None
    return (
        f"One event with {tie_in_words(leader)}, whose source leads (rank {leading + 1}; this one's: {rank + 1}):"
        f" that one responds, this one follows. The policy links within {linking.radius_m:g} m and"
        f" {linking.minutes} min."
    )


def who_follows(followers: Sequence[Tie]) -> str:
    """Who else tells of the event; empty when nobody does."""
    if not followers:
        return ""
    named = "; ".join(tie_in_words(one) for one in followers[:MOST_NAMED])
    more = f"; and {len(followers) - MOST_NAMED} more" if len(followers) > MOST_NAMED else ""
    return f" Told of as well by {named}{more}."


def tie_in_words(one: Tie) -> str:
    """`JH1 of cpd, 35 m and 2 min away`."""
    return f"{one.number} of {', '.join(one.sources)}, {one.metres} m and {_span(one.seconds)} away"


def _span(seconds: int) -> str:
    return f"{seconds} s" if seconds < 60 else f"{round(seconds / 60)} min"


def _nearness(one: Neighbour, leader: Neighbour, linking: Linking) -> tuple[int, timedelta, float, int]:
    rank = linking.rank_of(leader.sources)
    assert rank is not None
    assert one.point is not None
    assert leader.point is not None
    return (
        rank, abs(one.occurred_at - leader.occurred_at), distance_m(one.point, leader.point),
        leader.incident_id.int,
    )  # fmt: skip
