"""Proves that entries do to members and users what they say, by the same rules everywhere."""

import pytest

from pyetcd.auth import AuthError, Written
from pyetcd.cluster import IdExists, IdNotFound, IdRemoved, Member, PeerUrlExists
from pyetcd.command import (
    CreateRole,
    CreateUser,
    DeleteRole,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    Overtaken,
    Publish,
    Set,
    SetVersion,
    Sync,
    UpdateMember,
    UpdateRole,
    UpdateUser,
    encode,
)
from pyetcd.store import Event
from raft import (
    ADD_VOTER,
    CONFIG,
    NORMAL,
    Change,
    ConfigChange,
    encode_change,
)
from tests.pyetcd.server.applied import FIRST, NOW, OTHER, World

# ------------------------------------------------------------------------------------- members


def test_publish_names_a_member_and_takes_an_index():
    """As the hidden keys do in which etcd keeps its members."""
    world = World()
    assert world.run(Publish(FIRST.id, "first", ("http://a:2379",))) is None
    assert world.applier.cluster.members[FIRST.id] == Member(
        FIRST.id, "first", FIRST.peer_urls, ("http://a:2379",)
    )
    assert world.index == 1


def test_publish_of_a_removed_member_does_nothing():
    """It was removed while it started."""
    world = World()
    assert world.run(Publish(OTHER.id, "other", ())) is None
    assert world.index == 0
    assert OTHER.id not in world.applier.cluster.members


def test_update_of_a_member_is_told_and_takes_an_index():
    """The network must know where to dial."""
    world = World()
    assert world.run(UpdateMember(FIRST.id, ("http://c:1",))) is None
    assert world.notes.told == [("updated", FIRST.id, ("http://c:1",)), ("applied",)]
    assert world.index == 1


def test_update_of_a_member_may_be_refused():
    """By the same rules on every member."""
    world = World()
    world.change(OTHER)
    index = world.index
    assert isinstance(world.run(UpdateMember(0x99, ("http://c:1",))), IdNotFound)
    assert isinstance(world.run(UpdateMember(FIRST.id, OTHER.peer_urls)), PeerUrlExists)
    assert world.index == index


def test_version_of_the_cluster_takes_an_index():
    """And is set for good."""
    world = World()
    assert world.run(SetVersion("2.3.0")) is None
    assert (world.applier.cluster.version, world.index) == ("2.3.0", 1)


def test_version_that_is_newer_than_this_build_ends_it():
    """To go on would be to misread what newer members write."""
    with pytest.raises(AssertionError, match="cannot be downgraded"):
        World().run(SetVersion("9.9.0"))


def test_added_member_is_told_and_takes_one_index():
    """Raft puts it in force afterwards."""
    world = World()
    assert world.change(OTHER) == (True, None)
    assert world.notes.told == [("added", OTHER.id)]
    assert (world.index, world.applier.raft_index) == (1, 2)


def test_removed_member_is_told_and_takes_two_indexes():
    """etcd deletes one key and creates another, for the id that must not come back."""
    world = World()
    world.change(OTHER)
    assert world.change(None, OTHER.id) == (True, None)
    assert world.notes.told[1:] == [("removed", OTHER.id)]
    assert world.index == 3


@pytest.mark.parametrize(
    ("added", "removed_id", "error"),
    [
        (FIRST, 0, IdExists),
        (Member(0xD, "", FIRST.peer_urls), 0, PeerUrlExists),
        (None, 0xD, IdNotFound),
        (None, OTHER.id, IdRemoved),
        (OTHER, 0, IdRemoved),
    ],
)
def test_refused_membership_change_is_void(added: Member | None, removed_id: int, error: type):
    """Raft must not put it in force; its requester is told why."""
    world = World()
    world.change(OTHER)
    world.change(None, OTHER.id)
    index, before = world.index, world.applier.cluster.encode()
    world.notes.told.clear()
    valid, result = world.change(added, removed_id)
    assert (valid, type(result)) == (False, error)
    assert (world.index, world.applier.cluster.encode()) == (index, before)
    assert world.notes.told == []


def test_membership_change_that_nobody_understands_is_void(caplog: pytest.LogCaptureFixture):
    """It was agreed on, so every member must treat it alike."""
    world = World()
    change = ConfigChange((Change(ADD_VOTER, 9),), b"\xc1")
    assert not world.applier.apply_config(world.entry(CONFIG, encode_change(change)), change)
    assert world.applier.raft_index == 2
    assert "configuration entry 2 is void: not a membership change" in caplog.text


# --------------------------------------------------------------------------------------- users


def world_with_auth() -> World:
    """A world in which auth is enabled."""
    world = World()
    assert isinstance(world.run(CreateUser("root", "hash", None, False)), Written)
    assert world.run(EnableAuth()) is None
    assert world.applier.auth.enabled
    return world


def test_users_and_roles_are_written():
    """A user, a role, and both gone again."""
    world = world_with_auth()
    revision = world.applier.auth.revision
    assert world.run(DisableAuth()) is None
    permissions = (("/a",), None)
    for command in (
        CreateUser("joe", "hash", None, False),
        CreateRole("r", permissions, None, None),
        UpdateUser("joe", "other", (), ()),
        UpdateRole("r", ("/b",), (), (), ()),
    ):
        assert isinstance(world.run(command), Written), command
    for command in (DeleteUser("joe"), DeleteRole("r")):
        assert world.run(command) is None
    assert world.applier.auth.revision > revision


def test_refusal_of_auth_is_a_result():
    """In etcd's words."""
    result = World().run(DeleteUser("nobody"))
    assert isinstance(result, AuthError)
    assert result.status == 404


@pytest.mark.parametrize(("permitted_in", "is_done"), [("this", True), ("another", False)])
def test_write_needs_the_permission_of_the_state_it_is_applied_in(permitted_in: str, is_done: bool):
    """A right that is revoked is of no use, even on a member that lags."""
    world = world_with_auth()
    revision = world.applier.auth.revision_in_force + (permitted_in == "another")
    results = world.wait(7)
    data = encode(7, NOW, Set("/a", "1", False, 0, False), revision)
    world.applier.apply([world.entry(NORMAL, data)])
    (result,) = results
    assert isinstance(result, Event if is_done else Overtaken)


def test_member_itself_needs_no_permission():
    """What it proposes by itself was asked for by no user."""
    world = world_with_auth()
    before = world.index
    for command in (Publish(FIRST.id, "first", ()), Sync(NOW, 1)):
        world.applier.apply([world.entry(NORMAL, encode(0, NOW, command, 0))])
    assert world.index == before + 1
