"""Pure: commands to triage an incident again, because what its severity counts has changed."""

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from schemas.envelope import Event
from schemas.topics import RESPONSE_COMMANDS

ISSUE_LOOKBACK = timedelta(days=365)
"""How long before an incident an issue may have been reported to count as open around it: a request that
is older says more about the records than about the block."""


def recounts(incident_ids: Iterable[UUID]) -> list[Event]:
    """One command per incident. It carries nothing: triage decides from the latest rows."""
    return [
        Event(RESPONSE_COMMANDS.name, key, b"{}", RESPONSE_COMMANDS.type, key, 0, key)
        for key in sorted({str(incident_id) for incident_id in incident_ids})
    ]
