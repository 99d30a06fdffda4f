"""Proves that the loop is told of each write once, whether it has waited for it or not."""

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from raft import DiskStorage, HardState, StorageConfig, Write
from raft.files import NoRoom
from raft.loop_storage import DiskThread, LoopStorage
from tests.raft.node_world import PATIENCE_SECONDS, TroubledFiles, set_patience

LONG = PATIENCE_SECONDS


class Answers:
    """A loop, a thread, and what the one has told the other."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.deaths: list[BaseException] = []
        self.told: list[object] = []
        self.thread = DiskThread(self.loop, "test", self.deaths.append, self.lack_room)

    def lack_room(self, job: object, done: object) -> None:
        self.told.append((job, done))

    def turn(self) -> list[object]:
        """Let the loop do what it was told to; all of that so far."""
        self.loop.run_until_complete(asyncio.sleep(0))
        return self.told


@pytest.fixture
def answers() -> Iterator[Answers]:
    answers = Answers()
    yield answers
    answers.thread.stop()
    answers.loop.close()


def test_job_that_is_quick_is_waited_for(answers: Answers) -> None:
    """Nobody is called then."""
    done: list[int] = []
    assert answers.thread.run(partial(done.append, 1), partial(answers.told.append, 1), LONG)
    assert (done, answers.turn()) == ([1], [])


def test_job_that_takes_too_long_is_told_of_later(answers: Answers) -> None:
    """The loop has gone on meanwhile."""
    may_end = threading.Event()
    assert not answers.thread.run(may_end.wait, partial(answers.told.append, 1), 0.001)
    assert answers.turn() == []
    may_end.set()
    assert answers.thread.run(lambda: None, partial(answers.told.append, 2), LONG)
    assert answers.turn() == [1]


def test_job_that_ends_as_the_loop_gives_up_is_told_of_once(answers: Answers) -> None:
    """Either it was waited for, or it is told of, whoever is first."""
    rng = random.Random(1)
    waited = []
    for number in range(200):
        seconds = rng.uniform(0.0, 0.008)
        job = partial(time.sleep, seconds)
        if answers.thread.run(job, partial(answers.told.append, number), 0.004):
            waited.append(number)
        else:
            assert answers.thread.run(lambda: None, lambda: None, LONG)
    told = answers.turn()
    assert sorted([*waited, *told]) == list(range(200))
    assert waited
    assert told


def test_job_that_lacks_room_is_given_to_the_loop(answers: Answers) -> None:
    """Although it has ended within the time: it is not done."""

    def job() -> None:
        raise NoRoom(28, "full")

    def done() -> None:
        pass

    assert not answers.thread.run(job, done, 0.01)
    assert answers.turn() == [(job, done)]
    assert answers.deaths == []


def test_job_that_fails_is_our_death(answers: Answers) -> None:
    """And is not done."""

    def job() -> None:
        raise OSError(5, "broken")

    assert not answers.thread.run(job, partial(answers.told.append, 1), 0.01)
    assert answers.turn() == []
    (error,) = answers.deaths
    assert isinstance(error, OSError)


def test_disk_thread_of_a_closed_loop_ends():
    """Nobody waits for the answer any more, and nobody dies of it."""
    loop = asyncio.new_event_loop()
    loop.close()
    deaths: list[BaseException] = []
    done: list[int] = []
    thread = DiskThread(loop, "test", deaths.append)
    thread.submit(lambda: done.append(1), lambda: None)
    thread.stop()
    assert (done, deaths) == ([1], [])


def test_loop_waits_for_no_write_after_a_slow_one_until_one_is_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk holds the loop up once, for two milliseconds at most."""
    # Longer than a busy machine makes a quick write take.
    set_patience(monkeypatch, 0.5)
    files = TroubledFiles()
    disk = DiskStorage.create(StorageConfig(tmp_path / "data"), b"", files)
    loop = asyncio.new_event_loop()
    deaths: list[BaseException] = []
    told: list[int] = []
    watched: list[int] = []
    storage = LoopStorage(
        *(disk, loop, deaths.append, lambda step: step()),
        watch=lambda: watched.append(1),
        on_filled=lambda _: None,
    )

    def write(term: int) -> bool:
        return storage.write(Write(HardState(term, 0, 0), [], None, []), partial(told.append, term))

    def wait_for(term: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while term not in told and time.monotonic() < deadline:
            loop.run_until_complete(asyncio.sleep(0.001))

    assert write(1)
    assert watched
    files.may_write.clear()
    assert not write(100)
    time.sleep(0.01)
    files.may_write.set()
    wait_for(100)
    assert not write(101)
    wait_for(101)
    assert write(102)
    # What is not quick, but has ended while the loop waited, is the last that it waited for.
    monkeypatch.setattr("raft.loop_storage.QUICK_SECONDS", 0.0)
    assert write(103)
    assert not write(104)
    wait_for(104)
    loop.run_until_complete(storage.stop())
    loop.close()
    assert deaths == []
