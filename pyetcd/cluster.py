"""Members of the cluster: their ids, their URLs, and what the log does to them.

Every member applies the same operations in the same order, so nothing here reads a clock or draws a
random number, and iteration is in order of ids. An operation that breaks a rule raises
MembershipError, changes nothing, and does so on every member.

Ids are etcd's: hashes of peer URLs and token, so that members agree on them without talking. 0 is
no member. Membership lives here, not in the key space that users write to.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pyetcd.logs import NOTICE
from pyetcd.urls import Urls
from pyetcd.version import ETCD_VERSION, major_minor

log = logging.getLogger(__name__)

MAX_ID: Final = 2**64 - 1


class MembershipError(Exception):
    """A change of the membership that is refused; the message is etcd's."""

    message = ""

    def __init__(self, member_id: int) -> None:
        super().__init__(self.message)
        self.member_id = member_id


class IdRemoved(MembershipError):
    """The id belongs to a member that was removed; it is never used again."""

    message = "etcdserver: ID removed"


class IdExists(MembershipError):
    """There is a member with this id."""

    message = "etcdserver: ID exists"


class IdNotFound(MembershipError):
    """There is no member with this id."""

    message = "etcdserver: ID not found"


class PeerUrlExists(MembershipError):
    """Another member has one of the peer URLs."""

    message = "etcdserver: peerURL exists"


class NotEnoughStartedMembers(MembershipError):
    """The change would leave fewer started members than a quorum (`-strict-reconfig-check`)."""

    message = "etcdserver: re-configuration failed due to not enough started members"


class LastMember(MembershipError):
    """There would be no member left; etcd 2 lets the request wait until it times out."""

    message = (
        "etcdserver: the last member of a cluster can't be removed: to end the cluster, stop the "
        "member and delete its data directory"
    )


class ClusterTooNew(Exception):
    """The cluster agreed on a version that this build does not know."""


class BadMembers(ValueError):
    """Bytes from a peer or the disk that do not describe members."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member as the cluster knows it."""

    id: int
    # "" until the member has started and published it.
    name: str
    # Sorted, at least one.
    peer_urls: Urls
    # Empty until the member has started and published them.
    client_urls: Urls = ()

    @property
    def is_started(self) -> bool:
        """Whether the member has published its name, which is the first thing it does."""
        return self.name != ""

    def client_json(self) -> bytes:
        """Return the object that `/v2/members` shows."""
        return _go_json(
            {
                "id": f"{self.id:x}",
                "name": self.name,
                "peerURLs": self.peer_urls,
                "clientURLs": self.client_urls,
            }
        )

    def peer_json(self) -> bytes:
        """Return the object that `/members` shows: the id is a number, empty fields are absent."""
        fields: dict[str, object] = {"id": self.id, "peerURLs": self.peer_urls}
        if self.name:
            fields["name"] = self.name
        if self.client_urls:
            fields["clientURLs"] = self.client_urls
        return _go_json(fields)

    def encode(self) -> list[object]:
        """Return the member as values that msgpack takes."""
        return [self.id, self.name, list(self.peer_urls), list(self.client_urls)]

    @staticmethod
    def decode(value: object) -> "Member":
        """Return the member that `encode` was called on.

        Raises BadMembers.
        """
        match value:
            case [int() as member, str() as name, [*peer_urls], [*client_urls]]:
                return _checked_member(member, name, peer_urls, client_urls)
            case _:
                raise BadMembers(f"not a member: {value!r:.100}")


@dataclass(slots=True)
class Cluster:
    """The members at one point of the log.

    Invariants:
      1. No id is both in `members` and in `removed`; 0 is in neither.
      2. No peer URL belongs to two members.
    """

    id: int
    members: dict[int, Member] = field(default_factory=dict)
    removed: set[int] = field(default_factory=set)
    # The version all members can speak, as "2.3.0"; None until they have agreed.
    version: str | None = None

    @staticmethod
    def initial(urls_map: Mapping[str, Urls], token: str) -> "Cluster":
        """Return the cluster that `-initial-cluster` and `-initial-cluster-token` describe.

        The members have names, as the flags give them, but have published nothing yet.
        Raises IdExists if two members would have the same id.
        """
        members: dict[int, Member] = {}
        for name, urls in sorted(urls_map.items()):
            member = Member(member_id(urls, token), name, urls)
            if member.id in members:
                raise IdExists(member.id)
            members[member.id] = member
        return Cluster(cluster_id(members), members)

    def in_order(self) -> list[Member]:
        """Return the members sorted by id."""
        return [self.members[member] for member in sorted(self.members)]

    def by_name(self, name: str) -> Member | None:
        """Return the member with this name, the one with the lowest id if there are several."""
        return next((member for member in self.in_order() if member.name == name), None)

    def peer_urls(self) -> list[str]:
        """Return the peer URLs of all members, sorted."""
        return sorted(url for member in self.members.values() for url in member.peer_urls)

    def client_urls(self) -> list[str]:
        """Return the client URLs of all members, sorted."""
        return sorted(url for member in self.members.values() for url in member.client_urls)

    def members_json(self) -> bytes:
        """Return the body of `/v2/members`."""
        return b'{"members":[%b]}\n' % b",".join(m.client_json() for m in self.in_order())

    def peer_members_json(self) -> bytes:
        """Return the body of `/members`."""
        return b"[%b]\n" % b",".join(m.peer_json() for m in self.in_order())

    def check_add(self, member: Member) -> None:
        """Raise the error that `add` would raise."""
        if member.id in self.removed:
            raise IdRemoved(member.id)
        if member.id in self.members:
            raise IdExists(member.id)
        self._check_urls_are_free(member.id, member.peer_urls)

    def check_remove(self, member: int) -> None:
        """Raise the error that `remove` would raise."""
        if member in self.removed:
            raise IdRemoved(member)
        if member not in self.members:
            raise IdNotFound(member)

    def check_update(self, member: int, peer_urls: Urls) -> None:
        """Raise the error that `update` would raise."""
        self.check_remove(member)
        self._check_urls_are_free(member, peer_urls)

    def add(self, member: Member) -> None:
        """Let a member in, as a rule without a name: it publishes that once it has started.

        Raises MembershipError.
        """
        self.check_add(member)
        self.members[member.id] = member
        log.log(NOTICE, "added member %x %s to cluster %x", member.id, _go(member), self.id)

    def remove(self, member: int) -> None:
        """Throw a member out, for ever.

        Raises MembershipError.
        """
        self.check_remove(member)
        del self.members[member]
        self.removed.add(member)
        log.log(NOTICE, "removed member %x from cluster %x", member, self.id)

    def update(self, member: int, peer_urls: Urls) -> None:
        """Give a member other peer URLs; its id stays.

        Raises MembershipError.
        """
        self.check_update(member, peer_urls)
        changed = replace(self.members[member], peer_urls=peer_urls)
        self.members[member] = changed
        log.log(NOTICE, "update member %x %s in cluster %x", member, _go(changed), self.id)

    def publish(self, member: int, name: str, client_urls: Urls) -> bool:
        """Note what a member says of itself; False if it is none (it was removed meanwhile)."""
        known = self.members.get(member)
        if known is None:
            log.warning("skipped updating attributes of removed member %x", member)
            return False
        self.members[member] = replace(known, name=name, client_urls=client_urls)
        return True

    def set_version(self, version: str) -> None:
        """Note the version that the members agreed on.

        Raises ClusterTooNew if this build is older: it would misread what newer members write.
        """
        if _numbers(version) > _numbers(major_minor(ETCD_VERSION)):
            raise ClusterTooNew(
                f"cluster cannot be downgraded (current version: {ETCD_VERSION} is lower than"
                f" determined cluster version: {major_minor(version)})."
            )
        if self.version is None:
            log.log(NOTICE, "set the initial cluster version to %s", major_minor(version))
        else:
            log.log(
                NOTICE,
                "updated the cluster version from %s to %s",
                major_minor(self.version),
                major_minor(version),
            )
        self.version = version

    def encode(self) -> list[object]:
        """Return the cluster as values that msgpack takes; equal clusters give equal values."""
        members = [member.encode() for member in self.in_order()]
        return [self.id, self.version or "", members, sorted(self.removed)]

    @staticmethod
    def decode(value: object) -> "Cluster":
        """Return the cluster that `encode` was called on.

        Raises BadMembers.
        """
        match value:
            case [int() as cluster, str() as version, [*members], [*removed]]:
                decoded = [Member.decode(member) for member in members]
                gone = {_checked_id(member) for member in removed}
                by_id = {member.id: member for member in decoded}
                if len(by_id) != len(decoded) or not gone.isdisjoint(by_id):
                    raise BadMembers("an id is there twice")
                return Cluster(_checked_id(cluster), by_id, gone, version or None)
            case _:
                raise BadMembers(f"not a cluster: {value!r:.100}")

    def check(self) -> None:
        """Assert the invariants above."""
        both = self.members.keys() & self.removed
        assert not both, f"members {sorted(both)} are removed"
        assert 0 not in self.members, "0 is a member"
        assert 0 not in self.removed, "0 is removed"
        urls = self.peer_urls()
        assert len(urls) == len(set(urls)), f"a peer URL is twice in {urls}"

    def _check_urls_are_free(self, member: int, peer_urls: Urls) -> None:
        """Raise PeerUrlExists if another member has one of the URLs."""
        for other in self.members.values():
            if other.id != member and not set(peer_urls).isdisjoint(other.peer_urls):
                raise PeerUrlExists(member)


def member_id(peer_urls: Iterable[str], token: str, *, added_at_seconds: int | None = None) -> int:
    """Return a member's id.

    A member that is added at run time hashes the (whole, Unix) second of that moment, too: a
    machine that is removed and added again is another member.
    """
    text = "".join(sorted(peer_urls)) + token
    if added_at_seconds is not None:
        text += str(added_at_seconds)
    return _first_8_bytes(text.encode("utf-8", "surrogateescape"))


def cluster_id(member_ids: Iterable[int]) -> int:
    """Return the id of a cluster that starts with these members."""
    return _first_8_bytes(b"".join(member.to_bytes(8, "big") for member in sorted(member_ids)))


def ready_to_add_member(members: Iterable[Member]) -> bool:
    """Tell whether enough members have started to let another one in, which has not.

    One started member alone may always grow: so a cluster is restored from one member's data.
    """
    members = list(members)
    started = sum(member.is_started for member in members)
    if started == 1 and len(members) == 1:
        return True
    quorum = (len(members) + 1) // 2 + 1
    if started < quorum:
        log.warning(
            "Reject add member request: the number of started member (%d) will be less than"
            " the quorum number of the cluster (%d)",
            started,
            quorum,
        )
    return started >= quorum


def ready_to_remove_member(members: Iterable[Member], removed: int) -> bool:
    """Tell whether the members that remain include a quorum of started ones."""
    members = [member for member in members if member.id != removed]
    started = sum(member.is_started for member in members)
    quorum = len(members) // 2 + 1
    if started < quorum:
        log.warning(
            "Reject remove member request: the number of started member (%d) will be less than"
            " the quorum number of the cluster (%d)",
            started,
            quorum,
        )
    return started >= quorum


def members_from_peer_json(body: bytes) -> list[Member]:
    """Read the body of a peer's `/members`.

    Raises BadMembers.
    """
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadMembers(f"not JSON: {error}") from None
    if not isinstance(parsed, list):
        raise BadMembers(f"not a list of members: {parsed!r:.100}")
    members: list[Member] = []
    for item in parsed:
        if not isinstance(item, dict):
            raise BadMembers(f"not a member: {item!r:.100}")
        # Absent and null mean empty, as in Go.
        name = item.get("name") or ""
        urls = [item.get(key) or [] for key in ("peerURLs", "clientURLs")]
        members.append(Member.decode([item.get("id"), name, *urls]))
    return members


def _checked_member(member: int, name: str, peer_urls: object, client_urls: object) -> Member:
    peers = _strings(peer_urls)
    if not peers:
        raise BadMembers(f"member {member:x} has no peer URL")
    return Member(_checked_id(member), name, peers, _strings(client_urls))


def _strings(value: object) -> Urls:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(sorted(value))
    raise BadMembers(f"not a list of URLs: {value!r:.100}")


def _checked_id(value: object) -> int:
    # A bool is an int to isinstance, but not to us.
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_ID:
        return value
    raise BadMembers(f"not an id: {value!r:.100}")


def _first_8_bytes(text: bytes) -> int:
    # Not for security: etcd's ids are made this way.
    return int.from_bytes(hashlib.sha1(text, usedforsecurity=False).digest()[:8], "big")


def _go_json(value: object) -> bytes:
    """Return JSON as Go writes it: no blanks, and what HTML could misread is escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace")


def _go(member: Member) -> str:
    """Return the peer URLs as etcd's log shows a list."""
    return f"[{' '.join(member.peer_urls)}]"


def _numbers(version: str) -> tuple[int, ...]:
    """Return (2, 3) for "2.3.0"; empty for what is no version."""
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts) if all(p.isdecimal() for p in parts) else ()
