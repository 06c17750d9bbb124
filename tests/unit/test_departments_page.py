"""docs/departments-kafka.md says what is so."""

from pathlib import Path
from typing import get_args

from infra.policy.load import load_policy
from schemas.work_order import Outcome
from schemas.work_order_update import MEMBERS, Members

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "departments-kafka.md").read_text(encoding="utf-8")
CONSUMER = (ROOT / "docs" / "examples" / "department_consumer.py").read_text(encoding="utf-8")


def row(verb: str, members: Members) -> str:
    """One line of the table of verbs."""
    return f"| `{verb}` | {_names(members.needs)} | {_names(members.may_have)} |"


def _names(members: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in members)


def test_the_consumer_is_shown_as_it_is() -> None:
    assert f"```python\n{CONSUMER}```\n" in PAGE


def test_the_consumer_knows_nothing_of_ours() -> None:
    ours = tuple(
        f"{word} {folder}" for word in ("import", "from") for folder in ("schemas", "connectors", "infra")
    )
    assert [line for line in CONSUMER.splitlines() if line.startswith(ours)] == []


def test_every_verb_is_listed_with_its_members() -> None:
    verbs = [row(verb, members) for verb, members in MEMBERS.items()]
    assert "\n".join(["| verb | needs | may have |", "|---|---|---|", *verbs, ""]) in PAGE


def test_every_outcome_and_every_reason_to_hold_is_named() -> None:
    reasons = [reason.code for reason in load_policy().hold_reasons]
    assert [name for name in (*get_args(Outcome), *reasons) if f"`{name}`" not in PAGE] == []
