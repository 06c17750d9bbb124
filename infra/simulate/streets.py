"""Chicago's street grid: from coordinates to an address that looks like one there.

House numbers count from State Street (west, east) and Madison Street (north, south), 800 to a mile; the first
three miles south have 1,200, 1,000 and 900. Against the addresses and points of the 1,328 service requests of
December 2025, numbers computed here are off by a median of 60 north-south and 93 east-west (the real grid is
turned by a degree): plausible, not exact, as simulated addresses may be.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Final, NamedTuple

from schemas.base import Point

STATE_AND_MADISON: Final = Point(lat=41.8820, lon=-87.6278)
METRES_PER_DEGREE_LAT: Final = 111_071.0  # WGS 84 at 41.88 degrees
METRES_PER_DEGREE_LON: Final = 111_510.0  # times the cosine of the latitude; the same
METRES_PER_MILE: Final = 1_609.344
SNAP_NUMBERS: Final = 70  # how far, in house numbers, a point moves to stand on the nearest named street

_SOUTH: Final = ((0.0, 0.0), (1.0, 1_200.0), (2.0, 2_200.0), (3.0, 3_100.0), (30.0, 24_700.0))


class Street(NamedTuple):
    """A street of the grid. `number`: its distance from the axis; west and south are negative."""

    number: int
    name: str


class Address(NamedTuple):
    """An address, and the point on the street where it stands."""

    text: str
    point: Point


def _table(text: str, sign: int) -> list[Street]:
    """`1600 ASHLAND AVE, …` as streets."""
    rows = (entry.strip().split(" ", 1) for entry in text.split(","))
    return [Street(sign * int(number), name) for number, name in rows]


# Real names at about their real numbers.
NORTH_SOUTH: Final = sorted([
    *_table(
        "0 STATE ST, 200 WENTWORTH AVE, 300 PRINCETON AVE, 400 STEWART AVE, 500 NORMAL AVE, 600 WALLACE ST,"
        "632 LOWE AVE, 700 UNION AVE, 732 EMERALD AVE, 800 HALSTED ST, 832 GREEN ST, 900 PEORIA ST,"
        "932 SANGAMON ST, 1000 MORGAN ST, 1032 CARPENTER ST, 1100 ABERDEEN ST, 1132 MAY ST, 1200 RACINE AVE,"
        "1232 ELIZABETH ST, 1300 THROOP ST, 1326 ADA ST, 1400 LOOMIS ST, 1432 BISHOP ST, 1500 LAFLIN ST,"
        "1532 JUSTINE ST, 1600 ASHLAND AVE, 1632 MARSHFIELD AVE, 1700 PAULINA ST, 1732 HERMITAGE AVE,"
        "1800 WOOD ST, 1832 HONORE ST, 1900 WOLCOTT AVE, 1932 WINCHESTER AVE, 2000 DAMEN AVE, 2100 HOYNE AVE,"
        "2134 HAMILTON AVE, 2200 LEAVITT ST, 2300 OAKLEY AVE, 2330 CLAREMONT AVE, 2400 WESTERN AVE,"
        "2432 ARTESIAN AVE, 2500 CAMPBELL AVE, 2532 MAPLEWOOD AVE, 2600 ROCKWELL ST, 2632 TALMAN AVE,"
        "2700 WASHTENAW AVE, 2732 FAIRFIELD AVE, 2800 CALIFORNIA AVE, 2834 MOZART ST, 2900 FRANCISCO AVE,"
        "3000 SACRAMENTO AVE, 3032 WHIPPLE ST, 3100 ALBANY AVE, 3132 TROY ST, 3200 KEDZIE AVE,"
        "3232 SAWYER AVE, 3300 SPAULDING AVE, 3332 CHRISTIANA AVE, 3400 HOMAN AVE, 3432 TRUMBULL AVE,"
        "3500 ST LOUIS AVE, 3532 DRAKE AVE, 3600 CENTRAL PARK AVE, 3632 MILLARD AVE, 3700 LAWNDALE AVE,"
        "3732 RIDGEWAY AVE, 3800 HAMLIN AVE, 3832 AVERS AVE, 3900 SPRINGFIELD AVE, 3932 HARDING AVE,"
        "4000 PULASKI RD, 4100 KARLOV AVE, 4200 KEELER AVE, 4232 TRIPP AVE, 4300 KILDARE AVE, 4332 KOLIN AVE,"
        "4400 KOSTNER AVE, 4432 KENNETH AVE, 4500 KILBOURN AVE, 4532 KOLMAR AVE, 4600 KNOX AVE,"
        "4700 KILPATRICK AVE, 4732 KEATING AVE, 4800 CICERO AVE, 4900 LAMON AVE, 5000 LAVERGNE AVE,"
        "5100 LECLAIRE AVE, 5200 LARAMIE AVE, 5232 LATROBE AVE, 5300 LOCKWOOD AVE, 5332 LOREL AVE,"
        "5400 LONG AVE, 5432 LOTUS AVE, 5500 PINE AVE, 5600 CENTRAL AVE, 5700 WALLER AVE, 5800 MENARD AVE,"
        "5900 MAYFIELD AVE, 6000 AUSTIN BLVD, 6100 MEADE AVE, 6400 NARRAGANSETT AVE, 6800 OAK PARK AVE,"
        "7000 SAYRE AVE, 7200 HARLEM AVE, 7600 OVERHILL AVE, 8400 CUMBERLAND AVE",
        -1,
    ),
    *_table(
        "100 MICHIGAN AVE, 200 INDIANA AVE, 300 PRAIRIE AVE, 344 CALUMET AVE,"
        "400 DR MARTIN LUTHER KING JR DR, 430 VERNON AVE, 500 EBERHART AVE, 532 RHODES AVE,"
        "600 ST LAWRENCE AVE, 634 CHAMPLAIN AVE, 700 LANGLEY AVE, 732 EVANS AVE, 800 COTTAGE GROVE AVE,"
        "832 MARYLAND AVE, 900 DREXEL AVE, 932 INGLESIDE AVE, 1000 ELLIS AVE, 1100 GREENWOOD AVE,"
        "1144 UNIVERSITY AVE, 1200 WOODLAWN AVE, 1300 KIMBARK AVE, 1342 KENWOOD AVE, 1400 DORCHESTER AVE,"
        "1450 BLACKSTONE AVE, 1500 HARPER AVE, 1600 STONY ISLAND AVE, 1700 EAST END AVE, 1732 CREGIER AVE,"
        "1800 RIDGELAND AVE, 1832 EUCLID AVE, 1900 BENNETT AVE, 2000 JEFFERY BLVD, 2100 CLYDE AVE,"
        "2132 MERRILL AVE, 2200 PAXTON AVE, 2232 CRANDON AVE, 2300 LUELLA AVE, 2400 YATES BLVD,"
        "2432 PHILLIPS AVE, 2500 ESSEX AVE, 2532 KINGSTON AVE, 2600 COLFAX AVE, 2632 SAGINAW AVE,"
        "2700 MARQUETTE AVE, 2732 MANISTEE AVE, 2800 BURNHAM AVE, 2900 EXCHANGE AVE, 3000 COMMERCIAL AVE,"
        "3032 HOUSTON AVE, 3100 BALTIMORE AVE, 3132 BRANDON AVE, 3200 BURLEY AVE, 3300 GREEN BAY AVE,"
        "3430 AVENUE O, 3500 AVENUE N, 3532 AVENUE M, 3600 AVENUE L, 3700 AVENUE J",
        1,
    ),
])  # fmt: skip

EAST_WEST: Final = sorted([
    *_table(
        "0 MADISON ST, 100 WASHINGTON BLVD, 200 LAKE ST, 300 FULTON ST, 400 KINZIE ST, 500 GRAND AVE,"
        "600 OHIO ST, 700 HURON ST, 800 CHICAGO AVE, 900 IOWA ST, 1000 AUGUSTA BLVD, 1100 THOMAS ST,"
        "1200 DIVISION ST, 1300 POTOMAC AVE, 1400 HIRSCH ST, 1500 LE MOYNE ST, 1600 NORTH AVE,"
        "1700 WABANSIA AVE, 1800 BLOOMINGDALE AVE, 1900 CORTLAND ST, 2000 ARMITAGE AVE, 2100 DICKENS AVE,"
        "2200 PALMER ST, 2300 BELDEN AVE, 2400 FULLERTON AVE, 2500 ALTGELD ST, 2600 WRIGHTWOOD AVE,"
        "2700 SCHUBERT AVE, 2800 DIVERSEY AVE, 2900 GEORGE ST, 3000 WELLINGTON AVE, 3100 BARRY AVE,"
        "3200 BELMONT AVE, 3300 SCHOOL ST, 3400 ROSCOE ST, 3500 CORNELIA AVE, 3600 ADDISON ST,"
        "3700 WAVELAND AVE, 3800 GRACE ST, 3900 BYRON ST, 4000 IRVING PARK RD, 4200 BERTEAU AVE,"
        "4400 MONTROSE AVE, 4600 WILSON AVE, 4800 LAWRENCE AVE, 5000 ARGYLE ST, 5200 FOSTER AVE,"
        "5400 BALMORAL AVE, 5600 BRYN MAWR AVE, 5800 ARDMORE AVE, 6000 PETERSON AVE, 6200 GRANVILLE AVE,"
        "6400 DEVON AVE, 6600 ALBION AVE, 6800 PRATT AVE, 7000 LUNT AVE, 7200 TOUHY AVE, 7400 JARVIS AVE,"
        "7600 HOWARD ST",
        1,
    ),
    *_table(
        "100 MONROE ST, 200 ADAMS ST, 300 JACKSON BLVD, 400 VAN BUREN ST, 500 CONGRESS PKWY, 600 HARRISON ST,"
        "700 FLOURNOY ST, 800 POLK ST, 1000 TAYLOR ST, 1100 GRENSHAW ST, 1200 ROOSEVELT RD, 2200 CERMAK RD,"
        "3900 PERSHING RD, 5500 GARFIELD BLVD",
        -1,
    ),
])  # fmt: skip


def address_near(point: Point, chance: Random) -> Address:
    """An address at or near the point, on a street that runs one way or the other."""
    east, north = grid_of(point)
    if chance.random() < 0.5:
        street = _nearest(NORTH_SOUTH, east)
        text = f"{_house(north, 'N', 'S')} {street.name}"
        near = abs(street.number - east) <= SNAP_NUMBERS
        return Address(text, Point(lat=point.lat, lon=lon_of(street.number, point.lat)) if near else point)
    street = _east_west(north)
    text = f"{_house(east, 'E', 'W')} {street.name}"
    near = abs(street.number - north) <= SNAP_NUMBERS
    return Address(text, Point(lat=lat_of(street.number), lon=point.lon) if near else point)


def block_of_address(text: str) -> str:
    """As the victims' data writes it: `4015 W ADAMS ST` is on the block `4000 W ADAMS ST`."""
    number, rest = text.split(" ", 1)
    return f"{int(number) // 100 * 100} {rest}"


def grid_of(point: Point) -> tuple[float, float]:
    """House numbers east and north of State and Madison; west and south are negative."""
    east_m = (point.lon - STATE_AND_MADISON.lon) * _metres_per_degree_lon(point.lat)
    miles_north = (point.lat - STATE_AND_MADISON.lat) * METRES_PER_DEGREE_LAT / METRES_PER_MILE
    north = miles_north * 800 if miles_north >= 0 else -_along(_SOUTH, -miles_north)
    return east_m / METRES_PER_MILE * 800, north


def lon_of(east: float, lat: float) -> float:
    """The longitude of a house number east (west: negative) at a latitude."""
    return round(STATE_AND_MADISON.lon + east / 800 * METRES_PER_MILE / _metres_per_degree_lon(lat), 6)


def lat_of(north: float) -> float:
    """The latitude of a house number north (south: negative)."""
    inverse = [(number, mile) for mile, number in _SOUTH]
    miles = north / 800 if north >= 0 else -_along(inverse, -north)
    return round(STATE_AND_MADISON.lat + miles * METRES_PER_MILE / METRES_PER_DEGREE_LAT, 6)


def moved(point: Point, east_m: float, north_m: float) -> Point:
    """The point so many metres away, to six decimals (0.1 m)."""
    return Point(
        lat=round(point.lat + north_m / METRES_PER_DEGREE_LAT, 6),
        lon=round(point.lon + east_m / _metres_per_degree_lon(point.lat), 6),
    )


def _metres_per_degree_lon(lat: float) -> float:
    return METRES_PER_DEGREE_LON * math.cos(math.radians(lat))


def _along(steps: Sequence[tuple[float, float]], x: float) -> float:
    """Linear between the steps, which start at (0, 0); beyond the last one its slope goes on."""
    (x0, y0), (x1, y1) = next((pair for pair in pairwise(steps) if x <= pair[1][0]), (steps[-2], steps[-1]))
    return y0 + (x - x0) * (y1 - y0) / (x1 - x0)


def _house(number: float, positive: str, negative: str) -> str:
    return f"{abs(round(number))} {positive if number >= 0 else negative}"


def _east_west(north: float) -> Street:
    """The street at this number: from 13th Street on they are numbered, with a Place between two Streets."""
    half_block = round(-north / 50) * 50
    named = _nearest(EAST_WEST, north)
    if half_block < 1_300 or named.number == -half_block:
        return named
    return Street(-half_block, f"{_ordinal(half_block // 100)} {'PL' if half_block % 100 else 'ST'}")


def _ordinal(number: int) -> str:
    ending = "TH" if number % 100 in (11, 12, 13) else {1: "ST", 2: "ND", 3: "RD"}.get(number % 10, "TH")
    return f"{number}{ending}"


def _nearest(streets: Sequence[Street], number: float) -> Street:
    """The street whose number is nearest; of two as near, the lower."""
    place = bisect_left(streets, number, key=lambda street: street.number)
    return min(streets[max(0, place - 1) : place + 1], key=lambda street: abs(street.number - number))
