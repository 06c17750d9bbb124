"""What a request and its duplicates add up to."""

from itertools import permutations

from agents.intake.decide import decide_issue
from agents.intake.fold import IssueInputs
from schemas.issue import Issue, IssuePhase, IssueReport, issue_id_of
from tests.unit.made_up import FAR, NEAR, day, issue, request


def in_any_order(*reports: IssueReport, number: str = "SR1") -> Issue:
    """The fold, the same in all orders."""
    first, *others = [issue(*order, number=number) for order in permutations(reports)]
    assert others == [first] * len(others)
    return first


def test_one_request_is_one_issue() -> None:
    phase = IssuePhase(
        since=day(-2), status="open", created_at=day(-2), folded=False, category="street_light",
        address="4015 W WASHINGTON BLVD", published_area=26, published_area_name=None, point=NEAR,
    )  # fmt: skip
    assert issue(request()) == Issue(
        issue_id=issue_id_of("city_311", "SR1"), source="city_311", request_number="SR1", version=1,
        status="open", category="street_light", created_at=day(-2), closed_at=None, folded_into=None,
        covers=("SR1",), known_by="own_report", phases=(phase,), simulated=False,
    )  # fmt: skip


def test_the_newest_status_holds_and_the_open_time_is_kept() -> None:
    one = in_any_order(request(), request(revised_at=day(3), status="completed", closed_at=day(3)))
    assert (one.status, one.closed_at) == ("completed", day(3))
    assert [(phase.since, phase.status) for phase in one.phases] == [(day(-2), "open"), (day(3), "completed")]


def test_a_duplicate_is_folded_into_its_parent_which_stands_for_it() -> None:
    duplicate = request(request_number="SR2", parent_number="SR1", created_at=day(-1), revised_at=day(-1))
    parent, child = in_any_order(request(), duplicate), issue(duplicate, number="SR2")
    assert (parent.covers, parent.version, parent.folded_into) == (("SR1", "SR2"), 2, None)
    assert (child.folded_into, child.now.folded) == (parent.issue_id, True)


def test_a_parent_known_only_by_its_duplicates_is_an_issue_until_its_own_report_arrives() -> None:
    first = request(request_number="SR2", parent_number="SR1", created_at=day(-1), revised_at=day(-1))
    second = request(
        request_number="SR3", parent_number="SR1", created_at=day(0), revised_at=day(0), point=FAR
    )
    known = in_any_order(first, second)
    assert (known.known_by, known.created_at, known.now.point) == ("duplicates", day(-1), NEAR)
    assert known.covers == ("SR1", "SR2", "SR3")
    own = in_any_order(first, second, request(status="completed", category="graffiti", revised_at=day(2)))
    assert (own.known_by, own.status, own.category, own.created_at) == (
        "own_report", "completed", "graffiti", day(-2),
    )  # fmt: skip
    assert own.phases[0].status == "open"  # as the duplicates told, before its own report


def test_a_parent_known_by_duplicates_is_open_as_long_as_one_of_them_is() -> None:
    one = request(request_number="SR2", parent_number="SR1", revised_at=day(0), status="completed")
    other = request(request_number="SR3", parent_number="SR1", revised_at=day(0))
    assert in_any_order(one, other).status == "open"
    closed = other.model_copy(update={"revised_at": day(1), "status": "canceled"})
    assert in_any_order(one, other, closed).status == "completed"


def test_a_duplicate_that_gets_another_parent_leaves_the_first_one_with_nothing() -> None:
    before = request(request_number="SR2", parent_number="SR1", revised_at=day(0))
    after = request(request_number="SR2", parent_number="SR9", revised_at=day(1))
    left = in_any_order(before, after)
    assert (left.status, left.covers, left.version) == ("canceled", ("SR1",), 2)
    assert [phase.status for phase in left.phases] == ["open", "canceled"]
    assert in_any_order(before, after, number="SR9").covers == ("SR2", "SR9")


def test_a_request_that_names_itself_as_its_parent_is_no_duplicate() -> None:
    one = issue(request(parent_number="SR1"))
    assert (one.folded_into, one.covers, one.now.folded) == (None, ("SR1",), False)


def test_what_duplicates_alone_would_say_is_void_once_the_own_report_is_older() -> None:
    duplicate = request(request_number="SR2", parent_number="SR1", revised_at=day(5), point=FAR)
    one = in_any_order(request(), duplicate)
    assert [phase.point for phase in one.phases] == [NEAR]
    assert [(phase.point, phase.since) for phase in one.void_phases] == [(FAR, day(-2))]


def test_the_rule_names_what_the_request_is() -> None:
    duplicate = request(request_number="SR2", parent_number="SR1")

    def rule(number: str, *reports: IssueReport) -> str:
        inputs = IssueInputs(source="city_311", request_number=number, reports=reports)
        return decide_issue(inputs, "v")[1].rule

    assert rule("SR1", request()) == "one_request"
    assert rule("SR1", request(), duplicate) == "covers_duplicates"
    assert rule("SR1", duplicate) == "known_by_duplicates"
    assert rule("SR2", duplicate) == "folded_into_parent"
