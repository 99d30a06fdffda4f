"""`scripts.soak` on members that break a promise: for tests only.

python -m tests.cluster.broken_soak PROMISE FLAG...
"""

import sys

from scripts.soak import members
from scripts.soak.__main__ import main

if __name__ == "__main__":
    members.ENTRY_POINT[:] = ["tests.cluster.broken", sys.argv[1]]
    sys.argv = [sys.argv[0], *sys.argv[2:]]
    sys.exit(main())
