"""`parse` knows etcd's defaults and every mistake that flags can have among themselves."""

import dataclasses
import logging
from pathlib import Path

import pytest

from pyetcd.config import Config, ConfigError, ProxyConfig, parse
from pyetcd.tls import TlsFiles

PEERS = ("http://localhost:2380", "http://localhost:7001")
CLIENTS = ("http://localhost:2379", "http://localhost:4001")

NO_PROXY = ProxyConfig(
    enabled=False,
    readonly=False,
    failure_wait_seconds=5,
    refresh_seconds=30,
    dial_timeout_seconds=1,
    write_timeout_seconds=5,
    read_timeout_seconds=0,
)


def error_of(*argv: str) -> str:
    """Return the line that a command line is refused with."""
    with pytest.raises(ConfigError) as caught:
        parse(argv, {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_parse_of_nothing_gives_the_defaults_of_etcd() -> None:
    """A bare start listens on the old ports, too."""
    config = parse([], {})
    assert config == Config(
        name="default",
        data_dir=Path("default.etcd"),
        dedicated_wal_dir=None,
        snapshot_count=10000,
        heartbeat_milliseconds=100,
        election_milliseconds=1000,
        listen_peer_urls=PEERS,
        listen_client_urls=CLIENTS,
        max_snapshots=5,
        max_wals=5,
        cors=frozenset(),
        initial_advertise_peer_urls=PEERS,
        advertise_client_urls=CLIENTS,
        initial_cluster={"default": PEERS},
        is_new_cluster=True,
        initial_cluster_token="etcd-cluster",
        strict_reconfig_check=False,
        discovery_url="",
        discovery_srv="",
        discovery_proxy="",
        falls_back_to_proxy=True,
        proxy=NO_PROXY,
        force_new_cluster=False,
        client_tls=TlsFiles(),
        peer_tls=TlsFiles(prefix="peer-"),
        debug=False,
        log_package_levels={},
        explicit=frozenset(),
        notes=config.notes,
    )
    assert [(note.logger, note.level, note.text) for note in config.notes] == [
        (
            "pyetcd.main",
            logging.WARNING,
            "no data-dir provided, using default data-dir ./default.etcd",
        )
    ]


def test_parse_takes_every_flag_that_works() -> None:
    """Each flag reaches its field."""
    line = (
        "-name a -data-dir /d -wal-dir /w -snapshot-count 7 -heartbeat-interval 10"
        " -election-timeout 55 -listen-peer-urls http://a:1 -listen-client-urls http://a:2"
        " -max-snapshots 0 -max-wals 1 -cors http://x:1,*, -initial-advertise-peer-urls http://a:3"
        " -advertise-client-urls http://a:4 -initial-cluster a=http://a:3,b=http://b:3"
        " -initial-cluster-state existing -initial-cluster-token t -strict-reconfig-check"
        " -force-new-cluster"
        " -debug -log-package-levels raft=DEBUG"
    )
    config = parse(line.split(), {})
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    explicit = given.pop("explicit")
    assert len(explicit) == 20
    assert given == {
        "name": "a",
        "data_dir": Path("/d"),
        "dedicated_wal_dir": Path("/w"),
        "snapshot_count": 7,
        "heartbeat_milliseconds": 10,
        "election_milliseconds": 55,
        "listen_peer_urls": ("http://a:1",),
        "listen_client_urls": ("http://a:2",),
        "max_snapshots": 0,
        "max_wals": 1,
        "cors": frozenset({"http://x:1", "*"}),
        "initial_advertise_peer_urls": ("http://a:3",),
        "advertise_client_urls": ("http://a:4",),
        "initial_cluster": {"a": ("http://a:3",), "b": ("http://b:3",)},
        "is_new_cluster": False,
        "initial_cluster_token": "t",
        "strict_reconfig_check": True,
        "discovery_url": "",
        "discovery_srv": "",
        "discovery_proxy": "",
        "falls_back_to_proxy": True,
        "proxy": NO_PROXY,
        "force_new_cluster": True,
        "client_tls": TlsFiles(),
        "peer_tls": TlsFiles(prefix="peer-"),
        "debug": True,
        "log_package_levels": {"raft": logging.DEBUG},
        "notes": (),
    }


def test_config_derives_directories_and_times() -> None:
    """The layout of the data directory is etcd's."""
    config = parse(["-data-dir", "/d", "-election-timeout", "1050"], {})
    assert config.member_dir == Path("/d/member")
    assert config.wal_dir == Path("/d/member/wal")
    assert config.snapshot_dir == Path("/d/member/snap")
    assert parse(["-wal-dir", "/w"], {}).wal_dir == Path("/w")
    assert config.election_ticks == 10
    assert config.request_timeout_seconds == 7.0


def test_start_lines_are_those_of_etcd() -> None:
    """People compare logs; a restart does not show flags that are ignored."""
    config = parse(["-name", "a", "-data-dir", "d", "-wal-dir", "w"], {})
    lines = config.start_lines(initial=True)
    assert lines == [
        "name = a",
        "data dir = d",
        "member dir = d/member",
        "dedicated WAL dir = w",
        "heartbeat = 100ms",
        "election = 1000ms",
        "snapshot count = 10000",
        "advertise client URLs = http://localhost:2379,http://localhost:4001",
        "initial advertise peer URLs = http://localhost:2380,http://localhost:7001",
        "initial cluster = a=http://localhost:2380,a=http://localhost:7001",
    ]
    assert config.start_lines(initial=False) == lines[:-2]


def test_name_alone_changes_data_dir_and_initial_cluster() -> None:
    """As in etcd; an -initial-cluster that equals the default counts as not given."""
    config = parse(["-name", "a"], {})
    assert config.data_dir == Path("a.etcd")
    assert config.initial_cluster == {"a": PEERS}
    default = "default=http://localhost:2380,default=http://localhost:7001"
    assert parse(["-name", "a", "-initial-cluster", default], {}).initial_cluster == {"a": PEERS}


@pytest.mark.parametrize("name", ["", "a,b", "a=b", "a\nb", "\udcff"])
def test_name_that_no_initial_cluster_can_have_is_refused(name: str) -> None:
    """Commas and equals signs separate names there."""
    assert error_of("-name", name).endswith("must be a word without commas and equals signs")


def test_name_that_is_in_no_initial_cluster_is_not_looked_for() -> None:
    """etcd ignores -initial-cluster when there is a log, and parsing does not look for one."""
    config = parse(["-name", "a", "-initial-cluster", "b=http://b:1"], {})
    assert config.initial_cluster == {"b": ("http://b:1",)}


def test_listen_client_urls_without_advertise_client_urls_is_refused() -> None:
    """The message begins as etcd's and ends with what to type."""
    begin = "-advertise-client-urls is required when -listen-client-urls is set explicitly; write"
    line = error_of("-listen-client-urls", "http://10.0.0.1:2379")
    assert line.startswith(begin)
    assert line.endswith("such as http://10.0.0.1:2379")
    # Nobody can call 0.0.0.0, so that is no example.
    line = error_of("-listen-client-urls", "http://0.0.0.0:2379")
    assert line.endswith("such as http://localhost:2379")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["-heartbeat-interval", "0"],
            "-heartbeat-interval[0ms] must be at least 1ms; the default is 100",
        ),
        (
            ["-heartbeat-interval", "201"],
            "-election-timeout[1000ms] should be at least as 5 times as -heartbeat-interval[201ms];"
            " write -election-timeout 1005 or more",
        ),
        (
            ["-heartbeat-interval", "20000", "-election-timeout", "50000"],
            "-election-timeout[50000ms] should be at least as 5 times as"
            " -heartbeat-interval[20000ms]; write -heartbeat-interval 10000 or less",
        ),
        (
            ["-election-timeout", "50001"],
            "-election-timeout[50001ms] is too long, and should be set less than 50000ms",
        ),
        (
            ["-discovery", "http://a:1/t", "-initial-cluster", "a=http://a:1"],
            "multiple discovery or bootstrap flags are set. Choose one of"
            ' "initial-cluster", "discovery" or "discovery-srv":'
            " -initial-cluster and -discovery are given",
        ),
        (
            ["-name", "a", "-initial-cluster", "http://a:1"],
            'error setting up initial cluster: "http://a:1" is not of the form NAME=URL;'
            " write -initial-cluster a=http://localhost:2380",
        ),
        (
            ["-listen-peer-urls", "https://a:1"],
            "cannot listen on TLS for https://a:1: KeyFile and CertFile are not presented;"
            " write -peer-cert-file and -peer-key-file",
        ),
        (
            ["-cert-file", "a.pem"],
            "KeyFile and CertFile must both be present[key: , cert: a.pem]; write -key-file, too",
        ),
        (
            ["-peer-key-file", "a.pem"],
            "KeyFile and CertFile must both be present[key: a.pem, cert: ];"
            " write -peer-cert-file, too",
        ),
        (
            ["-client-cert-auth"],
            "-client-cert-auth without https: write https URLs in -listen-client-urls,"
            " -cert-file and -key-file",
        ),
        (
            ["-listen-peer-urls", "http://a:1,http://a:1"],
            "-listen-peer-urls http://a:1: the address is given twice; write another port",
        ),
        (
            ["-listen-peer-urls", "http://localhost:4001"],
            "-listen-client-urls http://localhost:4001: the address is given twice; write another"
            " port",
        ),
        (
            ["-addr", "1.2.3.4:1", "-advertise-client-urls", "http://a:1"],
            "Set only one of flags -advertise-client-urls and -addr",
        ),
    ],
)
def test_flags_that_contradict_each_other_are_refused(argv: list[str], line: str) -> None:
    """One line for each rule."""
    assert error_of(*argv) == line


@pytest.mark.parametrize(("heartbeat", "election"), [("200", "1000"), ("10000", "50000")])
def test_election_of_exactly_five_heartbeats_is_accepted(heartbeat: str, election: str) -> None:
    """Both limits are inclusive."""
    config = parse(["-heartbeat-interval", heartbeat, "-election-timeout", election], {})
    assert config.election_ticks == 5


def test_listen_urls_on_any_free_port_may_be_the_same() -> None:
    """Port 0 is another port each time."""
    argv = ["-listen-peer-urls", "http://a:0", "-listen-client-urls", "http://a:0"]
    config = parse([*argv, "-advertise-client-urls", "http://a:1"], {})
    assert config.listen_peer_urls == config.listen_client_urls


def test_snapshot_count_of_zero_means_the_default() -> None:
    """As in etcd, with etcd's line."""
    config = parse(["-snapshot-count", "0"], {})
    assert config.snapshot_count == 10000
    assert "set snapshot count to default 10000" in [note.text for note in config.notes]


def test_log_package_levels_that_cannot_be_read_only_warn() -> None:
    """As in etcd: a member does not fail to start because of its log."""
    config = parse(["-log-package-levels", "raft"], {})
    assert config.log_package_levels == {}
    assert (
        "couldn't parse log level string: oddly structured `pkg=level` option: raft,"
        " continuing with default levels"
    ) in [note.text for note in config.notes]


def test_old_addresses_stand_for_urls() -> None:
    """An advertised address alone listens on its port on all interfaces, as etcd 2 does."""
    config = parse(["-addr", "1.2.3.4:4001", "-peer-addr", "1.2.3.4:7001"], {})
    assert config.advertise_client_urls == ("http://1.2.3.4:4001",)
    assert config.listen_client_urls == ("http://[::]:4001",)
    assert config.initial_advertise_peer_urls == ("http://1.2.3.4:7001",)
    assert config.listen_peer_urls == ("http://[::]:7001",)
    config = parse(["-bind-addr", "[::1]:1", "-peer-bind-addr", "0.0.0.0:2"], {})
    assert config.listen_client_urls == ("http://[::1]:1",)
    assert config.listen_peer_urls == ("http://0.0.0.0:2",)


def test_parse_touches_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data directory is made by whoever starts the member."""
    monkeypatch.chdir(tmp_path)
    parse(["-name", "a", "-wal-dir", "w"], {})
    assert list(tmp_path.iterdir()) == []


def test_files_of_both_ports_reach_their_fields() -> None:
    """Each port has its own, and the log shows paths, as etcd's does."""
    line = (
        "-cert-file c -key-file k -ca-file a -trusted-ca-file t -client-cert-auth"
        " -listen-client-urls https://a:1 -advertise-client-urls https://a:1"
        " -peer-cert-file pc -peer-key-file pk -peer-ca-file pa -peer-trusted-ca-file pt"
        " -peer-client-cert-auth -data-dir d"
    )
    config = parse(line.split(), {})
    assert config.client_tls == TlsFiles("c", "k", "a", "t", True)
    assert config.peer_tls == TlsFiles("pc", "pk", "pa", "pt", True, "peer-")
    ignored = (
        "The scheme of peer url {} is http while peer key/cert files are presented."
        " Ignored peer key/cert files."
    )
    assert [note.text for note in config.notes] == [
        "clientTLS: cert = c, key = k, ca = a, trusted-ca = t, client-cert-auth = true",
        "peerTLS: cert = pc, key = pk, ca = pa, trusted-ca = pt, client-cert-auth = true",
        *(ignored.format(url) for url in PEERS),
    ]


def test_authority_without_certificate_is_for_dialing() -> None:
    """A proxy may dial members over https with nothing but the authority that signed them."""
    files = parse(["-peer-ca-file", "a", "-initial-cluster", "default=https://a:1"], {}).peer_tls
    assert files.is_empty
    assert files.ca_file == "a"


@pytest.mark.parametrize(
    "argv",
    [
        ["-discovery", "http://root:secret@a:1"],
        ["-listen-peer-urls", "http://root:secret@a:1/x"],
        ["-initial-cluster", "a=http://root:secret@a:1/x,b=http://root:secret@b:1"],
    ],
)
def test_error_about_a_url_does_not_show_its_password(argv: list[str]) -> None:
    """Errors go to logs, and logs to many people."""
    assert "secret" not in error_of(*argv)
