"""The command line is read as Go reads it."""

import click
import pytest

from pyetcd.ctl.grammar import parse_duration, split_arguments

PARAMS = [
    click.Option(["--ttl"], default="0"),
    click.Option(["--output", "-o"], default=""),
    click.Option(["--recursive"], is_flag=True),
]


@pytest.mark.parametrize(
    ("args", "flags", "arguments"),
    [
        (["k", "v"], [], ["k", "v"]),
        (["-ttl", "5", "k"], ["--ttl=5"], ["k"]),
        (["k", "--ttl=5", "v"], ["--ttl=5"], ["k", "v"]),
        (["--ttl", "-5", "k"], ["--ttl=-5"], ["k"]),
        (["-o", "json"], ["--output=json"], []),
        (["-o=", "k"], ["--output="], ["k"]),
        (["k", "--recursive"], ["--recursive"], ["k"]),
        (["-recursive=t", "--recursive=false"], ["--recursive"], []),
        (["k", "--", "-5", "--ttl"], [], ["k", "-5", "--ttl"]),
        (["-", "k"], [], ["-", "k"]),
        (["-ttl", "1", "-ttl", "2"], ["--ttl=1", "--ttl=2"], []),
    ],
)
def test_arguments_in_every_form_are_split(
    args: list[str], flags: list[str], arguments: list[str]
) -> None:
    """One dash or two, blank or equals sign, before or behind the arguments."""
    assert split_arguments(PARAMS, args, between=True) == (flags, arguments)


def test_arguments_of_a_group_end_at_the_name_of_the_command() -> None:
    """What follows belongs to that command."""
    split = split_arguments(PARAMS, ["-ttl", "1", "set", "-x"], between=False)
    assert split == (["--ttl=1"], ["set", "-x"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--bogus"], "flag provided but not defined: -bogus"),
        (["k", "-5"], "flag provided but not defined: -5"),
        (["---ttl", "5"], "flag provided but not defined: -ttl"),
        (["--ttl"], "flag needs an argument: -ttl"),
        (["--recursive=maybe"], 'invalid boolean value "maybe" for -recursive: parse error'),
    ],
)
def test_arguments_that_go_refuses_are_refused(args: list[str], message: str) -> None:
    """With Go's words."""
    with pytest.raises(click.UsageError) as caught:
        split_arguments(PARAMS, args, between=True)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("500ms", 0.5),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("0", 0.0),
        ("-2s", -2.0),
        ("+2us", 2e-6),
        ("", None),
        ("5", None),
        ("1x", None),
        ("s", None),
        ("1s ", None),
        ("1s5", None),
    ],
)
def test_duration_as_go_writes_it(text: str, seconds: float | None) -> None:
    """Units are required, but for 0."""
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds))
