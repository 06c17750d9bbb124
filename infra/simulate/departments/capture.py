"""Every byte that a department is told, for whoever wants to look at them."""

from pathlib import Path


class Capture:
    """Appends to one file; without a file it only counts."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self.bytes = 0

    def keep(self, *parts: bytes) -> None:
        """One message, its parts on lines of their own."""
        message = b"\n".join(parts) + b"\n\n"
        self.bytes += len(message)
        if self._file is not None:
            with self._file.open("ab") as out:
                out.write(message)
