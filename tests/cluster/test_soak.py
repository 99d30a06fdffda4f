"""Real members in network namespaces, real faults: the short form of `python -m scripts.soak`."""

import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from scripts.soak.namespaces import why_not
from tests.cluster.processes import OTHER_SERVER

ROOT = Path(__file__).parents[2]
REASON = why_not()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(OTHER_SERVER, reason="starts pyetcd on a disk that can fail"),
    pytest.mark.skipif(bool(REASON), reason=REASON or "it can run"),
]


def soak(*arguments: str, module: str = "scripts.soak") -> subprocess.CompletedProcess[str]:
    """Run the script to its end."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def figure(output: str, name: str) -> int:
    """One of the figures at the end."""
    found = re.search(rf"^{name} +(\d+)", output, re.MULTILINE)
    assert found is not None, f"no {name} in {output}"
    return int(found[1])


def test_short_soak_loses_nothing() -> None:
    """Each kind of fault, with a seed that comes from the sources: a failure can be repeated."""
    sources = sorted((ROOT / "raft").rglob("*.py")) + sorted((ROOT / "pyetcd").rglob("*.py"))
    seed = zlib.crc32(b"".join(path.read_bytes() for path in sources))
    ended = soak("--short", "--seed", str(seed))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert figure(ended.stdout, "problems") == 0
    # What was not tried proves nothing.
    assert figure(ended.stdout, "faults injected") >= 10
    assert figure(ended.stdout, "acknowledged writes checked") > 1_000
    assert figure(ended.stdout, "quorum reads checked") > 500
    assert figure(ended.stdout, "watch events checked") > 1_000


@pytest.mark.parametrize(
    ("promise", "figure_of"),
    [("stale reads", "stale quorum reads"), ("lost writes", "acknowledged writes lost")],
)
def test_soak_notices_members_that_break_a_promise(promise: str, figure_of: str) -> None:
    """Real processes, planted faults: what finds nothing elsewhere finds something here."""
    flags = ("--seed", "1", "--fault", "delay")
    ended = soak(promise, *flags, module="tests.cluster.broken_soak")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert figure(ended.stdout, figure_of) > 0
    other = {"stale quorum reads", "acknowledged writes lost"} - {figure_of}
    assert figure(ended.stdout, *other) == 0
    (directory,) = re.findall(r"files and logs are in (\S+)", ended.stdout)
    shutil.rmtree(directory)
