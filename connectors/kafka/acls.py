"""Who may do what at the broker: the least that `schemas/topics.py` calls for, as values."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal

from schemas.topics import CONSUMER, Topic

SOURCES: Final = "sources"
_DEPARTMENT: Final = "department "
_OPEN_TO: Final = {SOURCES: "public", _DEPARTMENT: "department"}

Pattern = Literal["literal", "prefixed"]


@dataclass(frozen=True, slots=True, order=True)
class AclRule:
    """One line of the broker's list. The words are Kafka's: `topic`, `group`; READ, WRITE; ALLOW, DENY."""

    principal: str
    resource: str
    name: str
    pattern: str
    operation: str
    permission: str = "ALLOW"
    host: str = "*"

    def touches(self, other: "AclRule") -> bool:
        """Whether there can be a topic or group that both speak of."""
        return self.resource == other.resource and (self._covers(other) or other._covers(self))

    def _covers(self, other: "AclRule") -> bool:
        if self.pattern == "prefixed":
            return other.name.startswith(self.name)
        return self.name == "*" or (other.pattern == "literal" and other.name == self.name)


@dataclass(frozen=True, slots=True)
class Principals:
    """Who is who at the broker, as in `User:rapid`.

    `workers`: all processes of ours. `sources`: who reports from outside. `departments`: by code.
    """

    workers: tuple[str, ...]
    sources: tuple[str, ...]
    departments: Mapping[str, tuple[str, ...]]

    def of(self, party: str) -> tuple[str, ...]:
        """The principals of a writer or reader, as `schemas/topics.py` names it. Our API and `rapid replay` report
        like any other source; every other party but the departments is an agent of ours."""
        if party == SOURCES:
            return (*self.workers, *self.sources)
        if party.startswith(_DEPARTMENT):
            return self.departments.get(party.removeprefix(_DEPARTMENT), ())
        return self.workers


def group_prefix(department: str) -> str:
    """What the names of a department's consumer groups begin with. A code has no dot, so that of `cdot` does not
    cover the groups of `cdot-south`."""
    return f"{department}."


def rules_of(topics: Iterable[Topic], principals: Principals) -> tuple[AclRule, ...]:
    """All that is allowed, sorted: nothing else is. Raises ValueError when a topic is open to whom it must not be."""
    rules = {AclRule(principal, "group", CONSUMER, "literal", "READ") for principal in principals.workers} | {
        AclRule(principal, "group", group_prefix(department), "prefixed", "READ")
        for department, theirs in principals.departments.items()
        for principal in theirs
    }
    for topic in topics:
        for operation, parties in (("WRITE", topic.writers), ("READ", topic.readers)):
            for party in parties:
                _check_access(topic, party)
                rules |= {
                    AclRule(principal, "topic", topic.name, "literal", allowed)
                    for principal in principals.of(party)
                    for allowed in (operation, "DESCRIBE")
                }
    return tuple(sorted(rules))


def _check_access(topic: Topic, party: str) -> None:
    """Whatever `writers` and `readers` say: nobody outside touches what is internal or restricted."""
    for outside, access in _OPEN_TO.items():
        if party.startswith(outside) and topic.access != access:
            raise ValueError(
                f"{topic.name} is {topic.access}: {party} must not be among its writers or readers"
            )


def foreign(found: Iterable[AclRule], ours: Iterable[AclRule]) -> tuple[AclRule, ...]:
    """The rules on our topics and groups that are not ours, sorted. `found`: all that the broker has."""
    wanted = frozenset(ours)
    return tuple(sorted(rule for rule in set(found) - wanted if any(rule.touches(other) for other in wanted)))


def as_commands(rules: Iterable[AclRule], brokers: str) -> list[str]:
    """The lines for Kafka's own tool that add these rules; `brokers`: `host:port`, or a variable of the shell."""
    return [
        f"kafka-acls.sh --bootstrap-server {brokers} --command-config admin.properties --add "
        f"--allow-principal {shlex.quote(principal)} "
        + "".join(f"--operation {rule.operation.title()} " for rule in some)
        + f"--{resource} {shlex.quote(name)} --resource-pattern-type {pattern}"
        for (principal, resource, name, pattern), some in groupby(
            sorted(rules), lambda rule: (rule.principal, rule.resource, rule.name, rule.pattern)
        )
    ]
