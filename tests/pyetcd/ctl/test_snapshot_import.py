"""import: which keys of a snapshot of etcd 0.4 are set, and what is refused."""

import base64
import json
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pyetcd.ctl.snapshot_import import BadSnapshot, Copy, read_snapshot
from tests.pyetcd.client.fake_member import FakeMember, event
from tests.pyetcd.ctl.commands import Ctl

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def key(value: str, expires: str = "0001-01-01T00:00:00Z") -> Any:
    return {"Value": value, "ExpireTime": expires, "Children": None}


def directory(**children: Any) -> Any:
    return {"Value": "", "ExpireTime": "0001-01-01T00:00:00Z", "Children": children}


STORE = {
    "Root": directory(
        b=key("2"),
        a=directory(c=key("", "2030-01-01T00:10:00Z")),
        _hidden=directory(d=key("4"), _e=key("5")),
        old=key("6", "2020-01-01T00:00:00Z"),
        empty=directory(),
    ),
    "CurrentIndex": 12,
}


def plain(store: Any) -> bytes:
    return json.dumps(store).encode()


def wrapped(store: Any) -> bytes:
    """The file as etcd 0.4 wrote it."""
    state = base64.b64encode(plain(store)).decode()
    body = json.dumps({"state": state, "lastIndex": 12}).encode()
    return b"%08x\n" % zlib.crc32(body) + body


@pytest.mark.parametrize("form", [plain, wrapped])
def test_snapshot_of_either_form_gives_its_keys(form: Any) -> None:
    """Hidden keys are left out; a key that has expired is marked."""
    assert list(read_snapshot(form(STORE), (), NOW)) == [
        Copy("/a/c", "", 600),
        Copy("/b", "2", 0),
        Copy("/old", "6", -315619200),
    ]


def test_snapshot_with_a_hidden_directory_named_gives_its_keys_too() -> None:
    """What is hidden within it stays so."""
    copies = list(read_snapshot(plain(STORE), ("_hidden",), NOW))
    assert copies[-1] == Copy("/_hidden/d", "4", 0)
    assert len(copies) == 4


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"00000000\n{}",
        wrapped(STORE)[:-1] + b" ",
        plain({"Root": directory(a={"Value": 1, "Children": None})}),
        plain({"Root": directory(a=key("1", "soon"))}),
        plain({"Root": {"Children": [1]}}),
        plain({"Root": directory(a=None)}),
        b"%08x\n{}" % zlib.crc32(b"{}"),
    ],
)
def test_snapshot_that_is_none_is_refused(data: bytes) -> None:
    """Damaged, or something else."""
    with pytest.raises(BadSnapshot):
        list(read_snapshot(data, (), NOW))


def test_snapshot_without_the_hidden_directory_is_refused() -> None:
    """A typing error must not pass for an import."""
    with pytest.raises(BadSnapshot, match=r"Key not found \(/_nothing/x\)"):
        list(read_snapshot(plain(STORE), ("_nothing/x",), NOW))


@pytest.mark.asyncio
async def test_import_sets_all_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Short TTLs are made long enough."""
    snapshot = tmp_path / "snapshot.ss"
    snapshot.write_bytes(wrapped(STORE))
    async with FakeMember() as server:
        for path in ("a/c", "b", "old"):
            server.always("PUT", f"/v2/keys/{path}", event())
        outcome = await Ctl(capsys, server.url)("import", "-snap", str(snapshot), "-c", "2")
        bodies = {asked.target: asked.body for asked in server.asked}
    assert outcome.code == 0
    assert outcome.out == (
        f"starting to import snapshot {snapshot} with 2 clients\nfinished importing 3 keys\n"
    )
    assert bodies["/v2/keys/b"] == "value=2"
    assert bodies["/v2/keys/old"] == "value=6&ttl=300"


@pytest.mark.asyncio
async def test_import_that_cannot_go_on_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file named, none there, none that is a snapshot, or a key refused."""
    snapshot = tmp_path / "snapshot.ss"
    async with FakeMember() as server:
        ctl = Ctl(capsys, server.url)
        outcome = await ctl("import")
        assert (outcome.code, outcome.out) == (1, "no snapshot file provided (use --snap)\n")
        outcome = await ctl("import", "--snap", str(snapshot))
        assert (outcome.code, outcome.out) == (1, f"cannot read snapshot file {snapshot}\n")
        snapshot.write_text("x")
        outcome = await ctl("import", "--snap", str(snapshot))
        assert (outcome.code, outcome.err) == (
            4,
            "Error:  the file is no snapshot of etcd 0.4\n",
        )
        snapshot.write_bytes(plain(STORE))
        outcome = await ctl("import", "--snap", str(snapshot))
        assert outcome.code == 1
        assert "failed to copy key: " in outcome.err
