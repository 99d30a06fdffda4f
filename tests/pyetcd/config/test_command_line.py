"""Command line and environment are read as etcd reads them."""

import logging

import pytest

from pyetcd.config import ConfigError, Note, ShowAndExit
from pyetcd.config.command_line import SYNTAX_STATUS, read
from pyetcd.urls import Urls

LOGGER = "pyetcd.config.command_line"


@pytest.mark.parametrize(
    "argv",
    [["-name", "a"], ["--name", "a"], ["-name=a"], ["--name=a"], ["-name", "b", "--name=a"]],
)
def test_flag_in_any_spelling_is_set_and_the_last_wins(argv: list[str]) -> None:
    """One dash or two, blank or equals sign."""
    settings = read(argv, {})
    assert settings.text("name") == "a"
    assert settings.explicit == {"name"}


def test_value_may_look_like_a_flag_or_have_equals_signs() -> None:
    """Only the first equals sign separates; the next word is the value, whatever it is."""
    assert read(["-name", "-x"], {}).text("name") == "-x"
    assert read(["-initial-cluster=a=http://a:1"], {}).text("initial-cluster") == "a=http://a:1"
    assert read(["-name="], {}).text("name") == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, True) for text in ("1", "t", "T", "TRUE", "true", "True")),
        *((text, False) for text in ("0", "f", "F", "FALSE", "false", "False")),
    ],
)
def test_switch_takes_the_values_that_go_takes(text: str, value: bool) -> None:
    """Twelve spellings, no more."""
    assert read([f"-debug={text}"], {}).switch("debug") is value


def test_switch_without_value_is_on_and_does_not_eat_the_next_word() -> None:
    """A switch needs an equals sign for its value."""
    settings = read(["-debug", "-name", "a"], {})
    assert settings.switch("debug")
    assert settings.text("name") == "a"


@pytest.mark.parametrize(
    ("text", "number"),
    [("10", 10), ("0x1F", 31), ("012", 10), ("0", 0), ("18446744073709551615", 2**64 - 1)],
)
def test_number_is_read_in_go_notation(text: str, number: int) -> None:
    """Hexadecimal and octal as in Go."""
    assert read(["-snapshot-count", text], {}).number("snapshot-count") == number


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["-nme", "a"], "flag provided but not defined: -nme; did you mean -name?"),
        (["-zzzzzz"], "flag provided but not defined: -zzzzzz; see pyetcd -help"),
        (["-name"], "flag needs an argument: -name; write -name VALUE"),
        (["---name"], "bad flag syntax: ---name; write -name"),
        (["-=a"], "bad flag syntax: -=a; write -name"),
        (["a"], "'a' is not a valid flag; see pyetcd -help"),
        (["discovry"], "'discovry' is not a valid flag; did you mean: pyetcd discovery?"),
        (["-"], "'-' is not a valid flag; see pyetcd -help"),
        ([""], "'' is not a valid flag; see pyetcd -help"),
        (["--", "-name"], "'-name' is not a valid flag; see pyetcd -help"),
        (
            ["-debug", "true"],
            "'true' is not a valid flag; write a switch with its value as -debug=true",
        ),
        (
            ["-listen-peer-urls", "http://a:1,", "http://b:1"],
            'invalid value "http://a:1," for flag -listen-peer-urls: URL scheme must be http or'
            " https: ; write http://localhost:2380",
        ),
        (
            ["-initial-cluster", "a=http://a:1,", "b=http://b:1"],
            "'b=http://b:1' is not a valid flag; write a list of URLs without blanks",
        ),
        (["-debug=yes"], 'invalid value "yes" for flag -debug: write true or false'),
        (
            ["-snapshot-count", "1_0"],
            'invalid value "1_0" for flag -snapshot-count: write a whole number, such as 100',
        ),
        (
            ["-snapshot-count", "18446744073709551616"],
            'invalid value "18446744073709551616" for flag -snapshot-count:'
            " the largest number is 18446744073709551615",
        ),
        (["-proxy", "yes"], 'invalid value "yes" for flag -proxy: write off or readonly or on'),
        (
            ["-addr", "localhost:4001"],
            'invalid value "localhost:4001" for flag -addr: write IP:PORT, such as 127.0.0.1:2379',
        ),
        (
            ["-peers", "a:1"],
            'invalid value "a:1" for flag -peers: flag "-peers" is no longer supported;'
            " use -initial-cluster instead",
        ),
        (
            ["-name", "a", "-snapshot-count", "1\n2"],
            'invalid value "1\\n2" for flag -snapshot-count: write a whole number, such as 100',
        ),
    ],
)
def test_wrong_command_line_is_one_line_and_status_2(argv: list[str], line: str) -> None:
    """Each mistake has a line that says what to type instead."""
    with pytest.raises(ConfigError) as caught:
        read(argv, {})
    assert str(caught.value) == line
    assert caught.value.exit_status == SYNTAX_STATUS


def test_number_of_thousands_of_digits_is_an_error() -> None:
    """Python itself refuses to convert those."""
    with pytest.raises(ConfigError, match="the largest number is"):
        read(["-snapshot-count", "9" * 5000], {})


def test_two_dashes_end_the_flags() -> None:
    """As in Go; nothing may follow."""
    assert read(["-name", "a", "--"], {}).text("name") == "a"


@pytest.mark.parametrize(
    ("text", "value"),
    [("127.0.0.1:4001", "127.0.0.1:4001"), ("[::0]:1", "[::]:1"), (" 1.2.3.4:5 ", "1.2.3.4:5")],
)
def test_address_is_ip_and_port(text: str, value: str) -> None:
    """The flags of etcd 0.4 take no host names."""
    assert read(["-addr", text], {}).text("addr") == value


def test_environment_sets_a_flag_and_says_so() -> None:
    """An operator sees in the log where a value came from."""
    settings = read([], {"ETCD_NAME": "a", "PATH": "/bin"})
    assert settings.text("name") == "a"
    assert settings.explicit == {"name"}
    text = "recognized and used environment variable ETCD_NAME=a"
    assert settings.notes == [Note(LOGGER, logging.INFO, text)]


def test_environment_is_beaten_by_the_command_line() -> None:
    """Even a wrong variable does not matter then."""
    settings = read(["-snapshot-count", "5"], {"ETCD_SNAPSHOT_COUNT": "many"})
    assert settings.number("snapshot-count") == 5
    assert [note.text for note in settings.notes] == [
        "recognized environment variable ETCD_SNAPSHOT_COUNT, but unused: "
        "shadowed by corresponding flag"
    ]


def test_environment_with_an_empty_variable_sets_nothing() -> None:
    """As in etcd: an empty variable counts as absent."""
    settings = read([], {"ETCD_NAME": ""})
    assert settings.explicit == set()
    assert settings.notes == []


def test_environment_with_an_unknown_variable_only_warns() -> None:
    """Containers have ETCD_ variables of their own."""
    settings = read([], {"ETCD_VERSION": "", "ETCD_SERVICE_HOST": "10.0.0.1"})
    assert settings.notes == [
        Note(
            LOGGER,
            logging.WARNING,
            "unrecognized environment variable ETCD_SERVICE_HOST",
        )
    ]


def test_environment_with_a_wrong_value_names_the_variable() -> None:
    """The user must know where to look."""
    with pytest.raises(ConfigError) as caught:
        read([], {"ETCD_DEBUG": "yes"})
    assert str(caught.value) == 'invalid value "yes" for ETCD_DEBUG: write true or false'
    assert caught.value.exit_status == 1


@pytest.mark.parametrize("word", ["-h", "--h", "-help", "--help"])
def test_help_shows_the_flags(word: str) -> None:
    """Whatever else is on the command line."""
    with pytest.raises(ShowAndExit) as caught:
        read(["-name", "a", word, "nonsense"], {})
    assert "-initial-cluster-token 'etcd-cluster'" in caught.value.text


def test_version_shows_that_of_etcd_first() -> None:
    """Scripts read the first line."""
    with pytest.raises(ShowAndExit) as caught:
        read(["--version"], {})
    assert caught.value.text.startswith("etcd Version: 2.3.8\npyetcd Version: ")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["-experimental-v3demo"],
            "-experimental-v3demo is not supported: pyetcd speaks the v2 API",
        ),
    ],
)
def test_unsupported_flag_is_refused(argv: list[str], line: str) -> None:
    """A member that ignored such a flag would do something else than it was told."""
    with pytest.raises(ConfigError) as caught:
        read(argv, {}).check_support()
    assert str(caught.value) == line


@pytest.mark.parametrize("argv", [["-proxy", "off"], ["-force-new-cluster=false"], ["-ca-file="]])
def test_unsupported_flag_with_its_default_is_accepted(argv: list[str]) -> None:
    """It asks for nothing."""
    settings = read(argv, {})
    settings.check_support()
    assert settings.notes == []


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["-enable-pprof"],
            "-enable-pprof has no effect: such profiles are a feature of Go programs",
        ),
        (["-vv"], 'flag "-vv" is no longer supported - ignoring.'),
        (["-snapshot=true"], 'flag "-snapshot" is no longer supported - ignoring.'),
    ],
)
def test_flag_without_effect_says_so(argv: list[str], line: str) -> None:
    """The command line works, and nobody waits for what will not come."""
    settings = read(argv, {})
    settings.check_support()
    assert settings.notes == [Note(LOGGER, logging.WARNING, line)]


def test_urls_are_sorted() -> None:
    """The order on the command line means nothing."""
    urls: Urls = read(["-listen-peer-urls", "http://b:2,http://a:1"], {}).urls("listen-peer-urls")
    assert urls == ("http://a:1", "http://b:2")
