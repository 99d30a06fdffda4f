"""What a data directory was used for: by that, a process goes on as what it was.

A member whose flags say `-proxy on` stays a member, and a proxy stays one although discovery would
have room for it by now: as in etcd, only removing DATA/proxy makes it something else.
"""

from enum import Enum
from pathlib import Path

from pyetcd.bootstrap.identity import BootstrapError


class Use(Enum):
    """The name is that of the directory below the data directory."""

    NONE = "empty"
    MEMBER = "member"
    PROXY = "proxy"


def used_as(data_dir: Path) -> Use:
    """Look what is there.

    Raises BootstrapError if it is both, and OSError.
    """
    try:
        names = {path.name for path in data_dir.iterdir()}
    except FileNotFoundError:
        return Use.NONE
    uses = [use for use in (Use.MEMBER, Use.PROXY) if use.value in names]
    if len(uses) > 1:
        raise BootstrapError(
            f"invalid datadir. Both member and proxy directories exist in {data_dir}; remove"
            f" {data_dir / 'proxy'} to go on as a member"
        )
    return uses[0] if uses else Use.NONE
