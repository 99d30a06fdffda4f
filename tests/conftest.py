"""Options of the test run."""

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--rewrite`."""
    parser.addoption(
        "--rewrite",
        action="store_true",
        help="write what golden scripts print into the scripts; then read the difference",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse `--rewrite` where nobody would read the difference."""
    if config.getoption("--rewrite") and os.environ.get("CI"):
        raise pytest.UsageError("--rewrite is refused in CI: commit the scripts as they should be")


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether golden scripts are to be written instead of compared."""
    return bool(request.config.getoption("--rewrite"))
