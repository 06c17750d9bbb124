"""How the audit trail calls who types commands."""

import getpass
import os


def actor() -> str:
    """`cli:<user of the system>`."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, ImportError, OSError):  # a container's user that has no name
        return f"cli:uid-{os.getuid()}"
