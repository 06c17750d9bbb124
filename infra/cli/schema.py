"""`rapid schema`: the contracts, as JSON Schema and as one AsyncAPI document."""

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.contracts import files
from infra.contracts.records import Kind, kinds, published_topics, schema_of

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]", help="A type (rapid.incident.v1), a topic, or `asyncapi`.", show_default=False
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Write all of them there.", show_default=False)
]
Check = Annotated[
    Path | None,
    typer.Option(
        "--check", metavar="FOLDER", show_default=False,
        help="Say which files there are not as they would be written, and what breaks who knows its released/ ones.",
    ),
]  # fmt: skip
FOR: Final = {"in": "others write it", "out": "others may read it", "inside": "only we write and read it"}


def schema(name: Name = None, *, out: Out = None, check: Check = None, as_json: Json = False) -> None:
    """What travels on the topics: JSON Schema 2020-12 of every record, and one AsyncAPI 3.0 document.

    Without a name: the list. With --out or --check: all of them as files.
    """
    if sum(one is not None for one in (name, out, check)) > 1:
        raise Oops("Say a NAME, --out or --check: one of them.", ExitCode.INVALID)
    if out is not None:
        _write(out)
    elif check is not None:
        _check(check, as_json=as_json)
    elif name is not None:
        _print(name)
    else:
        _list(as_json=as_json)


def _list(*, as_json: bool) -> None:
    rows = [_row(kind) for kind in kinds(published_topics())]
    if as_json:
        print_json(rows)
    else:
        print_table("Records", rows, "There are no records.")


def _row(kind: Kind) -> dict[str, Any]:
    topics = ", ".join(kind.topics).replace("{department}", "‹department›")
    return {"type": kind.name, "topics": topics, "for": FOR[kind.direction], "record": kind.model.__name__}


def _print(name: str) -> None:
    if name == "asyncapi":
        print(files.contracts()[files.ASYNCAPI], end="")
        return
    found = [kind for kind in kinds(published_topics()) if name in (kind.name, *_topics(kind))]
    if not found:
        raise Oops(f"There is no record and no topic {name}: see `rapid schema`.", ExitCode.NOT_FOUND)
    schemas = [schema_of(kind) for kind in found]
    print_json(schemas[0] if len(schemas) == 1 else schemas)


def _topics(kind: Kind) -> list[str]:
    return [*kind.topics, *(topic.replace("{department}", "‹department›") for topic in kind.topics)]


def _write(folder: Path) -> None:
    try:
        changed = files.write(folder)
    except OSError as error:
        raise Oops(f"{folder} cannot be written ({error.strerror}).", ExitCode.INVALID) from error
    total = len(files.contracts())
    print(f"{folder}: {total} files, {len(changed)} of them changed.")


def _check(folder: Path, *, as_json: bool) -> None:
    """Ends with FAILED when something drifted or breaks."""
    if not folder.is_dir():
        raise Oops(f"{folder} is no folder: write the contracts with --out {folder}.", ExitCode.INVALID)
    drifted = files.drift(folder)
    try:
        broken = files.broken(folder)
    except (OSError, json.JSONDecodeError) as error:
        raise Oops(
            f"{folder / files.RELEASED} cannot be read as JSON ({error}).", ExitCode.INVALID
        ) from error
    if as_json:
        print_json({"drifted": drifted, "broken": broken})
    else:
        for path in drifted:
            print(f"{path}: not as it would be written")
        for name, what in broken.items():
            print(f"{name} breaks who knows the last release:")
            print("\n".join(f"  {one}" for one in what))
    if drifted or broken:
        raise Oops(_what_to_do(folder, drifted, broken), ExitCode.FAILED)
    if not as_json:
        print(f"{folder} is what the code says, and breaks nobody who knows the last release.")


def _what_to_do(folder: Path, drifted: list[str], broken: dict[str, list[str]]) -> str:
    what = [f"write them again with `rapid schema --out {folder}`"] if drifted else []
    what += ["make it a new major version, or undo it"] if broken else []
    return f"{len(drifted)} files drifted, {len(broken)} records break: {'; '.join(what)}."
