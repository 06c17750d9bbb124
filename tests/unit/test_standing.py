"""What `rapid status` says in a sentence of its own."""

import pytest

from infra.standing import of_channels


@pytest.mark.parametrize(
    ("dead", "said"),
    [
        ([], None),
        (["duty"], "over duty: see `rapid notify channels`"),
        (list("gfedcba"), "over a, b, c, d, e and 2 more: see"),
    ],
)
def test_dead_channels_are_one_sentence(dead: list[str], said: str | None) -> None:
    sentences = of_channels(dead)
    assert len(sentences) == (said is not None)
    assert all(said in one for one in sentences if said)
