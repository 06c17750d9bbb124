"""Pure: what intake holds to be one incident or one issue, and the rule it followed."""

from agents.intake.fold import IncidentInputs, IssueInputs, fold_incident, fold_issue
from schemas.decision import DecisionRecord
from schemas.incident import Incident
from schemas.issue import Issue


def decide_incident(inputs: IncidentInputs, policy_version: str) -> tuple[Incident, DecisionRecord]:
    """The incident that the reports of one case add up to."""
    incident = fold_incident(inputs)
    rule, because = _why_incident(incident, inputs)
    return incident, DecisionRecord(
        stage="intake.incident",
        subject=incident.incident_id,
        version=incident.version,
        rule=rule,
        because=because,
        policy_version=policy_version,
        inputs=inputs.model_dump_json(),
        output=incident.model_dump_json(),
    )


def _why_incident(incident: Incident, inputs: IncidentInputs) -> tuple[str, str]:
    rows = len({(report.source, report.report_id) for report in inputs.reports})
    count = f"{rows} report{'s' if rows > 1 else ''} with case number {incident.number}"
    if incident.validity == "unfounded":
        return "unfounded", f"{count}; the newest revisions say that it did not happen."
    if len(incident.phases) > 1:
        changes = len(incident.phases) - 1
        times = "once" if changes == 1 else f"{changes} times"
        return "revised", f"{count}; what they say changed {times}, the newest holds."
    if rows > 1:
        return "reports_of_one_case", f"{count}: victims and reports of one case are one incident."
    return "one_report", f"{count}."


def decide_issue(inputs: IssueInputs, policy_version: str) -> tuple[Issue, DecisionRecord]:
    """The issue that a request and its duplicates add up to."""
    issue = fold_issue(inputs)
    rule, because = _why_issue(issue)
    return issue, DecisionRecord(
        stage="intake.issue",
        subject=issue.issue_id,
        version=issue.version,
        rule=rule,
        because=because,
        policy_version=policy_version,
        inputs=inputs.model_dump_json(),
        output=issue.model_dump_json(),
    )


def _why_issue(issue: Issue) -> tuple[str, str]:
    if issue.folded_into:
        return (
            "folded_into_parent",
            f"Request {issue.request_number} is a duplicate; its parent stands for it.",
        )
    if issue.known_by == "duplicates":
        return "known_by_duplicates", f"Request {issue.request_number} is known only by its duplicates."
    if len(issue.covers) > 1:
        others = len(issue.covers) - 1
        return "covers_duplicates", f"Request {issue.request_number} stands for {others} duplicate(s) too."
    return "one_request", f"Request {issue.request_number}, {issue.status}."
