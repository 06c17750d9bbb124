"""What can be wrong with a file, and with one row of it. No message repeats what a row says."""

from schemas.dead_letter import Reason


class FileProblem(Exception):
    """The file as a whole cannot be read: missing, empty, of an unknown dataset. One sentence for a person."""


class RowDefect(Exception):
    """This row cannot become a report. `column` is the normalised column name, None for the whole row."""

    def __init__(self, expected: str, column: str | None = None, reason: Reason = "invalid") -> None:
        super().__init__(expected)
        self.expected = expected
        self.column = column
        self.reason: Reason = reason
