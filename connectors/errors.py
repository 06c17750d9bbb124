"""Two kinds of failure that the loop knows what to do about. Anything else ends the process."""


class Transient(Exception):
    """The outside is away for a while (connection lost, deadlock, broker gone). Try again, for as long as
    it takes."""


class Permanent(Exception):
    """This input can never work. The loop bisects the batch and dead-letters the one record.

    `field` is the path of the offending field, when it is known.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Fenced(Exception):
    """Another worker owns the partition now: this one changes nothing and lets go of it."""


class Outdated(Exception):
    """Something else was put in force than this process decides by: it changes nothing, takes that up and tries
    again. No failure."""
