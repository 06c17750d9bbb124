"""`rapid dead-letters retry ID --value FILE --dry-run`: looked at, not sent."""

import json
from pathlib import Path
from typing import Any

from connectors.postgres import dead_letters
from schemas.dead_letter import DeadLetter, dead_letter_id_of
from schemas.topics import INCIDENT_REPORTS
from tests.commands import Rapid

RIGHT = {
    "source": "cpd", "report_id": "JH1-1", "incident_number": "JH1", "event": "assault", "gunshot_injury": True,
    "occurred_at": "2026-07-04T22:40:00-05:00", "revised_at": "2026-07-04T22:52:00-05:00",
    "point": {"lat": 41.8837, "lon": -87.7262},
}  # fmt: skip


async def test_a_correction_that_is_only_tried_is_not_sent(
    connection: Any, database_url: str, tmp_path: Path
) -> None:
    raw = json.dumps(RIGHT | {"occurred_at": "soon"}).encode()
    letter = DeadLetter(
        dead_letter_id=dead_letter_id_of(INCIDENT_REPORTS.name, b"cpd:JH1", raw), topic=INCIDENT_REPORTS.name,
        partition=0, offset=3, reason="invalid", field="occurred_at", expected="a time", key=b"cpd:JH1", value=raw,
        source="cpd",
    )  # fmt: skip
    await dead_letters.bury(connection, [letter])
    rapid = Rapid("dead-letters", {"RAPID_HOME": str(tmp_path), "RAPID_DATABASE_URL": database_url})
    name, file = str(letter.dead_letter_id), tmp_path / "corrected.json"

    file.write_text(json.dumps(RIGHT))
    assert (await rapid("retry", name, "--value", file, "--dry-run")).stdout.endswith("Nothing was sent.\n")
    assert await rapid.json("retry", name, "--value", file, "--dry-run") == {"would_pass": 1}
    file.write_text(json.dumps(RIGHT | {"event": "assult"}))
    assert "event" in (await rapid("retry", name, "--value", file, "--dry-run")).stderr

    assert await connection.fetchval("SELECT state FROM dead_letters") == "open"
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
