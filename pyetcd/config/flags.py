"""The table of flags: every flag of etcd 2.3.8, and what this build does with it.

The parser, the environment variables, `-help` and docs/configuration.md come from these rows, so a
flag is described once. A flag that does nothing says so in its row. The table knows no rule that
involves two flags: those are in `pyetcd.config.config`.
"""

from enum import Enum
from typing import Final, NamedTuple

DEFAULT_NAME: Final = "default"
DEFAULT_PEER_URLS: Final = "http://localhost:2380,http://localhost:7001"
DEFAULT_CLIENT_URLS: Final = "http://localhost:2379,http://localhost:4001"


class Kind(Enum):
    """What a flag's value is, in the words of the help."""

    TEXT = "text"
    NUMBER = "number"
    SWITCH = "true or false"
    URLS = "URLs, separated by commas"
    CHOICE = "one of a few words"
    ADDRESS = "IP:PORT"
    # Takes no value; anything it is given is passed over with a warning.
    IGNORED = "ignored"
    # An error whatever its value.
    GONE = "gone"


class Support(Enum):
    """What this build does with a flag."""

    WORKS = "works"
    # Accepted, and the row says why nothing follows from it.
    NO_EFFECT = "has no effect"
    # Only the default value is accepted.
    NEVER = "is not supported"


class Flag(NamedTuple):
    """One row."""

    # Without dashes.
    name: str
    kind: Kind
    # As one would type it; "" is none.
    default: str
    # One sentence, lower case, no full stop.
    about: str
    support: Support = Support.WORKS
    # Why it has no effect, or what to do instead; "" if it works.
    remark: str = ""
    choices: tuple[str, ...] = ()

    @property
    def environment(self) -> str:
        """The environment variable that sets this flag."""
        return "ETCD_" + self.name.upper().replace("-", "_")

    @property
    def is_switch(self) -> bool:
        """Whether the next word of the command line is never this flag's value."""
        return self.kind in (Kind.SWITCH, Kind.IGNORED)

    @property
    def description(self) -> str:
        """The sentence of the help: what the flag is for, and what this build makes of it."""
        match self.support:
            case Support.WORKS:
                return f"{self.about}."
            case Support.NO_EFFECT:
                return f"{self.about}. Accepted without effect: {self.remark}."
            case Support.NEVER:
                return f"{self.about}. It {self.support.value}: {self.remark}."


class Section(NamedTuple):
    """Flags that belong together."""

    title: str
    flags: tuple[Flag, ...]
    about: str = ""
    # Flags that only old command lines have are left out of the help, not of the documentation.
    in_help: bool = True


def flag(name: str) -> Flag:
    """Return the row of a flag that is known to exist."""
    return FLAGS[name]


_MEMBER = (
    Flag("name", Kind.TEXT, DEFAULT_NAME, "name of this member, for people to read"),
    Flag("data-dir", Kind.TEXT, "", "directory of all data of this member; ${name}.etcd if empty"),
    Flag(
        "wal-dir", Kind.TEXT, "", "directory of the log, if it shall be outside the data directory"
    ),
    Flag(
        "snapshot-count",
        Kind.NUMBER,
        "10000",
        "changes after which a snapshot is written; unless it is given, the log may first grow to"
        " 16 MiB, or to ten times as many",
    ),
    Flag("heartbeat-interval", Kind.NUMBER, "100", "milliseconds between two heartbeats"),
    Flag(
        "election-timeout",
        Kind.NUMBER,
        "1000",
        "milliseconds without a heartbeat after which a member calls an election; at least five"
        " heartbeats, at most 50000",
    ),
    Flag("listen-peer-urls", Kind.URLS, DEFAULT_PEER_URLS, "where to listen for other members"),
    Flag(
        "listen-client-urls",
        Kind.URLS,
        DEFAULT_CLIENT_URLS,
        "where to listen for clients; -advertise-client-urls must then be given, too",
    ),
    Flag("max-snapshots", Kind.NUMBER, "5", "snapshot files to keep; 0 keeps all"),
    Flag("max-wals", Kind.NUMBER, "5", "log files to keep beyond what is needed; 0 keeps all"),
    Flag(
        "cors",
        Kind.TEXT,
        "",
        "origins that browsers may call from (CORS), separated by commas; * is any",
    ),
)

_CLUSTERING = (
    Flag(
        "initial-advertise-peer-urls",
        Kind.URLS,
        DEFAULT_PEER_URLS,
        "where the other members reach this one; the same URLs must be in -initial-cluster",
    ),
    Flag(
        "initial-cluster",
        Kind.TEXT,
        f"{DEFAULT_NAME}=http://localhost:2380,{DEFAULT_NAME}=http://localhost:7001",
        "members of the cluster when it starts for the first time, as NAME=URL,NAME=URL",
    ),
    Flag(
        "initial-cluster-state",
        Kind.CHOICE,
        "new",
        "new to start a cluster, existing to join one that runs",
        choices=("new", "existing"),
    ),
    Flag(
        "initial-cluster-token",
        Kind.TEXT,
        "etcd-cluster",
        "word that makes the ids of this cluster differ from those of others with the same URLs",
    ),
    Flag(
        "advertise-client-urls",
        Kind.URLS,
        DEFAULT_CLIENT_URLS,
        "where clients reach this member; the cluster hands these out to clients",
    ),
    Flag(
        "discovery",
        Kind.TEXT,
        "",
        "URL of a discovery token to find the other members with",
    ),
    Flag(
        "discovery-fallback",
        Kind.CHOICE,
        "proxy",
        "what to do when -discovery finds the cluster complete",
        choices=("exit", "proxy"),
    ),
    Flag(
        "discovery-proxy",
        Kind.TEXT,
        "",
        "HTTP proxy on the way to the discovery service",
    ),
    Flag(
        "discovery-srv",
        Kind.TEXT,
        "",
        "DNS domain whose SRV records name the members",
    ),
    Flag(
        "strict-reconfig-check",
        Kind.SWITCH,
        "false",
        "refuse changes of the membership that would leave too few started members",
    ),
)

_PROXY = (
    Flag(
        "proxy",
        Kind.CHOICE,
        "off",
        "forward requests to a cluster instead of being a member",
        choices=("off", "readonly", "on"),
    ),
    *(
        Flag(f"proxy-{name}", Kind.NUMBER, default, about)
        for name, default, about in (
            ("failure-wait", "5000", "milliseconds for which a failed member is not tried again"),
            ("refresh-interval", "30000", "milliseconds between two looks at the member list"),
            ("dial-timeout", "1000", "milliseconds that a connection may take; 0 is no limit"),
            (
                "write-timeout",
                "5000",
                "milliseconds that a member may take to read on; 0 is no limit",
            ),
            (
                "read-timeout",
                "0",
                "milliseconds that a member may be silent, also in a watch; 0 is no limit",
            ),
        )
    ),
)

_SECURITY = tuple(
    Flag(name, kind, default, about)
    for name, kind, default, about in (
        (
            "ca-file",
            Kind.TEXT,
            "",
            "old name of -trusted-ca-file together with -client-cert-auth",
        ),
        ("cert-file", Kind.TEXT, "", "certificate shown to clients, for https URLs"),
        ("key-file", Kind.TEXT, "", "private key of -cert-file"),
        (
            "client-cert-auth",
            Kind.SWITCH,
            "false",
            "let in only clients with a certificate of -trusted-ca-file",
        ),
        ("trusted-ca-file", Kind.TEXT, "", "authorities that sign the certificates of clients"),
        (
            "peer-ca-file",
            Kind.TEXT,
            "",
            "old name of -peer-trusted-ca-file together with -peer-client-cert-auth",
        ),
        (
            "peer-cert-file",
            Kind.TEXT,
            "",
            "certificate shown to other members, whether they call or are called",
        ),
        ("peer-key-file", Kind.TEXT, "", "private key of -peer-cert-file"),
        (
            "peer-client-cert-auth",
            Kind.SWITCH,
            "false",
            "let in only members with a certificate of -peer-trusted-ca-file",
        ),
        (
            "peer-trusted-ca-file",
            Kind.TEXT,
            "",
            "authorities that sign the certificates of members",
        ),
    )
)

_LOGGING = (
    Flag("debug", Kind.SWITCH, "false", "log everything"),
    Flag(
        "log-package-levels",
        Kind.TEXT,
        "",
        "level of single packages in the log, as etcdmain=CRITICAL,etcdserver=DEBUG",
    ),
)

_UNSAFE = (
    Flag(
        "force-new-cluster",
        Kind.SWITCH,
        "false",
        "make this member a cluster of its own, with the data it has; for when a majority is lost",
    ),
)

_NO_V3: Final = "it belongs to -experimental-v3demo"

_EXPERIMENTAL = (
    Flag(
        "experimental-v3demo",
        Kind.SWITCH,
        "false",
        "serve the demonstration of etcd's third API",
        Support.NEVER,
        "pyetcd speaks the v2 API",
    ),
    Flag(
        "experimental-auto-compaction-retention",
        Kind.NUMBER,
        "0",
        "hours of history that the third API keeps",
        Support.NO_EFFECT,
        _NO_V3,
    ),
    Flag(
        "experimental-gRPC-addr",
        Kind.TEXT,
        "127.0.0.1:2378",
        "where the third API listens",
        Support.NO_EFFECT,
        _NO_V3,
    ),
)

_PROFILING = (
    Flag(
        "enable-pprof",
        Kind.SWITCH,
        "false",
        "serve profiles of the running program below /debug/pprof",
        Support.NO_EFFECT,
        "such profiles are a feature of Go programs",
    ),
)

_ABOUT = (Flag("version", Kind.SWITCH, "false", "print the version and exit"),)

_OLD = (
    Flag("addr", Kind.ADDRESS, "", "old form of -advertise-client-urls"),
    Flag("bind-addr", Kind.ADDRESS, "", "old form of -listen-client-urls"),
    Flag("peer-addr", Kind.ADDRESS, "", "old form of -initial-advertise-peer-urls"),
    Flag("peer-bind-addr", Kind.ADDRESS, "", "old form of -listen-peer-urls"),
    *(
        Flag(
            name,
            Kind.GONE,
            "",
            "members to join, in etcd 0.4",
            Support.NEVER,
            "use -initial-cluster instead",
        )
        for name in ("peers", "peers-file")
    ),
    *(
        Flag(
            name,
            Kind.IGNORED,
            "",
            "option of etcd 0.4",
            Support.NO_EFFECT,
            "etcd 2 passes over it with a warning",
        )
        for name in (
            "cluster-active-size",
            "cluster-remove-delay",
            "cluster-sync-interval",
            "config",
            "force",
            "max-result-buffer",
            "max-retry-attempts",
            "peer-heartbeat-interval",
            "peer-election-timeout",
            "retry-interval",
            "snapshot",
            "v",
            "vv",
        )
    ),
)

SECTIONS: Final = (
    Section("member", _MEMBER),
    Section("clustering", _CLUSTERING),
    Section("proxy", _PROXY),
    Section("security", _SECURITY),
    Section("logging", _LOGGING),
    Section(
        "unsafe",
        _UNSAFE,
        "These flags break what the consensus protocol promises. Use them with care.",
    ),
    Section("experimental", _EXPERIMENTAL),
    Section("profiling", _PROFILING),
    Section("other", _ABOUT),
    Section("old", _OLD, "Flags of etcd 0.4.", in_help=False),
)

FLAGS: Final = {row.name: row for section in SECTIONS for row in section.flags}
