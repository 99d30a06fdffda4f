"""The configuration of a member: flags and environment, checked as far as they go by themselves.

`parse` finds every mistake that can be found without a look at disk or network. Whether this
member is in `-initial-cluster` is not asked here: etcd ignores that flag once there is a log, so
`pyetcd.bootstrap` asks it when there is none.

Never touches a file, a socket or the log.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pyetcd.config.command_line import ConfigError, Note, Settings, read
from pyetcd.config.flags import DEFAULT_CLIENT_URLS, DEFAULT_NAME, flag
from pyetcd.logs import LevelsError, parse_package_levels
from pyetcd.tls import TlsFiles
from pyetcd.urls import (
    UrlError,
    Urls,
    UrlsMap,
    address,
    format_urls_map,
    is_secure,
    parse_url_list,
    parse_urls,
    parse_urls_map,
    without_credentials,
)

# An election that takes longer than this is taken for a mistake in the unit.
MAX_ELECTION_MILLISECONDS: Final = 50_000
# A follower must miss several heartbeats before it calls an election.
MIN_HEARTBEATS_PER_ELECTION: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """How to forward requests to a cluster instead of being a member."""

    enabled: bool
    # Only GET is forwarded.
    readonly: bool
    # For so long a member that failed is not asked.
    failure_wait_seconds: float
    refresh_seconds: float
    # Limits; 0 is none.
    dial_timeout_seconds: float
    write_timeout_seconds: float
    read_timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What one member was told when it was started.

    Invariants:
      1. All URLs are canonical; every tuple of them is sorted and has at least one.
      2. heartbeat_milliseconds > 0 and election_milliseconds is at least five times as long.
      3. Where a member listens on https, there are a certificate and a key.
    """

    name: str
    data_dir: Path
    # Where the log goes if not below data_dir.
    dedicated_wal_dir: Path | None
    # Applied entries after which a snapshot is written; > 0.
    snapshot_count: int
    heartbeat_milliseconds: int
    election_milliseconds: int
    listen_peer_urls: Urls
    listen_client_urls: Urls
    # Files to keep; 0 keeps all.
    max_snapshots: int
    max_wals: int
    # Origins allowed to call from a browser; empty allows none, "*" all.
    cors: frozenset[str]

    initial_advertise_peer_urls: Urls
    advertise_client_urls: Urls
    initial_cluster: UrlsMap
    # False: join a cluster that runs.
    is_new_cluster: bool
    initial_cluster_token: str
    strict_reconfig_check: bool
    # At most one of these two says where `initial_cluster` comes from; "" is none.
    discovery_url: str
    discovery_srv: str
    # HTTP proxy on the way to the discovery service; "" is none.
    discovery_proxy: str
    # What to do when discovery finds the cluster complete; else exit.
    falls_back_to_proxy: bool
    proxy: ProxyConfig
    # Start as the only member, with what the data directory has.
    force_new_cluster: bool

    client_tls: TlsFiles
    peer_tls: TlsFiles

    debug: bool
    # Level by etcd package, for `pyetcd.logs.setup`.
    log_package_levels: Mapping[str, int]

    # Names of the flags that command line or environment set.
    explicit: frozenset[str]
    # To be logged once the log is set up.
    notes: tuple[Note, ...]

    @property
    def member_dir(self) -> Path:
        """Directory of everything a member stores."""
        return self.data_dir / "member"

    @property
    def wal_dir(self) -> Path:
        """Directory of the log."""
        return self.dedicated_wal_dir or self.member_dir / "wal"

    @property
    def snapshot_dir(self) -> Path:
        """Directory of the snapshots."""
        return self.member_dir / "snap"

    @property
    def election_ticks(self) -> int:
        """Heartbeat intervals in an election timeout."""
        return self.election_milliseconds // self.heartbeat_milliseconds

    @property
    def request_timeout_seconds(self) -> float:
        """How long a request may take: disk and queue, and two elections."""
        return 5 + 2 * self.election_ticks * self.heartbeat_milliseconds / 1000

    def start_lines(self, *, initial: bool) -> list[str]:
        """Return what etcd logs about its configuration; `initial` for a member without a log."""
        lines = [f"name = {self.name}", f"data dir = {self.data_dir}"]
        lines.append(f"member dir = {self.member_dir}")
        if self.dedicated_wal_dir is not None:
            lines.append(f"dedicated WAL dir = {self.dedicated_wal_dir}")
        lines.append(f"heartbeat = {self.heartbeat_milliseconds}ms")
        lines.append(f"election = {self.election_ticks * self.heartbeat_milliseconds}ms")
        lines.append(f"snapshot count = {self.snapshot_count}")
        lines.append(f"advertise client URLs = {','.join(self.advertise_client_urls)}")
        if initial:
            peer_urls = ",".join(self.initial_advertise_peer_urls)
            lines.append(f"initial advertise peer URLs = {peer_urls}")
            lines.append(f"initial cluster = {format_urls_map(self.initial_cluster)}")
        return lines


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Config:
    """Make the configuration from the command line (without the program's name) and environment.

    Raises ConfigError, and ShowAndExit for `-help` and `-version`.
    """
    settings = read(argv, environ)
    _check_one_way_to_bootstrap(settings)
    _check_discovery(settings)
    settings.check_support()
    _check_times(settings)
    name = settings.text("name")
    if not name or "," in name or "=" in name or not name.isprintable():
        raise ConfigError(f'-name "{name}" must be a word without commas and equals signs')
    listen_peer_urls = _urls(settings, "listen-peer-urls", "peer-bind-addr", "peer-addr")
    listen_client_urls = _urls(settings, "listen-client-urls", "bind-addr", "addr")
    _check_listeners(listen_peer_urls, listen_client_urls)
    client_tls = _tls_files(settings, listen_client_urls, "client", "")
    peer_tls = _tls_files(settings, listen_peer_urls, "peer", "peer-")
    return Config(
        name=name,
        data_dir=_data_dir(settings, name),
        dedicated_wal_dir=Path(text) if (text := settings.text("wal-dir")) else None,
        snapshot_count=_snapshot_count(settings),
        heartbeat_milliseconds=settings.number("heartbeat-interval"),
        election_milliseconds=settings.number("election-timeout"),
        listen_peer_urls=listen_peer_urls,
        listen_client_urls=listen_client_urls,
        max_snapshots=settings.number("max-snapshots"),
        max_wals=settings.number("max-wals"),
        cors=_cors(settings),
        initial_advertise_peer_urls=_urls(settings, "initial-advertise-peer-urls", "peer-addr"),
        advertise_client_urls=_advertise_client_urls(settings),
        initial_cluster=_initial_cluster(settings, name),
        is_new_cluster=settings.text("initial-cluster-state") == "new",
        initial_cluster_token=_token(settings),
        strict_reconfig_check=settings.switch("strict-reconfig-check"),
        discovery_url=settings.text("discovery"),
        discovery_srv=settings.text("discovery-srv"),
        discovery_proxy=_discovery_proxy(settings),
        falls_back_to_proxy=settings.text("discovery-fallback") == "proxy",
        proxy=_proxy(settings),
        force_new_cluster=settings.switch("force-new-cluster"),
        client_tls=client_tls,
        peer_tls=peer_tls,
        debug=settings.switch("debug"),
        log_package_levels=_package_levels(settings),
        explicit=frozenset(settings.explicit),
        notes=tuple(settings.notes),
    )


def _check_one_way_to_bootstrap(settings: Settings) -> None:
    given = [
        f"-{name}"
        for name in ("initial-cluster", "discovery", "discovery-srv")
        if name in settings.explicit
    ]
    if len(given) > 1:
        raise ConfigError(
            "multiple discovery or bootstrap flags are set. Choose one of"
            ' "initial-cluster", "discovery" or "discovery-srv":'
            f" {' and '.join(given)} are given"
        )


def _check_discovery(settings: Settings) -> None:
    """Refuse what cannot be a discovery URL, and discovery of a cluster that runs already."""
    text = settings.text("discovery")
    if not text:
        return
    if settings.text("initial-cluster-state") == "existing":
        raise ConfigError(
            "discovery URL should not be set when joining existing initial cluster; write"
            " -initial-cluster with the members instead of -discovery"
        )
    _check_http_url("discovery", text, example="http://HOST:2379/v2/keys/discovery/TOKEN")
    if not urlsplit(text).path.strip("/"):
        raise ConfigError(
            f"-discovery {without_credentials(text)}: the URL has no token; write"
            " http://HOST:2379/v2/keys/discovery/TOKEN"
        )


def _check_http_url(name: str, text: str, *, example: str) -> None:
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or not text.isprintable() or " " in text:
        raise ConfigError(f"-{name} {without_credentials(text)}: not a URL; write {example}")


def _discovery_proxy(settings: Settings) -> str:
    """Return the URL of the HTTP proxy; a bare host and port means http, as in etcd."""
    text = settings.text("discovery-proxy")
    if text:
        text = text if text.startswith("http") and "://" in text else f"http://{text}"
        _check_http_url("discovery-proxy", text, example="http://HOST:3128")
    return text


def _token(settings: Settings) -> str:
    """Return what ids are made with: the discovery URL, if there is one, as in etcd.

    Its credentials are left out. They are secret, the token is shown and stored; and members with
    credentials of their own must agree on the ids.
    """
    return without_credentials(settings.text("discovery")) or settings.text("initial-cluster-token")


def _proxy(settings: Settings) -> ProxyConfig:
    return ProxyConfig(
        enabled=settings.text("proxy") != "off",
        readonly=settings.text("proxy") == "readonly",
        failure_wait_seconds=settings.number("proxy-failure-wait") / 1000,
        refresh_seconds=settings.number("proxy-refresh-interval") / 1000,
        dial_timeout_seconds=settings.number("proxy-dial-timeout") / 1000,
        write_timeout_seconds=settings.number("proxy-write-timeout") / 1000,
        read_timeout_seconds=settings.number("proxy-read-timeout") / 1000,
    )


def _check_times(settings: Settings) -> None:
    heartbeat = settings.number("heartbeat-interval")
    election = settings.number("election-timeout")
    if heartbeat == 0:
        raise ConfigError("-heartbeat-interval[0ms] must be at least 1ms; the default is 100")
    least = MIN_HEARTBEATS_PER_ELECTION * heartbeat
    if least > election:
        raise ConfigError(
            f"-election-timeout[{election}ms] should be at least as 5 times as"
            f" -heartbeat-interval[{heartbeat}ms]; {_time_advice(heartbeat, election)}"
        )
    if election > MAX_ELECTION_MILLISECONDS:
        raise ConfigError(
            f"-election-timeout[{election}ms] is too long, and should be set less than"
            f" {MAX_ELECTION_MILLISECONDS}ms"
        )


def _time_advice(heartbeat: int, election: int) -> str:
    """Say which of the two to change: the election, unless that would make it too long."""
    least = MIN_HEARTBEATS_PER_ELECTION * heartbeat
    if least <= MAX_ELECTION_MILLISECONDS:
        return f"write -election-timeout {least} or more"
    most = max(1, min(election, MAX_ELECTION_MILLISECONDS) // MIN_HEARTBEATS_PER_ELECTION)
    return f"write -heartbeat-interval {most} or less"


def _urls(settings: Settings, name: str, old: str, bind_default: str = "") -> Urls:
    """Return the URLs of a flag, or of the flag that it replaced.

    With only the old *advertised* address given (`bind_default`), etcd 0.4 listened on its port on
    all interfaces, and so does etcd 2.
    """
    urls = settings.urls(name)
    if old in settings.explicit:
        if name in settings.explicit:
            raise ConfigError(f"Set only one of flags -{name} and -{old}")
        urls = parse_urls([f"http://{settings.text(old)}"])
    elif name not in settings.explicit and bind_default and bind_default in settings.explicit:
        port = settings.text(bind_default).rpartition(":")[2]
        urls = parse_urls([f"http://[::]:{port}"])
    return urls


def _advertise_client_urls(settings: Settings) -> Urls:
    urls = _urls(settings, "advertise-client-urls", "addr")
    told = settings.explicit & {"advertise-client-urls", "addr"}
    # A proxy advertises nothing, and with discovery nobody knows yet which one starts here.
    falls_back = settings.text("discovery") and settings.text("discovery-fallback") == "proxy"
    may_be_proxy = falls_back or settings.text("proxy") != "off"
    if "listen-client-urls" in settings.explicit and not told and not may_be_proxy:
        example = parse_url_list(DEFAULT_CLIENT_URLS)[0]
        listening = settings.urls("listen-client-urls")[0]
        if address(listening)[0] not in ("", "0.0.0.0", "::"):
            example = listening
        raise ConfigError(
            "-advertise-client-urls is required when -listen-client-urls is set explicitly;"
            f" write -advertise-client-urls with the URL that clients use, such as {example}"
        )
    return urls


def _tls_files(settings: Settings, urls: Urls, port: str, prefix: str) -> TlsFiles:
    """Return the files for the URLs of one port, `client` or `peer`, and note what is in vain."""
    files = TlsFiles(
        cert_file=settings.text(f"{prefix}cert-file"),
        key_file=settings.text(f"{prefix}key-file"),
        ca_file=settings.text(f"{prefix}ca-file"),
        trusted_ca_file=settings.text(f"{prefix}trusted-ca-file"),
        client_cert_auth=settings.switch(f"{prefix}client-cert-auth"),
        prefix=prefix,
    )
    if files.is_empty:
        for url in filter(is_secure, urls):
            raise ConfigError(
                f"cannot listen on TLS for {url}: KeyFile and CertFile are not presented;"
                f" write -{prefix}cert-file and -{prefix}key-file"
            )
        if files.client_cert_auth:
            # etcd lets everybody in then, which is not what was asked for.
            raise ConfigError(
                f"-{prefix}client-cert-auth without https: write https URLs in"
                f" -listen-{port}-urls, -{prefix}cert-file and -{prefix}key-file"
            )
        return files
    if not files.cert_file or not files.key_file:
        missing = "cert-file" if files.key_file else "key-file"
        raise ConfigError(
            f"KeyFile and CertFile must both be present[key: {files.key_file},"
            f" cert: {files.cert_file}]; write -{prefix}{missing}, too"
        )
    settings.note(logging.INFO, f"{port}TLS: {files}", logger="pyetcd.main")
    for url in urls:
        if not is_secure(url):
            settings.note(
                logging.WARNING,
                f"The scheme of {port} url {url} is http while {port} key/cert files are"
                f" presented. Ignored {port} key/cert files.",
                logger="pyetcd.main",
            )
    return files


def _check_listeners(peer_urls: Urls, client_urls: Urls) -> None:
    """Refuse to listen twice on one address, which the second bind would say less clearly."""
    seen: set[tuple[str, int]] = set()
    for name, urls in (("listen-peer-urls", peer_urls), ("listen-client-urls", client_urls)):
        for url in urls:
            host_port = address(url)
            if host_port in seen and host_port[1] != 0:  # 0 is any free port
                raise ConfigError(f"-{name} {url}: the address is given twice; write another port")
            seen.add(host_port)


def _initial_cluster(settings: Settings, name: str) -> UrlsMap:
    if settings.text("discovery") or settings.text("discovery-srv"):
        # Of itself this member knows; the others are found later.
        return {name: _urls(settings, "initial-advertise-peer-urls", "peer-addr")}
    text = settings.text("initial-cluster")
    # The value decides, not whether the flag was given: etcd compares the texts.
    if name != DEFAULT_NAME and text == flag("initial-cluster").default:
        text = text.replace(f"{DEFAULT_NAME}=", f"{name}=")
    try:
        urls_map = parse_urls_map(text)
    except UrlError as error:
        raise ConfigError(
            f"error setting up initial cluster: {error}; write -initial-cluster"
            f" {name}={settings.urls('initial-advertise-peer-urls')[0]}"
        ) from None
    return urls_map


def _data_dir(settings: Settings, name: str) -> Path:
    text = settings.text("data-dir")
    if text:
        return Path(text)
    settings.note(
        logging.WARNING,
        f"no data-dir provided, using default data-dir ./{name}.etcd",
        logger="pyetcd.main",
    )
    return Path(f"{name}.etcd")


def _snapshot_count(settings: Settings) -> int:
    count = settings.number("snapshot-count")
    if count == 0:
        count = int(flag("snapshot-count").default)
        settings.note(
            logging.INFO, f"set snapshot count to default {count}", logger="pyetcd.server"
        )
    return count


def _cors(settings: Settings) -> frozenset[str]:
    origins = (origin.strip() for origin in settings.text("cors").split(","))
    return frozenset(origin for origin in origins if origin)


def _package_levels(settings: Settings) -> dict[str, int]:
    """Return the levels; etcd goes on without them when they cannot be read, and says so."""
    try:
        return parse_package_levels(settings.text("log-package-levels"))
    except LevelsError as error:
        settings.note(
            logging.WARNING,
            f"couldn't parse log level string: {error}, continuing with default levels",
            logger="pyetcd.main",
        )
        return {}
