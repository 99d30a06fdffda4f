"""A handler whose module is loaded when it is first asked, and what a start does without."""

import asyncio
import subprocess
import sys
import threading

import pytest

from pyetcd.api.late import LateHandler
from pyetcd.httpd import Handler
from tests.http import Wire, request


def test_late_handler_answers_who_asked_before_it_was_loaded() -> None:
    """All of them, and then at once; it is loaded one time, and not in the loop's thread."""
    threads = []

    def load() -> Handler:
        threads.append(threading.get_ident())
        return lambda request: request.respond(200, b"", b"here")

    async def scenario() -> None:
        handler = LateHandler(load)
        early, other = Wire(handler), Wire(handler)
        early.send(request("GET", "/"))
        other.send(request("GET", "/"))
        assert not early.transport.sent
        while not other.transport.sent:  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0.001)
        for wire in (early, other, Wire(handler).send(request("GET", "/"))):
            assert wire.response().body == b"here"

    asyncio.run(scenario())
    assert len(threads) == 1
    assert threads != [threading.get_ident()]


def test_late_handler_that_cannot_be_loaded_answers_500(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the reason; the next one who asks has it tried again."""

    def load() -> Handler:
        raise ImportError("no such module")

    async def scenario() -> None:
        handler = LateHandler(load)
        for _ in range(2):
            wire = Wire(handler)
            wire.send(request("GET", "/"))
            while not wire.transport.sent:  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0.001)
            assert wire.response().status == 500

    asyncio.run(scenario())
    texts = [record.getMessage() for record in caplog.records]
    assert texts == ["a page cannot be shown: no such module"] * 2


def test_member_starts_without_what_few_ever_need() -> None:
    """Large libraries are loaded by who asks for them: each would make every start longer."""
    large = ("aiohttp", "cryptography", "dns", "prometheus_client", "rich", "yarl")
    script = f"import sys, pyetcd.main; print([it for it in {large} if it in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
