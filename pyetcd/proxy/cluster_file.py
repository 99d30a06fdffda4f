"""What a proxy remembers: the members' peer URLs, in DATA/proxy/cluster, in the form of etcd's.

    {"PeerURLs":["http://10.0.1.10:2380","http://10.0.1.11:2380"]}

With this file a proxy starts without discovery, and finds the members even if all that its flags
name are gone. The file is replaced as a whole; a crash leaves the old one or the new one.
"""

import json
import os
from pathlib import Path
from typing import Final

from pyetcd.bootstrap import BootstrapError
from pyetcd.urls import UrlError, Urls, parse_urls

DIRECTORY: Final = "proxy"
_FILE: Final = "cluster"
_FIELD: Final = "PeerURLs"


class ClusterFileError(BootstrapError):
    """The file is there and cannot be used: one line, and what to do about it."""


class ClusterFile:
    """The file in one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / DIRECTORY / _FILE

    def read(self) -> Urls | None:
        """Return the URLs; None if there is no file yet.

        Raises ClusterFileError.
        """
        try:
            parsed = json.loads(self.path.read_bytes())
            if not isinstance(parsed, dict) or not isinstance(parsed.get(_FIELD), list):
                raise ValueError(f"no list {_FIELD}")
            return parse_urls(str(url) for url in parsed[_FIELD])
        except FileNotFoundError:
            return None
        except (UrlError, ValueError, RecursionError, OSError) as error:
            raise ClusterFileError(
                f"cannot read the peer urls in {self.path}: {error}; remove the file to find the"
                " members by flags or discovery again"
            ) from None

    def write(self, peer_urls: Urls) -> None:
        """Replace what is remembered. Raises OSError."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".bak")
        text = json.dumps({_FIELD: list(peer_urls)}, separators=(",", ":"))
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, self.path)
