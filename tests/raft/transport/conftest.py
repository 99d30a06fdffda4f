"""Every test of the transport runs under both event loops: ours and the one of the library."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator

import pytest
import uvloop

Run = Callable[[Coroutine[None, None, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine to its end; fails for what any callback or forgotten task has raised."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    problems: list[str] = []

    def note(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        problems.append(f"{context.get('message')}: {context.get('exception')!r}")

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.get_loop().set_exception_handler(note)
        yield runner.run
    assert problems == []
