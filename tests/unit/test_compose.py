"""docker-compose.yml, Dockerfile and Makefile call commands that exist, with settings that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from infra.cli.main import COMMANDS, load
from infra.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
SETTINGS = {PREFIX + name.upper() for name in Settings.model_fields}
COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}


def _calls(file: str) -> list[list[str]]:
    """The words after `rapid` in a Makefile's recipes."""
    return [
        call.split(" --")[0].split()
        for call in re.findall(r"/rapid ([a-z -]+[a-z])", (ROOT / file).read_text())
    ]


def _exists(words: list[str]) -> bool:
    entry = next((entry for entry in COMMANDS if entry.name == words[0]), None)
    command = load(entry) if entry else None
    for word in words[1:]:
        command = getattr(command, "commands", {}).get(word)
    return command is not None


@pytest.mark.parametrize("service", OURS)
def test_each_service_runs_a_command_that_exists(service: str) -> None:
    assert _exists(OURS[service]["command"])


@pytest.mark.parametrize("words", _calls("Makefile"), ids=" ".join)
def test_each_make_target_runs_a_command_that_exists(words: list[str]) -> None:
    assert _exists(words)


@pytest.mark.parametrize("file", ["docker-compose.yml", "Dockerfile"])
def test_each_variable_is_a_setting(file: str) -> None:
    named = set(re.findall(r"\bRAPID_\w+", (ROOT / file).read_text()))
    assert named - SETTINGS == set()


def test_every_service_says_when_it_is_ready_or_runs_after_those_that_do() -> None:
    for service in COMPOSE["services"].values():
        assert "healthcheck" in service or service["depends_on"]


def test_a_worker_has_more_time_to_stop_than_it_has_to_drain() -> None:
    grace_s = int(COMPOSE["services"]["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > Settings.model_fields["drain_timeout_s"].default


def test_nothing_is_open_to_other_machines() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_password_but_the_local_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert set(re.findall(r"(?:PASSWORD: |rapid:)(\$\{[^}]*\}|\w+)", text)) == {
        "${POSTGRES_PASSWORD:-rapid}", "${GRAFANA_PASSWORD:-rapid}",
    }  # fmt: skip
