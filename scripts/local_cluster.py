"""Three members on this machine: infra0, infra1 and infra2, with the flags of etcd's guide.

    python scripts/local_cluster.py                 start them; Ctrl-C ends them
    python scripts/local_cluster.py kill infra0     from another terminal: kill one
    python scripts/local_cluster.py start infra0    and start it again

Clients reach the members at ports 2379, 3379 and 4379, the members each other at 2380, 3380 and
4380. All logs come out in the first terminal. The data stays in ./local-cluster: the next start
goes on with it. `kill` and `start` reach the first terminal through a Unix socket in there.
"""

import argparse
import asyncio
import contextlib
import os
import shlex
import signal
import socket
import sys
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

NAMES: Final = ("infra0", "infra1", "infra2")
TOKEN: Final = "etcd-cluster-1"
# The second and third member have the ports of the first plus 1000 and 2000.
PORT_STEP: Final = 1000
PROGRAM: Final = f"{shlex.quote(sys.executable)} -m pyetcd"

COLOURS: Final = {"infra0": "32", "infra1": "36", "infra2": "35"}
# A member that does not end when asked to is killed after this.
STOP_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.1
# A Unix socket's path must fit into 108 bytes with its end.
MAX_SOCKET_PATH_BYTES: Final = 107
# A log line longer than this ends up in pieces.
MAX_LINE_BYTES: Final = 1 << 20


class LocalClusterError(Exception):
    """What cannot be done, in one line."""


@dataclass(slots=True)
class Member:
    """One of the three, and its process while it runs."""

    name: str
    number: int
    base_port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def client_url(self) -> str:
        """Where clients reach it."""
        return f"http://127.0.0.1:{self.base_port + PORT_STEP * self.number}"

    @property
    def peer_url(self) -> str:
        """Where the other members reach it."""
        return f"http://127.0.0.1:{self.base_port + 1 + PORT_STEP * self.number}"

    @property
    def ports(self) -> tuple[int, int]:
        """Its two ports."""
        client_port = self.base_port + PORT_STEP * self.number
        return client_port, client_port + 1

    @property
    def is_running(self) -> bool:
        """Whether its process was started and has not ended."""
        return self.process is not None and self.process.returncode is None


@dataclass(slots=True)
class LocalCluster:
    """The three members, and the terminal that their logs go to."""

    directory: Path
    program: list[str]
    members: dict[str, Member]
    coloured: bool
    # One for each process: it ends with the process.
    readers: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Start all members and stay until a signal comes."""
        for member in self.members.values():
            check_ports(member)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop.set)
        server = await asyncio.start_unix_server(self.answer, control_path(self.directory))
        async with server:
            try:
                for member in self.members.values():
                    await self.start(member)
                await self.until_up(stop)
                await stop.wait()
            finally:
                await self.stop()
                control_path(self.directory).unlink(missing_ok=True)

    async def start(self, member: Member) -> str:
        """Start one member."""
        if member.is_running:
            raise LocalClusterError(f"{member.name} is running; kill it first")
        check_ports(member)
        arguments = [*self.program, *member_flags(member, self)]
        try:
            member.process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=MAX_LINE_BYTES,
                # Ctrl-C is for us: we end the members one by one.
                start_new_session=True,
            )
        except OSError as error:
            raise LocalClusterError(f"{arguments[0]} cannot be started: {error}") from None
        reader = asyncio.create_task(self.copy_log(member, member.process))
        self.readers.add(reader)
        reader.add_done_callback(self.readers.discard)
        return f"{member.name} is started"

    async def kill(self, member: Member) -> str:
        """Kill one member, as a crash would."""
        if member.process is None or not member.is_running:
            raise LocalClusterError(f"{member.name} is not running")
        member.process.kill()
        await member.process.wait()
        return f"{member.name} is killed"

    async def stop(self) -> None:
        """End all members and read their last lines."""
        running = [one.process for one in self.members.values() if one.process and one.is_running]
        for process in running:
            process.terminate()
        waiting = [asyncio.create_task(process.wait()) for process in running]
        if waiting:
            await asyncio.wait(waiting, timeout=STOP_SECONDS)
        for process in running:
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*waiting, *self.readers)

    async def copy_log(self, member: Member, process: asyncio.subprocess.Process) -> None:
        """Copy what a member writes to our output until it ends."""
        assert process.stdout is not None, f"{member.name} was started without a pipe"
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                self.show(member.name, f"(a line of more than {MAX_LINE_BYTES} bytes)")
                continue
            if not line:
                break
            self.show(member.name, line.decode("utf-8", "replace").rstrip("\n"))
        self.show(member.name, f"(ended with status {await process.wait()})")

    async def until_up(self, stop: asyncio.Event) -> None:
        """Wait until all members are healthy, then say what to try."""
        while not all([await is_healthy(member) for member in self.members.values()]):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), POLL_SECONDS)
                return
        first, second, third = self.members.values()
        script = f"python {shlex.quote(sys.argv[0])} --dir {shlex.quote(str(self.directory))}"
        for text in (
            "",
            "All three members are up. In another terminal, try:",
            "",
            f"  curl -L {first.client_url}/v2/keys/message -XPUT -d value=hello",
            f"  curl -L {second.client_url}/v2/keys/message",
            f"  curl -L {third.client_url}/v2/members",
            f"  {script} kill {first.name}",
            f"  curl -L {second.client_url}/v2/keys/message -XPUT -d value=again",
            f"  {script} start {first.name}",
            f"  curl -L {first.client_url}/v2/keys/message",
            "",
        ):
            print(text, flush=True)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Obey one line from another terminal and answer with one line."""
        try:
            command, _, name = (await reader.readline()).decode("utf-8", "replace").partition(" ")
            member = self.members.get(name.strip())
            if member is None or command not in ("kill", "start"):
                answer = "error: not a command"
            else:
                action: Awaitable[str]
                action = self.kill(member) if command == "kill" else self.start(member)
                try:
                    answer = f"ok: {await action}"
                except LocalClusterError as error:
                    answer = f"error: {error}"
            writer.write(f"{answer}\n".encode())
            await writer.drain()
        except (OSError, ValueError):
            pass  # the other terminal has gone, or is no local_cluster.py
        finally:
            writer.close()

    def show(self, name: str, line: str) -> None:
        """Print one line of a member."""
        prefix = f"\033[{COLOURS[name]}m{name}\033[0m" if self.coloured else name
        print(f"{prefix} | {line}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the cluster, or send it a command."""
    options = parse_arguments(arguments)
    try:
        if options.command == "run":
            run(options)
        else:
            print(send(options.dir, f"{options.command} {options.member}"))
    except LocalClusterError as error:
        print(f"local_cluster: {error}", file=sys.stderr)
        return 1
    return 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dir", type=Path, default=Path("local-cluster"), help="directory of all data"
    )
    parser.add_argument(
        "--base-port",
        type=int,
        default=2379,
        help="client port of infra0; its peer port is the next one (2379)",
    )
    parser.add_argument("--program", default=PROGRAM, help="what to start, such as 'etcd'")
    commands = parser.add_subparsers(dest="command", metavar="[kill NAME | start NAME]")
    for command in ("kill", "start"):
        commands.add_parser(command).add_argument("member", choices=NAMES)
    parser.set_defaults(command="run")
    options = parser.parse_args(arguments)
    # Without a command, argparse sets None after the default.
    options.command = options.command or "run"
    highest = 65535 - PORT_STEP * (len(NAMES) - 1) - 1
    if not 0 < options.base_port <= highest:
        parser.error(f"--base-port must be from 1 to {highest}")
    return options


def run(options: argparse.Namespace) -> None:
    """Run the cluster in this terminal until it is stopped."""
    control = control_path(options.dir)
    if len(os.fsencode(control)) > MAX_SOCKET_PATH_BYTES:
        raise LocalClusterError(f"{control} is too long for a Unix socket; write a shorter --dir")
    try:
        options.dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalClusterError(f"{options.dir} cannot be made: {error.strerror}") from None
    if control.exists():
        try:
            connect(control).close()
        except ConnectionRefusedError:
            control.unlink()  # left behind by a cluster that was killed
        else:
            raise LocalClusterError(f"a cluster runs in {options.dir} already; end it with Ctrl-C")
    members = {name: Member(name, number, options.base_port) for number, name in enumerate(NAMES)}
    program = shlex.split(options.program)
    cluster = LocalCluster(options.dir, program, members, sys.stdout.isatty())
    asyncio.run(cluster.run())


def send(directory: Path, command: str) -> str:
    """Send a command to the cluster that runs in a directory and return what it answers."""
    try:
        with connect(control_path(directory)) as connection, connection.makefile("rw") as stream:
            stream.write(f"{command}\n")
            stream.flush()
            answer = stream.readline().strip()
    except OSError:
        raise LocalClusterError(
            f"no cluster runs in {directory}; start it with python {sys.argv[0]}"
        ) from None
    state, _, text = answer.partition(": ")
    if state != "ok":
        raise LocalClusterError(text or "the cluster has ended")
    return text


def member_flags(member: Member, cluster: LocalCluster) -> list[str]:
    """Return the flags of one member: those of etcd's clustering guide."""
    everybody = ",".join(f"{one.name}={one.peer_url}" for one in cluster.members.values())
    flags = {
        "name": member.name,
        "data-dir": str(cluster.directory / f"{member.name}.etcd"),
        "initial-advertise-peer-urls": member.peer_url,
        "listen-peer-urls": member.peer_url,
        "listen-client-urls": member.client_url,
        "advertise-client-urls": member.client_url,
        "initial-cluster-token": TOKEN,
        "initial-cluster": everybody,
        "initial-cluster-state": "new",
    }
    return [word for name, value in flags.items() for word in (f"-{name}", value)]


def check_ports(member: Member) -> None:
    """Raise LocalClusterError if another program has one of a member's ports."""
    for port in member.ports:
        with socket.socket() as listener:
            # Else a connection that has just been closed would count.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError as error:
                raise LocalClusterError(
                    f"port {port} of {member.name} cannot be used: {error.strerror};"
                    " end what listens there, or write another --base-port"
                ) from None


async def is_healthy(member: Member) -> bool:
    """Tell whether a member answers and its cluster has a leader."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", member.ports[0])
    except OSError:
        return False
    try:
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        status = await asyncio.wait_for(reader.readline(), 2.0)
    except OSError:  # TimeoutError is one
        return False
    finally:
        writer.close()
    return b" 200 " in status


def control_path(directory: Path) -> Path:
    """Return the socket of the cluster that runs in a directory."""
    return directory / "control.sock"


def connect(path: Path) -> socket.socket:
    """Connect to a Unix socket; raises OSError."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(os.fspath(path))
    except OSError:
        connection.close()
        raise
    return connection


if __name__ == "__main__":
    sys.exit(main())
