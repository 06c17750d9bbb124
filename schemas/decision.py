"""The record that each decision leaves, so that it can be explained and computed again."""

from typing import Literal
from uuid import UUID

from schemas.base import Record, Sentence, ShortText, Version

Stage = Literal["intake.incident", "intake.issue", "triage", "dispatch", "orders"]


class DecisionRecord(Record):
    """One decision. `decide(inputs, policy)` of its stage gives `output` again, byte for byte."""

    stage: Stage
    subject: UUID  # incident, issue, incident, cause, order
    version: Version
    rule: ShortText
    because: Sentence
    policy_version: ShortText
    inputs: str  # canonical JSON of the stage's Inputs schema
    output: str  # canonical JSON of the stage's output schema
