"""pyetcdctl: etcdctl 2.3 on the client library.

A file for each family of commands, `main` to put them together, `session` for what all of them
share: settings, the client, errors and exit codes.
"""

from pyetcd.ctl.main import main

__all__ = ["main"]
