"""Runs pyetcdctl inside the test's process."""

import asyncio
from dataclasses import dataclass

import pytest

from pyetcd.ctl.main import run


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


class Ctl:
    """pyetcdctl as a coroutine; it has a loop of its own, in a thread."""

    def __init__(self, capture: pytest.CaptureFixture[str], endpoint: str = "") -> None:
        self._capture = capture
        self.endpoint = endpoint

    async def __call__(self, *args: str) -> Outcome:
        self._capture.readouterr()
        where = ["--no-sync", "--endpoints", self.endpoint] if self.endpoint else []
        code = await asyncio.to_thread(run, [*where, *args])
        out, err = self._capture.readouterr()
        return Outcome(code, out, err)
