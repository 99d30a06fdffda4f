"""The proxy: a process that is no member and passes what clients ask on to the members.

`director.py` knows the members and which of them answer, `cluster_file.py` keeps where they are for
the next start, `proxy.py` forwards requests.
"""

from pyetcd.proxy.cluster_file import ClusterFileError
from pyetcd.proxy.proxy import Proxy

__all__ = ["Proxy", "ClusterFileError"]
