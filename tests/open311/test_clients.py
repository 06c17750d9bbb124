"""The independent clients `three` and `georeport` list services, file, poll the token, and read back."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.open311.conformance import as_text
from tests.open311.ours import Ours

CLIENTS_S = 60.0


async def _run(url: str, key: str, token: str = "") -> Any:
    program = Path(__file__).with_name("clients.py")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", str(program), url, key, token,
        stdout=asyncio.subprocess.PIPE, env=os.environ | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
    )  # fmt: skip
    async with asyncio.timeout(CLIENTS_S):
        out, _ = await child.communicate()
    assert child.returncode == 0
    return json.loads(out)


async def test_three_and_georeport_file_poll_and_read_back_the_same_in_both_formats(
    ours: Ours, connection: Any, areas: Any
) -> None:
    key = await ours.key("intake")
    filed = await _run(ours.url, key)
    token = filed["receipt"]["token"]
    assert filed["token"] == [{"service_request_id": None, "token": token}]
    assert filed["discovery"]["endpoints"][0]["url"] == ours.url
    [report] = await ours.take_in(connection, areas)
    assert (report.source, report.category, report.address) == (
        "open311",
        "street_light",
        "4015 W West End Ave",
    )

    seen = await _run(ours.url, key, token)
    [request] = seen["three"]
    assert request["service_request_id"] == report.request_number
    assert (request["status"], request["address"]) == ("open", "4000 W WEST END AVE")
    assert seen["three list"] == [request]
    assert seen["three xml"] == as_text(request)
    of_json, of_xml = seen["georeport json"], seen["georeport xml"]
    assert of_json["request"] == request
    assert of_json["requests"] == [request]
    assert of_xml["request"] == of_xml["requests"] == as_text(request)
    assert of_xml["services"] == as_text(of_json["services"])
    assert of_xml["definition"]["service_code"] == of_json["definition"]["service_code"]


async def test_nothing_of_who_filed_or_what_they_wrote_is_kept_anywhere(
    ours: Ours, connection: Any, areas: Any
) -> None:
    await _run(ours.url, await ours.key("intake"))
    waiting = await connection.fetch("SELECT value FROM outbox")
    await ours.take_in(connection, areas)
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [str(await connection.fetch(f'SELECT t::text FROM "{table[0]}" t')) for table in tables]
    everything = " ".join([*(row["value"].decode() for row in waiting), *rows])
    assert "West End" in everything
    for secret in ("Zach", "Williams", "555-5555", "my door"):
        assert secret not in everything
