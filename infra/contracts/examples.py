"""One message of each kind: by hand for those that departments and sources see, of the schema alone for the others."""

from typing import Any, Final

from infra.contracts.records import JsonSchema, Kind

AT: Final = "2026-07-04T22:40:00Z"
TEXTS: Final = {  # by the pattern that they must fit
    r"^[a-z0-9][a-z0-9_-]*$": "street_light",
    r"^[^\x00-\x1f\x7f|]+$": "JK200001",
    r"^[^\x00]*$": "4000 W WEST END AVE",
    r"^WO-[0-9A-HJKMNP-TV-Z]{5}-[0-9A-HJKMNP-TV-Z]{5}$": "WO-4T7QK-2M9XB",
    r"^https://[^\s\x00-\x1f\"<>]+$": "https://photos.example.org/1.jpg",
}
FORMATS: Final = {
    "date-time": AT, "date": "2026-07-05", "uuid": "8f6f3c1e-6f0a-5f52-9d0e-6a3f1f7b2c11", "base64": "e30=",
    "base64url": "e30=", "binary": "{}", "duration": "PT1H",
}  # fmt: skip
BY_HAND: Final[dict[str, dict[str, Any]]] = {
    "rapid.incident-report.v1": {
        "source": "cad", "report_id": "JK200001-1", "incident_number": "JK200001",
        "occurred_at": "2026-07-04T22:40:00-05:00", "revised_at": "2026-07-04T22:52:00-05:00", "event": "assault",
        "gunshot_injury": True, "block": "4000 W WEST END AVE", "point": {"lat": 41.8837, "lon": -87.7262},
    },
    "rapid.issue-report.v1": {
        "source": "311", "request_number": "SR26-00000001", "category": "street_light", "status": "open",
        "created_at": "2026-07-02T09:00:00-05:00", "revised_at": "2026-07-02T09:00:00-05:00",
        "address": "4015 W WEST END AVE", "point": {"lat": 41.8836, "lon": -87.727},
    },
    "rapid.work-order-update.v1": {
        "update_id": "crew 7 2026-07-06 1", "reference": "WO-4T7QK-2M9XB", "verb": "resolve",
        "at": "2026-07-06T10:15:00-05:00", "outcome": "fixed", "text": "Two lamps changed.",
    },
    "rapid.department-work-order.v1": {
        "reference": "WO-4T7QK-2M9XB", "version": 1, "state": "new", "category": "street_light", "work": "fix",
        "title": "Fix street light", "address": "4015 W WEST END AVE", "point": {"lat": 41.8836, "lon": -87.727},
        "area": 26, "priority": "high", "requested_on": "2026-07-05", "outcome": None, "hold_reason": None,
        "crew": None, "estimate": None, "service_requests": ["SR26-00000001"],
        "promises": [
            {"clock": "acknowledge", "due_at": "2026-07-06T15:00:00Z", "on_hold": False, "result": None},
            {"clock": "resolve", "due_at": "2026-07-09T20:00:00Z", "on_hold": False, "result": None},
        ],
        "simulated": False,
    },
    "rapid.work-order-update-result.v1": {
        "update_id": "crew 7 2026-07-06 1", "reference": "WO-4T7QK-2M9XB", "verdict": "accepted", "rule": "resolve",
        "because": "The work is done.", "state": "resolved", "version": 3,
    },
}  # fmt: skip


def example_of(kind: Kind, schema: JsonSchema) -> Any:
    """A message of this kind. Raises LookupError for a pattern that nobody has given a text for."""
    return BY_HAND.get(kind.name) or made_of(schema, schema)


def made_of(schema: JsonSchema, root: JsonSchema) -> Any:
    """The plainest value that fits: every member that has to be there, the first of several choices."""
    if "$ref" in schema:
        return made_of(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return made_of(schema[several][0], root)
    return _of_type(schema, root)


def _of_type(schema: JsonSchema, root: JsonSchema) -> Any:
    match schema.get("type"):
        case "object":
            members: JsonSchema = schema.get("properties", {})
            wanted = [name for name in members if name in schema.get("required", ())]
            return {name: made_of(members[name], root) for name in wanted}
        case "array":
            return _items(schema, root)
        case "integer" | "number" as kind:
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return _string(schema)


def _items(schema: JsonSchema, root: JsonSchema) -> list[Any]:
    if "prefixItems" in schema:
        return [made_of(one, root) for one in schema["prefixItems"]]
    return [made_of(schema["items"], root) for _ in range(schema.get("minItems", 0))]


def _number(schema: JsonSchema, *, whole: bool) -> float:
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + ("exclusiveMinimum" in schema))
    at = max(1, least) if schema.get("maximum", 1) >= 1 else schema["maximum"]
    return int(at) if whole else float(at)


def _string(schema: JsonSchema) -> str:
    if "format" in schema:
        return FORMATS[schema["format"]]
    text = TEXTS[schema["pattern"]] if "pattern" in schema else "words"
    return text[: schema.get("maxLength", len(text))]
