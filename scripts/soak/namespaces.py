"""Network namespaces of our own, one for each node, and the switch between them.

A namespace has no name: it lives as long as somebody holds it, so that nothing of it is left even
when this process is killed. The process moves into the first one, that of the clients, for good;
addresses are of a range that is kept for documentation. Needs root, `/dev/net/tun` and the tools
`ip`, `nsenter` and `setpriv`.
"""

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.soak.switch import CLEAR, Link, Table, encode_table

TUN: Final = Path("/dev/net/tun")
TOOLS: Final = {"ip": "iproute2", "nsenter": "util-linux", "setpriv": "util-linux"}
PREFIX: Final = "198.51.100"
CLIENTS: Final = 1
MTU_BYTES: Final = 9_000
_CLONE_NEWNET: Final = 0x4000_0000
_TUNSETIFF: Final = 0x4004_54CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000


def why_not() -> str:
    """Return why there can be no namespaces here, and what to do about it; "" if there can."""
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        return f"needs Linux with {', '.join(missing)} (apt-get install {' '.join(missing)})"
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    if not os.access(TUN, os.R_OK | os.W_OK):
        return f"needs {TUN} (modprobe tun; in a container, --device {TUN} and CAP_NET_ADMIN)"
    try:
        subprocess.run(["unshare", "--net", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"can't make a network namespace: {error}"
    return ""


def address(node: int) -> str:
    """Return the address of a node."""
    return f"{PREFIX}.{node}"


class Network:
    """Nodes 1 (the clients, this process) to `size`, all connected.

    `links` holds what is wrong with the network; `apply` makes it so.
    """

    def __init__(self, nodes: list[int]) -> None:
        """Raises OSError or CalledProcessError."""
        self.links: Table = {}
        self.lost = 0
        self._namespaces: dict[int, int] = {}
        devices: dict[int, int] = {}
        home = _own_namespace()
        for node in nodes:
            _call("unshare", _CLONE_NEWNET)
            self._namespaces[node] = _own_namespace()
            devices[node] = _make_device(node)
        _call("setns", self._namespaces[CLIENTS], _CLONE_NEWNET)
        os.close(home)
        arguments = [f"{node}:{descriptor}" for node, descriptor in devices.items()]
        self._switch = subprocess.Popen(
            [sys.executable, "-m", "scripts.soak.switch", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=list(devices.values()),
            # Not the terminal's Ctrl-C, which is ours to act upon.
            start_new_session=True,
        )
        for descriptor in devices.values():
            os.close(descriptor)
        self.apply()

    def command(self, node: int, command: list[str]) -> list[str]:
        """Return what runs a command at a node, for no longer than this process lives."""
        namespace = f"/proc/{os.getpid()}/fd/{self._namespaces[node]}"
        return ["nsenter", f"--net={namespace}", "setpriv", "--pdeathsig", "KILL", *command]

    def set(self, sources: list[int], targets: list[int], link: Link) -> None:
        """Have all links from some nodes to others be so, and no other way; see `apply`."""
        for source in sources:
            for target in targets:
                if source != target:
                    self.links[source, target] = link

    def heal(self) -> None:
        """Have the network in order again."""
        self.links.clear()
        self.apply()

    def apply(self) -> None:
        """Return when the switch goes by `links`."""
        table = {ends: link for ends, link in self.links.items() if link != CLEAR}
        assert self._switch.stdin is not None, "it was made with a pipe"
        assert self._switch.stdout is not None, "it was made with a pipe"
        self._switch.stdin.write(encode_table(table) + "\n")
        self._switch.stdin.flush()
        self.lost = int(self._switch.stdout.readline())

    def close(self) -> None:
        """Stop the switch and let go of the namespaces."""
        self._switch.kill()
        self._switch.wait()
        for pipe in (self._switch.stdin, self._switch.stdout):
            if pipe is not None:
                pipe.close()
        for descriptor in self._namespaces.values():
            os.close(descriptor)


def _own_namespace() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _call(function: str, *arguments: int) -> None:
    """Call libc on this thread. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def _make_device(node: int) -> int:
    """Make the device of the namespace that this thread is in, and return its other end."""
    descriptor = os.open(TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    request = struct.pack("16sH22x", b"wire", _IFF_TUN | _IFF_NO_PI)
    fcntl.ioctl(descriptor, _TUNSETIFF, request)
    for arguments in (
        ["link", "set", "lo", "up"],
        ["addr", "add", f"{address(node)}/24", "dev", "wire"],
        ["link", "set", "wire", "mtu", str(MTU_BYTES), "txqueuelen", "2000", "up"],
    ):
        subprocess.run(["ip", *arguments], check=True)
    return descriptor
