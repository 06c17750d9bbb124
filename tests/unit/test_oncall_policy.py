"""Who is told, as the policy says it: the shipped one, and whatever can be wrong with one."""

import json
import shutil
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import product
from operator import getitem
from pathlib import Path
from typing import Any

import pytest

from agents.sla.oncall import on_call, whom_to_tell
from infra.policy.document import Document, read_document
from infra.policy.files import FILES
from infra.policy.load import SHIPPED, load_policy
from infra.policy.oncall import ONCALL_CHECKS
from schemas.oncall import LEVELS, OncallPolicy
from schemas.policy import Policy
from schemas.sla import Alerting
from tests.unit.test_sla_policy import errors_of, plant

ONCALL, ALERTS = "oncall.yaml", "alerts.yaml"
POLICY = load_policy()
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped policy, to be spoiled."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "policy"))


# ---------------------------------------------------------------- the shipped policy


def test_in_every_department_and_area_each_level_has_somebody_and_nothing_climbs() -> None:
    departments = [one.code for one in POLICY.departments]
    areas = [*(area.number for area in POLICY.areas), None]
    for level, department, area in product(LEVELS, departments, areas):
        told = whom_to_tell(level, NOW, department=department, area=area, oncall=POLICY.oncall)
        assert told.people, (level, department, area)
        assert (told.level, told.climbed) == (level, ())


def test_the_breach_tells_the_departments_supervisor_and_the_areas_engagement_manager() -> None:
    told = whom_to_tell(2, NOW, department="cdot", area=25, oncall=POLICY.oncall)
    assert [person.code for person in told.people] == ["cdot_supervisor", "engagement_west"]


def test_the_duty_supervisor_changes_on_monday_at_eight_in_chicago() -> None:
    def duty(at: datetime) -> list[str]:
        return [person.code for person in on_call("duty_supervisor", at, oncall=POLICY.oncall)]

    monday = datetime(2026, 1, 12, 14, tzinfo=UTC)  # 08:00 CST, a week after it starts
    assert duty(monday - timedelta(seconds=1)) == ["duty_a"]
    assert duty(monday) == ["duty_b"]


def test_the_rungs_say_their_levels_and_the_policy_how_alerts_behave() -> None:
    levels = {rung.name: rung.level for rung in POLICY.sla.rungs}
    expected = {"half": 1, "three_quarters": 1, "soon": 1, "breach": 2, "late_4h": 3, "late_2wd": 4}
    assert levels == expected
    assert POLICY.sla.alerting == Alerting(
        late_after_s=60, unacknowledge_after_minutes=240, longest_snooze_hours=24
    )


def test_no_secret_and_no_mailbox_of_a_person_is_in_the_shipped_policy() -> None:
    for channel in POLICY.oncall.channels:
        assert channel.url is None
        assert channel.url_env is not None
        assert channel.url_env.startswith("RAPID_CHANNEL_")


def test_a_policy_that_was_stored_before_there_were_alerts_has_nobody() -> None:
    stored = json.loads(POLICY.model_dump_json())
    del stored["oncall"], stored["sla"]["alerting"]
    policy = Policy.model_validate_json(json.dumps(stored))
    assert policy.oncall == OncallPolicy()
    told = whom_to_tell(1, NOW, department="cdot", oncall=policy.oncall)
    assert told.people == ()
    assert [climb.because for climb in told.climbed] == [
        f"The policy has no role of level {n}." for n in LEVELS
    ]


# ---------------------------------------------------------------- what can be wrong

INSTEAD = "use url_env, the name of an environment variable that holds the URL"
DESK = "url_env: RAPID_CHANNEL_CDOT_DISPATCH"
DUTY = "members: [duty_a, duty_b, duty_c], starts: 2026-01-05"
WRONG = [
    # the ladder
    ("  - {role: deputy_commissioner, persons: [deputy]}", "",
     "roles[4]", "nobody has the role deputy_commissioner: expected a holder for it"),
    ("  - {role: dispatcher, persons: [cscc_dispatch]}\n", "",
     "roles[0]", "nobody has the role dispatcher in the departments cscc: expected a holder"),
    ("  - {role: engagement_manager, persons: [engagement]}\n", "",
     "roles[2]", "nobody has the role engagement_manager in the areas 1, 2, 3, 4, 5 and 57 more: expected a holder"),
    ("level: 3, scope: city", "level: 2, scope: city",
     "roles", "has no role of level 3; every level of the ladder tells somebody"),
    ("level: 3, scope: city", "level: 5, scope: city",
     "roles[3].level", "expected at most 4, found 5"),
    ("level: 3, scope: city", "level: 3, scope: country",
     "roles[3].scope", "expected 'city', 'department' or 'area', found 'country'"),
    # holders
    ("role: deputy_commissioner, persons: [deputy]", "role: deputy_commissioner, persons: []",
     "holders[12]", "holds nobody: expected persons or a rotation"),
    ("role: deputy_commissioner, persons: [deputy]", "role: deputy_comissioner, persons: [deputy]",
     "holders[12].role",
     ("expected a role (deputy_commissioner, dispatcher, duty_supervisor, engagement_manager, supervisor), "
      "found 'deputy_comissioner'")),
    ("role: deputy_commissioner, persons: [deputy]", "role: deputy_commissioner, persons: [deputee]",
     "holders[12].persons[0]", "expected a person (cdot_dispatch, "),
    ("role: deputy_commissioner, persons: [deputy]", "role: deputy_commissioner, persons: [deputy, deputy]",
     "holders[12].persons[1]", "'deputy' is given twice, first in line "),
    ("role: deputy_commissioner, persons: [deputy]",
     "role: deputy_commissioner, departments: [cscc], persons: [deputy]",
     "holders[12].departments", "expected no departments: the role deputy_commissioner has the scope city"),
    ("departments: [cdot], persons: [cdot_dispatch]", "departments: [cdt], persons: [cdot_dispatch]",
     "holders[0].departments[0]", "expected a department (cdot, cscc, dob, dss), found 'cdt'"),
    ("areas: [23, 25", "areas: [230, 25", "holders[8].areas[0]", "expected the number of an area, found 230"),
    (f"{{{DUTY}", f"{{{DUTY.replace('duty_b', 'duty_d')}",
     "holders[7].rotation.members[1]", "expected a person (cdot_dispatch, "),
    (f"{{{DUTY}", "{members: [], starts: 2026-01-05",
     "holders[7].rotation.members", "expected at least one, found an empty list"),
    (f"{{{DUTY}", f"{{{DUTY.replace('01-05', '02-30')}",
     "holders[7].rotation.starts", "expected a possible date, found '2026-02-30'"),
    ('hand_over: "08:00"', 'hand_over: "8"', "holders[7].rotation.hand_over", "expected a time of day such as 08:00"),
    ("turn_days: 7", "turn_days: 0", "holders[7].rotation.turn_days", "expected at least 1, found 0"),
    ('hand_over: "08:00", time_zone: America/Chicago', 'hand_over: "08:00", time_zone: America/Gotham',
     "holders[7].rotation.time_zone",
     "expected an IANA time zone such as America/Chicago, found 'America/Gotham'"),
    # people
    ("channels: [cdot_dispatch_mail]", "channels: [cdot_mail]",
     "persons[0].channels[0]", "expected a channel (cdot_dispatch_mail, "),
    ("channels: [cdot_dispatch_mail]", "channels: []",
     "persons[0].channels", "expected at least one, found an empty list"),
    ("    time_zone: America/Chicago\n", "    time_zone: Chicago\n",
     "persons[0].time_zone", "expected an IANA time zone such as America/Chicago, found 'Chicago'"),
    ("language: es", "language: fr", "persons[8].language", "expected 'en' or 'es', found 'fr'"),
    ('hours: "22:00-06:00"', 'hours: "22:00-22:00"', "persons[1].quiet.spans[0].hours",
     "expected hours that end at another time than they begin, found '22:00-22:00'"),
    ('hours: "22:00-06:00"', 'hours: "22-06"', "persons[1].quiet.spans[0].hours",
     "expected hours such as 08:30-16:30, found '22-06'"),
    ('every: day, at: "08:00"', 'every: hour, at: "08:00"',
     "persons[4].digest.every", "expected 'day' or 'week', found 'hour'"),
    ("- code: deputy\n", "- code: duty_supervisor\n",
     "persons[13].code", "expected a code that no role has, found 'duty_supervisor'"),
    ("- code: deputy\n", "- code: nobody\n",
     "persons[13].code", "expected another code; nobody is what an override says for nobody"),
    ("- code: dss_dispatch\n", "- code: cdot_dispatch\n",
     "persons[2].code", "'cdot_dispatch' is given twice, first in line "),
    # channels
    (DESK, 'url: "mailtos://desk:hunter2@mail.example.org?to=desk@example.org"',
     "channels[0].url", f"holds a password; {INSTEAD}"),
    (DESK, 'url: "mailto://mail.example.org?user=desk&pass=hunter2"',
     "channels[0].url", f"holds a password or a key in its query; {INSTEAD}"),
    (DESK, 'url: "slack://hunter2/B1/C1"',
     "channels[0].url", f"is of the kind 'slack', whose URLs hold a secret; {INSTEAD}"),
    (DESK, "url: hunter2", "channels[0].url", "is no URL; expected one such as mailto://"),
    (DESK, 'url: "mailto://[hunter2"', "channels[0].url", "is no URL; expected one such as mailto://"),
    (DESK, 'url: "mailto://mail.example.org?to=hunter2@example.org", url_env: RAPID_CHANNEL_X',
     "channels[0]", "expected either url or url_env"),
    (", url_env: RAPID_CHANNEL_CDOT_DISPATCH", "", "channels[0]", "expected either url or url_env"),
    (DESK, f'url: "mailto://{"hunter2" * 40}"', "channels[0].url",
     "expected text of at most 200 characters, found text"),
    (DESK, 'url_env: "slack://hunter2/B1/C1"', "channels[0].url_env", "expected the name of an environment variable"),
    (DESK, "url_env: rapid-channel", "channels[0].url_env", "expected the name of an environment variable such as "),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "key", "says"), WRONG)
def test_what_is_wrong_is_told_with_file_line_and_key(
    folder: Path, old: str, new: str, key: str, says: str
) -> None:
    plant(folder, ONCALL, old, new)
    told = [error for error in errors_of(folder) if (error.file, error.key) == (ONCALL, key)]
    assert [error for error in told if error.message.startswith(says)], errors_of(folder)
    assert all(error.line for error in told)


def test_the_line_is_that_of_the_role_that_nobody_has(folder: Path) -> None:
    plant(folder, ONCALL, "  - {role: deputy_commissioner, persons: [deputy]}\n", "")
    lines = (folder / ONCALL).read_text().splitlines()
    line = next(n for n, text in enumerate(lines, 1) if "{code: deputy_commissioner" in text)
    assert [str(error) for error in errors_of(folder)] == [
        f"oncall.yaml:{line}: roles[4]: nobody has the role deputy_commissioner: expected a holder for it"
    ]


def test_no_message_repeats_a_secret(folder: Path) -> None:
    for _, new, key, _ in WRONG:
        if "hunter2" in new:
            spoiled = Path(shutil.copytree(SHIPPED, folder / key / str(abs(hash(new)))))
            plant(spoiled, ONCALL, DESK, new)
            assert not [error for error in errors_of(spoiled) if "hunter2" in str(error)], new


def test_a_url_without_a_secret_can_stand_in_the_policy(folder: Path) -> None:
    url = "mailto://mail.example.org?to=desk@example.org&from=rapid@example.org"
    plant(folder, ONCALL, DESK, f'url: "{url}"')
    channel = load_policy(folder).oncall.channel("cdot_dispatch_mail")
    assert channel is not None
    assert (channel.url, channel.url_env) == (url, None)


def test_at_the_top_a_role_of_named_places_alone_is_not_enough(folder: Path) -> None:
    """An order without an area, or of a department that is no more, has to reach somebody as well."""
    plant(folder, ONCALL, "level: 4, scope: city", "level: 4, scope: department")
    departments = "[cdot, cscc, dob, dss]"
    plant(folder, ONCALL, "role: deputy_commissioner, persons:",
          f"role: deputy_commissioner, departments: {departments}, persons:")  # fmt: skip
    assert [(error.key, error.message) for error in errors_of(folder)] == [
        ("roles[4]", ("the role deputy_commissioner is of level 4, above which is nobody: "
                      "expected a holder without departments"))
    ]  # fmt: skip


def test_errors_of_all_files_are_told_at_once(folder: Path) -> None:
    plant(folder, ONCALL, "language: es", "language: fr")
    plant(folder, ONCALL, "channels: [cdot_dispatch_mail]", "channels: []")
    plant(folder, ALERTS, "late_after_s: 60", "late_after_s: 0")
    plant(folder, ALERTS, "source: CSCC policy (example)", "")
    plant(folder, "sla.yaml", "percent: 100, level: 2", "percent: 100")
    assert [(error.file, error.key) for error in errors_of(folder)] == [
        ("sla.yaml", "rungs[3].level"),
        (ALERTS, "late_after_s"),
        (ALERTS, "source"),
        (ONCALL, "persons[0].channels"),
        (ONCALL, "persons[8].language"),
    ]


def test_a_policy_without_the_file_is_told_so(folder: Path) -> None:
    (folder / ONCALL).unlink()
    assert [str(error) for error in errors_of(folder)] == [
        "oncall.yaml: is missing; a policy needs this file"
    ]


def _places(value: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all values."""
    yield keys
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from _places(item, (*keys, key))


def test_the_checks_pass_over_whatever_has_the_wrong_shape() -> None:
    """Its shape is told as an error of its own; what else is wrong is still looked for."""
    documents = {name: read_document(SHIPPED / name) for name in FILES}
    data = documents[ONCALL].data
    odd_values: tuple[Any, ...] = (None, 3, "x", [], {}, [[]], [{}], {"x": 1}, True)
    for keys in _places(data):
        for odd in odd_values:
            spoiled = deepcopy(data)
            if keys:
                reduce(getitem, keys[:-1], spoiled)[keys[-1]] = odd
            folder = documents | {ONCALL: Document(ONCALL, spoiled if keys else odd)}
            for check in ONCALL_CHECKS:
                assert all(error.file == ONCALL for error in check(folder))
