"""The map: topic -> agent -> topic, readable top to bottom. Time, places and storage are given to it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from agents.dispatch.agent import Dispatch
from agents.intake.agent import Intake
from agents.messages import Binding, Handle, Message, Outcome
from agents.orders.agent import Orders
from agents.responses.agent import Responses
from agents.triage.agent import Triage
from connectors.ports import DispatchStore, Geography, IntakeStore, LifeStore, OrderStore, TriageStore
from schemas.policy import Policy
from schemas.topics import (
    INCIDENT_REPORTS,
    INCIDENTS,
    ISSUE_REPORTS,
    ISSUES,
    RESPONSE_COMMANDS,
    RESPONSE_LOOKS,
    RESPONSES,
    WORK_ORDER_COMMANDS,
    updates_topic,
)

Store = TypeVar("Store")

RECOUNT_PATIENCE_S: Final = 0.1
"""The same incident is often asked for several times in a row, by each neighbour and each issue: triaged once."""
LOOK_PATIENCE_S: Final = 0.25
"""The life of a response moves by minutes and days; no order waits for it."""


@dataclass(frozen=True, slots=True)
class Stores:
    """How each stage's store is made from the connection of the loop's transaction."""

    intake: Callable[[Any], IntakeStore]
    triage: Callable[[Any], TriageStore]
    dispatch: Callable[[Any], DispatchStore]
    orders: Callable[[Any], OrderStore]
    responses: Callable[[Any], LifeStore]


def topology(
    policy: Policy, geography: Geography, stores: Stores, now: Callable[[], datetime]
) -> tuple[Binding, ...]:
    """The whole stream. `now` serves to refuse reports from the future, and to keep promises by."""
    intake = Intake(policy, now)
    triage = Triage(policy, geography)
    dispatch = Dispatch(policy)
    orders = Orders(policy, now)
    responses = Responses(policy, now)
    return (
        # reads                        agent       handled by
        Binding(INCIDENT_REPORTS,      "intake",   on(stores.intake, intake.incident_reports)),
        Binding(ISSUE_REPORTS,         "intake",   on(stores.intake, intake.issue_reports)),
        *(
            Binding(updates_topic(one.code), "intake", on(stores.intake, partial(intake.updates, one.code)))
            for one in policy.departments
        ),
        # -> incidents, issues, work-order-commands
        Binding(INCIDENTS,             "triage",   on(stores.triage, triage.incidents), reads="key"),
        Binding(RESPONSE_COMMANDS,     "triage",   on(stores.triage, triage.commands), reads="key",
                patience_s=RECOUNT_PATIENCE_S),
        # -> triage-decisions, responses, response-commands
        Binding(RESPONSES,             "dispatch", on(stores.dispatch, dispatch.responses), reads="key"),
        Binding(ISSUES,                "dispatch", on(stores.dispatch, dispatch.issues), reads="key"),
        # -> work-order-commands, response-commands, response-looks
        Binding(WORK_ORDER_COMMANDS,   "orders",   on(stores.orders, orders.commands)),
        # -> work-orders, work-orders.<department>, work-order-update-results, service-request-news,
        #    sla-alerts, response-looks
        Binding(RESPONSE_LOOKS,        "responses", on(stores.responses, responses.looks), reads="key",
                patience_s=LOOK_PATIENCE_S),
        # -> response-life
    )  # fmt: skip


def on(
    store: Callable[[Any], Store], handle: Callable[[Store, Sequence[Message]], Awaitable[Outcome]]
) -> Handle:
    """The handler with its store bound to the connection that the loop gives it."""

    async def bound(connection: Any, messages: Sequence[Message]) -> Outcome:
        return await handle(store(connection), messages)

    return bound
