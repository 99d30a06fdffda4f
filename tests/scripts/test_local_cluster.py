"""Three members start, can be killed and started, and end together."""

import os
import queue
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scripts import local_cluster
from scripts.local_cluster import LocalCluster, LocalClusterError, Member

SCRIPT = Path(local_cluster.__file__)

# A member as far as the script can tell: it logs, is healthy, and ends when asked to.
STUB = """
import http.server, sys
flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
port = int(flags["-listen-client-urls"].rpartition(":")[2])
server = http.server.HTTPServer(("127.0.0.1", port), Handler)
print("serving", flags["-name"], flush=True)
server.serve_forever()
"""


def free_base_port() -> int:
    """Return a port that is free with all others that follow from it."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            base: int = probe.getsockname()[1]
        if base + 2001 <= 65535:
            try:
                for number, name in enumerate(local_cluster.NAMES):
                    local_cluster.check_ports(Member(name, number, base))
            except LocalClusterError:
                continue
            return base


@dataclass
class Terminal:
    """The script in a process of its own, and what it printed."""

    process: subprocess.Popen[str]
    lines: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    seen: list[str] = field(default_factory=list)

    def read(self) -> None:
        """Collect lines until the script ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def wait_for(self, text: str) -> None:
        """Wait until a line has a text."""
        while not any(text in line for line in self.seen):
            try:
                self.seen.append(self.lines.get(timeout=20))
            except queue.Empty:
                pytest.fail(f"{text!r} is not in {self.seen}")

    def end(self) -> int:
        """Press Ctrl-C and return the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


@pytest.fixture
def stub(tmp_path: Path) -> str:
    """The program to start instead of pyetcd."""
    path = tmp_path / "stub.py"
    path.write_text(STUB)
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))}"


@pytest.fixture
def terminal(tmp_path: Path, stub: str) -> Iterator[Terminal]:
    """A cluster of stubs that runs in `tmp_path / "d"`."""
    command = [sys.executable, str(SCRIPT), "--dir", str(tmp_path / "d")]
    command += ["--base-port", str(free_base_port()), "--program", stub]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        terminal = Terminal(process)
        reader = threading.Thread(target=terminal.read)
        reader.start()
        yield terminal
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        reader.join()


@pytest.mark.slow
def test_cluster_plays_the_failover(
    terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kill and start from another terminal; the logs stay in the first one."""

    def command(*words: str) -> tuple[int, str]:
        status = local_cluster.main(["--dir", str(tmp_path / "d"), *words])
        captured = capsys.readouterr()
        return status, (captured.out + captured.err).strip()

    terminal.wait_for("All three members are up")
    for name in local_cluster.NAMES:
        terminal.wait_for(f"{name} | serving {name}")
    assert command("kill", "infra0") == (0, "infra0 is killed")
    terminal.wait_for("infra0 | (ended with status -9)")
    assert command("kill", "infra0") == (1, "local_cluster: infra0 is not running")
    terminal.seen.clear()
    assert command("start", "infra0") == (0, "infra0 is started")
    terminal.wait_for("infra0 | serving infra0")
    assert command("start", "infra0") == (
        1,
        "local_cluster: infra0 is running; kill it first",
    )
    assert command() == (
        1,
        f"local_cluster: a cluster runs in {tmp_path / 'd'} already; end it with Ctrl-C",
    )
    assert terminal.end() == 0
    for name in local_cluster.NAMES:
        terminal.wait_for(f"{name} | (ended with status -15)")
    status, line = command("kill", "infra0")
    assert status == 1
    assert line.startswith(f"local_cluster: no cluster runs in {tmp_path / 'd'}; start it with")


def test_flags_are_those_of_the_guide() -> None:
    """With the ports of one machine."""
    members = {name: Member(name, number, 2379) for number, name in enumerate(local_cluster.NAMES)}
    cluster = LocalCluster(Path("local-cluster"), ["pyetcd"], members, coloured=False)
    flags = local_cluster.member_flags(members["infra1"], cluster)
    assert dict(zip(flags[::2], flags[1::2], strict=True)) == {
        "-name": "infra1",
        "-data-dir": "local-cluster/infra1.etcd",
        "-initial-advertise-peer-urls": "http://127.0.0.1:3380",
        "-listen-peer-urls": "http://127.0.0.1:3380",
        "-listen-client-urls": "http://127.0.0.1:3379",
        "-advertise-client-urls": "http://127.0.0.1:3379",
        "-initial-cluster-token": "etcd-cluster-1",
        "-initial-cluster": "infra0=http://127.0.0.1:2380,infra1=http://127.0.0.1:3380,"
        "infra2=http://127.0.0.1:4380",
        "-initial-cluster-state": "new",
    }


def test_lines_are_coloured_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Each member has its colour; a file gets none."""
    for coloured in (True, False):
        LocalCluster(Path("d"), [], {}, coloured).show("infra0", "text")
    assert capsys.readouterr().out == "\033[32minfra0\033[0m | text\ninfra0 | text\n"


def test_run_with_a_port_in_use_names_the_port(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is started."""
    base = free_base_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", base + 1001))
        other.listen()
        status = local_cluster.main(["--dir", str(tmp_path), "--base-port", str(base)])
    assert status == 1
    assert capsys.readouterr().err == (
        f"local_cluster: port {base + 1001} of infra1 cannot be used: Address already in use;"
        " end what listens there, or write another --base-port\n"
    )


def test_run_of_a_program_that_is_missing_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And leaves no socket behind; one that a killed cluster left is replaced."""
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(os.fspath(tmp_path / "control.sock"))
    missing = str(tmp_path / "missing")
    arguments = ["--dir", str(tmp_path), "--base-port", str(free_base_port())]
    assert local_cluster.main([*arguments, "--program", missing]) == 1
    assert f"local_cluster: {missing} cannot be started: " in capsys.readouterr().err
    assert not (tmp_path / "control.sock").exists()


def test_run_in_a_directory_that_cannot_be_made_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file is in the way."""
    (tmp_path / "file").touch()
    assert local_cluster.main(["--dir", str(tmp_path / "file")]) == 1
    assert "file cannot be made: File exists" in capsys.readouterr().err


def test_run_in_a_directory_with_a_long_name_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system's own message does not say what is too long."""
    assert local_cluster.main(["--dir", str(tmp_path / ("d" * 100))]) == 1
    assert "is too long for a Unix socket; write a shorter --dir" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["kill", "infra9"], ["kill"], ["halt"], ["--base-port", "63535"]]
)
def test_wrong_arguments_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """By argparse, with its status."""
    with pytest.raises(SystemExit) as caught:
        local_cluster.main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err
