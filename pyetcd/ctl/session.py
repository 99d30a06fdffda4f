"""What all commands share: the global flags, a client made of them, and how failures end.

A command is a coroutine that gets a `Client`; `Session.run` syncs, runs it, and turns what it
raises into etcdctl's words on stderr and its exit codes. Settings come from flags first, then from
the environment.
"""

import asyncio
import enum
import getpass
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import click

from pyetcd.client import (
    DEFAULT_ENDPOINTS,
    BadSetting,
    Client,
    ClientError,
    NoEndpoints,
    Unavailable,
    discover,
    tls_context,
)
from pyetcd.errors import EtcdError
from pyetcd.urls import UrlError

Action: TypeAlias = Callable[[Client], Awaitable[None]]


class Exit(enum.IntEnum):
    """etcdctl's exit codes."""

    SUCCESS = 0
    BAD_ARGUMENTS = 1
    BAD_CONNECTION = 2
    BAD_AUTH = 3
    SERVER_ERROR = 4
    NOT_HEALTHY = 5


class Failed(Exception):
    """The end of a command that did not do what it should."""

    def __init__(self, code: int, text: str = "") -> None:
        """Keep the exit code and what to say on stderr, with its line breaks."""
        super().__init__(code, text)
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Settings:
    """The global flags, and the environment that stands in for them."""

    debug: bool
    no_sync: bool
    output: str
    discovery_srv: str
    peers: str
    endpoint: str
    endpoints: str
    cert_file: str
    key_file: str
    ca_file: str
    username: str
    # Seconds; 0 for no limit.
    timeout: float
    total_timeout: float
    environment: Mapping[str, str]

    def endpoint_list(self) -> list[str]:
        """Return the endpoints that flags or the environment name, or else the usual ones."""
        variable = self.environment.get
        text = (
            self.endpoints
            or variable("ETCDCTL_ENDPOINTS", "")
            or self.endpoint
            or variable("ETCDCTL_ENDPOINT", "")
            or self.peers
            or variable("ETCDCTL_PEERS", "")
        )
        return text.split(",") if text else list(DEFAULT_ENDPOINTS)

    def domain(self) -> str:
        """Return the domain whose SRV records name the endpoints; "" if there is none."""
        return self.discovery_srv or self.environment.get("ETCDCTL_DISCOVERY_SRV", "")

    def file(self, flag: str, variable: str) -> str:
        """Return a path from its flag or its variable."""
        return flag or self.environment.get(variable, "")


# The global flags' settings travel from the top command to the one that runs.
pass_settings: Final = click.make_pass_decorator(Settings)


class Session:
    """Runs what a command wants done."""

    def __init__(self, settings: Settings) -> None:
        """Keep the global flags."""
        self.settings = settings

    def run(
        self,
        action: Action,
        *,
        sync: bool = True,
        limited: bool = True,
        failing: Callable[[Exception], Failed] | None = None,
    ) -> None:
        """Run the action with a client; `limited` by the total time-out.

        `failing` says what a failure of the action is to the user; by default a line with
        `Error:` and exit code 4.
        """
        asyncio.run(self._run(action, sync, limited, failing or server_error))

    async def _run(
        self,
        action: Action,
        sync: bool,
        limited: bool,
        failing: Callable[[Exception], Failed],
    ) -> None:
        try:
            client = await self._client()
        except (BadSetting, NoEndpoints) as error:
            raise Failed(Exit.BAD_ARGUMENTS, f"{error}\n") from error
        async with client:
            if sync and not self.settings.no_sync:
                await self._sync(client)
            self._debug(f"Cluster-Endpoints: {', '.join(client.endpoints)}")
            try:
                async with asyncio.timeout(self._total() if limited else None):
                    await action(client)
            except (ClientError, EtcdError, UrlError, TimeoutError) as error:
                raise failing(error) from error

    async def _client(self) -> Client:
        settings = self.settings
        domain = settings.domain()
        endpoints = list(await discover(domain)) if domain else settings.endpoint_list()
        username, password = "", ""
        user = settings.username or settings.environment.get("ETCDCTL_USERNAME", "")
        if user:
            username, password = split_user(user, "Password: ")
        return Client(
            endpoints,
            username=username,
            password=password,
            tls=tls_context(
                ca_file=settings.file(settings.ca_file, "ETCDCTL_CA_FILE"),
                cert_file=settings.file(settings.cert_file, "ETCDCTL_CERT_FILE"),
                key_file=settings.file(settings.key_file, "ETCDCTL_KEY_FILE"),
            ),
            timeout_seconds=settings.timeout,
            trace=self._debug if settings.debug else None,
        )

    async def _sync(self, client: Client) -> None:
        """Ask the members for all their client URLs."""
        known = ",".join(client.endpoints)
        self._debug(f"start to sync cluster using endpoints({known})")
        try:
            async with asyncio.timeout(self._total()):
                await client.sync()
        except NoEndpoints as error:
            hint = (
                "etcd cluster has no published client endpoints.\n"
                "Try '--no-sync' if you want to access non-published client "
                f"endpoints({known}).\n"
            )
            raise Failed(Exit.SERVER_ERROR, hint + error_text(error)) from error
        except TimeoutError as error:
            raise Failed(Exit.BAD_CONNECTION, error_text(error)) from error
        except ClientError as error:
            if isinstance(error, Unavailable) and error.unreachable:
                raise Failed(Exit.BAD_CONNECTION, error_text(error)) from error
            # As etcdctl: somebody is there, and the command has its own way to fail.
            return
        self._debug(f"got endpoints({','.join(client.endpoints)}) after sync")

    def _total(self) -> float | None:
        return self.settings.total_timeout or None

    def _debug(self, line: str) -> None:
        if self.settings.debug:
            click.echo(line, err=True)


def server_error(error: Exception) -> Failed:
    """Say what went wrong as the commands on keys do."""
    return Failed(Exit.SERVER_ERROR, error_text(error))


def plain_error(error: Exception) -> Failed:
    """Say what went wrong as the commands on members, users and roles do, in one line."""
    text = describe(error)
    if isinstance(error, Unavailable):
        reasons = enumerate(attempt.reason for attempt in error.attempts)
        text += "".join(f"; error #{number}: {reason}" for number, reason in reasons)
    return Failed(Exit.BAD_ARGUMENTS, f"{text}\n")


def bad_arguments(text: str) -> Failed:
    """Say what is missing as the commands on keys do."""
    return Failed(Exit.BAD_ARGUMENTS, f"Error:  {text}\n")


def refuse(text: str) -> Failed:
    """Say what is missing as the commands on members, users and roles do."""
    return Failed(Exit.BAD_ARGUMENTS, f"{text}\n")


def describe(error: Exception) -> str:
    """Return an error in one line, in etcdctl's form."""
    match error:
        case EtcdError():
            return f"{error.code}: {error.message} ({error.cause}) [{error.index}]"
        case TimeoutError():
            return "context deadline exceeded"
        case _:
            return str(error)


def error_text(error: Exception) -> str:
    """Return an error as a line with `Error:`, and what each endpoint did."""
    text = f"Error:  {describe(error)}\n"
    if isinstance(error, Unavailable):
        reasons = (attempt.reason for attempt in error.attempts)
        text += "".join(f"error #{number}: {reason}\n" for number, reason in enumerate(reasons))
        if error.maybe_done:
            text += "the request may have been carried out\n"
        text += "\n"
    return text


def split_user(text: str, prompt: str) -> tuple[str, str]:
    """Return the name and the password of `name[:password]`; asks for what is missing."""
    name, colon, password = text.partition(":")
    return name, password if colon else ask_password(prompt)


def ask_password(prompt: str) -> str:
    """Return a password typed unseen, or the next line of a stdin that is no terminal."""
    if sys.stdin.isatty():
        return getpass.getpass(prompt)
    click.echo(prompt, nl=False)
    line = sys.stdin.readline()
    click.echo()
    if not line:
        raise Failed(Exit.BAD_ARGUMENTS, "Error reading password: EOF\n")
    return line.rstrip("\r\n")
