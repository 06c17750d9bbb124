"""What holds for all tests."""

from hypothesis import settings

# No deadline per example: on a shared machine it would say something of the machine, not of the code.
settings.register_profile("no deadline", parent=settings(), deadline=None)
settings.load_profile("no deadline")
