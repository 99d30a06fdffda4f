"""The program: global flags, the list of commands, and its end.

Every failure arrives here as `Failed`, with its words and its exit code.
"""

import os
import sys
from typing import Any, Final

import click

from pyetcd.ctl import auth, health, keys, member, role, snapshot, snapshot_import, user, watch
from pyetcd.ctl.grammar import BAD_ARGUMENTS, GoGroup, UnknownFlag, duration, string, switch
from pyetcd.ctl.session import Failed, Settings

# As a shell reports a program that SIGINT has ended.
INTERRUPTED: Final = 130


@click.group("pyetcdctl", cls=GoGroup, context_settings={"help_option_names": ["-h", "--help"]})
@switch("--debug", text="output cURL commands which can be used to reproduce the request")
@switch("--no-sync", text="don't synchronize cluster information before sending request")
@click.option(
    "--output",
    "-o",
    default="simple",
    help="output response in the given format (simple, extended or json)",
)
@string("--discovery-srv", "-D", text="domain name to query for SRV records of the cluster")
@string("--peers", "-C", text='DEPRECATED - "--endpoints" should be used instead')
@string("--endpoint", text='DEPRECATED - "--endpoints" should be used instead')
@string("--endpoints", text="a comma-delimited list of machine addresses in the cluster")
@string("--cert-file", text="identify HTTPS client using this SSL certificate file")
@string("--key-file", text="identify HTTPS client using this SSL key file")
@string("--ca-file", text="verify certificates of HTTPS-enabled servers using this CA bundle")
@string("--username", "-u", text="username[:password]; prompts for a missing password")
@duration("--timeout", default="1s", text="connection timeout per request")
@duration(
    "--total-timeout",
    default="5s",
    text="timeout for the command execution (except watch)",
)
@click.version_option(
    None, "--version", "-v", package_name="pyetcd", message="%(prog)s version %(version)s"
)
@click.pass_context
def pyetcdctl(ctx: click.Context, /, **flags: Any) -> None:
    """A command line client for etcd 2."""
    ctx.obj = Settings(**flags, environment=dict(os.environ))


for module in (health, keys, watch, member, snapshot_import, user, role, auth, snapshot):
    for command in module.COMMANDS:
        pyetcdctl.add_command(command)


def main() -> None:
    """Run pyetcdctl with this process's arguments."""
    # Keys and values are bytes; what came in as raw bytes goes out as such.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    sys.exit(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        code = pyetcdctl.main(args, prog_name="pyetcdctl", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.UsageError as error:
        click.echo(f"Incorrect Usage: {error.message}\n")
        if error.ctx is not None:
            click.echo(error.ctx.command.get_help(error.ctx))
        click.echo(error.message, err=True)
        if isinstance(error, UnknownFlag) and error.hint:
            click.echo(error.hint, err=True)
        return BAD_ARGUMENTS
    except Failed as failure:
        click.echo(failure.text, err=True, nl=False)
        return failure.code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads any more; the interpreter must not try to flush once again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BAD_ARGUMENTS
