"""What of a wrong mapping file is right: enough to read its sample, so that what is wrong there is told at once too."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from connectors.files.errors import RowDefect
from connectors.mapping.checks import Wrong, meant_format, meant_schema, rule_of
from connectors.mapping.items import Sample
from connectors.mapping.mapping import Skipped, SourceMapping, compiled
from connectors.mapping.spec import MappingFile, Rule, Times
from infra.policy.document import Document

READ_BY: Final = ("column", "or_column", "lat", "lon", "lat_lon", "geojson", "optional")
_NOBODY: Final = "unknown"


def readable_part(document: Document, wrong: Collection[str]) -> MappingFile | None:
    """The file as far as it says which columns are read; None where it cannot be known how rows are told apart.
    `wrong`: the keys of what is wrong."""
    form, schema = meant_format(document.data), meant_schema(document.data)
    if form is None or schema is None or {"items", "delimiter"} & set(wrong):
        return None
    layout = {key: document.data[key] for key in ("items", "delimiter") if key in document.data}
    fields = {name: _columns_of(raw) for name, raw in (document.get("fields") or {}).items()}
    return MappingFile(source=_NOBODY, report=schema.name, format=form, fields=fields, **layout)


def _columns_of(raw: Any) -> Rule:
    read = rule_of(raw)
    kept = read.rule.model_dump(include=set(READ_BY)) if read else {}
    return Rule(**kept)


def right_fields(document: Document, part: MappingFile, wrong: Collection[str]) -> SourceMapping:
    """The fields about which nothing is wrong, ready to read rows with."""
    schema = meant_schema(document.data)
    assert schema is not None
    times = None if _spoilt("times", wrong) else Times.model_validate(document.get("times") or {})
    fields = {
        name: Rule.model_validate(raw)
        for name, raw in document.get("fields").items()
        if name in schema.targets and not _spoilt(f"fields.{name}", wrong)
        and (times is not None or schema.targets[name].kind != "time")
    }  # fmt: skip
    return compiled(part.model_copy(update={"fields": fields, "times": times or Times()}))


def _spoilt(key: str, wrong: Collection[str]) -> bool:
    return any(one == key or one.startswith(f"{key}.") for one in wrong)


def never_read(mapping: SourceMapping, sample: Sample) -> Iterator[Wrong]:
    """Fields that no row of a sample can fill."""
    items = [one.item for one in sample.items if one.item is not None]
    for part in mapping.parts:
        defect = _defect_of_all(part, items)
        if defect is not None:
            yield Wrong(
                ("fields", part.name), f"no row of the sample can fill it; expected {defect.expected}"
            )


def _defect_of_all(part: Any, items: Collection[Mapping[str, Any]]) -> RowDefect | None:
    last = None
    for item in items:
        try:
            part.read(item)
        except RowDefect as defect:
            last = defect
        except Skipped:
            return None
        else:
            return None
    return last
