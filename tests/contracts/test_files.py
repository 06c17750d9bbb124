"""docs/contracts is what the code says, is valid by the standards' own schemas, and breaks nobody who knows the last
release."""

import json
import re
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest

from agents.topology import topology
from connectors.geography.areas import Areas
from infra.cli.schema import schema as command
from infra.contracts import files
from infra.contracts.asyncapi import HEADERS
from infra.contracts.records import Kind, kinds, published_topics, schema_of
from infra.dead_letters import WAKING
from schemas.policy import Policy
from schemas.topics import Topic
from tests.contracts.official import PACKAGE, official_schema
from tests.pipeline.stream import STORES
from tests.pipeline.test_bad_input import NOW

ROOT: Final = Path(__file__).parents[2]
CONTRACTS: Final = ROOT / "docs" / "contracts"
PAGE: Final = ROOT / "docs" / "contracts.md"
KINDS: Final = kinds(published_topics())


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CONTRACTS / files.ASYNCAPI).read_text())
    return found


def stored(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CONTRACTS / path).read_text())
    return found


def test_the_files_are_what_the_code_says() -> None:
    assert files.drift(CONTRACTS) == [], "run `make contracts`"


def test_nobody_who_knows_the_last_release_is_broken_by_accident() -> None:
    assert files.broken(CONTRACTS) == {}
    broken = files.all_broken(CONTRACTS)
    for name, sentences in files.on_purpose(CONTRACTS).items():
        assert set(sentences) <= set(broken.get(name, ())), "what is not broken any more needs no reason"
        assert all(sentences.values())


def test_a_break_is_found_in_the_files(tmp_path: Path) -> None:
    files.write(tmp_path)
    old = json.loads((tmp_path / "schemas/rapid.work-order-update.v1.json").read_text())
    old["properties"]["crew_size"] = {"type": "integer"}
    (tmp_path / "released/schemas").mkdir(parents=True)
    (tmp_path / "released/schemas/rapid.work-order-update.v1.json").write_text(json.dumps(old))
    (tmp_path / "released/schemas/rapid.gone.v1.json").write_text("{}")
    assert files.broken(tmp_path) == {
        "rapid.work-order-update.v1": ["writers: crew_size is refused now"],
        "rapid.gone.v1": ["readers: the record is gone"],
    }
    (tmp_path / "schemas/rapid.old.v1.json").write_text("{}")
    (tmp_path / files.ASYNCAPI).write_text("{}")
    assert files.drift(tmp_path) == ["asyncapi.json", "schemas/rapid.old.v1.json"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_schema_is_one_and_its_example_fits(kind: Kind) -> None:
    schema = stored(kind.file)
    jsonschema_rs.meta.validate(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    (example,) = document()["components"]["messages"][kind.name]["examples"]
    checked = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    assert [str(error) for error in checked.iter_errors(example["payload"])] == []
    kind.model.model_validate_json(json.dumps(example["payload"]))
    headers = jsonschema_rs.Draft202012Validator(stored(HEADERS), validate_formats=True)
    assert [str(error) for error in headers.iter_errors(example["headers"])] == []


def test_the_asyncapi_document_is_valid_by_its_makers_own_schema() -> None:
    official = official_schema()
    if official is None:
        pytest.skip(
            f"ASYNCAPI NOT VALIDATED: {PACKAGE} cannot be fetched (npm, and a network, are needed once)"
        )
    checked = jsonschema_rs.Draft7Validator(official)
    assert [str(error)[:500] for error in checked.iter_errors(document())] == []
    wrong = document() | {"channels": {"incidents": {"address": 5}}}
    assert not checked.is_valid(wrong)


def test_every_reference_leads_somewhere() -> None:
    whole = document()
    found = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(whole)))
    assert len(found) > 50
    for one in found:
        if one.startswith("#/"):
            at: Any = whole
            for part in one.removeprefix("#/").split("/"):
                at = at[part.replace("%7B", "{").replace("%7D", "}")]
        else:
            assert (CONTRACTS / one).is_file(), one


def test_every_topic_is_a_channel_with_who_writes_and_who_reads_it() -> None:
    whole, topics = document(), published_topics()
    assert list(whole["channels"]) == [topic.name for topic in topics]
    for topic in topics:
        binding = whole["channels"][topic.name]["bindings"]["kafka"]
        assert (binding["topic"], binding["partitions"]) == (topic.name, topic.partitions)
        kept = binding["topicConfiguration"]
        assert kept.get("retention.ms") == (None if topic.compacted else topic.retention_ms)
        assert roles(whole, topic, "send") == {one.replace(" {department}", "") for one in topic.writers}


def roles(whole: dict[str, Any], topic: Topic, action: str) -> set[str]:
    channel = f"#/channels/{topic.name.replace('{', '%7B').replace('}', '%7D')}"
    return {
        one["tags"][0]["name"]
        for one in whole["operations"].values()
        if one["action"] == action and one["channel"]["$ref"] == channel
    }


def test_departments_read_nothing_of_the_incident() -> None:
    """A schema that a department sees has no member that could tell, and its messages no correlation."""
    for kind in KINDS:
        if not any("{department}" in topic for topic in kind.topics):
            continue
        text = json.dumps(schema_of(kind)["properties"]) + json.dumps(schema_of(kind).get("$defs", {}))
        assert not re.search(r'"(incident|victim|severity|response_id)', text), kind.name
        assert "correlationId" not in document()["components"]["messages"][kind.name]


def test_the_page_has_an_example_of_each_record_that_a_department_or_a_source_sees() -> None:
    text = PAGE.read_text()
    blocks = {
        name: json.loads(body)
        for name, body in re.findall(r"<!-- (rapid\.[\w.-]+) -->\n```json\n(.*?)```", text, re.DOTALL)
    }
    seen = [
        one for one in KINDS if one.direction == "in" or any("{department}" in topic for topic in one.topics)
    ]
    assert sorted(blocks) == [kind.name for kind in seen]
    for kind in seen:
        jsonschema_rs.Draft202012Validator(schema_of(kind), validate_formats=True).validate(blocks[kind.name])
        kind.model.model_validate_json(json.dumps(blocks[kind.name]))


def test_topics_that_only_wake_their_reader_are_looked_at_as_the_agents_do(
    policy: Policy, areas: Areas
) -> None:
    bindings = topology(policy, areas, STORES, lambda: NOW)
    assert {one.topic.name for one in bindings if one.reads == "key"} == WAKING


def test_the_command_prints_what_the_files_hold(capsys: pytest.CaptureFixture[str]) -> None:
    command("asyncapi")
    assert json.loads(capsys.readouterr().out) == document()
    command("work-orders.‹department›")
    assert json.loads(capsys.readouterr().out) == stored("schemas/rapid.department-work-order.v1.json")
    command(as_json=True)
    assert [one["type"] for one in json.loads(capsys.readouterr().out)] == [kind.name for kind in KINDS]
