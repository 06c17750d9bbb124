"""The templates of messages: those that come with the product, and a city's own in the folder of its policy."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import agents.notify
from agents.notify.render import FORMS, LANGUAGES, TEMPLATES, Source, Templates
from infra.policy.document import PolicyError

SHIPPED: Final = Path(agents.notify.__file__).parent / "templates"
FOLDER: Final = "templates"
"""Where a policy keeps its own: `alert.en.txt` there stands for the shipped one."""
MAX_BYTES: Final = 100_000

NAMES: Final = frozenset(
    [f"{template}.{language}.{form}" for template in TEMPLATES for language in LANGUAGES for form in FORMS]
    + [f"words.{language}.txt" for language in LANGUAGES]
)
TELLING: Final = re.compile(
    r"\b(shoot\w*|shot\w*|gun\w*|firearm\w*|homicid\w*|murder\w*|victim\w*|violen\w*|kill\w*|crim\w*|incident\w*"
    r"|police|weapon\w*|assault\w*|robber\w*|injur\w*|emergenc\w*|tirote\w*|dispar\w*|balacera\w*|balead\w*|armas?"
    r"|pistolas?|asesin\w*|v[ií]ctima\w*|crimen\w*|delito\w*|polic[ií]a\w*|herid[oa]s?|asalt\w*|rob(o|os|ar|ada|ado)"
    r"|muert\w*)\b",
    re.IGNORECASE,
)
"""Words that would tell what an order is about, in the languages of the messages."""


def load_templates(policy: Path | None) -> Templates:
    """The templates of a policy's folder; for those that it does not have, the shipped ones."""
    sources = {name: Source((SHIPPED / name).read_text(), name) for name in sorted(NAMES)}
    for name, path in _own(policy):
        if name in NAMES and (text := _text(path)) is not None:
            sources[name] = Source(text, f"{FOLDER}/{name}")
    return Templates(sources)


def template_errors(policy: Path) -> list[PolicyError]:
    """Everything that is wrong with a policy's own templates, with file and line."""
    own = dict(_own(policy))
    if not own:
        return []
    errors = [
        PolicyError(f"{FOLDER}/{name}", None, "", f"is unknown; expected one of {', '.join(sorted(NAMES))}")
        for name in own
        if name not in NAMES
    ]
    errors += [
        PolicyError(f"{FOLDER}/{name}", None, "", f"expected UTF-8 text of at most {MAX_BYTES} bytes")
        for name, path in own.items()
        if name in NAMES and _text(path) is None
    ]
    found = load_templates(policy).defects(TELLING)
    return errors + [PolicyError(one.file, one.line, "", one.message) for one in found]


def _own(policy: Path | None) -> Iterator[tuple[str, Path]]:
    if policy is not None and (policy / FOLDER).is_dir():
        yield from sorted((path.name, path) for path in (policy / FOLDER).iterdir() if path.name[0] != ".")


def _text(path: Path) -> str | None:
    try:
        raw = path.read_bytes()
        return raw.decode() if len(raw) <= MAX_BYTES else None
    except (OSError, ValueError):
        return None
