"""The command line's frame: the list of commands, sentences and exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.cli.dead_letters import readable
from infra.cli.errors import ExitCode, Oops
from infra.cli.main import COMMANDS, INTRODUCTION, leave


def rapid(*arguments: str, home: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAPID_")}
    return subprocess.run(
        [sys.executable, "-m", "infra.cli.main", *arguments], capture_output=True, text=True, check=False,
        env={**clean, "RAPID_HOME": str(home), **environment},
    )  # fmt: skip


def test_help_lists_every_command_with_its_line(tmp_path: Path) -> None:
    done = rapid("--help", home=tmp_path, COLUMNS="200")
    assert done.returncode == 0
    assert not [entry.name for entry in COMMANDS if entry.summary not in done.stdout]


def test_an_unknown_command_is_a_wrong_option(tmp_path: Path) -> None:
    done = rapid("replya", home=tmp_path)
    assert done.returncode == 2
    assert "replya" in done.stderr


def test_every_exit_code_is_in_the_help() -> None:
    assert not [code for code in ExitCode if f"{code.value} " not in INTRODUCTION]


def test_a_sentence_goes_to_stderr_with_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        leave("That is not there.", ExitCode.NOT_FOUND)
    assert (left.value.code, capsys.readouterr().err) == (6, "rapid: That is not there.\n")


def test_an_expected_failure_has_a_code_of_its_own() -> None:
    assert (Oops("no").exit_code, Oops("no", ExitCode.BUSY_PORT).exit_code) == (1, 5)


def test_an_unforeseen_failure_is_a_hint_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()  # the lock is there, but no state can be written
    done = rapid("up", home=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("rapid: Something unexpected happened (")
    assert "Traceback" not in done.stderr
    assert "Traceback" in (tmp_path / "logs" / "errors.log").read_text()


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'{"a": 1}', '{"a": 1}'),
        (b"\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (None, None),
    ],
)
def test_unknown_bytes_cannot_command_a_terminal(raw: bytes | None, text: str | None) -> None:
    assert readable(raw) == text


def test_a_long_value_is_cut() -> None:
    shown = readable(b"x" * 10_000)
    assert shown is not None
    assert shown.endswith("… (10000 bytes)")
