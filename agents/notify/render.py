"""Messages from templates: Jinja2 in a sandbox, where what is not there is an error and HTML is escaped. Pure: the
templates' sources are arguments.

A template that fails loses nothing: what it should have said goes out in a built-in form that says so.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from traceback import extract_tb
from typing import Any, Final, NamedTuple, get_args

from jinja2 import FunctionLoader, StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.exceptions import TemplateNotFound
from jinja2.sandbox import ImmutableSandboxedEnvironment

from agents.notify.samples import MARKUP, SAMPLES
from agents.notify.view import LISTED, Line, Names, groups_of, highest, line_of, notice_of
from agents.notify.words import length, when
from schemas.notification import Item, Template
from schemas.oncall import Language

LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)
TEMPLATES: Final[tuple[Template, ...]] = get_args(Template)
FORMS: Final = ("txt", "html")
LONGEST_SUBJECT: Final = 200
LONGEST: Final = 100_000
"""Characters of a message; a template that writes more is wrong."""


class Source(NamedTuple):
    """A template's text, and the name of its file, for errors."""

    text: str
    file: str


class Reader(NamedTuple):
    """For whom a message is."""

    name: str
    time_zone: str
    language: Language


class Rendered(NamedTuple):
    """A message. `short`: for channels that take a line or two. `failed`: where its template failed."""

    subject: str
    text: str
    html: str
    short: str
    failed: "Defect | None" = None


class Defect(NamedTuple):
    """What is wrong with a template, and where."""

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class TemplateFailed(Exception):
    """A template cannot be used."""

    def __init__(self, defect: Defect) -> None:
        super().__init__(str(defect))
        self.defect = defect


class Templates:
    """The templates of an installation, by name: `alert.en.txt`. The first line of a `txt` is the subject."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources
        self._environment = ImmutableSandboxedEnvironment(
            loader=FunctionLoader(self._load), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
            autoescape=lambda name: bool(name and name.endswith(".html")),
        )  # fmt: skip

    def render(
        self, template: Template, items: Sequence[Item], reader: Reader, now: datetime, names: Names
    ) -> Rendered:
        """The message; in the built-in form when its template fails."""
        lines = [line_of(item, now, names) for item in highest(items) if item.event is not None]
        try:
            return self._render(template, items, lines, reader)
        except TemplateFailed as failed:
            return builtin(items, lines, reader, failed.defect)

    def defects(self, telling: re.Pattern[str]) -> list[Defect]:
        """Everything that is wrong: what cannot be rendered with samples, in every language, and words that would
        tell what an order is about."""
        found = [defect for name in self._sources for defect in self._syntax(name)]
        if not found:
            found = [
                defect
                for template in TEMPLATES
                for language in LANGUAGES
                for defect in self._sampled(template, language, telling)
            ]
        return list(dict.fromkeys(found))

    def _render(
        self, template: Template, items: Sequence[Item], lines: Sequence[Line], reader: Reader
    ) -> Rendered:
        context = _context(items, lines, reader)
        name = f"{template}.{reader.language}"
        subject, _, text = self._written(f"{name}.txt", context).partition("\n")
        if not subject:
            raise TemplateFailed(
                Defect(self._file(f"{name}.txt"), 1, "the first line, its subject, is empty")
            )
        html = self._written(f"{name}.html", context)
        return Rendered(subject[:LONGEST_SUBJECT], text.strip(), html, _short(subject, lines))

    def _written(self, name: str, context: Mapping[str, Any]) -> str:
        try:
            written = self._environment.get_template(name).render(context)
        except Exception as error:  # whatever a template does, the message goes out
            raise TemplateFailed(self._defect(name, error)) from error
        if len(written) > LONGEST:
            raise TemplateFailed(Defect(self._file(name), None, f"it wrote {len(written)} characters"))
        return re.sub(r"\n{3,}", "\n\n", written).strip()

    def _syntax(self, name: str) -> Iterable[Defect]:
        try:
            self._environment.get_template(name)
        except TemplateError as error:
            yield self._defect(name, error)

    def _sampled(self, template: Template, language: Language, telling: re.Pattern[str]) -> Iterable[Defect]:
        reader = Reader("Sam Sample", "America/Chicago", language)
        for sample in SAMPLES[template]:
            lines = [line_of(one, sample.now, sample.names) for one in sample.items if one.event]
            try:
                rendered = self._render(template, sample.items, lines, reader)
            except TemplateFailed as failed:
                yield failed.defect
                continue
            for form, text in (("txt", f"{rendered.subject}\n{rendered.text}"), ("html", rendered.html)):
                if found := telling.search(text):
                    file = self._file(f"{template}.{language}.{form}")
                    yield Defect(
                        file, None, f"expected words that tell of no incident, found {found.group()!r}"
                    )
            if MARKUP in rendered.html:
                file = self._file(f"{template}.{language}.html")
                yield Defect(file, None, f"expected escaped text: import words.{language}.html, not .txt")

    def _load(self, name: str) -> tuple[str, str, None]:
        """The words that templates share are one file, read as `.txt` or as `.html`: a macro escapes as
        the file does in which it stands."""
        source = self._sources.get(name)
        if source is None and name.startswith("words."):
            source = self._sources.get(name.removesuffix("html") + "txt")
        if source is None:
            raise TemplateNotFound(name)
        return source.text, source.file, None

    def _file(self, name: str) -> str:
        return self._sources[name].file if name in self._sources else name

    def _defect(self, name: str, error: Exception) -> Defect:
        """Where it failed: the innermost line that is one of ours."""
        if isinstance(error, TemplateNotFound):
            return Defect(self._file(name), None, f"there is no template {error.name}")
        if isinstance(error, TemplateSyntaxError):
            return Defect(
                error.filename or self._file(name), error.lineno, error.message or "it cannot be read"
            )
        files = {source.file for source in self._sources.values()}
        inside = [frame for frame in extract_tb(error.__traceback__) if frame.filename in files]
        said = str(error) or type(error).__name__
        if not inside:
            return Defect(self._file(name), None, said)
        return Defect(inside[-1].filename, inside[-1].lineno, said)


def _context(items: Sequence[Item], lines: Sequence[Line], reader: Reader) -> dict[str, Any]:
    """What templates are given; docs/notify.md lists it."""
    notices = [notice_of(item) for item in items if item.event is None]
    return {
        "person": reader.name, "lines": lines[:LISTED], "groups": groups_of(lines), "count": len(lines),
        "order_count": len({line.reference for line in lines}),
        "overdue": sum(line.what == "overdue" and not line.correction for line in lines),
        "reasons": tuple(dict.fromkeys(one for line in lines for one in line.reasons)),
        "notice": notices[0] if notices else None, "notices": notices,
        "when": partial(when, time_zone=reader.time_zone, language=reader.language),
        "length": partial(_length, language=reader.language),
    }  # fmt: skip


def _length(of: timedelta, language: Language) -> str:
    return length(of, language)


def _short(subject: str, lines: Sequence[Line]) -> str:
    """The subject, and for a single alert where to look or what to type."""
    if len(lines) != 1 or lines[0].correction:
        return subject
    return f"{subject}\n{lines[0].link or lines[0].acknowledge}"


# ---------------------------------------------------------------- when a template fails

_BUILTIN: Final[dict[Language, tuple[str, str, str, str]]] = {
    "en": ("{} messages of Rapid Response", "due", "corrected: does not hold, as is known by now",
           "This is the built-in form: the template failed at {}. Please tell who runs Rapid Response."),
    "es": ("{} mensajes de Rapid Response", "fecha límite", "corregido: según se sabe ahora, no procede",
           "Este es el texto integrado: la plantilla falló en {}. Avise a quien administra Rapid Response."),
}  # fmt: skip


def builtin(items: Sequence[Item], lines: Sequence[Line], reader: Reader, failed: Defect) -> Rendered:
    """The message without a template."""
    many, due, corrected, apology = _BUILTIN[reader.language]
    said = [_plainly(line, due, corrected, reader) for line in lines]
    said += [f"{item.kind}: {item.about}" for item in items if item.event is None]
    subject = said[0].split("\n")[0] if len(said) == 1 else many.format(len(said))
    place = f"{failed.file}:{failed.line}" if failed.line else failed.file
    text = "\n\n".join([*said, apology.format(place)])
    html = "".join(f"<pre>{_escaped(part)}</pre>" for part in text.split("\n\n"))
    return Rendered(subject[:LONGEST_SUBJECT], text, html, _short(subject, lines), failed)


def _plainly(line: Line, due: str, corrected: str, reader: Reader) -> str:
    place = ", ".join(part for part in (line.address, line.area) if part)
    parts = [f"{line.reference}: {line.title}" + (f", {place}" if place else "")]
    if line.correction:
        parts.append(corrected)
    elif line.due_at is not None:
        parts.append(f"{due} {when(line.due_at, reader.time_zone, reader.language)}")
    return "\n".join([*parts, line.department, line.link or line.acknowledge])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
