"""Pure: a recorded decision taken again from its own inputs, and where the two differ."""

from typing import Final, NamedTuple
from uuid import UUID

from pydantic import ValidationError

from agents.dispatch.decide import DispatchInputs
from agents.dispatch.decide import decide as decide_dispatch
from agents.intake.decide import decide_incident, decide_issue
from agents.intake.fold import IncidentInputs, IssueInputs
from agents.orders.decide import OrderInputs
from agents.orders.decide import decide as decide_order
from agents.triage.decide import TriageInputs
from agents.triage.decide import decide as decide_triage
from schemas.decision import DecisionRecord
from schemas.policy import Policy

COMPARED: Final = ("subject", "version", "rule", "because", "policy_version", "inputs", "output")
"""What a decision taken again must give again. `inputs` too: they are stored as their schema writes them."""
EXCERPT_CHARACTERS: Final = 24


class Irreproducible(Exception):
    """A recorded decision cannot be taken again at all; the message says why, without repeating its inputs."""


class Difference(NamedTuple):
    """The first place where a decision taken again is not the recorded one.

    `position` counts bytes of the field's UTF-8 text from 0; None: it could not be taken again, see `again`.
    """

    stage: str
    subject: UUID
    version: int
    field: str
    position: int | None
    recorded: str  # an excerpt from there on
    again: str


def recompute(record: DecisionRecord, policy: Policy) -> DecisionRecord:
    """The decision taken again, from its stored inputs and the policy stored under its version.

    Raises Irreproducible when its inputs cannot be read, or do not lead to its subject.
    """
    try:
        return _decide_again(record, policy)
    except ValidationError as error:
        raise Irreproducible("its inputs do not fit the schema of its stage") from error
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise Irreproducible(f"its inputs cannot be decided on ({type(error).__name__})") from error


def _decide_again(record: DecisionRecord, policy: Policy) -> DecisionRecord:
    match record.stage:
        case "intake.incident":
            return decide_incident(IncidentInputs.model_validate_json(record.inputs), policy.version)[1]
        case "intake.issue":
            return decide_issue(IssueInputs.model_validate_json(record.inputs), policy.version)[1]
        case "triage":
            return decide_triage(TriageInputs.model_validate_json(record.inputs), policy)[1]
        case "dispatch":
            return _cause_again(record, policy)
        case "orders":
            return decide_order(OrderInputs.model_validate_json(record.inputs), policy)[1]


def _cause_again(record: DecisionRecord, policy: Policy) -> DecisionRecord:
    """One pair of response and issue decides on several causes; each has a record of its own."""
    decided = decide_dispatch(DispatchInputs.model_validate_json(record.inputs), policy)
    for _, again in decided:
        if again.subject == record.subject:
            return again
    raise Irreproducible("its inputs do not lead to this cause")


def difference(record: DecisionRecord, policy: Policy | None) -> Difference | None:
    """Where the decision taken again differs; None: it is the same, byte for byte."""
    if policy is None:
        return _unable(record, "policy_version", f"no policy is stored under {record.policy_version}")
    try:
        again = recompute(record, policy)
    except Irreproducible as reason:
        return _unable(record, "inputs", str(reason))
    return first_difference(record, again)


def of_no_stage(record: DecisionRecord) -> Difference:
    """What there is to say of a decision whose stage nobody knows."""
    return _unable(record, "stage", "no stage has this name")


def first_difference(record: DecisionRecord, again: DecisionRecord) -> Difference | None:
    """The first differing field, in the order of COMPARED; None: there is none."""
    for field in COMPARED:
        old, new = str(getattr(record, field)).encode(), str(getattr(again, field)).encode()
        if old != new:
            position = _first_position(old, new)
            return Difference(
                record.stage, record.subject, record.version, field, position,
                _excerpt(old, position), _excerpt(new, position),
            )  # fmt: skip
    return None


def _unable(record: DecisionRecord, field: str, why: str) -> Difference:
    return Difference(record.stage, record.subject, record.version, field, None, "", why)


def _first_position(old: bytes, new: bytes) -> int:
    """The first byte in which two texts that are not equal differ."""
    for position, (one, other) in enumerate(zip(old, new, strict=False)):
        if one != other:
            return position
    return min(len(old), len(new))


def _excerpt(text: bytes, position: int) -> str:
    return text[position : position + EXCERPT_CHARACTERS].decode("utf-8", "replace")
