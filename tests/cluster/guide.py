"""Types what a guide says: its blocks of shell, into terminals, in a network of their own.

A block of `sh` is typed into the reader's terminal, and every command in it must succeed. One whose
first line is `# terminal NAME` is typed into that terminal and goes on running there; with
`, after Ctrl-C` what runs there is interrupted first, and `: press Ctrl-C` is only that. A block of
`text` holds lines that the block of shell before it must have printed; `…` is anything.

The network namespace has a loopback of its own, so that the guide's ports are free as they stand.
"""

import os
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TERMINAL: Final = re.compile(r"# terminal (\w+)(, after Ctrl-C|: press Ctrl-C)?\n")
# No command of a guide takes longer, waiting for members included.
_SECONDS: Final = 40.0
_ENDED: Final = "@@ended@@"


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a guide."""

    line: int
    language: str
    # "" is the reader's own.
    terminal: str
    ctrl_c: bool
    text: str


def blocks(guide: str) -> list[Block]:
    """All blocks of a guide, in order."""
    found = []
    for match in _BLOCK.finditer(guide):
        language, text = match.groups()
        place = _TERMINAL.match(text)
        name, ctrl_c = (place[1], place[2] is not None) if place else ("", False)
        text = text[place.end() :] if place else text
        found.append(Block(guide[: match.start()].count("\n") + 1, language, name, ctrl_c, text))
    return found


def missing_lines(expected: str, printed: str) -> list[str]:
    """The lines that were expected and not printed."""
    missing = []
    for line in expected.splitlines():
        pattern = ".*".join(re.escape(part) for part in line.split("…"))
        if not re.search(f"^{pattern}$", printed, re.MULTILINE):
            missing.append(line)
    return missing


class Network:
    """A network namespace with nothing but a loopback; PermissionError where that is forbidden."""

    def __init__(self) -> None:
        # Ends when its stdin does, also if the tests are killed.
        command = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat"]
        self._holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        if self._holder.stdout.readline() != b"up\n":
            problem = self._holder.stderr.read().decode()
            self.close()
            raise PermissionError(problem)

    def enter(self, command: list[str]) -> list[str]:
        """The command that runs `command` in this network."""
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *command]

    def close(self) -> None:
        self._holder.communicate()


class Terminal:
    """A shell in a directory, and what it has printed."""

    def __init__(self, network: Network, directory: Path, name: str) -> None:
        self.name = name
        self.printed = ""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("ETCD")}
        programs = Path(sys.executable).parent
        kept["PATH"] = f"{programs}:{kept['PATH']}"
        self._shell = subprocess.Popen(
            network.enter(["bash", "-e"] if not name else ["bash"]),
            cwd=directory,
            env=kept,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def type(self, text: str) -> None:
        """Type, and do not wait for what comes of it."""
        assert self._shell.stdin is not None
        # What is typed later is not for the program that runs now.
        typed = f"{{\n{text}\n}} </dev/null\necho {_ENDED}\n"
        self._shell.stdin.write(typed.encode())
        self._shell.stdin.flush()

    def wait(self) -> str:
        """Wait until all that was typed has ended; return what it has printed."""
        assert self._shell.stdout is not None
        deadline = time.monotonic() + _SECONDS
        begin = len(self.printed)
        while _ENDED not in self.printed[begin:]:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._shell.stdout], [], [], max(left, 0))
            data = os.read(self._shell.stdout.fileno(), 65536) if ready else b""
            if not data:
                what = "failed" if ready else "does not end"
                raise AssertionError(f"terminal {self.name!r} {what}:\n{self.printed[-3000:]}")
            self.printed += data.decode(errors="replace")
        return self.printed[begin:].partition(_ENDED)[0]

    def press_ctrl_c(self) -> None:
        """Interrupt what runs, and wait until it has ended."""
        for child in self._children():
            os.kill(child, signal.SIGINT)
        self.wait()

    def close(self) -> None:
        """End all that runs; keep the last of what it has printed."""
        for child in self._children():
            os.kill(child, signal.SIGKILL)
        self._shell.kill()
        rest, _ = self._shell.communicate()
        self.printed += rest.decode(errors="replace")

    def _children(self) -> list[int]:
        pid = self._shell.pid
        path = Path(f"/proc/{pid}/task/{pid}/children")
        return [int(child) for child in path.read_text().split()] if path.exists() else []


class Reader:
    """Somebody who types a guide from top to bottom; as a context manager, cleans up."""

    def __init__(self, network: Network, directory: Path) -> None:
        self._network = network
        self._directory = directory
        self._terminals: dict[str, Terminal] = {}
        # How many blocks were typed.
        self.typed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        for terminal in self._terminals.values():
            terminal.close()
            if error is not None and terminal.name:
                error.add_note(f"--- {terminal.name}:\n{terminal.printed[-2500:]}")

    def read(self, guide: str) -> None:
        """Type all of it; an AssertionError names the line where it does not work."""
        printed = ""
        for block in blocks(guide):
            try:
                if block.language == "sh":
                    printed = self._type(block)
                elif block.language == "text":
                    missing = missing_lines(block.text, printed)
                    assert not missing, f"{missing} are missing in:\n{printed}"
            except AssertionError as error:
                error.add_note(f"line {block.line} of the guide:\n{block.text}")
                raise

    def _type(self, block: Block) -> str:
        self.typed += 1
        name = block.terminal
        terminal = self._terminals.get(name)
        if terminal is None:
            terminal = self._terminals[name] = Terminal(self._network, self._directory, name)
        if block.ctrl_c:
            terminal.press_ctrl_c()
        if block.text:
            terminal.type(block.text)
        return "" if name else terminal.wait()
