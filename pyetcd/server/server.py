"""The server of one member: requests go into the log, their results come back.

Sits between the API, which calls it, and the raft node, whose state machine is the applier; who
waits for what is the business of `pending.py`. Here is what a member does by itself: it publishes
where it is, writes snapshots, follows changes of the membership; which time it is, and which keys
have expired, is left to `timekeeper.py`. All of it runs in the loop's thread.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from pyetcd.cluster import (
    Cluster,
    LastMember,
    Member,
    NotEnoughStartedMembers,
    member_id,
    ready_to_add_member,
    ready_to_remove_member,
)
from pyetcd.command import (
    Command,
    MemberChange,
    Publish,
    ReportDigest,
    SetVersion,
    UpdateMember,
    encode,
    encode_member_change,
)
from pyetcd.config import Config
from pyetcd.errors import EtcdError
from pyetcd.server.apply import Applier, Done, Result
from pyetcd.server.clock import ClusterClock
from pyetcd.server.pending import Pending, ReadDone
from pyetcd.server.surroundings import Peers, RaftNode
from pyetcd.server.timekeeper import Timekeeper
from pyetcd.stats import Traffic
from pyetcd.store import Store
from pyetcd.urls import Urls
from pyetcd.version import CLUSTER_VERSION
from raft import (
    ADD_VOTER,
    REMOVE,
    Append,
    AppendResponse,
    Change,
    ConfigChange,
    Configuration,
    Envelope,
    Leadership,
    PeerRejected,
    RaftError,
    Rejected,
)
from raft.transport import MemberRemoved

log = logging.getLogger(__name__)

# A snapshot is worth its cost once the log has grown by this share of it: so the bytes written
# for snapshots stay proportional to those written by users, however large the store is.
SNAPSHOT_SHARE: Final = 0.5
# Few large values fill the memory before there are `-snapshot-count` of them.
SNAPSHOT_LOG_BYTES: Final = 64 << 20
# A small store that changes quickly would be written whole each second: unless the count is given,
# the log has so many bytes first, or so many times its default, which etcd has had since 3.2.
SNAPSHOT_LEAST_BYTES: Final = 16 << 20
SNAPSHOT_MOST_COUNTS: Final = 10
# How often a member that starts looks whether it can reach a quorum, and how many looks the next
# one in line lets pass before it campaigns too.
FIRST_ELECTION_SECONDS: Final = 0.01
FIRST_ELECTION_TURNS: Final = 10
# What a full disk has refused is tried again after so long.
NO_ROOM_SECONDS: Final = 5.0
# After the leader's connection to us has broken: so long for ours to it to break as well.
LEADER_LOST_SECONDS: Final = 0.005
# A member that was removed stays a moment, so that the others hear of it, and looks so often
# whether they have. What it was asked before and may yet hear of comes at once, if at all: its
# clients need not wait until it ends.
FAREWELL_SECONDS: Final = 1.0
LAST_ANSWERS_SECONDS: Final = 0.1


class Server:
    """One member of a cluster, as its API sees it."""

    def __init__(
        self,
        config: Config,
        member: int,
        name: str,
        cluster: Cluster,
        *,
        clock: ClusterClock,
        on_removed: Callable[[], None],
    ) -> None:
        """`on_removed` ends the member."""
        self.config = config
        self.member_id = member
        self.name = name
        self.cluster_id = cluster.id
        self.clock = clock
        self.now = clock.now
        self.store = Store()
        self.applier = Applier(self.store, cluster, self)
        self.auth = self.applier.auth
        self._loop = asyncio.get_running_loop()
        self.traffic = Traffic()
        self.leader_since = 0.0
        self.started_at = clock.now()
        self._pending = Pending(
            self.applier.waiters,
            member_id=member,
            clock=clock.now,
            timeout_seconds=config.request_timeout_seconds,
        )
        self.timekeeper = Timekeeper(clock, self.applier, self._pending, member_id=member)
        self._first_election_turn = 0
        self._snapshot_index = 0
        self._least_log_bytes = 0 if "snapshot-count" in config.explicit else SNAPSHOT_LEAST_BYTES
        self._on_removed = on_removed
        self._leaving = False
        self._peers_know_removal = False
        self._stopping = False

    def attach_transport(self, transport: Peers) -> None:
        """Give it the way to its peers; before anything is applied."""
        self.transport = transport

    def attach_node(self, node: RaftNode) -> None:
        """Give it its log; before the node is started."""
        self.node = node
        self._pending.attach(node, self.transport)
        self.timekeeper.attach(node)

    def start(self) -> None:
        """Take requests, and tell the cluster where we are."""
        self._snapshot_index = self.node.core.snapshot_index
        self._pending.start()
        # What the log on disk has led to was reported before, as far as it was known.
        self.applier.comparison.report = self._report_digest
        self._hasten_first_election()
        self._publish()

    async def leave_office(self) -> None:
        """Hand the leadership over, if we have it; requests are answered all the while."""
        self._stopping = True
        await self._hand_over()

    def stop(self) -> None:
        """Answer whoever still waits."""
        self._stopping = True
        self.timekeeper.stop()
        self._pending.stop()

    # --------------------------------------------------------------------------- what it knows

    @property
    def cluster(self) -> Cluster:
        """The members, as of the last applied entry."""
        return self.applier.cluster

    @property
    def leader(self) -> int:
        """The member that leads; 0 when none is known."""
        return self.node.leadership.leader

    @property
    def is_leader(self) -> bool:
        """Whether this member leads."""
        return self.node.leadership.role == "leader"

    @property
    def term(self) -> int:
        """Raft's term; never goes back."""
        return self.node.core.term

    @property
    def raft_index(self) -> int:
        """The last applied entry of the log."""
        return self.applier.raft_index

    @property
    def pending(self) -> Pending:
        """Who waits for the log; to look at, never to change."""
        return self._pending

    # ------------------------------------------------------------------------------- requests

    def propose(self, command: Command, done: Done, last_sweep: int = 0) -> None:
        """Have a command applied by all members, then call `done` with its result.

        `done` gets the store's event, the error it was refused with, or RaftInternal when the
        cluster did not answer in time: then it may or may not happen later. It gets Overtaken if
        what permits the command, or the time, both of which are to be looked at right before, has
        changed when its turn comes. Made anew, it is given up at the `last_sweep` that Overtaken
        has, as is who has waited for `learn_time` at the one which that returned.
        """
        self._pending.propose(command, done, self.auth.revision_in_force, last_sweep)

    def read_index(self, done: ReadDone) -> None:
        """Call `done` when the store holds all that any member has acknowledged before now."""
        self._pending.read_index(done)

    def knows_time(self) -> bool:
        """Whether `now` is good enough for a TTL; else wait for `learn_time`."""
        return self.timekeeper.knows_time()

    def learn_time(self, done: ReadDone, last_sweep: int = 0) -> int:
        """Call `done`, not at once, when the member knows cluster time or could not learn it.

        Returns the `last_sweep` of whoever waits for that, which is the given one if there is one.
        """
        last_sweep = last_sweep or self._pending.last_sweep()
        self.timekeeper.learn(done, last_sweep)
        return last_sweep

    def add_member(self, peer_urls: Urls, done: Done) -> Member:
        """Let a member in that has these peer URLs; `done` gets None or a MembershipError."""
        added_at = self.now() // 1_000_000_000
        member = Member(member_id(peer_urls, "", added_at_seconds=added_at), "", peer_urls)
        members = self.cluster.in_order()
        if self.config.strict_reconfig_check and not ready_to_add_member(members):
            done(NotEnoughStartedMembers(member.id))
        else:
            self._propose_change(ADD_VOTER, member.id, member, done)
        return member

    def remove_member(self, member: int, done: Done) -> None:
        """Throw a member out; `done` gets None or a MembershipError."""
        members = self.cluster.in_order()
        if self.config.strict_reconfig_check and not ready_to_remove_member(members, member):
            done(NotEnoughStartedMembers(member))
        elif [it.id for it in members] == [member]:
            done(LastMember(member))
        else:
            self._propose_change(REMOVE, member, None, done)

    def update_member(self, member: int, peer_urls: Urls, done: Done) -> None:
        """Give a member other peer URLs; `done` gets None or a MembershipError."""
        self.propose(UpdateMember(member, peer_urls), done)

    def _propose_change(self, kind: int, member: int, added: Member | None, done: Done) -> None:
        def make(request_id: int) -> ConfigChange:
            context = MemberChange(request_id, added, 0 if added is not None else member)
            return ConfigChange((Change(kind, member),), encode_member_change(context))

        self._pending.propose_change(make, done)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        """Call back from the event loop, in a later turn even for 0 seconds."""
        self._loop.call_later(seconds, callback)

    # --------------------------------------------------------------------- the member's own part

    def _publish(self) -> None:
        command = Publish(self.member_id, self.name, self.config.advertise_client_urls)
        self.propose(command, self._published)

    def _published(self, result: Result) -> None:
        if self._stopping or self._leaving:
            return
        if isinstance(result, EtcdError):
            if not self.node.disk_full:
                log.error("publish error: %s", result.cause)
                self._publish()
            else:  # refused at once, and until there is room
                self._loop.call_later(NO_ROOM_SECONDS, self._publish)
            return
        log.info(
            "published {Name:%s ClientURLs:[%s]} to cluster %x",
            self.name,
            " ".join(self.config.advertise_client_urls),
            self.cluster_id,
        )

    def on_leadership(self, leadership: Leadership) -> None:
        """Raft has another leader, term or role."""
        self.traffic.leadership_changed()
        self._pending.leader_changed(leadership.leader)
        if leadership.leader == 0:
            return
        self.leader_since = self._loop.time()
        self.timekeeper.on_leadership(leadership)

    def _hasten_first_election(self) -> None:
        """Campaign as soon as a quorum can be reached, if nobody leads: a start should be quick.

        One member after the other, so that votes do not split, and again if nothing came of it.
        Should there be a leader that we have not heard of yet, those who hear it refuse the
        pre-vote, and nothing has happened.
        """
        voters = self.node.core.configuration.voters
        if self.leader or self._stopping or self.member_id not in voters:
            return
        connected = sum(
            voter == self.member_id or self.transport.is_connected(voter) for voter in voters
        )
        # A vote that is being counted is none to be disturbed, however long the disks take.
        if 2 * connected > len(voters) and self.node.leadership.role != "candidate":
            rank = voters.index(self.member_id)
            if self._first_election_turn >= rank * FIRST_ELECTION_TURNS:
                self.node.campaign()
                self._first_election_turn -= len(voters) * FIRST_ELECTION_TURNS
            self._first_election_turn += 1
        self._loop.call_later(FIRST_ELECTION_SECONDS, self._hasten_first_election)

    async def _hand_over(self) -> None:
        if not self.is_leader:
            return
        followers = self.node.core.status().followers
        active = [
            (progress.match_index, follower)
            for follower, progress in sorted(followers.items())
            if progress.recent_active and self.transport.active_since(follower) is not None
        ]
        if not active:
            return
        transferee = max(active)[1]
        try:
            await self.node.transfer_leadership(
                transferee, self.config.election_milliseconds / 1000
            )
            log.info("handed the leadership over to %x", self.leader or transferee)
        except (RaftError, TimeoutError) as error:
            log.warning("could not hand the leadership over: %s", error)

    # ------------------------------------------------------------------------------ snapshots

    def on_applied(self) -> None:
        """Entries were applied; see `Observer`."""
        if self._is_snapshot_worth():
            # What is being applied counts as applied only when all of its batch is.
            self._loop.call_soon(self._save_snapshot)
        self.timekeeper.arm_sync()

    def _is_snapshot_worth(self) -> bool:
        raft_log = self.node.core.log
        begin = max(self._snapshot_index, raft_log.base.index)
        log_bytes = raft_log.size_since(begin)
        entries, count = self.raft_index - begin, self.config.snapshot_count
        is_long = entries >= count and (
            log_bytes >= self._least_log_bytes or entries >= SNAPSHOT_MOST_COUNTS * count
        )
        return (is_long or log_bytes >= SNAPSHOT_LOG_BYTES) and (
            log_bytes >= SNAPSHOT_SHARE * self.applier.snapshot_bytes
        )

    def _save_snapshot(self) -> None:
        if not self._stopping and self.node.save_snapshot(self._on_snapshot_given_up):
            self._snapshot_index = self.raft_index

    def _on_snapshot_given_up(self) -> None:
        self._loop.call_later(NO_ROOM_SECONDS, self._save_snapshot)

    def _report_digest(self, raft_index: int, digest: int) -> None:
        if len(self.cluster.members) > 1:
            # Not in the midst of applying.
            self._loop.call_soon(self._propose_digest, raft_index, digest)

    def _propose_digest(self, raft_index: int, digest: int) -> None:
        """Have the others compare; a report that is lost is made up for by the next."""
        command = ReportDigest(self.member_id, raft_index, digest)
        try:
            self.node.propose(encode(0, self.now(), command))
        except RaftError as error:
            log.debug("no report of entry %d: %s", raft_index, error)

    # ---------------------------------------------------------------------- what the log tells

    def on_member_added(self, member: Member) -> None:
        """See `pyetcd.server.apply.Observer`."""
        if member.id != self.member_id:
            self.transport.add_peer(member.id, list(member.peer_urls))

    def on_member_removed(self, member_id: int) -> None:
        """See `pyetcd.server.apply.Observer`."""
        if member_id == self.member_id:
            self._leave()
        else:
            self._loop.call_later(FAREWELL_SECONDS, self.transport.mark_removed, [member_id])

    def on_member_updated(self, member: Member) -> None:
        """See `pyetcd.server.apply.Observer`."""
        if member.id != self.member_id:
            self.transport.update_peer(member.id, list(member.peer_urls))

    def on_cluster_replaced(self) -> None:
        """See `pyetcd.server.apply.Observer`."""
        self._pending.doubt_all()
        self._snapshot_index = self.raft_index
        cluster = self.cluster
        for peer_id in self.transport.peer_ids:
            if peer_id not in cluster.members:
                self.transport.remove_peer(peer_id)
        for member in cluster.in_order():
            self.on_member_added(member)
        self.transport.mark_removed(sorted(cluster.removed - {self.member_id}))
        if self.member_id in cluster.removed:
            self._leave()

    def on_configured(self, configuration: Configuration) -> None:
        """See `pyetcd.server.apply.Observer`."""

    def on_time_asked(self, member_id: int, time: int, known: bool) -> None:
        """See `pyetcd.server.apply.Observer`."""
        self.timekeeper.on_time_asked(member_id, time, known)

    def on_time_told(self, time: int, term: int) -> None:
        """See `pyetcd.server.apply.Observer`."""
        self.timekeeper.on_time_told(time, term)

    def on_rejected(self, rejected: Rejected) -> None:
        """See `pyetcd.server.apply.Observer`."""
        self._pending.rejected(rejected)

    def on_term_began(self, term: int) -> None:
        """See `pyetcd.server.apply.Observer`."""
        self.timekeeper.on_term_began(term)
        self._pending.term_began(term)
        # Only from here on a leader knows all that was committed before it, a version included.
        if self.is_leader and self.cluster.version is None:
            # Every member of this build speaks one version: there is nobody to ask.
            self.propose(SetVersion(CLUSTER_VERSION), _ignore)

    def _leave(self) -> None:
        """End soon; several peers may say that we must, and the log, too."""
        if self._leaving or self._stopping:
            return
        self._leaving = True
        removed = "the member has been permanently removed from the cluster"
        log.error(removed)
        log.error("the data-dir used by this member must be removed.")
        self._loop.call_later(LAST_ANSWERS_SECONDS, self._pending.end, f"etcdserver: {removed}")
        self._loop.call_later(FAREWELL_SECONDS, self._end_when_known)

    def _end_when_known(self) -> None:
        """End once the others need not hear of it from us.

        Who has led until now, was started again since, or whose leader is gone may be the only one
        that knows of the commit. Of two members the other could not be elected without hearing of
        it: it asks us for our vote until then, and our answer names what is committed.
        """
        another_leads = self.transport.active_since(self.leader) is not None
        if another_leads or self._peers_know_removal:
            self._on_removed()
        else:
            self._loop.call_later(FAREWELL_SECONDS, self._end_when_known)

    # ------------------------------------------------------------------ what the transport tells

    def on_envelopes(self, envelopes: list[Envelope]) -> None:
        """See `raft.transport.Events`."""
        # The loop's own clock has whole milliseconds only.
        now = time.monotonic()
        # Counted afterwards, as clients may wait for what these bring.
        self.node.receive(envelopes)
        traffic = self.traffic
        for envelope in envelopes:
            message = envelope.message
            if isinstance(message, AppendResponse):
                traffic.append_acknowledged(envelope.sender, message.match_index, now)
            elif isinstance(message, Append):
                size_bytes = sum([len(entry.data) for entry in message.entries])
                traffic.append_received(size_bytes, now)

    def on_unreachable(self, peer_id: int) -> None:
        """See `raft.transport.Events`."""
        self.node.report_unreachable(peer_id)

    def on_reachable(self, peer_id: int) -> None:
        """See `raft.transport.Events`."""
        self.node.report_reachable(peer_id)

    def on_stream_lost(self, peer_id: int) -> None:
        """See `raft.transport.Events`."""
        if peer_id == self.leader:
            self._loop.call_later(LEADER_LOST_SECONDS, self._look_for_leader, peer_id)

    def _look_for_leader(self, peer_id: int) -> None:
        """Both connections with the leader are gone: its process has ended, most likely."""
        if peer_id == self.leader and self.transport.active_since(peer_id) is None:
            self.node.report_leader_lost()

    def on_rejected_by_peer(self, peer_id: int, error: PeerRejected) -> None:
        """The peer refuses us."""
        if isinstance(error, MemberRemoved):
            self._peers_know_removal = True
            self._leave()

    def on_snapshot_sent(self, peer_id: int, *, delivered: bool) -> None:
        """See `raft.transport.Events`."""
        self.node.report_snapshot(peer_id, delivered)


def _ignore(result: Result) -> None:
    """For proposals whose result nobody waits for."""
