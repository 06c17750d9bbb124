"""Members that a JSON object has twice: parsers take the last one silently; which one was meant, nobody knows."""

import json
import re
from typing import Any, Final

ONCE: Final = "each member once"
_PLAIN_KEY: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]{0,59}$")


class _Repeated(Exception):
    """Ends the parsing; its argument is the member's name."""


def repeated(raw: bytes) -> str | None:
    """The name of a member that an object has twice, at any depth; "?" for a name that looks like data. None: there is
    none, or the bytes are not JSON, which is for others to say.

    >>> repeated(b'{"verb": "note", "verb": "start"}')
    'verb'
    """
    try:
        json.loads(raw, object_pairs_hook=_checked, parse_int=str, parse_float=str)
    except _Repeated as found:
        name = str(found)
        return name if _PLAIN_KEY.match(name) else "?"
    except (ValueError, RecursionError):
        return None
    return None


def _checked(pairs: list[tuple[str, Any]]) -> None:
    names = {name for name, _ in pairs}
    if len(names) < len(pairs):
        raise _Repeated(next(name for place, (name, _) in enumerate(pairs) if name in dict(pairs[:place])))
