"""One YAML file as plain values that remember their lines, and every way in which reading it can fail."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

MAX_BYTES = 1_000_000  # a policy file is some kilobytes; more is a mistake
MAX_DEPTH = 20
TAG = "tag:yaml.org,2002:"
TEXT_TAG = f"{TAG}str"
PLAIN_TAGS = {f"{TAG}{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")}

Keys = tuple[str | int, ...]
"""The way to a value: `("areas", 3, "name")` is the name of the fourth area."""


class PolicyError(NamedTuple):
    """One thing that is wrong in a policy, where, and what was expected. `line` counts from 1."""

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


@dataclass(slots=True)
class Document:
    """A file that was read. `data` is None when it could not be; `errors` then say why."""

    file: str
    data: Any = None
    lines: dict[Keys, int] = field(default_factory=dict)
    errors: list[PolicyError] = field(default_factory=list)

    def get(self, *keys: str | int) -> Any:
        """The value at these keys, or None when any of them is not there."""
        value = self.data
        for key in keys:
            if isinstance(value, dict) or (isinstance(value, list) and key in range(len(value))):
                value = value.get(key) if isinstance(value, dict) else value[key]  # type: ignore[index]
            else:
                return None
        return value

    def line(self, keys: Keys) -> int:
        """The line of a value, or of what would hold it."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return self.lines.get(keys, 1)

    def rows(self, *keys: str | int) -> Iterator[tuple[Keys, dict[str, Any]]]:
        """The mappings of the list at these keys, each with the way to it. Anything else is passed over."""
        found = self.get(*keys)
        for number, row in enumerate(found if isinstance(found, list) else ()):
            if isinstance(row, dict):
                yield (*keys, number), row

    def texts(self, *keys: str | int) -> Iterator[tuple[Keys, str]]:
        """The texts at these keys, whether one or a list of them, each with the way to it."""
        found = self.get(*keys)
        if isinstance(found, str):
            yield keys, found
        for number, item in enumerate(found if isinstance(found, list) else ()):
            if isinstance(item, str):
                yield (*keys, number), item

    def error(self, keys: Keys, message: str) -> PolicyError:
        """An error about the value at these keys."""
        return PolicyError(self.file, self.line(keys), dotted(keys), message)


def read_document(path: Path) -> Document:
    """The document in a file. Never raises for what the file holds or for a file that cannot be read."""
    document = Document(path.name)
    try:
        text = _text_of(path)
        root = YAML(typ="safe", pure=True).compose(text)
    except FileNotFoundError:
        document.errors.append(PolicyError(path.name, None, "", "is missing; a policy needs this file"))
    except OSError as error:
        document.errors.append(PolicyError(path.name, None, "", f"cannot be read: {error.strerror or error}"))
    except UnicodeDecodeError as error:
        document.errors.append(_not_utf8(path, error))
    except RecursionError:
        document.errors.append(PolicyError(path.name, None, "", f"nests deeper than {MAX_DEPTH} levels"))
    except (YAMLError, ValueError) as error:
        document.errors.append(_syntax_error(path.name, error))
    else:
        _Reader(document).read_root(root)
    return document


def dotted(keys: Keys) -> str:
    """The way to a value as people write it: `areas[3].name`."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def found(value: Any) -> str:
    """A value in a few words, for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _text_of(path: Path) -> str:
    with path.open("rb") as stream:
        raw = stream.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES} bytes")
    return raw.decode("utf-8-sig")  # editors on Windows write a byte order mark


def _not_utf8(path: Path, error: UnicodeDecodeError) -> PolicyError:
    line = error.object[: error.start].count(b"\n") + 1
    return PolicyError(path.name, line, "", f"is not UTF-8: byte 0x{error.object[error.start]:02x}")


def _syntax_error(file: str, error: Exception) -> PolicyError:
    """The one error at which the YAML parser stopped: it cannot know what follows."""
    if not isinstance(error, MarkedYAMLError):
        first = str(error).strip().splitlines()[0]
        return PolicyError(
            file, None, "", first if isinstance(error, ValueError) else f"is not YAML: {first}"
        )
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else None
    problem = " ".join(str(error.problem or error.context).split())
    if "'\\t'" in problem:
        problem = "a tab; expected spaces for indentation"
    return PolicyError(file, line, "", f"is not YAML: {problem}")


class _Reader:
    """Turns composed nodes into plain values, noting lines and whatever a policy must not contain."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.seen: set[int] = set()
        self.constructor = YAML(typ="safe", pure=True).constructor

    def read_root(self, root: Node | None) -> None:
        if root is None:
            self.document.errors.append(PolicyError(self.document.file, 1, "", "is empty"))
            return
        value = self.value(root, ())
        if isinstance(value, dict):
            self.document.data = value
        else:
            self.complain((), f"expected keys with values, found {found(value)}")

    def value(self, node: Node, keys: Keys) -> Any:
        self.document.lines.setdefault(keys, node.start_mark.line + 1)
        if id(node) in self.seen:  # an alias is the same node again; it could also hold itself
            return self.complain(keys, "expected a plain value, found an alias (*): write the value out")
        self.seen.add(id(node))
        if len(keys) > MAX_DEPTH:
            return self.complain(keys, f"nests deeper than {MAX_DEPTH} levels")
        if node.tag not in PLAIN_TAGS:
            return self.complain(keys, f"expected a plain value, found one with the tag {node.tag}")
        if isinstance(node, MappingNode):
            return self.mapping(node, keys)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*keys, number)) for number, item in enumerate(node.value)]
        return self.scalar(node, keys)

    def mapping(self, node: MappingNode, keys: Keys) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if key_node.tag != TEXT_TAG:
                self.complain(keys, f"expected text as a key, found {found(key)}: quote it", line)
            elif key in values:
                first = self.document.lines[(*keys, key)]
                self.complain((*keys, key), f"is given twice, first in line {first}", line)
            else:
                self.document.lines[(*keys, key)] = line
                values[key] = self.value(value_node, (*keys, key))
        return values

    def scalar(self, node: Node, keys: Keys) -> Any:
        try:
            return self.constructor.construct_object(node)
        except (YAMLError, ValueError):  # looks like one, but 2023-02-30 is none
            kind = str(node.tag).removeprefix(TAG).replace("timestamp", "date")
            return self.complain(keys, f"expected a possible {kind}, found {found(node.value)}")

    def complain(self, keys: Keys, message: str, line: int | None = None) -> None:
        error = self.document.error(keys, message)
        self.document.errors.append(error if line is None else error._replace(line=line))
