"""The contracts as files: written, and compared with what is there."""

import json
from pathlib import Path
from typing import Any, Final

from infra.contracts.asyncapi import HEADERS, document, headers_schema
from infra.contracts.compare import breaks, is_major
from infra.contracts.records import JsonSchema, kinds, published_topics, schema_of

RELEASED: Final = "released"
"""The folder, below that of the contracts, with the schemas of the last release."""
ON_PURPOSE: Final = "on-purpose.json"
"""In it: what is broken on purpose since then, by type and sentence, each with the reason."""
ASYNCAPI: Final = "asyncapi.json"


def schemas() -> dict[str, JsonSchema]:
    """The schema of every kind of record, by its type."""
    return {kind.name: schema_of(kind) for kind in kinds(published_topics())}


def contracts() -> dict[str, str]:
    """Every file by its path below the folder."""
    topics = published_topics()
    found, made = kinds(topics), schemas()
    files: dict[str, Any] = {kind.file: made[kind.name] for kind in found}
    files[HEADERS] = headers_schema()
    files[ASYNCAPI] = document(topics, found, made)
    return {path: text_of(value) for path, value in sorted(files.items())}


def text_of(value: Any) -> str:
    """As it stands in a file: the same everywhere, and readable in a comparison."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> list[str]:
    """Write all of them; which had to be changed. Schemas of what there is no more are removed. Raises OSError."""
    changed = drift(folder)
    for path, text in contracts().items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    for path in _superfluous(folder):
        (folder / path).unlink()
    return changed


def drift(folder: Path) -> list[str]:
    """The files that are not as they would be written, with those that would not be there."""
    other = [path for path, text in contracts().items() if _read(folder / path) != text]
    return sorted([*other, *_superfluous(folder)])


def _superfluous(folder: Path) -> list[str]:
    there = {f"schemas/{file.name}" for file in (folder / "schemas").glob("*.json")}
    return sorted(there - contracts().keys())


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def broken(folder: Path) -> dict[str, list[str]]:
    """What breaks who knows the last release, by type, and is not meant to. Raises OSError, ValueError."""
    meant = on_purpose(folder)
    left = {
        name: [one for one in what if one not in meant.get(name, {})]
        for name, what in all_broken(folder).items()
    }
    return {name: what for name, what in left.items() if what}


def on_purpose(folder: Path) -> dict[str, dict[str, str]]:
    """What is broken on purpose since the last release: by type, the sentence and why."""
    file = folder / RELEASED / ON_PURPOSE
    found: dict[str, dict[str, str]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def all_broken(folder: Path) -> dict[str, list[str]]:
    """What breaks who knows the last release, by type. One that is gone breaks nobody if there is its next version."""
    now = {kind.name: kind for kind in kinds(published_topics())}
    found = {}
    for file in sorted((folder / RELEASED / "schemas").glob("rapid.*.json")):
        name = file.stem
        if name in now:
            old = json.loads(file.read_text(encoding="utf-8"))
            found[name] = breaks(old, schema_of(now[name]), now[name].direction)
        elif not any(is_major(one, name) for one in now):
            found[name] = ["readers: the record is gone"]
    return {name: what for name, what in found.items() if what}
