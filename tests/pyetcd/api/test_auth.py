"""Proves that `/v2/auth` answers as etcd 2.3.8 does, and that keys need permission."""

import json
import logging

import pytest

from pyetcd.command import DisableAuth, EnableAuth, UpdateRole, UpdateUser
from tests.pyetcd.api.auth_world import EVERYTHING, AuthWorld, hash_of

USERS, ROLES, ENABLE = "/v2/auth/users", "/v2/auth/roles", "/v2/auth/enable"
ROOT_ROLE = {"role": "root", "permissions": {"kv": {"read": ["/*"], "write": ["/*"]}}}
DENIED = {
    "errorCode": 110,
    "message": "The request requires user authentication",
    "cause": "Insufficient credentials",
    "index": 0,
}


def shown(response):
    """The status, and the document or the message of an answer."""
    body = json.loads(response.body)
    return response.status, body.get("message", body)


# --------------------------------------------------------------------------------------- pages


@pytest.mark.parametrize(
    ("path", "document"),
    [
        (ENABLE, {"enabled": False}),
        (USERS, {"users": None}),
        (USERS + "/", {"users": None}),
        (ROLES, {"roles": [ROOT_ROLE]}),
        (ROLES + "/root", ROOT_ROLE),
        (ROLES + "/root/", ROOT_ROLE),
    ],
)
def test_page_at_first_shows_what_is_built_in(path, document):
    """JSON with a newline, and the header of the cluster."""
    response = AuthWorld().ask("GET", path)
    assert shown(response) == (200, document)
    assert response.body.endswith(b"}\n")
    assert response.header("Content-Type") == "application/json"
    assert response.header("X-Etcd-Cluster-Id") == "c1"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", ENABLE, "GET,PUT,DELETE"),
        ("HEAD", ENABLE, "GET,PUT,DELETE"),
        ("PUT", USERS, "GET"),
        ("HEAD", USERS + "/", "GET"),
        ("DELETE", ROLES, "GET"),
        ("POST", USERS + "/a", "GET,PUT,DELETE"),
        ("HEAD", ROLES + "/a", "GET,PUT,DELETE"),
    ],
)
def test_other_methods_are_405_before_anybody_is_asked_for_credentials(method, path, allow):
    """With Allow, and without the cluster's header."""
    for world in (AuthWorld(), AuthWorld().enabled()):
        response = world.ask(method, path)
        assert response.status == 405
        assert response.header("Allow") == allow
        assert response.header("X-Etcd-Cluster-Id") is None


@pytest.mark.parametrize("path", [USERS + "/a/b", ROLES + "/a/b/", USERS + "/a%2Fb"])
def test_path_below_a_name_is_invalid(path):
    """Whatever the method, and whoever asks."""
    for method in ("GET", "PATCH"):
        response = AuthWorld().enabled().ask(method, path)
        assert shown(response) == (400, "Invalid path")
        assert response.header("X-Etcd-Cluster-Id") is None


@pytest.mark.parametrize("path", [USERS, ROLES, USERS + "/root"])
def test_form_that_cannot_be_read_is_an_internal_error(path):
    """Etcd parses it, though it uses nothing of it."""
    response = AuthWorld().with_user("root").ask("GET", path + "?%zz")
    assert shown(response) == (500, "Internal Server Error")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (USERS + "/nobody?%zz", "auth: User nobody does not exist."),
        (USERS + "/%ff", "auth: User \ufffd does not exist."),
        (USERS + "/%3Cb%3E", "auth: User <b> does not exist."),
        (ROLES + "/guest", "auth: Role guest does not exist."),
    ],
)
def test_user_or_role_that_is_not_there_is_404(path, message):
    """In etcd's words and without a newline."""
    response = AuthWorld().ask("GET", path)
    assert shown(response) == (404, message)
    assert response.body.endswith(b"}")
    assert b"<" not in response.body


# --------------------------------------------------------------------------------------- users


@pytest.mark.parametrize(
    ("body", "status", "document"),
    [
        ({"user": "a", "password": "p"}, 201, {"user": "a", "roles": None}),
        ({"user": "a", "password": "p", "roles": []}, 201, {"user": "a", "roles": []}),
        ({"user": "a", "password": "p", "roles": ["r"]}, 200, {"user": "a", "roles": ["r"]}),
        ({"USER": "a", "Password": "p", "x": {}}, 201, {"user": "a", "roles": None}),
        (
            {"user": "a"},
            400,
            "auth: Cannot create user a with an empty password",
        ),
        ({"user": "a", "grant": ["r"], "password": "p"}, 404, "auth: User a does not exist."),
        ({"user": "b", "password": "p"}, 400, "User JSON name does not match the name in the URL"),
        (None, 400, "User JSON name does not match the name in the URL"),
        (
            {"user": "a", "roles": ["r"], "revoke": ["s"]},
            400,
            "User JSON contains both roles and grant/revoke",
        ),
        ({"user": "a", "password": 5}, 400, "Invalid JSON in request body."),
        ({"user": "a", "roles": "r"}, 400, "Invalid JSON in request body."),
        ([], 400, "Invalid JSON in request body."),
        (b"", 400, "Invalid JSON in request body."),
        (b'{"user":"a"', 400, "Invalid JSON in request body."),
        (b'{"user":"a","password":"p"} x', 201, {"user": "a", "roles": None}),
    ],
)
def test_user_put(body, status, document):
    """Created with or without roles, or refused."""
    response = AuthWorld().ask("PUT", USERS + "/a", body)
    assert shown(response) == (status, document)
    assert response.header("X-Etcd-Cluster-Id") == "c1"


def test_user_is_stored_with_a_hash_and_shown_without():
    """What leaves the member is a hash; nobody is shown even that."""
    world = AuthWorld()
    response = world.ask("PUT", USERS + "/a", {"user": "a", "password": "p"})
    assert response.body == b'{"user":"a","roles":null}\n'
    assert world.auth.users["a"].password_hash == hash_of(b"p")
    assert world.document("GET", USERS + "/a") == {"user": "a"}


def test_user_changes_password_and_roles():
    """Each is 200; a list that was emptied is []."""
    world = AuthWorld().with_user("a")
    user = {"user": "a", "password": "new"}
    assert shown(world.ask("PUT", USERS + "/a", user)) == (200, {"user": "a", "roles": []})
    assert world.auth.users["a"].password_hash == hash_of(b"new")
    for change, roles in (({"grant": ["s", "r"]}, ["r", "s"]), ({"revoke": ["r", "s"]}, [])):
        response = world.ask("PUT", USERS + "/a", {"user": "a", **change})
        assert shown(response) == (200, {"user": "a", "roles": roles})


def test_users_are_shown_with_whole_roles():
    """In a list without those that do not exist; of one user, such a role is 404."""
    world = AuthWorld().with_role("r", ("/a",), ()).with_user("a", "none", "r").with_user("b", "r")
    role = {"role": "r", "permissions": {"kv": {"read": ["/a"], "write": []}}}
    users = [{"user": "a", "roles": [role]}, {"user": "b", "roles": [role]}]
    assert world.document("GET", USERS) == {"users": users}
    assert world.document("GET", USERS + "/b") == users[1]
    message = "auth: Role none does not exist."
    assert shown(world.ask("GET", USERS + "/a")) == (404, message)


def test_user_deleted_is_answered_without_body():
    """A second time it is 404, in other words than those of a get."""
    world = AuthWorld().with_user("a")
    response = world.ask("DELETE", USERS + "/a")
    assert (response.status, response.body) == (200, b"")
    assert response.header("Content-Type") == "application/json"
    response = world.ask("DELETE", USERS + "/a")
    assert shown(response) == (404, "auth: User a does not exist")


# --------------------------------------------------------------------------------------- roles


@pytest.mark.parametrize(
    ("body", "status", "document"),
    [
        (
            {"role": "r"},
            201,
            {"role": "r", "permissions": {"kv": {"read": None, "write": None}}},
        ),
        (
            {"role": "r", "permissions": {"kv": {"read": ["/b", "/a"]}}, "revoke": None},
            201,
            {"role": "r", "permissions": {"kv": {"read": ["/b", "/a"], "write": None}}},
        ),
        (
            {"role": "r", "permissions": None, "grant": {"kv": {"read": []}}},
            201,
            {
                "role": "r",
                "permissions": {"kv": {"read": None, "write": None}},
                "grant": {"kv": {"read": [], "write": None}},
            },
        ),
        (
            {"role": "old", "grant": {"kv": {"read": ["/z"]}}, "revoke": {"kv": {"read": ["/o"]}}},
            200,
            {"role": "old", "permissions": {"kv": {"read": ["/z"], "write": []}}},
        ),
        ({"role": "old"}, 409, "auth: Role old already exists."),
        (
            {
                "role": "old",
                "permissions": {"kv": {"read": ["/a"]}},
                "grant": {"kv": {"read": ["b"]}},
            },
            400,
            "Role JSON contains both permissions and grant/revoke",
        ),
        ({"role": "r", "grant": {"kv": {"read": ["/a"]}}}, 404, "auth: Role r does not exist."),
        ({"role": "r", "permissions": []}, 400, "Invalid JSON in request body."),
        ({"role": "r", "grant": 5}, 400, "Invalid JSON in request body."),
        ({"role": "root"}, 403, "auth: Cannot modify role root: is root role."),
    ],
)
def test_role_put(body, status, document):
    """Created, updated, or refused."""
    world = AuthWorld().with_role("old", ("/o",), ())
    assert shown(world.ask("PUT", f"{ROLES}/{body['role']}", body)) == (status, document)


def test_role_put_with_another_name_is_refused():
    """The name is in the path and in the body."""
    response = AuthWorld().ask("PUT", ROLES + "/r", {})
    message = "Role JSON name does not match the name in the URL"
    assert shown(response) == (400, message)


def test_role_deleted_is_answered_without_body():
    """A second time it is 404, in other words than those of a get."""
    world = AuthWorld().with_role("r", (), ())
    response = world.ask("DELETE", ROLES + "/r")
    assert (response.status, response.body) == (200, b"")
    assert shown(world.ask("DELETE", ROLES + "/r")) == (404, "auth: Role r doesn't exist.")


# ---------------------------------------------------------------------------------- the switch


def test_auth_is_enabled_and_disabled():
    """Anybody may look; only root may disable; twice is 409."""
    world = AuthWorld()
    message = "auth: No root user available, please create one"
    assert shown(world.ask("PUT", ENABLE)) == (409, message)
    world.with_user("root")
    response = world.ask("PUT", ENABLE)
    assert (response.status, response.body) == (200, b"")
    assert world.document("GET", ENABLE) == {"enabled": True}
    assert shown(world.ask("PUT", ENABLE, who="root")) == (409, "auth: already enabled")
    assert shown(world.ask("DELETE", ENABLE)) == (401, "Insufficient credentials")
    assert world.ask("DELETE", ENABLE, who="root").status == 200
    assert world.document("GET", ENABLE) == {"enabled": False}
    assert shown(world.ask("DELETE", ENABLE)) == (409, "auth: already disabled")


@pytest.mark.parametrize("path", [USERS, USERS + "/a", ROLES, ROLES + "/guest"])
def test_pages_are_for_root_while_auth_is_on(path):
    """Everybody else is told nothing."""
    world = AuthWorld().with_user("a").enabled(guests=True)
    for who in (None, "a", "root:wrong"):
        response = world.ask("GET", path, who=who)
        assert shown(response) == (401, "Insufficient credentials")
        assert response.header("X-Etcd-Cluster-Id") is None
    assert world.ask("GET", path, who="root").status == 200


# ------------------------------------------------------------------------- what is in between


def test_change_that_is_not_committed_in_time_is_an_internal_error(caplog):
    """Etcd has no words for it; only the log has."""
    world = AuthWorld()
    wire = world.begin("DELETE", USERS + "/a")
    world.time_out()
    assert shown(wire.response("DELETE")) == (500, "Internal Server Error")
    assert "request timed out" in caplog.text


def test_right_that_is_lost_before_the_change_is_applied_is_of_no_use():
    """A revocation that comes first in the log counts for what comes after it."""
    world = AuthWorld().with_user("a").with_user("admin", "root").enabled()
    wire = world.begin("DELETE", USERS + "/a", who="admin")
    world.passwords.run()
    world.other(UpdateUser("admin", "", (), ("root",)))
    world.settle()
    assert wire.response("DELETE").status == 401
    assert "a" in world.auth.users


def test_right_that_is_lost_while_a_password_is_hashed_is_of_no_use():
    """What was checked before is asked again after."""
    world = AuthWorld().with_user("admin", "root").enabled()
    wire = world.begin("PUT", USERS + "/b", {"user": "b", "password": "p"}, who="admin")
    world.passwords.run()
    world.other(UpdateUser("admin", "", (), ("root",)))
    world.settle()
    assert wire.response("PUT").status == 401
    assert "b" not in world.auth.users


def test_change_that_is_overtaken_by_another_is_made_again():
    """Whoever still has the right does not notice."""
    world = AuthWorld().with_user("a").enabled()
    wire = world.begin("DELETE", USERS + "/a", who="root")
    world.passwords.run()
    world.with_user("b")
    world.settle()
    assert wire.response("DELETE").status == 200
    assert "a" not in world.auth.users


def test_passwords_are_in_no_log(caplog):
    """Neither right nor wrong ones, nor their hashes, at any level."""
    caplog.set_level(logging.DEBUG)
    world = AuthWorld()
    world.ask("PUT", USERS + "/root", {"user": "root", "password": "s3cret"})
    world.ask("PUT", ENABLE)
    world.ask("GET", USERS, who="root:s3cret")
    world.ask("GET", USERS, who="root:gu3ss")
    world.ask("PUT", USERS + "/root", {"user": "root", "password": "n3w"}, who="root:s3cret")
    assert "wrote user 'root'" in caplog.text
    for secret in (b"s3cret", b"gu3ss", b"n3w"):
        assert secret.decode() not in caplog.text
        assert secret.hex() not in caplog.text


# ---------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/a", b""),
        ("HEAD", "/a", b""),
        ("GET", "", b""),
        ("GET", "/a?recursive=true", b""),
        ("GET", "/a?quorum=true", b""),
        ("GET", "/a?wait=true", b""),
        ("PUT", "/a", b"value=1"),
        ("PUT", "/a", b"value=1&ttl=5"),
        ("POST", "/a", b"value=1"),
        ("DELETE", "/a", b""),
    ],
)
def test_key_without_permission_is_denied(method, path, body):
    """Error 110 with index 0, for a guest and for a user, and nothing happens."""
    world = AuthWorld().with_user("joe").enabled()
    index = world.store.index
    for who in (None, "joe"):
        response = world.ask(method, "/v2/keys" + path, body, who)
        assert response.status == 401
        assert response.header("X-Etcd-Index") == "0"
        assert response.header("X-Raft-Index") is None
        if method != "HEAD":
            assert json.loads(response.body) == DENIED
    assert world.store.index == index


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "/a?recursive=bad", b""), ("PUT", "/a", b"ttl=bad"), ("DELETE", "/a?dir=bad", b"")],
)
def test_key_request_that_is_wrong_is_told_before_permission(method, path, body):
    """As etcd, which parses first."""
    assert AuthWorld().enabled().ask(method, "/v2/keys" + path, body).status == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/r", 404),
        ("GET", "/r/", 401),
        ("GET", "/r?recursive=true", 401),
        ("GET", "/r?wait=true&recursive=true", 401),
        ("GET", "/d/x?recursive=true", 404),
        ("GET", "/d", 401),
        ("GET", "/d/", 404),
        ("PUT", "/r", 401),
        ("PUT", "/w", 201),
        ("PUT", "/w?recursive=true", 401),
        ("POST", "/w", 201),
        ("POST", "/w/", 401),
        ("DELETE", "/w", 404),
        ("DELETE", "/w?recursive=true", 401),
        ("GET", "/w", 401),
    ],
)
def test_key_needs_permission_as_it_is_written(method, path, status):
    """With its slash, by its method, and for all below it if that is asked for."""
    world = AuthWorld().with_role("some", ("/r", "/d/*"), ("/w",)).with_user("joe", "some")
    body = b"value=1" if method in ("PUT", "POST") else b""
    assert world.enabled().ask(method, "/v2/keys" + path, body, "joe").status == status


def test_guest_may_ask_for_all_below_a_key():
    """A star is not needed for that, as in etcd: give guests no directories."""
    world = AuthWorld().with_role("guest", ("/r",), ("/r",)).with_user("root")
    world.other(EnableAuth())
    assert world.ask("GET", "/v2/keys/r?recursive=true").status == 404
    assert world.ask("DELETE", "/v2/keys/r?recursive=true").status == 404
    assert world.ask("GET", "/v2/keys/r/x").status == 401


def test_watch_outlives_a_revocation():
    """Permission is asked for when it begins, as in etcd; the next one is refused."""
    world = AuthWorld().with_role("r", ("/a",), ()).with_user("joe", "r").enabled()
    wire = world.begin("GET", "/v2/keys/a?wait=true", who="joe")
    world.settle()
    world.other(UpdateUser("joe", "", (), ("r",)))
    assert world.ask("PUT", "/v2/keys/a", b"value=1", "root").status == 201
    assert json.loads(wire.response().body)["action"] == "set"
    assert world.ask("GET", "/v2/keys/a?wait=true", who="joe").status == 401


@pytest.mark.parametrize(("method", "path"), [("PUT", "/a"), ("POST", "/q/"), ("DELETE", "/a")])
def test_write_that_is_overtaken_by_a_revocation_is_denied(method, path):
    """The permission was checked by a member that had not heard of it."""
    world = AuthWorld().with_role("all", *EVERYTHING).with_user("joe", "all").enabled()
    body = b"" if method == "DELETE" else b"value=1"
    world.ask("PUT", "/v2/keys/a", b"value=0", "joe")
    index = world.store.index
    wire = world.begin(method, "/v2/keys" + path, body, who="joe")
    world.other(UpdateRole("all", (), (), (), ("/*",)))
    world.settle()
    assert wire.response(method).status == 401
    # The revocation has taken one itself.
    assert world.store.index == index + 1


def test_open_write_that_is_overtaken_by_the_switch_is_checked():
    """It was not asked for permission when it came, and is when its turn comes."""
    world = AuthWorld().with_user("root").with_role("guest", (), ())
    wire = world.begin("PUT", "/v2/keys/a", b"value=1")
    world.other(EnableAuth())
    world.settle()
    assert wire.response("PUT").status == 401
    wire = world.begin("PUT", "/v2/keys/a", b"value=1", who="root")
    world.passwords.run()
    world.other(DisableAuth())
    world.settle()
    assert wire.response("PUT").status == 201


def test_quorum_read_that_is_overtaken_by_a_revocation_is_denied():
    """It shows the latest state to those whom the latest state allows it."""
    world = AuthWorld().with_role("r", ("/*",), ()).with_user("joe", "r").enabled()
    wire = world.begin("GET", "/v2/keys/a?quorum=true", who="joe")
    world.passwords.run()
    world.other(UpdateUser("joe", "", (), ("r",)))
    world.settle()
    assert wire.response().status == 401
