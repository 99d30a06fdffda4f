"""What pyetcdctl prints, and the code that it ends with, against a member made of answers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.pyetcd.client.fake_member import FakeMember, event, member
from tests.pyetcd.ctl.commands import Ctl

pytestmark = pytest.mark.asyncio

# Nothing listens on port 1 of the loopback.
DOWN = "http://127.0.0.1:1"


@pytest_asyncio.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeMember]:
    for name in ("ENDPOINTS", "ENDPOINT", "PEERS", "USERNAME", "DISCOVERY_SRV", "CA_FILE"):
        monkeypatch.delenv(f"ETCDCTL_{name}", raising=False)
    async with FakeMember() as running:
        yield running


@pytest_asyncio.fixture
async def ctl(server: FakeMember, capsys: pytest.CaptureFixture[str]) -> Ctl:
    return Ctl(capsys, server.url)


async def test_set_prints_the_value(server: FakeMember, ctl: Ctl) -> None:
    """And sends what the flags say, wherever they stand."""
    server.tell(event(value="v"))
    outcome = await ctl(
        "set", "k", "-ttl", "5", "v", "--swap-with-value=x", "--swap-with-index", "0x10"
    )
    assert (outcome.code, outcome.out, outcome.err) == (0, "v\n", "")
    assert server.targets == ["PUT /v2/keys/k?prevIndex=16&prevValue=x"]
    assert server.asked[0].body == "value=v&ttl=5"


@pytest.mark.parametrize("command", ["get", "set", "mk", "update", "rm", "rmdir", "mkdir", "watch"])
async def test_command_without_a_key_says_so(ctl: Ctl, command: str) -> None:
    """Code 1, and nothing is sent."""
    outcome = await ctl(command)
    assert (outcome.code, outcome.out, outcome.err) == (1, "", "Error:  key required\n")


async def test_write_refused_prints_the_error_as_etcd_names_it(
    server: FakeMember, ctl: Ctl
) -> None:
    """Code, message, cause and index; exit code 4."""
    server.tell({"errorCode": 105, "message": "x", "cause": "/k", "index": 7}, status=412)
    outcome = await ctl("mk", "k", "v")
    assert (outcome.code, outcome.out) == (4, "")
    assert outcome.err == "Error:  105: Key already exists (/k) [7]\n"
    assert server.targets == ["PUT /v2/keys/k?prevExist=false"]


async def test_get_in_each_form(server: FakeMember, ctl: Ctl) -> None:
    """simple, extended and json, to the letter; another form is told on stderr."""
    found = event(value="<1>")
    found["node"]["ttl"] = 9
    found["prevNode"] = {"key": "/a", "value": "0"}
    server.always("GET", "/v2/keys/a", found)
    assert (await ctl("get", "a")).out == "<1>\n"
    assert (await ctl("-o", "extended", "get", "a")).out == (
        "Key: /a\nCreated-Index: 5\nModified-Index: 5\nPrevNode.Value: 0\nTTL: 9\nIndex: 0\n\n<1>\n"
    )
    assert (await ctl("-o", "json", "get", "a")).out == (
        '{"action":"get","node":{"key":"/a","value":"\\u003c1\\u003e","nodes":null,'
        '"createdIndex":5,"modifiedIndex":5,"ttl":9},'
        '"prevNode":{"key":"/a","value":"0","nodes":null,"createdIndex":0,"modifiedIndex":0}}\n'
    )
    other = await ctl("-o", "yaml", "get", "a")
    assert (other.code, other.err) == (0, "Unsupported output format: yaml\n")


async def test_get_of_a_directory_is_refused(server: FakeMember, ctl: Ctl) -> None:
    """Code 1."""
    server.tell({"action": "get", "node": {"key": "/d", "dir": True}})
    outcome = await ctl("get", "d")
    assert (outcome.code, outcome.err) == (1, "/d: is a directory\n")


async def test_rm_prints_what_was_there(server: FakeMember, ctl: Ctl) -> None:
    """A directory leaves no trace."""
    gone = event(action="delete")
    gone["prevNode"] = {"key": "/a", "value": "old"}
    server.tell(gone)
    server.tell({"action": "delete", "node": {"key": "/d", "dir": True}})
    assert (await ctl("rm", "a", "--with-value", "old")).out == "PrevNode.Value: old\n"
    assert (await ctl("rm", "-recursive", "d")).out == ""
    assert server.targets == [
        "DELETE /v2/keys/a?prevValue=old",
        "DELETE /v2/keys/d?recursive=true",
    ]


async def test_ls_lists_depth_first(server: FakeMember, ctl: Ctl) -> None:
    """Directories with a slash if -p asks for it; a key lists itself."""
    tree = {
        "key": "/d",
        "dir": True,
        "nodes": [{"key": "/d/e", "dir": True, "nodes": [{"key": "/d/e/f"}]}, {"key": "/d/g"}],
    }
    server.tell({"action": "get", "node": tree})
    server.tell(event())
    assert (await ctl("ls", "-p", "--recursive", "/d")).out == "/d/e/\n/d/e/f\n/d/g\n"
    assert (await ctl("ls", "a")).out == "/a\n"


async def test_ls_as_json_prints_the_answer(server: FakeMember, ctl: Ctl) -> None:
    """With all that the server tells of the directory."""
    server.tell({"action": "get", "node": {"key": "/d", "dir": True}})
    assert (await ctl("-o", "json", "ls", "/d")).out == (
        '{"action":"get","node":{"key":"/d","dir":true,"value":"","nodes":null,'
        '"createdIndex":0,"modifiedIndex":0},"prevNode":null}\n'
    )


async def test_update_wants_the_key_to_exist(server: FakeMember, ctl: Ctl) -> None:
    """The server checks it."""
    server.tell(event(value="2", action="update"))
    assert (await ctl("update", "a", "2")).out == "2\n"
    assert server.targets == ["PUT /v2/keys/a?prevExist=true"]


@pytest.mark.parametrize(
    ("command", "target"),
    [
        ("mkdir", "PUT /v2/keys/d?dir=true&prevExist=false"),
        ("setdir", "PUT /v2/keys/d?dir=true"),
        ("updatedir", "PUT /v2/keys/d?dir=true&prevExist=true"),
    ],
)
async def test_directory_commands_print_nothing(
    server: FakeMember, ctl: Ctl, command: str, target: str
) -> None:
    """Only the TTL is in the form."""
    server.tell({"action": "set", "node": {"key": "/d", "dir": True}})
    outcome = await ctl(command, "d", "--ttl", "3")
    assert (outcome.code, outcome.out) == (0, "")
    assert server.targets == [target]
    assert server.asked[0].body == "ttl=3"


async def test_mk_in_order_posts(server: FakeMember, ctl: Ctl) -> None:
    """The server names the key."""
    server.tell(event(key="/q/5", value="job"))
    assert (await ctl("mk", "--in-order", "q", "job")).out == "job\n"
    assert server.targets == ["POST /v2/keys/q"]


async def test_watch_forever_prints_until_it_fails(server: FakeMember, ctl: Ctl) -> None:
    """Directories are passed over; the end of the cluster is the end of the watch."""
    server.tell({"action": "set", "node": {"key": "/d", "dir": True, "modifiedIndex": 1}})
    server.tell(event(key="/d/a", value="1", action="set"))
    server.tell(event(key="/d/a", value="2", action="update", index=6))
    server.tell({"errorCode": 401, "cause": "c", "index": 9}, status=400)
    outcome = await ctl("watch", "--forever", "--recursive", "--after-index", "3", "d")
    assert outcome.out == "[set] /d/a\n1\n[update] /d/a\n2\n"
    assert outcome.code == 4
    assert server.targets[0].endswith("waitIndex=4")


async def test_exec_watch_hands_over_the_event(
    server: FakeMember, ctl: Ctl, tmp_path: Path
) -> None:
    """The program finds it in its environment, and is let finish when the watch fails."""
    file = tmp_path / "seen"
    server.tell(event(key="/a", value="v 1", action="set"))
    server.tell({"errorCode": 400, "cause": "", "index": 9}, status=400)
    shell = f"env | grep ETCD_WATCH | sort > {file}"
    outcome = await ctl("exec-watch", "a", "--", "sh", "-c", shell)
    assert outcome.code == 4
    assert file.read_text() == (
        "ETCD_WATCH_ACTION=set\nETCD_WATCH_KEY=/a\n"
        "ETCD_WATCH_MODIFIED_INDEX=5\nETCD_WATCH_VALUE=v 1\n"
    )


async def test_exec_watch_of_a_program_that_is_missing_ends(server: FakeMember, ctl: Ctl) -> None:
    """Code 1, with the reason."""
    server.tell(event())
    outcome = await ctl("exec-watch", "a", "--", "/no/such/program")
    assert outcome.code == 1
    assert "/no/such/program" in outcome.err
    assert (await ctl("exec-watch", "a")).err == "Error:  key and command to exec required\n"


async def test_member_list_marks_the_leader(server: FakeMember, ctl: Ctl) -> None:
    """Members that have not started are told apart."""
    server.tell({"members": [member("a", "http://h:1"), member("b", name="")]})
    server.tell(member("a"))
    assert (await ctl("member", "list")).out == (
        "a: name=infra0 peerURLs=http://127.0.0.1:2380 clientURLs=http://h:1 isLeader=true\n"
        "b[unstarted]: peerURLs=http://127.0.0.1:2380\n"
    )


async def test_member_add_prints_what_to_start_it_with(server: FakeMember, ctl: Ctl) -> None:
    """Three variables for the environment of the newcomer."""
    server.tell(member("b", name=""), status=201)
    server.tell({"members": [member("a"), member("b", name="")]})
    assert (await ctl("member", "add", "infra1", "http://127.0.0.1:2380")).out == (
        "Added member named infra1 with ID b to cluster\n"
        '\nETCD_NAME="infra1"\n'
        'ETCD_INITIAL_CLUSTER="infra0=http://127.0.0.1:2380,infra1=http://127.0.0.1:2380"\n'
        'ETCD_INITIAL_CLUSTER_STATE="existing"\n'
    )


async def test_member_remove_by_name_tells_the_id(server: FakeMember, ctl: Ctl) -> None:
    """A name is not removed."""
    server.tell({"members": [member("a")]})
    outcome = await ctl("member", "remove", "infra0")
    assert outcome.code == 1
    assert "pyetcdctl member remove a" in outcome.err
    assert "Couldn't find a member in the cluster with an ID of infra0." in outcome.err


async def test_member_remove_and_update_say_what_they_did(server: FakeMember, ctl: Ctl) -> None:
    """By the member's id."""
    server.tell({"members": [member("a")]})
    server.tell(status=204)
    server.tell(status=204)
    assert (await ctl("member", "remove", "a")).out == "Removed member a from cluster\n"
    outcome = await ctl("member", "update", "a", "http://h:2,http://h:1")
    assert outcome.out == "Updated member with ID a in cluster\n"
    assert server.asked[-1].body == '{"peerURLs":["http://h:1","http://h:2"]}'


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["list", "x"], "No arguments accepted"),
        (["add", "x"], "Provide a name and a single member peerURL"),
        (["remove"], "Provide a single member ID"),
        (["update", "x"], "Provide an ID and a list of comma separated peerURL"),
        (["add", "x", "foo"], "URL scheme must be http or https: foo"),
    ],
)
async def test_member_command_used_wrongly_says_how(
    ctl: Ctl, args: list[str], message: str
) -> None:
    """Code 1, and nothing is sent."""
    outcome = await ctl("member", *args)
    assert outcome.code == 1
    assert outcome.err.startswith(message)


async def test_member_list_without_leader_says_so(server: FakeMember, ctl: Ctl) -> None:
    """Code 1."""
    server.tell({"members": [member("a")]})
    server.tell(status=503)
    outcome = await ctl("member", "list")
    assert (outcome.code, outcome.err[:24]) == (1, "Failed to get leader:  c")


async def test_cluster_health_of_several_members(server: FakeMember, ctl: Ctl) -> None:
    """One that is well is enough for the cluster."""
    server.tell({"members": [member("a", DOWN, server.url), member("b"), member("c", DOWN)]})
    server.tell({"health": "true"})
    outcome = await ctl("cluster-health")
    refused = "dial tcp 127.0.0.1:1: connect: connection refused"
    assert outcome.code == 0
    assert outcome.out.splitlines() == [
        f"failed to check the health of member a on {DOWN}: {refused}",
        f"member a is healthy: got healthy result from {server.url}",
        "member b is unreachable: no available published client urls",
        f"failed to check the health of member c on {DOWN}: {refused}",
        f"member c is unreachable: [{DOWN}] are all unreachable",
        "cluster is healthy",
    ]


async def test_cluster_health_without_a_member_that_is_well_is_code_5(
    server: FakeMember, ctl: Ctl
) -> None:
    """A member may answer that it is not."""
    server.tell({"members": [member("a", server.url)]})
    server.tell({"health": "false"}, status=503)
    outcome = await ctl("cluster-health")
    assert outcome.code == 5
    assert outcome.out.endswith("cluster is unhealthy\n")
    assert "member a is unhealthy: got unhealthy result from" in outcome.out


async def test_cluster_health_of_nobody_is_code_4(
    server: FakeMember, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no list of members."""
    outcome = await Ctl(capsys, DOWN)("cluster-health")
    assert outcome.code == 4
    assert outcome.out == "cluster may be unhealthy: failed to list members\n"


USER_AND_ROLE = [
    (["user", "list"], {"users": [{"user": "a"}, {"user": "b"}]}, "a\nb\n"),
    (["user", "get", "u"], {"user": "u", "roles": ["r", "s"]}, "User: u\nRoles:   r s\n"),
    (["user", "remove", "u"], {}, "User u removed\n"),
    (["user", "grant", "u", "-roles", "r"], {"user": "u"}, "User u updated\n"),
    (["user", "revoke", "u", "-roles", "r", "-roles=s"], {"user": "u"}, "User u updated\n"),
    (["role", "list"], {"roles": [{"role": "root"}]}, "root\n"),
    (
        ["role", "get", "r"],
        {"role": "r", "permissions": {"kv": {"read": ["/a", "/b"], "write": None}}},
        "Role: r\nKV Read:\n\t/a\n\t/b\nKV Write:\n",
    ),
    (["role", "remove", "r"], {}, "Role r removed\n"),
    (
        ["role", "grant", "r", "-path", "/a", "-readwrite"],
        {"role": "r", "permissions": {"kv": {}}},
        "Role unchanged; already granted\nRole r updated\n",
    ),
    (["auth", "enable"], {}, "Authentication Enabled\n"),
    (["auth", "disable"], {}, "Authentication Disabled\n"),
]


@pytest.mark.parametrize(("args", "answer", "out"), USER_AND_ROLE)
async def test_user_and_role_commands_print_etcdctls_words(
    server: FakeMember, ctl: Ctl, args: list[str], answer: object, out: str
) -> None:
    """Two requests at most, both with the same answer."""
    server.tell(answer)
    server.tell(answer)
    outcome = await ctl(*args)
    assert (outcome.code, outcome.out, outcome.err) == (0, out, "")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["user", "add"], "Please provide a username\n"),
        (["user", "list", "x"], "No arguments accepted\n"),
        (["user", "grant", "u"], "No roles specified; please use `-roles`\n"),
        (["role", "add"], "Please provide a role name\n"),
        (["role", "list", "x"], "No arguments accepted\n"),
        (["role", "grant", "r"], "No path specified; please use `-path`\n"),
        (["role", "grant", "r", "-path", "x"], "Not canonical path; please use `-path=/x`\n"),
        (
            ["role", "revoke", "r", "-path", "/x", "-read", "-write"],
            "Please specify exactly one of -read, -write or -readwrite\n",
        ),
        (["auth", "enable", "x"], "No arguments accepted\n"),
        (["auth", "disable", "x"], "No arguments accepted\n"),
    ],
)
async def test_user_and_role_commands_used_wrongly_say_how(
    ctl: Ctl, args: list[str], message: str
) -> None:
    """Code 1, and nothing is sent."""
    outcome = await ctl(*args)
    assert (outcome.code, outcome.err) == (1, message)


async def test_user_add_creates_who_is_not_there(server: FakeMember, ctl: Ctl) -> None:
    """Somebody who is there keeps the password."""
    server.tell({"message": "no such user"}, status=404)
    server.tell({"user": "u"}, status=201)
    server.tell({"user": "u"})
    assert (await ctl("user", "add", "u:hush")).out == "User u created\n"
    again = await ctl("user", "add", "u:other")
    assert (again.code, again.err) == (1, "User u already exists\n")
    assert len(server.asked) == 3


async def test_user_passwd_asks_for_the_new_password(
    server: FakeMember, ctl: Ctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only of a user who is there."""
    typed = tmp_path / "typed"
    typed.write_text("hush\n")
    server.tell({"user": "u"})
    server.tell({"user": "u"})
    server.tell({"message": "auth: User u does not exist."}, status=404)
    with typed.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert (await ctl("user", "passwd", "u")).out == "New password: \nPassword updated\n"
        again = await ctl("user", "passwd", "u")
    assert '"password":"hush"' in server.asked[1].body
    assert (again.code, again.err) == (1, "auth: User u does not exist.\n")


async def test_role_add_creates_what_is_not_there(server: FakeMember, ctl: Ctl) -> None:
    """A role that is there keeps its permissions."""
    server.tell({"message": "no such role"}, status=404)
    server.tell({"role": "r"}, status=201)
    server.tell({"role": "r", "permissions": {"kv": {}}})
    assert (await ctl("role", "add", "r")).out == "Role r created\n"
    again = await ctl("role", "add", "r")
    assert (again.code, again.err) == (1, "Role r already exists\n")


async def test_user_refused_prints_the_text_of_the_server(server: FakeMember, ctl: Ctl) -> None:
    """Code 1."""
    server.tell({"message": "auth: User u does not exist."}, status=404)
    outcome = await ctl("user", "get", "u")
    assert (outcome.code, outcome.err) == (1, "auth: User u does not exist.\n")
