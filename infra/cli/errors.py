"""What goes wrong in a way we expect: one clear sentence for a person, one exit code for a script."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a script can tell apart. 2 is the command line's own: a wrong option or argument."""

    FAILED = 1
    NOT_RUNNING = 3
    ALREADY_RUNNING = 4
    BUSY_PORT = 5
    NOT_FOUND = 6
    UNREACHABLE = 7
    INVALID = 8  # a setting, a file or a policy


class Oops(Exception):
    """An expected failure. The message says what is wrong and what to do, in one sentence."""

    def __init__(self, sentence: str, exit_code: int = ExitCode.FAILED) -> None:
        super().__init__(sentence)
        self.exit_code = int(exit_code)
