"""The settings of who may enter."""

import pytest
from pydantic import ValidationError

from connectors.access.errors import Unauthenticated
from infra.access import authenticator
from infra.settings import Settings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"RAPID_{name.upper()}", raising=False)


def made(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name, value in values.items():
        monkeypatch.setenv(f"RAPID_{name.upper()}", value)
    return Settings(_env_file=None)


@pytest.mark.parametrize(
    "issuer",
    ["http://login.city.example", "http://localhost.evil.example", "http://127.0.0.1@evil.example", "ftp://x", "x",
     "https://", "https://a b"],
)  # fmt: skip
def test_an_issuer_without_tls_is_refused_but_for_one_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, issuer: str
) -> None:
    with pytest.raises(ValidationError):
        made(monkeypatch, oidc_issuer=issuer, oidc_audience="rapid")


@pytest.mark.parametrize(
    "issuer", ["https://login.city.example/realms/staff", "http://localhost:9400", "http://127.0.0.1/x"]
)
def test_an_issuer_can_be_named(monkeypatch: pytest.MonkeyPatch, issuer: str) -> None:
    assert made(monkeypatch, oidc_issuer=issuer, oidc_audience="rapid").oidc_issuer == issuer


def test_an_issuer_without_an_audience_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="RAPID_OIDC_AUDIENCE"):
        made(monkeypatch, oidc_issuer="https://login.city.example")


async def test_tokens_are_looked_at_when_an_issuer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = None  # nothing here reaches the database
    with pytest.raises(Unauthenticated, match="no identity provider is configured"):
        await authenticator(made(monkeypatch), pool, bool)("Bearer a.b.c")
    settings = made(monkeypatch, oidc_issuer="https://login.city.example", oidc_audience="rapid")
    with pytest.raises(Unauthenticated, match="neither an API key nor a token"):
        await authenticator(settings, pool, bool)("Bearer a.b.c")
