"""Options of the test run."""

import os
import signal

import pytest

from pyetcd import compiled


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--rewrite`."""
    parser.addoption(
        "--rewrite",
        action="store_true",
        help="write what golden scripts print into the scripts; then read the difference",
    )
    parser.addoption(
        "--compiled",
        action="store_true",
        help="test the compiled modules, and not the sources that they were made of",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse `--rewrite` where nobody would read the difference; take Ctrl-C as usual."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # A shell has it ignored by what it starts in the background, and so by all processes that
        # are started from there: tests send it to some.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--rewrite") and os.environ.get("CI"):
        raise pytest.UsageError("--rewrite is refused in CI: commit the scripts as they should be")
    if config.getoption("--compiled"):
        told = compiled.use()
        if told != compiled.COMPILED:
            raise pytest.UsageError(f"--compiled has nothing to test: Python would run {told}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what compiled modules cannot be tested by."""
    if config.getoption("--compiled"):
        for item in items:
            for marker in item.iter_markers("pure"):
                item.add_marker(pytest.mark.skip(reason=marker.args[0]))


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether golden scripts are to be written instead of compared."""
    return bool(request.config.getoption("--rewrite"))
