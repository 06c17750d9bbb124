"""Tables on narrow terminals: what a person has to copy stays in one piece."""

import pytest

from infra.cli.output import print_table

ROW = {"reference": "WO-8QCEB-VR8HN", "address": "2500 BLOCK S [MOZART] ST", "crew": None}
MANY = {f"more_{number}": "words" for number in range(8)}


@pytest.mark.parametrize(("columns", "is_table"), [(60, False), (80, False), (200, True)])
def test_a_terminal_too_narrow_for_the_table_reads_paragraphs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int, is_table: bool
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table("Orders", [ROW | MANY], "none")
    out = capsys.readouterr().out
    assert "WO-8QCEB-VR8HN" in out
    assert "[MOZART]" in out
    assert ("┃" in out) is is_table
    assert ("crew" in out) is is_table
