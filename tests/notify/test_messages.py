"""Templates: what they say in both languages, what they may never say, and what happens when one fails."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agents.notify import samples
from agents.notify.render import FORMS, LANGUAGES, TEMPLATES, Reader, Source, Templates
from agents.notify.samples import SAMPLES
from agents.notify.view import LISTED, Line, line_of
from agents.notify.words import length, when
from infra.notify_templates import NAMES, SHIPPED, TELLING, load_templates, template_errors
from infra.policy.load import PolicyErrors, load_policy
from schemas.alert import Alert, AlertEvent, AlertEventKind
from schemas.notification import Item, ItemKind, Template
from schemas.oncall import Language

READERS = [Reader("Sam", "America/Chicago", "en"), Reader("Sam", "America/Chicago", "es")]
EN, ES = READERS
FORBIDDEN = (
    "shoot", "shot", "gun", "firearm", "homicide", "murder", "victim", "violen", "kill", "crime", "incident",
    "police", "weapon", "assault", "injur", "tiroteo", "disparo", "arma", "pistola", "asesin", "víctima", "crimen",
    "delito", "policía", "herid", "muert", "baleado", "homicidio",
)  # fmt: skip


@pytest.fixture(scope="module")
def shipped() -> Templates:
    return load_templates(None)


def everything(templates: Templates) -> str:
    """All that the templates say of their samples."""
    said = []
    for template in TEMPLATES:
        for sample in SAMPLES[template]:
            for reader in READERS:
                one = templates.render(template, sample.items, reader, sample.now, sample.names)
                assert one.failed is None
                said += [one.subject, one.text, one.html, one.short]
    return "\n".join(said)


def test_no_template_says_what_happened_to_whom(shipped: Templates) -> None:
    said = everything(shipped).casefold()
    assert [word for word in FORBIDDEN if word in said] == []
    assert TELLING.search(said) is None
    sources = "\n".join((SHIPPED / name).read_text() for name in NAMES).casefold()
    assert [word for word in FORBIDDEN if word in sources] == []


def test_the_words_that_would_tell_are_found() -> None:
    for word in (
        "a shooting",
        "two victims",
        "police",
        "un tiroteo",
        "la víctima",
        "Policía",
        "heridos",
        "a robbery",
    ):
        assert TELLING.search(word), word
    for word in ("the block", "armario", "se robustece", "sin resolver", "Reparar la luz del callejón"):
        assert not TELLING.search(word), word


def test_a_message_is_made_of_an_alert_and_an_alert_has_nothing_of_the_incident() -> None:
    fields = (
        set(Alert.model_fields) | set(AlertEvent.model_fields) | set(Item.model_fields) | set(Line._fields)
    )
    assert fields == {
        "alert_id", "order_id", "order_key", "reference", "department", "category", "work", "priority", "title",
        "address", "area", "clock", "cycle", "rung", "level", "breach", "at", "due_at", "fired_at", "late", "because",
        "state", "acknowledged_by", "until", "handed_to", "simulated",  # the alert
        "alert", "seq", "kind", "by", "command_id",  # its event
        "event", "reasons", "about", "people", "since", "waiting",  # what a notification says
        "what", "late_by", "left", "noticed_late", "link", "acknowledge", "again", "handed_over", "correction",
    }  # fmt: skip
    assert "because" not in Line._fields  # words of others: a template is not given them


def test_what_an_alert_says_in_words_of_others_reaches_no_message(shipped: Templates) -> None:
    alert = samples.alert(because="SECRET", acknowledged_by="SECRET", handed_to="secret")
    items = [samples.item(alert)]
    for template in TEMPLATES[:4]:
        for reader in READERS:
            one = shipped.render(template, items, reader, samples.NOW, samples.NAMES)
            assert "secret" not in "".join(one[:4]).casefold()


def test_an_alert_in_english(shipped: Templates) -> None:
    one = shipped.render("alert", [samples.item()], EN, samples.NOW, samples.NAMES)
    alert = samples.alert()
    assert (
        one.subject
        == f"Overdue by 3 hours: Repair street light, 4001 W WEST END AVE, Austin ({alert.reference})"
    )
    assert one.text == (
        "What: Repair street light (not resolved in time)\n"
        "Where: 4001 W WEST END AVE, Austin\n"
        "Due: Tue, Nov 24, 12:30 PM CST (America/Chicago)\n"
        "Late by: 3 hours\n"
        "Who has it: Department CDOT\n"
        "Priority: high\n"
        f"Order: {alert.reference}\n\n"
        f"Look at it and acknowledge it: https://rapid.example/alerts/{alert.alert_id}\n"
        f"Acknowledge it on the command line: rapid alerts acknowledge {alert.alert_id}"
    )
    assert one.short == f"{one.subject}\nhttps://rapid.example/alerts/{alert.alert_id}"


def test_an_alert_in_spanish(shipped: Templates) -> None:
    one = shipped.render("alert", [samples.item()], ES, samples.NOW, samples.NAMES)
    alert = samples.alert()
    assert one.subject == (
        f"Con retraso de 3 horas: Reparar el alumbrado público, 4001 W WEST END AVE, Austin ({alert.reference})"
    )
    assert one.text == (
        "Qué: Reparar el alumbrado público (sin resolver a tiempo)\n"
        "Dónde: 4001 W WEST END AVE, Austin\n"
        "Fecha límite: mar 24 nov, 12:30 CST (America/Chicago)\n"
        "Retraso: 3 horas\n"
        "A cargo de: Department CDOT\n"
        "Prioridad: alta\n"
        f"Orden: {alert.reference}\n\n"
        f"Véala y confirme el aviso: https://rapid.example/alerts/{alert.alert_id}\n"
        f"Confirmar desde la línea de comandos: rapid alerts acknowledge {alert.alert_id}"
    )


def test_every_kind_of_work_has_a_spanish_name(shipped: Templates) -> None:
    policy = load_policy()
    for category in policy.categories:
        for work, title in (("fix", category.fix_title), ("inspect", category.inspect_title)):
            item = samples.item(samples.alert(category=category.code, work=work, title=title))
            assert title not in shipped.render("alert", [item], ES, samples.NOW, samples.NAMES).text


def test_markup_in_what_is_said_stays_text(shipped: Templates) -> None:
    item = samples.item(samples.alert(title="<script>alert(1)</script>", address='4000 W "A" <b>'))
    for template in ("alert", "alerts", "digest", "correction"):
        for reader in READERS:
            html = shipped.render(template, [item], reader, samples.NOW, samples.NAMES).html
            assert "<script>" not in html
            assert "<b>" not in html


def test_a_storm_lists_some_and_counts_the_others(shipped: Templates) -> None:
    items = [samples.item(samples.alert(number)) for number in range(1, LISTED + 21)]
    one = shipped.render("alerts", items, EN, samples.NOW, samples.NAMES)
    assert one.subject == f"{LISTED + 20} orders: Repair street light, Austin: not resolved in time"
    assert one.text.count("W WEST END AVE") == LISTED
    assert "and 20 more" in one.text


def test_a_storm_is_grouped_by_promise_and_work_and_area(shipped: Templates) -> None:
    items = [samples.item(samples.alert(number, area=25 + number % 2)) for number in range(1, 8)]
    items += [samples.item(samples.alert(8, rung="late_4h", level=3, area=26))]
    items += [samples.item(samples.alert(20, clock="acknowledge"))]
    text = shipped.render("alerts", items, EN, samples.NOW, samples.NAMES).text
    headings = [line for line in text.splitlines() if re.match(r"\d+ orders?: ", line)]
    assert headings == [
        "5 orders: Repair street light, West Garfield Park: not resolved in time",
        "3 orders: Repair street light, Austin: not resolved in time",
        "1 order: Repair street light, Austin: not acknowledged in time",
    ]


def test_a_message_tells_of_each_promise_once_by_its_highest_point(shipped: Templates) -> None:
    """What waited while a channel was down, or for a digest: half, soon and over are one promise."""
    now = samples.NOW
    points = [("half", 1, 9), ("soon", 1, 4), ("breach", 2, 3), ("three_quarters", 1, 6)]
    items = [
        samples.item(samples.alert(1, rung=rung, level=level, at=now - timedelta(hours=hours)))
        for rung, level, hours in points
    ]
    items += [
        samples.item(samples.alert(1, clock="acknowledge")),
        samples.item(samples.alert(2, rung="half", level=1)),
    ]
    one = shipped.render("alerts", items, EN, now, samples.NAMES)
    assert one.subject.startswith("3 alerts about 2 orders")
    assert one.text.count(samples.alert(1).reference) == 2
    assert str(samples.alert(1, rung="breach").alert_id) in one.text
    assert str(samples.alert(1, rung="soon").alert_id) not in one.text


@pytest.mark.parametrize(
    ("kind", "reader", "subject"),
    [
        ("channel_dead", EN, "5 channels do not work: messages over them do not arrive"),
        ("channel_back", EN, "5 channels work again: messages over them arrive"),
        ("channel_dead", ES, "5 canales no funcionan: no llegan los mensajes por ellos"),
    ],
)
def test_the_channels_of_one_outage_are_one_message_that_names_each(
    shipped: Templates, kind: ItemKind, reader: Reader, subject: str
) -> None:
    notices = [
        Item(kind=kind, level=3, about=f"mail_{n}", people=("Sam",), since=samples.NOW) for n in range(5)
    ]
    one = shipped.render("notice", notices, reader, samples.NOW, samples.NAMES)
    assert one.subject == subject
    assert [line.split()[1] for line in one.text.splitlines() if line.startswith("- ")] == [
        f"mail_{n}:" for n in range(5)
    ]


def test_what_was_handed_over_is_told_beside_a_higher_point_of_the_same_promise(shipped: Templates) -> None:
    handed = samples.item(samples.alert(1, rung="soon", level=1), "alert", "handed_over")
    text = shipped.render("alerts", [samples.item(), handed], EN, samples.NOW, samples.NAMES).text
    assert text.count(samples.alert().reference) == 2


@pytest.mark.parametrize(("kind", "event"), [("alert", "handed_over"), ("correction", "withdrawn")])
def test_of_what_was_handed_over_or_does_not_hold_the_highest_point_is_told_too(
    shipped: Templates, kind: ItemKind, event: AlertEventKind
) -> None:
    points = [("half", 1), ("soon", 1), ("breach", 2)]
    items = [samples.item(samples.alert(1, rung=rung, level=level), kind, event) for rung, level in points]
    text = shipped.render("alerts", items, EN, samples.NOW, samples.NAMES).text
    assert text.count(samples.alert().reference) == 1


@pytest.mark.parametrize(
    ("reader", "beginning"), [(EN, "Exercise: Overdue by"), (ES, "Simulacro: Con retraso de")]
)
def test_the_subject_of_a_simulated_orders_message_says_so_first(
    shipped: Templates, reader: Reader, beginning: str
) -> None:
    one = shipped.render(
        "alert", [samples.item(samples.alert(simulated=True))], reader, samples.NOW, samples.NAMES
    )
    assert one.subject.startswith(beginning)
    assert one.short.startswith(beginning)


@pytest.mark.parametrize("template", ["alerts", "digest"])
def test_many_say_so_when_all_are_simulated(shipped: Templates, template: Template) -> None:
    simulated = [samples.item(samples.alert(number, simulated=True)) for number in range(1, 6)]
    one = shipped.render(template, simulated, EN, samples.NOW, samples.NAMES)
    assert one.subject.startswith("Exercise: ")
    mixed = shipped.render(
        template, [*simulated, samples.item(samples.alert(20))], EN, samples.NOW, samples.NAMES
    )
    assert not mixed.subject.startswith("Exercise: ")


def test_what_is_over_this_very_moment_has_no_time_left(shipped: Templates) -> None:
    item = samples.item(samples.alert(due_at=samples.NOW))
    one = shipped.render("alert", [item], EN, samples.NOW, samples.NAMES)
    assert one.subject.startswith("Overdue: ")
    assert "Time left" not in one.text + one.html


@pytest.mark.parametrize(
    ("at", "zone", "language", "expected"),
    [
        ("2026-07-01T05:05:00+00:00", "America/Chicago", "en", "Wed, Jul 1, 12:05 AM CDT (America/Chicago)"),
        ("2026-07-01T17:00:00+00:00", "America/Chicago", "en", "Wed, Jul 1, 12:00 PM CDT (America/Chicago)"),
        ("2026-01-07T18:00:00+00:00", "Europe/Madrid", "es", "mié 7 ene, 19:00 CET (Europe/Madrid)"),
        (
            "2026-01-07T18:00:00+00:00",
            "America/Sao_Paulo",
            "es",
            "mié 7 ene, 15:00 UTC-03 (America/Sao_Paulo)",
        ),
        ("2026-01-07T18:00:00+00:00", "UTC", "en", "Wed, Jan 7, 6:00 PM UTC"),
        # the doubled hour: the zone's name tells the two apart
        ("2026-11-01T06:30:00+00:00", "America/Chicago", "en", "Sun, Nov 1, 1:30 AM CDT (America/Chicago)"),
        ("2026-11-01T07:30:00+00:00", "America/Chicago", "en", "Sun, Nov 1, 1:30 AM CST (America/Chicago)"),
    ],
)
def test_a_time_is_the_readers_with_the_name_of_the_zone(
    at: str, zone: str, language: Language, expected: str
) -> None:
    assert when(datetime.fromisoformat(at).astimezone(UTC), zone, language) == expected


@pytest.mark.parametrize(
    ("of", "english", "spanish"),
    [
        (timedelta(seconds=59), "less than a minute", "menos de un minuto"),
        (timedelta(minutes=1), "1 minute", "1 minuto"),
        (timedelta(hours=1, minutes=2, seconds=59), "1 hour 2 minutes", "1 hora y 2 minutos"),
        (timedelta(days=2, hours=1, minutes=5), "2 days 1 hour", "2 días y 1 hora"),
        (timedelta(days=2, minutes=5), "2 days", "2 días"),
    ],
)
def test_a_length_is_its_two_largest_units(of: timedelta, english: str, spanish: str) -> None:
    assert (length(of, "en"), length(of, "es")) == (english, spanish)


# ---------------------------------------------------------------- a city's own, and those that fail


def replaced(**texts: str) -> Templates:
    sources = {name: Source((SHIPPED / name).read_text(), name) for name in NAMES}
    return Templates(sources | {name: Source(text, f"templates/{name}") for name, text in texts.items()})


def own(folder: Path, **texts: str) -> Path:
    (folder / "templates").mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / "templates" / name).write_text(text)
    return folder


def test_the_shipped_ones_are_all_there_and_right(shipped: Templates) -> None:
    assert {path.name for path in SHIPPED.iterdir()} == NAMES
    assert len(NAMES) == len(TEMPLATES) * len(LANGUAGES) * len(FORMS) + len(LANGUAGES)
    assert shipped.defects(TELLING) == []


def test_a_citys_own_template_stands_for_the_shipped_one(tmp_path: Path) -> None:
    templates = load_templates(
        own(tmp_path, **{"alert.en.txt": "Hi {{ person }}: {{ lines[0].title }}\nBye"})
    )
    one = templates.render("alert", [samples.item()], EN, samples.NOW, samples.NAMES)
    assert (one.subject, one.text) == ("Hi Sam: Repair street light", "Bye")
    assert "Overdue" in one.html


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("alert.en.txt", "x\n\n{% if %}", "templates/alert.en.txt:3: Expected an expression"),
        ("alert.en.txt", "x\n{{ lines[0].victim }}", "templates/alert.en.txt:2: "),
        ("digest.es.html", "\n\n\n{{ nothing }}", "templates/digest.es.html:4: 'nothing' is undefined"),
        ("words.en.txt", "{% macro title(line) %}\n{{ line.nope }}{% endmacro %}", "templates/words.en.txt"),
        ("alert.es.txt", "{{ lines.__class__ }}", "templates/alert.es.txt:1: access to attribute"),
        ("alert.en.txt", "x\n{{ (1).__class__.__mro__ }}", "templates/alert.en.txt:2: access to attribute"),
        ("alert.en.txt", "x\n{{ lines.append(1) }}", "templates/alert.en.txt:2: "),
        (
            "alert.en.txt",
            "{% include 'secret.txt' %}",
            "templates/alert.en.txt: there is no template secret.txt",
        ),
        ("alert.en.txt", "\n\n", "templates/alert.en.txt:1: the first line, its subject, is empty"),
        ("alert.en.txt", "{% for i in range(99999) %}xx{% endfor %}", "templates/alert.en.txt: it wrote"),
        (
            "alert.en.txt",
            "About a shooting",
            "templates/alert.en.txt: expected words that tell of no incident",
        ),
        (
            "alert.es.html",
            "Hubo un tiroteo",
            "templates/alert.es.html: expected words that tell of no incident",
        ),
        ("alert.en.html", "{{ lines[0].title | safe }}", "templates/alert.en.html: expected escaped text"),
        ("alrt.en.txt", "x", "templates/alrt.en.txt: is unknown; expected one of alert.en.html"),
    ],
)
def test_what_is_wrong_with_a_template_is_told_with_file_and_line(
    name: str, text: str, expected: str, tmp_path: Path
) -> None:
    errors = [str(one) for one in template_errors(own(tmp_path, **{name: text}))]
    assert any(error.startswith(expected) for error in errors), errors


def test_a_policy_with_a_wrong_template_is_no_policy(tmp_path: Path) -> None:
    import shutil

    from infra.policy.load import SHIPPED as CHICAGO

    folder = tmp_path / "policy"
    shutil.copytree(CHICAGO, folder)
    assert load_policy(folder).version == load_policy().version
    own(folder, **{"alert.en.txt": "x\n{{ nope }}"})
    with pytest.raises(PolicyErrors) as wrong:
        load_policy(folder)
    assert "templates/alert.en.txt:2: 'nope' is undefined" in str(wrong.value)


@pytest.mark.parametrize("reader", READERS)
def test_a_template_that_fails_loses_nothing(reader: Reader) -> None:
    """It passed the check, and fails at something that no sample has."""
    name = f"alert.{reader.language}.txt"
    templates = replaced(**{name: "x\n{{ 1 // (lines[0].title | length - 21) }}"})
    item = samples.item()
    one = templates.render("alert", [item, item], reader, samples.NOW, samples.NAMES)
    assert one.failed is None
    broken = samples.alert(title="A" * 21)
    one = templates.render("alert", [samples.item(broken)], reader, samples.NOW, samples.NAMES)
    assert str(one.failed).startswith(f"templates/{name}:2: ")
    for said in (broken.title, broken.reference, "4001 W WEST END AVE, Austin", str(broken.alert_id), f"{name}:2",
                 when(samples.NOW - timedelta(hours=3), reader.time_zone, reader.language)):  # fmt: skip
        assert said in one.text
        assert said in one.html
    assert TELLING.search(one.text) is None


def test_a_notice_and_a_correction_survive_a_template_that_fails() -> None:
    templates = replaced(**{"notice.en.txt": "{{ nope }}", "correction.en.txt": "{{ nope }}"})
    notice = SAMPLES["notice"][0].items
    assert (
        "channel_dead: desk-mail" in templates.render("notice", notice, EN, samples.NOW, samples.NAMES).text
    )
    correction = SAMPLES["correction"][0].items
    text = templates.render("correction", correction, EN, samples.NOW, samples.NAMES).text
    assert "corrected: does not hold, as is known by now" in text


def test_a_line_is_late_by_or_has_left_never_both() -> None:
    for sample in (*SAMPLES["alert"], *SAMPLES["alerts"]):
        for item in sample.items:
            line = line_of(item, sample.now, sample.names)
            assert line.late_by is None or line.left is None
            assert (line.due_at is None) == (line.late_by is None and line.left is None)
