"""Dropped files that are no UTF-8, or of another separator: refused as a whole, with how to mend them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from connectors.files.errors import FileProblem
from connectors.mapping.encoding import CHUNK_BYTES, check_utf_8
from connectors.mapping.mapping import compiled
from connectors.mapping.spec import MappingFile
from tests.sources.conftest import Drop, calls

GOOD = calls(3)
LATIN = GOOD.replace("200 W MADE UP ST", "200 W PEÑA ST").encode("latin-1")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (LATIN, "calls.csv is not UTF-8, line 4: save it as UTF-8."),
        (gzip.compress(LATIN), "calls.csv is not UTF-8, line 4: save it as UTF-8."),
        (GOOD.encode("utf-16"), "calls.csv is UTF-16: save it as UTF-8."),
        (GOOD.encode("utf-16-le"), "calls.csv is UTF-16: save it as UTF-8."),
    ],
)
async def test_a_file_that_is_no_utf_8_fails_as_a_whole(
    drop: Drop, pool: Any, content: bytes, problem: str
) -> None:
    drop.put("calls.csv", "")
    (drop.path / "incoming" / "calls.csv").write_bytes(content)
    await drop.take_in()
    told = json.loads((drop.path / "failed" / "calls.csv.report.json").read_text())
    assert (told["problem"], told["rows"]) == (problem, 0)
    assert drop.broker.records == []
    assert await pool.fetchval("SELECT count(*) FROM dead_letters") == 0


async def test_a_file_of_another_separator_names_it(drop: Drop) -> None:
    drop.mapping = compiled(MappingFile.model_validate(drop.mapping.file.model_dump() | {"delimiter": ";"}))
    drop.put("calls.csv", GOOD)
    await drop.take_in()
    problem = json.loads((drop.path / "failed" / "calls.csv.report.json").read_text())["problem"]
    assert problem.endswith("; it looks as if it were separated by ',', the mapping says ';' (delimiter).")


def test_the_line_is_right_also_where_a_letter_stands_between_two_reads(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    before = b"x" * (CHUNK_BYTES - 3) + b"\n\n"
    path.write_bytes(before + "Ñ\n".encode())  # its two bytes come one by one
    check_utf_8(path)
    path.write_bytes(before + b"\xc3\n\xff")
    with pytest.raises(FileProblem, match="line 3:"):
        check_utf_8(path)
