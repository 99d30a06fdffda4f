"""pyetcd on a disk whose flushes take their time: an entry point for tests only.

python -m tests.cluster.slow_disk SECONDS ring|thread FLAG...
"""

import os
import sys
import threading
import time
from pathlib import Path

from pyetcd.main import main
from raft.files import DiskFiles
from raft.ring import Ring


class SlowRing(Ring):
    """A ring whose writes end so much later, and whose descriptor tells of it then."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._bell

    def begin(
        self, descriptor: int, data: bytes, offset: int, wait_seconds: float, *, direct: bool
    ) -> None:
        super().begin(descriptor, data, offset, 0.0, direct=direct)
        threading.Timer(self._seconds, os.eventfd_write, (self._bell, 1)).start()
        time.sleep(min(wait_seconds, self._seconds))

    def finish(self) -> bool:
        try:
            os.eventfd_read(self._bell)
        except BlockingIOError:
            return False
        if super().finish():
            return True
        # Late as it is, the write itself has not ended yet.
        os.eventfd_write(self._bell, 1)
        return False


def slow_down(seconds: float, way: str) -> None:
    """Make every durable write of this process take so much longer, by a ring or by a thread."""
    write_durably = DiskFiles.write_durably

    def write_slowly(self: DiskFiles, descriptor: int, data: bytes, offset: int) -> None:
        write_durably(self, descriptor, data, offset)
        time.sleep(seconds)

    def open_ring(self: DiskFiles) -> Ring | None:
        return {"ring": lambda: SlowRing(seconds), "thread": lambda: None}[way]()

    DiskFiles.write_durably = write_slowly  # type: ignore[method-assign]
    DiskFiles.open_ring = open_ring  # type: ignore[method-assign]


if __name__ == "__main__":
    slow_down(float(sys.argv[1]), sys.argv[2])
    sys.argv = [str(Path(sys.argv[0])), *sys.argv[3:]]
    main()
