"""What strangers send as credentials, and which roles go together."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from connectors.access.authenticate import MISSING, ODD, bearer
from connectors.access.errors import Unauthenticated
from connectors.access.key import PATTERN, ApiKey, fits, new_key, new_secret, parse
from connectors.access.principal import ROLES
from connectors.access.roles import Granted, Misfit, granted, of_claim
from connectors.postgres.audit import Head


def test_a_new_key_has_256_bits_and_is_recognized() -> None:
    key = new_key()
    assert len(bytes.fromhex(key.secret)) * 8 == 256
    assert re.search(PATTERN, f'curl -H "Authorization: Bearer {key.text}" …')
    assert parse(key.text) == key
    assert new_key() != new_key()
    assert new_secret(key.key_id).key_id == key.key_id


@given(some.text() | some.text("rapid_0123456789abcdef", max_size=100).map("rapid_".__add__))
def test_a_text_is_a_key_or_is_not_and_never_an_error(text: str) -> None:
    key = parse(text)
    assert key is None or key.text == text


@pytest.mark.parametrize(
    "changed",
    [
        lambda text: text.upper(), lambda text: text[:-1], lambda text: text + "0", lambda text: text + "\n",
        lambda text: text.replace("_", "-"), lambda text: text.replace("rapid_", ""), lambda text: " " + text,
        lambda text: text[:-1] + "\N{ARABIC-INDIC DIGIT ONE}",
    ],
)  # fmt: skip
def test_what_is_only_nearly_a_key_is_none(changed: Any) -> None:
    key = ApiKey("0123456789ab", "cd" * 32)
    assert parse(key.text) == key
    assert parse(changed(key.text)) is None


def test_a_secret_fits_its_own_digest_only() -> None:
    key, other = new_key(), new_key()
    assert fits(key, [key.digest])
    assert fits(key, [None, other.digest, key.digest])
    assert not fits(key, [other.digest, None])
    assert not fits(key, [])
    assert key.secret not in f"{key!r} {key}"


@pytest.mark.parametrize(
    ("header", "text"),
    [("Bearer abc", "abc"), ("bearer abc", "abc"), ("  BEARER   a.b-c_d~e+f/g==  ", "a.b-c_d~e+f/g==")],
)
def test_the_credential_of_a_header(header: str, text: str) -> None:
    assert bearer(header) == text


@pytest.mark.parametrize("header", [None, "", "   "])
def test_without_a_credential_none_is_called_wrong(header: str | None) -> None:
    with pytest.raises(Unauthenticated, match=MISSING) as refused:
        bearer(header)
    assert refused.value.challenge == 'Bearer realm="rapid-response"'


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Basic abc",
        "abc",
        "Bearer a b",
        "Bearer a\tb",
        "Bearer ü",
        "Bearer " + "x" * 16_385,
    ],
)
def test_an_odd_header_is_refused_with_a_challenge(header: str) -> None:
    with pytest.raises(Unauthenticated, match=re.escape(ODD)) as refused:
        bearer(header)
    assert 'error="invalid_token"' in refused.value.challenge


@given(some.text())
def test_any_header_gives_a_credential_or_a_sentence(header: str) -> None:
    text = _or_sentence(bearer, header)
    assert text in {ODD, MISSING} or text in header


@given(some.text())
def test_a_challenge_is_always_a_legal_header(sentence: str) -> None:
    challenge = Unauthenticated(sentence).challenge
    assert challenge.isascii()
    assert challenge.isprintable()
    assert challenge.count('"') == 6
    assert "\\" not in challenge


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (["intake"], Granted(frozenset({"intake"}))),
        ("supervisor  admin", Granted(frozenset({"supervisor", "admin"}))),
        (["department:cdot"], Granted(frozenset({"department"}), "cdot")),
        (
            ["department:cdot", "department:cdot", "intake"],
            Granted(frozenset({"department", "intake"}), "cdot"),
        ),
        (["auditor", "uma_authorization", "Admin"], Granted(frozenset({"auditor"}))),
    ],
)
def test_roles_of_a_claim(claim: Any, expected: Granted) -> None:
    assert of_claim(claim) == expected


@pytest.mark.parametrize("claim", [None, 7, {}, [], "", ["department"], [None], "department:a department:b"])
def test_a_claim_without_roles_of_ours_gives_none(claim: Any) -> None:
    with pytest.raises(Misfit):
        of_claim(claim)


@given(
    some.recursive(
        some.none()
        | some.integers()
        | some.text()
        | some.sampled_from([*ROLES, "department:cdot", "department:"]),
        some.lists,
    )
)
def test_any_claim_gives_roles_or_a_sentence(claim: Any) -> None:
    found = _or_sentence(of_claim, claim)
    if isinstance(found, Granted):
        assert found.roles
        assert found.roles <= set(ROLES)
        assert ("department" in found.roles) == (found.department is not None)
    else:
        assert found.endswith(".")


def _or_sentence(read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except (Unauthenticated, Misfit) as refused:
        return str(refused)


@pytest.mark.parametrize("other", ["supervisor", "admin", "auditor"])
def test_a_department_never_holds_a_role_that_reads_of_incidents(other: Any) -> None:
    with pytest.raises(Misfit, match=f"cannot be {other} as well"):
        granted(["department", other], "cdot")


@pytest.mark.parametrize(("roles", "department"), [([], None), (["department"], None), (["intake"], "cdot")])
def test_a_department_and_its_role_belong_together(roles: Any, department: str | None) -> None:
    with pytest.raises(Misfit):
        granted(roles, department)


def test_a_head_is_read_back_as_it_was_written() -> None:
    head = Head(7, bytes(range(32)))
    assert Head.parse(f" {head}\n") == head


@pytest.mark.parametrize(
    "text", ["", "7", "7:", ":" + "0" * 64, "-1:" + "0" * 64, "7:" + "0" * 63, "7:" + "g" * 64, "²:" + "0" * 64,
             "7:" + "0 " * 32, "7:" + "00 " * 21 + "0", "9" * 30 + ":" + "0" * 64]
)  # fmt: skip
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a head is"):
        Head.parse(text)
