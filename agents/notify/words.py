"""Times and lengths in words, in the languages of the messages. Pure."""

from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from schemas.oncall import Language

_WEEKDAYS: Final[dict[Language, str]] = {
    "en": "Mon Tue Wed Thu Fri Sat Sun",
    "es": "lun mar mié jue vie sáb dom",
}
_MONTHS: Final[dict[Language, str]] = {
    "en": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    "es": "ene feb mar abr may jun jul ago sep oct nov dic",
}
_UNITS: Final[dict[Language, tuple[tuple[str, str], ...]]] = {
    "en": (("day", "days"), ("hour", "hours"), ("minute", "minutes")),
    "es": (("día", "días"), ("hora", "horas"), ("minuto", "minutos")),
}
_LESS: Final[dict[Language, str]] = {"en": "less than a minute", "es": "menos de un minuto"}
_MINUTES: Final = (1440, 60, 1)


def when(at: datetime, time_zone: str, language: Language) -> str:
    """`Tue, Nov 24, 2:00 PM CST (America/Chicago)`, `mar 24 nov, 14:00 CST (America/Chicago)`."""
    local = at.astimezone(ZoneInfo(time_zone))
    weekday = _WEEKDAYS[language].split()[local.weekday()]
    month = _MONTHS[language].split()[local.month - 1]
    place = f"{zone_name(local)} ({time_zone})" if zone_name(local) != time_zone else time_zone
    if language == "es":
        return f"{weekday} {local.day} {month}, {local:%H:%M} {place}"
    hour = local.hour % 12 or 12
    half = "AM" if local.hour < 12 else "PM"
    return f"{weekday}, {month} {local.day}, {hour}:{local.minute:02} {half} {place}"


def zone_name(local: datetime) -> str:
    """`CST`; zones without letters of their own as their distance, `UTC-03`."""
    name = local.tzname() or ""
    return name if name[:1].isalpha() else f"UTC{name}"


def length(of: timedelta, language: Language) -> str:
    """The two largest units: `2 days 3 hours`, `2 días y 3 horas`."""
    minutes = int(abs(of).total_seconds() // 60)
    parts = []
    for size, (one, many) in zip(_MINUTES, _UNITS[language], strict=True):
        count, minutes = divmod(minutes, size)
        if count:
            parts.append(f"{count} {one if count == 1 else many}")
        elif parts:
            break  # days and minutes without hours between say less than they seem to
    said = parts[:2]
    return (" y " if language == "es" else " ").join(said) or _LESS[language]
