"""`pyetcdctl` saves, restores, backs up and examines, as a person would type it."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.processes import OTHER_SERVER, Cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(OTHER_SERVER, reason="pyetcd's own backups"),
]


def ctl(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyetcd.ctl", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_saved_and_restored_by_commands(tmp_path: Path) -> None:
    """A file, the data directories of three new members, and a cluster that serves."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    with Cluster(tmp_path / "old", size=1) as old:
        (member,) = old.members
        member.put("a", "1")
        url = member.client_url
        saved = ctl("--endpoints", url, "snapshot", "save", "file", cwd=tmp_path)
        assert (saved.returncode, saved.stderr) == (0, "")
        assert saved.stdout.startswith("saved file: ")
        copied = ctl("backup", "--data-dir", member.data_dir, "--backup-dir", "copy", cwd=tmp_path)
        assert (copied.returncode, copied.stderr) == (0, "")
        examined = ctl("doctor", member.data_dir, cwd=tmp_path)
        assert examined.returncode == 0
        assert "a member runs with" in examined.stdout
    refused = ctl("--endpoints", url, "snapshot", "save", "other", cwd=tmp_path)
    assert refused.returncode == 4
    assert "broke off" in refused.stderr
    new = Cluster(tmp_path / "new")
    everybody = ",".join(f"{member.name}={member.peer_url}" for member in new.members)
    flags = ["--initial-cluster", everybody, "--initial-cluster-token", "test"]
    restored = ctl("snapshot", "restore", "file", *flags, "--data-dir", "new", cwd=tmp_path)
    assert (restored.returncode, restored.stderr) == (0, "")
    assert restored.stdout.count("of cluster") == 3
    with new:
        assert new.members[0].value("a") == "1"
        new.wait_agreed()
    again = ctl("snapshot", "restore", "file", *flags, "--data-dir", "new", cwd=tmp_path)
    assert again.returncode == 4
    assert "is not empty" in again.stderr


def test_progress_is_shown_on_a_terminal_only(tmp_path: Path) -> None:
    """A bar with the bytes that are done, of both commands; stdout is as ever."""
    with Cluster(tmp_path, size=1) as cluster:
        (member,) = cluster.members
        member.put("large", "1" * 1_000_000)
        save = ["--endpoints", member.client_url, "snapshot", "save", "file"]
        out, shown = on_terminal(*save, cwd=tmp_path)
        assert out.startswith("saved file: ")
        assert re.search(r"saving .* \d\.\d/\? MB", shown), shown
    restore = ["snapshot", "restore", "file", "--name", "a", "--initial-cluster", "a=http://a:1"]
    out, shown = on_terminal(*restore, cwd=tmp_path)
    assert out.startswith("member ")
    assert re.search(r"restoring .* (\d\.\d)/\1 MB", shown), shown


def on_terminal(*words: str, cwd: Path) -> tuple[str, str]:
    """Run it with a terminal as stderr; what it prints, and what the terminal gets."""
    ours, its = pty.openpty()
    with os.fdopen(ours, "rb") as terminal:
        with os.fdopen(its) as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "pyetcd.ctl", *words],
                cwd=cwd,
                env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        shown = b""
        try:
            while piece := terminal.read1():
                shown += piece
        except OSError:
            pass  # how a terminal ends
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    return out, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())


def test_doctor_says_what_to_type_and_it_helps(tmp_path: Path) -> None:
    """A member that does not start, the doctor's words, and the member that starts again."""
    with Cluster(tmp_path, size=1) as cluster:
        (member,) = cluster.members
        member.put("a", "1")
        member.put("b", "spoilt")
        member.kill()
        (wal,) = (member.data_dir / "member" / "wal").glob("*.wal")
        wal.write_bytes(wal.read_bytes().replace(b"spoilt", b"spoils"))
        member.start()
        assert member.wait_exit() == 1
        found = ctl("doctor", member.data_dir, cwd=tmp_path)
        assert found.returncode == 1
        assert f"pyetcdctl doctor --repair {member.data_dir}" in found.stdout
        assert ctl("doctor", "--repair", member.data_dir, cwd=tmp_path).returncode == 0
        kept = [path for path in member.data_dir.rglob("*") if path.is_file()]
        assert [b"spoils" in path.read_bytes() for path in kept].count(True) == 1
        member.start()
        member.wait_serving()
        assert (member.value("a"), member.value("b")) == ("1", None)


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """In one line, in words."""
    restored = ctl("snapshot", "restore", "nope", "--name", "default", cwd=tmp_path)
    assert (restored.returncode, restored.stderr) == (
        4,
        "Error:  nope: no such file or directory\n",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["backup"],
        ["snapshot", "save"],
        ["snapshot", "restore"],
        ["doctor"],
        ["snapshot", "restore", "file", "--initial-cluster", "nonsense"],
        ["--cert-file", "none", "--key-file", "none", "snapshot", "save", "file"],
    ],
)
def test_wrong_arguments_end_with_1_and_a_line(tmp_path: Path, words: list[str]) -> None:
    """Nothing is made."""
    answer = ctl(*words, cwd=tmp_path)
    assert answer.returncode == 1
    assert len(answer.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
