"""One place, one name: addresses as people write them become the key under which crews are sent. Pure.

Two spellings of one place must give one key, or two orders stand for one piece of work. Two places must
never share a key. So only what cannot change the place is rewritten: case, punctuation, spelled-out
directions and street types, forms of ordinals, the few Chicago names that are written in several ways.
The variants are those of the city's own data (311 requests, victims, crimes, legacy graffiti).
"""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from agents.near import cell_of
from schemas.base import Point
from schemas.policy import Policy
from schemas.work_order import Site

MOST_CHARACTERS = 180  # of a normalized address: a key with its "BLOCK" must fit into 200
MOST_REWRITES = 8  # real addresses need one; nothing that people type may run for ever

DIRECTIONS = {
    "NORTH": "N", "SOUTH": "S", "EAST": "E", "WEST": "W",
    "NO": "N", "SO": "S",
    "NORTHBOUND": "NB", "SOUTHBOUND": "SB", "EASTBOUND": "EB", "WESTBOUND": "WB",
}  # fmt: skip
TRAILING = {"N", "S", "E", "W", "NB", "SB", "EB", "WB"}  # after the type: "LUIS MUNOZ MARIN DR W"

# Variants -> the form of the city's data; types from USPS Publication 28, appendix C1.
STREET_TYPES = {
    "ALLEY": "ALY", "AV": "AVE", "AVEN": "AVE", "AVENUE": "AVE", "BL": "BLVD", "BOULEVARD": "BLVD",
    "BOUL": "BLVD", "BVD": "BLVD", "CIRCLE": "CIR", "COURT": "CT", "CRT": "CT", "DRIVE": "DR", "DRV": "DR",
    "EXPRESSWAY": "EXPY", "HIGHWAY": "HWY", "LANE": "LN", "PARKWAY": "PKWY", "PKY": "PKWY", "PLACE": "PL",
    "PLAZA": "PLZ", "ROAD": "RD", "SQUARE": "SQ", "STR": "ST", "STREET": "ST", "TERR": "TER",
    "TERRACE": "TER",
}  # fmt: skip
TYPES = {*STREET_TYPES.values(), "WAY", "ROW", "RAMP"}

ORDINALS = {
    "FIRST": "1ST", "SECOND": "2ND", "THIRD": "3RD", "FOURTH": "4TH", "FIFTH": "5TH",
    "SIXTH": "6TH", "SEVENTH": "7TH", "EIGHTH": "8TH", "NINTH": "9TH", "TENTH": "10TH",
}  # fmt: skip

# Whole street names, without direction, that Chicago's own data writes in more than one way.
STREET_NAMES = {
    "5TH AVE": "FIFTH AVE",
    "JEAN BAPTISTE POINTE DUSABLE LAKE SHORE DR": "LAKE SHORE DR",
    "DUSABLE LAKE SHORE DR": "LAKE SHORE DR",
    "DU SABLE LAKE SHORE DR": "LAKE SHORE DR",
    "LASALLE ST": "LA SALLE ST",
    "LASALLE DR": "LA SALLE DR",
    "LASALLE BLVD": "LA SALLE BLVD",
}
_KING_DRIVE = re.compile(r"(DR )?(MARTIN LUTHER|M L|ML) ?KING( JR)?( DR)?|MLK( JR)?( DR)?|KING( JR)? DR")

_APOSTROPHES = re.compile("['\u2019`.]")  # "O'HARE" is OHARE, "ST." is ST
_CITY = re.compile(r"( CHICAGO)?( IL| ILLINOIS)( \d{5}( \d{4})?)?$| CHICAGO( \d{5}( \d{4})?)$")
_CITY_AFTER_COMMA = re.compile(r",\s*CHICAGO\s*$")  # without the comma it may be Chicago Avenue
_NO_WORD = re.compile(r"[\W_]+")  # what is neither letter nor digit, as str.isalnum has it
_UNIT_SIGN = re.compile(r"#\s*(?=[^\W_])")
_UNIT = re.compile(r"(?<=.)( (APT|APARTMENT|UNIT|STE|SUITE|RM|ROOM|FL|FLOOR) \S+| \S+ FLOOR)$")
_NUMBER = re.compile(r"(\d+)([A-Z]?)$")
_MASKED = re.compile(r"(\d*)(X{1,2})$")  # the crimes' blocks: 040XX, 000XX, and legacy 0000X
_NUMBERED_STREET = re.compile(r"0*(\d+)(ST|ND|RD|TH)?$")


@lru_cache(maxsize=65_536)
def normalize_address(text: str | None) -> str | None:
    """The one spelling of an address, e.g. `4000 W WASHINGTON BLVD`; None when nothing is left of it.

    At most 180 characters, without punctuation; normalizing again changes nothing.
    """
    return _settled(_address_once, text)


@lru_cache(maxsize=65_536)
def block_of(text: str | None) -> str | None:
    """The street block of an address or block: `4000 BLOCK W WASHINGTON BLVD` for `4015 W Washington
    Blvd`, `4000 W WASHINGTON BLVD` and `040XX W WASHINGTON BLVD`. None without a number or a street."""
    return _settled(_block_once, text)


def site_of(
    policy: Policy,
    *,
    address: str | None = None,
    block: str | None = None,
    point: Point | None = None,
    area: int | None = None,
) -> Site:
    """The place where a crew goes: the address, else the block, else a small grid cell, else the area.

    An `address` that is written as a block (`040XX W …`) counts as a block. The key of a place that
    nobody can tell is `area:unknown`: such work goes to one order that a person looks at. Keys hold no
    `|` and at most 200 characters. A street without a house number is no place, unless another crosses it.
    """
    exact = None if _is_block(address) else normalize_address(address)
    if exact is not None and _is_one_place(exact):
        return Site(key=exact, basis="address", address=exact, point=point, area=area)
    street_block = block_of(address) or block_of(block)
    if street_block is not None:
        return Site(key=street_block, basis="block", address=street_block, point=point, area=area)
    if point is not None:
        cell = cell_of(point, policy.site_cell_resolution)
        return Site(key=f"cell:{cell:x}", basis="cell", address=exact, point=point, area=area)
    key = f"area:{'unknown' if area is None else area}"
    return Site(key=key, basis="area", address=None, point=None, area=area)


def _settled(rewrite: Callable[[str], str | None], text: str | None) -> str | None:
    """Rewrites until nothing changes: one rule can make room for another, as `ST` for `SAINT` does."""
    settled = rewrite(text or "")
    for _ in range(MOST_REWRITES):
        again = None if settled is None else rewrite(settled)
        if again == settled:
            break
        settled = again
    return settled


def _address_once(text: str) -> str | None:
    tokens = _tokens(text)
    if not tokens:
        return None
    number, rest = _take_number(tokens)
    return _limited([*number, *_street(rest, numbered=bool(number))])


def _block_once(text: str) -> str | None:
    tokens = _tokens(text)
    hundred = _hundred(tokens[0]) if tokens else None
    street = _street(_without_block_words(tokens[1:]), numbered=True)
    if hundred is None or not street:
        return None
    return _limited([str(hundred), "BLOCK", *street])


def _tokens(text: str) -> list[str]:
    """Upper-case words of letters and digits, without city, state, ZIP code and unit."""
    letters = text.upper() if text.isascii() else _letters(text)
    words = _UNIT_SIGN.sub(" UNIT ", _APOSTROPHES.sub("", _CITY_AFTER_COMMA.sub("", letters)))
    words = words.replace("&", " AND ")
    return _strip_tails(" ".join(_NO_WORD.sub(" ", words).split())).split()


def _letters(text: str) -> str:
    """Upper case, compatible forms as one, without accents."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).upper())
    return "".join(char for char in plain if not unicodedata.combining(char))


def _strip_tails(text: str) -> str:
    """Without what follows the street: repeated, since a unit may follow a unit."""
    shorter = _UNIT.sub("", _CITY.sub("", text))
    return text if shorter == text else _strip_tails(shorter)


def _take_number(tokens: list[str]) -> tuple[list[str], list[str]]:
    """The house number without leading zeros, and the rest."""
    found = _NUMBER.match(tokens[0])
    if found is None or len(tokens) == 1:
        return [], tokens
    return [f"{int(found[1])}{found[2]}"], tokens[1:]


def _street(tokens: list[str], *, numbered: bool) -> list[str]:
    """Direction, name, type and trailing direction, each in its one form."""
    direction, rest = _take_direction(tokens, numbered)
    name, tail = _take_trailing(rest)
    return [*direction, *_named(_typed(name)), *tail]


def _take_direction(tokens: list[str], numbered: bool) -> tuple[list[str], list[str]]:
    """A leading direction, unless the word is the street's name: `1600 W NORTH AVE`, `900 NORTH AVE`."""
    if len(tokens) < 2:
        return [], tokens
    first = DIRECTIONS.get(tokens[0], tokens[0])
    is_name = len(tokens) == 2 and _type_of(tokens[1]) in TYPES
    if first in {"N", "S", "E", "W"} and not is_name and (numbered or tokens[0] == first):
        return [first], tokens[1:]
    return [], tokens


def _take_trailing(tokens: list[str]) -> tuple[list[str], list[str]]:
    """What stands after the type: `DR W`. Not the letter of `AVENUE N`, which has no name before it."""
    last = DIRECTIONS.get(tokens[-1], tokens[-1]) if tokens else ""
    if len(tokens) >= 3 and last in TRAILING and _type_of(tokens[-2]) in TYPES:
        return tokens[:-1], [last]
    return tokens, []


def _typed(name: list[str]) -> list[str]:
    """The street type in its one form, ordinals as digits, saints as ST."""
    if len(name) == 2 and _type_of(name[0]) == "AVE" and len(name[1]) == 1:
        return ["AVENUE", name[1]]  # Avenue C to O on the East Side
    words = ["ST" if word == "SAINT" else ORDINALS.get(word, word) for word in name]
    if len(words) < 2:
        return words
    return [*_ordinal(words[:-1], _type_of(words[-1])), _type_of(words[-1])]


def _ordinal(words: list[str], street_type: str) -> list[str]:
    """`69` and `069TH` before a type are `69TH`; numbers elsewhere stay."""
    found = _NUMBERED_STREET.match(words[0]) if len(words) == 1 and street_type in TYPES else None
    return words if found is None else [_with_suffix(int(found[1]))]


def _with_suffix(number: int) -> str:
    ending = "TH" if number % 100 in (11, 12, 13) else {1: "ST", 2: "ND", 3: "RD"}.get(number % 10, "TH")
    return f"{number}{ending}"


def _named(name: list[str]) -> list[str]:
    """The street's one name, where the data has several."""
    joined = " ".join("DR" if word == "DOCTOR" else word for word in name)
    if _KING_DRIVE.fullmatch(joined):
        return ["DR", "MARTIN", "LUTHER", "KING", "JR", "DR"]
    return STREET_NAMES.get(joined, joined).split()


def _type_of(word: str) -> str:
    return STREET_TYPES.get(word, word)


@lru_cache(maxsize=65_536)
def _is_block(text: str | None) -> bool:
    tokens = _tokens(text or "")
    return len(tokens) > 1 and (_MASKED.match(tokens[0]) is not None or tokens[1] in {"BLOCK", "BLK"})


def _is_one_place(normal: str) -> bool:
    """A house number with a street, or a crossing: `W MADISON ST` alone is six miles of places."""
    first, _, street = normal.partition(" ")
    return " AND " in normal or (bool(street) and _NUMBER.match(first) is not None)


def _hundred(token: str) -> int | None:
    """The hundred of a house number or of a masked one; None when the word is neither."""
    masked, number = _MASKED.match(token), _NUMBER.match(token)
    if masked is not None:
        return int((masked[1] + "0" * len(masked[2])) or "0") // 100 * 100
    return None if number is None else int(number[1]) // 100 * 100


def _without_block_words(tokens: list[str]) -> list[str]:
    """`BLOCK OF W MADISON ST` is `W MADISON ST`."""
    rest = tokens[1:] if tokens[:1] in (["BLOCK"], ["BLK"]) else tokens
    return rest[1:] if len(rest) < len(tokens) and rest[:1] == ["OF"] else rest


def _limited(words: list[str]) -> str:
    return " ".join(words)[:MOST_CHARACTERS].rstrip()
