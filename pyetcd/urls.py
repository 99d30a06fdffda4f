"""URLs as etcd takes them: a scheme, a host and a port, nothing behind them.

A URL stays a `str` in its canonical form, and a set of URLs is a sorted tuple: member ids are
hashes of exactly these strings. The rules and the messages are those of etcd 2.3.8, with one
addition: the port must be a number, which etcd notices only when it listens or dials.

Relies on nothing; looks nothing up in DNS.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

# Sorted, canonical; made by `parse_urls`.
Urls: TypeAlias = tuple[str, ...]
# What `-initial-cluster` says: the peer URLs of each member's name.
UrlsMap: TypeAlias = dict[str, Urls]

MAX_PORT: Final = 65535

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
# What may not be in a host; blanks and control characters are what users paste by mistake.
_NOT_IN_HOST: Final = re.compile(r"[\x00-\x20\x7f%\\^`{|}]")
_CREDENTIALS: Final = re.compile(r"//[^/?#]*@")
_ASCII_DIGITS: Final = re.compile(r"[0-9]{1,5}")


class UrlError(ValueError):
    """A text that is not a URL etcd would take; the message is one line and quotes the text."""


def parse_urls(texts: Iterable[str]) -> Urls:
    """Check each URL and return them in canonical form, sorted.

    Raises UrlError for the first URL that is wrong, and when there are none.
    """
    urls = tuple(sorted(_canonical(text.strip()) for text in texts))
    if not urls:
        raise UrlError("no valid URLs given")
    return urls


def parse_url_list(text: str) -> Urls:
    """Parse URLs separated by commas, the form in which flags give them."""
    return parse_urls(text.split(","))


def parse_urls_map(text: str) -> UrlsMap:
    """Parse `NAME=URL,NAME=URL`; a name that appears again has one more URL.

    Raises UrlError for a URL that is wrong and for a name without one.
    """
    texts: dict[str, list[str]] = {}
    for pair in text.split(","):
        name, equals, url = pair.partition("=")
        name = name.strip()
        if not equals:
            if name:
                raise UrlError(f'"{name}" is not of the form NAME=URL')
            continue  # etcd, too, passes over what is between two commas
        texts.setdefault(name, []).append(url)
    return {name: parse_urls(texts[name]) for name in sorted(texts)}


def format_urls_map(urls_map: Mapping[str, Iterable[str]]) -> str:
    """Return the map as `-initial-cluster` takes it, sorted."""
    return ",".join(sorted(f"{name}={url}" for name, urls in urls_map.items() for url in urls))


def duplicate_url(urls_map: Mapping[str, Iterable[str]]) -> str | None:
    """Return a URL that is in the map twice, under one name or two."""
    seen: set[str] = set()
    for _, urls in sorted(urls_map.items()):
        for url in urls:
            if url in seen:
                return url
            seen.add(url)
    return None


def address(url: str) -> tuple[str, int]:
    """Return host and port of a URL that came from `parse_urls`; an IPv6 host has no brackets."""
    authority = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    host_port = _split_host_port(authority.rpartition("@")[2])
    assert host_port is not None, f"{url} did not come from parse_urls"
    return host_port[0], int(host_port[1])


def is_secure(url: str) -> bool:
    """Tell whether a URL that came from `parse_urls` asks for TLS."""
    return url.startswith("https:")


def without_credentials(text: str) -> str:
    """Return URLs as they may be shown, without users and passwords; any text may be given."""
    return _CREDENTIALS.sub("//", text)


def _canonical(text: str) -> str:
    """Check one URL and return it with its scheme in lower case."""
    if text.startswith(":"):
        raise UrlError(f"parse {text}: missing protocol scheme")
    match = _SCHEME.fullmatch(text)
    scheme = match[1].lower() if match is not None else ""
    if match is None or scheme not in ("http", "https"):
        raise UrlError(f"URL scheme must be http or https: {text}")
    rest = match[2]
    authority, path = "", rest
    if rest.startswith("//"):
        authority = re.split(r"[/?#]", rest[2:], maxsplit=1)[0]
        path = re.split(r"[?#]", rest[2 + len(authority) :], maxsplit=1)[0]
    host = authority.rpartition("@")[2]
    bad = _NOT_IN_HOST.search(host)
    if bad is not None:
        raise UrlError(f'parse {text}: invalid character "{bad[0]}" in host name')
    host_port = _split_host_port(host)
    if host_port is None:
        raise UrlError(f'URL address does not have the form "host:port": {text}')
    if path:
        raise UrlError(f"URL must not contain a path: {text}")
    if _ASCII_DIGITS.fullmatch(host_port[1]) is None or int(host_port[1]) > MAX_PORT:
        raise UrlError(f"URL port must be a number from 0 to {MAX_PORT}: {text}")
    return f"{scheme}:{rest}"


def _split_host_port(text: str) -> tuple[str, str] | None:
    """Split `host:port` or `[host]:port`; None if it has neither form."""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or not port.startswith(":"):
            return None
        port = port[1:]
    else:
        host, colon, port = text.partition(":")
        if not colon:
            return None
    if any(character in host + port for character in "[]") or ":" in port:
        return None
    return host, port
