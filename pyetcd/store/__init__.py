"""etcd 2's key store: a deterministic tree of keys with history, watchers and snapshots.

`store.py` has the commands, `tree.py` the nodes, `watch.py` and `history.py` what clients wait
for, `event.py` and `listing.py` what they are answered, `snapshot.py` the store in bytes.
Nothing here reads a clock, does input or output, or waits.
"""

from pyetcd.store.event import Event
from pyetcd.store.listing import Listing
from pyetcd.store.snapshot import Capture, CorruptSnapshot, Restorer
from pyetcd.store.store import Store
from pyetcd.store.watch import Watcher

__all__ = ["Store", "Event", "Listing", "Watcher", "Capture", "Restorer", "CorruptSnapshot"]
