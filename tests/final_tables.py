"""What the system holds in the end: every column of every table but the wall-clock ones.

Imports nothing of the product, so that the system tests can use it too.
"""

from typing import Any

FINAL_TABLES = {
    "incident_reports": "source, report_id, revised_at, digest, incident_id, body",
    "issue_reports": "source, request_number, revised_at, digest, issue_id, parent_id, body",
    "incidents": "incident_id, number, version, validity, kind, occurred_at, occurred_until, cells, body",
    "issues": "issue_id, source, request_number, version, status, category, folded_into, created_at,"
    " created_until, cells, body",
    "responses": "response_id, incident_id, version, status, tier, area, priority, severity, opens_at,"
    " ends_at, cells, body",
    "order_causes": "order_key, cause_id, generation, version, incident_id, issue_id, standing, body",
    "work_orders": "order_id, order_key, generation, reference, version, state, updates, outcome, verify,"
    " category, work, department, area, priority, opened_at, body",
    "standing_decisions": "stage, subject, version, rule, because, policy_version, inputs, output",
    "dead_letters": "dead_letter_id, topic, reason, field, expected, key, value, state",
}
"""Left out: `recorded_at` and `last_seen` (wall clock), and where in a log a dead letter was first seen."""


async def final_tables(connection: Any) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of every table, sorted."""
    return {
        table: [
            tuple(row) for row in await connection.fetch(f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3, 4")
        ]
        for table, columns in FINAL_TABLES.items()
    }


def differences(expected: dict[str, list[tuple[Any, ...]]], actual: dict[str, list[tuple[Any, ...]]]) -> str:
    """Which tables differ, and the first differing row of each; empty when none does."""
    lines = []
    for table, rows in expected.items():
        only = sorted(set(map(repr, rows)) ^ set(map(repr, actual[table])))
        if only:
            lines.append(f"{table}: {len(rows)} rows and {len(actual[table])} rows; for example {only[0]}")
    return "\n".join(lines)
