"""Reads command line and environment with the table of flags, as Go's flag package does.

One dash or two, `-flag value` or `-flag=value`, switches without a value, the last of several wins,
the command line beats the environment. No library parses this: click and argparse take `-name` for
`-n -a -m -e`.

Knows single flags only. Touches no file, logs nothing: what must be logged is returned as notes,
because the log is set up from the result.
"""

import ipaddress
import logging
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias, assert_never

from pyetcd.config.flags import FLAGS, SECTIONS, Flag, Kind, Support
from pyetcd.urls import (
    UrlError,
    Urls,
    address,
    parse_url_list,
    parse_urls,
    without_credentials,
)
from pyetcd.version import ETCD_VERSION, VERSION

# TEXT, CHOICE and ADDRESS give a str, NUMBER an int, SWITCH a bool, URLS a tuple.
Value: TypeAlias = str | int | bool | Urls

# Go's exit status for a command line that cannot be read.
SYNTAX_STATUS: Final = 2

_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "FALSE", "false", "False"))
# Go reads numbers in the notation of its source code: 10, 0x0a, 012.
_NUMBER: Final = re.compile(r"(0[xX](?P<hex>[0-9a-fA-F]+))|(?P<octal>0[0-7]+)|(?P<decimal>[0-9]+)")
_MAX_NUMBER: Final = 2**64 - 1


class ConfigError(Exception):
    """Flags that pyetcd cannot start with: one line, what is wrong and what to type instead."""

    def __init__(self, line: str, *, exit_status: int = 1) -> None:
        # What the user typed may contain newlines; the promise of one line is kept here. So is the
        # one that no password is shown.
        line = without_credentials(line)
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        super().__init__(shown)
        self.exit_status = exit_status


class ShowAndExit(Exception):
    """The command line asks for a text, the help or the version, and nothing else."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Note(NamedTuple):
    """A log line about the flags, to be logged once the log is set up."""

    logger: str
    level: int
    text: str


@dataclass(slots=True)
class Settings:
    """The value of every flag.

    Invariants:
      1. `values` has a value for each row of the table.
      2. `explicit` names the flags that command line or environment set.
    """

    values: dict[str, Value]
    explicit: set[str] = field(default_factory=set)
    notes: list[Note] = field(default_factory=list)

    def text(self, name: str) -> str:
        """Return the value of a flag of kind TEXT, CHOICE or ADDRESS."""
        value = self.values[name]
        assert isinstance(value, str), f"-{name} is {value!r}, not a text"
        return value

    def number(self, name: str) -> int:
        """Return the value of a flag of kind NUMBER."""
        value = self.values[name]
        assert isinstance(value, int), f"-{name} is {value!r}, not a number"
        return value

    def switch(self, name: str) -> bool:
        """Return the value of a flag of kind SWITCH."""
        value = self.values[name]
        assert isinstance(value, bool), f"-{name} is {value!r}, not a switch"
        return value

    def urls(self, name: str) -> Urls:
        """Return the value of a flag of kind URLS."""
        value = self.values[name]
        assert isinstance(value, tuple), f"-{name} is {value!r}, not URLs"
        return value

    def note(self, level: int, text: str, *, logger: str = __name__) -> None:
        """Remember a line for the log."""
        self.notes.append(Note(logger, level, text))

    def check_support(self) -> None:
        """Refuse flags this build cannot obey, and note those it accepts without effect.

        Raises ConfigError.
        """
        for name in sorted(self.explicit):
            row = FLAGS[name]
            if row.kind is Kind.IGNORED:
                self.note(logging.WARNING, f'flag "-{name}" is no longer supported - ignoring.')
            elif row.support is Support.NO_EFFECT:
                self.note(logging.WARNING, f"-{name} has no effect: {row.remark}")
            elif row.support is not Support.WORKS and self.values[name] != _value(row, row.default):
                raise ConfigError(f"-{name} {row.support.value}: {row.remark}")


def read(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read flags (without the program's name) and `ETCD_` variables.

    Raises ConfigError, and ShowAndExit for `-help` and `-version`.
    """
    settings = Settings({name: _value(row, row.default) for name, row in FLAGS.items()})
    _read_arguments(argv, settings)
    if settings.switch("version"):
        raise ShowAndExit(version_text())
    _read_environment(environ, settings)
    return settings


def version_text() -> str:
    """Return what `-version` prints; the first line is etcd's, scripts read it."""
    return (
        f"etcd Version: {ETCD_VERSION}\n"
        f"pyetcd Version: {VERSION}\n"
        f"Python Version: {sys.version.split()[0]}\n"
    )


def help_text() -> str:
    """Return what `-help` prints."""
    lines = [
        "usage: pyetcd [flags]",
        "       start a member of an etcd cluster",
        "",
        "       pyetcd discovery --help",
        "       run a discovery service, where new clusters find their members",
        "",
        "       pyetcd -version",
        "       pyetcd -h | -help",
        "",
        "A flag may have one dash or two. ETCD_DATA_DIR in the environment stands for -data-dir.",
    ]
    for section in SECTIONS:
        if section.in_help:
            lines += ["", f"{section.title} flags:", ""]
            lines += [section.about, ""] if section.about else []
            for row in section.flags:
                lines += [f"  -{row.name} '{row.default}'", f"        {row.description}"]
    return "\n".join(lines) + "\n"


def _read_arguments(argv: Sequence[str], settings: Settings) -> None:
    """Set what the command line says; a later flag replaces an earlier one."""
    words = iter(argv)
    for word in words:
        if len(word) < 2 or not word.startswith("-"):
            raise ConfigError(_stray(word), exit_status=SYNTAX_STATUS)
        if word == "--":
            rest = next(words, None)
            if rest is not None:
                raise ConfigError(_stray(rest), exit_status=SYNTAX_STATUS)
            return
        name, equals, text = word.removeprefix("-").removeprefix("-").partition("=")
        if not name or name.startswith("-"):
            raise ConfigError(f"bad flag syntax: {word}; write -name", exit_status=SYNTAX_STATUS)
        row = FLAGS.get(name)
        if row is None:
            if name in ("h", "help"):
                raise ShowAndExit(help_text())
            raise ConfigError(_unknown(name), exit_status=SYNTAX_STATUS)
        if not equals:
            given = "true" if row.is_switch else next(words, None)
            if given is None:
                line = f"flag needs an argument: -{name}; write -{name} VALUE"
                raise ConfigError(line, exit_status=SYNTAX_STATUS)
            text = given
        try:
            settings.values[name] = _value(row, text)
        except ValueError as error:
            line = f'invalid value "{text}" for flag -{name}: {error}'
            raise ConfigError(line, exit_status=SYNTAX_STATUS) from None
        settings.explicit.add(name)


def _read_environment(environ: Mapping[str, str], settings: Settings) -> None:
    """Set what only the environment says; an empty variable says nothing."""
    by_variable = {row.environment: row for row in FLAGS.values()}
    for variable, text in sorted(environ.items()):
        if not variable.startswith("ETCD_"):
            continue
        row = by_variable.get(variable)
        if row is None:
            # Without its value, which etcd shows: images keep passwords in such variables.
            settings.note(logging.WARNING, f"unrecognized environment variable {variable}")
        elif row.name in settings.explicit:
            settings.note(
                logging.INFO,
                f"recognized environment variable {variable}, but unused: "
                "shadowed by corresponding flag",
            )
        elif text:
            try:
                settings.values[row.name] = _value(row, text)
            except ValueError as error:
                raise ConfigError(f'invalid value "{text}" for {variable}: {error}') from None
            settings.explicit.add(row.name)
            settings.note(
                logging.INFO,
                f"recognized and used environment variable {variable}={without_credentials(text)}",
            )


def _value(row: Flag, text: str) -> Value:
    """Return the value that a text means for a flag.

    Raises ValueError whose message says what the text should be.
    """
    match row.kind:
        case Kind.TEXT:
            return text
        case Kind.NUMBER:
            return _number(text)
        case Kind.SWITCH:
            if text in _TRUE or text in _FALSE:
                return text in _TRUE
            raise ValueError("write true or false")
        case Kind.URLS:
            try:
                return parse_url_list(text)
            except UrlError as error:
                raise ValueError(f"{error}; write {row.default.split(',')[0]}") from None
        case Kind.CHOICE:
            if text in row.choices:
                return text
            raise ValueError(f"write {' or '.join(row.choices)}")
        case Kind.ADDRESS:
            return _address(text) if text else ""
        case Kind.IGNORED:
            return ""
        case Kind.GONE:
            if text == row.default:
                return ""
            raise ValueError(f'flag "-{row.name}" is no longer supported; {row.remark}')
        case unreachable:
            assert_never(unreachable)


def _number(text: str) -> int:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError("write a whole number, such as 100")
    if match["hex"] is not None:
        number = int(match["hex"], 16)
    elif match["octal"] is not None:
        number = int(match["octal"], 8)
    else:
        # Checked before the conversion, which Python refuses for thousands of digits.
        number = int(match["decimal"]) if len(match["decimal"]) <= 20 else _MAX_NUMBER + 1
    if number > _MAX_NUMBER:
        raise ValueError(f"the largest number is {_MAX_NUMBER}")
    return number


def _address(text: str) -> str:
    """Return IP:PORT in the form of a URL's authority."""
    try:
        host, port = address(parse_urls([f"http://{text.strip()}"])[0])
        parsed = ipaddress.ip_address(host)
    except ValueError:  # UrlError is one
        raise ValueError("write IP:PORT, such as 127.0.0.1:2379") from None
    return f"[{parsed}]:{port}" if parsed.version == 6 else f"{parsed}:{port}"


def _unknown(name: str) -> str:
    line = f"flag provided but not defined: -{name}"
    close = _closest(name, FLAGS)
    return f"{line}; did you mean -{close}?" if close else f"{line}; see pyetcd -help"


def _closest(word: str, known: Iterable[str]) -> str:
    """Return what was probably meant; "" if it is like none."""
    # Only a mistake needs it: every start would wait for it.
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(known), n=1)), "")


def _stray(word: str) -> str:
    """Explain a word that is neither flag nor value, by the mistake that it probably comes from."""
    line = f"'{word}' is not a valid flag"
    if word in _TRUE or word in _FALSE:
        return f"{line}; write a switch with its value as -debug={word}"
    if "://" in word:
        return f"{line}; write a list of URLs without blanks"
    if _closest(word, ["discovery"]):
        return f"{line}; did you mean: pyetcd discovery?"
    return f"{line}; see pyetcd -help"
