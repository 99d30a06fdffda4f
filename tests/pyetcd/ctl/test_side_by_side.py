"""pyetcdctl and etcdctl, each against pyetcd and against a real etcd: same words, same exit codes.

Each program has a fresh server of its own for the same list of commands, and what differs between
two servers (ids, URLs, times) is masked. Needs /usr/bin/etcd and /usr/bin/etcdctl, which speak API
version 2 up to 3.5.
"""

import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest

from pyetcd.ctl.main import run
from tests.cluster import processes
from tests.cluster.processes import Member

ETCD = Path("/usr/bin/etcd")
ETCDCTL = Path("/usr/bin/etcdctl")
PYETCDCTL = [sys.executable, "-m", "pyetcd.ctl"]
COMMAND_SECONDS = 30


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    error: str


Program: TypeAlias = Callable[[list[str]], Ended]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ETCD.exists() and ETCDCTL.exists()), reason="no etcd installed"),
]

KEYS = """
    ls
    set /a 1
    set /a 2 --swap-with-value 1
    set /a 3 --swap-with-value 1
    set /a 4 --swap-with-index 999
    get /a
    -o extended get /a
    -o json get /a
    -o json set /a 5 --ttl 100
    -o extended set /ttl x -ttl=100
    mk /a 1
    mk /new 1
    mk --in-order /queue job
    -o json mk --in-order /queue job
    update /new 2
    update /missing 2
    mkdir /d
    mkdir /d
    mkdir /d/e/f --ttl 100
    setdir /d2
    setdir /d2 --ttl 100
    updatedir /d2 --ttl 100
    updatedir /missing
    set /d/x y
    set /d 1
    set /a/below 1
    get /d
    get /missing
    get --quorum --sort /a
    -o json ls --sort /d
    ls --sort --recursive /
    ls --sort -p --recursive /
    ls /d/x
    ls /missing
    rm /d
    rmdir /d
    rm /d/x --with-value n
    rm /d/x --with-value y
    -o json rm /new
    -o extended rm /a --with-index 0
    rm /d --recursive
    rmdir /d2
    rm /
    set -- /dash -5
    get /dash
    set /unicode grün<&>
    -o json get unicode
    set
    get
    -o bogus get /dash
    watch
    exec-watch
    watch --after-index 4 /a
    -o json watch --recursive --after-index 4 /
    watch --after-index 10 /new
"""

MEMBERS = """
    member list
    member list x
    member add x
    member remove
    member remove 12
    member update zz
    cluster-health
    member update {id} http://127.0.0.1:1,http://127.0.0.1:2
    member update ffff http://127.0.0.1:1
    member list
"""

USERS = """
    user list
    role list
    user get nobody
    role get nobody
    user add root:pw
    user add u:pw
    role add r
    role add r
    role grant r --path /x/* --readwrite
    role grant r --path /y --read
    role get r
    role revoke r --path /x/* --write
    role get r
    user grant u --roles r
    user grant u --roles r
    user grant nobody --roles r
    user get u
    user revoke u --roles r
    user get u
    user list
    role list
    user remove nobody
    role remove nobody
    role grant r --path /x
    role grant r --read
    auth enable
    set /x/a 1
    -u root:pw set /x/a 1
    -u root:wrong set /x/a 1
    -u u:pw get /x/a
    user list
    -u root:pw user list
    -u root:pw user remove u
    -u root:pw role remove r
    -u root:pw auth disable
    auth disable
    user list
"""

WRONG = """
    --endpoints http://127.0.0.1:1 get a
    --no-sync --endpoints http://127.0.0.1:1 get a
    --endpoints http://127.0.0.1:1 member list
    --endpoints http://127.0.0.1:1 cluster-health
    --timeout 1x get a
    bogus
"""


@pytest.fixture(params=["pyetcd", "etcd"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Member]]:
    """Starts fresh servers of one make."""
    if request.param == "etcd":
        monkeypatch.setattr(processes, "COMMAND", [str(ETCD), "--enable-v2"])
    with ExitStack() as running:
        numbers = itertools.count()
        yield lambda: running.enter_context(started(tmp_path / str(next(numbers))))


@contextmanager
def started(directory: Path) -> Iterator[Member]:
    """A cluster of one that serves."""
    directory.mkdir()
    member = Member("infra0", directory)
    member.flags += ["-initial-cluster", f"infra0={member.peer_url}"]
    try:
        member.start()
        member.wait_serving()
        yield member
    finally:
        member.close()


@pytest.fixture
def pyetcdctl(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Program]:
    """Runs pyetcdctl in this process, which saves its start fifty times over."""
    for name in os.environ:
        if name.startswith("ETCD"):
            monkeypatch.delenv(name)

    def command(arguments: list[str]) -> Ended:
        capsys.readouterr()
        code = run(arguments)
        out, error = capsys.readouterr()
        return Ended(code, out, error)

    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        yield command


def etcdctl(arguments: list[str]) -> Ended:
    """Run the real one."""
    ended = subprocess.run(
        [str(ETCDCTL), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        env=environment(),
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize("script", [KEYS, MEMBERS, USERS], ids=["keys", "members", "users"])
def test_pyetcdctl_prints_what_etcdctl_prints(
    server: Callable[[], Member], pyetcdctl: Program, script: str
) -> None:
    """Command by command: stdout, exit code, and the error's own words."""
    ours = play(pyetcdctl, server(), script)
    theirs = play(etcdctl, server(), script)
    differing = [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]
    assert differing == []


@pytest.mark.parametrize("script", [KEYS, MEMBERS, USERS], ids=["keys", "members", "users"])
def test_etcdctl_cannot_tell_pyetcd_from_etcd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """Command by command, against one server and the other."""
    with started(tmp_path / "pyetcd") as member:
        ours = play(etcdctl, member, script)
    monkeypatch.setattr(processes, "COMMAND", [str(ETCD), "--enable-v2"])
    with started(tmp_path / "etcd") as member:
        theirs = play(etcdctl, member, script)
    differing = [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]
    assert differing == []


def test_pyetcdctl_without_a_server_ends_as_etcdctl_does(pyetcdctl: Program) -> None:
    """Nobody there, or nothing that makes sense: the same exit codes."""
    for line in lines(WRONG):
        assert pyetcdctl(line.split()).code == etcdctl(line.split()).code, line


def test_watch_forever_follows_and_ends_with_ctrl_c(server: Callable[[], Member]) -> None:
    """Each line is there when its event is, through a pipe."""
    member = server()
    arguments = ["--endpoints", member.client_url, "watch", "--forever", "--recursive", "/"]
    arguments += ["--after-index", str(member_index(member))]
    with subprocess.Popen(
        [*PYETCDCTL, *arguments], stdout=subprocess.PIPE, text=True, env=environment()
    ) as watching:
        assert watching.stdout is not None
        for number in range(3):
            member.request("PUT", f"/v2/keys/k{number}", form={"value": number})
            assert watching.stdout.readline() == f"[set] /k{number}\n"
            assert watching.stdout.readline() == f"{number}\n"
        watching.send_signal(signal.SIGINT)
        assert watching.wait(COMMAND_SECONDS) == 0


def member_index(member: Member) -> int:
    """The index of the store."""
    return int(member.request("GET", "/v2/keys/").headers["X-Etcd-Index"])


def play(program: Program, member: Member, script: str) -> list[tuple[str, int, str, str]]:
    """Each line with its exit code, stdout and error as that program has it, masked."""
    member_id = member.request("GET", "/v2/members").json()["members"][0]["id"]
    played = []
    for line in lines(script):
        words = line.replace("{id}", member_id).split()
        ended = program(["--endpoints", member.client_url, *words])
        error = ended.error.splitlines()[0] if ended.error else ""
        out, error = (masked(text, member, member_id) for text in (ended.out, error))
        played.append((line, ended.code, out, error))
    return played


def masked(text: str, member: Member, member_id: str) -> str:
    """Text without what two servers cannot have in common."""
    for secret, name in (
        (member_id, "ID"),
        (member.client_url, "CLIENT"),
        (member.peer_url, "PEER"),
    ):
        text = text.replace(secret, name)
    text = re.sub(r'"expiration":"[^"]*"', '"expiration":"TIME"', text)
    # A second may pass between two commands, and etcdctl 3.4 has two dashes in its advice.
    text = re.sub(r'(TTL: |"ttl":)(?:100|9\d)\b', r"\g<1>100", text)
    return re.sub(r"`--?|(?<= )--?(?=(read|write))", "-", text)


def environment() -> dict[str, str]:
    """What both programs see."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("ETCD")}
    return kept | {"ETCDCTL_API": "2"}


def lines(script: str) -> list[str]:
    """The commands of a script."""
    return [line.strip() for line in script.splitlines() if line.strip()]
