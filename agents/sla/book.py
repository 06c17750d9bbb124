"""What some versions of the policy say of promises: a clock keeps the version that it began with (rule 7)."""

from collections.abc import Iterable

from agents.sla.calendar import Calendars
from agents.sla.clock import Rules, rules_of
from schemas.policy import Policy
from schemas.sla import Alerting, Boundary, RungTerms


class Book:
    """Calendars, rules and ladders by policy version. Raises KeyError for a version that it does not hold."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self.calendars = Calendars({})
        self._policies: dict[str, Policy] = {}
        self._rules: dict[str, Rules] = {}
        for policy in policies:
            self.add(policy)

    def __contains__(self, version: str) -> bool:
        return version in self._policies

    def add(self, policy: Policy) -> None:
        """One more version."""
        self._policies[policy.version] = policy
        self._rules[policy.version] = rules_of(policy)
        self.calendars.add(policy.version, policy.sla.calendars)

    def __len__(self) -> int:
        return len(self._policies)

    def policy(self, version: str) -> Policy | None:
        """The policy of this version, if it is at hand."""
        return self._policies.get(version)

    def rules(self, version: str) -> Rules:
        """Which reasons stop a clock, and how long a closed one can go on."""
        return self._rules[version]

    def boundary(self, version: str) -> Boundary:
        """What becomes of a deadline on closing time."""
        return self._policies[version].sla.boundary

    def rungs(self, version: str) -> tuple[RungTerms, ...]:
        """The points of the ladder, lowest first."""
        return self._policies[version].sla.rungs

    def alerting(self, version: str) -> Alerting:
        """How alerts behave."""
        return self._policies[version].sla.alerting
