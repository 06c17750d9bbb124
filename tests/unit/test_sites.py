"""Sites: many spellings of one place give one key, and two places never share one."""

import csv
import json
from pathlib import Path
from typing import cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agents.sites import block_of, normalize_address, site_of
from schemas.base import Point
from schemas.policy import Policy
from schemas.work_order import Site

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"REAL DATA NOT TESTED: {SHARED_DATA} is absent")
    return SHARED_DATA


class _PolicyOfSites:
    """The one part of a policy that sites depend on."""

    site_cell_resolution = 13


POLICY = cast(Policy, _PolicyOfSites())
SPOT = Point(lat=41.8821, lon=-87.7263)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("4000 W WASHINGTON BLVD", "4000 W WASHINGTON BLVD"),
        ("4000 West Washington Boulevard", "4000 W WASHINGTON BLVD"),
        (" 4000  w. washington blvd., Chicago, IL 60624", "4000 W WASHINGTON BLVD"),
        ("04000 W WASHINGTON BLVD APT 3", "4000 W WASHINGTON BLVD"),
        ("4000 W WASHINGTON BLVD #2R", "4000 W WASHINGTON BLVD"),
        ("4000 W Washington Blvd, Chicago", "4000 W WASHINGTON BLVD"),
        ("5300 W CHICAGO", "5300 W CHICAGO"),
        ("4701A S WOODLAWN AVE", "4701A S WOODLAWN AVE"),
        ("0 E 69TH STREET", "0 E 69TH ST"),
        ("12 E 69 St", "12 E 69TH ST"),
        ("12 EAST 63TH PLACE", "12 E 63RD PL"),
        ("1100 E 111ST ST", "1100 E 111TH ST"),
        ("1600 W NORTH AVE", "1600 W NORTH AVE"),
        ("1600 NORTH AVENUE", "1600 NORTH AVE"),
        ("1600 North Avers Avenue", "1600 N AVERS AVE"),
        ("8988 S SOUTH  CHICAGO AVE", "8988 S SOUTH CHICAGO AVE"),
        ("10006 S AVENUE  M", "10006 S AVENUE M"),
        ("13107 S AVE N", "13107 S AVENUE N"),
        ("3400 W FIFTH AVE", "3400 W FIFTH AVE"),
        ("3400 W 5TH AVE", "3400 W FIFTH AVE"),
        ("8342 S LASALLE ST", "8342 S LA SALLE ST"),
        ("6401 S DOCTOR MARTIN LUTHER KING JR DR", "6401 S DR MARTIN LUTHER KING JR DR"),
        ("6401 S Martin Luther King Drive", "6401 S DR MARTIN LUTHER KING JR DR"),
        ("6401 S King Dr", "6401 S DR MARTIN LUTHER KING JR DR"),
        ("2401 N DUSABLE LAKE SHORE DR", "2401 N LAKE SHORE DR"),
        ("1700 S LAKE SHORE DR SB", "1700 S LAKE SHORE DR SB"),
        ("3000 W LUIS MUÑOZ MARIN DR NORTH", "3000 W LUIS MUNOZ MARIN DR N"),
        ("1908 S Saint Louis Ave.", "1908 S ST LOUIS AVE"),
        ("10000 W O'HARE AIRPORT", "10000 W OHARE AIRPORT"),
        ("11652 S M", "11652 S M"),
        ("4091 N BROADWAY", "4091 N BROADWAY"),
        ("N BROADWAY", "N BROADWAY"),
        ("STATE & MADISON", "STATE AND MADISON"),
        ("", None),
        (" .,|# ", None),
        (None, None),
    ],
)
def test_spellings_of_an_address_have_one_form(written: str | None, normal: str | None) -> None:
    assert normalize_address(written) == normal


@pytest.mark.parametrize(
    ("written", "block"),
    [
        ("4000 W WASHINGTON BLVD", "4000 BLOCK W WASHINGTON BLVD"),
        ("040XX W WASHINGTON BLVD", "4000 BLOCK W WASHINGTON BLVD"),
        ("4015 West Washington Blvd", "4000 BLOCK W WASHINGTON BLVD"),
        ("4000 block of W. Washington Blvd.", "4000 BLOCK W WASHINGTON BLVD"),
        ("0 E 69TH ST", "0 BLOCK E 69TH ST"),
        ("000XX E 69TH ST", "0 BLOCK E 69TH ST"),
        ("0000X E 69TH ST", "0 BLOCK E 69TH ST"),
        ("XX E 69TH ST", "0 BLOCK E 69TH ST"),
        ("118XX S MICHIGAN AVE", "11800 BLOCK S MICHIGAN AVE"),
        ("1500 N LUIS MUNOZ MARIN DR W", "1500 BLOCK N LUIS MUNOZ MARIN DR W"),
        ("W MADISON ST", None),
        ("4000", None),
        ("", None),
        (None, None),
    ],
)
def test_victims_crimes_and_requests_name_a_block_alike(written: str | None, block: str | None) -> None:
    assert block_of(written) == block


WORDS = (
    "0 12 040XX XX 7TH 69 22ST N NORTH SOUTH W WEST NB BLOCK BLK OF ST SAINT STREET AVE AV AVENUE DR DRIVE "
    "DOCTOR KING JR MARTIN LUTHER M L MLK LASALLE LA SALLE LAKE SHORE FIFTH 5TH FLOOR FL UNIT APT # 3 B "
    "CHICAGO IL 60624 , . & AND PARK"
)


@settings(max_examples=2000, deadline=None)
@given(st.text(max_size=250) | st.lists(st.sampled_from(WORDS.split()), max_size=9).map(" ".join))
@example("12 W W W ST N ST")
@example("0 0 SAINT N")
@example("1 W KING DR DR")
@example("ß & ﬁ 1st")
def test_normalizing_twice_changes_nothing_and_keys_stay_in_bounds(text: str) -> None:
    for normalize in (normalize_address, block_of):
        once = normalize(text)
        assert once is None or (normalize(once) == once and "|" not in once and 0 < len(once) <= 200)
    site = site_of(POLICY, address=text or None)
    assert "|" not in site.key
    assert len(site.key) <= 200


def test_an_address_is_the_site() -> None:
    assert site_of(POLICY, address="4015 West Washington Blvd", point=SPOT, area=26) == Site(
        key="4015 W WASHINGTON BLVD",
        basis="address",
        address="4015 W WASHINGTON BLVD",
        point=SPOT,
        area=26,
    )


@pytest.mark.parametrize(
    ("address", "block"), [(None, "4000 W WASHINGTON BLVD"), ("040XX W WASHINGTON BLVD", None)]
)
def test_without_an_address_the_block_is_the_site(address: str | None, block: str | None) -> None:
    assert site_of(POLICY, address=address, block=block, point=SPOT, area=26) == Site(
        key="4000 BLOCK W WASHINGTON BLVD",
        basis="block",
        address="4000 BLOCK W WASHINGTON BLVD",
        point=SPOT,
        area=26,
    )


def test_without_words_a_small_cell_is_the_site_and_points_metres_apart_share_it() -> None:
    site = site_of(POLICY, address="  ", point=SPOT, area=26)
    assert (site.basis, site.address, site.point) == ("cell", None, SPOT)
    assert site.key.startswith("cell:8d")
    assert site_of(POLICY, point=Point(lat=SPOT.lat + 1e-7, lon=SPOT.lon)).key == site.key
    assert site_of(POLICY, point=Point(lat=SPOT.lat + 1e-3, lon=SPOT.lon)).key != site.key


@pytest.mark.parametrize("street", ["W MADISON ST", "4000", "MADISON"])
def test_a_street_without_a_number_is_no_site_but_its_cell_is(street: str) -> None:
    site = site_of(POLICY, address=street, point=SPOT, area=26)
    assert (site.basis, site.address) == ("cell", street)
    assert site_of(POLICY, address=street, area=26).key == "area:26"


def test_a_crossing_is_a_site() -> None:
    assert site_of(POLICY, address="State & Madison", area=32).key == "STATE AND MADISON"


def test_without_a_place_the_area_is_the_site() -> None:
    assert site_of(POLICY, area=44) == Site(key="area:44", basis="area", address=None, point=None, area=44)
    assert site_of(POLICY).key == "area:unknown"


@pytest.mark.shared
def test_real_blocks_and_addresses_keep_their_identity(shared_data: Path) -> None:
    """Nothing distinct in the city's own data is merged, but for two spellings of one street."""
    with (shared_data / "victims_2024-09_2025.csv").open(newline="", encoding="utf-8") as lines:
        blocks = {row["BLOCK"] for row in csv.DictReader(lines)}
    requests = json.loads((shared_data / "service_requests_2025-12.json").read_text(encoding="utf-8"))
    addresses = {" ".join(row["street_address"].split()) for row in requests}
    assert all(block_of(block) for block in blocks)
    assert len({block_of(block) for block in blocks}) == len(blocks)
    assert len({normalize_address(address) for address in addresses}) == len(addresses)
    changed = {address for address in addresses if normalize_address(address) != address}
    assert changed == {
        "2401 N DUSABLE LAKE SHORE DR",
        "8342 S LASALLE ST",
        "6401 S DOCTOR MARTIN LUTHER KING JR DR",
    }
