import gzip
import json
from pathlib import Path

import pytest

from connectors.files import rows
from connectors.files.errors import FileProblem
from connectors.files.rows import Row, columns_of, rows_of
from tests.unit.files_samples import VICTIM, write_csv, write_json

AB = frozenset({"a", "b_c"})


def test_both_header_styles_and_a_bom_give_one_form_of_names(tmp_path: Path) -> None:
    for header in ("A,B C,Other", "a,b_c,other", "A,B_C,OTHER", "\ufeffA, B c ,Other?"):
        file = tmp_path / "f.csv"
        file.write_text(f"{header}\n1,2,3\n", encoding="utf-8")
        assert set(columns_of(file)) == {"a", "b_c", "other"}
        assert list(rows_of(file, AB)) == [Row(2, {"a": "1", "b_c": "2"})]


def test_columns_keep_the_name_that_the_file_writes(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text("A,B C\n1,2\n")
    assert columns_of(file) == {"a": "A", "b_c": "B C"}


def test_a_csv_row_has_the_number_of_the_line_where_it_starts(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text('A,B C\n"two\nlines",2\n\n3,4\n')
    assert list(rows_of(file, AB)) == [
        Row(2, {"a": "two\nlines", "b_c": "2"}),
        Row(5, {"a": "3", "b_c": "4"}),
    ]


def test_a_row_with_too_many_or_too_few_cells_keeps_none_of_them(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text("A,B C\n1,2,3\n1\n")
    assert list(rows_of(file, AB)) == [
        Row(2, {}, "2 columns as in the header, not 3"),
        Row(3, {}, "2 columns as in the header, not 1"),
    ]


def test_json_values_become_what_a_csv_cell_would_hold(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    file.write_text(json.dumps([{"a": True, "b_c": None}, {"a": 44.0, "b_c": 1.5}, {"a": " x "}, 7]))
    assert list(rows_of(file, AB)) == [
        Row(1, {"a": "true", "b_c": ""}),
        Row(2, {"a": "44", "b_c": "1.5"}),
        Row(3, {"a": "x"}),
        Row(4, {}, "a JSON object"),
    ]


def test_json_columns_are_those_of_many_rows_because_null_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    file.write_text('[{"a": 1}, {"b_c": 2}]')
    assert set(columns_of(file)) == {"a", "b_c"}


def test_json_lines_skip_blank_lines_and_go_on_after_a_broken_one(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    file.write_text('{"a": "1"}\n\n{"a": \n{"a": "2"}\n')
    assert list(rows_of(file, AB)) == [Row(1, {"a": "1"}), Row(3, {}, "a JSON object"), Row(4, {"a": "2"})]


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_a_json_array_is_read_whatever_the_chunks_cut_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(rows, "CHUNK_CHARS", chunk)
    file = write_json(tmp_path / "f.json", [VICTIM] * 3)
    read = list(rows_of(file, frozenset({"case_number"})))
    assert read == [Row(number, {"case_number": "ZZ100001"}) for number in (1, 2, 3)]


@pytest.mark.parametrize("text", ['[{"a": 1}, {"a": ]', '[{"a": 1}', '[{"a": 1} {"a"'])
def test_a_broken_json_array_names_the_item_and_keeps_what_came_before(tmp_path: Path, text: str) -> None:
    file = tmp_path / "f.json"
    file.write_text(text)
    read = rows_of(file, AB)
    assert next(read) == Row(1, {"a": "1"})
    with pytest.raises(FileProblem, match="from item 2 on"):
        next(read)


def test_gzip_is_read_as_if_it_were_plain(tmp_path: Path) -> None:
    file = tmp_path / "f.csv.gz"
    file.write_bytes(gzip.compress(write_csv(tmp_path / "f.csv", [VICTIM], bom=True).read_bytes()))
    assert list(rows_of(file, frozenset({"beat"}))) == [Row(2, {"beat": "0713"})]


def test_only_the_wanted_columns_come_out(tmp_path: Path) -> None:
    for file in (write_csv(tmp_path / "f.csv", [VICTIM]), write_json(tmp_path / "f.json", [VICTIM])):
        assert "PLANTED" not in repr(list(rows_of(file, frozenset({"beat", "case_number"}))))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b" \n \n", "is empty"),
        (b"A,B\n", "a header but no rows"),
        (b"[]", "holds no rows"),
        (b"[1, 2]", "holds no rows"),
        (b"\x1f\x8bgarbage", "cannot be read to its end"),
        (b'A,B\n1,"' + b"x" * 200_000, "cannot be read as CSV from line 2 on .*quote"),
    ],
)
def test_an_unusable_file_is_told_in_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "f"
    file.write_bytes(content)
    with pytest.raises(FileProblem, match=sentence):
        columns_of(file)


def test_a_missing_file_and_a_folder_are_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match=r"nowhere\.csv: no such file"):
        columns_of(tmp_path / "nowhere.csv")
    with pytest.raises(FileProblem, match="is a directory"):
        columns_of(tmp_path)
