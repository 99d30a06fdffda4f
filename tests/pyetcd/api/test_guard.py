"""Proves who is admitted: what a credential costs, how long it counts, and what it permits."""

import pytest

from pyetcd.api.guard import read_credential
from pyetcd.command import CreateUser, DeleteUser, EnableAuth, UpdateRole, UpdateUser
from tests.pyetcd.api.auth_world import EVERYTHING, AuthWorld, hash_of


def world_with_joe(max_sessions: int = 100) -> AuthWorld:
    """Auth is on; joe may do everything, and guests nothing."""
    world = AuthWorld(max_sessions).with_role("all", *EVERYTHING).with_user("joe", "all")
    return world.enabled()


def status(world: AuthWorld, who: str | None, method: str = "GET", path: str = "/a") -> int:
    """Ask for a key; 404 says that it may be read."""
    body = b"value=1" if method == "PUT" else b""
    return world.ask(method, f"/v2/keys{path}", body, who).status


# --------------------------------------------------------------------------------- credentials


@pytest.mark.parametrize(
    ("header", "credential"),
    [
        (b"Basic dTpw", ("u", b"p")),
        (b"basic dTpw", ("u", b"p")),
        (b"Basic dTpwOnE=", ("u", b"p:q")),
        (b"Basic Og==", ("", b"")),
        (b"Basic dT\r\npw", ("u", b"p")),
        (b"Basic /zr/", ("\udcff", b"\xff")),
        (b"Basic  dTpw", None),
        (b"Basic dTpw=", None),
        (b"Basic dTpw==", None),
        (b"Basic dTp", None),
        (b"Basic dTp\xff", None),
        (b"Basic dXA=", None),
        (b"Basic", None),
        (b"Basic ", None),
        (b"Bearer dTpw", None),
        (b"dTpw", None),
    ],
)
def test_credential_is_read_as_go_reads_it(header, credential):
    """What is no Basic credential is none, and not a guest's."""
    assert read_credential(header) == credential


def test_password_is_checked_once_and_then_remembered():
    """The second request costs no bcrypt."""
    world = world_with_joe()
    assert status(world, "joe") == 404
    assert status(world, "joe", "PUT") == 201
    assert world.passwords.checked == [b"pw-joe"]


def test_requests_at_once_share_a_check():
    """All are answered by it."""
    world = world_with_joe()
    wires = [world.begin("GET", "/v2/keys/a", who="joe") for _ in range(3)]
    assert world.passwords.checked == [b"pw-joe"]
    world.settle()
    assert [wire.response().status for wire in wires] == [404, 404, 404]


@pytest.mark.parametrize("who", ["joe:wrong", "joe:"])
def test_wrong_password_is_refused_and_not_remembered(who, caplog):
    """Each try costs bcrypt, leaves nothing behind, and is told to the operator without it."""
    world = world_with_joe()
    for tries in (1, 2):
        assert status(world, who) == 401
        assert len(world.passwords.checked) == tries
    assert not world.guard._checks
    assert not world.guard._sessions
    assert caplog.messages == ["auth: incorrect password for user 'joe'"] * 2
    assert status(world, "joe") == 404


@pytest.mark.parametrize("header", ["Bearer x", "Basic %%%", "Basic bm9ib2R5Ong="])
def test_malformed_credential_and_unknown_user_are_refused_without_bcrypt(header):
    """Even where guests may go."""
    world = AuthWorld().enabled(guests=True)
    wire = world.begin("GET", "/v2/keys/a", headers=(f"Authorization: {header}",))
    assert wire.response().status == 401
    assert world.passwords.checked == []
    assert status(world, None) == 404


def test_empty_authorization_is_a_guests():
    """As no header at all."""
    world = AuthWorld().enabled(guests=True)
    wire = world.begin("GET", "/v2/keys/a", headers=("Authorization: ",))
    assert wire.response().status == 404


# ------------------------------------------------------------------------- what changes counts


def test_changed_password_counts_with_the_entry_that_brings_it():
    """The old one is refused at once, though it was remembered; the new one is good."""
    world = world_with_joe()
    assert status(world, "joe") == 404
    world.other(UpdateUser("joe", hash_of(b"new"), (), ()))
    assert status(world, "joe") == 401
    assert status(world, "joe:new") == 404


def test_password_set_anew_to_the_same_is_checked_again():
    """A hash that is not the one that was checked proves nothing."""
    world = world_with_joe()
    assert status(world, "joe") == 404
    world.other(DeleteUser("joe"))
    assert status(world, "joe") == 401
    world.other(CreateUser("joe", hash_of(b"pw-joe"), ("all",), False))
    assert status(world, "joe") == 404
    assert len(world.passwords.checked) == 2


def test_password_changed_while_it_is_checked_is_refused():
    """What bcrypt was given is not the user's hash any more when it answers."""
    world = world_with_joe()
    wire = world.begin("GET", "/v2/keys/a", who="joe")
    world.other(UpdateUser("joe", hash_of(b"new"), (), ()))
    world.settle()
    assert wire.response().status == 401


def test_revoked_role_and_permission_count_at_once_and_cost_no_bcrypt():
    """Permissions are those of this moment, for a credential that was verified before."""
    world = world_with_joe()
    assert status(world, "joe", "PUT") == 201
    world.other(UpdateRole("all", (), (), (), ("/*",)))
    assert status(world, "joe", "PUT") == 401
    assert status(world, "joe") == 200
    world.other(UpdateUser("joe", "", (), ("all",)))
    assert status(world, "joe") == 401
    world.other(UpdateUser("joe", "", ("root",), ()))
    assert status(world, "joe", "PUT") == 200
    assert world.passwords.checked == [b"pw-joe"]


def test_guests_permissions_count_at_once():
    """The same for those without credentials."""
    world = AuthWorld().enabled(guests=True)
    assert status(world, None, "PUT") == 201
    world.other(UpdateRole("guest", (), (), (), ("/*",)))
    assert status(world, None, "PUT") == 401
    assert status(world, None) == 200


def test_restored_state_counts_at_once():
    """A member that lags gets a snapshot instead of entries."""
    world, ahead = world_with_joe(), world_with_joe()
    assert status(world, "joe") == 404
    ahead.other(UpdateUser("joe", hash_of(b"new"), (), ()))
    world.auth.install(ahead.auth)
    assert status(world, "joe") == 401
    assert status(world, "joe:new") == 404


def test_remembered_credentials_are_bounded():
    """The oldest is forgotten, and has to be checked again."""
    world = world_with_joe(max_sessions=2).with_user("ann", "all").with_user("bob", "all")
    for who in ("joe", "ann", "bob", "ann"):
        assert status(world, who) == 404
    assert len(world.passwords.checked) == 3
    assert len(world.guard._sessions) == 2
    assert status(world, "joe") == 404
    assert len(world.passwords.checked) == 4


def test_no_password_is_kept():
    """Neither as it is nor encoded: memory that leaks gives none away."""
    world = world_with_joe()
    status(world, "joe")
    ((digest, session),) = world.guard._sessions.items()
    assert len(digest) == 32
    assert (session.name, session.password_hash) == ("joe", hash_of(b"pw-joe"))


# ------------------------------------------------------------------------------ clients that go


def test_check_is_given_up_when_all_who_wait_have_gone():
    """Nobody can pile up work by leaving."""
    world = world_with_joe()
    wires = [world.begin("GET", "/v2/keys/a", who="joe:guess") for _ in range(2)]
    wires[0].disconnect()
    assert world.passwords.cancelled == []
    wires[1].disconnect()
    assert world.passwords.cancelled == [b"guess"]
    assert not world.guard._checks


def test_check_that_ends_after_all_have_gone_tells_nobody():
    """A thread cannot be stopped; its result is of no use, and no harm."""
    world = world_with_joe()
    world.begin("GET", "/v2/keys/a", who="joe").disconnect()
    world.settle()
    assert not world.guard._sessions


def test_client_that_goes_while_others_wait_is_not_served():
    """The others are."""
    world = world_with_joe()
    gone = world.begin("PUT", "/v2/keys/a", b"value=1", who="joe")
    stays = world.begin("PUT", "/v2/keys/b", b"value=1", who="joe")
    gone.disconnect()
    world.settle()
    assert stays.response("PUT").status == 201
    assert status(world, "joe") == 404


def test_client_that_goes_after_its_check_disturbs_nobody():
    """It waits for its write by then."""
    world = world_with_joe()
    wire = world.begin("PUT", "/v2/keys/a", b"value=1", who="joe")
    world.passwords.run()
    wire.disconnect()
    world.settle()
    assert status(world, "joe") == 200


# -------------------------------------------------------------------------------------- root


def test_root_only_lets_root_pass():
    """By its role, whatever the user's name; all others, guests too, are 401."""
    world = world_with_joe().with_user("admin", "root")
    for who, expected in (
        (None, 401),
        ("joe", 401),
        ("root:x", 401),
        ("root", 201),
        ("admin", 201),
    ):
        response = world.ask("POST", "/v2/members", who=who)
        assert response.status == expected
        if expected == 401:
            assert response.body == b'{"message":"Insufficient credentials"}'
            assert response.header("X-Etcd-Cluster-Id") is None
    assert len(world.passed) == 2


def test_root_only_lets_everybody_pass_while_auth_is_off():
    """Credentials are not even looked at."""
    world = AuthWorld()
    for who in (None, "nobody:x"):
        assert world.ask("POST", "/v2/members", who=who).status == 201
    world.with_user("root")
    world.other(EnableAuth())
    assert world.ask("POST", "/v2/members").status == 401
