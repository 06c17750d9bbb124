"""Intake, the border: reports come in, clean incidents and issues go on. Shell around `decide.py`."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Generic, TypeVar
from uuid import UUID

from agents.intake.border import Refusal, refuse_incident_report, refuse_issue_report
from agents.intake.decide import decide_incident, decide_issue
from agents.intake.fold import (
    IncidentInputs,
    IssueInputs,
    agreed,
    incident_report_identity,
    issue_report_identity,
)
from agents.messages import Message, Outcome, Rejection, body_of
from agents.near import cells_of
from agents.orders.judge import no_such_order
from agents.orders.site import Answered, answer_to
from agents.orders.telling import answer_events
from connectors.ports import Attempt, Fact, IntakeStore, ParkedUpdate, Row
from schemas.codec import encode
from schemas.decision import DecisionRecord
from schemas.envelope import Event
from schemas.incident import Incident, IncidentReport, incident_id_of
from schemas.issue import Issue, IssueReport, issue_id_of
from schemas.policy import Policy
from schemas.topics import INCIDENTS, ISSUES, UPDATE_COMMAND_TYPE, WORK_ORDER_COMMANDS
from schemas.work_order_update import UnreadableUpdate, UpdateCommand, UpdateResult, WorkOrderUpdate

Report = TypeVar("Report", IncidentReport, IssueReport)
Fold = TypeVar("Fold", Incident, Issue)


@dataclass(frozen=True, slots=True)
class Folded(Generic[Fold]):
    """One fold of one key: the value, its record, and the reports of its own that contradict others."""

    value: Fold
    decision: DecisionRecord
    contradicting: Sequence[IncidentReport | IssueReport]
    parents: frozenset[UUID] = frozenset()  # the issues that its own reports ever named


@dataclass(frozen=True, slots=True)
class Facts(Generic[Fold]):
    """How one kind of fold reads its facts and writes its row."""

    load: Callable[[Sequence[UUID]], Awaitable[Mapping[UUID, list[str]]]]
    count: Callable[[Sequence[UUID]], Awaitable[Mapping[UUID, int]]]
    fold: Callable[[UUID, list[str]], Folded[Fold]]
    save: Callable[[Sequence[tuple[Fold, Row]]], Awaitable[set[UUID]]]


class Intake:
    """Reads `incident-reports`, `issue-reports` and what each department says of its orders."""

    def __init__(self, policy: Policy, now: Callable[[], datetime]) -> None:
        self._policy = policy
        self._now = now  # only to refuse reports from the future

    async def incident_reports(self, store: IntakeStore, messages: Sequence[Message]) -> Outcome:
        """Fold reports into incidents; publish those that changed."""
        outcome = Outcome()
        facts = self._admit(messages, IncidentReport, refuse_incident_report, _incident_fact, outcome)
        touched = await store.add_incident_reports(facts)
        how = Facts(
            store.incident_facts, store.incident_fact_counts, self._fold_incident, store.save_incidents
        )
        folds = await self._refold(touched, how)
        await store.keep([fold.decision for fold in folds])
        outcome.rejections += _contradictions(folds, messages, _incident_owner)
        outcome.events += [_incident_event(fold) for fold in folds]
        return outcome

    async def issue_reports(self, store: IntakeStore, messages: Sequence[Message]) -> Outcome:
        """Fold requests and their duplicates into issues; publish those that changed."""
        outcome = Outcome()
        facts = self._admit(messages, IssueReport, refuse_issue_report, _issue_fact, outcome)
        touched = await store.add_issue_reports(facts)
        how = Facts(store.issue_facts, store.issue_fact_counts, self._fold_issue, store.save_issues)
        folds = await self._refold(touched, how)
        await store.keep([fold.decision for fold in folds])
        outcome.rejections += _contradictions(folds, messages, _issue_owner)
        outcome.events += [_issue_event(fold) for fold in folds]
        return outcome

    async def updates(self, department: str, store: IntakeStore, messages: Sequence[Message]) -> Outcome:
        """Send a department's updates on to their orders, under the orders' key. Those whose order nobody knows are
        parked, and answered like those for another department's order: nobody can try out what there is. The topic
        that they came on is the department's alone: it says who speaks."""
        now = self._now()
        updates = [
            body_of(message, WorkOrderUpdate)
            for message in messages
            if not isinstance(message.body, UnreadableUpdate)
        ]
        keys = await store.order_keys(sorted({update.reference for update in updates}))
        unknown = [update for update in updates if update.reference not in keys]
        await store.park([ParkedUpdate(department, update, now) for update in unknown])
        outcome = Outcome()
        for update in updates:
            if update.reference in keys:
                outcome.events.append(update_event(keys[update.reference], department, now, update))
            else:
                await _answer(store, outcome, _unknown(department, update, now))
        await self._refuse_unreadable(department, store, messages, outcome)
        return outcome

    async def _refuse_unreadable(
        self, department: str, store: IntakeStore, messages: Sequence[Message], outcome: Outcome
    ) -> None:
        """Answer what is no update, as far as it says which it is. It becomes a dead letter all the same."""
        attempts = []
        for message in messages:
            if isinstance(message.body, UnreadableUpdate):
                one = message.body
                outcome.rejections.append(Rejection(message, one.reason, one.field, one.expected))
                await _answer(store, outcome, _unreadable(department, one))
                attempts.append(
                    Attempt(department, one.reference, one.update_id, "unreadable", "refused", "undecodable")
                )
        await store.audit(attempts)

    def _admit(
        self,
        messages: Sequence[Message],
        schema: type[Report],
        refuse: Callable[[Report, Policy, datetime], Refusal | None],
        to_fact: Callable[[Report], Fact],
        outcome: Outcome,
    ) -> list[Fact]:
        """The facts that may come in, each once, in key order; the others are refused."""
        now = self._now()
        facts: dict[tuple[str, str, datetime, int], Fact] = {}
        for message in messages:
            report = body_of(message, schema)
            refusal = refuse(report, self._policy, now)
            if refusal:
                outcome.rejections.append(Rejection(message, *refusal))
            else:
                fact = to_fact(report)
                facts[fact[:4]] = fact
        return [facts[key] for key in sorted(facts)]

    def _fold_incident(self, _: UUID, bodies: list[str]) -> Folded[Incident]:
        inputs = IncidentInputs.model_validate_json(f'{{"reports":[{",".join(bodies)}]}}')
        incident, decision = decide_incident(inputs, self._policy.version)
        return Folded(incident, decision, agreed(inputs.reports, incident_report_identity)[1])

    def _fold_issue(self, issue_id: UUID, bodies: list[str]) -> Folded[Issue]:
        reports = IssueInputs.model_validate_json(
            f'{{"source":"","request_number":"","reports":[{",".join(bodies)}]}}'
        ).reports
        source, number = _request_of(issue_id, reports)
        inputs = IssueInputs(source=source, request_number=number, reports=reports)
        issue, decision = decide_issue(inputs, self._policy.version)
        own = [report for report in reports if report.request_number == number]
        parents = frozenset(issue_id_of(source, one.parent_number) for one in own if one.parent_number)
        return Folded(issue, decision, agreed(own, issue_report_identity)[1], parents)

    async def _refold(self, ids: Iterable[UUID], how: Facts[Fold]) -> list[Folded[Fold]]:
        """Fold, store, and look again: a fact that another worker committed meanwhile is folded in too.

        Two transactions may each hold a new fact of one key (producers partition differently). The second
        to store waits for the first one's row lock, then finds more facts than it folded. Of a request, they
        may name a parent that neither knew of together.
        """
        saved: dict[UUID, Folded[Fold]] = {}
        waiting = sorted(ids, key=_number)
        looked_at: set[UUID] = set()
        while waiting:
            looked_at.update(waiting)
            bodies = await how.load(waiting)
            folds = {key: how.fold(key, bodies[key]) for key in waiting}
            changed = await how.save([(fold.value, self._row(key, fold)) for key, fold in folds.items()])
            saved.update((key, folds[key]) for key in waiting if key in changed)
            counts = await how.count(waiting)
            outdated = {key for key in waiting if counts[key] > folds[key].value.version}
            named = {parent for fold in folds.values() for parent in fold.parents}
            waiting = sorted(outdated | (named - looked_at), key=_number)
        return [saved[key] for key in sorted(saved, key=_number)]

    def _row(self, key: UUID, fold: Folded[Incident] | Folded[Issue]) -> Row:
        points = (phase.point for phase in fold.value.ever)
        cells = cells_of(points, self._policy.cell_resolution)
        return Row(key, fold.value.version, cells, fold.decision.output)


def update_event(order_key: str, department: str, received_at: datetime, update: WorkOrderUpdate) -> Event:
    """An update on its way to its order's writer."""
    command = UpdateCommand(
        order_key=order_key, department=department, received_at=received_at, update=update
    )
    subject = f"{department}:{update.update_id}"
    version = _digest(update.model_dump_json()) & (
        2**62 - 1
    )  # the same id with other content is another event
    return Event(WORK_ORDER_COMMANDS.name, order_key, encode(command), UPDATE_COMMAND_TYPE, subject, version)


def _number(key: UUID) -> int:
    """Sorts as the UUID itself does, without a call to compare two."""
    return key.int


def _unknown(department: str, update: WorkOrderUpdate, received_at: datetime) -> Answered:
    """What somebody reads whose order nobody knows; it is answered anew should the order appear."""
    command = UpdateCommand(
        order_key=update.reference, department=department, received_at=received_at, update=update
    )
    return answer_to(command, no_such_order(command), None, 0)


def _unreadable(department: str, update: UnreadableUpdate) -> Answered:
    """What its sender reads: which member, and what was expected. It never repeats what was sent."""
    wrong = f"{update.field}: {update.expected}" if update.field else f"expected {update.expected}"
    result = UpdateResult(
        update_id=update.update_id, reference=update.reference, verdict="refused", rule="undecodable",
        because=f"This cannot be read as an update ({wrong}). Put it right and send it again.",
        state=None, version=None,
    )  # fmt: skip
    body = result.model_dump_json()
    return Answered(department, result, body, abs(_digest(body)) % 2**31 + 1)


async def _answer(store: IntakeStore, outcome: Outcome, answer: Answered) -> None:
    events, told = answer_events(answer)
    outcome.events += events
    await store.tell(told)


def _request_of(issue_id: UUID, reports: Sequence[IssueReport]) -> tuple[str, str]:
    """Source and number of the issue: one of the reports is its own, or names it as parent."""
    for report in reports:
        for number in (report.request_number, report.parent_number):
            if number is not None and issue_id_of(report.source, number) == issue_id:
                return report.source, number
    raise LookupError(f"No report names issue {issue_id}.")


def _incident_fact(report: IncidentReport) -> Fact:
    body = report.model_dump_json()
    owner = incident_id_of(report.incident_number)
    return Fact(report.source, report.report_id, report.revised_at, _digest(body), owner, None, body)


def _issue_fact(report: IssueReport) -> Fact:
    body = report.model_dump_json()
    owner = issue_id_of(report.source, report.request_number)
    parent = issue_id_of(report.source, report.parent_number) if report.parent_number else None
    number = report.request_number
    return Fact(
        report.source,
        number,
        report.revised_at,
        _digest(body),
        owner,
        parent if parent != owner else None,
        body,
    )


def _digest(body: str) -> int:
    return int.from_bytes(blake2b(body.encode(), digest_size=8).digest(), "big", signed=True)


def _incident_owner(message: Message) -> UUID:
    return incident_id_of(body_of(message, IncidentReport).incident_number)


def _issue_owner(message: Message) -> UUID:
    report = body_of(message, IssueReport)
    return issue_id_of(report.source, report.request_number)


def _contradictions(
    folds: Sequence[Folded[Fold]], messages: Sequence[Message], owner_of: Callable[[Message], UUID]
) -> list[Rejection]:
    """A dead letter for each report that contradicts another one of the same id and revision."""
    contradicted = [fold for fold in folds if fold.contradicting]
    if not contradicted:
        return []
    cause = {owner_of(message): message for message in messages}
    return [
        Rejection(
            cause[fold.decision.subject]._replace(
                raw_key=report.key.encode(), raw_value=report.model_dump_json().encode()
            ),
            "conflicting_content",
            "revised_at",
            "one content per id and revision; another one is already held under the same id and revised_at."
            " If this one is right, send it again with a later revised_at.",
        )
        for fold in contradicted
        if fold.decision.subject in cause
        for report in fold.contradicting
    ]


def _incident_event(fold: Folded[Incident]) -> Event:
    key = str(fold.value.incident_id)
    return Event(
        INCIDENTS.name, key, fold.decision.output.encode(), INCIDENTS.type, key, fold.value.version, key
    )


def _issue_event(fold: Folded[Issue]) -> Event:
    key = str(fold.value.issue_id)
    return Event(ISSUES.name, key, fold.decision.output.encode(), ISSUES.type, key, fold.value.version, key)
