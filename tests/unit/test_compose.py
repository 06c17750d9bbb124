"""docker-compose.yml, Dockerfile and Makefile call commands that exist, with settings that exist."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from infra.cli.errors import ExitCode
from infra.cli.main import COMMANDS, load
from infra.embedded.broker import free_port
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


def _filled_in(text: str) -> str:
    """As compose does where nothing is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.mark.slow
@pytest.mark.parametrize("service", OURS)
def test_each_service_runs_by_hand_with_its_variables_and_says_what_it_waits_for(
    service: str, tmp_path: Path
) -> None:
    """Outside of the containers' network nobody answers: it goes on waiting, or ends with a sentence. None is ended by
    a setting or an argument."""
    env = {name: _filled_in(str(value)) for name, value in OURS[service]["environment"].items()}
    mappings = _filled_in(COMPOSE["x-mappings"]).partition(":")[0]
    env |= {
        "RAPID_BROKERS": "127.0.0.1:1", "RAPID_DATABASE_URL": "postgresql://rapid@127.0.0.1:1/rapid",
        "RAPID_HOME": str(tmp_path), "RAPID_WATCH_PORT": "0", "RAPID_HTTP_PORT": str(free_port()),
        "PATH": os.environ["PATH"],
    } | ({"RAPID_SOURCES": str(ROOT / mappings)} if "RAPID_SOURCES" in env else {})  # fmt: skip
    command = [sys.executable, "-P", "-m", "infra.cli.main", *OURS[service]["command"]]
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=8, check=False, cwd=tmp_path
        )
    except subprocess.TimeoutExpired as waits:
        told = (waits.stderr or b"").decode() + (waits.stdout or b"").decode()
    else:
        told = done.stderr
        assert done.returncode == ExitCode.UNREACHABLE, told
    assert "Traceback" not in told


def test_each_setting_that_takes_something_in_has_a_service() -> None:
    commands = [tuple(service["command"]) for service in OURS.values()]
    assert {("ingest", "portal"), ("ingest", "folder")} <= set(commands)
    assert all("profiles" in OURS[name] for name in ("portal", "folder"))  # the city is asked only on request


def test_volumes_are_declared_and_what_is_mounted_is_there() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = _filled_in(volume).partition(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


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
