"""The network between the servers: it delays, loses, repeats and reorders, and it can be cut.

Messages travel encoded, one frame each, so that no server ever holds an object of another's. Only
`Propose` and `ProposeReject` are never repeated: a proposal that comes twice is two proposals, and
one that is refused twice is made twice. The real transport, a stream, repeats nothing. A snapshot
travels in pieces from disk to disk, as its own transfer.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from raft.codec import encode_envelopes
from raft.errors import CorruptRecord
from raft.messages import Envelope, InstallSnapshot, Propose, ProposeReject
from raft.sim.chance import below
from raft.sim.clock import MILLISECOND, SECOND
from raft.sim.process import Process
from raft.sim.world import World
from raft.snapshots import SnapshotReceiver

# A sender gives up a transfer of which it hears nothing for so long.
_TRANSFER_TIMEOUT_US: Final = 2 * SECOND

Find = Callable[[int], Process | None]


class Network:
    """All the links, one for each ordered pair of servers."""

    def __init__(self, world: World, find: Find) -> None:
        """`find` returns the process that a server runs now, or None."""
        self._world = world
        self._random = world.stream("network")
        self._find = find
        # Pairs (sender, recipient) between which nothing passes.
        self.blocked: set[tuple[int, int]] = set()
        # Pairs whose messages arrive only at this time.
        self.clogged: dict[tuple[int, int], int] = {}
        # Servers that take a snapshot: one at a time.
        self._receiving: set[int] = set()

    def transmit(self, envelopes: list[Envelope]) -> None:
        """Take messages from a process."""
        for envelope in envelopes:
            if isinstance(envelope.message, InstallSnapshot):
                self._begin_transfer(envelope)
            else:
                self._transmit(envelope)

    def heal(self) -> None:
        """Lose nothing any more."""
        self.blocked.clear()
        self.clogged.clear()

    # ------------------------------------------------------------------------------- messages

    def _transmit(self, envelope: Envelope) -> None:
        world, link = self._world, _link(envelope)
        frame = encode_envelopes([envelope])
        if self._is_lost(link):
            world.count("lost")
            return
        delay = self._draw_delay(link)
        world.clock.after(delay, partial(self._deliver, link, frame))
        if not world.is_healed and self._random.random() < world.options.repetition:
            if not isinstance(envelope.message, Propose | ProposeReject):
                world.count("repeated")
                again = delay + self._draw_delay(link)
                world.clock.after(again, partial(self._deliver, link, frame))

    def _deliver(self, link: tuple[int, int], frame: bytes) -> None:
        sender, recipient = link
        process = self._find(recipient)
        if process is None or link in self.blocked:
            self._report_unreachable(link)
            return
        self._world.count("delivered")
        self._world.trace_frame(sender, recipient, frame)
        process.receive(frame)

    def _report_unreachable(self, link: tuple[int, int]) -> None:
        """Now and then a sender learns that nobody was there."""
        sender, recipient = link
        process = self._find(sender)
        if process is not None and self._random.random() < 0.1:
            process.later(0, partial(process.core.report_unreachable, recipient))
            process.arm()

    def _is_lost(self, link: tuple[int, int]) -> bool:
        sender = self._find(link[0])
        if link in self.blocked or (sender is not None and not sender.knows(link[1])):
            return True
        return not self._world.is_healed and self._random.random() < self._world.options.loss

    def _draw_delay(self, link: tuple[int, int]) -> int:
        options, rng = self._world.options, self._random
        delay = options.delay_us + below(rng, options.jitter_us + 1)
        if not self._world.is_healed and rng.random() < options.reorder:
            delay += rng.randrange(2 * SECOND)
        if self.clogged:
            delay = max(delay, self.clogged.get(link, 0) - self._world.clock.now)
        return delay

    # ------------------------------------------------------------------------------- snapshots

    def _begin_transfer(self, envelope: Envelope) -> None:
        link = _link(envelope)
        sender, receiver = self._find(link[0]), self._find(link[1])
        assert sender is not None, f"a snapshot from {link[0]:x}, which does not run"
        message = envelope.message
        assert isinstance(message, InstallSnapshot), f"{message} is no snapshot"
        self._world.trace(f"{link[0]:x} sends snapshot {message.meta.id} to {link[1]:x}")
        if receiver is None or self._is_lost(link) or receiver.server_id in self._receiving:
            self._report(sender, link, delivered=False, delay=_TRANSFER_TIMEOUT_US)
            return
        try:
            pieces = list(sender.storage.disk.open_snapshot(message.meta))
        except OSError:
            # A newer one has taken its place.
            self._report(sender, link, delivered=False, delay=0)
            return
        self._receiving.add(receiver.server_id)
        transfer = _Transfer(envelope, pieces, sender, receiver)
        self._world.clock.after(self._draw_delay(link), partial(self._continue, transfer))

    def _continue(self, transfer: "_Transfer") -> None:
        """Let one piece arrive, or the end of the snapshot."""
        link, receiver = _link(transfer.envelope), transfer.receiver
        if transfer.sender.ended or receiver.ended or self._is_lost(link):
            self._end_transfer(transfer, delivered=False, delay=_TRANSFER_TIMEOUT_US)
            return
        try:
            is_over = transfer.receive_piece()
        except (CorruptRecord, OSError) as error:
            # The receiver says so, and lives on.
            self._world.count("snapshots refused")
            self._world.trace(f"{link[1]:x} refuses the snapshot: {type(error).__name__}")
            self._end_transfer(transfer, delivered=False, delay=0)
            return
        if not is_over:
            self._world.clock.after(self._draw_delay(link), partial(self._continue, transfer))
            return
        receiver.receive(encode_envelopes([transfer.envelope]))
        # The answer may get lost, although the snapshot was not.
        is_known = not self._is_lost((link[1], link[0]))
        self._end_transfer(transfer, delivered=is_known, delay=MILLISECOND)

    def _end_transfer(self, transfer: "_Transfer", *, delivered: bool, delay: int) -> None:
        transfer.abort()
        self._receiving.discard(transfer.receiver.server_id)
        link = _link(transfer.envelope)
        self._report(transfer.sender, link, delivered=delivered, delay=delay)

    def _report(
        self, sender: Process, link: tuple[int, int], *, delivered: bool, delay: int
    ) -> None:
        self._world.count("snapshots delivered" if delivered else "snapshots not delivered")

        def report() -> None:
            sender.core.report_snapshot(link[1], delivered=delivered)
            sender.arm()

        sender.later(delay, report)


class _Transfer:
    """One snapshot on its way."""

    def __init__(
        self, envelope: Envelope, pieces: list[bytes], sender: Process, receiver: Process
    ) -> None:
        self.envelope = envelope
        self.sender = sender
        self.receiver = receiver
        self._pieces = pieces
        self._file: SnapshotReceiver | None = None

    def receive_piece(self) -> bool:
        """Write the next piece, or commit. Raises CorruptRecord and OSError."""
        if self._file is None:
            self._file = self.receiver.storage.disk.receive_snapshot()
        if self._pieces:
            self._file.write(self._pieces.pop(0))
            return False
        meta = self._file.commit()
        self._file = None
        message = self.envelope.message
        assert isinstance(message, InstallSnapshot), f"{message} is no snapshot"
        if meta != message.meta:
            raise CorruptRecord("snapshot", 0, f"the snapshot of {meta.id}")
        return True

    def abort(self) -> None:
        """Forget what arrived, unless it was committed."""
        if self._file is not None and not self.receiver.ended:
            try:
                self._file.abort()
            except OSError:
                pass  # removed at the next start
        self._file = None


def _link(envelope: Envelope) -> tuple[int, int]:
    return envelope.sender, envelope.recipient
