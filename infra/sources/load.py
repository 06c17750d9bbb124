"""Mapping files: a folder of them, each validated as a whole at load. One that is wrong does not stop the others."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
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
from infra.sources.sound import never_read, readable_part, right_fields
from schemas.expected import MOST_TOLD
from schemas.policy import Policy

SUFFIXES: Final = (".yaml", ".yml")


class MappingErrors(Exception):
    """Everything that is wrong with a mapping file. `names`: the code of the source, if it can be read."""

    def __init__(self, path: Path, errors: list[PolicyError], names: str | None = None) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.path = path
        self.errors = errors
        self.names = names

    @property
    def source(self) -> str:
        """The source that is meant, as far as one can tell."""
        return self.names or self.path.stem[:200]

    @property
    def sentence(self) -> str:
        """The errors, as many as one can take in, for where a list does not fit; then how to see the others."""
        told = [str(error).rstrip(".") for error in self.errors]
        more = len(told) - MOST_TOLD
        rest = [f"and {more} more: `rapid sources check {self.path}` tells all"] if more > 0 else []
        return "; ".join(told[:MOST_TOLD] + rest) + "."


class Sources(NamedTuple):
    """The mappings of a folder by the source's code, and those that are wrong, by the file's name without suffix.
    `files`: the names of the right ones, by the source."""

    right: dict[str, SourceMapping]
    wrong: dict[str, MappingErrors]
    files: Mapping[str, str] = MappingProxyType({})


def load_sources(folder: Path | None, policy: Policy) -> Sources:
    """All mapping files of a folder; none without a folder."""
    right: dict[str, SourceMapping] = {}
    wrong: dict[str, MappingErrors] = {}
    named: dict[str, Path] = {}
    for path in _files(folder, wrong):
        found = _mapping_or_errors(path, policy)
        if isinstance(found, MappingErrors):
            wrong[path.stem] = found
        elif found.source in right:
            wrong[path.stem] = MappingErrors(
                path, [_twice(path, named[found.source], found.source)], found.source
            )
        else:
            right[found.source], named[found.source] = found, path
    for name, errors in wrong.items():
        first = named.get(errors.names or "")
        if first is not None and all(one.key != "source" for one in errors.errors):
            twice = _twice(errors.path, first, errors.source)
            wrong[name] = MappingErrors(errors.path, [twice, *errors.errors], errors.source)
    return Sources(right, wrong, {source: path.stem for source, path in named.items()})


def _twice(path: Path, first: Path, source: str) -> PolicyError:
    return PolicyError(path.name, 1, "source", f"{source!r} is also the source of {first.name}")


def _mapping_or_errors(path: Path, policy: Policy) -> SourceMapping | MappingErrors:
    try:
        return load_mapping(path, policy)
    except MappingErrors as errors:
        return errors


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
    categories = frozenset(one.code for one in policy.categories)
    told = [document.error(one.keys, one.message) for one in checks.wrong(document.data, categories)]
    errors = _once(document.errors, shape_errors(document, MappingFile), told)
    errors = _once(errors, _sample_errors(document, errors, sample or _sample_path(path, document)))
    if errors:
        raise MappingErrors(path, errors, _code_of(document, errors))
    return compiled(MappingFile.model_validate(document.data))


def _code_of(document: Document, errors: Sequence[PolicyError]) -> str | None:
    """The source's code, where it is one."""
    return None if any(one.key == "source" for one in errors) else document.get("source")


def _reworded(error: PolicyError) -> PolicyError:
    """The reader speaks of policies."""
    return error._replace(
        message=error.message.replace("; a policy needs this file", "; expected a mapping file")
    )


def _once(*rounds: Iterable[PolicyError]) -> list[PolicyError]:
    """By line. Of a value that a round finds wrong the later ones, which would follow from it, say nothing."""
    told: list[PolicyError] = []
    for one in rounds:
        known = {(error.line, error.key) for error in told}
        told += [error for error in dict.fromkeys(one) if (error.line, error.key) not in known]
    return sorted(told, key=lambda error: (error.line or 0, error.key))


def _write_out(document: Document) -> None:
    """`field: Column` is short for `field: {column: Column}`."""
    fields = document.get("fields")
    if isinstance(fields, dict):
        for name, rule in fields.items():
            if isinstance(rule, str):
                fields[name] = {"column": rule}


def _sample_path(path: Path, document: Document) -> Path | None:
    named = document.get("sample")
    return path.parent / named if isinstance(named, str) and named else None


def _sample_errors(document: Document, errors: Sequence[PolicyError], path: Path | None) -> list[PolicyError]:
    """What the sample shows to be wrong, by as much of the mapping as is right."""
    wrong = {error.key for error in errors}
    file = None if path is None or "sample" in wrong else readable_part(document, wrong)
    if path is None or file is None:
        return []
    try:
        sample = sample_of(path, file)
    except FileProblem as problem:
        guessed = "format" in wrong and path.is_file()
        return [] if guessed else [document.error(("sample",), str(problem).rstrip("."))]
    found = checks.missing_columns(file.needed, has_column(file, sample), _keys_of(file), sample.columns)
    told = [document.error(one.keys, one.message) for one in found]
    if wrong or told:  # of a mapping that is right, every row says by itself what becomes of it
        mapping = right_fields(document, file, wrong | {error.key for error in told})
        told += [document.error(one.keys, one.message) for one in never_read(mapping, sample)]
    return told


def has_column(file: MappingFile, sample: Sample) -> Callable[[str], bool]:
    """Whether a column is in the sample at all."""
    if file.format == "csv":
        names = {normalise(name) for name in sample.columns}
        return lambda column: normalise(column) in names
    return lambda column: any(at(one.item, parts_of(column)) is not None for one in sample.items)


def _keys_of(file: MappingFile) -> Callable[[str], tuple[str | int, ...]]:
    places: dict[str, tuple[str | int, ...]] = {}
    for name, rule in file.fields.items():
        for key in ("column", "or_column", "lat", "lon", "lat_lon", "geojson"):
            column = getattr(rule, key)
            if column is not None:
                places.setdefault(column, ("fields", name, key))
    return lambda column: places[column]


def as_rows(errors: MappingErrors) -> list[dict[str, Any]]:
    """The errors for `--json`."""
    return [error._asdict() for error in errors.errors]
