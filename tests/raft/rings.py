"""Whether this system has rings: containers often forbid them."""

import pytest

from raft.ring import Ring


def has_ring() -> bool:
    """Make one."""
    try:
        Ring().close()
    except OSError:
        return False
    return True


needs_ring = pytest.mark.skipif(not has_ring(), reason="needs io_uring")
