"""Log lines have etcd's form, and levels go by etcd's packages."""

import io
import logging
import re
import time
from collections.abc import Iterator

import pytest

from pyetcd import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A stream for the log; the loggers are afterwards as they were."""
    names = [*logs.PACKAGES, *logs.LIBRARIES]
    loggers = [logging.getLogger(name) for name in names]
    before = [(one, one.level, one.propagate, list(one.handlers)) for one in loggers]
    yield io.StringIO()
    for one, level, propagate, handlers in before:
        one.setLevel(level)
        one.propagate = propagate
        one.handlers[:] = handlers


def test_line_has_date_letter_and_package(stream: io.StringIO) -> None:
    """Scripts cut lines at these places."""
    logs.setup(stream=stream)
    logging.getLogger("pyetcd.server.apply").info("name = %s", "default")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} I \| etcdserver: name = default\n",
        stream.getvalue(),
    )


def test_line_shows_local_time_with_microseconds() -> None:
    """Two lines of one second share the date but not the fraction."""
    handler = logs.LineHandler(io.StringIO())
    record = logging.LogRecord("raft", logging.INFO, "", 0, "text", (), None)
    stamps = []
    for created in (1_000_000_000.25, 1_000_000_000.5, 1_000_000_001.0):
        record.created = created
        stamps.append(handler.line(record).partition(" I ")[0])
    day = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1_000_000_000))
    next_second = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1_000_000_001))
    assert stamps == [f"{day}.250000", f"{day}.500000", f"{next_second}.000000"]


@pytest.mark.parametrize(
    ("level", "letter"),
    [
        (logs.TRACE, "T"),
        (logging.DEBUG, "D"),
        (logging.INFO, "I"),
        (logs.NOTICE, "N"),
        (logging.WARNING, "W"),
        (logging.ERROR, "E"),
        (logging.CRITICAL, "C"),
    ],
)
def test_level_has_its_letter(stream: io.StringIO, level: int, letter: str) -> None:
    """Seven levels, seven letters."""
    logs.setup(package_levels={"*": logs.TRACE}, stream=stream)
    logging.getLogger("raft.core").log(level, "text")
    assert f" {letter} | raft: text\n" in stream.getvalue()


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("pyetcd.main", "etcdmain"),
        ("pyetcd.server.server", "etcdserver"),
        ("pyetcd.cluster", "etcdserver"),
        ("pyetcd.api.keys", "etcdhttp"),
        ("pyetcd.httpd.protocol", "etcdhttp"),
        ("pyetcd.store.store", "store"),
        ("pyetcd.config.config", "flags"),
        ("raft.core", "raft"),
        ("raft.wal", "wal"),
        ("raft.transport.peer", "rafthttp"),
        ("raft.walrus", "raft"),
        ("aiohttp.client", "aiohttp.client"),
    ],
)
def test_package_of_logger_is_that_of_its_longest_row(name: str, package: str) -> None:
    """A row covers what is below it, not what only begins with its letters."""
    assert logs.package_of(name) == package


def test_setup_without_debug_hides_debug_lines(stream: io.StringIO) -> None:
    """The level is checked by the logger, before a record is made."""
    logs.setup(stream=stream)
    assert not logging.getLogger("raft.core").isEnabledFor(logging.DEBUG)
    logs.setup(debug=True, stream=stream)
    assert logging.getLogger("raft.core").isEnabledFor(logging.DEBUG)


def test_setup_with_package_level_leaves_packages_below_it_alone(stream: io.StringIO) -> None:
    """rafthttp is no part of raft, although its logger is."""
    logs.setup(package_levels={"raft": logging.DEBUG, "etcdserver": logging.ERROR}, stream=stream)
    logging.getLogger("raft.core").debug("one")
    logging.getLogger("raft.transport.peer").debug("two")
    logging.getLogger("pyetcd.server").warning("three")
    logging.getLogger("pyetcd.main").info("four")
    assert [line.partition("| ")[2] for line in stream.getvalue().splitlines()] == [
        "raft: one",
        "etcdmain: four",
    ]


def test_setup_twice_writes_each_line_once(stream: io.StringIO) -> None:
    """The second setup replaces the first."""
    logs.setup(stream=io.StringIO())
    logs.setup(stream=stream)
    logging.getLogger("raft").info("once")
    assert stream.getvalue().count("once") == 1


def test_line_with_exception_has_its_traceback(stream: io.StringIO) -> None:
    """The traceback of a crash must not get lost."""
    logs.setup(stream=stream)
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("pyetcd.main").exception("died\n")
    assert re.search(
        r"E \| etcdmain: died\nTraceback .*\nValueError: why\n$", stream.getvalue(), re.S
    )


def test_log_to_a_closed_stream_is_lost_without_an_error(stream: io.StringIO) -> None:
    """A member whose standard error was closed goes on."""
    logs.setup(stream=stream)
    stream.close()
    logging.getLogger("raft").info("lost")


def test_parse_package_levels_takes_all_spellings() -> None:
    """Words, letters and digits mean the same levels."""
    assert logs.parse_package_levels("a=DEBUG,b=D,c=4,*=NOTICE") == {
        "a": logging.DEBUG,
        "b": logging.DEBUG,
        "c": logging.DEBUG,
        "*": logs.NOTICE,
    }
    assert logs.parse_package_levels("") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raft", "oddly structured `pkg=level` option: raft"),
        ("raft=a=b", "oddly structured `pkg=level` option: raft=a=b"),
        ("raft=debug", "couldn't parse log level debug"),
    ],
)
def test_parse_package_levels_of_a_wrong_text_is_an_error(text: str, message: str) -> None:
    """The messages are etcd's."""
    with pytest.raises(logs.LevelsError) as caught:
        logs.parse_package_levels(text)
    assert str(caught.value) == message
