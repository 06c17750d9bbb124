"""What a policy lets people do about alerts."""

from datetime import timedelta

from connectors.alert_commands import Rules
from schemas.policy import Policy


def alert_rules(policy: Policy) -> Rules:
    """How long an alert can be snoozed, and to whom it can be handed over."""
    persons = {person.code for person in policy.oncall.persons}
    roles = {role.code for role in policy.oncall.roles}
    return Rules(
        longest_snooze=timedelta(hours=policy.sla.alerting.longest_snooze_hours),
        addressees=frozenset(persons | roles),
    )
