"""The answer as XML. Only ever written: XML from strangers is never parsed here, so no entity can be expanded."""

from collections.abc import Mapping
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from connectors.open311.model import Document, Format, Many, Value, scalar_text, to_json

DECLARATION: Final = b'<?xml version="1.0" encoding="utf-8"?>\n'


def render(document: Document, form: Format) -> bytes:
    """The answer in the form that was asked for."""
    return to_xml(document) if form == "xml" else to_json(document)


def to_xml(document: Document) -> bytes:
    """The answer as XML 1.0 in UTF-8, with its declaration; without namespaces, as the standard recommends."""
    root = Element(document.root)
    _fill(root, document.content)
    written: bytes = tostring(root, encoding="utf-8", xml_declaration=False)
    return DECLARATION + written


def _fill(element: Element, value: Value) -> None:
    if isinstance(value, Many):
        for one in value.values:
            _fill(SubElement(element, value.child), one)
    elif isinstance(value, Mapping):
        for name, one in value.items():
            _fill(SubElement(element, name), one)
    else:
        element.text = scalar_text(value)
