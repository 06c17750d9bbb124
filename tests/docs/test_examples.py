"""The pages say what is so: their examples run, and their links lead somewhere."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.examples import Example, matches, read

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TIMEOUT_S = 300


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A shell with our commands on PATH and a home of its own, in which nothing is left running."""
    with tempfile.TemporaryDirectory(prefix="rapid-docs-") as home:
        env = {name: value for name, value in os.environ.items() if not name.startswith("RAPID_")}
        env |= {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "RAPID_HOME": home, "NO_COLOR": "1"}
        env |= {"COLUMNS": "110", "TERM": "dumb", "PYTHONUTF8": "1"}
        yield env
        if any(Path(home).iterdir()):
            subprocess.run(["rapid", "down"], env=env, cwd=ROOT, capture_output=True, check=False, timeout=60)


def _output(example: Example, env: dict[str, str]) -> str:
    """What the example prints; it must end with success."""
    command = ["sh", "-c", example.command] if example.command else [sys.executable, "-c", example.program]
    done = subprocess.run(
        command, env=env, cwd=ROOT, check=False, timeout=TIMEOUT_S, text=True, encoding="utf-8",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    where = f"{_name(example.page)}:{example.line}: {example.command or 'python'}"
    assert done.returncode == 0, f"{where}\nended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.mark.parametrize("page", [page for page in PAGES if any(read(page))], ids=_name)
def test_examples_print_what_the_page_shows(page: Path, environment: dict[str, str]) -> None:
    for example in read(page):
        output = _output(example, environment)
        if example.expected is not None and not matches(example.expected, output):
            assert output == example.expected, f"{_name(page)}:{example.line}: {example.command}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_a_page_is_read_into_commands_and_their_output(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Not run:\n```console\n$ no\n```\n<!-- run -->\n```console\n$ one \\\n> two\nout\n\nmore\n$ three\n```\n"
        "<!-- run -->\n```python\nprint(1)\n```\n"
    )
    assert list(read(page)) == [
        Example(page, 7, "one \\\ntwo", "", "out\n\nmore\n"),
        Example(page, 12, "three", "", ""),
        Example(page, 16, None, "print(1)\n", None),
    ]


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        ("77 areas", "77 areas  \n", True),
        ("77 areas", "76 areas", False),
        ("… areas, …", "77 areas, 15 of them first", True),
        ("a\n…\nz", "a\nb\nc\nz", True),
        ("a\n…\nz", "a\nb\nc", False),
        ("(1 of 2)", "(1 of 2)", True),
    ],
)
def test_output_matches_what_is_shown_and_nothing_else(expected: str, actual: str, same: bool) -> None:
    assert matches(expected, actual) is same
