"""Holiday feeds over a real socket: what is fetched, what is refused and why, and what is written beside the policy."""

import asyncio
import gzip
import hashlib
import json
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from connectors.feeds import Conditions, Fetcher, Limits, Unfetchable, next_url
from infra.cli.errors import ExitCode, Oops
from infra.cli.policy import app as policy_app
from infra.cli.sla import app
from infra.policy.document import read_document
from infra.policy.feeds import feed_warnings, feeds_of, read_provenance, refresh
from infra.policy.load import SHIPPED, PolicyErrors, load_policy
from tests.sla.feed_server import GOOD, FeedServer, feed_server, ics
from tests.unit.sla_samples import at
from tests.webhooks.receiver import Behaviour, endless, hanging, hanging_up, saying

NOW, LATER = at("2026-07-01 12:00"), at("2026-07-02 12:00")
QUICK = Limits(connect_s=2.0, total_s=1.0)


@pytest.fixture
async def server() -> AsyncIterator[FeedServer]:
    async with feed_server() as served:
        served.serve(GOOD)
        yield served


@pytest.fixture
def folder(tmp_path: Path, server: FeedServer) -> Path:
    """A policy whose offices keep the server's holidays, which were never fetched."""
    return policy_with(tmp_path, f"{{url: '{server.url()}', allow_http: true, file: city.ics, {YEARS}}}")


YEARS = "years: {first: 2026, last: 2027}"


def policy_with(tmp_path: Path, feeds: str) -> Path:
    made = Path(shutil.copytree(SHIPPED, tmp_path / "policy"))
    file = made / "calendars.yaml"
    file.write_text(file.read_text().replace("files: []", f"feeds: [{feeds}]\n      files: []", 1))
    return made


def edit(folder: Path, old: str, new: str) -> None:
    file = folder / "calendars.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


async def run(*arguments: str, of: Any = app) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, of, arguments, env={"COLUMNS": "250"})


async def fetch(folder: Path, *arguments: str) -> Any:
    result = await run("fetch", "--policy", str(folder), "--json", *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


async def failure(folder: Path, *arguments: str) -> str:
    """What the command says of the one feed, which fails."""
    result = await run("fetch", "--policy", str(folder), "--json", *arguments)
    assert isinstance(result.exception, Oops)
    assert result.exception.exit_code == ExitCode.FAILED
    [found] = json.loads(result.stdout)
    assert found["outcome"] == "failed"
    said: str = found["said"]
    return said


# ---------------------------------------------------------------- what is good


async def test_a_feed_becomes_holidays_with_their_provenance(server: FeedServer, folder: Path) -> None:
    server.serve(GOOD, 'ETag: "one"', "Last-Modified: Wed, 01 Jul 2026 00:00:00 GMT")
    [found] = await fetch(folder)
    assert (found["outcome"], found["calendars"]) == ("new", ["offices"])
    assert (folder / "city.ics").read_bytes() == GOOD
    written = json.loads((folder / "city.ics.provenance.json").read_text())
    assert written == found["provenance"]
    assert (written["url"], written["sha256"], written["events"], written["bytes"]) == (
        server.url(), hashlib.sha256(GOOD).hexdigest(), 2, len(GOOD),
    )  # fmt: skip
    assert (written["etag"], written["last_modified"]) == ('"one"', "Wed, 01 Jul 2026 00:00:00 GMT")
    assert written["failure"] is None
    offices = load_policy(folder).sla.calendars[0]
    [lake] = [day for day in offices.holidays if day.on == date(2026, 8, 14)]
    assert (lake.name, lake.source) == ("Day of the lake", f"iCalendar city.ics of 127.0.0.1:{server.port}")
    assert (offices.holidays_from, offices.holidays_until) == (date(2026, 1, 1), date(2027, 12, 31))
    assert server.asked[0]["accept-encoding"] == "identity"


async def test_the_version_is_that_of_what_is_on_disk(server: FeedServer, folder: Path) -> None:
    await fetch(folder)
    before = load_policy(folder).version
    server.serve(ics("20260814 Day of the lake", "20271229 Closing day"))
    assert load_policy(folder).version == before
    [found] = await fetch(folder)
    assert found["outcome"] == "changed"
    assert load_policy(folder).version != before


async def test_what_is_not_new_is_not_sent_again(server: FeedServer, folder: Path) -> None:
    server.serve(GOOD, 'ETag: "one"', "Last-Modified: Wed, 01 Jul 2026 00:00:00 GMT")
    [first] = await fetch(folder)
    server.serve(b"", status=304)
    [second] = await fetch(folder)
    assert second["outcome"] == "unchanged"
    assert "if-none-match" not in server.asked[0]
    assert server.asked[1]["if-none-match"] == '"one"'
    assert server.asked[1]["if-modified-since"] == "Wed, 01 Jul 2026 00:00:00 GMT"
    for name in ("fetched_at", "sha256", "etag", "events"):
        assert second["provenance"][name] == first["provenance"][name]
    assert second["provenance"]["checked_at"] > first["provenance"]["checked_at"]


async def test_a_file_that_was_changed_or_deleted_is_asked_for_whole(
    server: FeedServer, folder: Path
) -> None:
    server.serve(GOOD, 'ETag: "one"')
    for spoiled in (b"x", None):
        await fetch(folder)
        if spoiled:
            (folder / "city.ics").write_bytes(spoiled)
        else:
            (folder / "city.ics").unlink()
        await fetch(folder)
        assert "if-none-match" not in server.asked[-1]
        assert (folder / "city.ics").read_bytes() == GOOD


async def test_years_that_were_extended_are_judged_although_nothing_is_new(
    server: FeedServer, folder: Path
) -> None:
    server.serve(GOOD, 'ETag: "one"')
    await fetch(folder)
    edit(folder, YEARS, "years: {first: 2026, last: 2028}")
    server.serve(b"", status=304)
    assert "city.ics has no holiday in 2028" in await failure(folder)


async def test_redirects_are_followed(server: FeedServer, folder: Path) -> None:
    server.serve(b"", "Location: /elsewhere.ics", status=302)
    server.serve(GOOD, path="/elsewhere.ics")
    [found] = await fetch(folder)
    assert (found["outcome"], found["provenance"]["url"]) == ("new", server.url())


async def test_a_file_of_two_calendars_is_fetched_once(server: FeedServer, folder: Path) -> None:
    feed = f"{{url: '{server.url()}', allow_http: true, file: city.ics, years: {{first: 2027, last: 2027}}}}"
    edit(
        folder,
        "    source: every hour",
        f"    holidays: {{years: {{first: 2027, last: 2027}}, feeds: [{feed}]}}\n    source: every hour",
    )
    [found] = await fetch(folder)
    assert found["calendars"] == ["offices", "24x7"]
    assert len(server.asked) == 1
    assert [day.on for day in load_policy(folder).sla.calendars[1].holidays] == [date(2027, 12, 28)]
    [one] = await fetch(folder, "--calendar", "24x7")
    assert one["calendars"] == ["24x7"]


async def test_check_writes_nothing(server: FeedServer, folder: Path) -> None:
    before = names_in(folder)
    [found] = await fetch(folder, "--check")
    assert found["outcome"] == "new"
    server.serve(b"<html>", status=200)
    assert "web page" in await failure(folder, "--check")
    assert names_in(folder) == before


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------- what is not

HTML = b"\n<!DOCTYPE html><html><body>Please sign in</body></html>"
BEYOND = b"HTTP/1.1 200 OK\r\n\r\n"

BAD: list[tuple[str, Behaviour | bytes | int, str]] = [
    ("html", HTML, "answered with a web page (HTML or XML) instead of an iCalendar file."),
    ("json", b'{"error": "gone"}', "cannot be used: what came is no iCalendar file"),
    ("nothing", b"", "cannot be used: what came is no iCalendar file"),
    ("empty", ics(), "cannot be used: the file has no events."),
    ("ends", ics("20260814 Lake"), "cannot be used: city.ics has no holiday in 2027; expected one in every year."),
    ("truncated", GOOD[:-40], "sent a file that breaks off before END:VCALENDAR."),
    ("repeats", GOOD.replace(b"SUMMARY:Closing", b"RRULE:FREQ=YEARLY\r\nSUMMARY:Closing"),
     "cannot be used: has an event that repeats (RRULE)"),
    ("missing", 404, "answered 404 Not Found; expected 200 and a file."),
    ("broken", 500, "answered 500 Internal Server Error; expected 200 and a file."),
    ("partial", 206, "answered 206 Partial Content; expected 200 and a file."),
    ("unasked", 304, "answered 304 Not Modified, although it was not asked for changes."),
    ("odd", 799, "answered 799; expected 200"),
    ("silent", hanging_up, "ended in the middle of its answer, or that was no HTTP"),
    ("cut", saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + GOOD), "ended in the middle of its answer"),
    ("gopher", saying(b"hello\r\n\r\n"), "ended in the middle of its answer, or that was no HTTP"),
    ("large", endless(BEYOND, b" " * 65_536), "sends more than the 1,000,000 bytes that such a file may have."),
    ("packed", saying(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(GOOD)),
     "answered in the encoding 'gzip', which was not asked for."),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "says"), [(a, s) for _, a, s in BAD], ids=[name for name, _, _ in BAD])
async def test_what_cannot_be_used_is_said_and_the_file_stays(
    server: FeedServer, folder: Path, answer: Behaviour | bytes | int, says: str
) -> None:
    await fetch(folder)
    match answer:
        case bytes():
            server.serve(answer)
        case int():
            server.serve(b"gone", status=answer)
        case _:
            server.behaviours["/city.ics"] = answer
    if answer == 304:
        (folder / "city.ics.provenance.json").unlink()
    said = await failure(folder)
    assert said.startswith(f"http://127.0.0.1:{server.port}/city.ics ")
    assert says in said
    assert (folder / "city.ics").read_bytes() == GOOD
    assert load_policy(folder).version
    assert not [name for name in names_in(folder) if name.endswith(".part")]
    known = read_provenance(folder, "city.ics")
    assert known is not None
    assert known.failure is not None
    assert (known.failure.because, known.failure.in_a_row) == (said, 1)


@pytest.mark.parametrize("started", [b"", BEYOND, BEYOND + b"BEGIN:VCALENDAR\r\n"])
async def test_a_server_that_hangs_is_not_waited_for(server: FeedServer, started: bytes) -> None:
    released = asyncio.Event()

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(started)
        await writer.drain()
        await hanging(released)(writer)

    server.behaviours["/city.ics"] = behave
    with pytest.raises(Unfetchable, match=r"/city.ics did not answer whole within 1 s\."):
        await fetcher().fetch(server.url(), allow_http=True)
    released.set()


async def test_a_server_that_drips_is_not_waited_for(server: FeedServer) -> None:
    """Each byte comes in time, and all of them never."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(BEYOND)
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    server.behaviours["/city.ics"] = drip
    with pytest.raises(Unfetchable, match="did not answer whole"):
        await fetcher().fetch(server.url(), allow_http=True)


async def test_nobody_there() -> None:
    async with feed_server() as gone:
        url = gone.url()
    with pytest.raises(Unfetchable, match=r"cannot be reached: Connection refused\."):
        await fetcher().fetch(url, allow_http=True)
    with pytest.raises(Unfetchable, match="cannot be reached: its name is not known"):
        await fetcher().fetch("https://nowhere.invalid/city.ics")


async def test_redirects_have_an_end(server: FeedServer) -> None:
    server.serve(b"", "Location: /city.ics", status=301)
    with pytest.raises(Unfetchable, match="redirects more than 5 times"):
        await fetcher().fetch(server.url(), allow_http=True)
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    "location", ["", "file:///etc/passwd", "https://user:secret@city.example/", "http://["]
)
async def test_a_redirect_to_what_is_no_address_is_not_followed(server: FeedServer, location: str) -> None:
    server.serve(b"", f"Location: {location}", status=302)
    with pytest.raises(Unfetchable, match="no address that can be") as caught:
        await fetcher().fetch(server.url(), allow_http=True)
    assert "secret" not in str(caught.value)


def test_a_redirect_away_from_tls_is_not_followed() -> None:
    with pytest.raises(Unfetchable, match=r"redirects to http://b/, without TLS: expected https://"):
        next_url("https://a/x", {"Location": "http://b/"}, allow_http=False)
    assert next_url("https://a/x", {"Location": "../y?z"}, allow_http=False) == "https://a/y?z"


def fetcher(trusted: ssl.SSLContext | None = None) -> Fetcher:
    return Fetcher(trusted or ssl.create_default_context(), QUICK)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1, which vouches for itself."""
    pem = tmp_path / "feed.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", f"{pem}.key", "-out", str(pem), "-subj", "/CN=feed", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return pem


async def test_a_certificate_is_checked(certificate: Path) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, f"{certificate}.key")
    async with feed_server(tls) as secure:
        secure.serve(GOOD)
        with pytest.raises(Unfetchable, match="its certificate is not trusted"):
            await fetcher().fetch(secure.url())
        found = await fetcher(ssl.create_default_context(cafile=str(certificate))).fetch(secure.url())
    assert found is not None
    assert found.body == GOOD


# ---------------------------------------------------------------- failures and their end


async def test_failures_in_a_row_are_counted_until_it_works_again(server: FeedServer, folder: Path) -> None:
    [feed] = feeds_of(read_document(folder / "calendars.yaml"))

    async def get(url: str, have: Conditions, allow_http: bool) -> Any:
        return await fetcher().fetch(url, have, allow_http=allow_http)

    await refresh(feed, folder, get, NOW)
    server.serve(b"", status=500)
    for now in (NOW, LATER):
        await refresh(feed, folder, get, now)
    [warning] = feed_warnings(folder)
    assert warning == (
        "Fetching city.ics failed 2 times, last at 2026-07-02 12:00Z, that of 2026-07-01 is still in use. "
        f"http://127.0.0.1:{server.port}/city.ics answered 500 Internal Server Error; expected 200 and a file."
    )
    server.serve(GOOD)
    result = await refresh(feed, folder, get, LATER)
    assert (result.outcome, result.provenance.failure, feed_warnings(folder)) == ("unchanged", None, [])
    assert (result.provenance.fetched_at, result.provenance.checked_at) == (NOW, LATER)


async def test_a_feed_that_was_never_fetched_is_an_error_that_names_the_command(folder: Path) -> None:
    with pytest.raises(PolicyErrors) as caught:
        load_policy(folder)
    [error] = caught.value.errors
    assert error.key == "calendars[0].holidays.feeds[0].file"
    assert "city.ics was never fetched from 127.0.0.1:" in error.message
    assert f"run `rapid sla fetch --policy {folder}`" in error.message


async def test_a_last_fetch_that_failed_is_a_warning(server: FeedServer, folder: Path) -> None:
    await fetch(folder)
    quiet = json.loads((await run("check", str(folder), "--json", of=policy_app)).stdout)
    assert quiet["warnings"] == []
    server.serve(HTML)
    await failure(folder)
    checked = await run("check", str(folder), "--json", of=policy_app)
    assert checked.exit_code == 0
    [warning] = json.loads(checked.stdout)["warnings"]
    assert "Fetching city.ics failed once" in warning
    assert "Warning: Fetching city.ics failed once" in (await run("check", str(folder), of=policy_app)).stdout
    assert "Warning: Fetching city.ics failed" in (await run("calendars", "--policy", str(folder))).stdout


async def test_a_file_that_is_not_what_was_fetched_is_a_warning(server: FeedServer, folder: Path) -> None:
    await fetch(folder)
    (folder / "city.ics").write_bytes(ics("20260101 Mine", "20270101 Mine too"))
    assert feed_warnings(folder) == [
        "city.ics was changed by hand since it was fetched: run `rapid sla fetch`, or list it under files."
    ]
    edit(folder, "/city.ics", "/other.ics")
    [moved] = feed_warnings(folder)
    assert "came from another address" in moved
    (folder / "city.ics.provenance.json").write_text("{")
    [unknown] = feed_warnings(folder)
    assert unknown == "Nothing is known of where city.ics came from: run `rapid sla fetch`."


# ---------------------------------------------------------------- what the policy may say

WRONG = [
    (
        "http://city.example/h.ics",
        "",
        "expected an address that begins with https://, or allow_http: true beside it",
    ),
    ("ftp://city.example/h.ics", "", "expected text that matches ^"),
    ("https://user:secret@city.example/h.ics", "", "expected text that matches ^"),
    ("https://city.example/h.ics#x y", "", "expected text that matches ^"),
    ("https://city.example/h.ics", "file: ../h.ics, ", "expected text that matches ^"),
]


@pytest.mark.parametrize(("url", "file", "says"), WRONG)
def test_an_address_or_file_that_cannot_be_is_told(tmp_path: Path, url: str, file: str, says: str) -> None:
    folder = policy_with(tmp_path, f"{{url: '{url}', {file or 'file: h.ics, '}{YEARS}}}")
    with pytest.raises(PolicyErrors) as caught:
        load_policy(folder)
    assert says in caught.value.errors[0].message
    assert "secret" not in caught.value.errors[0].message


def test_one_file_has_one_source(tmp_path: Path) -> None:
    feeds = [f"{{url: 'https://{host}.example/h.ics', file: h.ics, {YEARS}}}" for host in "ab"]
    folder = policy_with(tmp_path, ", ".join(feeds))
    with pytest.raises(PolicyErrors) as caught:
        load_policy(folder)
    assert "expected h.ics from https://a.example/h.ics, as above, found 'h.ics'" in [
        error.message for error in caught.value.errors
    ]


async def test_a_wrong_question_is_one_sentence(tmp_path: Path) -> None:
    for arguments, says in (
        (("--policy", str(tmp_path / "nowhere")), "The calendars cannot be read: calendars.yaml: is missing"),
        (("--calendar", "nope"), "There is no calendar nope: choose from offices, 24x7."),
    ):
        oops = (await run("fetch", *arguments)).exception
        assert isinstance(oops, Oops)
        assert says in str(oops)
    assert "names no feeds" in (await run("fetch")).stdout
