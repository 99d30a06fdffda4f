"""pyetcd on a disk whose flushes take their time: an entry point for tests only.

python -m tests.cluster.slow_disk SECONDS FLAG...
"""

import sys
import time
from pathlib import Path

from pyetcd.main import main
from raft.files import DiskFiles


def slow_down(seconds: float) -> None:
    """Make every durable write of this process take so much longer."""
    write_durably = DiskFiles.write_durably

    def write_slowly(self: DiskFiles, descriptor: int, data: bytes, offset: int) -> None:
        write_durably(self, descriptor, data, offset)
        time.sleep(seconds)

    DiskFiles.write_durably = write_slowly  # type: ignore[method-assign]
    DiskFiles.open_ring = lambda self: None  # type: ignore[method-assign]


if __name__ == "__main__":
    slow_down(float(sys.argv[1]))
    sys.argv = [str(Path(sys.argv[0])), *sys.argv[2:]]
    main()
