"""Settings: bounds, sentences, and the page that lists them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from connectors.kafka.security import PLAINTEXT, Security
from infra.settings import Settings, as_environment, reference

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"RAPID_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_page_lists_every_setting_as_it_is() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == reference()


def test_every_setting_has_a_sentence() -> None:
    assert not [
        name
        for name, field in Settings.model_fields.items()
        if not (field.description or "").endswith((".", ")"))
    ]


def test_every_number_has_bounds() -> None:
    numbers = {
        name: field for name, field in Settings.model_fields.items() if field.annotation in (int, float)
    }
    bounds = {
        name: {limit for item in field.metadata for limit in ("ge", "le") if hasattr(item, limit)}
        for name, field in numbers.items()
    }
    assert bounds == {name: {"ge", "le"} for name in numbers}


def test_a_child_reads_the_settings_that_its_parent_hands_down(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = Settings().model_copy(
        update={"brokers": "a:1,b:2", "embedded": True, "home": Path("/srv/rapid")}
    )
    for name, value in as_environment(parent).items():
        monkeypatch.setenv(name, value)
    assert Settings().model_dump() == parent.model_dump()


def test_brokers_are_split_and_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAPID_BROKERS", " a:9092, b:9093 ")
    assert Settings().broker_list == ("a:9092", "b:9093")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAPID_BROKERS", "no-port"),
        ("RAPID_PARTITIONS", "0"),
        ("RAPID_WORKERS", "1000"),
        ("RAPID_HEARTBEAT_S", "9"),
        ("RAPID_REQUEST_TIMEOUT_S", "5"),
        ("RAPID_LOG_FORMAT", "xml"),
        ("RAPID_KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),  # without name and password
        ("RAPID_KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("RAPID_KAFKA_CA_FILE", "nowhere.pem"),
    ],
)
def test_what_cannot_work_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert "input_value" not in str(refused.value)


def test_the_database_url_is_not_in_the_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAPID_DATABASE_URL", "postgresql://me:secret@there/db")
    assert "secret" not in repr(Settings())


@pytest.fixture
def _login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAPID_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("RAPID_KAFKA_SASL_USERNAME", "me")
    monkeypatch.setenv("RAPID_KAFKA_SASL_PASSWORD", "secret")


@pytest.mark.usefixtures("_login")
def test_the_password_is_handed_down_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings()
    shown = (
        f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()} {settings.security!r}"
    )
    assert "secret" not in shown
    assert as_environment(settings)["RAPID_KAFKA_SASL_PASSWORD"] == "secret"
    assert settings.security == Security("SASL_SSL", "SCRAM-SHA-512", "me", "secret")


@pytest.mark.usefixtures("_login")
def test_the_embedded_broker_is_not_logged_in_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAPID_EMBEDDED", "true")
    assert Settings().security == PLAINTEXT


@pytest.mark.usefixtures("_login")
def test_certificates_that_are_none_are_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    monkeypatch.setenv("RAPID_KAFKA_CA_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(ValidationError, match="RAPID_KAFKA_CA_FILE must hold certificates in PEM form"):
        Settings()
