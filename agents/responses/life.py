"""Pure: what the lines of a response's life add up to."""

from typing import Final

from schemas.response_life import LifeLine, ResponseLife

_NOT_CLOSED: Final = {"closed_at": None, "rule": None, "summary": None, "correct_at": None}


def after(life: ResponseLife | None, line: LifeLine) -> ResponseLife:
    """A response's life after one more line; None: it is the first."""
    if life is None:
        return ResponseLife(
            response_id=line.response_id, incident_id=line.incident_id, state="open", seq=line.seq, cycle=line.cycle,
            known_at=line.handled_at, handled_at=line.handled_at, closes_at=line.closes_at, due_at=line.due_at,
            safe_since=None, closed_at=None, rule=None, summary=None, policy_version=line.policy_version,
        )  # fmt: skip
    changed = line.model_dump(include={"seq", "cycle", "handled_at", "closes_at", "due_at"})
    return life.model_copy(update=changed | _changed(line))


def _changed(line: LifeLine) -> dict[str, object]:
    match line.kind:
        case "made_safe":
            return {"safe_since": line.at}
        case "open_again":
            return {"safe_since": None}
        case "closed" | "corrected":
            return {
                "state": "closed", "closed_at": line.at, "rule": line.rule, "summary": line.summary,
                "policy_version": line.policy_version, "correct_at": None,
            }  # fmt: skip
        case "reopened":
            return {"state": "open", **_NOT_CLOSED}
        case "void":
            return {"state": "void", "safe_since": None, **_NOT_CLOSED}
    return {}
