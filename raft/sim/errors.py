"""How a simulation fails, and the exit code of each way.

A third way is any other exception that the code under test lets escape: then it has crashed.
"""

from typing import Final

EXIT_CRASH: Final = 10
EXIT_UNSAFE: Final = 11
EXIT_STUCK: Final = 12


class Unsafe(AssertionError):
    """A promise was broken: something was lost, or two servers disagree."""


class Stuck(AssertionError):
    """All troubles have ended, and still the cluster does not come to rest or does not answer."""
