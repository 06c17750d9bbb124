"""Mapping files: a folder of them, each validated as a whole at load. One that is wrong does not stop the others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from connectors.files.errors import FileProblem
from connectors.files.rows import normalise
from connectors.mapping import checks
from connectors.mapping.columns import at, parts_of
from connectors.mapping.items import Sample, sample_of
from connectors.mapping.mapping import SourceMapping, compiled
from connectors.mapping.spec import MappingFile
from infra.policy.document import Document, PolicyError, read_document
from infra.policy.files import shape_errors
from schemas.policy import Policy

SUFFIXES: Final = (".yaml", ".yml")


class MappingErrors(Exception):
    """Everything that is wrong with a mapping file."""

    def __init__(self, path: Path, errors: list[PolicyError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.path = path
        self.errors = errors

    @property
    def sentence(self) -> str:
        """The first error and how many more there are, for where only a sentence fits."""
        more = len(self.errors) - 1
        first = str(self.errors[0]).rstrip(".")
        return f"{first} (and {more} more)." if more else f"{first}."


class Sources(NamedTuple):
    """The mappings of a folder by the source's code, and those that are wrong, by the file's name without suffix."""

    right: dict[str, SourceMapping]
    wrong: dict[str, MappingErrors]


def load_sources(folder: Path | None, policy: Policy) -> Sources:
    """All mapping files of a folder; none without a folder."""
    right: dict[str, SourceMapping] = {}
    wrong: dict[str, MappingErrors] = {}
    named: dict[str, Path] = {}
    for path in _files(folder, wrong):
        try:
            mapping = load_mapping(path, policy)
        except MappingErrors as errors:
            wrong[path.stem] = errors
            continue
        first = named.setdefault(mapping.source, path)
        if first != path:
            error = PolicyError(
                path.name, 1, "source", f"{mapping.source!r} is also the source of {first.name}"
            )
            wrong[path.stem] = MappingErrors(path, [error])
        else:
            right[mapping.source] = mapping
    return Sources(right, wrong)


def _files(folder: Path | None, wrong: dict[str, MappingErrors]) -> list[Path]:
    if folder is None:
        return []
    try:
        return sorted(
            one for one in folder.iterdir() if one.suffix in SUFFIXES and not one.name.startswith(".")
        )
    except OSError as error:
        said = (
            f"cannot be read: {error.strerror or error}; expected a folder with mapping files (RAPID_SOURCES)"
        )
        wrong[folder.name] = MappingErrors(folder, [PolicyError(str(folder), None, "", said)])
        return []


def load_mapping(path: Path, policy: Policy, sample: Path | None = None) -> SourceMapping:
    """One mapping file. `sample`: checked instead of the one that the file names. Raises MappingErrors with everything
    that is wrong."""
    document = read_document(path)
    if document.data is None:
        raise MappingErrors(path, [_reworded(error) for error in document.errors])
    _write_out(document)
    errors = [*document.errors, *shape_errors(document, MappingFile)]
    categories = frozenset(one.code for one in policy.categories)
    errors += [document.error(one.keys, one.message) for one in checks.wrong(document.data, categories)]
    if not errors:
        file = MappingFile.model_validate(document.data)
        errors += _sample_errors(document, compiled(file), sample or _sample_path(path, file))
    if errors:
        raise MappingErrors(path, _once(errors))
    return compiled(MappingFile.model_validate(document.data))


def _reworded(error: PolicyError) -> PolicyError:
    """The reader speaks of policies."""
    return error._replace(
        message=error.message.replace("; a policy needs this file", "; expected a mapping file")
    )


def _once(errors: list[PolicyError]) -> list[PolicyError]:
    """By line; a value that could not be read is not told twice."""
    told: dict[tuple[int | None, str], PolicyError] = {}
    for error in errors:
        told.setdefault((error.line, error.key), error)
    return sorted(told.values(), key=lambda error: (error.line or 0, error.key))


def _write_out(document: Document) -> None:
    """`field: Column` is short for `field: {column: Column}`."""
    fields = document.get("fields")
    if isinstance(fields, dict):
        for name, rule in fields.items():
            if isinstance(rule, str):
                fields[name] = {"column": rule}


def _sample_path(path: Path, file: MappingFile) -> Path | None:
    return path.parent / file.sample if file.sample else None


def _sample_errors(document: Document, mapping: SourceMapping, path: Path | None) -> list[PolicyError]:
    """Columns that the sample never has."""
    if path is None:
        return []
    try:
        sample = sample_of(path, mapping.file)
    except FileProblem as problem:
        return [document.error(("sample",), str(problem).rstrip("."))]
    keys = _keys_of(mapping)
    found = checks.missing_columns(mapping.needed, has_column(mapping, sample), keys, sample.columns)
    return [document.error(one.keys, one.message) for one in found]


def has_column(mapping: SourceMapping, sample: Sample) -> Callable[[str], bool]:
    """Whether a column is in the sample at all."""
    if mapping.file.format == "csv":
        names = {normalise(name) for name in sample.columns}
        return lambda column: normalise(column) in names
    return lambda column: any(at(one.item, parts_of(column)) is not None for one in sample.items)


def _keys_of(mapping: SourceMapping) -> Callable[[str], tuple[str | int, ...]]:
    places: dict[str, tuple[str | int, ...]] = {}
    for name, rule in mapping.file.fields.items():
        for key in ("column", "or_column", "lat", "lon", "lat_lon", "geojson"):
            column = getattr(rule, key)
            if column is not None:
                places.setdefault(column, ("fields", name, key))
    return lambda column: places[column]


def as_rows(errors: MappingErrors) -> list[dict[str, Any]]:
    """The errors for `--json`."""
    return [error._asdict() for error in errors.errors]
