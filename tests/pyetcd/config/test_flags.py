"""The table has every flag of etcd 2.3.8, and each row can be read."""

import pytest

from pyetcd.config import help_text
from pyetcd.config.command_line import read
from pyetcd.config.flags import FLAGS, SECTIONS, Flag, Kind, Support

# All flags of etcd 2.3.8; the ones of 0.4 that it still accepts are at the end.
ETCD_FLAGS = """
name data-dir wal-dir snapshot-count heartbeat-interval election-timeout listen-peer-urls
listen-client-urls max-snapshots max-wals cors initial-advertise-peer-urls initial-cluster
initial-cluster-state initial-cluster-token advertise-client-urls discovery discovery-fallback
discovery-proxy discovery-srv strict-reconfig-check proxy proxy-failure-wait
proxy-refresh-interval proxy-dial-timeout proxy-write-timeout proxy-read-timeout ca-file cert-file
key-file client-cert-auth trusted-ca-file peer-ca-file peer-cert-file peer-key-file
peer-client-cert-auth peer-trusted-ca-file debug log-package-levels force-new-cluster version
experimental-v3demo experimental-gRPC-addr experimental-auto-compaction-retention enable-pprof
addr bind-addr peer-addr peer-bind-addr peers peers-file cluster-active-size cluster-remove-delay
cluster-sync-interval config force max-result-buffer max-retry-attempts peer-heartbeat-interval
peer-election-timeout retry-interval snapshot v vv
"""

ROWS = [pytest.param(row, id=row.name) for row in FLAGS.values()]


def test_table_has_exactly_the_flags_of_etcd() -> None:
    """A command line for etcd 2.3.8 has no flag that pyetcd does not know."""
    assert sorted(FLAGS) == sorted(ETCD_FLAGS.split())
    assert sum(len(section.flags) for section in SECTIONS) == len(FLAGS)


@pytest.mark.parametrize("row", ROWS)
def test_row_says_what_becomes_of_the_flag(row: Flag) -> None:
    """A flag that does nothing or cannot be used says why; one that works has no remark."""
    assert (row.remark == "") == (row.support is Support.WORKS)
    assert not row.about.endswith(".")
    assert row.description.endswith(".")
    assert (row.choices != ()) == (row.kind is Kind.CHOICE)


@pytest.mark.parametrize("row", ROWS)
def test_row_can_be_given_its_default(row: Flag) -> None:
    """The default is a value, and giving it changes nothing."""
    if row.kind is not Kind.GONE and row.name != "version":
        settings = read([f"-{row.name}={row.default}"], {})
        assert settings.values == read([], {}).values
        settings.check_support()


def test_environment_variable_is_the_name_in_capitals() -> None:
    """Dashes become underscores."""
    assert FLAGS["data-dir"].environment == "ETCD_DATA_DIR"
    assert FLAGS["experimental-gRPC-addr"].environment == "ETCD_EXPERIMENTAL_GRPC_ADDR"


def test_help_has_each_flag_with_its_default_and_sentence() -> None:
    """The help is made from the table; flags of etcd 0.4 are left out."""
    text = help_text()
    for section in SECTIONS:
        for row in section.flags:
            entry = f"  -{row.name} '{row.default}'\n        {row.description}\n"
            assert (entry in text) == section.in_help, row.name
