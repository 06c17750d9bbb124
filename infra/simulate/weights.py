"""How often what happens in the simulated city, and where. Each figure is measured or called an assumption.

Measured on: the victims of Sep 2024 - Dec 2025 (2,291 rows, 2,258 cases; "victims" below) and the service
requests of 2 December 08:15 - 3 December 2025 21:13 (1,328 rows in 36.97 hours; "requests" below).
"""

from typing import Final, NamedTuple

from schemas.incident import Event

CASES_PER_YEAR: Final = 1_700  # DOMAIN.md, volumes; the victims give 1,694

# Cases by area, from the victims. Areas with less than 20 cases share what is left, 321 cases in 43 areas.
# 58% of the cases lie in the 15 priority areas.
CASES_BY_AREA: Final = {
    1: 31, 8: 26, 19: 22, 23: 78, 24: 26, 25: 179, 26: 95, 27: 82, 28: 74, 29: 126, 30: 65, 32: 20, 35: 20,
    38: 25, 40: 51, 42: 43, 43: 116, 44: 74, 46: 56, 48: 22, 49: 74, 52: 20, 53: 53, 54: 25, 58: 20, 61: 48,
    63: 22, 66: 51, 67: 78, 68: 82, 69: 101, 71: 88, 73: 21, 75: 23,
}  # fmt: skip
CASES_ELSEWHERE: Final = 321 / 43

# Rows by hour of the day, cases by weekday from Monday, rows by month: victims; two years' months averaged.
CASES_BY_HOUR: Final = (
    157, 148, 143, 102, 90, 47, 33, 28, 50, 38, 53, 47, 58, 54, 106, 84, 95, 103, 111, 131, 126, 144, 173, 170,
)  # fmt: skip
CASES_BY_WEEKDAY: Final = (298, 266, 267, 243, 347, 431, 439)
CASES_BY_MONTH: Final = (119, 79, 112, 115, 136, 153, 191, 182, 190, 164, 134, 115)

VICTIMS_PER_CASE: Final = {1: 2_230, 2: 25, 3: 1, 4: 2}  # victims

NEAR_REPEAT: Final = 92 / 2_258  # cases with an earlier one within 122 m and 14 days: victims
NEAR_REPEAT_M: Final = 122.0  # DOMAIN.md, near repeat
NEAR_REPEAT_DAYS: Final = 14


class Offence(NamedTuple):
    """What a victim's row says, with the codes of the city."""

    event: Event
    gunshot: bool
    primary: str
    iucr: str
    secondary: str
    fbi: str
    fbi_text: str


ASSAULT: Final = Offence(
    "assault", True, "BATTERY", "041A", "AGGRAVATED - HANDGUN", "04B", "AGGRAVATED BATTERY (INDEX)"
)
HOMICIDE: Final = Offence(
    "homicide", True, "HOMICIDE", "0110", "FIRST DEGREE MURDER", "01A", "HOMICIDE - 1ST OR 2ND DEGREE (INDEX)"
)
HOMICIDE_WITHOUT_GUN: Final = HOMICIDE._replace(gunshot=False)
ROBBERY: Final = Offence("robbery", True, "ROBBERY", "031A", "ARMED - HANDGUN", "03", "ROBBERY (INDEX)")
OFFENCES: Final = {ASSAULT: 1_610, HOMICIDE: 512, HOMICIDE_WITHOUT_GUN: 96, ROBBERY: 73}  # victims

PLACES: Final = {
    "STREET": 963, "SIDEWALK": 351, "APARTMENT": 206, "ALLEY": 193, "RESIDENCE": 82, "GAS STATION": 55,
    "PARKING LOT / GARAGE (NON RESIDENTIAL)": 49, "HOUSE": 35, "PARK PROPERTY": 25,
}  # fmt: skip

# Assumptions: the public rows show only their last revision.
DIES_LATER: Final = 0.3  # of the victims of homicides by gun: first reported as battery
MOVED: Final = 0.05
UNFOUNDED: Final = 0.015
WITHOUT_POINT: Final = 0.02  # none among the victims; DOMAIN.md says that the crimes have them
WITHOUT_BLOCK: Final = 0.003
PUBLISHED_SHIFT_M: Final = 25.0  # standard deviation; DOMAIN.md: published points are shifted to block level


class RequestType(NamedTuple):
    """A type of 311 request. `per_day`: citywide; `days_open`: mean until it is closed."""

    code: str
    name: str
    category: str
    owner: str
    per_day: float
    days_open: float


_CDOT: Final = "CDOT - Department of Transportation"
_DSS: Final = "Streets and Sanitation"
_DAYS: Final = 36.97 / 24

# Names, codes and owners: DOMAIN.md, issue types. Lights per day: requests. Days open of lights: DOMAIN.md,
# measured averages (single 11, alley 15). All other figures are assumptions; graffiti is of the order of the
# legacy data (45 to 354 a day).
REQUEST_TYPES: Final = (
    RequestType("SFD", "Street Light Out Complaint", "street_light", _CDOT, 131 / _DAYS, 11),
    RequestType("SFK", "Street Light Pole Damage Complaint", "street_light", _CDOT, 28 / _DAYS, 11),
    RequestType("SFA", "Alley Light Out Complaint", "alley_light", _CDOT, 16 / _DAYS, 15),
    RequestType("SFC", "Viaduct Light Out Complaint", "viaduct_light", _CDOT, 4 / _DAYS, 11),
    RequestType("GRAF", "Graffiti Removal Request", "graffiti", _DSS, 200, 5),
    RequestType("SCT", "Clean Vacant Lot Request", "vacant_lot", _DSS, 20, 25),
    RequestType("SCP", "Weed Removal Request", "vacant_lot", _DSS, 40, 20),
    RequestType(
        "BBK", "Vacant/Abandoned Building Complaint", "abandoned_building", "DOB - Buildings", 18, 60
    ),
)
BY_CODE: Final = {kind.code: kind for kind in REQUEST_TYPES}
WEED_MONTHS: Final = range(4, 11)  # assumption: nobody reports weeds in winter

DUPLICATE: Final = 159 / 1_328  # requests; all 102 whose parent is in the file have its type
PARENT_UNKNOWN: Final = 51 / 120  # requests: parents named by duplicates that are not in the file
CANCELED: Final = 3 / 814  # of the closed ones: requests
WITHOUT_COORDINATES: Final = 0.01  # assumption; DOMAIN.md: community area 0 is "not geocoded"
WITHOUT_ADDRESS: Final = 0.005  # assumption

# Assumption: half of the requests are spread over the city like its land, half like its gun violence.
LAND_SHARE: Final = 0.5

REQUESTS_BY_HOUR: Final = (
    3, 2, 1, 1, 2, 4, 6, 10, 16, 22, 22, 20, 20, 20, 20, 22, 22, 20, 16, 14, 13, 10, 7, 5,
)  # fmt: skip
"""Assumption: the day of the requests, without their batch at midnight."""

ORIGINS: Final = {
    "Phone Call": 674,
    "Mobile Device": 314,
    "Internet": 282,
    "Alderman's Office": 41,
}  # requests
