"""`-force-new-cluster`: a member throws all others out of its log, without asking them.

For when a majority of the members is lost for ever. etcd drops the entries that its log does not
mark as committed. Here they stay: the mark of the last ones is written only together with the next
ones, so that acknowledged writes may be among them. What was never acknowledged may then happen,
as it may after any election.
"""

import logging

from pyetcd.bootstrap.identity import BootstrapError
from pyetcd.command import MemberChange, encode_member_change
from raft import (
    CONFIG,
    REMOVE,
    Change,
    ConfigChange,
    Entry,
    HardState,
    Recovered,
    Write,
    decode_change,
    encode_change,
)

log = logging.getLogger(__name__)


def stand_alone(recovered: Recovered, member_id: int) -> Write | None:
    """Return what must be appended to the log, all of it committed; None if nobody else is in it.

    Raises BootstrapError if the log does not have this member.
    """
    servers = _servers(recovered)
    if member_id not in servers:
        raise BootstrapError(
            f"-force-new-cluster: member {member_id:x} is in no configuration of its own log;"
            " take the data directory of another member, or restore a backup"
        )
    others = sorted(servers - {member_id})
    if not others:
        return None
    snapshot = recovered.snapshot
    last_index = snapshot.index if snapshot is not None else 0
    if recovered.entries:
        last_index = recovered.entries[-1].index
    # A term of its own: should another member come back, no two logs have different entries of
    # one name.
    term = recovered.hard_state.term + 1
    entries: list[Entry] = []
    for index, other in enumerate(others, start=last_index + 1):
        context = encode_member_change(MemberChange(0, None, other))
        change = ConfigChange((Change(REMOVE, other),), context)
        entries.append(Entry(index, term, CONFIG, encode_change(change)))
    commit = entries[-1].index
    log.warning(
        "forcing restart of member %x as the only one at commit index %d, without %s",
        member_id,
        commit,
        " ".join(f"{other:x}" for other in others),
    )
    return Write(HardState(term, 0, commit), entries, None, [])


def _servers(recovered: Recovered) -> set[int]:
    """Return every server that snapshot or log name as one and do not remove."""
    snapshot = recovered.snapshot
    servers = set(snapshot.configuration.servers) if snapshot is not None else set()
    for entry in recovered.entries:
        if entry.kind != CONFIG:
            continue
        for change in decode_change(entry.data).changes:
            if change.kind == REMOVE:
                servers.discard(change.server_id)
            else:
                servers.add(change.server_id)
    return servers
