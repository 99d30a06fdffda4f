"""The command line as Go's flag package reads it, on click.

One dash or two, `-flag value` or `-flag=value`, `-switch=false`; flags before, between and behind
the arguments, until `--`. What follows a flag that takes a value is its value, dash or not.
Wrong usage is told on stderr, with the help on stdout, and exit code 1. Knows no etcd.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import click

BAD_ARGUMENTS: Final = 1
UNKNOWN_COMMAND: Final = 3

_SWITCH: Final = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
_UNIT_SECONDS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_DURATION_PART: Final = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|ms|s|m|h)")


class UnknownFlag(click.UsageError):
    """A flag that the command does not have; `hint` is what was meant, perhaps."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"flag provided but not defined: -{name}")
        close = difflib.get_close_matches(name, known, n=1)
        dashes = "--" if close and len(close[0]) > 1 else "-"
        self.hint = f"did you mean {dashes}{close[0]}?" if close else ""


class GoCommand(click.Command):
    """A command without commands below it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Bring the arguments into the one form that click takes, and let it parse them."""
        flags, arguments = split_arguments(self.get_params(ctx), args, between=True)
        return super().parse_args(ctx, [*flags, "--", *arguments])


class GoGroup(click.Group):
    """A command that has commands; its flags stand before their names."""

    command_class = GoCommand

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the flags up to the name of a command; without one, show the help."""
        flags, arguments = split_arguments(self.get_params(ctx), args, between=False)
        if arguments and arguments[0] in ("help", "h") and arguments[0] not in self.commands:
            self._help(ctx, arguments[1:])
        return super().parse_args(ctx, [*flags, "--", *(arguments or ["--help"])])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is told as etcdctl does."""
        if args[0] == "--help":
            click.echo(self.get_help(ctx))
            ctx.exit()
        if self.get_command(ctx, args[0]) is None:
            click.echo(f"No help topic for '{args[0]}'", err=True)
            close = difflib.get_close_matches(args[0], self.commands, n=1)
            hint = f"did you mean {close[0]}?" if close else f"see {ctx.command_path} --help"
            click.echo(hint, err=True)
            ctx.exit(UNKNOWN_COMMAND)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which they were added."""
        return list(self.commands)

    def _help(self, ctx: click.Context, names: Sequence[str]) -> None:
        if not names:
            click.echo(self.get_help(ctx))
            ctx.exit()
        _, command, _ = self.resolve_command(ctx, list(names))
        assert command is not None, f"no command {names[0]}, and nobody said so"
        with click.Context(command, ctx, names[0]) as below:
            click.echo(command.get_help(below))
        ctx.exit()


def arguments(usage: str) -> Callable[[Any], Any]:
    """Declare the arguments; the command itself says which are missing, in etcdctl's words."""
    return click.argument("args", nargs=-1, metavar=usage)


def string(*names: str, text: str) -> Callable[[Any], Any]:
    """Declare a flag with a value."""
    return click.option(*names, default="", help=text)


def strings(*names: str, text: str) -> Callable[[Any], Any]:
    """Declare a flag with a value that may be given more than once."""
    return click.option(*names, multiple=True, help=text)


def switch(*names: str, text: str) -> Callable[[Any], Any]:
    """Declare a flag without a value."""
    return click.option(*names, is_flag=True, help=text)


def number(*names: str, text: str, default: int = 0) -> Callable[[Any], Any]:
    """Declare a flag with a number."""
    return click.option(*names, default=str(default), callback=_to_number, help=text)


def duration(*names: str, text: str, default: str) -> Callable[[Any], Any]:
    """Declare a flag with a length of time: 500ms, 1m30s, 0; the command gets seconds."""
    return click.option(*names, default=default, callback=_to_seconds, help=text)


def parse_duration(text: str) -> float | None:
    """Return the seconds of a duration in Go's form; None if it has another."""
    if text in ("0", "+0", "-0"):
        return 0.0
    sign, digits = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    parts = _DURATION_PART.findall(digits)
    if not parts or "".join(amount + unit for amount, unit in parts) != digits:
        return None
    return sign * sum(float(amount) * _UNIT_SECONDS[unit] for amount, unit in parts)


def split_arguments(
    params: Sequence[click.Parameter], args: Sequence[str], *, between: bool
) -> tuple[list[str], list[str]]:
    """Return the flags, each as one `--flag=value` or `--switch`, and the other arguments.

    With `between`, flags may stand behind arguments. Raises UnknownFlag for one that is none of
    the parameters, and UsageError.
    """
    options = _options(params)
    flags: list[str] = []
    arguments: list[str] = []
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        if arg == "--":
            return flags, arguments + rest
        if not arg.startswith("-") or arg == "-":
            arguments.append(arg)
            if not between:
                return flags, arguments + rest
            continue
        name, equals, value = arg.lstrip("-").partition("=")
        option = options.get(name)
        if option is None or arg.startswith("---"):
            raise UnknownFlag(name, options)
        spelled = max(option.opts, key=len)
        if not option.is_flag:
            if not equals:
                if not rest:
                    raise click.UsageError(f"flag needs an argument: -{name}")
                value = rest.pop(0)
            flags.append(f"{spelled}={value}")
        elif not equals or _switched_on(name, value):
            flags.append(spelled)
    return flags, arguments


def _switched_on(name: str, value: str) -> bool:
    if value not in _SWITCH:
        raise click.UsageError(f'invalid boolean value "{value}" for -{name}: parse error')
    return _SWITCH[value]


def _options(params: Sequence[click.Parameter]) -> Mapping[str, click.Option]:
    return {
        spelled.lstrip("-"): param
        for param in params
        if isinstance(param, click.Option)
        for spelled in param.opts
    }


def _to_number(_ctx: click.Context, param: click.Parameter, text: str) -> int:
    """Read a whole number, also a hexadecimal one."""
    try:
        return int(text, 0)
    except ValueError:
        raise _not_parsed(param, text) from None


def _to_seconds(_ctx: click.Context, param: click.Parameter, text: str) -> float:
    seconds = parse_duration(text)
    if seconds is None:
        raise _not_parsed(param, text)
    return seconds


def _not_parsed(param: click.Parameter, text: str) -> click.BadParameter:
    name = max(param.opts, key=len).lstrip("-")
    return click.BadParameter(f'invalid value "{text}" for flag -{name}: parse error')
