"""The example of the raft package, run as its docstring says."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.cluster.processes import START_SECONDS, free_port, wait_for

_PROGRAM = Path(__file__).parents[2] / "examples" / "counter.py"
_LINES = 80


class _Server:
    """One process of the example; what it prints goes to a file."""

    def __init__(self, directory: Path, server_id: int, ports: list[int]) -> None:
        self.id = server_id
        self._directory = directory / f"server{server_id}"
        self._output = directory / f"output{server_id}"
        self._ports = ports
        self.start()

    def start(self) -> None:
        self._directory.mkdir(exist_ok=True)
        words = [str(_PROGRAM), str(self.id), str(self._directory), *map(str, self._ports)]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=_PROGRAM.parents[1],
                env={"PYTHONPATH": str(_PROGRAM.parents[1])},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def input(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    def add(self, number: int) -> None:
        self.input.write(b"%d\n" % number)
        self.input.flush()

    def lines(self) -> list[str]:
        return self._output.read_text().splitlines()

    @property
    def leader(self) -> int:
        """Who leads, as it was printed last; 0 for nobody."""
        told = [line for line in self.lines() if line.startswith("Leadership(")]
        return int(told[-1].split("leader=")[1].split(",")[0]) if told else 0

    def shows(self, total: int) -> bool:
        return str(total) in self.lines()

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> int:
        """Close its input and wait for it."""
        self.input.close()
        return self.process.wait(START_SECONDS)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[_Server]]:
    """Three of them, with a leader that all know."""
    ports = [free_port() for _ in range(3)]
    started = [_Server(tmp_path, server_id, ports) for server_id in (1, 2, 3)]
    try:
        _wait(lambda: all(it.leader for it in started), "a leader", started)
        yield started
    finally:
        for it in started:
            if it.process.poll() is None:
                it.kill()


def _wait(condition: object, what: str, servers: list[_Server]) -> None:
    try:
        wait_for(condition, START_SECONDS, what)  # type: ignore[arg-type]
    except AssertionError as error:
        raise AssertionError(f"{error}: {[it.lines() for it in servers]}") from None


@pytest.mark.slow
def test_counter_survives_the_loss_of_its_leader(servers: list[_Server]) -> None:
    """Every server adds, all show the same sum, and what was added outlives a crash."""
    for it in servers:
        it.add(5)
    _wait(lambda: all(it.shows(15) for it in servers), "15", servers)
    leader = next(it for it in servers if it.id == servers[0].leader)
    others = [it for it in servers if it is not leader]
    leader.kill()
    _wait(lambda: all(it.leader not in (0, leader.id) for it in others), "another one", servers)
    others[0].add(2)
    _wait(lambda: all(it.shows(17) for it in others), "17", servers)
    leader.start()
    _wait(lambda: leader.shows(17), "17 where it was not known", servers)
    assert [it.end() for it in servers] == [0, 0, 0]


@pytest.mark.slow
def test_number_that_is_none_is_not_added(servers: list[_Server]) -> None:
    """The program says so and goes on."""
    servers[0].input.write(b"many\n")
    servers[0].add(1)
    _wait(lambda: servers[0].shows(1), "1", servers)
    assert any(line.startswith("not added: invalid literal") for line in servers[0].lines())


def test_example_fits_on_a_screen() -> None:
    """It promises to be short."""
    assert len(_PROGRAM.read_text().splitlines()) < _LINES
