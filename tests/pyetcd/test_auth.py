"""Proves that users and roles change as in etcd 2.3.8, and the same on every member."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyetcd.auth import Auth, AuthError, BadAuth, User, Written
from pyetcd.command import (
    AuthCommand,
    CreateRole,
    CreateUser,
    DeleteRole,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    Names,
    UpdateRole,
    UpdateUser,
)


class World:
    """Auth, and how many indexes its last command took."""

    def __init__(self, *commands: AuthCommand) -> None:
        self.taken = 0
        self.auth = Auth(self._take)
        for command in commands:
            self.run(command)

    def _take(self) -> None:
        self.taken += 1

    def run(self, command: AuthCommand) -> Written | None:
        self.taken = 0
        try:
            return self.auth.execute(command)
        finally:
            self.auth.check()

    def refusal(self, command: AuthCommand) -> tuple[int, str]:
        """The status and the text with which a command is refused."""
        revision = self.auth.revision
        with pytest.raises(AuthError) as refused:
            self.run(command)
        assert self.auth.revision == revision + self.taken
        return refused.value.status, str(refused.value)


def user(name: str, *roles: str) -> CreateUser:
    """A user with a password, and with roles that are not null."""
    return CreateUser(name, f"hash-{name}", roles, False)


def role(name: str, read: Names = None, write: Names = None) -> CreateRole:
    return CreateRole(name, (read, write), None, None)


def granting(name: str, *roles: str) -> UpdateUser:
    return UpdateUser(name, "", roles, ())


def revoking(name: str, *roles: str) -> UpdateUser:
    return UpdateUser(name, "", (), roles)


# --------------------------------------------------------------------------------------- users


def test_first_change_takes_four_indexes_more():
    """Etcd makes three directories and a key before it; later changes take one."""
    world = World(user("a"))
    assert world.taken == 5
    world.run(user("b"))
    assert world.taken == 1


@pytest.mark.parametrize("command", [DeleteUser("a"), DeleteRole("a")])
def test_first_deletion_of_nothing_takes_four_indexes(command: AuthCommand):
    """It is refused, but the directories are made."""
    world = World()
    assert world.refusal(command)[0] == 404
    assert world.taken == 4
    assert world.refusal(command)[0] == 404
    assert world.taken == 0


@pytest.mark.parametrize(
    "command",
    [
        CreateUser("a", "", None, False),
        granting("a", "r"),
        UpdateRole("r", ("/a",), (), (), ()),
        role("root"),
        EnableAuth(),
        DisableAuth(),
    ],
)
def test_what_is_refused_before_the_store_takes_no_index(command: AuthCommand):
    """Nothing was written, not even directories."""
    world = World()
    world.refusal(command)
    assert world.taken == 0


@pytest.mark.parametrize("roles", [None, (), ("b", "a", "b")])
def test_user_created_keeps_its_roles_as_they_were_given(roles: Names):
    """Null is not [], and nothing is sorted or checked."""
    written = World().run(CreateUser("a", "h", roles, False))
    assert written == Written(User("a", "h", roles), created=True)


def test_user_created_without_password_is_refused():
    """Also if the user could be updated, but is not there."""
    for may_exist in (False, True):
        refusal = World().refusal(CreateUser("a", "", None, may_exist))
        assert refusal == (400, "auth: Cannot create user a with an empty password")


def test_user_created_twice_is_refused():
    """The first one stays."""
    world = World(user("a"))
    refusal = world.refusal(CreateUser("a", "other", ("r",), False))
    assert refusal == (409, "auth: User a already exists.")
    assert world.auth.user("a") == User("a", "hash-a", ())


def test_password_alone_changes_the_one_of_an_existing_user():
    """Null becomes [] on the way, as in etcd."""
    world = World(CreateUser("a", "h", None, True))
    written = world.run(CreateUser("a", "other", None, True))
    assert written == Written(User("a", "other", ()), created=False)


def test_empty_update_works_once():
    """It sorts the roles, or makes a list of null; then nothing is left to update."""
    for roles in (None, ("b", "a")):
        world = World(CreateUser("a", "h", roles, False))
        world.run(CreateUser("a", "", None, True))
        assert world.refusal(CreateUser("a", "", None, True)) == (
            400,
            "auth: User not updated. Use grant/revoke/password to update the user.",
        )


def test_roles_are_granted_and_revoked():
    """Grants come first, and the result is sorted."""
    world = World(user("a", "c"))
    assert world.run(granting("a", "b", "a")).subject.roles == ("a", "b", "c")
    assert world.run(UpdateUser("a", "", ("d",), ("a", "d"))).subject.roles == ("b", "c")
    assert world.run(UpdateUser("a", "new", (), ("b", "c"))).subject == User("a", "new", ())


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        (granting("a", "r"), 409, "Granting duplicate role r for user a"),
        (granting("a", "x", "x"), 409, "Granting duplicate role x for user a"),
        (revoking("a", "x"), 409, "Revoking ungranted role x for user a"),
        (revoking("a", "r", "r"), 409, "Revoking ungranted role r for user a"),
        (granting("b", "r"), 404, "User b does not exist."),
        (DeleteUser("b"), 404, "User b does not exist"),
    ],
)
def test_change_of_user_that_makes_no_sense_is_refused(command, status, text):
    """In etcd's words."""
    assert World(user("a", "r")).refusal(command) == (status, f"auth: {text}")


def test_user_deleted_is_gone():
    """And its name is free."""
    world = World(user("a"), DeleteUser("a"))
    assert world.taken == 1
    with pytest.raises(AuthError, match=r"auth: User a does not exist\."):
        world.auth.user("a")
    assert world.run(user("a")).created


def test_user_root_has_the_role_root_whatever_is_revoked():
    """Nobody can lock everybody out."""
    world = World(user("root", "x"))
    assert world.auth.user("root").roles == ("x", "root")
    assert world.run(revoking("root", "root")).subject.roles == ("x",)
    assert world.auth.user("root").roles == ("x", "root")
    assert world.auth.access_of(world.auth.users["root"]).is_root


def test_lists_are_sorted_and_without_hidden_names():
    """Etcd's store does not show keys that begin with an underscore; each can be had by name."""
    world = World(user("b"), user("_h"), user("a"), user("B"), role("s"), role("_h"), role("q"))
    assert [found.name for found in world.auth.listed_users()] == ["B", "a", "b"]
    assert [found.name for found in world.auth.listed_roles()] == ["q", "root", "s"]
    assert world.auth.user("_h").name == world.auth.role("_h").name == "_h"


# --------------------------------------------------------------------------------------- roles


def test_role_created_keeps_its_permissions_as_they_were_given():
    """And grants that grant nothing, which etcd shows for as long as nobody updates the role."""
    command = CreateRole("r", (("/b", "/a", "/a"), None), (None, ()), ((), None))
    world = World()
    assert world.run(command).subject.document() == {
        "role": "r",
        "permissions": {"kv": {"read": ("/b", "/a", "/a"), "write": None}},
        "grant": {"kv": {"read": None, "write": ()}},
        "revoke": {"kv": {"read": (), "write": None}},
    }
    updated = world.run(UpdateRole("r", (), (), ("/none",), ())).subject.document()
    assert updated == {"role": "r", "permissions": {"kv": {"read": ("/a", "/b"), "write": ()}}}


def test_permissions_are_granted_and_revoked():
    """Grants come first; what is revoked need not be there."""
    world = World(role("r", ("/m",)))
    world.run(UpdateRole("r", ("/z", "/a"), ("/w",), ("/a", "/m", "/none"), ()))
    assert world.auth.role("r").permissions == (("/z",), ("/w",))
    world.run(UpdateRole("r", (), (), (), ("/w",)))
    assert world.auth.role("r").permissions == (("/z",), ())


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        (role("r"), 409, "Role r already exists."),
        (UpdateRole("r", ("/a",), (), (), ()), 409, "Granting duplicate read permission /a"),
        (UpdateRole("r", (), ("/x", "/x"), (), ()), 409, "Granting duplicate write permission /x"),
        (
            UpdateRole("r", (), (), ("/none",), ()),
            400,
            "Role not updated. Use grant/revoke to update the role.",
        ),
        (UpdateRole("s", ("/a",), (), (), ()), 404, "Role s does not exist."),
        (DeleteRole("s"), 404, "Role s doesn't exist."),
        (role("root"), 403, "Cannot modify role root: is root role."),
        (UpdateRole("root", ("/",), (), (), ()), 403, "Cannot modify role root: is root role."),
        (DeleteRole("root"), 403, "Cannot modify role root: is root role."),
    ],
)
def test_change_of_role_that_makes_no_sense_is_refused(command, status, text):
    """In etcd's words."""
    assert World(role("r", ("/a",), ())).refusal(command) == (status, f"auth: {text}")


def test_role_deleted_is_gone_but_users_keep_its_name():
    """Made again, it is theirs again."""
    world = World(role("r", ("/a",)), user("a", "r"), DeleteRole("r"))
    with pytest.raises(AuthError, match=r"auth: Role r does not exist\."):
        world.auth.role("r")
    assert world.auth.user("a").roles == ("r",)
    assert world.auth.roles_of(world.auth.user("a")) == []
    world.run(role("r"))
    assert len(world.auth.roles_of(world.auth.user("a"))) == 1


# -------------------------------------------------------------------------------- permissions


@pytest.mark.parametrize(
    ("pattern", "key", "one", "all_below"),
    [
        ("/a", "/a", True, False),
        ("/a", "/a/", False, False),
        ("/a", "/a/b", False, False),
        ("/a*", "/a", True, True),
        ("/a*", "/ab", True, True),
        ("/a/*", "/a/", True, True),
        ("/a/*", "/a", False, False),
        ("/*", "/", True, True),
        ("/*", "", False, False),
        ("*", "", True, True),
        ("/", "/", True, False),
        ("a*", "/a", False, False),
        ("/a*b", "/axb", False, False),
        ("/a*b", "/a*b", True, False),
        ("/a**", "/a*", True, True),
        ("/é*", "/é/x", True, True),
        ("", "", False, False),
    ],
)
def test_pattern_allows_one_key_or_all_that_begin_with_it(pattern, key, one, all_below):
    """Only a star at the end means more, and only it allows what is recursive."""
    world = World(role("r", (pattern,)), role("w", None, (pattern,)), user("a", "none", "r", "w"))
    access = world.auth.access_of(world.auth.user("a"))
    for write in (False, True):
        assert access.allows(key.encode(), write=write, recursive=False) is one
        assert access.allows(key.encode(), write=write, recursive=True) is all_below


def test_reading_and_writing_are_apart():
    """One is not the other."""
    world = World(role("r", ("/*",)), user("a", "r"))
    access = world.auth.access_of(world.auth.user("a"))
    assert access.allows(b"/a", write=False, recursive=False)
    assert not access.allows(b"/a", write=True, recursive=False)


def test_role_root_allows_everything():
    """Even the root without a slash, which /* does not."""
    world = World(user("a", "root"))
    access = world.auth.access_of(world.auth.user("a"))
    assert access.allows(b"", write=True, recursive=True)


def test_guests_have_the_role_guest_and_nothing_without_it():
    """The role may be deleted."""
    world = World(role("guest", ("/a",)))
    assert world.auth.guest_access().allows(b"/a", write=False, recursive=False)
    world.run(DeleteRole("guest"))
    assert not world.auth.guest_access().allows(b"/a", write=False, recursive=False)


# ---------------------------------------------------------------------------------- the switch


def test_enable_makes_a_guest_role_that_may_do_everything():
    """Two indexes, or one if there is such a role."""
    world = World(user("root"), EnableAuth())
    assert world.taken == 2
    assert world.auth.role("guest").permissions == (("/*",), ("/*",))
    world = World(user("root"), role("guest"), EnableAuth())
    assert world.taken == 1
    assert world.auth.role("guest").permissions == (None, None)


def test_enable_and_disable_are_refused_where_they_change_nothing():
    """In etcd's words; and without root there is no way back."""
    world = World(user("a"))
    assert world.refusal(EnableAuth()) == (
        409,
        "auth: No root user available, please create one",
    )
    assert world.refusal(DisableAuth()) == (409, "auth: already disabled")
    world.run(user("root"))
    world.run(EnableAuth())
    assert world.refusal(EnableAuth()) == (409, "auth: already enabled")
    refusal = world.refusal(DeleteUser("root"))
    assert refusal == (403, "auth: Cannot delete root user while auth is enabled.")
    world.run(DisableAuth())
    world.run(DeleteUser("root"))


def test_revision_grows_with_every_change_and_is_in_force_while_enabled():
    """A permission that was checked before a change is told from one after it."""
    world = World(user("root"), user("a"))
    assert world.auth.revision_in_force == 0
    world.run(EnableAuth())
    before = world.auth.revision_in_force
    assert before == world.auth.revision > 0
    world.run(granting("a", "r"))
    assert world.auth.revision_in_force > before
    world.run(DisableAuth())
    assert world.auth.revision_in_force == 0


# ----------------------------------------------------------------------------------- snapshots

names = st.sampled_from(["a", "b", "root", "guest", "_h"])
some = st.lists(st.sampled_from(["r", "root", "/a", "/*"]), max_size=2).map(tuple)
lists = st.tuples(st.none() | some, st.none() | some)
hashes = st.sampled_from(["", "h", "i"])
commands = st.one_of(
    st.builds(CreateUser, names, hashes, st.none() | some, st.booleans()),
    st.builds(UpdateUser, names, hashes, some, some),
    st.builds(DeleteUser, names),
    st.builds(CreateRole, names, lists, st.none() | lists, st.none() | lists),
    st.builds(UpdateRole, names, some, some, some, some),
    st.builds(DeleteRole, names),
    st.just(EnableAuth()),
    st.just(DisableAuth()),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(commands, max_size=20), st.lists(commands, max_size=5))
def test_state_from_a_snapshot_goes_on_like_the_one_it_is_of(before, after):
    """Whatever has happened: same bytes, same refusals, same indexes."""
    first, second = World(), World()
    for command in before:
        outcome(first, command)
    second.auth.install(Auth.decode(msgpack.unpackb(msgpack.packb(first.auth.encode()))))
    for command in after:
        assert outcome(first, command) == outcome(second, command)
        assert first.taken == second.taken
    assert first.auth.encode() == second.auth.encode()
    assert first.auth.revision_in_force == second.auth.revision_in_force


def outcome(world: World, command: AuthCommand) -> object:
    try:
        return world.run(command)
    except AuthError as refused:
        return refused.status, str(refused)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [1, True, True, [], []][:4],
        ["1", True, True, [], []],
        [1, 1, True, [], []],
        [1, True, True, [["a", "secret"]], []],
        [1, True, True, [["a", "secret", [1]]], []],
        [1, True, True, [["a", "secret", "r"]], []],
        [1, True, True, [], [["r", None, None, None]]],
        [1, True, True, [], [["r", [["/a"], [1]], None, None]]],
        [1, True, True, [], ["r"]],
    ],
)
def test_bytes_that_are_no_state_are_refused_without_showing_hashes(value: object):
    """A typed error, which may end up in a log."""
    with pytest.raises(BadAuth) as refused:
        Auth.decode(value)
    assert "secret" not in str(refused.value)


def test_hash_of_a_password_is_not_shown_by_repr():
    """What is logged by accident gives nothing away."""
    assert "secret" not in repr(Written(User("a", "secret", None), created=True))
