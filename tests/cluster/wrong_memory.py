"""pyetcd whose memory keeps another value than it was given: an entry point for tests only.

python -m tests.cluster.wrong_memory KEY FLAG...
"""

import sys
from pathlib import Path
from typing import Any

from pyetcd.main import main
from pyetcd.store import Event, Store


def spoil(key: str) -> None:
    """Have every value of one key come out wrong in this process."""
    set_rightly = Store.set

    def set_wrongly(self: Store, path: str, value: str, now: int, **more: Any) -> Event:
        return set_rightly(self, path, value + "?" if path == key else value, now, **more)

    Store.set = set_wrongly  # type: ignore[method-assign]


if __name__ == "__main__":
    spoil(sys.argv[1])
    sys.argv = [str(Path(sys.argv[0])), *sys.argv[2:]]
    main()
