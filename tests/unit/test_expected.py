"""What pydantic finds wrong is told in the words of the house, and never with what was sent."""

from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AfterValidator, AnyUrl, BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from schemas.base import Code, Instant, NaturalKey, Point, ShortText
from schemas.expected import MOST_TOLD, expectation, said, together
from schemas.incident import IncidentReport

SENT = "s3cret"


def refuse(_: str) -> str:
    raise ValueError("a word that is in the dictionary")


REFUSED: list[tuple[Any, Any, str]] = [
    (int, SENT, "a whole number"),
    (int, 1.5, "a whole number"),
    (float, SENT, "a number"),
    (Annotated[float, Field(allow_inf_nan=False)], float("nan"), "a finite number"),
    (bool, SENT, "true or false"),
    (str, 5, "text"),
    (Annotated[int, Field(ge=1)], 0, "at least 1"),
    (Annotated[int, Field(le=4)], 5, "at most 4"),
    (Annotated[int, Field(gt=1)], 1, "more than 1"),
    (Annotated[int, Field(lt=4)], 4, "less than 4"),
    (Literal["a", "b"], SENT, "'a' or 'b'"),
    (ShortText, "", "text that is not empty"),
    (Annotated[str, Field(min_length=3)], "ab", "text of at least 3 characters"),
    (ShortText, SENT * 40, "text of at most 200 characters"),
    (ShortText, "\0", "text without NUL characters"),
    (Code, "S3 CRET", "small letters, digits, - and _, such as cpd-311"),
    (NaturalKey, "s3|cret", "printable text without |"),
    (Annotated[str, Field(pattern="^x$")], SENT, "text that matches ^x$"),
    (Instant, SENT, "a time with an offset, such as 2026-07-04T22:40:00-05:00"),
    (Instant, "2026-07-04T22:40:00", "a time with an offset, such as 2026-07-04T22:40:00-05:00"),
    (date, SENT, "a date such as 2026-01-31"),
    (UUID, SENT, "a UUID"),
    (AnyUrl, SENT, "a URL"),
    (list[int], SENT, "a list"),
    (Annotated[list[int], Field(max_length=1)], [1, 2], "at most 1 of them"),
    (dict[str, int], SENT, "an object"),
    (Point, SENT, "an object"),
    (Annotated[str, AfterValidator(refuse)], SENT, "a value that this field allows"),
    (type[BaseModel], SENT, "a value that this field allows"),
]


def wrong(kind: Any, value: Any) -> ErrorDetails:
    with pytest.raises(ValidationError) as found:
        TypeAdapter(kind).validate_python(value)
    return found.value.errors()[0]


@pytest.mark.parametrize(("kind", "value", "words"), REFUSED)
def test_what_was_expected_is_told_without_what_was_sent(kind: Any, value: Any, words: str) -> None:
    assert expectation(wrong(kind, value)) == words
    assert SENT not in said(wrong(kind, value))


def test_a_check_of_ours_says_it_in_its_own_words() -> None:
    error = wrong(Annotated[str, AfterValidator(refuse)], SENT)
    assert said(error) == "a word that is in the dictionary"


def test_every_field_of_a_report_that_is_wrong_has_words_of_its_own() -> None:
    with pytest.raises(ValidationError) as found:
        IncidentReport.model_validate({name: object() for name in IncidentReport.model_fields})
    words = {str(one["loc"][0]): expectation(one) for one in found.value.errors()}
    assert words.keys() == IncidentReport.model_fields.keys()
    assert not [one for one in words.values() if "Input" in one or "should" in one or "String" in one]


def test_several_are_told_each_once_and_no_more_than_one_can_take_in() -> None:
    assert together(["a", "b", "a"]) == "a; b"
    many = [str(number) for number in range(MOST_TOLD + 2)]
    assert together(many) == "0; 1; 2; 3; 4; and 2 more, told when these are mended"
