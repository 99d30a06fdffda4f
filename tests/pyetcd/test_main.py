"""Proves how the program starts and ends: refusals, exit codes, signals, and its death."""

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyetcd.bootstrap import BootstrapError
from pyetcd.httpd import ListenError
from pyetcd.main import _on_loop_exception, run
from pyetcd.version import ETCD_VERSION
from raft import RaftError
from tests.cluster.processes import OTHER_SERVER, Member

# A process that takes longer is stuck.
PROCESS_SECONDS = 30


@pytest.fixture(autouse=True)
def process_as_before() -> Iterator[None]:
    """Put back what `run` changes in its process."""
    handlers = {it: signal.getsignal(it) for it in (signal.SIGTERM, signal.SIGINT)}
    yield
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
    gc.unfreeze()


class Service:
    """Something that runs until it is told to stop."""

    def __init__(self) -> None:
        self.started = False
        self.stopped = False
        self.on_end: Callable[[], None] = lambda: None
        # What is to be done once it runs.
        self.then: Callable[[], None] = lambda: None

    async def start(self, on_end: Callable[[], None]) -> "Service":
        self.started = True
        self.on_end = on_end
        asyncio.get_running_loop().call_soon(self.then)
        return self

    async def stop(self) -> None:
        self.stopped = True


def send(signum: signal.Signals) -> Callable[[], None]:
    """What sends this signal to this process."""
    return lambda: os.kill(os.getpid(), signum)


# ------------------------------------------------------------------------------------ in process


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_program_in_order(signum: signal.Signals, caplog: pytest.LogCaptureFixture):
    """It is stopped, the exit status is 0, and a second signal would end it at once."""
    caplog.set_level(logging.INFO)
    service = Service()
    service.then = send(signum)
    assert asyncio.run(run(service.start)) == 0
    assert service.stopped
    assert f"received {signal.strsignal(signum)} signal, shutting down..." in caplog.text
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_program_ends_when_what_runs_has_reason_to():
    """A member that was removed ends by itself."""
    service = Service()
    service.then = lambda: service.on_end()
    assert asyncio.run(run(service.start)) == 0
    assert service.stopped


def test_signal_during_the_start_gives_it_up():
    """It may wait for other members for ever."""
    cancelled: list[bool] = []

    async def start(on_end: Callable[[], None]) -> Service:
        asyncio.get_running_loop().call_soon(send(signal.SIGTERM))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        raise AssertionError("nothing wakes it")

    assert asyncio.run(run(start)) == 0
    assert cancelled == [True]


@pytest.mark.parametrize(
    "error",
    [
        BootstrapError("member exists"),
        ListenError("listen tcp 127.0.0.1:1: bind: permission denied"),
        RaftError("the log ends too early"),
        OSError(13, "Permission denied"),
    ],
)
def test_start_that_fails_is_one_line_and_status_1(
    error: Exception, caplog: pytest.LogCaptureFixture
):
    """No stack of calls: the user can put it right."""

    async def start(on_end: Callable[[], None]) -> Service:
        raise error

    assert asyncio.run(run(start)) == 1
    (record,) = caplog.records
    assert (record.levelno, record.getMessage(), record.exc_info) == (
        logging.CRITICAL,
        str(error),
        None,
    )


def test_bug_during_the_start_is_shown_whole():
    """It is no message for users."""

    async def start(on_end: Callable[[], None]) -> Service:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        asyncio.run(run(start))


def test_what_was_loaded_is_kept_from_the_garbage_collector():
    """Nothing that frees memory needs to look at it again."""
    frozen: list[int] = []

    async def start(on_end: Callable[[], None]) -> Service:
        service = Service()
        asyncio.get_running_loop().call_later(
            0, lambda: (frozen.append(gc.get_freeze_count()), on_end())
        )
        return service

    gc.unfreeze()
    asyncio.run(run(start))
    assert frozen[0] > 1_000


def test_broken_connection_in_a_callback_is_a_warning(caplog: pytest.LogCaptureFixture):
    """The network may do that; it is no bug."""
    loop = asyncio.new_event_loop()
    _on_loop_exception(loop, {"message": "Fatal error", "exception": ConnectionResetError("gone")})
    _on_loop_exception(loop, {"message": "Task was destroyed"})
    loop.close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "Fatal error: gone" in caplog.text


# ------------------------------------------------------------------------------------ processes


def execute(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, without etcd's variables."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("ETCD")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PROCESS_SECONDS,
        check=False,
    )


def names_in(directory: Path) -> list[str]:
    """What is in a directory."""
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["-O", "-OO"])
def test_optimized_python_is_refused(tmp_path: Path, flag: str):
    """It would run without the assertions that guard the data."""
    done = execute(flag, "-m", "pyetcd", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("pyetcd: python -O removes the checks")
    assert names_in(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "text"), [("-version", f"etcd Version: {ETCD_VERSION}"), ("-help", "-data-dir")]
)
def test_version_and_help_are_shown(tmp_path: Path, flag: str, text: str):
    """On standard output, and nothing else happens."""
    done = execute("-m", "pyetcd", flag, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert text in done.stdout
    assert names_in(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["-no-such-flag"], "no-such-flag"),
        (["-heartbeat-interval", "0"], "-heartbeat-interval"),
        (["-data-dir", "d", "-initial-cluster", "other=http://127.0.0.1:1"], "-initial-cluster"),
    ],
)
def test_mistake_is_named_and_nothing_is_written(
    tmp_path: Path, arguments: list[str], culprit: str
):
    """The last line tells what to change."""
    done = execute("-m", "pyetcd", *arguments, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert culprit in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert names_in(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("where", ["die", "loop"])
def test_death_is_at_once_and_tells_why(tmp_path: Path, where: str):
    """From whatever thread, in whatever state: the process ends with status 1."""
    script = {
        "die": "from pyetcd.main import die; die(OSError(5, 'the disk is broken'))",
        "loop": (
            "from pyetcd.main import _on_loop_exception as on;"
            "on(None, {'exception': AssertionError('the disk is broken')})"
        ),
    }[where]
    done = execute("-c", script + "; print('alive')", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pyetcd must stop" in done.stderr
    assert "the disk is broken" in done.stderr


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    """A process that is not started yet."""
    member = Member("solo", tmp_path)
    member.flags += ["-initial-cluster", f"solo={member.peer_url}"]
    yield member
    member.close()


@pytest.mark.slow
@pytest.mark.skipif(OTHER_SERVER, reason="only one in the place of etcd is meant")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_a_real_process(member: Member, signum: signal.Signals):
    """In order, and soon; what it had is there at the next start."""
    member.start()
    member.wait_serving()
    member.put("k", "v")
    assert member.process is not None
    member.process.send_signal(signum)
    assert member.wait_exit(PROCESS_SECONDS) == 0
    member.start()
    member.wait_serving()
    assert member.value("k") == "v"
