"""Flags of discovery and of the proxy: what they mean together, and what is refused."""

import logging

import pytest

from pyetcd.config import ConfigError, ProxyConfig, parse

TOKEN = "http://d:1/v2/keys/discovery/t"
OWN = ("http://a:3",)


def error_of(*argv: str) -> str:
    """Return the line that a command line is refused with."""
    with pytest.raises(ConfigError) as caught:
        parse(argv, {})
    return str(caught.value)


def test_discovery_flags_reach_their_fields() -> None:
    """With discovery a member knows of itself only, and ids are made with the URL."""
    line = f"-name a -discovery {TOKEN} -discovery-fallback exit -discovery-proxy p:3128"
    config = parse([*line.split(), "-initial-advertise-peer-urls", *OWN], {})
    assert config.discovery_url == TOKEN
    assert config.discovery_proxy == "http://p:3128"
    assert not config.falls_back_to_proxy
    assert config.initial_cluster == {"a": OWN}
    assert config.initial_cluster_token == TOKEN


def test_discovery_srv_keeps_the_token_of_the_flag() -> None:
    """DNS knows no token."""
    line = "-name a -discovery-srv example.com -initial-cluster-token t"
    config = parse([*line.split(), "-initial-advertise-peer-urls", *OWN], {})
    assert config.discovery_srv == "example.com"
    assert config.initial_cluster == {"a": OWN}
    assert config.initial_cluster_token == "t"


def test_proxy_flags_reach_their_fields() -> None:
    """Milliseconds become seconds."""
    line = (
        "-proxy readonly -proxy-failure-wait 1000 -proxy-refresh-interval 2000"
        " -proxy-dial-timeout 3000 -proxy-write-timeout 4000 -proxy-read-timeout 500"
    )
    assert parse(line.split(), {}).proxy == ProxyConfig(
        enabled=True,
        readonly=True,
        failure_wait_seconds=1,
        refresh_seconds=2,
        dial_timeout_seconds=3,
        write_timeout_seconds=4,
        read_timeout_seconds=0.5,
    )
    assert parse(["-proxy", "on"], {}).proxy.enabled
    assert not parse(["-proxy", "on"], {}).proxy.readonly


def test_credentials_of_the_discovery_url_are_not_in_the_token() -> None:
    """The token is stored and shown, and must be the same for all members."""
    url = "http://user:pa%40ss@d:1/t"
    config = parse([], {"ETCD_DISCOVERY": url})
    assert config.discovery_url == url
    assert config.initial_cluster_token == "http://d:1/t"
    assert not [note for note in config.notes if "pa%40ss" in note.text]


@pytest.mark.parametrize(
    "argv",
    [["-proxy", "on"], ["-discovery", TOKEN]],
)
def test_proxy_needs_no_advertised_url(argv: list[str]) -> None:
    """Nor does what may become one."""
    parse([*argv, "-listen-client-urls", "http://a:1"], {})


def test_member_that_cannot_become_a_proxy_needs_an_advertised_url() -> None:
    """With `-discovery-fallback exit` it is a member or nothing."""
    argv = ["-discovery", TOKEN, "-discovery-fallback", "exit", "-listen-client-urls", "http://a:1"]
    assert "-advertise-client-urls is required" in error_of(*argv)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["-discovery", TOKEN, "-initial-cluster-state", "existing"],
            "discovery URL should not be set when joining existing initial cluster; write"
            " -initial-cluster with the members instead of -discovery",
        ),
        (
            ["-discovery", "d:1/t"],
            "-discovery d:1/t: not a URL; write http://HOST:2379/v2/keys/discovery/TOKEN",
        ),
        (
            ["-discovery", "http://u:secret@[/t"],
            "-discovery http://[/t: not a URL; write http://HOST:2379/v2/keys/discovery/TOKEN",
        ),
        (
            ["-discovery", "http://u:secret@d:1/"],
            "-discovery http://d:1/: the URL has no token; write"
            " http://HOST:2379/v2/keys/discovery/TOKEN",
        ),
        (
            ["-discovery", TOKEN, "-discovery-proxy", "http://u:secret@:x"],
            "-discovery-proxy http://:x: not a URL; write http://HOST:3128",
        ),
        (
            ["-discovery", TOKEN, "-discovery-srv", "example.com"],
            "multiple discovery or bootstrap flags are set. Choose one of"
            ' "initial-cluster", "discovery" or "discovery-srv":'
            " -discovery and -discovery-srv are given",
        ),
    ],
)
def test_discovery_flags_that_cannot_work_are_refused(argv: list[str], line: str) -> None:
    """One line, without secrets."""
    assert error_of(*argv) == line


def test_switched_off_flags_note_nothing() -> None:
    """Flags of the proxy are no mistake for a member."""
    config = parse(["-proxy-failure-wait", "1", "-discovery-fallback", "exit"], {})
    assert [note for note in config.notes if note.level > logging.WARNING] == []
