"""Whether a foreign file is UTF-8: of one that is not, other letters would come in than its sender wrote."""

import codecs
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from connectors.files.errors import FileProblem
from connectors.files.rows import GZIP_MAGIC

CHUNK_BYTES: Final = 1 << 20
_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BEGINNING: Final = 4
"""Bytes among which UTF-16 without a mark has a zero, and a text in UTF-8 has none."""


def check_utf_8(path: Path) -> None:
    """Read a file through. Raises FileProblem where it is no UTF-8; what cannot be opened its reader tells."""
    decoder, line = codecs.getincrementaldecoder("utf-8")(), 1
    try:
        for number, chunk in enumerate(_chunks(path)):
            if number == 0 and (chunk.startswith(_UTF_16) or b"\0" in chunk[:_BEGINNING]):
                raise FileProblem(f"{path} is UTF-16: save it as UTF-8.")
            decoder.decode(chunk)
            line += chunk.count(b"\n")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        line += error.object.count(b"\n", 0, error.start)
        raise FileProblem(f"{path} is not UTF-8, line {line}: save it as UTF-8.") from error
    except (OSError, EOFError):
        return


def _chunks(path: Path) -> Iterator[bytes]:
    """The content, unpacked."""
    with path.open("rb") as raw:
        packed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        plain = gzip.GzipFile(fileobj=raw) if packed else raw
        while chunk := plain.read(CHUNK_BYTES):
            yield chunk
