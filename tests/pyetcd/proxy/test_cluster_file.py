"""The list of members outlives the proxy, whole or not at all."""

from pathlib import Path

import pytest

from pyetcd.proxy.cluster_file import ClusterFile, ClusterFileError

URLS = ("http://a:1", "http://b:1")


def test_cluster_file_gives_back_what_was_written(tmp_path: Path) -> None:
    """In the form of etcd's own proxies, readable by nobody else."""
    file = ClusterFile(tmp_path / "data")
    assert file.read() is None
    file.write(("http://x:1",))
    file.write(URLS)
    assert file.read() == URLS
    assert file.path == tmp_path / "data" / "proxy" / "cluster"
    assert file.path.read_text() == '{"PeerURLs":["http://a:1","http://b:1"]}'
    assert [path.name for path in file.path.parent.iterdir()] == ["cluster"]
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"PeerURLs":"x"}', '{"PeerURLs":[]}', '{"PeerURLs":["x"]}', "[" * 9999],
)
def test_cluster_file_that_cannot_be_used_says_so(tmp_path: Path, text: str) -> None:
    """The line names the file and the way out."""
    file = ClusterFile(tmp_path)
    file.write(URLS)
    file.path.write_text(text)
    with pytest.raises(ClusterFileError, match=r"proxy/cluster: .*; remove the file"):
        file.read()
