"""Writers in threads: they write without pause and remember every write that was acknowledged.

Each attempt has a key of its own, so whatever became of the attempts without an answer, an
acknowledged key that is missing or has another value is a lost write.
"""

import http.client
import itertools
import threading
import time
from collections.abc import Sequence
from typing import Self
from urllib.parse import urlencode, urlsplit

from tests.cluster.processes import NO_ANSWER, Member

# Long for a healthy member, short beside an election: a writer whose member lost its leader
# soon asks another one.
ATTEMPT_SECONDS = 0.25
# After a refused connection; keeps the writers from taking the processor from the members.
PAUSE_SECONDS = 0.01
HEADERS = {"Content-Type": "application/x-www-form-urlencoded"}


class Load:
    """Writers that go round the members; as a context manager they write while inside."""

    def __init__(self, members: Sequence[Member], *, writers: int = 4, prefix: str = "load"):
        self.acknowledged: dict[str, str] = {}
        self._addresses = [urlsplit(member.client_url).netloc for member in members]
        self._prefix = prefix
        self._ack_times: list[float] = []
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(number,)) for number in range(writers)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Let every writer finish its attempt."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def __len__(self) -> int:
        return len(self._ack_times)

    def longest_gap(self, since: float) -> float:
        """The longest time without an acknowledged write, from a time.monotonic() until now."""
        times = [since, *(at for at in sorted(self._ack_times) if at > since), time.monotonic()]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def lost(self, member: Member) -> list[str]:
        """The acknowledged keys that a member does not have, or has with another value."""
        answer = member.get(self._prefix, recursive="true", quorum="true")
        found = {node["key"]: node["value"] for node in answer.json()["node"].get("nodes", [])}
        expected = {f"/{key}": value for key, value in self.acknowledged.items()}
        return sorted(key for key, value in expected.items() if found.get(key) != value)

    def _write(self, number: int) -> None:
        attempt, turn = 0, number
        while not self._ended.is_set():
            address = self._addresses[turn % len(self._addresses)]
            connection = http.client.HTTPConnection(address, timeout=ATTEMPT_SECONDS)
            try:
                while not self._ended.is_set():
                    attempt += 1
                    key = f"{self._prefix}/{number}-{attempt}"
                    if not self._put(connection, key, str(attempt)):
                        break
            except NO_ANSWER:
                pass  # the write may have happened or not; nobody was promised anything
            finally:
                connection.close()
            turn += 1
            self._ended.wait(PAUSE_SECONDS)

    def _put(self, connection: http.client.HTTPConnection, key: str, value: str) -> bool:
        connection.request("PUT", f"/v2/keys/{key}", urlencode({"value": value}), HEADERS)
        answer = connection.getresponse()
        answer.read()
        if answer.status != http.client.CREATED:
            return False
        self.acknowledged[key] = value
        self._ack_times.append(time.monotonic())
        return True
