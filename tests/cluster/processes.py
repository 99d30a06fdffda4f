"""Real members as processes: start, kill, pause and ask them, and wait for what they should do.

Relies on the command line and the HTTP API only, so the same tests try another server of etcd's
v2 API: `PYETCD_COMMAND='/usr/bin/etcd --enable-v2'`. Every member has free loopback ports, a
directory of its own and a log file; a `Cluster` ends its processes, by their ids, when it closes.
Waiting means asking again until a deadline (`wait_for`); nothing here sleeps and hopes.
"""

import http.client
import json
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

OTHER_SERVER = "PYETCD_COMMAND" in os.environ
COMMAND = shlex.split(os.environ.get("PYETCD_COMMAND", "")) or [sys.executable, "-m", "pyetcd"]
# A member that SIGTERM ends cleans up, then exits with 0 or, like etcd, by that signal.
CLEAN_EXITS = (0, -signal.SIGTERM)
# Generous: a member starts in a second, but a busy machine may run several clusters.
START_SECONDS = 30.0
REQUEST_SECONDS = 10.0
POLL_SECONDS = 0.02
LOG_LINES_SHOWN = 15

# What a request to a member that is down, starting or paused may raise.
NO_ANSWER = (OSError, http.client.HTTPException)

T = TypeVar("T")


class Cluster:
    """`size` members that know each other from their flags; as a context manager started,
    serving and led on entry, and gone on exit."""

    def __init__(
        self, directory: Path, *, size: int = 3, flags: Iterable[str] = (), token: str = "test"
    ) -> None:
        self.directory = directory
        self.flags = list(flags)
        self.token = token
        self.members = [self._member(f"infra{number}") for number in range(size)]
        self._flag(self.members, state="new")

    def __enter__(self) -> Self:
        try:
            self.start()
            self.leader()
        except BaseException as error:
            self._close(error)
            raise
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._close(error)

    def start(self) -> None:
        """Start whoever is not running and wait until all of them serve."""
        for member in self.members:
            if not member.running:
                member.start()
        for member in self.members:
            member.wait_serving()

    def leader(self, seconds: float = START_SECONDS) -> "Member":
        """The member that leads; waits for one."""
        return wait_for(self._find_leader, seconds, "a member that leads")

    def followers(self) -> list["Member"]:
        """The running members that do not lead."""
        leader = self.leader()
        return [member for member in self.answering() if member is not leader]

    def answering(self) -> list["Member"]:
        """The members that run and are not paused."""
        return [member for member in self.members if member.running and not member.paused]

    def new_member(self, name: str, *, state: str = "existing") -> "Member":
        """One more process, with the flags that a newcomer is started with."""
        member = self._member(name)
        self.members.append(member)
        self._flag([member], state=state)
        return member

    def wait_agreed(self, seconds: float = START_SECONDS) -> None:
        """Wait until all answering members hold the same keys under the same etcd index."""
        wait_for(self._agreed, seconds, "the members to hold the same keys")

    def _agreed(self) -> bool:
        states = [member.contents() for member in self.answering()]
        return all(state == states[0] for state in states)

    def _find_leader(self) -> "Member | None":
        for member in self.answering():
            try:
                if member.stats()["state"] == "StateLeader":
                    return member
            except NO_ANSWER:
                continue
        return None

    def _member(self, name: str) -> "Member":
        return Member(name, self.directory)

    def _flag(self, members: list["Member"], *, state: str) -> None:
        everybody = ",".join(f"{member.name}={member.peer_url}" for member in self.members)
        for member in members:
            member.flags = [
                *member.own_flags(),
                "-initial-cluster-token",
                self.token,
                "-initial-cluster",
                everybody,
                "-initial-cluster-state",
                state,
                *self.flags,
            ]

    def _close(self, error: BaseException | None) -> None:
        for member in self.members:
            if error is not None:
                error.add_note(member.obituary())
            member.close()


class Member:
    """One server process and what its user has: flags, a data directory, two URLs, a log."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.data_dir = directory / f"{name}.etcd"
        self.log_path = directory / f"{name}.log"
        self.client_url = f"http://127.0.0.1:{free_port()}"
        self.peer_url = f"http://127.0.0.1:{free_port()}"
        self.flags = self.own_flags()
        # What is started; a test may put something around it.
        self.command = COMMAND
        self.environment: dict[str, str] = {}
        self.paused = False
        # What https URLs are asked with.
        self.tls: ssl.SSLContext | None = None
        self.process: subprocess.Popen[bytes] | None = None

    # The process

    def own_flags(self) -> list[str]:
        """The flags that say who this member is and where it listens, with etcd's one dash."""
        return [
            "-name",
            self.name,
            "-data-dir",
            str(self.data_dir),
            "-listen-client-urls",
            self.client_url,
            "-advertise-client-urls",
            self.client_url,
            "-listen-peer-urls",
            self.peer_url,
            "-initial-advertise-peer-urls",
            self.peer_url,
        ]

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process with its flags, the log appended to; does not wait for it."""
        assert not self.running, f"{self.name} runs already"
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("ETCD")}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, *self.flags],
                cwd=self.directory,
                env=inherited | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_serving(self, seconds: float = START_SECONDS) -> None:
        """Wait until the member calls itself healthy: it serves and sees a leader."""
        wait_for(self._healthy, seconds, f"{self.name} to serve")

    def wait_exit(self, seconds: float = START_SECONDS) -> int:
        """The exit code of a process that should end by itself."""
        assert self.process is not None, f"{self.name} was never started"
        return self.process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL: what a crash of the process or `kill -9` leaves."""
        self._signal(signal.SIGKILL)
        self.wait_exit()
        self.paused = False

    def terminate(self) -> None:
        """SIGTERM, the way to stop a member; it must end cleanly."""
        self._signal(signal.SIGTERM)
        code = self.wait_exit()
        assert code in CLEAN_EXITS, f"{self.name} ended with {code} after SIGTERM"

    def stop(self) -> None:
        """SIGSTOP: alive, holding its sockets, answering nobody."""
        self._signal(signal.SIGSTOP)
        self.paused = True

    def cont(self) -> None:
        """SIGCONT: go on after `stop`."""
        self._signal(signal.SIGCONT)
        self.paused = False

    def close(self) -> None:
        """End the process if there is one."""
        if self.running:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None, f"{self.name} was never started"
        self.process.send_signal(number)

    def descriptors(self) -> list[str]:
        """What the process has open."""
        assert self.process is not None, f"{self.name} was never started"
        return os.listdir(f"/proc/{self.process.pid}/fd")

    @property
    def log(self) -> str:
        """What the process has printed, over all its starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def files(self) -> list[Path]:
        """The data files of this member: all but its lock and the empty database of an etcd 3."""
        found = self.data_dir.rglob("*")
        return sorted(
            path for path in found if path.is_file() and not re.search(r"lock|^db$", path.name)
        )

    def obituary(self) -> str:
        """The end of the log, for the report of a failed test."""
        lines = self.log.splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join([f"--- {self.name}: the end of its log", *lines])

    # Its API

    def request(
        self,
        method: str,
        path: str,
        *,
        form: Mapping[str, object] | None = None,
        body: object = None,
        seconds: float = REQUEST_SECONDS,
    ) -> "Response":
        """One request to the client port; `form` fields or a JSON `body`."""
        return request(
            self.client_url + path, method, form=form, body=body, seconds=seconds, tls=self.tls
        )

    def get(self, key: str, **query: object) -> "Response":
        return self.request("GET", key_path(key, query))

    def put(self, key: str, value: str, **form: object) -> "Response":
        return self.request("PUT", key_path(key, {}), form={"value": value} | form)

    def value(self, key: str, **query: object) -> str | None:
        """The value of a key, None if there is no such key."""
        answer = self.get(key, **query)
        if answer.status == http.client.NOT_FOUND:
            return None
        assert answer.status == http.client.OK, f"GET {key}: {answer.status} {answer.body!r}"
        value: str = answer.json()["node"]["value"]
        return value

    def stats(self) -> dict[str, Any]:
        """`/v2/stats/self`: the id, the role and the leader as this member sees them."""
        answer: dict[str, Any] = self.request("GET", "/v2/stats/self", seconds=2.0).json()
        return answer

    def raft_index(self) -> int:
        """The raft index of a local read; 0 while the member does not answer."""
        try:
            return int(self.get("/").headers["X-Raft-Index"])
        except NO_ANSWER:
            return 0

    def contents(self) -> tuple[int, object]:
        """The etcd index and all keys. Seconds left are dropped: they depend on when one asks."""
        answer = self.get("/", recursive="true", sorted="true")
        return int(answer.headers["X-Etcd-Index"]), without_ttl(answer.json()["node"])

    def _healthy(self) -> bool:
        if not self.running:
            code = None if self.process is None else self.process.returncode
            raise AssertionError(f"{self.name} ended with {code}\n{self.obituary()}")
        try:
            health = self.request("GET", "/health", seconds=2.0).json()["health"]
            return str(health) == "true" and self._has_published()
        except (*NO_ANSWER, ValueError, KeyError):
            return False

    def _has_published(self) -> bool:
        """Whether the cluster knows where this member's clients go; a moment after it serves."""
        answer = self.request("GET", "/v2/members", seconds=2.0)
        if answer.status != http.client.OK:
            return True  # only root may know
        return all(
            entry["clientURLs"]
            for entry in answer.json()["members"]
            if self.peer_url in entry["peerURLs"]
        )


@dataclass(slots=True)
class Response:
    """One answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    url: str,
    method: str = "GET",
    *,
    form: Mapping[str, object] | None = None,
    body: object = None,
    seconds: float = REQUEST_SECONDS,
    tls: ssl.SSLContext | None = None,
) -> Response:
    """Send one request on a connection of its own."""
    parts = urlsplit(url)
    headers, content = {}, None
    if form is not None:
        headers, content = {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(form)
    elif body is not None:
        headers, content = {"Content-Type": "application/json"}, json.dumps(body)
    connection = (
        http.client.HTTPConnection(parts.netloc, timeout=seconds)
        if parts.scheme == "http"
        else http.client.HTTPSConnection(parts.netloc, timeout=seconds, context=tls)
    )
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, content, headers)
        answer = connection.getresponse()
        return Response(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def key_path(key: str, query: Mapping[str, object]) -> str:
    """The path of a key below `/v2/keys`, with the query."""
    path = "/v2/keys/" + quote(key.lstrip("/"))
    return f"{path}?{urlencode(query)}" if query else path


def wait_for(predicate: Callable[[], T | None], seconds: float, what: str) -> T:
    """Ask until the answer is true, and return it; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s for {what}")
        time.sleep(POLL_SECONDS)


_given_ports: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody uses, and that this process has not given out before.

    Linux hands odd ports to whom binds port 0 and even ones to outgoing connections while it
    can, so that a restarted member does not find its port taken by somebody's connection.
    """
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _given_ports:
            _given_ports.add(port)
            return port


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def without_ttl(node: Any) -> Any:
    """A node and all below it without the seconds left."""
    kept = {name: field for name, field in node.items() if name not in ("ttl", "nodes")}
    return kept | {"nodes": [without_ttl(child) for child in node.get("nodes", [])]}


def last_number(pattern: str, text: str) -> int:
    """The number in the last match of a pattern with one group; 0 if there is none."""
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0
