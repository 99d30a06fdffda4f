"""Log lines in etcd's form, on standard error, written out one by one.

    2016-01-25 19:01:02.123456 I | etcdserver: name = default

Scripts and test suites wait for such lines, so date, level letter and package name are etcd's. The
package is derived from the Python logger by `PACKAGES`: code logs to
`logging.getLogger(__name__)` and knows nothing of this file, except for the level NOTICE.

Never touches the root logger: pyetcd may run inside somebody else's program.
"""

import logging
import sys
import time
from collections.abc import Mapping
from typing import Final, TextIO

TRACE: Final = 5
# Normal but worth noticing; between info and warning, as in etcd.
NOTICE: Final = 25

LETTERS: Final = {
    TRACE: "T",
    logging.DEBUG: "D",
    logging.INFO: "I",
    NOTICE: "N",
    logging.WARNING: "W",
    logging.ERROR: "E",
    logging.CRITICAL: "C",
}

# Python logger -> etcd package, for `-log-package-levels` and for the line itself. A logger belongs
# to the longest row that is itself or a parent of it.
PACKAGES: Final = {
    "pyetcd": "etcdmain",
    "pyetcd.api": "etcdhttp",
    "pyetcd.auth": "auth",
    "pyetcd.bootstrap": "etcdserver",
    "pyetcd.bootstrap.discovery": "discovery",
    "pyetcd.bootstrap.srv": "discovery",
    "pyetcd.cluster": "etcdserver",
    "pyetcd.config": "flags",
    "pyetcd.httpd": "etcdhttp",
    "pyetcd.proxy": "proxy",
    "pyetcd.server": "etcdserver",
    "pyetcd.store": "store",
    "raft": "raft",
    "raft.snapshots": "snap",
    "raft.transport": "rafthttp",
    "raft.wal": "wal",
}

# Libraries whose complaints belong into the same log; their info lines are per request.
LIBRARIES: Final = ("aiohttp", "asyncio")

# All spellings that etcd takes for a level.
_LEVELS: Final = {
    spelling: level
    for level, spellings in {
        logging.CRITICAL: ("CRITICAL", "C"),
        logging.ERROR: ("ERROR", "E", "0"),
        logging.WARNING: ("WARNING", "W", "1"),
        NOTICE: ("NOTICE", "N", "2"),
        logging.INFO: ("INFO", "I", "3"),
        logging.DEBUG: ("DEBUG", "D", "4"),
        TRACE: ("TRACE", "T", "5"),
    }.items()
    for spelling in spellings
}


class LevelsError(ValueError):
    """A `-log-package-levels` that cannot be read; the message is etcd's."""


class LineHandler(logging.Handler):
    """Writes each record as one line (a traceback as more) and flushes it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        # The date is formatted once a second, not once a line.
        self._second = -1
        self._stamp = ""
        self._packages: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a log that cannot be written is lost, never an error of the caller."""
        line = self.line(record)
        try:
            self._stream.write(line)
            self._stream.flush()
        except (OSError, ValueError):
            pass  # standard error is closed: there is nowhere left to complain

    def line(self, record: logging.LogRecord) -> str:
        """Return the record as the text that is written, with its newline."""
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        microseconds = int((record.created - second) * 1_000_000)
        package = self._packages.get(record.name)
        if package is None:
            package = self._packages[record.name] = package_of(record.name)
        text = record.getMessage().removesuffix("\n")
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        letter = LETTERS.get(record.levelno, "?")
        return f"{self._stamp}.{microseconds:06d} {letter} | {package}: {text}\n"


def setup(
    *,
    debug: bool = False,
    package_levels: Mapping[str, int] | None = None,
    stream: TextIO | None = None,
) -> LineHandler:
    """Send the lines of pyetcd and raft to the stream (standard error) at the levels given.

    Calling it again replaces what the last call set up.
    """
    handler = LineHandler(sys.stderr if stream is None else stream)
    levels = package_levels or {}
    default = levels.get("*", logging.DEBUG if debug else logging.INFO)
    logging.addLevelName(NOTICE, "NOTICE")
    logging.addLevelName(TRACE, "TRACE")
    # Every row gets a level of its own: `raft=DEBUG` must not make rafthttp talkative.
    for name, package in PACKAGES.items():
        logging.getLogger(name).setLevel(levels.get(package, default))
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("pyetcd", "raft", *LIBRARIES):
        logger = logging.getLogger(name)
        for old in [old for old in logger.handlers if isinstance(old, LineHandler)]:
            logger.removeHandler(old)
        logger.addHandler(handler)
        logger.propagate = False
    return handler


def parse_package_levels(text: str) -> dict[str, int]:
    """Parse `PACKAGE=LEVEL,PACKAGE=LEVEL`; the package `*` stands for all others.

    Raises LevelsError.
    """
    levels: dict[str, int] = {}
    for setting in text.split(",") if text else ():
        parts = setting.split("=")
        if len(parts) != 2:
            raise LevelsError(f"oddly structured `pkg=level` option: {setting}")
        level = _LEVELS.get(parts[1])
        if level is None:
            raise LevelsError(f"couldn't parse log level {parts[1]}")
        levels[parts[0]] = level
    return levels


def package_of(name: str) -> str:
    """Return the etcd package that a Python logger's lines are shown under."""
    prefix = name
    while prefix:
        if prefix in PACKAGES:
            return PACKAGES[prefix]
        prefix = prefix.rpartition(".")[0]
    return name
