"""The same suite holds for our endpoint and for the fake city that our client is tested on."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.open311 import city as fake
from tests.open311 import ours as own
from tests.open311.city import FakeCity
from tests.open311.conformance import (
    Endpoint,
    check_discovery,
    check_errors,
    check_filing,
    check_redeemed,
    check_requests,
    check_services,
)
from tests.open311.ours import Ours

PLACE = {"lat": "41.8836", "long": "-87.7270", "address_string": "4015 W WEST END AVE"}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        yield client


async def test_our_endpoint_is_as_the_standard_says(
    ours: Ours, http: httpx.AsyncClient, connection: Any, areas: Any
) -> None:
    one = Endpoint(http, f"{ours.root}/open311", await ours.key("intake"), own.JURISDICTION, PLACE)
    await check_discovery(one)
    await check_services(one)
    await check_errors(one)
    token = await check_filing(one)
    assert await check_redeemed(one, token) == "None"  # it is on its way
    assert len(await ours.take_in(connection, areas)) == 2
    await check_requests(one, await check_redeemed(one, token))


@pytest.mark.parametrize("polls", [None, 0])
async def test_the_fake_city_is_as_the_standard_says(
    city: FakeCity, http: httpx.AsyncClient, polls: int | None
) -> None:
    city.gives_tokens = polls
    one = Endpoint(http, f"{city.root}/open311", fake.KEY, fake.JURISDICTION, PLACE)
    await check_discovery(one)
    await check_services(one)
    await check_errors(one)
    given = await check_filing(one)
    await check_requests(one, given if polls is None else await check_redeemed(one, given))
