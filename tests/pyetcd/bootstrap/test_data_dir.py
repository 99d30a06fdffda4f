"""A data directory says what the process was before."""

from pathlib import Path

import pytest

from pyetcd.bootstrap import BootstrapError, Use, used_as


def test_data_dir_is_used_as_what_is_in_it(tmp_path: Path) -> None:
    """Other files mean nothing."""
    assert used_as(tmp_path / "absent") is Use.NONE
    (tmp_path / "lost+found").mkdir()
    assert used_as(tmp_path) is Use.NONE
    (tmp_path / "proxy").mkdir()
    assert used_as(tmp_path) is Use.PROXY
    (tmp_path / "proxy").rename(tmp_path / "member")
    assert used_as(tmp_path) is Use.MEMBER


def test_data_dir_of_both_is_refused(tmp_path: Path) -> None:
    """Nobody could tell what to go on as."""
    (tmp_path / "proxy").mkdir()
    (tmp_path / "member").mkdir()
    with pytest.raises(BootstrapError, match=r"Both member and proxy directories exist"):
        used_as(tmp_path)
