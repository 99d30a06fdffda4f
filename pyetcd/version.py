"""The two versions of this program: its own, and the etcd whose API it speaks.

Clients look at `/version` to decide what a server can do, so that page shows etcd's numbers. Our
own number is for people: `pyetcd -version`, the first lines of the log, package metadata.
"""

from typing import Final

# Must equal `version` in pyproject.toml; a test compares them.
VERSION: Final = "0.1.0"

# What `/version` answers as "etcdserver".
ETCD_VERSION: Final = "2.3.8"

# The cluster version that members of this build agree on: major and minor of ETCD_VERSION, and a
# zero, as etcd stores it. What `/version` answers as "etcdcluster" once the cluster has agreed.
CLUSTER_VERSION: Final = "2.3.0"

# What `/version` answers as "etcdcluster" before the cluster has agreed on a version.
UNDECIDED_CLUSTER_VERSION: Final = "not_decided"


def major_minor(version: str) -> str:
    """Return "2.3" for "2.3.0": the form in which log lines show a cluster version."""
    return ".".join(version.split(".")[:2])
