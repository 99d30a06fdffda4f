"""A member: every part of a server, put together, started and stopped.

What starts here is the same whether `main` runs it as a process or a program embeds it. Nothing
is written to the disk before everything that flags can get wrong has been checked.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from socket import socket
from typing import Final

from pyetcd import api, bootstrap
from pyetcd.api import cors, peer
from pyetcd.bootstrap import Identity, Network, OnDisk, Plan, Start
from pyetcd.cluster import Cluster
from pyetcd.cluster import Member as ClusterMember
from pyetcd.command import MemberChange, encode_member_change
from pyetcd.config import Config
from pyetcd.httpd import Listener, Router, bind_tcp
from pyetcd.server.clock import ClusterClock
from pyetcd.server.peers import CountedTransport, PeerEvents
from pyetcd.server.server import Server
from pyetcd.tls import Certificates
from pyetcd.urls import Urls, address, is_secure
from pyetcd.version import ETCD_VERSION
from raft import (
    ADD_VOTER,
    CONFIG,
    Change,
    ConfigChange,
    CoreConfig,
    DiskStorage,
    Entry,
    HardState,
    Node,
    Recovered,
    StorageConfig,
    Write,
    encode_change,
)
from raft.transport import Transport

log = logging.getLogger(__name__)

# Raft's clock ticks so often in one heartbeat interval: election timeouts that are drawn from
# many values seldom coincide.
TICKS_PER_HEARTBEAT: Final = 4
# What has begun when the member stops may take so long to finish.
GRACE_SECONDS: Final = 1.0

# Goes on while the machine sleeps, where there is such a clock: keys grow old all the same.
_STEADY_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

Die = Callable[[BaseException], None]


class Member:
    """One running member of a cluster."""

    def __init__(
        self,
        server: Server,
        node: Node,
        transport: Transport,
        listener: Listener,
        certificates: "_Certificates",
    ) -> None:
        self.server = server
        self._certificates = certificates
        self._node = node
        self._transport = transport
        self._listener = listener

    @classmethod
    async def start(cls, config: Config, *, die: Die, on_removed: Callable[[], None]) -> "Member":
        """Start the member that the configuration describes.

        `die` is called with a bug or a failure of the disk, from any thread; it must end the
        process. `on_removed` is called when the cluster has thrown this member out.

        Raises BootstrapError, TlsError, httpd.ListenError, RaftError or OSError, each with one line
        that says what is wrong; then nothing is left open, and nothing was written that would
        matter.
        """
        opened: list[Callable[[], None]] = []
        try:
            certificates = _Certificates(
                clients=Certificates(config.client_tls), peers=Certificates(config.peer_tls)
            )
            client_sockets = _bind(config.listen_client_urls, opened)
            _try_to_bind(config.listen_peer_urls)
            network = bootstrap.secure_network(certificates.peers.client)
            plan, disk, recovered = await _open(config, network, opened)
            for line in config.start_lines(initial=plan.start is not Start.RESTART):
                logging.getLogger("pyetcd.server").info("%s", line)
            for warning in plan.warnings:
                log.warning("%s", warning)
            return await _run(
                config, plan, disk, recovered, client_sockets, certificates, die, on_removed
            )
        except BaseException:
            for close in reversed(opened):
                close()
            raise

    async def stop(self) -> None:
        """Hand over what this member leads, answer what was begun, and close everything."""
        self._certificates.clients.stop()
        self._certificates.peers.stop()
        await self.server.leave_office()
        # Whatever was begun goes on to the new leader, and is answered. Without a quorum it can't
        # be: it gets an error once the time is up.
        closing = asyncio.ensure_future(self._listener.close(grace_seconds=2 * GRACE_SECONDS))
        await asyncio.wait([closing], timeout=GRACE_SECONDS)
        self.server.stop()
        await closing
        await self._transport.stop()
        await self._node.stop()


@dataclass(slots=True)
class _Certificates:
    """Those of the client ports and those of the peer ports."""

    clients: Certificates
    peers: Certificates


def _bind(urls: Urls, opened: list[Callable[[], None]]) -> list[tuple[socket, bool]]:
    """Take the client ports, each with whether it is for https. Raises ListenError."""
    sockets: list[tuple[socket, bool]] = []
    for url in urls:
        bound = bind_tcp(*address(url))
        opened.append(bound.close)
        sockets.append((bound, is_secure(url)))
    return sockets


def _try_to_bind(urls: Urls) -> None:
    """Find out that a peer port is taken before anything is written. Raises ListenError."""
    for host, port in dict.fromkeys(map(address, urls)):
        bind_tcp(host, port).close()


async def _open(
    config: Config, network: Network, opened: list[Callable[[], None]]
) -> tuple[Plan, DiskStorage, Recovered]:
    """Find out who this member is, and open or make its storage."""
    storage = StorageConfig(
        directory=config.data_dir,
        wal_directory=config.dedicated_wal_dir,
        max_wals=config.max_wals,
        max_snapshots=config.max_snapshots,
    )
    if DiskStorage.exists(storage):
        disk, recovered = DiskStorage.open(storage)
        opened.append(disk.close)
        plan = await bootstrap.plan(config, OnDisk(True, recovered.metadata), network)
    else:
        plan = await bootstrap.plan(config, OnDisk(), network)
        metadata = plan.identity.encode()
        disk = DiskStorage.create(storage, metadata)
        opened.append(disk.close)
        recovered = Recovered(metadata)
    is_empty = recovered.snapshot is None and not recovered.entries
    if is_empty and not plan.identity.joined:
        # Also when the process died just before this was written.
        recovered = _begin_log(disk, plan.identity)
    if config.force_new_cluster and plan.start is Start.RESTART:
        alone = bootstrap.stand_alone(recovered, plan.identity.member_id)
        if alone is not None:
            disk.write_blocking(alone)
            recovered.hard_state = alone.hard_state
            recovered.entries += alone.entries
    return plan, disk, recovered


def first_entries(members: Iterable[ClusterMember]) -> list[Entry]:
    """Return the entries with which the log of a new cluster of these members begins."""
    entries: list[Entry] = []
    for index, member in enumerate(members, start=1):
        context = encode_member_change(MemberChange(0, member, 0))
        change = ConfigChange((Change(ADD_VOTER, member.id),), context)
        entries.append(Entry(index, 1, CONFIG, encode_change(change)))
    return entries


def _begin_log(disk: DiskStorage, identity: Identity) -> Recovered:
    """Write the first entries of a new cluster: its members, the same on each of them.

    They are committed from the start, as etcd has it: all members agree on them without talking.
    """
    entries = first_entries(identity.members)
    hard_state = HardState(term=1, vote=0, commit=len(entries))
    disk.write_blocking(Write(hard_state, entries, None, []))
    return Recovered(identity.encode(), hard_state, None, entries)


async def _run(
    config: Config,
    plan: Plan,
    disk: DiskStorage,
    recovered: Recovered,
    client_sockets: list[tuple[socket, bool]],
    certificates: _Certificates,
    die: Die,
    on_removed: Callable[[], None],
) -> Member:
    """Put the parts together and start them, the lowest first. Raises OSError or RaftError."""
    identity = plan.identity
    server = Server(
        config,
        identity.member_id,
        identity.name,
        Cluster(identity.cluster_id),
        clock=ClusterClock(time.time_ns, partial(time.clock_gettime_ns, _STEADY_CLOCK)),
        on_removed=on_removed,
    )
    transport = Transport(
        identity.member_id,
        identity.cluster_id,
        events=PeerEvents(server),
        files=disk,
        random=random.Random(),
        peer_urls=identity.member.peer_urls,
        server_version=ETCD_VERSION,
        server_tls=certificates.peers.server,
        client_tls=certificates.peers.client,
    )
    server.attach_transport(transport)
    for member in identity.members:
        # A member that joins learns from the log who the others are, but has no log yet.
        server.on_member_added(member)
    if recovered.snapshot is not None:
        log.info("recovered store from snapshot at index %d", recovered.snapshot.index)
        chunks = disk.read_snapshot(recovered.snapshot)
        server.applier.restore(recovered.snapshot, chunks)
    log.info("starting member %x in cluster %x", identity.member_id, identity.cluster_id)
    node = Node(
        _core_config(config, identity.member_id),
        recovered,
        disk,
        CountedTransport(transport, server.traffic),
        server.applier,
        tick_seconds=config.heartbeat_milliseconds / 1000 / TICKS_PER_HEARTBEAT,
        rng=random.Random(),
        die=die,
        on_leadership=server.on_leadership,
    )
    server.attach_node(node)
    handler = cors.wrap(Router(api.routes(server, server.traffic)), config.cors)
    listener = Listener(handler, clock=time.time, on_crash=die)
    transport.serve_page(peer.page_of(server))
    # The log is applied as far as it is known to be committed before anybody may read.
    node.start()
    try:
        await _commit_alone(node, identity.member_id)
        await _open_doors(config, transport, listener, client_sockets, certificates)
    except BaseException:
        # Its ticks must not go on: they would find a disk that has been closed.
        await listener.close(grace_seconds=0)
        await transport.stop()
        await node.stop()
        raise
    certificates.clients.start()
    certificates.peers.start()
    server.start()
    return Member(server, node, transport, listener, certificates)


def _core_config(config: Config, member_id: int) -> CoreConfig:
    return CoreConfig(
        member_id,
        election_ticks=config.election_ticks * TICKS_PER_HEARTBEAT,
        heartbeat_ticks=TICKS_PER_HEARTBEAT,
    )


async def _commit_alone(node: Node, member_id: int) -> None:
    """Commit the rest of the log, if that needs nobody else.

    Else a read that comes at once would miss what was acknowledged just before the last end.
    """
    if node.core.configuration.voters == (member_id,):
        done = asyncio.Event()
        node.read_index(done.set)
        node.campaign()
        await done.wait()


async def _open_doors(
    config: Config,
    transport: Transport,
    listener: Listener,
    client_sockets: list[tuple[socket, bool]],
    certificates: _Certificates,
) -> None:
    """Listen on the peer ports, then on those of the clients. Raises OSError."""
    urls = config.listen_peer_urls
    await transport.start(
        [address(url) for url in urls],
        plain=[address(url) for url in urls if not is_secure(url)],
    )
    for bound, secure in client_sockets:
        await listener.start(bound, ssl=certificates.clients.server if secure else None)
