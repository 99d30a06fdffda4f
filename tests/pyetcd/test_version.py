"""The version in the code is the version of the package."""

import tomllib
from pathlib import Path

from pyetcd import version

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_version_is_that_of_the_package() -> None:
    """`pyetcd -version` and pip show the same number."""
    assert tomllib.loads(PYPROJECT.read_text())["project"]["version"] == version.VERSION


def test_cluster_version_is_major_and_minor_of_the_etcd_version() -> None:
    """2.3.8 answers etcdcluster 2.3.0."""
    assert version.ETCD_VERSION == "2.3.8"
    assert version.major_minor(version.ETCD_VERSION) + ".0" == version.CLUSTER_VERSION
