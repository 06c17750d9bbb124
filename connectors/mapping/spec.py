"""The shape of a mapping file: how a foreign file or JSON body becomes our reports."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from schemas.base import Code, Record, ShortText

Format = Literal["csv", "json", "jsonl"]
Otherwise = Literal["refuse", "skip", "empty", "keep"]
"""What an unknown value means: the row is refused, or not about our subject, or the field stays empty, or the value is
taken as it is."""

ISO: Final = "iso"
EPOCH_S: Final = "epoch_s"
EPOCH_MS: Final = "epoch_ms"

Column = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A column of CSV, a member of a JSON object, or a JSON pointer (RFC 6901) that begins with `/`."""


class Rule(Record):
    """Where one field comes from. A text in the file is short for `column`."""

    column: Column | None = None
    or_column: Column | None = None  # read when the first is blank
    value: Any = None  # the same for every row
    table: dict[str, Any] | None = None  # their value -> ours
    otherwise: Otherwise = "refuse"
    otherwise_value: Any = None
    prefix: Annotated[str, Field(min_length=1, max_length=20)] | None = None
    format: ShortText | None = None
    lat: Column | None = None
    lon: Column | None = None
    lat_lon: Column | None = None
    geojson: Column | None = None
    optional: bool = False  # the source may do without these columns

    @property
    def columns(self) -> tuple[str, ...]:
        """All that is read for it."""
        named = (self.column, self.or_column, self.lat, self.lon, self.lat_lon, self.geojson)
        return tuple(one for one in named if one is not None)

    def gives(self, key: str) -> bool:
        """Whether the file says so; `value: null` is said, too."""
        return key in self.model_fields_set


class Times(Record):
    """How times are written. Without a zone each has to name its offset."""

    zone: ShortText | None = None
    format: ShortText = ISO


class MappingFile(Record):
    """A mapping file."""

    source: Code
    report: Literal["incident", "issue"]
    format: Format
    items: Annotated[str, Field(max_length=200)] = ""  # JSON pointer to the list; "": the document itself
    delimiter: Literal[",", ";", "\t", "|"] = ","
    times: Times = Times()
    sample: ShortText | None = None  # a file beside the mapping, to check the columns against
    fields: dict[str, Rule]

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns without which nothing of the source can be right."""
        rules = self.fields.values()
        return tuple(dict.fromkeys(one for rule in rules if not rule.optional for one in rule.columns))
