"""`make run` and its commands: three members, one of them killed and started from elsewhere."""

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.processes import COMMAND, NO_ANSWER, free_port, port_is_free, request, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SCRIPT = Path(__file__).parents[2] / "scripts" / "local_cluster.py"
NAMES = ("infra0", "infra1", "infra2")
# How far apart the script puts the members' ports.
PORT_STEP = 1000


class LocalCluster:
    """The script in one terminal, and commands from another."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "data"
        self.base_port = six_free_ports()
        self.output_path = directory / "output"
        self.run()

    def run(self) -> None:
        """What `make run` does; also once more, on the data of the last time."""
        with self.output_path.open("wb") as output:
            self.process = subprocess.Popen(
                [*self._script(), "--program", shlex.join(COMMAND)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def output(self) -> str:
        return self.output_path.read_text(errors="replace")

    def wait_up(self) -> None:
        wait_for(lambda: "All three members are up" in self.output, 30, self.output)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What `make kill` and `make start` do."""
        return subprocess.run(
            [*self._script(), *words], capture_output=True, text=True, timeout=30, check=False
        )

    def url(self, name: str, key: str) -> str:
        """A key as one member has it."""
        port = self.base_port + PORT_STEP * NAMES.index(name)
        return f"http://127.0.0.1:{port}/v2/keys/{key}"

    def end(self) -> int:
        """Ctrl-C."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)

    def _script(self) -> list[str]:
        options = ["--dir", str(self.directory), "--base-port", str(self.base_port)]
        return [sys.executable, str(SCRIPT), *options]


@pytest.fixture
def cluster(tmp_path: Path):
    """A cluster that runs in its own directory, on ports of its own."""
    cluster = LocalCluster(tmp_path)
    try:
        cluster.wait_up()
        yield cluster
    finally:
        cluster.end()


def test_killed_member_is_started_again_and_catches_up(cluster: LocalCluster):
    """The README's tour: write, kill, write to the others, start, read."""
    assert put(cluster.url("infra0", "message"), "hello").status == 201
    wait_for(lambda: value(cluster.url("infra1", "message")) == "hello", 10, "infra1 to have it")
    killed = cluster.command("kill", "infra0")
    assert (killed.returncode, killed.stderr) == (0, "")
    wait_for(lambda: put(cluster.url("infra1", "message"), "again"), 10, "a write without infra0")
    assert value(cluster.url("infra0", "message")) is None
    started = cluster.command("start", "infra0")
    assert (started.returncode, started.stderr) == (0, "")
    wait_for(lambda: value(cluster.url("infra0", "message")) == "again", 30, "infra0 to catch up")


def test_commands_that_cannot_be_obeyed_say_why(cluster: LocalCluster):
    """One line and an exit code for what makes no sense."""
    for words, reason in (
        (("start", "infra1"), "infra1 is running"),
        (("kill", "infra7"), "infra7"),
    ):
        refused = cluster.command(*words)
        assert refused.returncode != 0
        assert reason in refused.stderr
        assert "Traceback" not in refused.stderr
    assert cluster.command("kill", "infra1").returncode == 0
    assert "not running" in cluster.command("kill", "infra1").stderr


def test_ended_cluster_frees_its_ports_and_goes_on_with_its_data(cluster: LocalCluster):
    """Ctrl-C ends all three; the next start finds what was written."""
    assert put(cluster.url("infra2", "lasting"), "1").status == 201
    assert cluster.end() == 0
    assert all(port_is_free(port) for port in six_ports(cluster.base_port))
    cluster.run()
    cluster.wait_up()
    assert value(cluster.url("infra0", "lasting")) == "1"


def six_ports(base_port: int) -> list[int]:
    """The client and the peer port of each of the three."""
    return [base_port + PORT_STEP * number + peer for number in range(3) for peer in (0, 1)]


def six_free_ports() -> int:
    """A base port whose six ports nobody uses."""
    while True:
        # Not above what the third member's ports still fit under.
        base_port = free_port() % 20_000 + 20_000
        if all(port_is_free(port) for port in six_ports(base_port)):
            return base_port


def put(url: str, text: str):
    """The answer to a write; None while the member does not take it."""
    try:
        answer = request(url, "PUT", form={"value": text}, seconds=2.0)
    except NO_ANSWER:
        return None
    return answer if answer.status in (200, 201) else None


def value(url: str) -> str | None:
    """The value of a key; None if the member does not answer or has no such key."""
    try:
        answer = request(url, seconds=2.0)
    except NO_ANSWER:
        return None
    return answer.json()["node"]["value"] if answer.status == 200 else None
