"""The driver carries out what the core wants done, in the one order that is safe.

Sans-IO like the core: disk, network and state machine are the seams of `raft.interfaces`, which
answer by callback. `raft.node` runs it in an event loop, the simulator in virtual time.

For every `Ready`:

1. Messages that promise nothing leave at once, so that followers write while we do (thesis 10.2.1).
   But where there is nothing to write, and one entry to apply, its client is answered first.
2. The `Write` goes to disk; one is in flight at a time, and what arrives meanwhile is the next.
3. What it promises leaves only when it is durable, our own acknowledgement included.
4. Entries that are committed and durable here are applied in order.
5. Reads are served once what they must see is applied (thesis 6.4).

Nothing here blocks, reads a clock or draws a random number.
"""

import logging
from collections.abc import Callable
from functools import partial

from raft.confchange import ConfigChange, decode_change
from raft.core import Core
from raft.entry import CONFIG, NORMAL, Entry, SnapshotMeta
from raft.interfaces import Ready, StateMachine, Storage, Transport, Write
from raft.messages import Envelope

# Entries kept in the log behind a snapshot, so that a follower which is a little behind is sent
# entries and not the whole state. Bounded in bytes too: large values must not fill the memory.
CATCH_UP_ENTRIES = 5_000
CATCH_UP_BYTES = 16 * 1024 * 1024
# So many leave the log at a time: to free tens of thousands at once would hold everybody up.
COMPACTED_ENTRIES = 2_000

ReadDone = Callable[[], None]


class Driver:
    """One server: a core with its disk, network and state machine.

    Invariants:
      1. At most one `Write` is in flight, and at most one snapshot of our own.
      2. The state machine has applied exactly the entries up to `core.applied_index`.
      3. A read is served at an applied index no lower than the one the leader confirmed for it,
         under a context that was never used before.
    """

    def __init__(
        self,
        core: Core,
        storage: Storage,
        transport: Transport,
        machine: StateMachine,
        *,
        first_context: int,
        read_retry_ticks: int,
        log: logging.Logger,
        catch_up_entries: int = CATCH_UP_ENTRIES,
    ) -> None:
        """`first_context` must differ between runs of one server: late answers are no answers."""
        assert first_context >= 1, f"contexts begin at 1, not {first_context}"
        self.core = core
        self._storage = storage
        self._transport = transport
        self._machine = machine
        self._log = log
        self._next_context = first_context
        self._read_retry_ticks = read_retry_ticks
        self._catch_up_entries = catch_up_entries
        # Reads for which no leader has been asked yet.
        self._new_reads: list[ReadDone] = []
        # Asked under a context, not answered: the callbacks, and the ticks left until they are
        # asked again under another one.
        self._asked_reads: dict[int, tuple[list[ReadDone], int]] = {}
        # Confirmed at an index that is not applied yet.
        self._confirmed_reads: list[tuple[int, list[ReadDone]]] = []
        self._saving: SnapshotMeta | None = None
        # The entries up to there are superfluous; they leave the log little by little.
        self._superfluous_index = 0
        # What goes to disk, and what is called when it is there.
        self._writing: Write | None = None
        self._on_written: Callable[[], None] = self._written
        # Whether the disk had no room for the last snapshot, which the log has said.
        self._lacked_room = False
        machine.configured(core.configuration)

    # ------------------------------------------------------------------------------- inputs

    def tick(self) -> None:
        """Let one tick of time pass."""
        self.core.tick()
        if self._asked_reads:
            self._age_reads()

    def step(self, envelopes: list[Envelope]) -> None:
        """Take messages from the network."""
        step = self.core.step
        for envelope in envelopes:
            step(envelope)

    def read_index(self, done: ReadDone) -> None:
        """Call `done` once the state machine holds everything committed before this call."""
        self._new_reads.append(done)

    def save_snapshot(self, given_up: Callable[[], None] = lambda: None) -> bool:
        """Begin a snapshot of the state machine as it is; False while another is being written.

        `given_up` is called if the disk has no room for it.
        """
        core = self.core
        raft_index = core.applied_index
        # While a leader's snapshot waits to be restored, log and configuration are ahead of the
        # state machine: what it holds must not get their names.
        if self._saving is not None or core.restoring or raft_index <= core.snapshot_index:
            return False
        meta = SnapshotMeta(raft_index, core.log.term(raft_index), core.configuration)
        self._saving = meta
        self._log.info("starting a snapshot at index %d", raft_index)
        self._storage.save_snapshot(
            *(meta, self._machine.capture(), partial(self._saved, meta)),
            partial(self._given_up, meta, given_up),
        )
        return True

    def disk_filled(self, *, full: bool) -> None:
        """Take entries on no more, since the disk has no room for them; or take them again."""
        self.core.log.is_full = full
        if full:
            self._log.error("no space left for the log: entries are refused until there is room")
        else:
            self._log.warning("there is room for the log again: entries are taken")

    @property
    def saving(self) -> bool:
        """Whether a snapshot is being written."""
        return self._saving is not None

    # --------------------------------------------------------------------------------- work

    def pump(self) -> None:
        """Do everything that can be done without waiting."""
        core = self.core
        while True:
            if self._new_reads and core.leader:
                self._ask_reads()
            if not core.has_ready():
                break
            self._carry_out(core.ready())
        if self._confirmed_reads:
            self._serve_reads()

    def _carry_out(self, ready: Ready) -> None:
        committed = ready.committed
        answer_first = ready.write is None and len(committed) == 1 and committed[0].kind == NORMAL
        if ready.messages and not answer_first:
            self._transport.send(ready.messages)
        if ready.write is not None:
            self._writing = ready.write
            if self._storage.write(ready.write, self._on_written):
                self._confirm()
        if ready.restore is not None:
            self._restore(ready.restore)
        if committed:
            self._apply(committed)
        if ready.messages and answer_first:
            self._transport.send(ready.messages)
        for context, read_index in ready.reads:
            # A context that is not ours any more was asked again under another one, and the old
            # answer may come from a leader that has been deposed since (thesis 6.4).
            asked = self._asked_reads.pop(context, None)
            if asked is not None:
                self._confirmed_reads.append((read_index, asked[0]))
        for rejected in ready.rejected:
            self._machine.reject(rejected)

    def _written(self) -> None:
        self._confirm()
        self.pump()

    def _confirm(self) -> None:
        core, write = self.core, self._writing
        assert write is not None, "told of a write that was not begun"
        self._writing = None
        core.written(write)
        own = core.server_id
        others: list[Envelope] = []
        for envelope in write.messages:
            if envelope.recipient == own:
                core.step(envelope)
            else:
                others.append(envelope)
        if others:
            self._transport.send(others)
        self._compact()

    def _apply(self, entries: list[Entry]) -> None:
        first = 0
        for i, entry in enumerate(entries):
            if entry.kind == CONFIG:
                if first < i:
                    self._machine.apply(entries[first:i])
                self._apply_config(entry)
                first = i + 1
        if first < len(entries):
            self._machine.apply(entries[first:] if first else entries)
        self.core.applied(entries[-1].index)

    def _apply_config(self, entry: Entry) -> None:
        change: ConfigChange | None
        try:
            change = decode_change(entry.data)
        except ValueError as error:
            # Every server decodes the same bytes, so that it is void on all of them.
            self._log.error("configuration entry %d is void: %s", entry.index, error)
            change = None
        if change is not None and not self._machine.apply_config(entry, change):
            change = None
        self._machine.configured(self.core.apply_config(entry, change))

    def _restore(self, meta: SnapshotMeta) -> None:
        self._log.info("restoring the snapshot at index %d, term %d", meta.index, meta.term)
        self._machine.restore(meta, self._storage.read_snapshot(meta))
        self.core.applied(meta.index)
        self._machine.configured(self.core.configuration)

    def _saved(self, meta: SnapshotMeta) -> None:
        assert self._saving == meta, f"snapshot {meta.index} is done, but {self._saving} was begun"
        self._saving = None
        self._lacked_room = False
        core = self.core
        if meta.index <= core.snapshot_index:
            return  # the leader has sent a newer one meanwhile
        core.snapshot_saved(meta)
        log = core.log
        keep_from = max(log.base.index, meta.index - self._catch_up_entries)
        while keep_from < meta.index and log.size_since(keep_from) > CATCH_UP_BYTES:
            keep_from += max(1, (meta.index - keep_from) // 2)
        self._superfluous_index = keep_from
        self._compact()
        self._log.info("saved the snapshot at index %d", meta.index)
        self.pump()

    def _compact(self) -> None:
        """Drop some of the superfluous entries; each write that is durable drops some more."""
        core, superfluous_index = self.core, self._superfluous_index
        base_index = core.log.base.index
        if superfluous_index > base_index:
            core.compact(min(superfluous_index, base_index + COMPACTED_ENTRIES))

    def _given_up(self, meta: SnapshotMeta, tell: Callable[[], None]) -> None:
        assert self._saving == meta, f"snapshot {meta.index} is not {self._saving}"
        # The log keeps all that the snapshot would have replaced.
        self._saving = None
        if not self._lacked_room:
            self._log.warning("no space left for the snapshot at index %d", meta.index)
            self._lacked_room = True
        tell()

    # -------------------------------------------------------------------------------- reads

    def _ask_reads(self) -> None:
        reads, self._new_reads = self._new_reads, []
        context = self._next_context
        self._next_context += 1
        # Not refused: a leader is known.
        self.core.read_index(context)
        self._asked_reads[context] = (reads, self._read_retry_ticks)

    def _age_reads(self) -> None:
        """Ask again for reads whose question or answer was lost, under new contexts."""
        for context, (reads, ticks_left) in list(self._asked_reads.items()):
            if ticks_left > 1:
                self._asked_reads[context] = (reads, ticks_left - 1)
            else:
                del self._asked_reads[context]
                self._new_reads.extend(reads)

    def _serve_reads(self) -> None:
        applied_index = self.core.applied_index
        waiting: list[tuple[int, list[ReadDone]]] = []
        ready: list[ReadDone] = []
        for read_index, reads in self._confirmed_reads:
            if read_index <= applied_index:
                ready.extend(reads)
            else:
                waiting.append((read_index, reads))
        self._confirmed_reads = waiting
        for done in ready:
            done()


__all__ = ["CATCH_UP_BYTES", "CATCH_UP_ENTRIES", "Driver", "ReadDone"]
