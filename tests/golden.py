"""Runs golden scripts: commands to a small cluster, and what they changed, in one text file.

A script is a list of blocks, separated by empty lines: comments (`#`), commands, a line `---`, and
the output that the commands had. Only changes are shown: messages as they leave, entries as
index@term, a server's state when it differs. `pytest --rewrite` replaces the output in place.

Commands (S is a server, N a number):
  cluster voters=1,2,3 [election=10] [heartbeat=1] [OPTION=VALUE ...]   any option of CoreConfig
  server S                    start a new server that knows nothing, as one that is to join
  given S TERM,TERM,... [term=N] [commit=N]   the log on S's disk; entry 1 names the voters
  lead S                      elect S, and show nothing of it
  tick S [N] | campaign S | propose S TEXT ... | read S CONTEXT | transfer S TO
  change S add=N learner=N remove=N ...       several make a joint configuration
  deliver [FROM] [TO] | drop [FROM] [TO]      messages under way; * for anybody
  duplicate | reverse | stabilize             stabilize delivers until nothing is under way
  partition S,S S ... | heal                  messages between the parts get lost
  hold S | release S          the disk of S stands still, and goes on
  crash S | restart S         what is not on disk is lost
  snapshot S | compact S N | unreachable S TO
  status [S ...] | log S
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raft.confchange import ADD_LEARNER, ADD_VOTER, REMOVE, Change, ConfigChange
from raft.entry import NORMAL, Configuration, Entry, EntryID, HardState
from raft.errors import RaftError
from raft.messages import Envelope, InstallSnapshot
from raft.state import CoreConfig
from tests.raft.file_disk import FileDisk
from tests.raft.server import Disk, Server, State, bootstrap_disk
from tests.raft.wording import (
    describe_configuration,
    describe_data,
    describe_entries,
    describe_envelope,
)

_KINDS = {"add": ADD_VOTER, "learner": ADD_LEARNER, "remove": REMOVE}


@dataclass(slots=True)
class Block:
    """Commands and their output."""

    commands: list[str]  # comments included
    output: list[str]


def parse_script(text: str) -> list[Block]:
    """Return the blocks of a script."""
    blocks = []
    for part in text.strip("\n").split("\n\n"):
        commands, _, output = part.partition("---")
        blocks.append(Block(commands.strip("\n").split("\n"), output.strip("\n").split("\n")))
    return blocks


def run_script(text: str, directory: Path | None = None) -> str:
    """Return the script with the output that its commands have; with disks in files if told so."""
    cluster = Cluster(directory)
    parts = []
    try:
        for block in parse_script(text):
            output: list[str] = []
            for line in block.commands:
                if not line.startswith("#"):
                    output += cluster.execute(line)
            parts.append("\n".join([*block.commands, "---", *output]).rstrip("\n"))
    finally:
        cluster.close()
    return "\n\n".join(parts) + "\n"


def check_script(path: Path, *, rewrite: bool) -> None:
    """Assert that a script's output is what it says, or make it so."""
    expected = path.read_text()
    actual = run_script(expected)
    if rewrite:
        path.write_text(actual)
    else:
        assert actual == expected, f"{path}: run `make golden` and read the difference"


@dataclass(slots=True)
class Look:
    """What is shown of a server when it changes."""

    role: str
    term: int
    leader: int
    commit_index: int
    last_id: EntryID
    configuration: Configuration
    applied: int
    reads: int
    rejected: int
    restored: int


class _Collector(logging.Handler):
    """Keeps the warnings and errors that cores log."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"  {record.levelname.lower()}: {record.getMessage()}")


@dataclass(slots=True)
class Cluster:
    """Servers, and the messages under way between them."""

    # Where the disks' files are; None for disks in memory.
    directory: Path | None = None
    servers: dict[int, Server] = field(default_factory=dict)
    disks: dict[int, Disk | FileDisk] = field(default_factory=dict)
    under_way: list[Envelope] = field(default_factory=list)
    # The part of a partitioned network that each server is in.
    parts: dict[int, int] = field(default_factory=dict)
    voters: tuple[int, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    snapshots: dict[EntryID, State] = field(default_factory=dict)
    logged: list[str] = field(default_factory=list)
    starts: int = 0
    made_disks: int = 0

    def execute(self, line: str) -> list[str]:
        """Carry out one command; return the lines of its output."""
        name, *words = line.split()
        command: Callable[..., list[str]] = getattr(self, f"do_{name.replace('-', '_')}")
        try:
            return command(*words)
        except RaftError as error:
            return [f"{type(error).__name__}: {error}"]

    def close(self) -> None:
        """Let go of the disks' files."""
        for disk in self.disks.values():
            if isinstance(disk, FileDisk):
                disk.close()

    # ---------------------------------------------------------------------------------- setup

    def do_cluster(self, *words: str) -> list[str]:
        """Start a new cluster; the one before it is gone."""
        self.close()
        self.servers, self.disks, self.under_way, self.parts = {}, {}, [], {}
        options = dict(word.split("=") for word in words)
        self.voters = _ids(options.pop("voters"))
        election_ticks = int(options.pop("election", "10"))
        heartbeat_ticks = int(options.pop("heartbeat", "1"))
        flags = {"pre_vote", "check_quorum"}
        self.options = {
            name: value == "1" if name in flags else int(value) for name, value in options.items()
        }
        self.options |= {"election_ticks": election_ticks, "heartbeat_ticks": heartbeat_ticks}
        for server_id in self.voters:
            self._insert(server_id, bootstrap_disk(self.voters))
            self._start(server_id)
        return []

    def do_server(self, server: str) -> list[str]:
        """Start a server that belongs to no cluster yet."""
        self._insert(int(server), Disk())
        self._start(int(server))
        return []

    def do_given(self, server: str, terms: str, *words: str) -> list[str]:
        """Put a log on a disk before anything else happens."""
        disk = bootstrap_disk(self.voters)
        options = {name: int(value) for name, value in (word.split("=") for word in words)}
        for index, term in enumerate(_ids(terms)[1:], 2):
            disk.entries.append(Entry(index, term, NORMAL, b"given"))
        term = max(options.get("term", 0), disk.entries[-1].term)
        disk.hard_state = HardState(term, 0, options.get("commit", 1))
        self._insert(int(server), disk)
        self._start(int(server))
        return []

    def do_lead(self, server: str) -> list[str]:
        """Elect a leader, silently."""
        self.do_campaign(server)
        self.do_stabilize()
        assert self.servers[int(server)].core.role == "leader", f"{server} was not elected"
        return []

    # --------------------------------------------------------------------------------- inputs

    def do_tick(self, server: str, count: str = "1") -> list[str]:
        """Let time pass for one server."""
        return self._show(int(server), lambda it: it.tick(int(count)))

    def do_campaign(self, server: str) -> list[str]:
        """Start an election."""
        return self._show(int(server), lambda it: it.do(lambda core: core.campaign()))

    def do_propose(self, server: str, *texts: str) -> list[str]:
        """Propose each text, all in one turn."""

        def propose(it: Server) -> list[Envelope]:
            for text in texts:
                it.core.propose(text.encode())
            return it.run()

        return self._show(int(server), propose)

    def do_change(self, server: str, *words: str) -> list[str]:
        """Propose to change the configuration."""
        pairs = [word.split("=") for word in words]
        change = ConfigChange(tuple(Change(_KINDS[kind], int(who)) for kind, who in pairs))
        return self._show(int(server), lambda it: it.do(lambda core: core.propose_config(change)))

    def do_read(self, server: str, context: str) -> list[str]:
        """Ask for a read index."""
        return self._show(int(server), lambda it: it.do(lambda core: core.read_index(int(context))))

    def do_transfer(self, server: str, to: str) -> list[str]:
        """Hand over leadership."""
        return self._show(
            int(server), lambda it: it.do(lambda core: core.transfer_leadership(int(to)))
        )

    def do_unreachable(self, server: str, to: str) -> list[str]:
        """Report that a message was lost."""
        return self._show(
            int(server), lambda it: it.do(lambda core: core.report_unreachable(int(to)))
        )

    # -------------------------------------------------------------------------------- network

    def do_deliver(self, sender: str = "*", recipient: str = "*") -> list[str]:
        """Deliver what is under way at this moment."""
        output = []
        for envelope in self._take(sender, recipient):
            output += self._deliver(envelope)
        return output

    def do_drop(self, sender: str = "*", recipient: str = "*") -> list[str]:
        """Lose what is under way."""
        return [line for it in self._take(sender, recipient) for line in self._lose(it)]

    def do_duplicate(self) -> list[str]:
        """Send everything under way once more."""
        self.under_way += self.under_way
        return []

    def do_reverse(self) -> list[str]:
        """Let what was sent last arrive first."""
        self.under_way.reverse()
        return []

    def do_stabilize(self) -> list[str]:
        """Deliver until nothing is under way."""
        output = []
        while self.under_way:
            output += self._deliver(self.under_way.pop(0))
        return output

    def do_partition(self, *parts: str) -> list[str]:
        """Let messages pass only within each part."""
        self.parts = {server_id: i for i, part in enumerate(parts) for server_id in _ids(part)}
        return []

    def do_heal(self) -> list[str]:
        """Let all messages pass."""
        self.parts = {}
        return []

    # ----------------------------------------------------------------------------- disk, crash

    def do_hold(self, server: str) -> list[str]:
        """Let writes not finish."""
        self.servers[int(server)].holds_writes = True
        return []

    def do_release(self, server: str) -> list[str]:
        """Let writes finish."""

        def release(it: Server) -> list[Envelope]:
            it.holds_writes = False
            return it.finish_write() if it.writing else []

        return self._show(int(server), release)

    def do_crash(self, server: str) -> list[str]:
        """Stop a server; what is not on its disk is lost."""
        del self.servers[int(server)]
        return []

    def do_restart(self, server: str) -> list[str]:
        """Start a server from its disk."""
        self.servers.pop(int(server), None)
        self._start(int(server))
        return self._status(self.servers[int(server)])[:1]

    def do_snapshot(self, server: str) -> list[str]:
        """Save a snapshot."""
        it = self.servers[int(server)]
        meta = it.save_snapshot()
        self.snapshots[meta.id] = tuple(it.state)
        return [f"{it.id} saved {meta.id} {describe_configuration(meta.configuration)}"]

    def do_compact(self, server: str, index: str) -> list[str]:
        """Drop the log up to an index."""
        it = self.servers[int(server)]
        it.compact(int(index))
        return [f"{it.id} log begins at {it.core.log.first_index}"]

    # ----------------------------------------------------------------------------------- looks

    def do_status(self, *servers: str) -> list[str]:
        """Show servers."""
        chosen = [int(server) for server in servers] or sorted(self.servers)
        return [line for server_id in chosen for line in self._status(self.servers[server_id])]

    def do_log(self, server: str) -> list[str]:
        """Show a log."""
        log = self.servers[int(server)].core.log
        return [
            f"{server} after {log.base}: {describe_entries(log.slice(log.first_index, 1 << 62))}"
        ]

    # ----------------------------------------------------------------------------------- parts

    def _insert(self, server_id: int, disk: Disk) -> None:
        """Give a server its first disk, or another one."""
        if self.directory is None:
            self.disks[server_id] = disk
            return
        before = self.disks.get(server_id)
        if isinstance(before, FileDisk):
            before.close()
        self.made_disks += 1
        self.disks[server_id] = FileDisk(self.directory / f"{self.made_disks}", disk)

    def _start(self, server_id: int) -> None:
        self.starts += 1
        logger = logging.Logger(f"server {server_id}", logging.WARNING)
        logger.addHandler(_Collector(self.logged))
        config = CoreConfig(server_id, **self.options)
        server = Server(
            config, self.disks[server_id], self.starts, logger, self.snapshots.__getitem__
        )
        self.servers[server_id] = server
        self.under_way += server.run()

    def _take(self, sender: str, recipient: str) -> list[Envelope]:
        taken: list[Envelope] = []
        left: list[Envelope] = []
        for envelope in self.under_way:
            matches = sender in ("*", str(envelope.sender))
            matches = matches and recipient in ("*", str(envelope.recipient))
            (taken if matches else left).append(envelope)
        self.under_way = left
        return taken

    def _deliver(self, envelope: Envelope) -> list[str]:
        sender, recipient = envelope.sender, envelope.recipient
        if recipient not in self.servers or self.parts.get(sender) != self.parts.get(recipient):
            return self._lose(envelope)
        lines = self._show(recipient, lambda it: it.step(envelope))
        return lines + self._report(envelope, delivered=True)

    def _lose(self, envelope: Envelope) -> list[str]:
        return [f"lost {describe_envelope(envelope)}", *self._report(envelope, delivered=False)]

    def _report(self, envelope: Envelope, *, delivered: bool) -> list[str]:
        """Tell the sender of a snapshot what became of it, as the transport does."""
        sender, to = envelope.sender, envelope.recipient
        if not isinstance(envelope.message, InstallSnapshot) or sender not in self.servers:
            return []
        return self._show(
            sender, lambda it: it.do(lambda core: core.report_snapshot(to, delivered=delivered))
        )

    def _show(self, server_id: int, action: Callable[[Server], list[Envelope]]) -> list[str]:
        """Do something to a server; return the lines about what that changed."""
        server = self.servers[server_id]
        before = _look(server)
        sent = action(server)
        self.under_way += sent
        lines = _changes(server, before, _look(server))
        lines += self.logged
        self.logged.clear()
        return lines + [describe_envelope(envelope) for envelope in sent]

    def _status(self, server: Server) -> list[str]:
        status, log = server.core.status(), server.core.log
        lines = [
            f"{server.id} {status.role} term={status.term} vote={status.vote:x} "
            f"leader={status.leader:x} last={log.last_id} commit={status.commit_index} "
            f"applied={status.applied_index} {describe_configuration(server.core.configuration)}"
        ]
        if status.transferee:
            lines.append(f"  hands over to {status.transferee:x}")
        for server_id, it in status.followers.items():
            active = "" if it.recent_active else " silent"
            lines.append(
                f"  {server_id:x} {it.state.value} match={it.match_index} next={it.next_index}"
                f"{active}"
            )
        return lines


def _ids(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def _look(server: Server) -> Look:
    core = server.core
    return Look(
        *(core.role, core.term, core.leader, core.log.commit_index, core.log.last_id),
        *(core.configuration, len(server.applied), len(server.reads)),
        *(len(server.rejected), len(server.restored)),
    )


def _changes(server: Server, before: Look, after: Look) -> list[str]:
    words = []
    if (before.role, before.term) != (after.role, after.term):
        words.append(f"{after.role} in term {after.term}")
    if before.leader != after.leader:
        words.append(f"follows {after.leader:x}" if after.leader else "has no leader")
    if before.last_id != after.last_id:
        words.append(f"log to {after.last_id}")
    if before.commit_index != after.commit_index:
        words.append(f"commit {after.commit_index}")
    restored = server.restored[before.restored :]
    words += [f"restored {meta.id}" for meta in restored]
    applied = server.applied[before.applied :]
    if applied:
        words.append(f"applied {describe_entries(applied)}")
    if before.configuration != after.configuration:
        words.append(describe_configuration(after.configuration))
    reads = server.reads[before.reads :]
    words += [f"may serve read {read.context} at {read.read_index}" for read in reads]
    rejected = server.rejected[before.rejected :]
    words += [f"got back {describe_data(it.data)}: {it.reason}" for it in rejected]
    return [f"{server.id}: {', '.join(words)}"] if words else []
